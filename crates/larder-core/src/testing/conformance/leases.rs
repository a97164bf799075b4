//! Leases, and being woken at their ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;

use super::{LIFE, LONG, Subject, body, fresh, store, value};
use crate::log::Epoch;
use crate::remote::{LeaseAnswer, LeaseRequest, Remote, Store, StoreLease, Stored, Wake};

/// A life that ends in a test, but not between two calls, and how long to wait for that.
const SHORT: Duration = Duration::from_millis(1000);
const PAST_SHORT: Duration = Duration::from_millis(1100);

fn at(at: u64) -> Epoch {
    Epoch { line: 0x8000_0000_0000_0001, at }
}

fn request(token: u64, epoch: Epoch, waiter: u64) -> LeaseRequest {
    LeaseRequest { token, epoch, life: LIFE, rejected: None, vain: None, waiter }
}

async fn lease(remote: &dyn Remote, key: &[u8], request: &LeaseRequest) -> LeaseAnswer {
    remote.lease(key, request).await.expect("a healthy tier is asked for leave")
}

/// A lease of its own, granted: its token.
async fn granted(remote: &dyn Remote, key: &[u8], epoch: Epoch) -> u64 {
    let token = fresh();
    assert_eq!(lease(remote, key, &request(token, epoch, fresh())).await, LeaseAnswer::Granted);
    token
}

/// As [`granted`], for a short life.
async fn granted_shortly(remote: &dyn Remote, key: &[u8], epoch: Epoch) -> u64 {
    let token = fresh();
    let request = LeaseRequest { life: SHORT, ..request(token, epoch, fresh()) };
    assert_eq!(lease(remote, key, &request).await, LeaseAnswer::Granted);
    token
}

/// Whose lease it is, as told to one who asks; `None` if it is his now.
async fn holder(remote: &dyn Remote, key: &[u8], waiter: u64) -> Option<u64> {
    match lease(remote, key, &request(fresh(), at(1), waiter)).await {
        LeaseAnswer::Granted => None,
        LeaseAnswer::Held { token, .. } => Some(token),
        LeaseAnswer::Value(value) => panic!("a value: {value:?}"),
    }
}

async fn store_as(remote: &dyn Remote, key: &[u8], epoch: Epoch, text: &str, lease: StoreLease) -> Stored {
    let store = Store { bytes: value(epoch, text), life: LIFE, epoch, lease, measured: false };
    remote.store(key, store).await.expect("a store on a healthy tier is answered")
}

async fn release(remote: &dyn Remote, key: &[u8], token: u64, shared: bool) {
    remote.release(key, token, shared).await.expect("a healthy tier takes a lease back");
}

/// A node that listens for wakes.
struct Listener {
    remote: Arc<dyn Remote>,
    waiter: u64,
    wakes: broadcast::Receiver<Wake>,
}

impl Listener {
    /// Returns when wakes reach it: until then some may be lost.
    async fn start(subject: &dyn Subject) -> Listener {
        let (remote, holder) = (subject.node().await, subject.node().await);
        let waiter = fresh();
        let mut listener = Listener { wakes: remote.wakes(waiter), waiter, remote };
        let key = format!("listening:{waiter}").into_bytes();
        for _ in 0..200 {
            let token = granted(&*holder, &key, at(1)).await;
            listener.is_refused(&key, token).await;
            release(&*holder, &key, token, true).await;
            tokio::select! {
                biased;
                wake = listener.wakes.recv() => {
                    assert_eq!(wake, Ok(Wake { key: key.into(), shared: true }));
                    return listener;
                }
                () = subject.pass(Duration::from_millis(100)) => {}
            }
        }
        panic!("no wake comes");
    }

    /// Asks for a lease that `token` has.
    async fn is_refused(&self, key: &[u8], token: u64) {
        assert_eq!(holder(&*self.remote, key, self.waiter).await, Some(token));
    }

    /// The next wake is this one.
    async fn hears(&mut self, subject: &dyn Subject, key: &[u8], shared: bool) {
        let expected = Wake { key: Bytes::copy_from_slice(key), shared };
        tokio::select! {
            biased;
            wake = self.wakes.recv() => assert_eq!(wake, Ok(expected)),
            () = subject.pass(LONG) => panic!("not woken: {expected:?}"),
        }
    }
}

