//! The log: a stream and its snapshot, in one place.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Append, Epoch, Head, Opened, Record, RemoteError, Round, Runtime, Stamp};
use redis::{Cmd, Pipeline, Value, cmd};

use crate::deadline::within;
use crate::keys::{Keys, hex};
use crate::lane::{Failure, Lane};
use crate::lanes::LogLanes;
use crate::link::{Keeper, Wiring};
use crate::reply::{self, senseless};
use crate::scripts;

/// How long the keys of the log live unless they are used: nodes open the log once a minute.
const LOG_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Records kept in the stream, about: of one selector, and of very many, or a stream of long lists would take gigabytes.
/// A node that is further behind reads the stamps instead.
const LOG_LENGTH: (usize, usize) = (10_000, 1000);
/// Selectors in one record. Lua passes at most 7999 arguments to a command; a selector is four of them.
const SELECTORS: usize = 1000;
/// Rows asked for at one time.
const SCAN_STEP: u32 = 1000;
/// How long one step may take: the caller's limit is for all of them.
const SCAN_STEP_LIMIT: Duration = Duration::from_secs(1);
/// Steps of one scan: far beyond two full generations. A hash that grows faster than it is read must not keep us for ever.
const SCAN_STEPS: usize = 100_000;
/// The longest that the server is asked to wait for a record. (For 0 ms it would wait for ever.)
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

/// The log on its connections.
#[derive(Debug)]
pub(crate) struct Log {
    wiring: Arc<Wiring>,
    pub(crate) keeper: Arc<Keeper<LogLanes>>,
}

impl Log {
    pub(crate) fn new(wiring: &Arc<Wiring>, keeper: Keeper<LogLanes>) -> Self {
        Log { wiring: Arc::clone(wiring), keeper: Arc::new(keeper) }
    }

    fn keys(&self) -> &Keys {
        &self.wiring.settings.keys
    }

    /// The keys and first arguments of the scripts.
    fn enter(&self, call: &mut Cmd, position: Option<Epoch>, nonce: u64, selectors: usize) {
        let keys = self.keys();
        call.arg(&keys.state).arg(&keys.log).arg(&keys.old).arg(hex(nonce));
        match position {
            Some(position) => call.arg(hex(position.line)).arg(position.at),
            None => call.arg("").arg(""),
        };
        let kept = (LOG_LENGTH.0 / selectors.max(1)).max(LOG_LENGTH.1);
        call.arg(self.wiring.settings.stamp_limit).arg(LOG_LIFE.as_secs() * 1000).arg(kept);
    }

    pub(crate) async fn open(&self, position: Option<Epoch>, nonce: u64) -> Result<Opened, RemoteError> {
        let lanes = self.keeper.lanes()?;
        let answer = scripts::OPEN.run(&*lanes.commands, 3, |call| self.enter(call, position, nonce, 1));
        reply::opened(&answer.await?).ok_or_else(senseless)
    }

