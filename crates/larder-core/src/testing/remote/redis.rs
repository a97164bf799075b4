//! A server in this process, with a replica and successors: values, log, clock, and what can befall them.

mod commands;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::happening::{Happening, LeaseEnd, Watcher};
use super::leases::{Lease, Shares, may_store, micros};
use super::log::{Call, Log, Step};
use crate::EPOCH_OFFSET;
use crate::log::{Append, Epoch, Opened, Record, Stamp};
use crate::remote::{
    Cursor, Head, LeaseAnswer, LeaseRequest, PEEKED, Page, RemoteError, Store, StoreLease, Stored, Wake,
};
use crate::runtime::{Moment, Runtime};

/// What the server's clock shows when the runtime's stands at [`Moment::ORIGIN`], in microseconds since the Unix epoch.
const BEGINNING_US: u64 = 1_600_000_000_000_000;
/// Scripts that a replica may be behind, at the most.
const MOST_BEHIND: usize = 64;

/// How a simulated server is set up.
#[derive(Clone, Copy, Debug)]
pub struct RedisOptions {
    /// Stamps kept in a generation, control fields included. Default: as in production, 65 536.
    pub stamp_limit: usize,
    /// Records kept in the stream. Default: 10 000.
    pub records: usize,
    /// Is there a replica, to fail over to and to read values from? How far it is behind. Default: none.
    pub replica: Option<Duration>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        RedisOptions { stamp_limit: 65_536, records: 10_000, replica: None }
    }
}

/// Servers, one of them the primary. Times are those of the runtime it is made with, plus a clock that can be stepped.
pub struct TestRedis {
    runtime: Arc<dyn Runtime>,
    options: RedisOptions,
    servers: Mutex<Servers>,
    pub(super) appended: Notify,
    watcher: Option<Watcher>,
    rings: Mutex<BTreeMap<u64, Ring>>,
    /// Every call that would change something is refused, as by a server whose disk is full.
    refuses_writes: AtomicBool,
}

/// Sends a wake on its way to a node.
pub(super) type Ring = Box<dyn Fn(Wake) + Send + Sync>;

impl fmt::Debug for TestRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRedis").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What is under a key.
type Got = Result<Option<Bytes>, RemoteError>;

struct Servers {
    /// By identity.
    all: BTreeMap<u64, Server>,
    primary: u64,
    last_id: u64,
    gets: usize,
    /// When a connection was last told of the log by a server that is not the primary.
    misled: BTreeMap<u64, Moment>,
}

struct Server {
    /// Its clock less that of the runtime.
    ahead_us: i64,
    data: Data,
    replica: Option<Replica>,
}

/// What one server process holds.
#[derive(Clone, Default)]
struct Data {
    values: BTreeMap<Vec<u8>, Value>,
    leases: BTreeMap<Vec<u8>, Lease>,
    shares: Shares,
    log: Log,
}

#[derive(Clone)]
struct Value {
    bytes: Bytes,
    /// By the server's clock, as Redis has it.
    until_us: u64,
    /// It is no string, and its bytes are none.
    is_other: bool,
}

/// One thing done to the data. Replicas do the same, later.
#[derive(Clone)]
enum Effect {
    Set {
        key: Vec<u8>,
        value: Value,
    },
    Remove {
        key: Vec<u8>,
    },
    Lease {
        key: Vec<u8>,
        lease: Option<Lease>,
    },
    Log(Step),
    /// FLUSHALL.
    Flush,
    Lost(Lost),
}

/// What an eviction, or a hand, takes away. Redis replicates both like commands.
#[derive(Clone, Copy)]
enum Lost {
    Log,
    Leases,
    Records,
    State,
    Old,
    /// All records but so many.
    RecordsBut(usize),
}

/// The same data, some scripts behind.
struct Replica {
    data: Data,
    behind: VecDeque<(Moment, Vec<Effect>)>,
}

