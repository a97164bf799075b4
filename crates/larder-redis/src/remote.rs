//! The port of the engine, on Redis.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    Append, BoxFuture, Epoch, Head, Link, Opened, Remote, RemoteError, Round, Runtime, Stamp, Stored,
};
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::watch;

use crate::config::Settings;
use crate::lane::{Failure, Lane};
use crate::link::Connector;
use crate::reply::{self, senseless};
use crate::scripts;

/// How long the keys of the log live unless they are used: nodes open the log once an hour.
const LOG_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Records kept in the stream, about. A node that is further behind reads the stamps instead.
const LOG_LENGTH: u32 = 10_000;
/// Selectors in one record. Lua passes at most 7999 arguments to a command; a selector is four of them.
const SELECTORS: usize = 1000;
/// Rows asked for at one time.
const SCAN_STEP: u32 = 1000;
/// Steps of one scan: far beyond two full generations. A hash that grows faster than it is read must not keep us for ever.
const SCAN_STEPS: usize = 100_000;
/// The longest life of a value. Redis adds it to the time, and refuses what does not fit in 63 bits.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A remote tier on Redis or Valkey. Made by [`Redis::build`](crate::Redis::build).
///
/// Nothing happens before [`connect`](Remote::connect). From then on one task keeps the connections open, until
/// [`close`](Remote::close) is called or this is dropped. Commands while there is no connection fail at once.
///
/// The runtime it was built with must be one on which Tokio's sockets work.
pub struct RedisRemote {
    connector: Arc<Connector>,
    runtime: Arc<dyn Runtime>,
    begun: AtomicBool,
}

impl RedisRemote {
    pub(crate) fn new(settings: Settings, runtime: Arc<dyn Runtime>) -> Self {
        let connector = Arc::new(Connector::new(settings, Arc::clone(&runtime)));
        RedisRemote { connector, runtime, begun: AtomicBool::new(false) }
    }

    fn settings(&self) -> &Settings {
        &self.connector.settings
    }

    /// The keys and first arguments of the scripts of the log.
    fn enter(&self, call: &mut Cmd, position: Option<Epoch>, nonce: u64) {
        let settings = self.settings();
        let keys = &settings.keys;
        call.arg(&keys.state).arg(&keys.log).arg(&keys.old).arg(hex(nonce));
        match position {
            Some(position) => call.arg(hex(position.line)).arg(position.at),
            None => call.arg("").arg(""),
        };
        call.arg(settings.stamp_limit).arg(LOG_LIFE.as_secs() * 1000).arg(LOG_LENGTH);
    }

    /// Asks where the log stands.
    fn ask_head(&self, pipeline: &mut Pipeline) {
        let keys = &self.settings().keys;
        pipeline.cmd("HMGET").arg(&keys.state).arg(&[".line", ".last", ".since"]);
        pipeline.cmd("HGET").arg(&keys.old).arg(".since");
    }
}