    pub(crate) async fn append(
        &self,
        record: &Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> Result<Epoch, RemoteError> {
        if record.selectors.is_empty() || record.selectors.len() > SELECTORS {
            let count = record.selectors.len();
            let why = format!("{count} selectors in one record; it takes 1..={SELECTORS}");
            return Err(RemoteError::refused(why));
        }
        let lanes = self.keeper.lanes()?;
        let answer = scripts::APPEND.run(&*lanes.commands, 3, |call| {
            self.enter(call, position, nonce, record.selectors.len());
            let author = &record.author;
            call.arg(record.mode.as_str()).arg(hex(record.op));
            call.arg(&author.node).arg(&author.reason).arg(&author.actor).arg(&record.selectors);
        });
        reply::appended(&answer.await?).ok_or_else(senseless)
    }

    pub(crate) async fn scan(&self) -> Result<Vec<Stamp>, RemoteError> {
        let lanes = self.keeper.lanes()?;
        let mut stamps = Vec::new();
        // In this order: a rotation in between moves what is not read yet to where it will be read.
        for hash in [&self.keys().state, &self.keys().old] {
            scan_hash(&lanes.commands, &*self.wiring.runtime, hash, &mut stamps).await?;
        }
        Ok(stamps)
    }

    pub(crate) async fn head(&self) -> Result<Option<Head>, RemoteError> {
        let lanes = self.keeper.lanes()?;
        let mut look = Pipeline::new();
        look.cmd("HMGET").arg(&self.keys().state).arg(&[".line", ".last", ".since", ".lineage"]);
        look.cmd("HGET").arg(&self.keys().old).arg(".since");
        let answers = lanes.commands.ask_all(&look).await?;
        let [state, old] = <[_; 2]>::try_from(answers).map_err(|_| senseless())?;
        let (state, old) = (ours(state)?, ours(old)?);
        Ok(state.and_then(|state| reply::head(&state, old.as_ref())))
    }

    pub(crate) async fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> Result<Round, RemoteError> {
        let lanes = self.keeper.lanes()?;
        let wait = if wait.is_zero() { wait } else { wait.clamp(WAITS.0, WAITS.1) };
        let mut peek = Pipeline::new();
        peek.cmd("HMGET").arg(&self.keys().state).arg(&[".line", ".last"]);
        let mut state = lanes.follower.ask_all(&peek, Duration::ZERO).await?;
        let state = ours(state.pop().ok_or_else(senseless)?)?;
        let head = state.and_then(|state| reply::peek(&state));
        // A log that has nothing to tell is waited for; one that stands elsewhere is read as it is, or the caller would
        // learn of the gap only when something comes.
        let wait = if head == Some(position) { wait } else { Duration::ZERO };
        let mut read = Pipeline::new();
        let call = read.cmd("XREAD");
        if !wait.is_zero() {
            call.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        // XREAD is exclusive by nature; XRANGE only since Redis 6.2.
        let behind = format!("{}-0", position.at);
        call.arg("COUNT").arg(limit.max(1)).arg("STREAMS").arg(&self.keys().log).arg(behind);
        let mut records = lanes.follower.ask_all(&read, wait).await?;
        let records = match ours(records.pop().ok_or_else(senseless)?)? {
            Some(records) => reply::records(&records).ok_or_else(senseless)?,
            None => {
                // The server does not wait on what is no stream; a caller that asks again at once would never rest.
                self.wiring.runtime.sleep(wait).await;
                Vec::new()
            }
        };
        Ok(Round { head, records })
    }

    pub(crate) async fn history(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Record>, RemoteError> {
        let lanes = self.keeper.lanes()?;
        // An exclusive bound exists only since Redis 6.2. A position without a sequence number means the last of it.
        let newest = match before.map(|before| before.checked_sub(1)) {
            None => "+".to_owned(),
            Some(Some(at)) => at.to_string(),
            Some(None) => return Ok(Vec::new()),
        };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut look = cmd("XREVRANGE");
        look.arg(&self.keys().log).arg(newest).arg("-").arg("COUNT").arg(limit);
        match ours(lanes.commands.ask(&look).await)? {
            Some(entries) => reply::entries_of(&entries).ok_or_else(senseless),
            None => Ok(Vec::new()),
        }
    }
}

/// An answer about a key of the log; `None` where the key is of another type. That is as good as no key, to the scripts too.
fn ours(answer: Result<Value, Failure>) -> Result<Option<Value>, RemoteError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused(refusal)) if refusal.is_wrong_type() => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

async fn scan_hash(
    lane: &Lane,
    runtime: &dyn Runtime,
    hash: &str,
    stamps: &mut Vec<Stamp>,
) -> Result<(), RemoteError> {
    let mut cursor = "0".to_owned();
    for _ in 0..SCAN_STEPS {
        let mut step = cmd("HSCAN");
        step.arg(hash).arg(&cursor).arg("COUNT").arg(SCAN_STEP);
        let answer = within(runtime, SCAN_STEP_LIMIT, lane.ask(&step)).await;
        let answer = answer.ok_or_else(|| RemoteError::timeout(SCAN_STEP_LIMIT))?;
        let Some(answer) = ours(answer)? else {
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
