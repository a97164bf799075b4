//! Running a loader: contained (panics, timeouts), detached from its callers, at most one per key.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tracing::Instrument;

use super::Found;
use super::chain;
use super::claim::{self, Claim};
use super::fill::Filled;
use super::flying::{Flown, Flying};
use super::handle::Handle;
use super::lead::{Lead, LookedUp};
use super::turn::Turn;
use crate::error::LoadError;
use crate::event::Event;
use crate::flight::Failure;
use crate::key::{Key, Probe};
use crate::outcome::{Outcome, SkipReason};
use crate::runtime::{BoxFuture, Runtime, at_once, within};

/// A registered loader.
pub(crate) type Loader<K, V, E> = Arc<dyn Fn(K) -> Loading<V, E> + Send + Sync>;

/// A load under way.
pub(crate) type Loading<V, E> = BoxFuture<'static, Result<Filled<V>, E>>;

/// How far a read came without waiting.
pub(crate) enum Start<V, E> {
    /// To its end.
    Done(Result<Found<V>, LoadError<E>>),
    /// To a point where it has to wait. Until then nothing was allocated for that, and the caller's future stays small.
    Later(BoxFuture<'static, Result<Found<V>, LoadError<E>>>),
}

impl<V, E> Start<V, E> {
    /// The rest of the way.
    pub(crate) async fn end(self) -> Result<Found<V>, LoadError<E>> {
        match self {
            Start::Done(done) => done,
            Start::Later(later) => later.await,
        }
    }
}

/// How often a read that finds the loads of others unusable tries again, before it loads for itself.
pub(super) const MOST_TURNS: usize = 4;

/// A load that has not begun: called once, if at all, inside the load, so that its panic is contained too.
pub(crate) trait Begin<V, E>: FnOnce() -> Loading<V, E> + Send + 'static {}

impl<V, E, F: FnOnce() -> Loading<V, E> + Send + 'static> Begin<V, E> for F {}

/// A load that says nothing of its value.
pub(crate) fn plain<V, E>(load: impl Future<Output = Result<V, E>> + Send + 'static) -> Loading<V, E> {
    Box::pin(async move { load.await.map(Filled::new) })
}

/// A load by a closure that says nothing of its value.
pub(crate) fn once<F, Fut, V, E>(load: F) -> impl Begin<V, E>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
{
    move || plain(load())
}

/// A load by a closure that does.
pub(crate) fn filling<F, Fut, V, E>(load: F) -> impl Begin<V, E>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
{
    move || Box::pin(load())
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// The value of `key`, by the read path; `load` runs at most once. As far as it goes without waiting.
    pub(crate) fn start<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: Key,
        load: impl Begin<V, E>,
    ) -> Start<V, E> {
        if self.engine().is_closing() {
            return Start::Done(Err(LoadError::ShuttingDown));
        }
        match claim::claim(self, &Probe::from(&key)) {
            Claim::Found(found) => Start::Done(Ok(found)),
            Claim::Stale(found, lead) => {
                self.refresh(&key, lead, load);
                Start::Done(Ok(found))
            }
            Claim::Lead(lead) if !lead.has_remote() => self.take_off(lead, load),
            claim => Start::Later(Box::pin(self.clone().go_on(key, claim, load))),
        }
    }

