//! Keeps a session open for as long as anybody wants one.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Link, RemoteError, Runtime};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::config::Settings;
use crate::session::Session;

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

/// The state of the connections, shared by the task that keeps them and those who use them.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) settings: Settings,
    runtime: Arc<dyn Runtime>,
    session: RwLock<Option<Arc<Session>>>,
    link: watch::Sender<Link>,
}

impl Connector {
    pub(crate) fn new(settings: Settings, runtime: Arc<dyn Runtime>) -> Self {
        let link = watch::Sender::new(Link::Down { reason: String::new() });
        Connector { settings, runtime, session: RwLock::new(None), link }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The open connections. Never waits: without any it is an error at once.
    pub(crate) fn session(&self) -> Result<Arc<Session>, RemoteError> {
        if let Some(session) = &*self.session.read() {
            return Ok(Arc::clone(session));
        }
        Err(RemoteError::disconnected(match &*self.link.borrow() {
            Link::Down { reason } if reason.is_empty() => "no attempt to connect has ended yet".to_owned(),
            Link::Down { reason } => reason.clone(),
            Link::Up { .. } => "the connection was just lost".to_owned(),
            Link::Closed => "closed".to_owned(),
        }))
    }

    /// Ends everything for good.
    pub(crate) fn close(&self) {
        self.tell(Link::Closed);
        self.let_go("closed");
    }

    fn let_go(&self, reason: &str) {
        if let Some(session) = self.session.write().take() {
            session.end(reason);
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
        // A session may have come up while it was being closed.
        self.let_go("closed");
    }

    async fn keep_connected(&self) {
        let mut backoff = Backoff::new();
        let mut generation = 0;
        loop {
            let reason = match Session::open(&self.settings, &self.runtime).await {
                Ok(session) => {
                    generation += 1;
                    let began = self.runtime.now();
                    let reason = self.use_session(Arc::new(session), generation).await;
                    // A server that takes us and drops us at once is not to be hammered; any other loss deserves an
                    // attempt without a pause.
                    if self.runtime.now().since(began) > BACKOFF.1 {
                        backoff = Backoff::new();
                        self.tell(Link::Down { reason });
                        continue;
                    }
                    reason
                }
                Err(reason) => reason,
            };
            tracing::debug!(target: "larder", remote = %self.settings.address, reason, "not connected");
            self.tell(Link::Down { reason });
            self.runtime.sleep(backoff.next(self.runtime.random())).await;
        }
    }

    /// Lends the session out until it ends; answers why it has.
    async fn use_session(&self, session: Arc<Session>, generation: u64) -> String {
        *self.session.write() = Some(Arc::clone(&session));
        self.tell(Link::Up { generation });
        let reason = session.ended().await;
        self.session.write().take();
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
