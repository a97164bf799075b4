//! What a server can be told before it starts.

use super::RedisServer;

/// Options of a [`RedisServer`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct RedisServerBuilder {
    pub(super) persistent: bool,
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) args: Vec<String>,
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
