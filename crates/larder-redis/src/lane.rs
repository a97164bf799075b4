//! One connection to the server, on which many commands are under way at a time.
//!
//! The client library speaks the protocol and matches answers to commands; the socket, its driver task and the end of
//! both are ours. So a closed connection is noticed without anybody using it, and everything under way on it fails at
//! once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{RemoteError, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisResult, Value,
};

use crate::config::Login;
use crate::counted::{Counted, Received};
use crate::deadline::within;
use crate::dial::Dialer;
use crate::end::End;
use crate::endpoint::Endpoint;
use crate::refusal::Refusal;

/// Unanswered heartbeats in a row that end a connection. One may be lost to a pause of this process.
const MISSES: u32 = 2;

/// What a connection is for. It decides which answers make it worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Values: whatever concerns one key leaves the others.
    Values,
    /// The log, which is in one place.
    Log,
    /// Being woken, where the log is.
    Wakes,
}

/// Takes what the server tells without being asked. It must not wait for anything.
pub(crate) type Ear = Box<dyn Fn(PushInfo) + Send + Sync>;

/// One connection.
#[derive(Debug)]
pub(crate) struct Lane {
    server: Endpoint,
    connection: MultiplexedConnection,
    purpose: Purpose,
    end: Arc<End>,
    received: Received,
}

impl Lane {
    /// Opens a connection, without logging in. Whoever drops this future must set `end`.
    pub(crate) async fn open(
        dialer: &Dialer,
        server: &Endpoint,
        purpose: Purpose,
        runtime: &dyn Runtime,
        end: &Arc<End>,
    ) -> Result<Arc<Lane>, String> {
        // It is not to say anything to the server: we greet it ourselves, to tell people what it answers.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        Self::open_with(dialer, server, purpose, runtime, end, (silent, AsyncConnectionConfig::new())).await
    }

    /// As [`open`](Self::open), for a connection on which the server may tell what it was not asked. That takes RESP3, and its
    /// greeting wants the login at once.
    pub(crate) async fn open_with_ear(
        dialer: &Dialer,
        server: &Endpoint,
        purpose: Purpose,
        runtime: &dyn Runtime,
        end: &Arc<End>,
        (login, ear): (Option<&Login>, Ear),
    ) -> Result<Arc<Lane>, String> {
        let mut greeting =
            RedisConnectionInfo::default().set_skip_set_lib_name().set_protocol(ProtocolVersion::RESP3);
        if let Some(user) = login {
            greeting = greeting.set_password(user.password.reveal());
            if let Some(name) = &user.username {
                greeting = greeting.set_username(name);
            }
        }
        let hear = move |push| -> RedisResult<()> {
            ear(push);
            Ok(())
        };
        let config = AsyncConnectionConfig::new().set_push_sender(hear);
        Self::open_with(dialer, server, purpose, runtime, end, (greeting, config)).await
    }

    async fn open_with(
        dialer: &Dialer,
        server: &Endpoint,
        purpose: Purpose,
        runtime: &dyn Runtime,
        end: &Arc<End>,
        (greeting, config): (RedisConnectionInfo, AsyncConnectionConfig),
    ) -> Result<Arc<Lane>, String> {
        let received = Received::default();
        let stream = dialer.dial(server).await.map_err(|error| error.to_string())?;
        let stream = Counted { stream, received: received.clone() };
        // The client's own timeouts are off: deadlines are the caller's, and half-open links are found by the heartbeat.
        let config = config.set_response_timeout(None).set_connection_timeout(None);
        let opened = MultiplexedConnection::new_with_config(&greeting, stream, config).await;
        let (connection, driver) = opened.map_err(|error| error.to_string())?;
        runtime.spawn(Box::pin(drive(driver, Arc::clone(end))));
        Ok(Arc::new(Lane { server: server.clone(), connection, purpose, end: Arc::clone(end), received }))
    }

    /// Whom it connects to.
    pub(crate) fn server(&self) -> &Endpoint {
        &self.server
    }