    /// The rest of the read path, from a claim that has to wait for something.
    async fn go_on<E: Send + Sync + 'static>(
        self: Arc<Self>,
        key: Key,
        mut claim: Claim<V>,
        load: impl Begin<V, E>,
    ) -> Result<Found<V>, LoadError<E>> {
        for _ in 0..MOST_TURNS {
            let lead = match claim {
                Claim::Found(found) => return Ok(found),
                Claim::Stale(found, lead) => {
                    self.refresh(&key, lead, load);
                    return Ok(found);
                }
                Claim::Apart(SkipReason::Overloaded) => return Err(LoadError::Overloaded),
                Claim::Apart(_) => break,
                Claim::Lead(lead) => Some(lead),
                Claim::Join(flying) if chain::is_loading(&flying.flight) => {
                    return Err(LoadError::Recursive);
                }
                Claim::Join(flying) => match flying.wait().await {
                    Flown::Found(found) => return Ok(found),
                    Flown::Unshared => break,
                    Flown::Again => None,
                    Flown::Failed(failure) => match typed(failure) {
                        Some(error) => {
                            self.counters.read(Outcome::Miss);
                            return Err(error);
                        }
                        // Another caller's loader failed with an error of another type.
                        None => None,
                    },
                },
            };
            if let Some(lead) = lead {
                match lead.look_up().await {
                    LookedUp::Found(found) => return Ok(found),
                    LookedUp::Stale(found, lead) => {
                        self.refresh(&key, lead, load);
                        return Ok(found);
                    }
                    LookedUp::Nothing(lead) => return self.take_off(lead, load).end().await,
                }
            }
            if self.engine().is_closing() {
                return Err(LoadError::ShuttingDown);
            }
            claim = claim::claim(&self, &Probe::from(&key));
        }
        if self.engine().is_closing() {
            return Err(LoadError::ShuttingDown);
        }
        self.load_apart(&key, load, Outcome::Skip).await
    }

    /// Loads for everybody, as soon as it is this load's turn.
    fn take_off<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        lead: Lead<V>,
        load: impl Begin<V, E>,
    ) -> Start<V, E> {
        match lead.turn_at_once() {
            Ok(lead) => self.begin(lead, load),
            Err(lead) => {
                let seat = lead.seat();
                self.carry(seat, wait_and_load(lead, load))
            }
        }
    }

    /// Loads for everybody.
    ///
    /// Most loads end at their first poll, so nothing is prepared for waiting before that: no task, no timer, nobody to
    /// wake. What goes on is polled by this caller, for as long as it is alone with it.
    fn begin<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        mut lead: Lead<V>,
        load: impl Begin<V, E>,
    ) -> Start<V, E> {
        lead.begin();
        let inside = chain::enter(&lead.flight);
        let begun = catch_unwind(AssertUnwindSafe(|| {
            inside.call(|| {
                let mut load = load();
                let first = at_once(&mut load);
                (load, first)
            })
        }));
        let load = match begun {
            Err(_) => return Start::Done(end(lead, Err(LoadError::Panicked))),
            Ok((_, Some(done))) => {
                return Start::Done(end(lead, done.map_err(|error| LoadError::Loader(Arc::new(error)))));
            }
            Ok((load, None)) => load,
        };
        let seat = lead.seat();
        self.engine().watch();
        let (runtime, limit) = (self.engine().runtime.clone(), self.policy.load_timeout);
        self.carry(seat, async move {
            let done = inside.run(contain(&*runtime, limit, load)).await;
            // Those who wait have it from the flight; an error is an event already.
            let _ = end(lead, done);
        })
    }

    /// Sees `work` to its end, or into a task, and answers what came of it for the caller whose flight it is.
    fn carry<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        seat: Flying<V>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Start<V, E> {
        let work = Box::pin(work.instrument(tracing::Span::current()));
        let handle = self.clone();
        Start::Later(Box::pin(async move {
            match seat.carry(work).await {
                Flown::Found(found) => Ok(found),
                Flown::Failed(failure) => {
                    Err(typed(failure).expect("the flight that this caller leads fails with its error type"))
                }
                // It was taken from this caller, because it did not come as far as the load for too long.
                Flown::Again if !handle.engine().is_closing() => Err(LoadError::TimedOut),
                // The task was dropped: its runtime is going away.
                Flown::Unshared | Flown::Again => Err(LoadError::ShuttingDown),
            }
        }))
    }

    fn refresh<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: &Key,
        lead: Option<Lead<V>>,
        load: impl Begin<V, E>,
    ) {
        let Some(lead) = lead else { return };
        let refresh = renew(lead, load).instrument(tracing::Span::current());
        self.engine().spawn_refresh(key, Box::pin(refresh));
    }

    /// Loads for this caller, in a task of its own all the same; stores nothing.
    pub(super) async fn load_apart<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        key: &Key,
        load: impl Begin<V, E>,
        outcome: Outcome,
    ) -> Result<Found<V>, LoadError<E>> {
        self.counters.read(outcome);
        let result = self.contain_apart(async move { load().await }).await;
        if let Err(error) = &result {
            self.load_failed(key, error);
        }
        result.map(|filled| Found {
            value: Arc::new(filled.value),
            outcome,
            tier: None,
            age: std::time::Duration::ZERO,
            ttl: std::time::Duration::ZERO,
            epoch: None,
            stored: false,
        })
    }

    /// Runs a load that is for its caller alone: in a task as soon as it has to wait, and counted as any other.
    pub(super) async fn contain_apart<T: Send + 'static, E: Send + Sync + 'static>(
        self: &Arc<Self>,
        load: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, LoadError<E>> {
        let (runtime, limit) = (self.engine().runtime.clone(), self.policy.load_timeout);
        let gate = self.gate.clone();
        let (done, answer) = tokio::sync::oneshot::channel();
        let mut work: BoxFuture<'static, ()> = Box::pin(async move {
            let permit = match &gate {
                Some(gate) => gate.enter(&*runtime, limit).await.map(Some),
                None => Some(None),
            };
            let loaded = match permit {
                Some(_permit) => contain(&*runtime, limit, load).await,
                None => Err(LoadError::Overloaded),
            };
            // The caller may have gone away.
            let _ = done.send(loaded);
        });
        if at_once(&mut work).is_none() {
            self.engine().runtime.spawn(work);
        }
        answer.await.unwrap_or(Err(LoadError::ShuttingDown))
    }

    pub(super) fn load_failed<E>(&self, key: &Key, error: &LoadError<E>) {
        self.engine().events.emit(|| Event::LoadFailed {
            key: key.clone(),
            reason: error.as_str(),
            message: error.to_string(),
        });
    }
}

