//! Shuttle's primitives with the faces of those they stand in for.

use std::sync::PoisonError;

pub(crate) use foldhash::fast::FixedState as FastHash;
pub(crate) use foldhash::quality::FixedState as SoundHash;
pub(crate) use shuttle::sync::atomic;
use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// As `parking_lot::Mutex`.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As `parking_lot::RwLock`.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A point at which another thread may go on, before something that Shuttle does not know and that is one step here.
#[derive(Debug, Default)]
struct Point(atomic::AtomicBool);

impl Point {
    fn pass(&self) {
        self.0.load(atomic::Ordering::SeqCst);
    }
}

/// As `std::sync::OnceLock`, whose calls are one step each.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    point: Point,
    inner: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock { point: Point::default(), inner: std::sync::OnceLock::new() }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.point.pass();
        self.inner.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.point.pass();
        self.inner.set(value)
    }
}

/// As `tokio::sync::Notify`, whose calls are one step each.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    point: Point,
    inner: tokio::sync::Notify,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Notify::default()
    }

    pub(crate) fn notified(&self) -> tokio::sync::futures::Notified<'_> {
        self.point.pass();
        self.inner.notified()
    }

    pub(crate) fn notify_one(&self) {
        self.point.pass();
        self.inner.notify_one();
    }

    pub(crate) fn notify_waiters(&self) {
        self.point.pass();
        self.inner.notify_waiters();
    }
}