/// To one token, of whatever node, who may ask again; the others learn whose it is, where its log stood and how long it lives.
pub async fn a_lease_is_granted_once_and_whoever_is_refused_is_told_whose_it_is(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    let (mine, yours) = (u64::MAX - fresh(), fresh());
    let epoch = at(0x000f_ffff_ffff_ff00);
    assert_eq!(lease(&*one, b"k", &request(mine, epoch, 1)).await, LeaseAnswer::Granted);
    for _ in 0..2 {
        let answer = lease(&*other, b"k", &request(yours, at(7), 2)).await;
        let LeaseAnswer::Held { token, epoch: of, left } = answer else { panic!("{answer:?}") };
        assert_eq!((token, of), (mine, epoch));
        assert!(left <= LIFE && left > LIFE / 2, "{left:?}");
    }
    assert_eq!(lease(&*one, b"k", &request(mine, epoch, 1)).await, LeaseAnswer::Granted);
    assert_eq!(holder(&*other, b"k", 2).await, Some(mine));
    // Every key has its own, whatever is in its name.
    let long = [b'x'; 3000];
    let keys: [&[u8]; 7] = [b"k:2", b"", b"{k}", b"{k}:lease", b"k}", b"k~GET {x}", &long];
    for key in keys {
        assert_eq!(lease(&*other, key, &request(yours, epoch, 2)).await, LeaseAnswer::Granted, "{key:?}");
        assert_eq!(holder(&*one, key, 1).await, Some(yours), "{key:?}");
    }
}

/// Whatever lease there is; what is no value of ours is no answer.
pub async fn a_value_that_came_meanwhile_is_the_answer_and_a_rejected_one_is_not(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    granted(&*one, b"k", at(5)).await;
    store_as(&*one, b"k", at(5), "there", StoreLease::Apart).await;
    let there = value(at(5), "there");
    assert_eq!(lease(&*other, b"k", &request(fresh(), at(9), 2)).await, LeaseAnswer::Value(there.clone()));
    let rejects = |value| LeaseRequest { rejected: Some(value), ..request(fresh(), at(9), 2) };
    // Another one of the same epoch is another one: nothing was invalidated between the two loads.
    for another in [value(at(4), "there"), value(Epoch { line: 1, at: 5 }, "there"), value(at(5), "where")] {
        assert_eq!(lease(&*other, b"k", &rejects(another)).await, LeaseAnswer::Value(there.clone()));
    }
    let answer = lease(&*other, b"k", &rejects(there.slice(..24))).await;
    assert!(matches!(answer, LeaseAnswer::Held { .. }), "{answer:?}");
    store_as(&*one, b"k:2", at(5), "", StoreLease::Apart).await;
    assert_eq!(lease(&*other, b"k:2", &rejects(value(at(5), ""))).await, LeaseAnswer::Granted);
    for foreign in [b"".as_slice(), b"hello", b"Lr\x01"] {
        let Some(plant) = subject.plant(b"k:3", Bytes::from_static(foreign)) else { return };
        plant.await;
        let token = granted(&*one, b"k:3", at(5)).await;
        release(&*one, b"k:3", token, true).await;
    }
}

/// Whoever asks then has it, and those who waited for the old one are not woken by the end of the new one: they have been told
/// how long to wait.
pub async fn a_lease_runs_out_and_passes_on(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    let lost = granted_shortly(&*one, b"k", at(5)).await;
    assert_eq!(holder(&*other, b"k", 2).await, Some(lost));
    subject.pass(PAST_SHORT).await;
    let taken = granted(&*other, b"k", at(5)).await;
    assert_eq!(holder(&*one, b"k", 1).await, Some(taken));
}

/// It lives for as long as was asked from then on, whoever has waited meanwhile.
pub async fn a_lease_that_is_extended_lives_on_and_a_lost_one_cannot_be(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    assert_eq!(one.extend(b"k", 1, LIFE).await, Ok(false));
    let token = granted_shortly(&*one, b"k", at(5)).await;
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(true));
    assert_eq!(other.extend(b"k", fresh(), LIFE * 2).await, Ok(false));
    subject.pass(PAST_SHORT).await;
    let answer = lease(&*other, b"k", &request(fresh(), at(1), 2)).await;
    let LeaseAnswer::Held { token: of, left, .. } = answer else { panic!("{answer:?}") };
    assert!(of == token && left > LIFE / 2 && left <= LIFE, "{answer:?}");
    assert_eq!(one.extend(b"k", token, SHORT).await, Ok(true));
    subject.pass(PAST_SHORT).await;
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(false));
    granted(&*other, b"k", at(5)).await;
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(false));
}

