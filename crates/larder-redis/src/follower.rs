//! The connection on which the log is followed.
//!
//! A server does nothing else for a connection that waits in `XREAD BLOCK`: no heartbeat would be answered, and a second
//! command would wait behind the first. So this connection carries one question at a time, has no heartbeat (an answer
//! is due at a known time), and is thrown away when a question is given up: the next one must not stand behind it.

use std::sync::Arc;
use std::time::Duration;

use larder_core::RemoteError;
use redis::{Pipeline, Value};
use tokio::sync::Mutex;

use crate::end::End;
use crate::endpoint::Endpoint;
use crate::greet;
use crate::lane::{Failure, OwnLane, Purpose};
use crate::link::Wiring;

/// How much longer than it was to take an answer may take, before the connection counts as dead.
const GRACE: Duration = Duration::from_secs(1);

/// One connection at a time, opened anew when a question was given up.
#[derive(Debug)]
pub(crate) struct Follower {
    wiring: Arc<Wiring>,
    server: Endpoint,
    /// Of all connections of the log.
    end: Arc<End>,
    /// `None` while it is in use, or after it was thrown away.
    idle: Mutex<Option<OwnLane>>,
}

impl Follower {
    pub(crate) async fn open(
        wiring: &Arc<Wiring>,
        server: &Endpoint,
        end: &Arc<End>,
    ) -> Result<Self, String> {
        let follower = Follower {
            wiring: Arc::clone(wiring),
            server: server.clone(),
            end: Arc::clone(end),
            idle: Mutex::new(None),
        };
        let lane = follower.fresh().await?;
        *follower.idle.lock().await = Some(lane);
        Ok(follower)
    }

    async fn fresh(&self) -> Result<OwnLane, String> {
        let end = End::part_of(&self.end);
        let lane = greet::open(&self.wiring, &self.server, Purpose::Log, &end).await?;
        Ok(OwnLane::new(lane, end))
    }

    /// Asks what takes up to `wait` by its nature. One question at a time: others wait for their turn.
    ///
    /// Not answered in time, it ends all connections of the log. May be dropped at any point.
    pub(crate) async fn ask_all(
        &self,
        questions: &Pipeline,
        wait: Duration,
    ) -> Result<Vec<Result<Value, Failure>>, RemoteError> {
        let mut idle = self.idle.lock().await;
        // Taken out: whoever drops this future half-way drops the connection, too.
        let lane = match idle.take() {
            Some(lane) => lane,
            None => self.fresh().await.map_err(|reason| RemoteError::disconnected(self.end.set(reason)))?,
        };
        match lane.lane().ask_patiently(questions, &*self.wiring.runtime, wait, GRACE).await {
            Some(answers) => {
                let answers = answers?;
                *idle = Some(lane);
                Ok(answers)
            }
            None => Err(RemoteError::timeout(wait + GRACE)),
        }
    }
}
