//! What a server can be told before it starts.

use std::panic::resume_unwind;

use tokio::task::JoinSet;

use super::RedisServer;

/// Options of a [`RedisServer`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct RedisServerBuilder {
    pub(super) persistent: bool,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) args: Vec<String>,
    pub(super) bus: bool,
    pub(super) config: Option<String>,
}

impl RedisServerBuilder {
    /// Whether the data survives [`kill`](RedisServer::kill) and [`restart`](RedisServer::restart): every write is
    /// on disk (append-only file, `appendfsync always`) before it is answered. Default: `false`, a restarted server is
    /// empty.
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// The password clients must give. [`url`](RedisServer::url) has it, and the server's own
    /// [`command`](RedisServer::command) gives it. Default: none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Whether the port speaks TLS, with a certificate for `localhost` and `127.0.0.1` from an authority made for this
    /// server: [`ca_certificate_path`](RedisServer::ca_certificate_path). Clients need no certificate of their own.
    /// Default: `false`.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// More words for the command line, after ours, so they win: `.arg(["--maxmemory", "1mb"])`. Adds up. Default: none.
    pub fn arg<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(words.into_iter().map(Into::into));
        self
    }

    /// Makes it a node of a cluster that is yet to be formed. Its bus, too, gets a free port of its own.
    pub(crate) fn cluster_node(mut self) -> Self {
        self.bus = true;
        self
    }

    /// The text of a configuration file, which the server may rewrite and reads again when it restarts.
    pub(crate) fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Some(text.into());
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// Cancel safe: dropping the future kills the server.
    ///
    /// # Panics
    /// If there is no `redis-server` (the message says how to get it), or it does not come up; the message then has
    /// its log.
    pub async fn start(self) -> RedisServer {
        RedisServer::start_with(self).await
    }
}

/// Starts several servers at once, and returns them in the order of their builders.
///
/// Cancel safe: dropping the future kills them all.
///
/// # Panics
/// As [`RedisServerBuilder::start`].
pub(crate) async fn start_all(builders: Vec<RedisServerBuilder>) -> Vec<RedisServer> {
    let mut starting = JoinSet::new();
    for (index, builder) in builders.into_iter().enumerate() {
        starting.spawn(async move { (index, builder.start().await) });
    }
    let mut servers = Vec::new();
    while let Some(started) = starting.join_next().await {
        match started {
            Ok(started) => servers.push(started),
            Err(error) => resume_unwind(error.into_panic()),
        }
    }
    servers.sort_by_key(|(index, _)| *index);
    servers.into_iter().map(|(_, server)| server).collect()
}
