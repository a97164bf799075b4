//! The rival of `http-redis-hit`: what one writes instead of a cache, a handler with one GET.

use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo as _};

use super::server::{JSON, handled};

/// The key of the answer.
const KEY: &str = "by-hand:item";

/// A route that answers with what is under [`KEY`]. One multiplexed connection, without Nagle's delay, as Larder has.
pub async fn route(url: &str) -> MethodRouter {
    let address = url.into_connection_info().expect("an address");
    let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = Client::open(address).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis is there");
    redis::cmd("SET").arg(KEY).arg(JSON).exec_async(&mut connection).await.expect("Redis is there");
    get(async move || {
        handled();
        let mut connection = connection.clone();
        let body: Vec<u8> =
            redis::cmd("GET").arg(KEY).query_async(&mut connection).await.expect("Redis is there");
        assert_eq!(body.len(), JSON.len());
        ([(CONTENT_TYPE, "application/json")], Bytes::from(body))
    })
}