/// Each once, with the key as they know it, and whether the answer is for them too.
pub async fn a_lease_that_is_given_back_wakes_those_who_were_refused_and_nobody_else(subject: &dyn Subject) {
    let one = subject.node().await;
    let mut two = Listener::start(subject).await;
    let mut three = Listener::start(subject).await;
    let long = [b'x'; 3000];
    let keys: [(&[u8], bool); 6] =
        [(b"k", true), (b"k:2", false), (b"", true), (b"\0\xff{}", true), (b"k~GET x", false), (&long, true)];
    for (key, shared) in keys {
        let token = granted(&*one, key, at(5)).await;
        two.is_refused(key, token).await;
        two.is_refused(key, token).await;
        release(&*one, key, token, shared).await;
        two.hears(subject, key, shared).await;
        // Nobody waits for this one.
        let next = granted(&*one, key, at(5)).await;
        release(&*one, key, next, shared).await;
    }
    // The next ones that come to either: nothing else has come before.
    let token = granted(&*one, b"k", at(5)).await;
    two.is_refused(b"k", token).await;
    three.is_refused(b"k", token).await;
    release(&*one, b"k", token, true).await;
    two.hears(subject, b"k", true).await;
    three.hears(subject, b"k", true).await;
}

/// Neither of one who has lost it, nor before anybody had it.
pub async fn whoever_gives_back_the_lease_of_another_changes_nothing(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    release(&*one, b"k", fresh(), true).await;
    let lost = granted_shortly(&*one, b"k", at(5)).await;
    subject.pass(PAST_SHORT).await;
    let token = granted(&*other, b"k", at(5)).await;
    release(&*one, b"k", lost, true).await;
    assert_eq!(holder(&*one, b"k", 1).await, Some(token));
}

/// By the store, without another trip; the value is the answer then.
pub async fn a_fill_wakes_those_who_wait(subject: &dyn Subject) {
    let one = subject.node().await;
    let mut two = Listener::start(subject).await;
    let mut three = Listener::start(subject).await;
    let token = granted(&*one, b"k", at(5)).await;
    two.is_refused(b"k", token).await;
    three.is_refused(b"k", token).await;
    assert_eq!(store_as(&*one, b"k", at(5), "filled", StoreLease::Ends(token)).await, Stored::Stored);
    for waiter in [&mut two, &mut three] {
        waiter.hears(subject, b"k", true).await;
        let answer = lease(&*waiter.remote, b"k", &request(fresh(), at(5), waiter.waiter)).await;
        assert_eq!(answer, LeaseAnswer::Value(value(at(5), "filled")));
    }
    // The lease is gone with it.
    let again = LeaseRequest { rejected: Some(value(at(5), "filled")), ..request(fresh(), at(6), fresh()) };
    assert_eq!(lease(&*one, b"k", &again).await, LeaseAnswer::Granted);
}

/// By one who names it; its holder has lost it, and those who waited are woken by the new one's end.
pub async fn a_load_in_vain_is_taken_over_and_those_who_wait_for_it_stay(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    let mut two = Listener::start(subject).await;
    let vain = granted(&*one, b"k", at(5)).await;
    two.is_refused(b"k", vain).await;
    let token = fresh();
    let takes = |vain| LeaseRequest { vain: Some(vain), ..request(token, at(6), fresh()) };
    let answer = lease(&*other, b"k", &takes(fresh())).await;
    assert!(matches!(answer, LeaseAnswer::Held { .. }), "of another one: {answer:?}");
    assert_eq!(lease(&*other, b"k", &takes(vain)).await, LeaseAnswer::Granted);
    assert_eq!(one.extend(b"k", vain, LIFE).await, Ok(false));
    assert_eq!(store_as(&*one, b"k", at(5), "vain", StoreLease::Ends(vain)).await, Stored::Overtaken);
    release(&*one, b"k", vain, false).await;
    assert_eq!(store_as(&*other, b"k", at(6), "good", StoreLease::Ends(token)).await, Stored::Stored);
    two.hears(subject, b"k", true).await;
    assert_eq!(body(&*one, "k").await.as_deref(), Some("good"));
}

/// While the new holder loads, and after he has stored; unless it has read later than he has.
pub async fn the_late_store_of_a_load_whose_lease_has_passed_on_is_refused(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    let late = granted_shortly(&*one, b"k", at(5)).await;
    subject.pass(PAST_SHORT).await;
    let token = granted(&*other, b"k", at(5)).await;
    for epoch in [at(5), at(6)] {
        assert_eq!(store_as(&*one, b"k", epoch, "late", StoreLease::Ends(late)).await, Stored::Overtaken);
    }
    assert_eq!(body(&*one, "k").await, None);
    assert_eq!(holder(&*one, b"k", 1).await, Some(token), "it is his still");
    assert_eq!(store_as(&*other, b"k", at(5), "good", StoreLease::Ends(token)).await, Stored::Stored);
    for epoch in [at(4), at(5)] {
        assert_eq!(store_as(&*one, b"k", epoch, "late", StoreLease::Ends(late)).await, Stored::Overtaken);
    }
    assert_eq!(body(&*one, "k").await.as_deref(), Some("good"));
    assert_eq!(store_as(&*one, b"k", at(6), "newer", StoreLease::Ends(late)).await, Stored::Stored);
    let elsewhere = Epoch { line: 1, at: 1 };
    assert_eq!(store_as(&*one, b"k", elsewhere, "line", StoreLease::Ends(late)).await, Stored::Stored);
    assert_eq!(body(&*one, "k").await.as_deref(), Some("line"));
}

