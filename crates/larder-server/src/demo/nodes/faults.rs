//! What goes wrong while the rounds go on, when, and how it is known to be over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::field::Field;
use super::process::start_demo;
use super::redis::Redis;
use crate::demo::client::{Client, elapsed};
use crate::demo::guide::Place;
use crate::demo::say;

/// How long Redis, or a process, stays down.
const DOWN: Duration = Duration::from_secs(1);
/// How long the nodes may take until all of them follow the log again.
const HEALED: Duration = Duration::from_secs(30);
/// How often Redis is emptied.
const TIMES: usize = 50;
const POLL: Duration = Duration::from_millis(20);
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Redis loses everything, the log too, again and again.
    Emptied,
    /// A node loses the connection on which it follows the log.
    Cut,
    /// Redis is killed and comes back with all it had.
    Restarted,
    /// Redis is killed and comes back empty.
    RestartedEmpty,
    /// A node is killed, and started again.
    Killed,
}

/// In this order, and after how many percent of the rounds.
const PLAN: [(u32, Fault); 5] = [
    (15, Fault::Emptied),
    (30, Fault::Cut),
    (45, Fault::Restarted),
    (60, Fault::RestartedEmpty),
    (75, Fault::Killed),
];

impl Fault {
    fn about(self) -> &'static str {
        match self {
            Fault::Emptied => "Redis loses everything it holds, again and again",
            Fault::Cut => "a node loses the connection on which it follows the log",
            Fault::Restarted => "Redis is killed, and comes back with its data",
            Fault::RestartedEmpty => "Redis is killed, and comes back without its data",
            Fault::Killed => "a node is killed, and started again",
        }
    }

    /// What is not ours is not restarted.
    fn needs_own_redis(self) -> bool {
        matches!(self, Fault::Restarted | Fault::RestartedEmpty)
    }
}

pub(super) struct Faults<'a> {
    pub(super) field: Arc<Field>,
    pub(super) redis: Redis,
    pub(super) prefix: String,
    /// Starts the process of a node again: with these options, on this catalog.
    pub(super) options: &'a crate::cli::Demo,
    pub(super) data: std::path::PathBuf,
    pub(super) admin_token: Option<String>,
    /// Which node is killed.
    pub(super) victim: usize,
}

impl Faults<'_> {
    /// Lets the rounds go on from fault to fault. Each comes while they are running; its end is waited for before those
    /// after the next one begin.
    ///
    /// # Errors
    /// A fault that could not be made, or that was not over in time.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        let rounds = self.field.rounds;
        let at = |percent: u32| u32::try_from(u64::from(rounds) * u64::from(percent) / 100).unwrap_or(rounds);
        let own = self.redis.is_own();
        let plan: Vec<_> = PLAN.into_iter().filter(|(_, fault)| own || !fault.needs_own_redis()).collect();
        for (i, (percent, fault)) in plan.iter().enumerate() {
            let next = plan.get(i + 1).map_or(rounds, |(percent, _)| at(*percent));
            // This one comes in the middle of its rounds, not in the pause before them.
            self.field.allowed.send_replace(next);
            self.until_done(at(*percent)).await;
            if self.field.is_over() {
                return Ok(());
            }
            say(&format!("after {} rounds: {}", at(*percent), fault.about()));
            let before = self.done();
            self.make(*fault).await.map_err(|why| format!("{}: {why}", fault.about()))?;
            self.healed().await.map_err(|why| format!("{}, and {HEALED:?} later {why}", fault.about()))?;
            // A quick machine may have come as far as it was let before anything went wrong.
            if self.done() == before && before < next && !self.field.is_over() {
                return Err(format!("{}: no round was done meanwhile", fault.about()));
            }
        }
        if own && !self.field.is_over() {
            let (queued, gaps) = (self.field.counts.queued.load(Ordering::Relaxed), self.gaps().await);
            if queued + gaps == 0 {
                return Err("Redis was emptied and killed, and no node has noticed".to_owned());
            }
        }
        self.field.allowed.send_replace(u32::MAX);
        Ok(())
    }

    fn done(&self) -> u32 {
        *self.field.done.borrow()
    }

    /// How often a part of the log went by unseen, on all nodes together.
    async fn gaps(&self) -> u64 {
        let mut gaps = 0;
        for node in &self.field.nodes {
            let health = self.health(node.place()).await.unwrap_or_default();
            gaps += health["remote"]["log"]["gaps"].as_u64().unwrap_or_default();
        }
        gaps
    }

    async fn until_done(&self, rounds: u32) {
        // The sender lives in the field.
        let _ = self.field.done.subscribe().wait_for(|done| *done >= rounds).await;
    }

    async fn make(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Emptied => self.empty().await,
            Fault::Cut => self.cut().await,
            Fault::Restarted => self.redis.restart(DOWN, true).await,
            Fault::RestartedEmpty => self.redis.restart(DOWN, false).await,
            Fault::Killed => self.kill().await,
        }
    }

    /// What matters happens between a write and the moment the next node hears of it: many times, then.
    async fn empty(&self) -> Result<(), String> {
        for _ in 0..TIMES {
            self.redis.empty(&self.prefix).await.map_err(|e| e.to_string())?;
            elapsed(POLL).await;
        }
        Ok(())
    }

    /// At any moment a node may be between two looks at the log: tried until one is found that waits.
    async fn cut(&self) -> Result<(), String> {
        for _ in 0..500 {
            if self.redis.cut_a_follower().await.map_err(|e| e.to_string())? {
                return Ok(());
            }
            elapsed(POLL).await;
        }
        Err("no connection of a node waits for the log".to_owned())
    }

    async fn kill(&self) -> Result<(), String> {
        let node = &self.field.nodes[self.victim];
        let Some(process) = node.goes_down() else { return Err("it was gone already".to_owned()) };
        process.kill().await;
        elapsed(DOWN).await;
        let started = start_demo(self.options, self.redis.url(), &self.data, &node.log).await;
        let (process, place) = started?;
        node.comes_up(process, place);
        Ok(())
    }

    /// Waits until every node follows the log.
    async fn healed(&self) -> Result<(), String> {
        let followed = async {
            for (number, node) in self.field.nodes.iter().enumerate() {
                while !self.follows(node.place()).await {
                    elapsed(POLL).await;
                }
                tracing::debug!(target: "larder", number, "follows the log");
            }
        };
        tokio::select! {
            () = followed => Ok(()),
            () = elapsed(HEALED) => Err("a node does not follow the log".to_owned()),
        }
    }

    async fn follows(&self, place: Place) -> bool {
        self.health(place).await.is_some_and(|health| {
            let log = &health["remote"]["log"];
            log["state"] == "following" && log["pending_invalidations"] == 0
        })
    }
    async fn health(&self, place: Place) -> Option<serde_json::Value> {
        let health = admin(place, "/health", self.admin_token.as_deref()).await;
        serde_json::from_slice(&health.ok()?).ok()
    }
}

/// Asks the admin API of a node.
pub(super) async fn admin(place: Place, path: &str, token: Option<&str>) -> Result<Bytes, String> {
    let mut request = Request::get(path).header("Host", place.admin.to_string());
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::default()).map_err(|e| e.to_string())?;
    Ok(Client::new(place.admin, LIMIT).ask(request).await?.1)
}
