//! A password is in no text that anybody could log.

use larder_core::{Link, Remote};
use larder_redis::Redis;
use larder_testkit::{RedisServer, wait_until};

use crate::support::{DEADLINE, build, runtime, wait_down, wait_up};

const SECRET: &str = "hunter2/with@odd:chars";
const ENCODED: &str = "hunter2%2Fwith%40odd%3Achars";

/// The word that all forms of the secret have in common.
fn assert_silent(text: &str) {
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn neither_debug_nor_describe_nor_errors_show_the_password() {
    for redis in [
        Redis::at(format!("redis://user:{ENCODED}@127.0.0.1:1/0")),
        Redis::at("redis://127.0.0.1:1").username("user").password(SECRET),
    ] {
        assert_silent(&format!("{redis:?}"));
        let remote = build(redis.clone());
        assert_silent(&format!("{remote:?}"));
        assert_silent(&remote.describe());
        remote.connect();
        wait_down(&remote, "refused").await;
        let error = remote.get(b"k").await.unwrap_err();
        assert_silent(&format!("{error} {error:?} {remote:?}"));
    }
    for bad in [
        format!("redis://user:{SECRET}@127.0.0.1:1"),
        format!("redis://{ENCODED}@127.0.0.1:x"),
        format!("http://user:{ENCODED}@h"),
        format!("redis://user:{ENCODED}"),
        format!("redis://{ENCODED}@127.0.0.1"),
    ] {
        let error = Redis::at(bad).build(runtime()).unwrap_err();
        assert_silent(&format!("{error} {error:?}"));
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_reason_and_the_right_one_works() {
    let server = RedisServer::builder().password(SECRET).start().await;
    let address = format!("redis://{}", server.addr());
    let wrong = build(Redis::at(&address).password("hunter2 but wrong"));
    wrong.connect();
    wait_down(&wrong, "WRONGPASS").await;
    assert_silent(&format!("{:?}", wrong.link().borrow()));

    let none = build(Redis::at(&address));
    none.connect();
    wait_down(&none, "NOAUTH").await;

    for right in [Redis::at(server.url()), Redis::at(&address).password(SECRET)] {
        let right = build(right);
        right.connect();
        wait_up(&right).await;
        assert_eq!(right.get(b"k").await, Ok(None));
    }
}

#[tokio::test]
async fn a_server_that_repeats_what_it_was_told_does_not_give_the_password_away() {
    let server = RedisServer::builder().arg(["--rename-command", "AUTH", ""]).start().await;
    let remote = build(Redis::at(server.url()).password("hunter2"));
    remote.connect();
    wait_down(&remote, "the server refuses the login").await;
    assert_silent(&format!("{:?}", remote.link().borrow()));
}

#[tokio::test]
async fn a_password_that_was_wrong_and_is_set_right_lets_it_connect() {
    let server = RedisServer::builder().password("one").start().await;
    let remote = build(Redis::at(format!("redis://{}", server.addr())).password("two"));
    remote.connect();
    wait_down(&remote, "WRONGPASS").await;
    server.command(&["CONFIG", "SET", "requirepass", "two"]).await.unwrap();
    wait_until(DEADLINE, "it to log in", || matches!(*remote.link().borrow(), Link::Up { .. })).await;
}
