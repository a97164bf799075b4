//! The account against what is in memory, which is the naive model of it: after everything that can happen to an entry.

use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::entry::{Entry, Origin};
use crate::key::Probe;
use crate::log::Mark;
use crate::memory::Memory;
use crate::policy::Lifetime;
use crate::runtime::Moment;

const BOUND: u64 = 10_000;
const WHOSE: Whose = Whose::Segment(0);

fn accounts() -> Arc<Accounts> {
    let share = Share::of_segment(0).memory(BOUND);
    AllAccounts::default().of("doc", &share, &Arc::new(Counters::default()))
}

fn entry(weight: u32) -> Entry {
    let life = Lifetime { fresh_for: Duration::from_secs(9), stale_for: Duration::ZERO };
    let mark = Mark { n: 0, epoch: None, loaded: Moment::default() };
    let origin = Origin { mark, cost: Duration::ZERO, content: None, home: None };
    let mut entry = Entry::new(Arc::new(()), None, Moment::default(), life, origin);
    entry.weight = weight;
    entry
}

fn key(tenant: usize, id: usize) -> Key {
    Key::of(("doc", tenant, id))
}

fn put(memory: &Memory, accounts: &Arc<Accounts>, key: &Key, weight: u32, admits: bool) -> bool {
    let partition = WHOSE.partition(key.as_bytes()).expect("it has one");
    let part = Part { accounts, partition, bound: BOUND };
    memory.admit(key, entry(weight), Some(&part), |_| admits)
}

/// What each partition has in memory, by looking at every entry.
fn held(memory: &Memory) -> BTreeMap<Vec<u8>, u64> {
    let mut held = BTreeMap::new();
    for key in memory.keys().filter(|key| key.as_bytes().starts_with(b"doc:")) {
        let (partition, entry) = (WHOSE.partition(key.as_bytes()), memory.get(&Probe::from(&key)));
        if let (Some(partition), Some(entry)) = (partition, entry) {
            *held.entry(partition.to_vec()).or_default() += u64::from(entry.weight);
        }
    }
    held
}

fn counted(accounts: &Accounts) -> BTreeMap<Vec<u8>, u64> {
    let books = accounts.books.lock();
    let entries: usize = books.partitions.values().map(|partition| partition.entries).sum();
    assert_eq!(entries, books.order.len());
    books.partitions.iter().map(|(name, partition)| (name.to_vec(), partition.held)).collect()
}

proptest! {
    /// The map holds seven tenants' shares and ten use it: it evicts too.
    #[test]
    fn the_account_is_what_is_in_memory_and_nobody_has_more_than_his_share(
        steps in prop::collection::vec((0_usize..10, 0_usize..12, 1_u32..12_000, 0_u8..10), 1..300),
    ) {
        let (memory, accounts) = (Memory::new(7 * BOUND), accounts());
        // Readers that hold entries change nothing.
        let mut readers = Vec::new();
        for (tenant, id, weight, what) in steps {
            let key = key(tenant, id);
            let there = memory.get(&Probe::from(&key));
            match (what, there) {
                (0, _) => {
                    memory.remove(&Probe::from(&key));
                }
                (1, Some(there)) => memory.discard(&Probe::from(&key), &there),
                (2, there) => {
                    put(&memory, &accounts, &key, weight, false);
                    prop_assert_eq!(memory.get(&Probe::from(&key)).is_some(), there.is_some());
                }
                (3, Some(there)) => readers.push(there),
                (4, _) => {
                    // Of a handle without a share.
                    let other = Key::of(("other", id));
                    memory.admit(&other, entry(weight), None, |_| true);
                }
                _ => {
                    let fits = u64::from(weight + STAKE_OVERHEAD) <= BOUND;
                    prop_assert_eq!(put(&memory, &accounts, &key, weight, true), fits);
                    prop_assert!(fits || memory.get(&Probe::from(&key)).is_none(), "an older one stays");
                }
            }
            let counted = counted(&accounts);
            prop_assert_eq!(&counted, &held(&memory));
            prop_assert!(counted.values().all(|&bytes| bytes <= BOUND), "{:?}", counted);
        }
    }
}

/// Two threads put for one tenant: one makes room for itself and takes, as the oldest, what the other has counted and not yet
/// put in its place. Removed before it is there, it would stay for good, and nobody would know of it.
#[test]
fn what_is_counted_and_what_is_there_are_the_same_once_every_thread_is_done() {
    for round in 0..20 {
        let (memory, accounts) = (Memory::new(5 * BOUND), accounts());
        thread::scope(|scope| {
            for thread in 0..4 {
                let (memory, accounts) = (&memory, &accounts);
                scope.spawn(move || {
                    for i in 0..400 {
                        let key = key(i % 2, (i * 7 + thread * round) % 9);
                        let weight = 500 + u32::try_from(i * 131 % 6000).unwrap_or_default();
                        put(memory, accounts, &key, weight, true);
                        if i % 5 == 0 {
                            memory.remove(&Probe::from(&key));
                        }
                    }
                });
            }
        });
        let counted = counted(&accounts);
        assert_eq!(counted, held(&memory));
        assert!(counted.values().all(|&bytes| bytes <= BOUND), "{counted:?}");
        drop(memory);
        assert!(accounts.books.lock().order.is_empty() && accounts.books.lock().partitions.is_empty());
    }
}
