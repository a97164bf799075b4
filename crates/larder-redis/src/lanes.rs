//! The connections that begin and end together: those for values to one server, those for the log, the one for wakes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::{Cmd, cmd};

use crate::end::{End, EndOnDrop};
use crate::endpoint::Endpoint;
use crate::follower::Follower;
use crate::gather::Reads;
use crate::greet;
use crate::lane::{Lane, Purpose};
use crate::link::Wiring;
use crate::wakes;

/// Connections to one server.
pub(crate) trait Lanes: Sized + Send + Sync + 'static {
    /// Opens all of them. The error is a reason for people.
    fn open(wiring: &Arc<Wiring>, server: &Endpoint) -> impl Future<Output = Result<Self, String>> + Send;

    /// The end of any of them, which is the end of all.
    fn end(&self) -> &End;
}

/// Connections for values, used in turn.
#[derive(Debug)]
pub(crate) struct ValueLanes {
    lanes: Vec<Arc<Reads>>,
    turn: AtomicUsize,
    end: Arc<End>,
}

impl ValueLanes {
    /// The connection whose turn it is.
    pub(crate) fn next(&self) -> &Arc<Lane> {
        self.next_reads().lane()
    }

    /// The reads on the connection whose turn it is.
    pub(crate) fn next_reads(&self) -> &Arc<Reads> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.lanes[turn % self.lanes.len()]
    }
}

impl Lanes for ValueLanes {
    async fn open(wiring: &Arc<Wiring>, server: &Endpoint) -> Result<Self, String> {
        let end = End::new();
        let unused = EndOnDrop::new(&end);
        let mut lanes = Vec::with_capacity(wiring.settings.connections);
        for _ in 0..wiring.settings.connections {
            let lane = greet::open(wiring, server, Purpose::Values, &end).await?;
            lanes.push(Reads::on(lane, &wiring.runtime));
        }
        let question = || greet::question(&wiring.settings, Purpose::Values);
        for (i, reads) in lanes.iter().enumerate() {
            // One of them asks what matters of the server, the others whether anybody is there.
            let question = if i == 0 { question() } else { cmd("PING") };
            watch_over(wiring, reads.lane(), question);
        }
        unused.release();
        Ok(ValueLanes { lanes, turn: AtomicUsize::new(0), end })
    }

    fn end(&self) -> &End {
        &self.end
    }
}

impl Drop for ValueLanes {
    fn drop(&mut self) {
        self.end.let_go();
    }
}

/// The connections of the log: no large value stands before an invalidation.
#[derive(Debug)]
pub(crate) struct LogLanes {
    /// For commands.
    pub(crate) commands: Arc<Lane>,
    /// For waiting.
    pub(crate) follower: Follower,
    end: Arc<End>,
}

impl Lanes for LogLanes {
    async fn open(wiring: &Arc<Wiring>, server: &Endpoint) -> Result<Self, String> {
        let end = End::new();
        let unused = EndOnDrop::new(&end);
        let commands = greet::open(wiring, server, Purpose::Log, &end).await?;
        let follower = Follower::open(wiring, server, &end).await?;
        watch_over(wiring, &commands, greet::question(&wiring.settings, Purpose::Log));
        unused.release();
        Ok(LogLanes { commands, follower, end })
    }

    fn end(&self) -> &End {
        &self.end
    }
}

impl Drop for LogLanes {
    fn drop(&mut self) {
        self.end.let_go();
    }
}

/// The connection on which this node is woken. No answer waits behind a wake, and no wake behind an answer.
#[derive(Debug)]
pub(crate) struct WakeLanes {
    end: Arc<End>,
}

impl Lanes for WakeLanes {
    async fn open(wiring: &Arc<Wiring>, server: &Endpoint) -> Result<Self, String> {
        let end = End::new();
        let unused = EndOnDrop::new(&end);
        let lane = greet::open(wiring, server, Purpose::Wakes, &end).await?;
        watch_over(wiring, &lane, greet::question(&wiring.settings, Purpose::Wakes));
        let subscribe = wakes::subscribe(Arc::clone(wiring), lane, Arc::clone(&end));
        wiring.runtime.spawn(Box::pin(subscribe));
        unused.release();
        Ok(WakeLanes { end })
    }

    fn end(&self) -> &End {
        &self.end
    }
}

impl Drop for WakeLanes {
    fn drop(&mut self) {
        self.end.let_go();
    }
}

fn watch_over(wiring: &Wiring, lane: &Arc<Lane>, question: Cmd) {
    let runtime = Arc::clone(&wiring.runtime);
    let beat = Arc::clone(lane).watch_over(runtime, wiring.settings.heartbeat, question);
    wiring.runtime.spawn(Box::pin(beat));
}
