//! Being woken at the end of a lease: who is to be, and how it is heard.
//!
//! Each node subscribes to a channel of its own, whose name it leaves in the leases that it waits for. A wake is published once
//! and may be lost: whoever waits asks again every now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::Wake;
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::{broadcast, watch};

use crate::end::End;
use crate::keys::Keys;
use crate::lane::{Ear, Failure, Lane};
use crate::link::Wiring;
use crate::reply::text;

/// Wakes that may wait to be looked at: more than a node has loads to wait for, unless it is lost anyway.
const WAKES: usize = 1024;
/// How long after a refusal it is tried again to subscribe: somebody may have changed the access list.
const AGAIN: Duration = Duration::from_secs(60);

/// Whoever is to be woken on this node, by number.
#[derive(Debug)]
pub(crate) struct Wakes {
    listeners: watch::Sender<BTreeMap<u64, broadcast::Sender<Wake>>>,
    was_refused: AtomicBool,
}

impl Default for Wakes {
    fn default() -> Self {
        Wakes { listeners: watch::Sender::new(BTreeMap::new()), was_refused: AtomicBool::new(false) }
    }
}

impl Wakes {
    /// The wakes of a number, from now on. Forgets numbers that nobody listens to any more.
    pub(crate) fn listen(&self, waiter: u64) -> broadcast::Receiver<Wake> {
        let mut receiver = None;
        self.listeners.send_modify(|listeners| {
            listeners.retain(|of, wakes| *of == waiter || wakes.receiver_count() > 0);
            let wakes = listeners.entry(waiter).or_insert_with(|| broadcast::Sender::new(WAKES));
            receiver = Some(wakes.subscribe());
        });
        receiver.expect("it was subscribed to just now")
    }

    /// Has anybody ever listened?
    pub(crate) fn are_wanted(&self) -> bool {
        !self.listeners.borrow().is_empty()
    }

    fn wake(&self, waiter: u64, wake: Wake) {
        if let Some(wakes) = self.listeners.borrow().get(&waiter) {
            // Nobody may be listening any more.
            let _ = wakes.send(wake);
        }
    }
}

/// What hears the wakes on a connection.
pub(crate) fn ear(wiring: &Arc<Wiring>) -> Ear {
    let wiring = Arc::clone(wiring);
    Box::new(move |push| {
        if let Some((waiter, wake)) = wake_in(&wiring.settings.keys, push) {
            wiring.wakes.wake(waiter, wake);
        }
    })
}

/// Whom a message wakes, and of what. Pure.
fn wake_in(keys: &Keys, push: PushInfo) -> Option<(u64, Wake)> {
    if push.kind != PushKind::Message {
        return None;
    }
    let [channel, Value::BulkString(message)] = <[Value; 2]>::try_from(push.data).ok()? else { return None };
    let waiter = keys.waiter(text(&channel)?)?;
    let shared = match message.first()? {
        b'0' => false,
        b'1' => true,
        _ => return None,
    };
    Some((waiter, Wake { key: Bytes::from(message).slice(1..), shared }))
}

/// Subscribes to the channels of those who listen, whoever that is, for as long as the connection lasts.
pub(crate) async fn subscribe(wiring: Arc<Wiring>, lane: Arc<Lane>, end: Arc<End>) {
    let keep = async {
        let mut listeners = wiring.wakes.listeners.subscribe();
        let mut heard = BTreeSet::new();
        loop {
            let wanted: BTreeSet<u64> = listeners.borrow_and_update().keys().copied().collect();
            let mut refused = false;
            for waiter in wanted.symmetric_difference(&heard.clone()) {
                let is_new = wanted.contains(waiter);
                let mut change = cmd(if is_new { "SUBSCRIBE" } else { "UNSUBSCRIBE" });
                change.arg(wiring.settings.keys.channel(*waiter));
                match lane.ask(&change).await {
                    Ok(_) if is_new => drop(heard.insert(*waiter)),
                    Ok(_) => drop(heard.remove(waiter)),
                    Err(Failure::Refused(refusal)) => {
                        refused = true;
                        if !wiring.wakes.was_refused.swap(true, Ordering::Relaxed) {
                            let reason = refusal.text();
                            tracing::warn!(
                                target: "larder",
                                reason,
                                "the server forbids to subscribe: whoever waits for a lease asks again instead"
                            );
                        }
                    }
                    Err(Failure::Broken(_)) => return,
                }
            }
            tokio::select! {
                // An error would mean that the sender is gone, which `wiring` holds.
                _ = listeners.changed() => {}
                () = wiring.runtime.sleep(AGAIN), if refused => {}
            }
        }
    };
    tokio::select! {
        () = keep => {}
        _ = end.wait() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHANNEL: &[u8] = b"larder:wake:000000000000002a";

    fn message(kind: PushKind, channel: &[u8], message: &[u8]) -> PushInfo {
        let data = vec![Value::BulkString(channel.to_vec()), Value::BulkString(message.to_vec())];
        PushInfo { kind, data }
    }

    #[test]
    fn a_message_tells_the_key_as_it_was_and_whether_its_answer_is_shared() {
        let keys = Keys::new("larder");
        for (text, key, shared) in [
            (b"1k:1".as_slice(), b"k:1".as_slice(), true),
            (b"0\0\xff{}", b"\0\xff{}", false),
            (b"1", b"", true),
        ] {
            let wake = Wake { key: Bytes::from_static(key), shared };
            assert_eq!(wake_in(&keys, message(PushKind::Message, CHANNEL, text)), Some((42, wake)));
        }
    }

    #[test]
    fn a_number_is_forgotten_when_nobody_listens_and_another_is_added() {
        let wakes = Wakes::default();
        assert!(!wakes.are_wanted());
        let (mut one, two) = (wakes.listen(1), wakes.listen(2));
        let mut again = wakes.listen(1);
        wakes.wake(1, Wake { key: Bytes::new(), shared: true });
        wakes.wake(3, Wake { key: Bytes::new(), shared: true });
        assert!(one.try_recv().is_ok() && again.try_recv().is_ok() && two.is_empty());
        drop(two);
        let _three = wakes.listen(3);
        assert!(wakes.listeners.borrow().keys().eq(&[1, 3]));
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(
            channel in prop::sample::select(vec![CHANNEL, b"larder:wake:\xff", b""]),
            text in prop::collection::vec(any::<u8>(), 0..4),
            is_message in any::<bool>(),
            short in any::<bool>(),
        ) {
            let kind = if is_message { PushKind::Message } else { PushKind::Subscribe };
            let mut push = message(kind, channel, &text);
            if short {
                push.data.pop();
            }
            let woken = wake_in(&Keys::new("larder"), push);
            let good = is_message && !short && channel == CHANNEL && matches!(text.first(), Some(b'0' | b'1'));
            prop_assert_eq!(woken.is_some(), good);
        }
    }
}