/// Nobody has taken its place, so it is worth as much as ever.
pub async fn a_load_whose_lease_ran_out_unnoticed_still_stores(subject: &dyn Subject) {
    let one = subject.node().await;
    let token = granted_shortly(&*one, b"k", at(5)).await;
    let another = granted_shortly(&*one, b"k:2", at(5)).await;
    store_as(&*one, b"k:2", at(4), "older", StoreLease::Apart).await;
    subject.pass(PAST_SHORT).await;
    assert_eq!(store_as(&*one, b"k", at(5), "good", StoreLease::Ends(token)).await, Stored::Stored);
    assert_eq!(body(&*one, "k").await.as_deref(), Some("good"));
    assert_eq!(store_as(&*one, b"k:2", at(5), "good", StoreLease::Ends(another)).await, Stored::Stored);
    assert_eq!(body(&*one, "k:2").await.as_deref(), Some("good"));
}

/// Nobody is to wait for a load that is over, whatever became of what it has loaded.
pub async fn a_load_that_is_overtaken_frees_its_lease(subject: &dyn Subject) {
    let one = subject.node().await;
    let mut two = Listener::start(subject).await;
    let token = granted(&*one, b"k", at(5)).await;
    two.is_refused(b"k", token).await;
    store_as(&*one, b"k", at(9), "newer", StoreLease::Apart).await;
    assert_eq!(store_as(&*one, b"k", at(5), "old", StoreLease::Ends(token)).await, Stored::Overtaken);
    two.hears(subject, b"k", true).await;
    assert_eq!(body(&*one, "k").await.as_deref(), Some("newer"));
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(false));
}

/// Whoever loads meanwhile has lost; if it is refused itself, nothing has happened. Stores apart from any lease touch none.
pub async fn a_value_put_by_hand_breaks_the_lease(subject: &dyn Subject) {
    let one = subject.node().await;
    let mut two = Listener::start(subject).await;
    assert_eq!(store_as(&*one, b"k", at(5), "alone", StoreLease::Breaks).await, Stored::Stored);
    assert_eq!(one.remove(b"k").await, Ok(()));
    let token = granted(&*one, b"k", at(5)).await;
    two.is_refused(b"k", token).await;
    store(&*one, "k", 7, 1, "apart").await;
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(true));
    assert_eq!(store_as(&*two.remote, b"k", at(5), "by hand", StoreLease::Breaks).await, Stored::Stored);
    two.hears(subject, b"k", true).await;
    assert_eq!(one.extend(b"k", token, LIFE).await, Ok(false));
    assert_eq!(store_as(&*one, b"k", at(5), "loaded", StoreLease::Ends(token)).await, Stored::Overtaken);
    assert_eq!(body(&*one, "k").await.as_deref(), Some("by hand"));

    let rejects =
        LeaseRequest { rejected: Some(value(at(5), "by hand")), ..request(fresh(), at(6), fresh()) };
    assert_eq!(lease(&*one, b"k", &rejects).await, LeaseAnswer::Granted);
    assert_eq!(store_as(&*two.remote, b"k", at(4), "too old", StoreLease::Breaks).await, Stored::Overtaken);
    assert_eq!(one.extend(b"k", rejects.token, LIFE).await, Ok(true));
}

/// A node gives back what the tier may have lost. Others have loaded since, some of them on a line that has begun after.
pub async fn what_is_given_back_yields_to_what_is_there(subject: &dyn Subject) {
    let one = subject.node().await;
    let (later, other) = (at(5), Epoch { line: at(5).line ^ 1, at: 1 });
    let give_back = async |epoch, text| store_as(&*one, b"k", epoch, text, StoreLease::Yields).await;
    assert_eq!(give_back(later, "lost").await, Stored::Stored, "nothing is there");
    for there in [at(5), at(9), other] {
        one.remove(b"k").await.expect("it is removed");
        store_as(&*one, b"k", there, "there", StoreLease::Apart).await;
        assert_eq!(give_back(later, "given back").await, Stored::Overtaken, "{there}");
        assert_eq!(body(&*one, "k").await.as_deref(), Some("there"), "{there}");
    }
    one.remove(b"k").await.expect("it is removed");
    store_as(&*one, b"k", at(4), "older", StoreLease::Apart).await;
    assert_eq!(give_back(later, "newer").await, Stored::Stored, "of an earlier load");
}
