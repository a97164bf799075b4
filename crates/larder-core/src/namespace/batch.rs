//! Many keys at once: one look into each tier, one load for what is missing.
//!
//! Each key has a flight of its own, so batches that overlap, and single reads, share their loads. A batch waits for the
//! loads of others only after it has begun its own: two that want each other's keys do not wait for each other.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use tracing::Instrument;

use super::Namespace;
use super::chain;
use super::claim::{self, Claim};
use super::fill::Filled;
use super::flying::{Flown, Flying};
use super::handle::Handle;
use super::lead::{Lead, LookedUp};
use super::load::{self, MOST_TURNS};
use super::turn::FirstTurn;
use crate::error::LoadError;
use crate::key::{Identity, Key, Probe, ToKey};
use crate::outcome::{Outcome, SkipReason};
use crate::runtime::{BoxFuture, at_once};

/// The answers to a batch, in the order of its keys. `None`: the loader knows of no such key.
pub type Batch<V, E> = Vec<Row<V, E>>;

/// The answer to one key of a batch.
type Row<V, E> = Result<Option<Arc<V>>, LoadError<E>>;

/// What the load of a batch answers: for each key it knows a value, or why there is none.
type Rows<Q, V, E> = Vec<(Q, Result<Filled<V>, E>)>;

/// The load of a batch, for some of its keys.
type LoadMany<Q, V, E> = Arc<dyn Fn(Vec<Q>) -> BoxFuture<'static, Result<Rows<Q, V, E>, E>> + Send + Sync>;

impl<K, V: Send + Sync + 'static, E> Namespace<K, V, E> {
    /// The values of `keys`, in their order: from memory, from the remote tier in one trip, and what is missing from `load`,
    /// which is called once with the keys that are (and once more for each key that other batches or processes have failed
    /// to load meanwhile). It answers what it knows; a key it leaves out is `None`, and nothing is kept of that.
    ///
    /// ```
    /// # use larder_core::{Cache, Policy, units::*};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache = Cache::builder().build().await?;
    /// let names = cache.namespace::<String>("user", Policy::ttl(HOUR))?;
    /// let load = |ids: Vec<u64>| async move {
    ///     Ok::<_, std::io::Error>(ids.into_iter().filter(|id| *id < 3).map(|id| (id, format!("user {id}"))))
    /// };
    /// let found = names.get_many_or_load([1, 2, 3], load).await;
    /// assert_eq!(found[1].as_ref().unwrap().as_deref(), Some(&"user 2".to_owned()));
    /// assert!(found[2].as_ref().unwrap().is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// If the load fails, or takes too long, each key has what is stale of it, where the policy allows that; the others have
    /// the error. The loads of a batch count as one under [`max_loads`](crate::Policy::max_loads).
    ///
    /// Cancel safe: a caller that goes away does not cancel the load.
    pub async fn get_many_or_load<Q, F, Fut, I, E2>(
        &self,
        keys: impl IntoIterator<Item = Q>,
        load: F,
    ) -> Batch<V, E2>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E2>> + Send + 'static,
        I: IntoIterator<Item = (Q, V)>,
        E2: Send + Sync + 'static,
    {
        let load = move |keys| {
            let load = load(keys);
            let rows = async move {
                let rows = load.await?.into_iter();
                Ok(rows.map(|(key, value)| (key, Ok(Filled::new(value)))).collect())
            };
            Box::pin(rows) as BoxFuture<'static, Result<Rows<Q, V, E2>, E2>>
        };
        self.batch(keys, Arc::new(load)).await
    }

    /// As [`get_many_or_load`](Self::get_many_or_load), with a load that may fail for some of its keys, and says how long
    /// each value is kept, and its tags.
    ///
    /// Cancel safe.
    pub async fn get_many_or_load_each<Q, F, Fut, I, E2>(
        &self,
        keys: impl IntoIterator<Item = Q>,
        load: F,
    ) -> Batch<V, E2>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        F: Fn(Vec<Q>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E2>> + Send + 'static,
        I: IntoIterator<Item = (Q, Result<Filled<V>, E2>)>,
        E2: Send + Sync + 'static,
    {
        let load = move |keys| {
            let load = load(keys);
            let rows = async move { Ok(load.await?.into_iter().collect()) };
            Box::pin(rows) as BoxFuture<'static, Result<Rows<Q, V, E2>, E2>>
        };
        self.batch(keys, Arc::new(load)).await
    }

    async fn batch<Q, E2>(&self, keys: impl IntoIterator<Item = Q>, load: LoadMany<Q, V, E2>) -> Batch<V, E2>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E2: Send + Sync + 'static,
    {
        self.handle.clone().batch(keys.into_iter().collect(), load, 0).await
    }
}

