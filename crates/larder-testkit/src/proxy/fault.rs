//! What can be wrong with a network.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A fault of the network between a client and its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes at once.
    #[default]
    None,
    /// Answers come this much later, so a round trip takes this much longer. They do not queue up behind each other:
    /// two answers sent together are both late by this, not the second by twice as much.
    Latency(Duration),
    /// Connections are accepted, then nothing passes either way, not even that a side has closed. What was sent is
    /// held and arrives when the fault ends: the late answer is part of the test.
    BlackHole,
    /// Connections, open and new, are reset (RST). What was held is lost.
    Reset,
    /// Requests reach the server and have their effect, but answers are held until the fault ends.
    HalfOpen,
    /// Answers come in pieces: this many bytes (at least one) after each wait of this length.
    Trickle {
        /// Size of a piece. 0 counts as 1.
        bytes: usize,
        /// Wait before each piece.
        every: Duration,
    },
    /// New connections are closed as soon as they are accepted; open ones work on.
    Refuse,
}

/// What the connections of a proxy watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Setting {
    pub(super) fault: Fault,
    /// What a client must have sent for the fault to concern its connection; `None`: it concerns all.
    pub(super) only: Option<Arc<[u8]>>,
    /// How often [`Fault::Reset`] was set so far.
    pub(super) resets: u64,
}

impl Setting {
    /// What to do with bytes of a connection that was accepted after so many `resets` and whose client has `said` this,
    /// going `direction`.
    pub(super) fn verdict(&self, resets: u64, said: &Said, direction: Direction) -> Verdict {
        if self.resets != resets {
            // The connection is about to be reset, though not by the lane that asks: whatever the fault is by now, what was
            // held must not slip out before that.
            Verdict::Hold
        } else if self.only.as_deref().is_none_or(|bytes| said.has(bytes)) {
            self.fault.verdict(direction)
        } else {
            Verdict::Pass
        }
    }
}

/// How much of what a client has sent is remembered: some hundred commands, so that a connection is known by those of
/// the last seconds.
const REMEMBERED: usize = 64 << 10;

/// The last that the client of a connection has sent.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<VecDeque<u8>>);

impl Said {
    /// The client has sent `bytes`.
    pub(super) fn hear(&self, bytes: &[u8]) {
        let mut said = self.0.lock();
        said.extend(bytes);
        let forgotten = said.len().saturating_sub(REMEMBERED);
        said.drain(..forgotten);
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let mut said = self.0.lock();
        bytes.is_empty() || said.make_contiguous().windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Client to server.
    Requests,
    /// Server to client.
    Answers,
}

/// What to do with bytes that wait to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass all of them.
    Pass,
    /// Pass none until the fault changes.
    Hold,
    /// Pass all of them once they are this old.
    Age(Duration),
    /// Wait this long, then pass so many.
    Piece(usize, Duration),
}

impl Fault {
    /// What this fault does to bytes going `direction`.
    fn verdict(self, direction: Direction) -> Verdict {
        let answers = direction == Direction::Answers;
        match self {
            Self::BlackHole => Verdict::Hold,
            Self::HalfOpen if answers => Verdict::Hold,
            Self::Latency(age) if answers => Verdict::Age(age),
            Self::Trickle { bytes, every } if answers => Verdict::Piece(bytes.max(1), every),
            // A reset ends the connections that were open; it does nothing to the bytes of those that are not.
            Self::None
            | Self::Refuse
            | Self::Reset
            | Self::HalfOpen
            | Self::Latency(_)
            | Self::Trickle { .. } => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held by a half-open connection, then reset, then healed: the lane may look at any of these moments.
    #[test]
    fn bytes_of_a_connection_that_is_to_be_reset_are_held_whatever_the_fault_is_by_now() {
        let faults = [Fault::None, Fault::Reset, Fault::Refuse, Fault::HalfOpen, Fault::BlackHole];
        let said = Said::default();
        for fault in faults {
            for only in [None, Some("nobody said this".as_bytes().into())] {
                for direction in [Direction::Requests, Direction::Answers] {
                    let setting = Setting { fault, only: only.clone(), resets: 3 };
                    assert_eq!(
                        setting.verdict(2, &said, direction),
                        Verdict::Hold,
                        "{fault:?} {direction:?}"
                    );
                }
            }
        }
        let healed = Setting { resets: 3, ..Setting::default() };
        assert_eq!(healed.verdict(3, &said, Direction::Answers), Verdict::Pass);
    }

    #[test]
    fn what_a_client_has_said_is_known_across_chunks_and_forgotten_after_64_kib() {
        let said = Said::default();
        said.hear(b"XREAD {lar");
        assert!(!said.has(b"{larder}:"));
        said.hear(b"der}:log 0");
        assert!(said.has(b"{larder}:"));
        said.hear(&[b'.'; REMEMBERED - 10]);
        assert!(!said.has(b"{larder}:") && said.has(b"r}:log 0."));
    }
}
