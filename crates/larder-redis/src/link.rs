//! Keeps connections open for as long as anybody wants them.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Link, Runtime};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::config::Settings;
use crate::endpoint::Endpoint;
use crate::finder::Finder;
use crate::lane::Failure;
use crate::lanes::Lanes;
use crate::wakes::Wakes;

/// Pauses between attempts to connect: the first, and the longest. The first is short, because most losses are restarts;
/// the longest bounds what a herd of nodes does to a server that comes back.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How long to wait before the next attempt. Pure.
#[derive(Debug)]
struct Backoff(Duration);

impl Backoff {
    fn new() -> Self {
        Backoff(BACKOFF.0)
    }

    /// The next pause: doubles up to the longest, less up to a half by chance, so that nodes which lost the same server
    /// do not come back together.
    fn next(&mut self, random: u64) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(BACKOFF.1);
        let share = u32::try_from(random >> 32).unwrap_or(u32::MAX);
        whole - whole / 2 * (share >> 16) / (1 << 16)
    }
}

/// What opening a connection takes.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) settings: Settings,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) wakes: Wakes,
}

/// Keeps the connections to one server open, and lends them out.
#[derive(Debug)]
pub(crate) struct Keeper<L> {
    wiring: Arc<Wiring>,
    finder: Finder,
    lanes: RwLock<Option<Arc<L>>>,
    link: watch::Sender<Link>,
}

impl<L: Lanes> Keeper<L> {
    pub(crate) fn new(wiring: Arc<Wiring>, finder: Finder) -> Self {
        let link = watch::Sender::new(Link::Down { reason: String::new() });
        Keeper { wiring, finder, lanes: RwLock::new(None), link }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The open connections. Never waits: without any it is an error at once.
    pub(crate) fn lanes(&self) -> Result<Arc<L>, Failure> {
        if let Some(lanes) = &*self.lanes.read() {
            return Ok(Arc::clone(lanes));
        }
        Err(Failure::Broken(match &*self.link.borrow() {
            Link::Down { reason } if reason.is_empty() => "no attempt to connect has ended yet".to_owned(),
            Link::Down { reason } => reason.clone(),
            Link::Up { .. } => "the connection was just lost".to_owned(),
            Link::Closed => "closed".to_owned(),
        }))
    }

    /// Ends everything for good.
    pub(crate) fn close(&self) {
        self.tell(Link::Closed);
        self.let_go();
    }

    fn let_go(&self) {
        if let Some(lanes) = self.lanes.write().take() {
            lanes.end().set("closed");
        }
    }

    /// Tells a new state, unless it is none, or everything is closed.
    fn tell(&self, new: Link) {
        self.link.send_if_modified(|link| {
            let news = *link != Link::Closed && *link != new;
            if news {
                *link = new;
            }
            news
        });
    }

    /// Connects, and connects again, until it is closed.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut link = self.link.subscribe();
        tokio::select! {
            _ = link.wait_for(|link| *link == Link::Closed) => {}
            () = self.keep_connected() => {}
        }
        // Connections may have come up while it was being closed.
        self.let_go();
    }

    async fn keep_connected(&self) {
        let runtime = &self.wiring.runtime;
        let mut backoff = Backoff::new();
        let mut generation = 0;
        loop {
            let found = self.finder.find().await;
            let reason = match &found {
                Err(reason) => reason.clone(),
                Ok(server) => match L::open(&self.wiring, server).await {
                    Err(reason) => reason,
                    Ok(lanes) => {
                        generation += 1;
                        let began = runtime.now();
                        let reason = self.lend(Arc::new(lanes), server, generation).await;
                        // A server that takes us and drops us at once is not to be hammered; any other loss deserves an
                        // attempt without a pause.
                        if runtime.now().since(began) > BACKOFF.1 {
                            backoff = Backoff::new();
                            self.finder.doubt();
                            self.tell(Link::Down { reason });
                            continue;
                        }
                        reason
                    }
                },
            };
            self.finder.doubt();
            tracing::debug!(target: "larder", server = ?found, reason, "not connected");
            self.tell(Link::Down { reason });
            let pause = runtime.sleep(backoff.next(runtime.random()));
            match found {
                // A server that was not to be had matters no more as soon as another one has taken its place.
                Ok(server) => tokio::select! {
                    () = pause => {}
                    () = self.finder.replaced(&server) => backoff = Backoff::new(),
                },
                Err(_) => pause.await,
            }
        }
    }

    /// Lends the connections out until they end; answers why they have.
    async fn lend(&self, lanes: Arc<L>, server: &Endpoint, generation: u64) -> String {
        *self.lanes.write() = Some(Arc::clone(&lanes));
        self.tell(Link::Up { generation });
        let reason = tokio::select! {
            reason = lanes.end().wait() => reason,
            () = self.finder.replaced(server) => lanes.end().set(format!("{server} is not the primary any more")),
        };
        self.lanes.write().take();
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_two_seconds_and_chance_takes_at_most_half() {
        let mut longest = Backoff::new();
        let mut shortest = Backoff::new();
        for ms in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let whole = Duration::from_millis(ms);
            assert_eq!(longest.next(0), whole);
            let half = shortest.next(u64::MAX);
            assert!(half >= whole / 2 && half < whole / 2 + whole / 1000, "{half:?} of {whole:?}");
        }
    }
}