/// Does what a lead for a refresh is for.
pub(super) async fn renew<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    lead: Lead<V>,
    load: impl Begin<V, E>,
) {
    // Another node may have refreshed already.
    if let LookedUp::Nothing(lead) = lead.look_up().await {
        wait_and_load(lead, load).await;
    }
}

/// Waits for the load's turn, and loads. What comes of it is for those on the flight; an error is an event.
async fn wait_and_load<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    lead: Lead<V>,
    load: impl Begin<V, E>,
) {
    let (handle, key) = (lead.handle().clone(), lead.key().clone());
    match lead.turn().await {
        Turn::Found(_) => {}
        Turn::Overloaded(_) => handle.load_failed(&key, &LoadError::<E>::Overloaded),
        Turn::Load(mut lead) => {
            lead.begin();
            let inside = chain::enter(&lead.flight);
            let load = async move { load().await };
            let done = inside.run(contain(&*handle.engine().runtime, handle.policy.load_timeout, load)).await;
            let _ = end(lead, done);
        }
    }
}

/// Lands a flight with what its load ended with. Something stale is as good as a value.
fn end<V: Send + Sync + 'static, E: Send + Sync + 'static>(
    lead: Lead<V>,
    done: Result<Filled<V>, LoadError<E>>,
) -> Result<Found<V>, LoadError<E>> {
    match done {
        Ok(filled) => Ok(lead.fill(Arc::new(filled.value), &filled.fill)),
        Err(error) => {
            lead.handle().load_failed(lead.key(), &error);
            lead.fail(untyped(&error)).ok_or(error)
        }
    }
}

/// Runs a load; its panic and its slowness become errors.
pub(super) async fn contain<V, E>(
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

pub(super) fn untyped<E: Send + Sync + 'static>(error: &LoadError<E>) -> Failure {
    match error {
        LoadError::Loader(error) => Failure::Loader(error.clone()),
        LoadError::Panicked => Failure::Panicked,
        LoadError::TimedOut => Failure::TimedOut,
        LoadError::Overloaded => Failure::Overloaded,
        // The one is the caller's own, and never lands a flight.
        LoadError::Recursive | LoadError::ShuttingDown => Failure::ShuttingDown,
    }
}

/// `None`: an error of another type.
pub(super) fn typed<E: Send + Sync + 'static>(failure: Failure) -> Option<LoadError<E>> {
    Some(match failure {
        Failure::Loader(error) => LoadError::Loader(error.downcast::<E>().ok()?),
        Failure::Panicked => LoadError::Panicked,
        Failure::TimedOut => LoadError::TimedOut,
        Failure::Overloaded => LoadError::Overloaded,
        Failure::ShuttingDown => LoadError::ShuttingDown,
    })
}