impl Data {
    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Set { key, value } => {
                self.values.insert(key.clone(), value.clone());
            }
            Effect::Remove { key } => {
                self.values.remove(key);
            }
            Effect::Lease { key, lease: Some(lease) } => {
                self.leases.insert(key.clone(), lease.clone());
            }
            Effect::Lease { key, lease: None } => {
                self.leases.remove(key);
            }
            Effect::Log(step) => self.log.apply(step),
            Effect::Flush => *self = Data::default(),
            Effect::Lost(lost) => match *lost {
                Lost::Log => self.log = Log::default(),
                Lost::Leases => self.leases.clear(),
                Lost::Records => self.log.lose_records(),
                Lost::State => self.log.lose_state(),
                Lost::Old => self.log.lose_old(),
                Lost::RecordsBut(kept) => self.log.trim(kept),
            },
        }
    }

    fn lease(&self, key: &[u8], now_us: u64) -> Option<&Lease> {
        self.leases.get(key).filter(|lease| lease.lives(now_us))
    }

    fn get(&self, key: &[u8], now_us: u64) -> Option<&Bytes> {
        self.values.get(key).filter(|value| now_us < value.until_us).map(|value| &value.bytes)
    }
}

impl Replica {
    fn catch_up(&mut self, until: Moment) {
        while self.behind.len() > MOST_BEHIND || self.behind.front().is_some_and(|(at, _)| *at <= until) {
            for effect in self.behind.pop_front().iter().flat_map(|(_, effects)| effects) {
                self.data.apply(effect);
            }
        }
    }
}

impl Server {
    fn new(data: Data, ahead_us: i64, options: &RedisOptions) -> Self {
        let replica = options.replica.map(|_| Replica { data: data.clone(), behind: VecDeque::new() });
        Server { ahead_us, data, replica }
    }

    /// What one script does is replicated as one.
    fn commit(&mut self, effects: Vec<Effect>, now: Moment) {
        effects.iter().for_each(|effect| self.data.apply(effect));
        if let Some(replica) = self.replica.as_mut().filter(|_| !effects.is_empty()) {
            replica.behind.push_back((now, effects));
            replica.catch_up(Moment::default());
        }
    }

    fn clock_us(&self, now: Moment) -> u64 {
        let up: u64 = now.since(Moment::ORIGIN).as_micros().try_into().unwrap_or(u64::MAX);
        BEGINNING_US.saturating_add(up).saturating_add_signed(self.ahead_us)
    }
}

impl TestRedis {
    /// One empty server.
    pub fn new(runtime: Arc<dyn Runtime>, options: RedisOptions) -> Arc<Self> {
        Self::watched(runtime, options, None)
    }

    /// One empty server. `watcher` is told what happens, under the server's lock: it must not call it.
    pub fn watched(runtime: Arc<dyn Runtime>, options: RedisOptions, watcher: Option<Watcher>) -> Arc<Self> {
        let first = Server::new(Data::default(), 0, &options);
        let servers = Servers {
            all: BTreeMap::from([(1, first)]),
            primary: 1,
            last_id: 1,
            gets: 0,
            misled: BTreeMap::new(),
        };
        let (servers, appended) = (Mutex::new(servers), Notify::new());
        Arc::new(TestRedis {
            runtime,
            options,
            servers,
            appended,
            watcher,
            rings: Mutex::default(),
            refuses_writes: AtomicBool::new(false),
        })
    }

    pub(super) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    fn tell(&self, happening: &Happening) {
        if let Some(watcher) = &self.watcher {
            watcher(happening);
        }
    }

    fn on_primary<T>(&self, work: impl FnOnce(&mut Server) -> T) -> T {
        let mut servers = self.servers.lock();
        let primary = servers.primary;
        work(servers.all.get_mut(&primary).expect("there is always a primary"))
    }

    /// Something befalls the primary; its replica hears of it as it hears of commands.
    fn befall(&self, effect: Effect) {
        let now = self.runtime.now();
        self.on_primary(|server| server.commit(vec![effect], now));
    }

