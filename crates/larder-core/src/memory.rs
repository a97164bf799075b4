//! The memory tier: decoded values, bounded by bytes. The only file that knows which map it is.

use std::cell::Cell;
use std::mem;
use std::time::Duration;

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{OptionsBuilder, Weighter};

use crate::accounts::{Part, STAKE_OVERHEAD, Stake, Ticket};
use crate::entry::{AnyValue, Entry};
use crate::key::{Identity, Key, Probe};
use crate::outcome::SkipReason;
use crate::runtime::Moment;

/// A part of the map holds at least this much, or all of it: an entry larger than its part would not stay.
const LEAST_PART: u64 = 8 * 1024 * 1024;
/// Parts, and locks, at the most.
const MOST_PARTS: u64 = 32;
/// What an entry is expected to weigh; sizes the map's memory of what it evicted, nothing else.
const EXPECTED_ENTRY: u64 = 1024;

/// What a fresh hit needs of an entry.
pub(crate) struct Glance {
    pub(crate) value: AnyValue,
    pub(crate) stored: Moment,
    pub(crate) fresh_until: Moment,
    pub(crate) cost: Duration,
}

/// An entry in its place. The map clones what it hands out, and hands out only glances: see [`Entry::glance`].
struct Place {
    entry: Entry,
    /// Counts it to a partition for as long as it is here.
    stake: Option<Box<Stake>>,
}

impl Clone for Place {
    #[inline]
    fn clone(&self) -> Self {
        Place { entry: self.entry.glance(), stake: None }
    }
}

#[derive(Clone)]
struct Weights;

impl Weighter<Key, Place> for Weights {
    fn weight(&self, _: &Key, place: &Place) -> u64 {
        u64::from(place.entry.weight).max(1)
    }
}

/// Entries in this process.
pub(crate) struct Memory {
    map: Cache<Key, Place, Weights, Identity, DefaultLifecycle<Key, Place>>,
    /// The heaviest entry that stays.
    largest: u64,
    bound: u64,
}

impl Memory {
    /// A tier bounded by `bound` bytes; zero holds nothing.
    pub(crate) fn new(bound: u64) -> Self {
        let parts = (bound / LEAST_PART).clamp(1, MOST_PARTS);
        let parts = 1_u64 << parts.ilog2();
        let items = usize::try_from(bound / EXPECTED_ENTRY).unwrap_or(usize::MAX).max(1024);
        let options = OptionsBuilder::new()
            .shards(usize::try_from(parts).unwrap_or(1))
            .weight_capacity(bound)
            .estimated_items_capacity(items)
            .build()
            .expect("shards, weight and item capacity are all given");
        let map = Cache::with_options(options, Weights, Identity::default(), DefaultLifecycle::default());
        // The map keeps some of a part for entries on trial.
        let largest = map.shard_capacity() / 10 * 9;
        Memory { map, largest, bound }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.bound > 0
    }

    /// What memory has under a key, if it is fresh at `now` and was known to be valid at `n`. If not, `still_valid` says
    /// whether it is, of the entry in its place, and it is dated up.
    // Always inlined, and nothing but the value is moved: whatever is passed on whole is a copy of what was written a
    // moment ago, and waits for it.
    #[inline(always)]
    pub(crate) fn fresh(
        &self,
        key: &Probe<'_>,
        n: u64,
        now: Moment,
        still_valid: impl FnOnce(&Entry) -> bool,
    ) -> Option<Glance> {
        let place = self.map.get(key)?;
        let entry = &place.entry;
        if !entry.is_fresh(now) {
            return None;
        }
        if entry.seen() < n {
            return self.dated_up(key, n, now, still_valid);
        }
        let (stored, fresh_until, cost) = (entry.stored, entry.fresh_until(), entry.cost());
        Some(Glance { value: place.entry.value, stored, fresh_until, cost })
    }

    #[inline(never)]
    fn dated_up(
        &self,
        key: &Probe<'_>,
        n: u64,
        now: Moment,
        still_valid: impl FnOnce(&Entry) -> bool,
    ) -> Option<Glance> {
        let mut glance = None;
        self.map.remove_if(key, |there| {
            let entry = &there.entry;
            if entry.is_fresh(now) && still_valid(entry) {
                entry.date_up(n);
                let (stored, fresh_until, cost) = (entry.stored, entry.fresh_until(), entry.cost());
                glance = Some(Glance { value: entry.value.clone(), stored, fresh_until, cost });
            }
            false
        });
        glance
    }