impl fmt::Debug for RedisRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings();
        f.debug_struct("RedisRemote")
            .field("address", &self.describe())
            .field("prefix", &settings.prefix)
            .field("link", &*self.connector.link().borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisRemote {
    fn drop(&mut self) {
        self.connector.close();
    }
}

impl Remote for RedisRemote {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let mut get = cmd("GET");
            get.arg(self.settings().keys.value(key));
            match session.values().ask(&get).await? {
                Value::Nil => Ok(None),
                Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
                _ => Err(senseless()),
            }
        })
    }

    fn store<'a>(
        &'a self,
        key: &'a [u8],
        bytes: Bytes,
        life: Duration,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        Box::pin(async move {
            let life = u64::try_from(life.min(LONGEST_LIFE).as_millis()).unwrap_or(u64::MAX);
            if life == 0 {
                return Err(RemoteError::refused("a life of less than a millisecond is not stored"));
            }
            let session = self.connector.session()?;
            let name = self.settings().keys.value(key);
            let (line, at) = (epoch.line.to_be_bytes(), epoch.at.to_be_bytes());
            let answer = scripts::STORE.run(session.values(), 1, |call| {
                call.arg(&name).arg(&*bytes).arg(life).arg(&line).arg(&at);
            });
            match answer.await? {
                Value::Int(1) => Ok(Stored::Stored),
                Value::Int(0) => Ok(Stored::Overtaken),
                _ => Err(senseless()),
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let mut unlink = cmd("UNLINK");
            unlink.arg(self.settings().keys.value(key));
            session.values().ask(&unlink).await?;
            Ok(())
        })
    }

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let answer =
                scripts::OPEN.run(session.log(), 3, |call| self.enter(call, position, nonce)).await?;
            reply::opened(&answer).ok_or_else(senseless)
        })
    }

    fn append<'a>(
        &'a self,
        record: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>> {
        Box::pin(async move {
            if record.selectors.is_empty() || record.selectors.len() > SELECTORS {
                let count = record.selectors.len();
                let why = format!("{count} selectors in one record; it takes 1..={SELECTORS}");
                return Err(RemoteError::refused(why));
            }
            let session = self.connector.session()?;
            let answer = scripts::APPEND.run(session.log(), 3, |call| {
                self.enter(call, position, nonce);
                call.arg(record.mode.as_str()).arg(hex(record.op));
                call.arg(&record.node).arg(&record.reason).arg(&record.actor).arg(&record.selectors);
            });
            reply::appended(&answer.await?).ok_or_else(senseless)
        })
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let keys = &self.settings().keys;
            let mut stamps = Vec::new();
            // In this order: a rotation in between moves what is not read yet to where it will be read.
            for hash in [&keys.state, &keys.old] {
                scan_hash(session.log(), hash, &mut stamps).await?;
            }
            Ok(stamps)
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let mut look = Pipeline::new();
            self.ask_head(&mut look);
            let answers = session.log().ask_all(&look).await?;
            let [state, old] = <[_; 2]>::try_from(answers).map_err(|_| senseless())?;
            let (state, old) = (ours(state)?, ours(old)?);
            Ok(state.and_then(|state| reply::head(&state, old.as_ref())))
        })
    }

    fn read(&self, position: Epoch, limit: usize) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let session = self.connector.session()?;
            let mut look = Pipeline::new();
            self.ask_head(&mut look);
            // XREAD is exclusive by nature; XRANGE only since Redis 6.2.
            let log = &self.settings().keys.log;
            let behind = format!("{}-0", position.at);
            look.cmd("XREAD").arg("COUNT").arg(limit.max(1)).arg("STREAMS").arg(log).arg(behind);
            let answers = session.log().ask_all(&look).await?;
            let [state, _, records] = <[_; 3]>::try_from(answers).map_err(|_| senseless())?;
            let head = ours(state)?.and_then(|state| reply::head(&state, None)).map(|head| head.epoch);
            let records = match ours(records)? {
                Some(records) => reply::records(&records).ok_or_else(senseless)?,
                None => Vec::new(),
            };
            Ok(Round { head, records })
        })
    }

    fn connect(&self) {
        if !self.begun.swap(true, Ordering::Relaxed) {
            self.runtime.spawn(Box::pin(Arc::clone(&self.connector).run()));
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.connector.link()
    }

    fn close(&self) {
        self.connector.close();
    }

    fn describe(&self) -> String {
        self.settings().address.to_string()
    }
}

fn hex(bits: u64) -> String {
    format!("{bits:016x}")
}

/// An answer about a key of the log; `None` where the key is of another type. That is as good as no key, to the scripts too.
fn ours(answer: Result<Value, Failure>) -> Result<Option<Value>, RemoteError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused(refusal)) if refusal.is_wrong_type() => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

async fn scan_hash(lane: &Lane, hash: &str, stamps: &mut Vec<Stamp>) -> Result<(), RemoteError> {
    let mut cursor = "0".to_owned();
    for _ in 0..SCAN_STEPS {
        let mut step = cmd("HSCAN");
        step.arg(hash).arg(&cursor).arg("COUNT").arg(SCAN_STEP);
        let Some(answer) = ours(lane.ask(&step).await)? else {
            return Ok(());
        };
        let (next, rows) = reply::stamps(&answer).ok_or_else(senseless)?;
        stamps.extend(rows);
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
    Err(RemoteError::refused("the stamps grow faster than they can be read"))
}
