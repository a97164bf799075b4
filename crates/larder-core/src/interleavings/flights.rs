//! Who polls a load, and who hears of its end.

use std::convert::Infallible;

use shuttle::future::block_on;
use tokio::sync::watch;

use super::{Database, Scheduled, Told, cache, end, explore, together};
use crate::policy::Policy;
use crate::testing::TestRemote;
use crate::units::HOUR;

/// A leader polls its load itself, until at any time it stops: `gone`, or there still but busy with something that ends only
/// after the others have their answers. They join at any time, and depend on somebody polling the load. It waits for a gate
/// that opens at any time. Where the leader stays one joins and no more: a second would ask for the load again, and hide
/// that the wish of the first was lost.
fn a_leader_stops(gone: bool) {
    let runtime = Scheduled::new();
    let cache = cache(&runtime, None);
    let docs = cache.namespace_in_memory("a", Policy::ttl(HOUR), |_: &u64| 8).expect("nothing clashes");
    let (gate, stop, answered) =
        (watch::Sender::new(false), watch::Sender::new(false), watch::Sender::new(0));
    let (begun, done) = (Told::default(), Told::default());
    let load = {
        let (gate, begun, done) = (gate.clone(), begun.clone(), done.clone());
        move || {
            let (mut gate, begun, done) = (gate.subscribe(), begun.clone(), done.clone());
            async move {
                begun.set(begun.get() + 1);
                let Ok(_) = Database::default().read().await;
                // The gate lives as long as the test.
                let _ = gate.wait_for(|open| *open).await;
                done.set(done.get() + 1);
                Ok::<_, Infallible>(7)
            }
        }
    };
    let lead = {
        let (docs, load, mut stop, mut answered) =
            (docs.clone(), load.clone(), stop.subscribe(), answered.subscribe());
        move || {
            block_on(async {
                let mut leading = std::pin::pin!(docs.get_or_load(1, load));
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => {}
                    value = &mut leading => assert_eq!(*value.expect("a load succeeds"), 7),
                }
                if !gone {
                    answered.wait_for(|answers| *answers == 1).await.expect("the sender lives on");
                }
            });
        }
    };
    let join = |joins: bool| {
        let (docs, load, answered) = (docs.clone(), load.clone(), answered.clone());
        move || {
            if !joins {
                return;
            }
            let value = block_on(docs.get_or_load(1, load)).expect("a load succeeds");
            assert_eq!(*value, 7);
            answered.send_modify(|answers| *answers += 1);
        }
    };
    let leave = move || stop.send_modify(|stop| *stop = true);
    let open = move || gate.send_modify(|open| *open = true);
    together([Box::new(lead), Box::new(join(true)), Box::new(join(gone)), Box::new(leave), Box::new(open)]);
    end(cache, &runtime);
    assert_eq!((begun.get(), done.get()), (1, 1), "the load has begun and ended that often");
}

#[test]
fn a_load_whose_leader_goes_away_runs_once_and_everybody_hears() {
    explore(|| a_leader_stops(true));
}

#[test]
fn a_load_whose_leader_polls_no_more_runs_once_and_everybody_hears() {
    explore(|| a_leader_stops(false));
}

/// With Redis behind it the leader looks there first. Gone while it does, it has loaded nothing: one of those who wait
/// takes over.
#[test]
fn a_leader_that_goes_away_while_it_asks_redis_is_replaced() {
    explore(|| {
        let runtime = Scheduled::new();
        let remote = TestRemote::new(runtime.clone());
        let cache = cache(&runtime, Some(&remote));
        let docs = cache.namespace::<u64>("a", Policy::ttl(HOUR)).expect("nothing clashes");
        remote.set(|faults| faults.hang = true);
        let away = watch::Sender::new(false);
        let load = || async { Ok::<_, Infallible>(7) };
        let lead = {
            let (docs, mut away) = (docs.clone(), away.subscribe());
            move || {
                block_on(async {
                    tokio::select! {
                        biased;
                        _ = away.wait_for(|away| *away) => {}
                        value = docs.get_or_load(1, load) => assert_eq!(*value.expect("a load succeeds"), 7),
                    }
                });
            }
        };
        let join = || {
            let docs = docs.clone();
            move || {
                let value = block_on(docs.get_or_load(1, load)).expect("a load succeeds");
                assert_eq!(*value, 7);
            }
        };
        let leave = move || away.send_modify(|away| *away = true);
        let answer = move || remote.set(|faults| faults.hang = false);
        together([Box::new(lead), Box::new(join()), Box::new(join()), Box::new(leave), Box::new(answer)]);
        drop(docs);
        end(cache, &runtime);
    });
}
