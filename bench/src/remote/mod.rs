//! Reads of values in Redis: what `larder-redis` makes of many at a time, against the client library it is built on.

mod gathered;
mod many;

use std::sync::Arc;

use larder_core::{Link, Remote as _, TokioRuntime};
use larder_redis::{Redis, RedisRemote};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _};

pub use self::gathered::run as gathered;
pub use self::many::run as many;

/// Where the server runs; the readers have the other core as far as the system leaves it to them.
const SERVER_CORE: usize = 1;
/// How many values there are.
const VALUES: usize = 10_000;
/// Bytes of each.
const BYTES: usize = 1024;

/// A runtime as services have one.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// The rival: one multiplexed connection, without Nagle's delay as Larder has, and without a timer for each command.
async fn bare(url: &str) -> MultiplexedConnection {
    let address = url.into_connection_info().expect("an address");
    let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = Client::open(address).expect("an address");
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("Redis is there")
}

async fn connected(url: &str) -> Arc<RedisRemote> {
    let remote = Redis::at(url).build(Arc::new(TokioRuntime::current())).expect("the options are good");
    remote.connect();
    let up = |link: &Link| matches!(link, Link::Up { .. });
    remote.link().wait_for(up).await.expect("somebody keeps the link");
    remote
}

fn key(number: usize) -> String {
    format!("doc:{number}")
}

/// What it is called in Redis.
fn name(number: usize) -> String {
    format!("larder:{}", key(number))
}

/// Puts all values where both sides find them.
async fn fill(connection: &mut MultiplexedConnection) {
    for numbers in (0..VALUES).collect::<Vec<_>>().chunks(1000) {
        let mut sets = redis::pipe();
        for &number in numbers {
            sets.set(name(number), value(number)).ignore();
        }
        sets.exec_async(connection).await.expect("Redis takes values");
    }
}

fn value(number: usize) -> Vec<u8> {
    let mut value = vec![0; BYTES];
    value[..8].copy_from_slice(&number.to_be_bytes());
    value
}

/// The right one, in full length.
fn check(value: &[u8], number: usize) {
    assert_eq!(value.len(), BYTES);
    assert_eq!(value[..8], number.to_be_bytes());
}
