//! The way between one node and the server: how long it takes, and what is lost on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, oneshot, watch};

use super::faults::{Faults, Path};
use super::redis::{At, TestRedis};
use crate::remote::{Link, RemoteError, Wake};
use crate::runtime::{BoxFuture, Runtime};

/// Wakes that may wait to be looked at.
const WAKES: usize = 1024;

/// Three connections, their faults and the state of the links.
pub(super) struct Wire {
    pub(super) redis: Arc<TestRedis>,
    /// The node's. What travels lives on the server's, and outlives the node.
    runtime: Arc<dyn Runtime>,
    id: u64,
    pub(super) faults: Mutex<Faults>,
    changed: Notify,
    /// Per path: the connection in use, and the server it leads to.
    lines: [Line; 3],
    generations: AtomicU64,
    /// The numbers under which wakes are heard here.
    waiters: Mutex<Vec<u64>>,
    values: watch::Sender<Link>,
    log: watch::Sender<Link>,
}

#[derive(Default)]
struct Line {
    connection: AtomicU64,
    server: AtomicU64,
}

/// What a call does to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    Write,
    /// Writes, and may be [held](Faults::hold_stores).
    Store,
}

/// A call as the server does it. `None`: that server is gone.
pub(super) type Work<T> = Box<dyn FnOnce(Arc<TestRedis>, At) -> BoxFuture<'static, Option<T>> + Send>;

impl Wire {
    pub(super) fn new(redis: Arc<TestRedis>, runtime: Arc<dyn Runtime>, id: u64) -> Arc<Self> {
        let wire = Wire {
            runtime,
            id,
            faults: Mutex::default(),
            changed: Notify::new(),
            lines: Default::default(),
            generations: AtomicU64::new(1),
            waiters: Mutex::default(),
            values: watch::Sender::new(Link::Up { generation: 1 }),
            log: watch::Sender::new(Link::Up { generation: 1 }),
            redis,
        };
        Path::ALL.into_iter().for_each(|path| wire.attach(path));
        Arc::new(wire)
    }

    pub(super) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn link(&self, path: Path) -> &watch::Sender<Link> {
        match path {
            Path::Values => &self.values,
            Path::Log | Path::Follow => &self.log,
        }
    }

    fn line(&self, path: Path) -> &Line {
        &self.lines[path as usize]
    }

    /// A new connection leads to whoever is the primary now.
    fn attach(&self, path: Path) {
        self.line(path).connection.fetch_add(1, Ordering::AcqRel);
        self.line(path).server.store(self.redis.primary(), Ordering::Release);
    }

    /// Where a path leads.
    pub(super) fn server(&self, path: Path) -> u64 {
        self.line(path).server.load(Ordering::Acquire)
    }

    fn at(&self, path: Path) -> At {
        At { server: self.server(path), connection: self.id }
    }