    /// The whole entry.
    pub(crate) fn get(&self, key: &Probe<'_>) -> Option<Entry> {
        // Most misses end here, with a lock that readers share.
        if !self.map.contains_key(key) {
            return None;
        }
        let mut entry = None;
        // `remove_if` is the map's way to look at an entry in its place without a key to own.
        self.map.remove_if(key, |there| {
            entry = Some(there.entry.clone());
            false
        });
        entry
    }

    /// Puts an entry in if `admits` says so of what is there. False: it did not, or the entry is too heavy. Counted to a
    /// `part` that holds more than its bound then, older entries of the same partition make room.
    pub(crate) fn admit(
        &self,
        key: &Key,
        mut entry: Entry,
        part: Option<&Part<'_>>,
        admits: impl Fn(Option<&Entry>) -> bool,
    ) -> bool {
        if self.refuses(entry.weight, part).is_some() {
            // What is there is older, and would be served on.
            self.map.remove_if(key, |there| admits(Some(&there.entry)));
            return false;
        }
        entry.weight = weight_in(entry.weight, part);
        let ticket = Cell::new(None);
        let place = |entry: Entry| {
            let stake = part.map(|part| part.enter(key, entry.weight));
            ticket.set(stake.as_ref().map(|stake| stake.ticket));
            Place { entry, stake }
        };
        let mut entry = Some(entry);
        let placed =
            self.map.entry(key, None, |_, there| match entry.take_if(|_| admits(Some(&there.entry))) {
                // In place, so that nobody sees a gap. The one that was there is dropped without the map's lock.
                Some(new) if new.weight <= there.entry.weight => {
                    EntryAction::Retain(Some(mem::replace(there, place(new))))
                }
                // The map makes room only for what is inserted, not for what grows in place.
                Some(new) => {
                    entry = Some(new);
                    EntryAction::ReplaceWithGuard
                }
                None => EntryAction::Retain(None),
            });
        let admitted = match (placed, entry) {
            (EntryResult::Retained(replaced), _) => replaced.is_some(),
            (EntryResult::Replaced(guard, _), Some(entry)) => guard.insert(place(entry)).is_ok(),
            (EntryResult::Vacant(guard), Some(entry)) => admits(None) && guard.insert(place(entry)).is_ok(),
            _ => false,
        };
        if let (Some(part), Some(ticket)) = (part, ticket.get()) {
            self.make_room(part);
            // Whoever made room for himself has taken it for the oldest before it was in its place to be removed.
            if !part.has(ticket) {
                self.evict(key, ticket);
            }
        }
        admitted
    }

    fn make_room(&self, part: &Part<'_>) {
        while let Some((key, ticket)) = part.take_oldest() {
            if self.evict(&key, ticket) {
                part.count_evicted();
            }
        }
    }

    fn evict(&self, key: &Key, ticket: Ticket) -> bool {
        let counted = |there: &Place| there.stake.as_ref().is_some_and(|stake| stake.ticket == ticket);
        self.map.remove_if(key, counted).is_some()
    }

    /// Why an entry of this weight would not stay, if it would not.
    pub(crate) fn refuses(&self, weight: u32, part: Option<&Part<'_>>) -> Option<SkipReason> {
        let weight = u64::from(weight_in(weight, part));
        if weight > self.largest {
            Some(SkipReason::TooLarge)
        } else {
            part.filter(|part| weight > part.bound).map(|_| SkipReason::Share)
        }
    }

    /// Changes the entry that `copy` was taken from, if it is there still.
    pub(crate) fn change(&self, key: &Probe<'_>, copy: &Entry, change: impl FnOnce(&Entry)) {
        self.map.remove_if(key, |there| {
            if there.entry.is(copy) {
                change(&there.entry);
            }
            false
        });
    }

    /// Removes the entry that `copy` was taken from, if it is there still.
    pub(crate) fn discard(&self, key: &Probe<'_>, copy: &Entry) {
        self.map.remove_if(key, |there| there.entry.is(copy));
    }

    /// Is there an entry that is not the one `copy` was taken from?
    pub(crate) fn has_other(&self, key: &Probe<'_>, copy: &Entry) -> bool {
        self.map.get(key).is_some_and(|there| !there.entry.is(copy))
    }

    pub(crate) fn remove(&self, key: &Probe<'_>) -> bool {
        self.map.remove(key).is_some()
    }

    /// The keys, one by one; each as long as it is there when its turn comes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> + Send + '_ {
        self.map.iter().map(|(key, _)| key)
    }

    pub(crate) fn entries(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.map.weight()
    }

    pub(crate) fn bound(&self) -> u64 {
        self.bound
    }
}

/// What an entry weighs, its stake included.
fn weight_in(weight: u32, part: Option<&Part<'_>>) -> u32 {
    weight.saturating_add(part.map_or(0, |_| STAKE_OVERHEAD))
}
