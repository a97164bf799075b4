//! What the options do.

use std::time::Duration;

use larder::{Cache, Json, LoadError, Policy, cached, units::*};
use larder_testkit::wait_until;

use crate::{Count, Fault, cache};

#[cached(key = "{id}", tags = ["user:{user}", "#site"], tags_with = |text: &String| [text.clone()])]
async fn tagged(cache: &Cache, id: u64, user: String, loads: &Count) -> Result<String, Fault> {
    Ok(format!("load-{}", loads.up()))
}

#[tokio::test]
async fn an_invalidated_tag_takes_what_carries_it() {
    let (cache, ..) = cache().await;
    let loads = Count::default();
    let ask = || tagged(&cache, 1, "ann".to_owned(), &loads);
    for (tag, load) in [("#user:ann", 2), ("#user:bob", 2), ("#site", 3), ("#load-3", 4), ("#load-3", 4)] {
        ask().await.unwrap();
        let _ = cache.invalidate_str(&[tag]).await.unwrap();
        assert_eq!(ask().await.unwrap(), format!("load-{load}"), "{tag}");
    }
}

#[cached(key = "{id}", ttl = "1d 12h", stale = "1h", jitter = 0.0, negative_ttl = "10s", codec = Json)]
async fn perhaps(cache: &Cache, id: u64, loads: &Count) -> Result<Option<u64>, Fault> {
    loads.up();
    Ok((id > 0).then_some(id))
}

#[tokio::test]
async fn none_is_kept_for_the_negative_ttl_and_a_value_for_the_ttl() {
    let (cache, runtime, _) = cache().await;
    let loads = Count::default();
    for id in [0, 1, 0, 1] {
        assert_eq!(perhaps(&cache, id, &loads).await, Ok((id > 0).then_some(id)));
    }
    assert_eq!(loads.so_far(), 2);
    // Beyond the stale window of the one that says "none".
    runtime.advance(HOUR + 11 * SECOND);
    perhaps(&cache, 1, &loads).await.unwrap();
    assert_eq!(loads.so_far(), 2);
    perhaps(&cache, 0, &loads).await.unwrap();
    assert_eq!(loads.so_far(), 3);
}

#[tokio::test]
async fn what_is_stale_is_served_at_once_and_loaded_again_behind_it() {
    let (cache, runtime, _) = cache().await;
    let loads = Count::default();
    perhaps(&cache, 1, &loads).await.unwrap();
    runtime.advance(36 * HOUR + MINUTE);
    perhaps(&cache, 1, &loads).await.unwrap();
    wait_until(10 * SECOND, "the refresh", || loads.so_far() == 2).await;
}

#[cached(key = "{id}", policy = Policy::ttl(HOUR).jitter(0.0), ttl_with = |seconds| Duration::from_secs(*seconds))]
async fn for_seconds(cache: &Cache, id: u64, loads: &Count) -> Result<u64, Fault> {
    loads.up();
    Ok(id)
}

#[tokio::test]
async fn a_value_may_say_how_long_it_lives() {
    let (cache, runtime, _) = cache().await;
    let loads = Count::default();
    for (advance, so_far) in [(0, 1), (9, 1), (2, 2)] {
        runtime.advance(advance * SECOND);
        for_seconds(&cache, 10, &loads).await.unwrap();
        assert_eq!(loads.so_far(), so_far);
    }
}

#[cached(key = "{id}")]
async fn failing(cache: &Cache, id: u64) -> Result<u64, Fault> {
    match id {
        0 => Err(Fault::Own("none"))?,
        1 => panic!("as asked"),
        _ => Ok(id),
    }
}

/// `String` is of another crate: it cannot be `From<LoadError<String>>`.
#[cached(key = "{id}", error = |error: LoadError<String>| error.to_string())]
async fn foreign(cache: &Cache, id: u64) -> Result<u64, String> {
    id.checked_sub(1).ok_or_else(|| "none".to_owned())
}

#[tokio::test]
async fn the_error_of_a_load_is_the_functions_own() {
    let (cache, ..) = cache().await;
    assert_eq!(failing(&cache, 0).await, Err(Fault::Own("none")));
    assert_eq!(failing(&cache, 1).await, Err(Fault::Load("panicked")));
    assert_eq!(failing(&cache, 2).await, Ok(2));
    assert_eq!(foreign(&cache, 0).await, Err("the loader failed".to_owned()));
    assert_eq!(foreign(&cache, 1).await, Ok(0));
}