    /// Changes what is broken.
    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        let mut faults = self.faults.lock();
        let down = |faults: &Faults| Path::ALL.map(|path| faults.is_down(path));
        let before = down(&faults);
        change(&mut faults);
        let after = down(&faults);
        drop(faults);
        for path in Path::ALL {
            match (before[path as usize], after[path as usize]) {
                (false, true) => self.break_off(path, "switched off"),
                (true, false) => self.come_up(path),
                (false, false) | (true, true) => {}
            }
        }
        self.changed.notify_waiters();
    }

    /// The connection is gone: what waited for it hears, what it held in a black hole is lost.
    fn break_off(&self, path: Path, reason: &str) {
        self.attach(path);
        self.tell(path, &Link::Down { reason: reason.to_owned() });
        self.changed.notify_waiters();
    }

    /// A new connection, if the way is free.
    pub(super) fn come_up(&self, path: Path) {
        self.attach(path);
        let blocked = {
            let faults = self.faults.lock();
            let log = path != Path::Values;
            let all = Path::ALL.into_iter().filter(|other| (*other != Path::Values) == log);
            all.into_iter().any(|other| faults.is_down(other))
        };
        if !blocked {
            let generation = self.generations.fetch_add(1, Ordering::AcqRel) + 1;
            self.tell(path, &Link::Up { generation });
        }
        self.changed.notify_waiters();
    }

    /// New connections, even after [`close`](crate::Remote::close): another cache begins with these.
    pub(super) fn reopen(&self) {
        for path in Path::ALL {
            self.link(path).send_if_modified(|link| {
                if *link == Link::Closed {
                    *link = Link::Down { reason: String::new() };
                }
                false
            });
            self.come_up(path);
        }
    }

    fn tell(&self, path: Path, new: &Link) {
        self.link(path).send_if_modified(|link| {
            let news = *link != Link::Closed && *link != *new;
            if news {
                *link = new.clone();
            }
            news
        });
    }

    /// The connection breaks, and another is made after a while.
    pub(super) fn cut(self: &Arc<Self>, path: Path, reason: &str) {
        self.break_off(path, reason);
        let wire = self.clone();
        self.runtime.spawn(Box::pin(async move {
            let connection = wire.line(path).connection.load(Ordering::Acquire);
            let delay = wire.faults.lock().paths[path as usize].delay;
            if let Some((_, most)) = delay {
                // Three trips for the handshakes, and a pause by chance.
                let pause = Duration::from_millis(wire.runtime.random() % 300);
                wire.runtime.sleep(most * 3 + pause).await;
            }
            wire.passable(path).await;
            // Somebody else may have connected meanwhile.
            if wire.line(path).connection.load(Ordering::Acquire) == connection
                && !wire.faults.lock().is_down(path)
            {
                wire.come_up(path);
            }
        }));
    }

    /// Waits as long as the way is a black hole.
    async fn passable(&self, path: Path) {
        self.until(|| !self.faults.lock().hangs(path)).await;
    }

    async fn until(&self, state: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if state() {
                return;
            }
            changed.await;
        }
    }

    /// Does nothing hold such a call?
    fn is_free(&self, path: Path, does: Does) -> bool {
        let faults = self.faults.lock();
        !(faults.hangs(path) || does == Does::Store && faults.hold_stores)
    }

    /// A server that takes no writes says so.
    fn is_refused(&self, does: Does) -> Result<(), RemoteError> {
        match does != Does::Read && self.redis.refuses_writes() {
            true => Err(RemoteError::refused("MISCONF")),
            false => Ok(()),
        }
    }

    /// Waits until the call can be made, or fails because it cannot.
    async fn reach(&self, path: Path, does: Does) -> Result<(), RemoteError> {
        self.until(|| self.faults.lock().is_down(path) || self.is_free(path, does)).await;
        match self.faults.lock().is_down(path) {
            true => Err(RemoteError::disconnected("switched off")),
            false => Ok(()),
        }
    }

    /// One call of the server.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        path: Path,
        does: Does,
        work: impl FnOnce(&TestRedis, At) -> Option<T> + Send + 'static,
    ) -> Result<T, RemoteError> {
        self.travel(path, does, Box::new(|redis, at| Box::pin(async move { work(&redis, at) }))).await
    }

    /// A call: there, done, and back.
    pub(super) async fn travel<T: Send + 'static>(
        self: &Arc<Self>,
        path: Path,
        does: Does,
        work: Work<T>,
    ) -> Result<T, RemoteError> {
        let faults = self.faults.lock().paths[path as usize].clone();
        if !faults.is_wire() {
            self.reach(path, does).await?;
            let connection = self.line(path).connection.load(Ordering::Acquire);
            let broken = self.until(|| self.line(path).connection.load(Ordering::Acquire) != connection);
            self.is_refused(does)?;
            let done = tokio::select! {
                biased;
                done = work(self.redis.clone(), self.at(path)) => done,
                () = broken => return Err(RemoteError::disconnected("the connection broke")),
            };
            // It may have taken its time.
            self.reach(path, does).await?;
            return done.ok_or_else(|| self.server_gone(path));
        }
        if self.faults.lock().is_down(path) {
            return Err(RemoteError::disconnected("switched off"));
        }
        let chance = |per_mille: u16| per_mille > 0 && self.runtime.random() % 1000 < u64::from(per_mille);
        let (lost, unanswered, refused) =
            (chance(faults.lose_requests), chance(faults.lose_answers), chance(faults.refuse));
        let (there, back) = (self.trip(faults.delay), self.trip(faults.delay));
        let connection = self.line(path).connection.load(Ordering::Acquire);
        let (answer, answered) = oneshot::channel();
        let (wire, at) = (self.clone(), self.at(path));
        self.redis.runtime().spawn(Box::pin(async move {
            let network = wire.redis.runtime().clone();
            network.sleep(there).await;
            let mine = || wire.line(path).connection.load(Ordering::Acquire) == connection;
            let free = || wire.is_free(path, does);
            // In a black hole it stays until the hole is gone, or the connection is.
            if !free() {
                wire.until(|| free() || !mine()).await;
                if !mine() {
                    return;
                }
            }
            if lost {
                return;
            }
            let done = match wire.is_refused(does) {
                _ if refused => Err(RemoteError::refused("not now")),
                Err(refused) => Err(refused),
                Ok(()) => work(wire.redis.clone(), at).await.ok_or_else(|| wire.server_gone(path)),
            };
            network.sleep(back).await;
            wire.until(|| free() || !mine()).await;
            if !unanswered {
                // The caller may have given up.
                let _ = answer.send(done);
            }
        }));
        let broken = self.until(|| self.line(path).connection.load(Ordering::Acquire) != connection);
        tokio::select! {
            biased;
            Ok(done) = answered => done,
            () = broken => Err(RemoteError::disconnected("the connection broke")),
        }
    }

    /// Wakes come on the connection of the log, and none where that leads to a black hole.
    pub(super) fn wakes(self: &Arc<Self>, waiter: u64) -> broadcast::Receiver<Wake> {
        let (woken, receiver) = broadcast::channel(WAKES);
        let wire = Arc::downgrade(self);
        let ring = move |wake: Wake| {
            let Some(wire) = wire.upgrade() else { return };
            let faults = wire.faults.lock();
            let (lost, delay) = (faults.is_down(Path::Log) || faults.hangs(Path::Log), faults.paths[1].delay);
            drop(faults);
            if lost {
                return;
            }
            let woken = woken.clone();
            // Nobody may be listening any more.
            let deliver = move || drop(woken.send(wake));
            match wire.trip(delay) {
                Duration::ZERO => deliver(),
                trip => {
                    let network = wire.redis.runtime().clone();
                    wire.redis.runtime().spawn(Box::pin(async move {
                        network.sleep(trip).await;
                        deliver();
                    }));
                }
            }
        };
        self.waiters.lock().push(waiter);
        self.redis.subscribe(waiter, Box::new(ring));
        receiver
    }

    /// Whoever hears wakes hears that there will be no more.
    pub(super) fn hear_no_more(&self) {
        std::mem::take(&mut *self.waiters.lock())
            .into_iter()
            .for_each(|waiter| self.redis.unsubscribe(waiter));
    }

    fn trip(&self, delay: Option<(Duration, Duration)>) -> Duration {
        let Some((least, most)) = delay else { return Duration::ZERO };
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(0) + 1;
        least + Duration::from_micros(self.runtime.random() % spread)
    }

    /// The other end is no more: its machine says so, or a timeout does.
    fn server_gone(self: &Arc<Self>, path: Path) -> RemoteError {
        if !self.redis.lives(self.server(path)) {
            self.cut(path, "the server is gone");
        }
        RemoteError::disconnected("the server is gone")
    }
}
