//! Shares.

use std::time::Duration;

use super::Subject;
use crate::remote::Remote;

const HOUR: Duration = Duration::from_secs(3600);

async fn reserve(remote: &dyn Remote, share: &str, bytes: u64, life: Duration, limit: u64) -> bool {
    let reserved = remote.reserve(share.as_bytes(), bytes, life, limit).await;
    reserved.expect("a healthy tier counts")
}

/// All nodes count to the same share; what is refused is not counted; other shares have their own limits.
pub async fn a_share_holds_no_more_than_its_limit(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    assert!(reserve(&*one, "s", 60, HOUR, 100).await);
    assert!(!reserve(&*other, "s", 41, HOUR, 100).await);
    assert!(reserve(&*other, "s", 30, HOUR / 2, 100).await);
    assert!(!reserve(&*one, "s", 11, HOUR / 100, 100).await);
    assert!(reserve(&*one, "s", 10, HOUR / 100, 100).await);
    assert!(!reserve(&*one, "s", 1, HOUR, 100).await);
    // The limit is the caller's.
    assert!(reserve(&*one, "s", 1, HOUR, 101).await);
    assert!(!reserve(&*one, "another", 101, HOUR, 100).await);
    assert!(reserve(&*one, "another", 100, HOUR, 100).await);
    let odd = [0xff, b'}', b'{', 0].repeat(300);
    assert_eq!(other.reserve(&odd, 1, HOUR, 1).await, Ok(true));
    assert_eq!(one.reserve(&odd, 1, HOUR, 1).await, Ok(false));
}

/// Not before its end, and not much later: what lives longer stays counted, unless it was given back.
pub async fn what_a_share_has_counted_is_free_when_its_life_is_over(subject: &dyn Subject) {
    let remote = subject.node().await;
    assert!(reserve(&*remote, "s", 60, Duration::from_secs(2), 100).await);
    assert!(reserve(&*remote, "s", 30, HOUR, 100).await);
    assert!(!reserve(&*remote, "s", 11, HOUR, 100).await);
    assert_eq!(remote.give_back(b"s", 10, HOUR).await, Ok(()));
    assert!(!reserve(&*remote, "s", 21, HOUR, 100).await);
    // The shortest parts are about a second wide.
    subject.pass(Duration::from_millis(3200)).await;
    assert!(!reserve(&*remote, "s", 81, HOUR, 100).await);
    assert!(reserve(&*remote, "s", 80, HOUR, 100).await);
    assert!(!reserve(&*remote, "s", 1, HOUR, 100).await);
}

/// As much as was given back, wherever it was counted, and no more than there was.
pub async fn what_is_given_back_to_a_share_is_free_at_once(subject: &dyn Subject) {
    let (one, other) = (subject.node().await, subject.node().await);
    assert_eq!(one.give_back(b"s", 10, HOUR).await, Ok(()));
    assert!(reserve(&*one, "s", 50, HOUR, 100).await);
    assert!(reserve(&*one, "s", 50, Duration::from_secs(60), 100).await);
    assert_eq!(other.give_back(b"s", 20, Duration::from_secs(59)).await, Ok(()));
    assert!(!reserve(&*one, "s", 21, HOUR, 100).await);
    assert!(reserve(&*one, "s", 20, HOUR, 100).await);
    // More than the nearest part has comes from the others, too.
    assert_eq!(other.give_back(b"s", 80, HOUR).await, Ok(()));
    assert!(!reserve(&*one, "s", 81, HOUR, 100).await);
    assert!(reserve(&*one, "s", 80, HOUR, 100).await);
    assert_eq!(other.give_back(b"s", 1000, HOUR).await, Ok(()));
    assert!(!reserve(&*one, "s", 101, HOUR, 100).await);
    assert!(reserve(&*one, "s", 100, HOUR, 100).await);
}