/// A key of a batch: its place, and the load it leads.
struct Led<Q, V: Send + Sync + 'static> {
    at: usize,
    key: Q,
    lead: Lead<V>,
}

/// What has become of the keys of a batch.
struct Asked<Q, V: Send + Sync + 'static, E> {
    answers: Vec<Option<Row<V, E>>>,
    leads: Vec<Led<Q, V>>,
    refreshes: Vec<Led<Q, V>>,
    joins: Vec<(usize, Flying<V>)>,
    /// Keys that stand in the batch twice, and where they stood before.
    again: Vec<(usize, usize)>,
    apart: Vec<usize>,
}

impl<Q: ToKey + Clone, V: Send + Sync + 'static, E> Asked<Q, V, E> {
    /// Looks all keys up in memory, and claims those that are not there.
    fn new(handle: &Arc<Handle<V>>, keys: &[Q]) -> Self {
        let (leads, refreshes, joins, again, apart) = Default::default();
        let mut asked =
            Asked { answers: Vec::with_capacity(keys.len()), leads, refreshes, joins, again, apart };
        for (at, key) in keys.iter().enumerate() {
            let answer = handle.hit(key).or_else(|| {
                let of = |lead| Led { at, key: key.clone(), lead };
                match claim::claim(handle, &Probe::of(handle.key(key).as_bytes())) {
                    Claim::Found(found) => return Some(found.value),
                    Claim::Stale(found, lead) => {
                        asked.refreshes.extend(lead.map(of));
                        return Some(found.value);
                    }
                    Claim::Lead(lead) => asked.leads.push(of(lead)),
                    Claim::Join(flying) => {
                        let is_same = |led: &&Led<Q, V>| Arc::ptr_eq(&led.lead.flight, &flying.flight);
                        match asked.leads.iter().find(is_same).map(|led| led.at) {
                            Some(before) => asked.again.push((at, before)),
                            None => asked.joins.push((at, flying)),
                        }
                    }
                    Claim::Apart(SkipReason::Overloaded) => {
                        asked.answers.push(Some(Err(LoadError::Overloaded)));
                        return None;
                    }
                    Claim::Apart(_) => asked.apart.push(at),
                }
                None
            });
            if asked.answers.len() == at {
                asked.answers.push(answer.map(|value| Ok(Some(value))));
            }
        }
        asked
    }
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// The values of `keys`. `turn` counts how often their loads have been in vain.
    fn batch<Q, E>(
        self: Arc<Self>,
        keys: Vec<Q>,
        load: LoadMany<Q, V, E>,
        turn: usize,
    ) -> BoxFuture<'static, Batch<V, E>>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        Box::pin(async move {
            if self.engine().is_closing() {
                return keys.iter().map(|_| Err(LoadError::ShuttingDown)).collect();
            }
            let Asked { mut answers, leads, refreshes, joins, again, mut apart } = Asked::new(&self, &keys);
            if !refreshes.is_empty() {
                self.refresh_many(refreshes, load.clone());
            }
            let seats: Vec<_> = leads.iter().map(|led| (led.at, led.lead.seat())).collect();
            self.begin_many(leads, load.clone());
            let mut once_more = Vec::new();
            // All at one time: each waits as long as its caller has patience for, and not one after the other.
            let led = join_all(seats.into_iter().map(|(at, seat)| async move { (at, seat.lead().await) }));
            let mut joined = Vec::new();
            for (at, flying) in joins {
                match chain::is_loading(&flying.flight) {
                    true => answers[at] = Some(Err(LoadError::Recursive)),
                    false => joined.push(async move { (at, flying.wait().await) }),
                }
            }
            let (led, joined) = join(led, join_all(joined)).await;
            for (at, flown) in led {
                answers[at] = Some(match flown {
                    Flown::Found(found) => Ok(Some(found.value)),
                    Flown::Unshared => Ok(None),
                    Flown::Failed(failure) => {
                        Err(load::typed(failure).expect("the flights of a batch fail with its error type"))
                    }
                    Flown::Again if self.engine().is_closing() => Err(LoadError::ShuttingDown),
                    Flown::Again => Err(LoadError::TimedOut),
                });
            }
            for (at, flown) in joined {
                match flown {
                    Flown::Found(found) => answers[at] = Some(Ok(Some(found.value))),
                    Flown::Unshared => apart.push(at),
                    Flown::Again => once_more.push(at),
                    Flown::Failed(failure) => match load::typed(failure) {
                        Some(error) => {
                            self.counters.read(Outcome::Miss);
                            answers[at] = Some(Err(error));
                        }
                        // Another caller's loader failed with an error of another type.
                        None => once_more.push(at),
                    },
                }
            }
            if turn + 1 == MOST_TURNS {
                apart.append(&mut once_more);
            }
            let of = |places: &[usize]| places.iter().map(|&at| keys[at].clone()).collect::<Vec<Q>>();
            if !once_more.is_empty() {
                let more = self.clone().batch(of(&once_more), load.clone(), turn + 1).await;
                once_more.into_iter().zip(more).for_each(|(at, answer)| answers[at] = Some(answer));
            }
            if !apart.is_empty() {
                let more = self.load_many_apart(of(&apart), load).await;
                apart.into_iter().zip(more).for_each(|(at, answer)| answers[at] = Some(answer));
            }
            for (at, before) in again {
                answers[at] = answers[before].clone();
            }
            answers.into_iter().map(|answer| answer.expect("each key has gone one of the ways")).collect()
        })
    }

    fn refresh_many<Q, E>(self: &Arc<Self>, refreshes: Vec<Led<Q, V>>, load: LoadMany<Q, V, E>)
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let key = refreshes[0].lead.key().clone();
        let refresh = self.clone().look_up_and_load(refreshes, load).instrument(tracing::Span::current());
        self.engine().spawn_refresh(&key, Box::pin(refresh));
    }

    /// Looks up what is led, and loads the rest: apart from the caller as soon as it has to wait, for others wait for these
    /// flights too.
    fn begin_many<Q, E>(self: &Arc<Self>, led: Vec<Led<Q, V>>, load: LoadMany<Q, V, E>)
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        if led.is_empty() {
            return;
        }
        let work = self.clone().look_up_and_load(led, load).instrument(tracing::Span::current());
        let mut work: BoxFuture<'static, ()> = Box::pin(work);
        if at_once(&mut work).is_none() {
            self.engine().runtime.spawn(work);
        }
    }

    async fn look_up_and_load<Q, E>(self: Arc<Self>, led: Vec<Led<Q, V>>, load: LoadMany<Q, V, E>)
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let missing = self.look_up_many(led, &load).await;
        let turn = |Led { at, key, lead }: Led<Q, V>| async move { (at, key, lead.first_turn().await) };
        let mut ready = Vec::new();
        for (at, key, turn) in join_all(missing.into_iter().map(turn)).await {
            match turn {
                FirstTurn::Found(_) => {}
                FirstTurn::Load(lead) => ready.push(Led { at, key, lead }),
                FirstTurn::Later(lead) => self.load_later(Led { at, key, lead }, load.clone()),
            }
        }
        if !ready.is_empty() {
            self.load_ready(ready, load).await;
        }
    }

    /// Another process is at this one. Should it fail, the key is loaded alone.
    fn load_later<Q, E>(self: &Arc<Self>, led: Led<Q, V>, load: LoadMany<Q, V, E>)
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let handle = self.clone();
        let work = async move {
            let Led { at, key, lead } = led;
            match lead.leased().await {
                FirstTurn::Found(_) => {}
                FirstTurn::Load(lead) | FirstTurn::Later(lead) => {
                    handle.load_ready(vec![Led { at, key, lead }], load).await;
                }
            }
        };
        self.engine().runtime.spawn(Box::pin(work.instrument(tracing::Span::current())));
    }

    /// One look into the remote tier for all; answers what it does not have.
    async fn look_up_many<Q, E>(
        self: &Arc<Self>,
        led: Vec<Led<Q, V>>,
        load: &LoadMany<Q, V, E>,
    ) -> Vec<Led<Q, V>>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let engine = self.engine().clone();
        let Some(remote) = engine.remote.as_ref().filter(|_| self.asks_remote()) else { return led };
        let asked = engine.runtime.now();
        let fetched = {
            let names: Vec<&[u8]> = led.iter().map(|led| led.lead.key().as_bytes()).collect();
            remote.fetch_many(&*engine.runtime, &names).await
        };
        let (mut missing, mut refreshes) = (Vec::new(), Vec::new());
        for (Led { at, key, mut lead }, fetched) in led.into_iter().zip(fetched) {
            lead.gathered().asked = Some(asked);
            let fetch = self.read(lead.key(), fetched);
            match lead.looked_up(fetch) {
                LookedUp::Found(_) => {}
                LookedUp::Stale(_, lead) => refreshes.extend(lead.map(|lead| Led { at, key, lead })),
                LookedUp::Nothing(lead) => missing.push(Led { at, key, lead }),
            }
        }
        if !refreshes.is_empty() {
            self.refresh_many(refreshes, load.clone());
        }
        missing
    }

    /// One load for all of these. However it ends, each flight lands.
    async fn load_ready<Q, E>(self: &Arc<Self>, ready: Vec<Led<Q, V>>, load: LoadMany<Q, V, E>)
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let (runtime, limit) = (self.engine().runtime.clone(), self.policy.load_timeout);
        let _permit = match &self.gate {
            None => None,
            Some(gate) => match gate.enter(&*runtime, limit).await {
                Some(permit) => Some(permit),
                None => {
                    let leads = ready.into_iter().map(|led| led.lead).collect();
                    return self.all_fail(leads, &LoadError::<E>::Overloaded);
                }
            },
        };
        let mut inside = chain::enter(&ready[0].lead.flight);
        let mut keys = Vec::with_capacity(ready.len());
        let mut leads: HashMap<Key, Lead<V>, Identity> = HashMap::default();
        for Led { key, mut lead, .. } in ready {
            lead.begin();
            inside = inside.and(&lead.flight);
            keys.push(key);
            leads.insert(lead.key().clone(), lead);
        }
        let work = inside.run(async move { load(keys).await });
        let rows = match load::contain(&*runtime, limit, work).await {
            Ok(rows) => rows,
            Err(error) => return self.all_fail(leads.into_values().collect(), &error),
        };
        for (key, row) in rows {
            // One that was not asked for, or is told twice, is left aside.
            let Some(lead) = leads.remove(&self.key(&key).to_key()) else { continue };
            match row {
                Ok(filled) => drop(lead.fill(Arc::new(filled.value), &filled.fill)),
                Err(error) => self.all_fail(vec![lead], &LoadError::Loader(Arc::new(error))),
            }
        }
        for lead in leads.into_values() {
            // The loader knows of none. Whoever else waits asks for himself.
            lead.unshared(false);
        }
    }

    fn all_fail<E: Send + Sync + 'static>(&self, leads: Vec<Lead<V>>, error: &LoadError<E>) {
        // One event for all: they failed as one.
        if let Some(first) = leads.first() {
            self.load_failed(first.key(), error);
        }
        for lead in leads {
            // What is stale instead is found by those who wait.
            drop(lead.fail(load::untyped(error)));
        }
    }

    /// Loads these for their caller alone, in a task all the same; stores nothing.
    async fn load_many_apart<Q, E>(self: &Arc<Self>, keys: Vec<Q>, load: LoadMany<Q, V, E>) -> Batch<V, E>
    where
        Q: ToKey + Clone + Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        keys.iter().for_each(|_| self.counters.read(Outcome::Skip));
        let names: Vec<Key> = keys.iter().map(|key| self.key(key).to_key()).collect();
        let loaded = self.contain_apart(async move { load(keys).await }).await;
        let rows = match loaded {
            Ok(rows) => rows,
            Err(error) => {
                self.load_failed(&names[0], &error);
                return names.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let mut rows: HashMap<Key, Result<Filled<V>, E>, Identity> =
            rows.into_iter().map(|(key, row)| (self.key(&key).to_key(), row)).collect();
        let answer = |name: &Key| match rows.remove(name) {
            None => Ok(None),
            Some(Ok(filled)) => Ok(Some(Arc::new(filled.value))),
            Some(Err(error)) => Err(LoadError::Loader(Arc::new(error))),
        };
        names.iter().map(answer).collect()
    }
}
