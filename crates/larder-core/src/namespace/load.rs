//! Running a loader: contained (panics, timeouts), detached from its callers, at most one per key.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tracing::Instrument;

use super::Found;
use super::claim::{self, Claim, Fill, Flown, Lead, LookedUp};
use super::handle::Handle;
use crate::error::LoadError;
use crate::event::Event;
use crate::flight::Failure;
use crate::key::{Key, Probe};
use crate::outcome::{Outcome, SkipReason};
use crate::runtime::{BoxFuture, Runtime, at_once, within};

/// A registered loader.
pub(crate) type Loader<K, V, E> = Arc<dyn Fn(K) -> BoxFuture<'static, Result<V, E>> + Send + Sync>;

/// How often a read that finds the loads of others unusable tries again, before it loads for itself.
const MOST_TURNS: usize = 4;

/// A load by a registered loader. The loader is called inside the load, so that its panics are contained too.
pub(crate) async fn by_loader<K, V, E>(loader: Loader<K, V, E>, key: K) -> Result<V, E> {
    loader(key).await
}

/// A load by a closure, called when the load begins.
pub(crate) async fn once<F, Fut, V, E>(load: F) -> Result<V, E>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<V, E>>,
{
    load().await
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// The value of `key`, by the read path; `load` runs at most once.
    pub(crate) async fn load<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: Key,
        load: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<Found<V>, LoadError<E>> {
        for _ in 0..MOST_TURNS {
            if self.engine().is_closing() {
                return Err(LoadError::ShuttingDown);
            }
            let lead = match claim::claim(self, &Probe::from(&key)) {
                Claim::Found(found) => return Ok(found),
                Claim::Stale(found, lead) => {
                    self.refresh(&key, lead, load);
                    return Ok(found);
                }
                Claim::Apart(SkipReason::Overloaded) => return Err(LoadError::Overloaded),
                Claim::Apart(_) => break,
                Claim::Lead(lead) => lead,
                Claim::Join(flying) => match flying.wait().await {
                    Flown::Found(found) => return Ok(found),
                    Flown::Unshared => break,
                    Flown::Again => continue,
                    Flown::Failed(failure) => match typed(failure) {
                        Some(error) => {
                            self.counters.read(Outcome::Miss);
                            return Err(error);
                        }
                        // Another caller's loader failed with an error of another type.
                        None => continue,
                    },
                },
            };
            match lead.look_up().await {
                LookedUp::Found(found) => return Ok(found),
                LookedUp::Stale(found, lead) => {
                    self.refresh(&key, lead, load);
                    return Ok(found);
                }
                LookedUp::Nothing(lead) => return self.fly(lead, load).await,
            }
        }
        self.load_apart(&key, load).await
    }

    /// Loads for everybody. What does not end at once goes on in a task of its own, and this caller waits like others.
    async fn fly<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        lead: Lead<V>,
        load: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<Found<V>, LoadError<E>> {
        let seat = lead.seat();
        let mut flight: BoxFuture<'static, _> = Box::pin(run(lead, load));
        if let Some(done) = at_once(&mut flight) {
            return done;
        }
        let span = tracing::Span::current();
        self.engine().runtime.spawn(Box::pin(
            async move {
                // Those who wait have it from the flight; an error is an event already.
                let _ = flight.await;
            }
            .instrument(span),
        ));
        match seat.wait_as_leader().await {
            Flown::Found(found) => Ok(found),
            Flown::Failed(failure) => {
                Err(typed(failure).expect("the flight that this caller leads fails with its error type"))
            }
            // The task was dropped: its runtime is going away.
            Flown::Unshared | Flown::Again => Err(LoadError::ShuttingDown),
        }
    }

    fn refresh<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: &Key,
        lead: Option<Lead<V>>,
        load: impl Future<Output = Result<V, E>> + Send + 'static,
    ) {
        let Some(lead) = lead else { return };
        let span = tracing::Span::current();
        let refresh = async move {
            // Another node may have refreshed already.
            if let LookedUp::Nothing(lead) = lead.look_up().await {
                let _ = run(lead, load).await;
            }
        };
        self.engine().spawn_refresh(key, Box::pin(refresh.instrument(span)));
    }

    /// Loads for this caller, in a task of its own all the same; stores nothing.
    async fn load_apart<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: &Key,
        load: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<Found<V>, LoadError<E>> {
        self.counters.read(Outcome::Skip);
        let (runtime, limit) = (self.engine().runtime.clone(), self.policy.load_timeout);
        let (done, answer) = tokio::sync::oneshot::channel();
        let mut work: BoxFuture<'static, ()> = Box::pin(async move {
            let _ = done.send(contain(&*runtime, limit, load).await);
        });
        if at_once(&mut work).is_none() {
            self.engine().runtime.spawn(work);
        }
        let result = answer.await.unwrap_or(Err(LoadError::ShuttingDown));
        if let Err(error) = &result {
            self.load_failed(key, error);
        }
        result.map(|value| Found {
            value: Arc::new(value),
            outcome: Outcome::Skip,
            tier: None,
            age: std::time::Duration::ZERO,
            ttl: std::time::Duration::ZERO,
            epoch: None,
            stored: false,
        })
    }

    fn load_failed<E>(&self, key: &Key, error: &LoadError<E>) {
        self.engine().events.emit(|| Event::LoadFailed {
            key: key.clone(),
            reason: error.as_str(),
            message: error.to_string(),
        });
    }
}

/// One load from its begin to its landing.
async fn run<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    mut lead: Lead<V>,
    load: impl Future<Output = Result<V, E>> + Send + 'static,
) -> Result<Found<V>, LoadError<E>> {
    lead.begin();
    let (handle, key) = (lead.handle().clone(), lead.key().clone());
    let engine = handle.engine();
    match contain(&*engine.runtime, handle.policy.load_timeout, load).await {
        Ok(value) => Ok(lead.fill(Arc::new(value), &Fill::default())),
        Err(error) => {
            handle.load_failed(&key, &error);
            lead.fail(untyped(&error));
            Err(error)
        }
    }
}

/// Runs a load; its panic and its slowness become errors.
async fn contain<V, E>(
    runtime: &dyn Runtime,
    limit: std::time::Duration,
    load: impl Future<Output = Result<V, E>>,
) -> Result<V, LoadError<E>> {
    let mut load = pin!(load);
    let contained = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| load.as_mut().poll(cx))) {
        Ok(poll) => poll.map(|result| result.map_err(|error| LoadError::Loader(Arc::new(error)))),
        Err(_) => Poll::Ready(Err(LoadError::Panicked)),
    });
    within(runtime, limit, contained).await.unwrap_or(Err(LoadError::TimedOut))
}

fn untyped<E: Send + Sync + 'static>(error: &LoadError<E>) -> Failure {
    match error {
        LoadError::Loader(error) => Failure::Loader(error.clone()),
        LoadError::Panicked => Failure::Panicked,
        LoadError::TimedOut => Failure::TimedOut,
        LoadError::Overloaded | LoadError::ShuttingDown => Failure::ShuttingDown,
    }
}

/// `None`: an error of another type.
fn typed<E: Send + Sync + 'static>(failure: Failure) -> Option<LoadError<E>> {
    Some(match failure {
        Failure::Loader(error) => LoadError::Loader(error.downcast::<E>().ok()?),
        Failure::Panicked => LoadError::Panicked,
        Failure::TimedOut => LoadError::TimedOut,
        Failure::ShuttingDown => LoadError::ShuttingDown,
    })
}