    /// Sends one command. An answer that is an error of the server is a refusal.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut connection = self.connection.clone();
        let answer = connection.send_packed_command(command).await.map_err(|error| self.broken(&error))?;
        self.checked(answer)
    }

    /// Sends several commands at once; one answer to each.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let mut connection = self.connection.clone();
        let answers = connection.send_packed_commands(commands, 0, commands.len()).await;
        let answers = answers.map_err(|error| self.broken(&error))?;
        Ok(answers.into_iter().map(|answer| self.checked(answer)).collect())
    }

    /// As [`ask_all`](Self::ask_all), for commands that take up to `wait` by their nature. When no byte has come for
    /// `grace` after that, the connections end: `None`.
    pub(crate) async fn ask_patiently(
        &self,
        commands: &Pipeline,
        runtime: &dyn Runtime,
        wait: Duration,
        grace: Duration,
    ) -> Option<Result<Vec<Result<Value, Failure>>, Failure>> {
        let patience = async {
            runtime.sleep(wait).await;
            loop {
                let before = self.received.bytes();
                runtime.sleep(grace).await;
                if self.received.bytes() == before {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            answers = self.ask_all(commands) => Some(answers),
            () = patience => {
                self.end.set(format!("no answer for {grace:?} more than it was to take"));
                None
            }
        }
    }

    /// Whatever the client calls an error is one of the socket or of the protocol: nothing can follow on this connection.
    fn broken(&self, error: &redis::RedisError) -> Failure {
        Failure::Broken(self.end.set(error.to_string()))
    }

    fn checked(&self, answer: Value) -> Result<Value, Failure> {
        let Value::ServerError(error) = answer else {
            return Ok(answer);
        };
        let refusal = Refusal::of(&error);
        if refusal.ends(self.purpose) {
            self.end.set(refusal.text());
        }
        Err(Failure::Refused(refusal))
    }

    /// Asks `question` every so often and ends the connections when nothing comes back: a half-open link gives no
    /// other sign. Runs until they end.
    pub(crate) async fn watch_over(
        self: Arc<Self>,
        runtime: Arc<dyn Runtime>,
        every: Duration,
        question: Cmd,
    ) {
        let beat = async {
            let mut missed = 0;
            while missed < MISSES {
                if missed == 0 {
                    runtime.sleep(every).await;
                }
                let before = self.received.bytes();
                let answered = within(&*runtime, every, self.ask(&question)).await.is_some();
                let alive = answered || self.received.bytes() != before;
                missed = if alive { 0 } else { missed + 1 };
            }
            self.end.set(format!("no answer for {:?}", every * MISSES));
        };
        tokio::select! {
            () = beat => {}
            _ = self.end.wait() => {}
        }
    }
}

/// A connection by itself, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OwnLane {
    lane: Arc<Lane>,
    end: Arc<End>,
}

impl OwnLane {
    pub(crate) fn new(lane: Arc<Lane>, end: Arc<End>) -> Self {
        OwnLane { lane, end }
    }

    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for OwnLane {
    fn drop(&mut self) {
        self.end.let_go();
    }
}

/// Where a command can be sent.
pub(crate) trait Ask {
    /// Sends it. An answer that is an error of the server is a refusal.
    fn ask(&self, command: &Cmd) -> impl Future<Output = Result<Value, Failure>> + Send;
}

impl Ask for Lane {
    fn ask(&self, command: &Cmd) -> impl Future<Output = Result<Value, Failure>> + Send {
        Lane::ask(self, command)
    }
}

/// Moves the bytes until the connections end. Dropping the driver closes the socket and fails what is under way.
async fn drive(driver: impl Future<Output = ()>, end: Arc<End>) {
    tokio::select! {
        biased;
        () = driver => { end.set("the connection was closed"); }
        _ = end.wait() => {}
    }
}

/// Why there is no good answer.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection has ended; what was sent may or may not have been done.
    Broken(String),
    /// The server has answered with an error.
    Refused(Refusal),
}

impl From<Failure> for RemoteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Broken(reason) => RemoteError::disconnected(reason),
            Failure::Refused(refusal) => refusal.into(),
        }
    }
}
