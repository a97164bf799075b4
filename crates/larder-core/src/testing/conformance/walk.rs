//! All values.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Subject, append, begun, store, value};
use crate::log::Epoch;
use crate::remote::{Cursor, PEEKED, Remote, Stored};

/// All values below a key, as `page` names them, with their first bytes.
async fn walk(remote: &dyn Remote, under: &str, step: usize) -> BTreeMap<Vec<u8>, Bytes> {
    walk_all(remote, &[under.as_bytes()], step).await
}

async fn walk_all(remote: &dyn Remote, under: &[&[u8]], step: usize) -> BTreeMap<Vec<u8>, Bytes> {
    let mut found = BTreeMap::new();
    let mut cursor = Some(Cursor::default());
    for _ in 0..10_000 {
        let Some(at) = cursor else { return found };
        let page = remote.page(under, at, step).await.expect("a healthy tier is walked");
        found.extend(page.values);
        cursor = page.next;
    }
    panic!("the walk does not end");
}

/// A walk step by step sees all that is there all the time, however small the steps.
pub async fn a_walk_sees_every_value_and_nothing_of_the_log(subject: &dyn Subject) {
    let (remote, start) = begun(subject).await;
    append(&*remote, start, &["a:1"]).await;
    assert!(walk(&*remote, "", 10).await.is_empty());
    let mut stored = BTreeMap::new();
    for (space, count) in [("a", 120), ("ab", 7), ("b*[?]\\", 3)] {
        for i in 0..count {
            let (key, epoch) = (format!("{space}:{i}"), Epoch { line: 1, at: i });
            assert_eq!(store(&*remote, &key, 1, i, &key).await, Stored::Stored);
            stored.insert(key.clone().into_bytes(), value(epoch, &key));
        }
    }
    for (under, step) in
        [("", 1000), ("", 10), ("a:", 1), ("a", 50), ("ab:", 10), ("b*", 10), ("b*[?]\\:1", 10)]
    {
        let found = walk(&*remote, under, step).await;
        for (key, bytes) in stored.iter().filter(|(key, _)| key.starts_with(under.as_bytes())) {
            assert_eq!(found.get(key), Some(bytes), "{} under {under:?}", String::from_utf8_lossy(key));
        }
        for key in found.keys() {
            assert!(stored.contains_key(key), "{} is no value", String::from_utf8_lossy(key));
        }
    }
}

/// One walk for several: every value of each, whatever they have in common.
pub async fn a_walk_sees_the_values_below_each_of_several_keys(subject: &dyn Subject) {
    let remote = subject.node().await;
    for key in ["a:1", "a:10", "a:2", "b:1", "b*", "c:1"] {
        store(&*remote, key, 1, 1, key).await;
    }
    let cases: [(&[&[u8]], &[&str]); 4] = [
        (&[b"a:1", b"a:2"], &["a:1", "a:10", "a:2"]),
        (&[b"a:2", b"b*", b"d"], &["a:2", "b*"]),
        (&[b"c", b""], &["a:1", "a:10", "a:2", "b*", "b:1", "c:1"]),
        (&[], &[]),
    ];
    for (under, expected) in cases {
        let found: Vec<_> = walk_all(&*remote, under, 2).await.into_keys().collect();
        let seen = |key: &&str| found.contains(&key.as_bytes().to_vec());
        assert!(expected.iter().all(seen), "{under:?}: {found:?}");
    }
}

/// Of a large value at least as many as the engine counts on.
pub async fn a_page_shows_the_first_bytes(subject: &dyn Subject) {
    let remote = subject.node().await;
    let text = "0123456789".repeat(PEEKED);
    store(&*remote, "k", 1, 1, &text).await;
    let whole = value(Epoch { line: 1, at: 1 }, &text);
    let found = walk(&*remote, "k", 10).await;
    let shown = &found[b"k".as_slice()];
    assert!(shown.len() >= PEEKED && whole.starts_with(shown));
}

/// What was stored again since, by whomever, stays; what is gone is not counted.
pub async fn only_what_has_not_changed_is_discarded(subject: &dyn Subject) {
    let (remote, other) = (subject.node().await, subject.node().await);
    for i in 0..60 {
        store(&*remote, &format!("k:{i}"), 1, 5, "seen").await;
    }
    let seen: Vec<_> =
        walk(&*remote, "k:", 20).await.into_keys().map(|name| (name, Epoch { line: 1, at: 5 })).collect();
    assert_eq!(seen.len(), 60);
    store(&*other, "k:1", 1, 6, "newer").await;
    store(&*other, "k:2", 2, 5, "another line").await;
    assert_eq!(other.remove(b"k:3").await, Ok(()));
    assert_eq!(remote.discard(&seen).await, Ok(57));
    let left: Vec<_> = walk(&*remote, "", 20).await.into_keys().collect();
    assert_eq!(left, [b"k:1".to_vec(), b"k:2".to_vec()]);
    assert_eq!(remote.discard(&seen).await, Ok(0));
    assert_eq!(remote.discard(&[]).await, Ok(0));
}