    /// The server that takes writes now: its identity.
    pub fn primary(&self) -> u64 {
        self.servers.lock().primary
    }

    /// Where the primary's log stands.
    pub fn standing(&self) -> Option<Epoch> {
        self.on_primary(|server| server.data.log.head()).map(|head| head.epoch)
    }

    /// Scripts that the replica has not run yet: what a failover may lose.
    pub fn unreplicated(&self) -> usize {
        self.on_primary(|server| server.replica.as_ref().map_or(0, |replica| replica.behind.len()))
    }

    /// From now on whatever would change something is refused, or taken again: MISCONF, NOREPLICAS. Reads are answered.
    pub fn refuse_writes(&self, refused: bool) {
        self.refuses_writes.store(refused, Ordering::Release);
    }

    pub(super) fn refuses_writes(&self) -> bool {
        self.refuses_writes.load(Ordering::Acquire)
    }

    /// The last of these: what to lose so that the last FLUSHALL is undone. None if the replica has run that already.
    pub fn since_flush(&self) -> usize {
        let is_flush = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Flush));
        self.on_primary(|server| {
            let behind = server.replica.iter().flat_map(|replica| replica.behind.iter().rev());
            behind.enumerate().find(|(_, (_, effects))| is_flush(effects)).map_or(0, |(at, _)| at + 1)
        })
    }

    /// Is that server there still?
    pub(super) fn lives(&self, server: u64) -> bool {
        self.servers.lock().all.contains_key(&server)
    }

    /// FLUSHALL.
    pub fn flush(&self) {
        self.befall(Effect::Flush);
    }

    /// All of the log is lost, the values stay.
    pub fn lose_log(&self) {
        self.befall(Effect::Lost(Lost::Log));
    }

    /// All leases are evicted.
    pub fn lose_leases(&self) {
        self.befall(Effect::Lost(Lost::Leases));
    }

    /// The leases that live.
    pub fn leases(&self) -> Vec<u64> {
        let now = self.runtime.now();
        self.on_primary(|server| {
            let now_us = server.clock_us(now);
            server.data.leases.values().filter(|lease| lease.lives(now_us)).map(|lease| lease.token).collect()
        })
    }

    /// `:log` alone is evicted.
    pub fn lose_records(&self) {
        self.befall(Effect::Lost(Lost::Records));
    }

    /// `:state` alone is evicted: the stamps, and where the log stands.
    pub fn lose_state(&self) {
        self.befall(Effect::Lost(Lost::State));
    }

    /// `:old` alone is evicted: the older stamps.
    pub fn lose_old(&self) {
        self.befall(Effect::Lost(Lost::Old));
    }

    /// The stream is trimmed to `kept` records.
    pub fn trim(&self, kept: usize) {
        self.befall(Effect::Lost(Lost::RecordsBut(kept)));
    }

    /// Steps the clock of the primary.
    pub fn step_clock(&self, by: Duration, back: bool) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.on_primary(|server| server.ahead_us += if back { -by } else { by });
    }

    /// Another process takes over, with the data less the last `lost` scripts; answers the records that are lost with
    /// them. `deposed_answers`: the old one stays, for those who are connected to it. A restart is the same with nobody left.
    /// `values_stay`: of what is lost only the log is; values are on another shard, which has lost nothing.
    ///
    /// Without a replica nothing can be lost.
    pub fn fail_over(
        &self,
        lost: usize,
        values_stay: bool,
        deposed_answers: bool,
        ahead_us: i64,
    ) -> Vec<Epoch> {
        let mut servers = self.servers.lock();
        let old = servers.primary;
        let deposed = servers.all.get_mut(&old).expect("there is always a primary");
        let mut gone = Vec::new();
        let data = match deposed.replica.take() {
            Some(mut replica) => {
                let kept = replica.behind.len().saturating_sub(lost);
                let tail: Vec<_> = replica.behind.drain(kept..).flat_map(|(_, effects)| effects).collect();
                gone.extend(tail.iter().filter_map(|effect| match effect {
                    Effect::Log(Step::Record { record, .. }) => Some(record.epoch),
                    _ => None,
                }));
                replica.catch_up(Moment::from_nanos(u64::MAX));
                let of_values = |effect: &&Effect| {
                    matches!(effect, Effect::Set { .. } | Effect::Remove { .. } | Effect::Lease { .. })
                };
                tail.iter().filter(of_values).filter(|_| values_stay).for_each(|e| replica.data.apply(e));
                replica.data
            }
            None => deposed.data.clone(),
        };
        if !deposed_answers {
            servers.all.remove(&old);
        }
        servers.begin(Server::new(data, ahead_us, &self.options));
        drop(servers);
        self.appended.notify_waiters();
        gone
    }

    /// The primary is replaced by one that holds nothing.
    pub fn restart_empty(&self) {
        let mut servers = self.servers.lock();
        let old = servers.primary;
        let ahead_us = servers.all.remove(&old).map_or(0, |old| old.ahead_us);
        servers.begin(Server::new(Data::default(), ahead_us, &self.options));
        drop(servers);
        self.appended.notify_waiters();
    }

    /// A server that was deposed ends.
    pub fn end_deposed(&self) {
        let mut servers = self.servers.lock();
        let primary = servers.primary;
        servers.all.retain(|id, _| *id == primary);
        drop(servers);
        self.appended.notify_waiters();
    }

    /// When did a server that had been deposed last tell of the log, on that connection?
    pub fn misled(&self, connection: u64) -> Option<Moment> {
        self.servers.lock().misled.get(&connection).copied()
    }

    pub(super) fn bytes(&self, key: &[u8]) -> Option<Bytes> {
        self.on_primary(|server| server.data.values.get(key).map(|value| value.bytes.clone()))
    }

    /// Puts bytes under a key, as some other program would.
    pub fn plant(&self, key: &[u8], bytes: Bytes) {
        self.put(key, bytes, false);
    }

    /// Puts something under a key that is no string.
    pub fn plant_other_type(&self, key: &[u8]) {
        self.put(key, Bytes::new(), true);
    }

    fn put(&self, key: &[u8], bytes: Bytes, is_other: bool) {
        let now = self.runtime.now();
        self.on_primary(|server| {
            let until_us = server.clock_us(now) + 3_600_000_000;
            server.data.values.insert(key.to_vec(), Value { bytes, until_us, is_other });
        });
    }

    /// Appends a record of a kind that nobody knows, as a newer version would.
    pub fn append_unknown(&self) -> Option<Epoch> {
        let now = self.runtime.now();
        let appended = self.on_primary(|server| {
            let now_us = server.clock_us(now);
            let (step, epoch) = server.data.log.unknown(now_us, self.options.records)?;
            server.commit(vec![Effect::Log(step)], now);
            Some(epoch)
        });
        self.appended.notify_waiters();
        appended
    }

    pub(super) fn len(&self) -> usize {
        self.on_primary(|server| server.data.values.len())
    }

    pub(super) fn gets(&self) -> usize {
        self.servers.lock().gets
    }
}

impl Servers {
    fn begin(&mut self, server: Server) {
        self.last_id += 1;
        self.primary = self.last_id;
        self.all.insert(self.last_id, server);
    }
}

/// Where a command goes, and whence.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) server: u64,
    pub(super) connection: u64,
}

/// Was anything but a marker appended? (For watchers.)
fn epoch_of(bytes: &[u8]) -> Option<Epoch> {
    let line = bytes.get(EPOCH_OFFSET..EPOCH_OFFSET + 8)?.try_into().ok()?;
    let at = bytes.get(EPOCH_OFFSET + 8..EPOCH_OFFSET + 16)?.try_into().ok()?;
    Some(Epoch { line: u64::from_be_bytes(line), at: u64::from_be_bytes(at) })
}
