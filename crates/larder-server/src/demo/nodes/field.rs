//! What the workers share: the nodes, the rows, the rounds, and what has been counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::oracle::Wrong;
use super::process::Process;
use crate::demo::guide::Place;

/// One of the processes.
pub(super) struct Node {
    pub(super) log: PathBuf,
    state: RwLock<State>,
    /// `None` while it is down.
    pub(super) process: Mutex<Option<Process>>,
}

struct State {
    place: Place,
    up: bool,
    /// Counts its lives.
    life: u32,
}

/// A node in one of its lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alive {
    pub(super) node: usize,
    pub(super) place: Place,
    pub(super) life: u32,
}

impl Node {
    pub(super) fn new(log: PathBuf, process: Process, place: Place) -> Self {
        let state = State { place, up: true, life: 1 };
        Node { log, state: RwLock::new(state), process: Mutex::new(Some(process)) }
    }

    pub(super) fn place(&self) -> Place {
        self.state.read().place
    }

    /// From here on nobody asks it, and nobody minds if it does not answer what it was asked before.
    pub(super) fn goes_down(&self) -> Option<Process> {
        self.state.write().up = false;
        self.process.lock().take()
    }

    pub(super) fn comes_up(&self, process: Process, place: Place) {
        *self.process.lock() = Some(process);
        let mut state = self.state.write();
        *state = State { place, up: true, life: state.life + 1 };
    }
}

/// A row that is written and read.
pub(super) struct Row {
    pub(super) id: i64,
    /// Held while it is written: versions are in the order of the writes.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// The last version that anybody has begun to write.
    newest: AtomicU64,
    /// The last version that came with a token.
    told: Mutex<Option<(u64, String)>>,
}

impl Row {
    fn new(id: i64) -> Self {
        let writing = tokio::sync::Mutex::new(());
        Row { id, writing, newest: AtomicU64::new(0), told: Mutex::new(None) }
    }

    pub(super) fn next_version(&self) -> u64 {
        self.newest.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Called while `writing` is held.
    pub(super) fn was_told(&self, version: u64, token: &str) {
        *self.told.lock() = Some((version, token.to_owned()));
    }

    pub(super) fn told(&self) -> Option<(u64, String)> {
        self.told.lock().clone()
    }
}

/// What has been counted.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) writes: AtomicU64,
    /// Writes without a token: Redis was away.
    pub(super) queued: AtomicU64,
    /// Requests whose process was killed under them.
    pub(super) lost: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) with_token: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) late: AtomicU64,
}

pub(super) fn up(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A request that was answered wrongly, with what there is to know of it.
#[derive(Debug, Clone)]
pub(super) struct Offence {
    pub(super) round: u32,
    pub(super) alive: Alive,
    pub(super) request: String,
    /// Which write it is about.
    pub(super) about: String,
    pub(super) answer: String,
    pub(super) wrong: Wrong,
    pub(super) row: i64,
}

pub(super) struct Field {
    pub(super) nodes: Vec<Node>,
    pub(super) rows: Vec<Row>,
    pub(super) rounds: u32,
    begun: AtomicU32,
    over: AtomicBool,
    pub(super) done: watch::Sender<u32>,
    /// Rounds that may begin: those after it wait for a fault to be over.
    pub(super) allowed: watch::Sender<u32>,
    pub(super) counts: Counts,
    pub(super) offence: Mutex<Option<Offence>>,
}

impl Field {
    pub(super) fn new(nodes: Vec<Node>, rows: i64, rounds: u32) -> Self {
        Field {
            nodes,
            rows: (1..=rows).map(Row::new).collect(),
            rounds,
            begun: AtomicU32::new(0),
            over: AtomicBool::new(false),
            done: watch::Sender::new(0),
            allowed: watch::Sender::new(0),
            counts: Counts::default(),
            offence: Mutex::new(None),
        }
    }

    /// The number of the next round, once it may begin. `None` at the end.
    pub(super) async fn next_round(&self) -> Option<u32> {
        let round = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        if round > self.rounds {
            return None;
        }
        // The sender lives in `self`.
        let _ = self.allowed.subscribe().wait_for(|allowed| round <= *allowed).await;
        (!self.is_over()).then_some(round)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn alive(&self) -> Vec<Alive> {
        let of = |(node, n): (usize, &Node)| {
            let state = n.state.read();
            state.up.then_some(Alive { node, place: state.place, life: state.life })
        };
        self.nodes.iter().enumerate().filter_map(of).collect()
    }

    /// Is it the same process still?
    pub(super) fn lives(&self, alive: Alive) -> bool {
        let state = self.nodes[alive.node].state.read();
        state.up && state.life == alive.life
    }

    /// The first one counts; it ends the check.
    pub(super) fn accuse(&self, offence: Offence) {
        self.offence.lock().get_or_insert(offence);
        self.end();
    }

    /// Ends the check before its time: nobody waits any more, and no further round begins.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.allowed.send_replace(u32::MAX);
        self.done.send_replace(self.rounds);
    }
}
