//! Who has how much of memory: exact, and per partition in the order of storing.
//!
//! Every counted entry carries a [`Stake`] in its place in the map and nowhere else: however it leaves memory (evicted,
//! replaced, discarded), it is counted no more from that moment on, and whoever holds a copy of it changes nothing.
//!
//! The lock here is taken under the locks of the map, where entries come and go. So nothing here may touch the map.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::key::Key;
use crate::policy::{Share, Whose};
use crate::stats::{Count, Counters};
use crate::sync::{Mutex, SoundHash};

/// What a stake takes, in bytes: itself, its line in the order, and a partition that has it alone.
pub(crate) const STAKE_OVERHEAD: u32 = 200;

/// The accounts of everybody: one for each namespace and each thing by which it is shared.
#[derive(Default)]
pub(crate) struct AllAccounts(Mutex<HashMap<(String, Whose), Arc<Accounts>>>);

impl AllAccounts {
    /// What handles on a namespace with this share have in common.
    pub(crate) fn of(&self, namespace: &str, share: &Share, counters: &Arc<Counters>) -> Arc<Accounts> {
        let mut all = self.0.lock();
        let of = all.entry((namespace.to_owned(), share.whose));
        of.or_insert_with(|| Arc::new(Accounts { counters: counters.clone(), books: Mutex::default() }))
            .clone()
    }

    /// Partitions that have something in memory.
    pub(crate) fn partitions(&self) -> usize {
        self.0.lock().values().map(|accounts| accounts.books.lock().partitions.len()).sum()
    }
}

/// What each partition of a namespace has in memory.
pub(crate) struct Accounts {
    counters: Arc<Counters>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    partitions: HashMap<Arc<[u8]>, Partition, SoundHash>,
    /// Every counted entry: its key and weight. Those of a partition stand together, the oldest first.
    order: BTreeMap<Ticket, (Key, u32)>,
    last: u64,
}

struct Partition {
    number: u64,
    held: u64,
    entries: usize,
}

/// Names a counted entry: the number of its partition, and its own. Never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64, u64);

/// Counts an entry to a partition, until it is dropped.
pub(crate) struct Stake {
    accounts: Arc<Accounts>,
    partition: Arc<[u8]>,
    pub(crate) ticket: Ticket,
}

impl Drop for Stake {
    fn drop(&mut self) {
        self.accounts.books.lock().leave(&self.partition, self.ticket);
    }
}

/// To whom an entry of memory counts, and how much of it he may have.
pub(crate) struct Part<'a> {
    pub(crate) accounts: &'a Arc<Accounts>,
    pub(crate) partition: &'a [u8],
    pub(crate) bound: u64,
}

impl Part<'_> {
    /// Counts an entry, as the newest.
    pub(crate) fn enter(&self, key: &Key, weight: u32) -> Box<Stake> {
        let (partition, ticket) = self.accounts.books.lock().enter(self.partition, key, weight);
        Box::new(Stake { accounts: self.accounts.clone(), partition, ticket })
    }

    /// The oldest entry, if there is more than there may be. It is counted no more, and has to go.
    pub(crate) fn take_oldest(&self) -> Option<(Key, Ticket)> {
        let mut books = self.accounts.books.lock();
        let (name, partition) = books.partitions.get_key_value(self.partition)?;
        if partition.held <= self.bound {
            return None;
        }
        let (name, all) = (name.clone(), Ticket(partition.number, 0)..);
        let (&ticket, (key, _)) = books.order.range(all).next()?;
        let key = key.clone();
        books.leave(&name, ticket);
        Some((key, ticket))
    }

    /// Is it counted still?
    pub(crate) fn has(&self, ticket: Ticket) -> bool {
        self.accounts.books.lock().order.contains_key(&ticket)
    }

    /// An entry has had to go.
    pub(crate) fn count_evicted(&self) {
        self.accounts.counters.count(Count::ShareEvicted);
    }
}

impl Books {
    fn enter(&mut self, name: &[u8], key: &Key, weight: u32) -> (Arc<[u8]>, Ticket) {
        self.last += 1;
        let number = self.last;
        let name =
            self.partitions.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| name.clone());
        let new = Partition { number, held: 0, entries: 0 };
        let partition = self.partitions.entry(name.clone()).or_insert(new);
        partition.held += u64::from(weight);
        partition.entries += 1;
        let ticket = Ticket(partition.number, number);
        self.order.insert(ticket, (key.clone(), weight));
        (name, ticket)
    }

    fn leave(&mut self, name: &Arc<[u8]>, ticket: Ticket) {
        // Not there: it has been taken to make room.
        let Some((_, weight)) = self.order.remove(&ticket) else { return };
        let Some(partition) = self.partitions.get_mut(name) else { return };
        partition.held -= u64::from(weight);
        partition.entries -= 1;
        if partition.entries == 0 {
            self.partitions.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
