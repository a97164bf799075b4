//! What can be wrong with a network.

use std::time::Duration;

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
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setting {
    pub(super) fault: Fault,
    /// How often [`Fault::Reset`] was set so far.
    pub(super) resets: u64,
}

impl Setting {
    /// What to do with bytes of a connection that was accepted after so many `resets`, going `direction`.
    pub(super) fn verdict(self, resets: u64, direction: Direction) -> Verdict {
        // The connection is about to be reset, though not by the lane that asks: whatever the fault is by now, what was
        // held must not slip out before that.
        if self.resets == resets { self.fault.verdict(direction) } else { Verdict::Hold }
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
        for fault in faults {
            for direction in [Direction::Requests, Direction::Answers] {
                let setting = Setting { fault, resets: 3 };
                assert_eq!(setting.verdict(2, direction), Verdict::Hold, "{fault:?} {direction:?}");
            }
        }
        assert_eq!(Setting { fault: Fault::None, resets: 3 }.verdict(3, Direction::Answers), Verdict::Pass);
    }
}
