//! What `#[cached]` promises, through functions as people write them.
#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used, reason = "tests: a failure is a panic")]

mod arguments;
mod keys;
mod options;
mod sites;
#[cfg(feature = "http")]
mod web;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder::{Cache, LoadError, units::*};
use larder_core::testing::{ManualRuntime, Recorder};

/// What the functions of these tests fail with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The body said so.
    Own(&'static str),
    /// Said of it by the cache.
    Load(&'static str),
}

impl From<LoadError<Fault>> for Fault {
    fn from(error: LoadError<Fault>) -> Self {
        match error.loader_error() {
            Some(own) => own.clone(),
            None => Fault::Load(error.as_str()),
        }
    }
}

/// Counts what has happened, wherever its clones are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn up(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn so_far(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A cache on time that stands still, and who hears its events.
pub(crate) async fn cache() -> (Cache, Arc<ManualRuntime>, Arc<Recorder>) {
    let (runtime, recorder) = (ManualRuntime::new(1), Recorder::new());
    let cache = Cache::builder()
        .memory(MIB)
        .runtime(runtime.clone())
        .observer(recorder.clone())
        .build()
        .await
        .unwrap();
    (cache, runtime, recorder)
}
