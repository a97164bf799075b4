//! The read path, step by step. Typed handles and the HTTP layer take the same steps.
//!
//! ```text
//! claim ─ memory fresh ───────────────► Found
//!       ├ memory stale ───────────────► Stale, with a Lead for the refresh
//!       ├ somebody loads already ─────► Join ─ wait ─► Found, or try again
//!       └ nobody does ────────────────► Lead ─ look_up ─ remote fresh ─► Found
//!                                              ├ remote stale ─► Stale
//!                                              └ turn (lease, place), begin, load, fill
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::Found;
use super::flying::Flying;
use super::handle::Handle;
use super::lead::Lead;
use crate::engine::{Engine, InMemory};
use crate::entry::Entry;
use crate::flight::Boarding;
use crate::key::{Key, Probe};
use crate::outcome::{SkipReason, Tier};
use crate::policy;
use crate::runtime::Moment;

/// How long after its limit a flight is given, before those who wait lose patience.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// The same for a leader on his way to the load. One whose thread the machine has suspended goes on in a moment; one that is not
/// polled any more never does.
const PATIENCE: Duration = Duration::from_millis(500);

/// What whoever reads a key has to do.
#[must_use = "a Lead that is dropped sends those who wait for it away empty-handed"]
pub enum Claim<V: Send + Sync + 'static> {
    /// Nothing: here it is, fresh.
    Found(Found<V>),
    /// Serve this value, which is stale or soon will be, and refresh it with the lead if there is one: else somebody is at
    /// it, or it is not to be tried now.
    Stale(Found<V>, Option<Lead<V>>),
    /// Load, for everybody.
    Lead(Lead<V>),
    /// Wait for the load that is under way.
    Join(Flying<V>),
    /// Load for yourself, side by side with others, and store nothing.
    Apart(SkipReason),
}

/// What must not have been invalidated before for a caller who comes now: by the local counter.
///
/// A node that has heard of the log too long ago does not know what was invalidated before this caller came. By the time the
/// load of somebody else ends it may, and then that counts.
fn arrival(engine: &Engine, now: Moment) -> u64 {
    if engine.node.serves_any(now) { engine.node.n() } else { u64::MAX }
}

/// What memory has to say before anybody loads.
enum Memory<V: Send + Sync + 'static> {
    /// This is the answer.
    Answer(Claim<V>),
    /// Load. Here is what may be served if that fails, or what was learned from what was there.
    Load(Option<Entry>),
}

/// Claims the bytes of a key.
pub(super) fn claim<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: &Probe<'_>) -> Claim<V> {
    let engine = handle.engine();
    if !engine.enabled || engine.is_closing() {
        return Claim::Apart(SkipReason::Off);
    }
    let now = engine.clock.now();
    let arrived = arrival(engine, now);
    let old = match in_memory(handle, key, now) {
        Memory::Answer(claim) => return claim,
        Memory::Load(old) => old,
    };
    if engine.uncacheable.has(key, now) {
        return Claim::Apart(SkipReason::Uncacheable);
    }
    let key = key.to_key();
    match board(handle, &key, now) {
        Boarding::Full => match old.and_then(|old| handle.still_usable(&key, &old, now)) {
            Some(found) => Claim::Stale(found, None),
            None => Claim::Apart(SkipReason::Overloaded),
        },
        Boarding::Join(flight) => Claim::Join(Flying { handle: handle.clone(), key, flight, arrived }),
        Boarding::Lead(flight) => {
            let mut lead = Lead::new(handle.clone(), key, flight, now);
            // A shutdown that began in between may have found no load under way, and be done.
            if engine.is_closing() {
                return Claim::Apart(SkipReason::Off);
            }
            if let Some(old) = old {
                lead.knows(&old, Tier::Memory);
            }
            // A flight may have landed between the look into memory and boarding.
            match lead.landed_meanwhile(now) {
                Some(entry) => lead.share(entry, Some(Tier::Memory)).map_or_else(Claim::Lead, Claim::Found),
                None => Claim::Lead(lead),
            }
        }
    }
}

/// What to do by what memory has.
fn in_memory<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: &Probe<'_>, now: Moment) -> Memory<V> {
    if !handle.uses_memory() {
        return Memory::Load(None);
    }
    let engine = handle.engine();
    let (entry, is_fresh) = match engine.in_memory(key, now) {
        InMemory::Fresh(entry) => (entry, true),
        InMemory::Stale(entry) => (entry, false),
        InMemory::Expired(entry) => return Memory::Load(Some(entry)),
        InMemory::Nothing => return Memory::Load(None),
    };
    let Some(found) = handle.found(&entry, Some(Tier::Memory), now) else { return Memory::Load(None) };
    let rests = engine.resting.has(key, now);
    if !is_fresh && !rests && !handle.revalidates(&entry, now) {
        return Memory::Load(Some(entry));
    }
    handle.answered(&key.bytes(), &found);
    if is_fresh && (rests || !is_due(handle, &entry, now)) {
        return Memory::Answer(Claim::Found(found));
    }
    let lead = if rests { None } else { refresh(handle, key.to_key(), &entry, Tier::Memory) };
    Memory::Answer(Claim::Stale(found, lead))
}

/// Is a fresh entry to be refreshed already?
fn is_due<V: Send + Sync + 'static>(handle: &Handle<V>, entry: &Entry, now: Moment) -> bool {
    let beta = handle.policy.early_refresh;
    beta > 0.0 && policy::is_due(entry.ttl(now), entry.cost(), beta, handle.engine().runtime.random())
}

fn board<V: Send + Sync + 'static>(handle: &Handle<V>, key: &Key, now: Moment) -> Boarding {
    let engine = handle.engine();
    let budget = engine.remote.as_ref().map_or(Duration::ZERO, |remote| remote.budget);
    engine.flights.board(key, &engine.runtime, now.plus(budget + PATIENCE))
}

/// Leave to refresh `key`, unless somebody loads it already. `old` is what there is of it.
pub(super) fn refresh<V: Send + Sync + 'static>(
    handle: &Arc<Handle<V>>,
    key: Key,
    old: &Entry,
    tier: Tier,
) -> Option<Lead<V>> {
    match claim_again(handle, key) {
        Claim::Lead(mut lead) => {
            lead.knows(old, tier);
            Some(lead)
        }
        _ => None,
    }
}

/// Claims a key to load it once more, whatever memory has: a lead for the refresh, or the load that is under way.
pub(super) fn claim_again<V: Send + Sync + 'static>(handle: &Arc<Handle<V>>, key: Key) -> Claim<V> {
    let engine = handle.engine();
    let now = engine.clock.now();
    let arrived = arrival(engine, now);
    match board(handle, &key, now) {
        Boarding::Full => Claim::Apart(SkipReason::Overloaded),
        Boarding::Join(flight) => Claim::Join(Flying { handle: handle.clone(), key, flight, arrived }),
        Boarding::Lead(flight) => {
            let lead = Lead::new(handle.clone(), key, flight, now).for_refresh();
            // As in `claim`.
            if engine.is_closing() { Claim::Apart(SkipReason::Off) } else { Claim::Lead(lead) }
        }
    }
}
