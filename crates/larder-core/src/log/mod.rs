//! The invalidation log, as one node sees it.
//!
//! An invalidation is a record in one ordered log; the *stamps* are its snapshot: selector -> last position. Every node
//! keeps a local table of stamps, so that deciding whether an entry is valid is local, pure and cheap.
//!
//! Two clocks: `n`, a counter of everything applied in this process, orders loads, entries and invalidations here; the
//! [`Epoch`] orders what crosses processes. No wall clock orders anything.

mod driver;
mod lineage;
mod node;
mod table;

use std::fmt;

use crate::runtime::Moment;

pub(crate) use self::driver::Driver;
pub use self::driver::{Arrival, LogState};
pub use self::lineage::Lineage;
pub(crate) use self::node::{Batch, Node, Verdict};

/// A position in the log: a point of one uninterrupted line of history. Points of different lines compare only through
/// a [`Lineage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The line's name: 64 random bits.
    pub line: u64,
    /// The position on it: microseconds of the server's time, or one more than the last.
    pub at: u64,
}

impl std::str::FromStr for Epoch {
    type Err = NoEpoch;

    /// Reads what [`Display`](fmt::Display) wrote.
    fn from_str(text: &str) -> Result<Self, NoEpoch> {
        let (line, at) = text.split_once('-').ok_or(NoEpoch)?;
        let is = |part: &str, length, digit: fn(&u8) -> bool| {
            (1..=length).contains(&part.len()) && part.as_bytes().iter().all(digit)
        };
        if line.len() != 16 || !is(line, 16, u8::is_ascii_hexdigit) || !is(at, 16, u8::is_ascii_digit) {
            return Err(NoEpoch);
        }
        let line = u64::from_str_radix(line, 16).map_err(|_| NoEpoch)?;
        let at = at.parse().ok().filter(|at| *at < Self::END).ok_or(NoEpoch)?;
        Ok(Epoch { line, at })
    }
}

/// Text that is no position in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no position in a log: it is 16 hexadecimal digits, `-`, and a number below 2^52")]
pub struct NoEpoch;

impl Epoch {
    /// No position lies so far: the year 2112.
    const END: u64 = 1 << 52;
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.line, self.at)
    }
}

/// Where both clocks stood when a load began. Read as one pair, before the loader runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) n: u64,
    /// `None`: this node has no position yet, so what is loaded never goes to a remote tier.
    pub(crate) epoch: Option<Epoch>,
    /// When this node began to load it; zero if another one did, or if there are no others.
    pub(crate) loaded: Moment,
}

/// Hard: never served again. Soft: stale, may be served while it is loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// `expire`.
    Soft,
    /// `invalidate`.
    Hard,
}

impl Mode {
    /// As written in records and before the selector in stamps.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Soft => "s",
            Mode::Hard => "h",
        }
    }
}

/// One entry of the log, as a remote tier returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its own position.
    pub epoch: Epoch,
    /// The position of the record before it; `None` at the beginning of all history.
    pub prev: Option<Epoch>,
    /// What it says.
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// Nothing: a barrier, or the beginning of a line.
    Marker,
    /// An invalidation.
    Invalidation(Append),
    /// A record of a format this release does not know. Counts as "everything, hard".
    Unknown,
}

/// An invalidation as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Hard or soft.
    pub mode: Mode,
    /// What it names, as text.
    pub selectors: Vec<String>,
    /// Random; tells the writer its own record.
    pub op: u64,
    /// Who wrote it.
    pub author: Author,
}

/// Who made an invalidation, for whoever asks later. Decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The node.
    pub node: String,
    /// Why.
    pub reason: String,
    /// On whose behalf.
    pub actor: String,
}

/// What opening the log answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The last position.
    pub head: Epoch,
    /// Where older lines were cut.
    pub lineage: Lineage,
    /// The stamps hold every invalidation after this position.
    pub since: u64,
    /// The server's time, in milliseconds since the Unix epoch.
    pub server_ms: u64,
    /// Can the log tell its server from that server's successor? If not, an invalidation may be lost in a failover
    /// without anybody noticing.
    pub server_known: bool,
}

/// One row of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which column.
    pub mode: Mode,
    /// The selector, as text.
    pub selector: String,
    /// The position of the last invalidation that named it.
    pub at: u64,
}
