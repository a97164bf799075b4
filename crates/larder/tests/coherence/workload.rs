//! What goes on while things break: on every node one task that writes and some that read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::{Epoch, Runtime};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::rows;

/// Tasks that read, on each node.
const READERS: usize = 3;
/// Pauses in milliseconds are below these: between writes of one task, between reads of one task.
const WRITE_PAUSE: u64 = 120;
const READ_PAUSE: u64 = 4;
/// Of a hundred writes, how many invalidate; the others expire.
const HARD: u64 = 75;
/// Of a hundred reads, how many name a token, and how many take the shortest way.
const WITH_TOKEN: u64 = 15;
const SHORTEST: u64 = 40;
/// Before so many of a hundred reads somebody looks how far the log of the node has come.
const PROBES: u64 = 10;
/// Tokens that readers may name: the last ones.
const TOKENS: usize = 8;

pub(crate) struct Workload {
    shared: Arc<Shared>,
    readers: JoinSet<()>,
    writers: JoinSet<()>,
}

/// What all tasks share.
struct Shared {
    ledger: Arc<Ledger>,
    runtime: Arc<dyn Runtime>,
    keys: Vec<String>,
    tokens: Mutex<VecDeque<Epoch>>,
    stop: AtomicBool,
    stop_writing: AtomicBool,
}

impl Workload {
    pub(crate) fn new(ledger: &Arc<Ledger>, runtime: &Arc<dyn Runtime>) -> Self {
        let shared = Arc::new(Shared {
            ledger: ledger.clone(),
            runtime: runtime.clone(),
            keys: rows::all(),
            tokens: Mutex::default(),
            stop: AtomicBool::new(false),
            stop_writing: AtomicBool::new(false),
        });
        Workload { shared, readers: JoinSet::new(), writers: JoinSet::new() }
    }

    /// Begins on `node`; what is asked follows from `chance`.
    pub(crate) fn on(&mut self, node: &Arc<Node>, chance: &Chance) {
        self.writers.spawn(self.shared.clone().write(node.clone(), chance.branch()));
        for _ in 0..READERS {
            self.readers.spawn(self.shared.clone().read(node.clone(), chance.branch()));
        }
    }

    /// Ends it, and waits for what is under way.
    pub(crate) async fn end(mut self) {
        self.end_writing().await;
        self.shared.stop.store(true, Ordering::Release);
        self.readers.join_all().await;
    }

    /// Nothing is written any more, and what was under way is done; reads go on.
    pub(crate) async fn end_writing(&mut self) {
        self.shared.stop_writing.store(true, Ordering::Release);
        while let Some(writer) = self.writers.join_next().await {
            writer.unwrap();
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    async fn pause(&self, chance: &Chance, below: u64) {
        self.runtime.sleep(Duration::from_millis(chance.below(below))).await;
    }

    async fn write(self: Arc<Self>, node: Arc<Node>, chance: Chance) {
        loop {
            self.pause(&chance, WRITE_PAUSE).await;
            if self.stop_writing.load(Ordering::Acquire) {
                return;
            }
            let (selector, hard) = (rows::selector(&chance), chance.percent(HARD));
            let Some(written) = write(&self.ledger, &node, &selector, hard).await else { return };
            if let Some(token) = written {
                let mut tokens = self.tokens.lock();
                tokens.push_back(token);
                let old = tokens.len().saturating_sub(TOKENS);
                tokens.drain(..old);
            }
        }
    }

    async fn read(self: Arc<Self>, node: Arc<Node>, chance: Chance) {
        while self.goes_on() {
            self.pause(&chance, READ_PAUSE).await;
            if chance.percent(PROBES) {
                let Some(health) = node.health().await else { return };
                let _ = health.position.map(|position| self.ledger.reached(node.id, position));
            }
            let key = chance.one_of(&self.keys);
            let token = if chance.percent(WITH_TOKEN) {
                let tokens: Vec<_> = self.tokens.lock().iter().copied().collect();
                (!tokens.is_empty()).then(|| *chance.one_of(&tokens))
            } else {
                None
            };
            let how = if token.is_none() && chance.percent(SHORTEST) { "load" } else { "fetch" };
            if read(&self.ledger, &node, how, key, token).await.is_none() {
                return;
            }
        }
    }
}

/// Commits a write to all that `selector` names and invalidates it on `node`. Answers the token if it was delivered, and
/// nothing at all if the node is gone.
pub(crate) async fn write(ledger: &Ledger, node: &Node, selector: &str, hard: bool) -> Option<Option<Epoch>> {
    let number = ledger.commit(node.id, selector, hard);
    let mode = if hard { "hard" } else { "soft" };
    let answer = node.ask(&format!("{mode} {selector}")).await?;
    let token = match answer.split_once(' ') {
        Some(("delivered", token)) => Some(token.parse().unwrap()),
        None if answer == "queued" => None,
        _ => panic!("invalidate answers {answer:?}"),
    };
    ledger.returned(number, token);
    Some(token)
}

/// Reads and judges; answers how the read was answered, `None` if the node is gone.
pub(crate) async fn read(
    ledger: &Ledger,
    node: &Node,
    how: &str,
    key: &str,
    token: Option<Epoch>,
) -> Option<String> {
    let floor = ledger.floor(node.id, key, token);
    let question = match token {
        Some(token) => format!("{how} {key} {token}"),
        None => format!("{how} {key}"),
    };
    let got = node.read(&question).await?;
    ledger.judge(node.id, key, &floor, &got);
    Some(got.map_or_else(|error| error, |got| got.outcome))
}
