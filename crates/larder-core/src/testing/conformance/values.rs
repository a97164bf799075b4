//! One value.

use std::time::Duration;

use super::{LIFE, Subject, apart, body, store, tried, value};
use crate::log::Epoch;
use crate::remote::{Store, Stored};

/// Of one line the greatest position wins, whoever is later; of two lines the later one does.
pub async fn the_newest_load_of_a_line_wins(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    // Around the byte where a comparison of texts, or of 32 bits, would go wrong.
    let at = 0x000f_ffff_ffff_ff00;
    assert_eq!(body(&*one, "k").await, None);
    assert_eq!(store(&*one, "k", 9, at, "new").await, Stored::Stored);
    for older in [at - 1, at - 0x100, 0x1_0000_0000, 0xff, 0] {
        assert_eq!(store(&*other, "k", 9, older, "old").await, Stored::Overtaken, "{older:x}");
    }
    assert_eq!(body(&*other, "k").await.as_deref(), Some("new"));
    for (line, at, body_) in [(9, at, "equal"), (9, at + 1, "newer"), (8, 1, "another line"), (9, 2, "back")]
    {
        assert_eq!(store(&*one, "k", line, at, body_).await, Stored::Stored, "{body_}");
        assert_eq!(body(&*other, "k").await.as_deref(), Some(body_));
    }
}

/// A value lives as long as it was given, and fences nothing afterwards.
pub async fn a_life_ends(subject: &dyn Subject) {
    let remote = subject.node().await;
    let (epoch, life) = (Epoch { line: 1, at: 9 }, Duration::from_millis(300));
    let stored = remote.store(b"k", apart(epoch, value(epoch, "short"), life)).await;
    assert_eq!(stored, Ok(Stored::Stored));
    store(&*remote, "other", 1, 9, "long").await;
    subject.pass(life + Duration::from_millis(50)).await;
    assert_eq!(body(&*remote, "k").await, None);
    assert_eq!(body(&*remote, "other").await.as_deref(), Some("long"));
    assert_eq!(store(&*remote, "k", 1, 1, "older").await, Stored::Stored);
}

/// Removed is gone, and no fence either; removing nothing is no error.
pub async fn what_is_removed_is_gone(subject: &dyn Subject) {
    let remote = subject.node().await;
    assert_eq!(remote.remove(b"k").await, Ok(()));
    store(&*remote, "k", 1, 9, "x").await;
    assert_eq!(remote.remove(b"k").await, Ok(()));
    assert_eq!(body(&*remote, "k").await, None);
    assert_eq!(store(&*remote, "k", 1, 1, "older").await, Stored::Stored);
}

/// Whatever lies under a key is given as it is, and does not stand in the way of a value.
pub async fn foreign_bytes_are_given_as_they_are_and_replaced(subject: &dyn Subject) {
    let remote = subject.node().await;
    let almost = value(Epoch { line: 1, at: u64::MAX }, "")[..19].to_vec();
    for foreign in [b"hello".to_vec(), b"Lr".to_vec(), vec![0xff; 40], almost] {
        let plant = tried(subject.plant(b"k", foreign.clone().into()));
        plant.await;
        assert_eq!(remote.get(b"k").await, Ok(Some(foreign.into())));
        assert_eq!(store(&*remote, "k", 1, 1, "ours").await, Stored::Stored);
        assert_eq!(body(&*remote, "k").await.as_deref(), Some("ours"));
    }
}

/// What is no string is an error that says so, and does not stand in the way of a value.
pub async fn another_type_is_told_and_replaced(subject: &dyn Subject) {
    let remote = subject.node().await;
    let plant = tried(subject.plant_other_type(b"k"));
    plant.await;
    assert!(remote.get(b"k").await.is_err_and(|error| error.is_wrong_type()));
    assert_eq!(remote.discard(&[(b"k".to_vec(), Epoch { line: 1, at: 1 })]).await, Ok(0));
    assert_eq!(store(&*remote, "k", 1, 1, "ours").await, Stored::Stored);
    assert_eq!(body(&*remote, "k").await.as_deref(), Some("ours"));
}

/// One answer per key, also for those without a value and those asked for twice.
pub async fn several_values_come_in_the_order_they_were_asked_for(subject: &dyn Subject) {
    let remote = subject.node().await;
    assert_eq!(remote.get_many(&[]).await, []);
    for i in (0..40).step_by(2) {
        store(&*remote, &format!("k:{i}"), 1, 1, &i.to_string()).await;
    }
    let keys: Vec<String> = [39, 2, 2].into_iter().chain((0..40).rev()).map(|i| format!("k:{i}")).collect();
    let names: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let values = remote.get_many(&names).await;
    assert_eq!(values.len(), keys.len());
    for (key, found) in keys.iter().zip(values) {
        let number = key.trim_start_matches("k:");
        let is_there = number.parse::<u64>().is_ok_and(|i| i % 2 == 0);
        let expected = is_there.then(|| value(Epoch { line: 1, at: 1 }, number));
        assert_eq!(found, Ok(expected), "{key}");
    }
}

/// Its length and the rest of its life, if there was one and it is asked for; what is refused has replaced nothing.
pub async fn what_a_store_replaces_is_told_to_those_who_ask(subject: &dyn Subject) {
    let remote = subject.node().await;
    let replace = async |at: u64, body: &str, life: Duration, measured: bool| {
        let epoch = Epoch { line: 1, at };
        let store = Store { measured, ..apart(epoch, value(epoch, body), life) };
        remote.store(b"k", store).await.expect("a store on a healthy tier is answered")
    };
    assert_eq!(replace(5, "first", LIFE, true).await, Stored::Stored);
    assert_eq!(replace(6, "second", LIFE * 2, false).await, Stored::Stored);
    let Stored::Replaced { bytes, left } = replace(7, "", LIFE, true).await else {
        panic!("it replaces one")
    };
    assert_eq!(bytes, 26);
    assert!(left <= LIFE * 2 && left > LIFE, "{left:?}");
    assert_eq!(replace(4, "too old", LIFE, true).await, Stored::Overtaken);
    let Stored::Replaced { bytes, .. } = replace(8, "x", LIFE, true).await else { panic!("it replaces one") };
    assert_eq!(bytes, 20);
}
