//! What can be broken between a node and the server.

use std::time::Duration;

/// What is broken now.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Every call fails at once.
    pub down: bool,
    /// Calls are taken and never answered, until this ends.
    pub hang: bool,
    /// Stores wait until this ends, then go through.
    pub hold_stores: bool,
    /// The same, and more, for one way alone.
    pub paths: [PathFaults; 3],
    /// Values are read from a replica, if there is one.
    pub read_from_replica: bool,
}

/// The ways from a node to the server: connections of their own, perhaps to different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Values.
    Values,
    /// What is asked of the log, but for following it.
    Log,
    /// Following the log.
    Follow,
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 3] = [Path::Values, Path::Log, Path::Follow];
}

/// What is broken on one way. By default nothing is, and nothing takes time.
#[derive(Clone, Debug, Default)]
pub struct PathFaults {
    /// Every call fails at once, and the link is down.
    pub down: bool,
    /// A black hole: requests and answers are held until this ends, or until the connection is [cut](super::TestRemote::cut).
    pub hang: bool,
    /// How long a request takes, and again its answer: at least and at most. What is on its way goes on when the caller
    /// gives up, or dies.
    pub delay: Option<(Duration, Duration)>,
    /// In how many of a thousand calls the request is lost, unnoticed.
    pub lose_requests: u16,
    /// In how many of a thousand calls the answer is lost, unnoticed.
    pub lose_answers: u16,
    /// How many of a thousand calls the server refuses: full, loading, read only.
    pub refuse: u16,
}

impl PathFaults {
    /// Does a call have to travel? Else it is done where it is made.
    pub(super) fn is_wire(&self) -> bool {
        self.delay.is_some() || self.lose_requests > 0 || self.lose_answers > 0 || self.refuse > 0
    }
}

impl Faults {
    /// Those of one way.
    pub fn on(&mut self, path: Path) -> &mut PathFaults {
        &mut self.paths[path as usize]
    }

    pub(super) fn is_down(&self, path: Path) -> bool {
        self.down || self.paths[path as usize].down
    }

    pub(super) fn hangs(&self, path: Path) -> bool {
        self.hang || self.paths[path as usize].hang
    }
}
