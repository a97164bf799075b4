//! Several processes on one remote tier, on time that stands still.

use std::sync::Arc;
use std::time::Duration;

use larder_core::testing::{ManualRuntime, Recorder, TestRemote};
use larder_core::{Cache, Runtime};
use tokio::task::JoinSet;

use super::{Reply, settle};

pub(crate) struct World {
    pub(crate) runtime: Arc<ManualRuntime>,
    pub(crate) remote: Arc<TestRemote>,
    pub(crate) events: Arc<Recorder>,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = ManualRuntime::new(7);
        let remote = TestRemote::new(runtime.clone() as Arc<dyn Runtime>);
        World { runtime, remote, events: Recorder::new() }
    }

    /// Another process on the same remote tier.
    pub(crate) async fn process(&self) -> Cache {
        let builder = Cache::builder()
            .runtime(self.runtime.clone())
            .remote(self.remote.clone())
            .observer(self.events.clone())
            // Time moves in leaps here, and nobody follows the log while it leaps.
            .disconnected_ttl(Duration::MAX);
        builder.build().await.unwrap()
    }

    /// The answers to what was asked beside the test, moving time on for as long as it takes: two minutes at the most.
    pub(crate) async fn answers(&self, mut asked: JoinSet<Reply>) -> Vec<Reply> {
        let mut replies = Vec::new();
        for _ in 0..240 {
            while let Some(reply) = asked.try_join_next() {
                replies.push(reply.unwrap());
            }
            if asked.is_empty() {
                return replies;
            }
            self.pass(Duration::from_millis(500)).await;
        }
        panic!("{} have no answer", asked.len());
    }

    /// Lets time pass, in steps, so that whoever sleeps in between is woken in time.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = self.runtime.now().plus(time);
        while self.runtime.now() < until {
            settle().await;
            self.runtime.advance(until.since(self.runtime.now()).min(Duration::from_millis(500)));
        }
        settle().await;
    }
}
