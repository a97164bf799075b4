//! Waiting ends with the state, or with a message that helps.

use std::future::pending;
use std::time::Duration;

use larder_testkit::{wait_for, wait_until};

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn waiting_looks_again_until_the_state_is_there() {
    let mut looks = 0;
    wait_for(LONG, "the fifth look", async || {
        looks += 1;
        tokio::task::yield_now().await;
        looks == 5
    })
    .await;
    assert_eq!(looks, 5);
    wait_until(LONG, "the ninth look", || {
        looks += 1;
        looks == 9
    })
    .await;
    assert_eq!(looks, 9);
}

#[tokio::test]
#[should_panic(expected = "in vain for a state that never comes (looked")]
async fn waiting_in_vain_names_what_was_waited_for() {
    wait_until(SHORT, "a state that never comes", || false).await;
}

#[tokio::test]
#[should_panic(expected = "waiting.rs:")]
async fn waiting_in_vain_names_the_place() {
    wait_for(SHORT, "anything", async || false).await;
}

#[tokio::test]
#[should_panic(expected = "in vain for an answer")]
async fn a_look_that_hangs_ends_with_the_deadline() {
    wait_for(SHORT, "an answer", async || pending().await).await;
}
