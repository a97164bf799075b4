//! What the scripts for leases and shares do, on the data of a simulated server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::log::Epoch;
use crate::remote::{LeaseRequest, StoreLease};

/// Waiters that a lease remembers.
const MOST_WAITERS: usize = 64;
/// Parts into which the life of a share's bytes is divided.
const PARTS: u64 = 16;

/// A lease of a key.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) token: u64,
    pub(super) epoch: Epoch,
    pub(super) until_us: u64,
    pub(super) waiters: Vec<u64>,
}

impl Lease {
    /// One that is granted now. Those who waited for the lease it takes over wait for this one.
    pub(super) fn new(request: &LeaseRequest, now_us: u64, over: Option<&Lease>) -> Self {
        let waiters = over.map(|lease| lease.waiters.clone()).unwrap_or_default();
        Lease { token: request.token, epoch: request.epoch, until_us: now_us + micros(request.life), waiters }
    }

    pub(super) fn lives(&self, now_us: u64) -> bool {
        now_us < self.until_us
    }

    /// Wakes `waiter` at its end.
    pub(super) fn remember(&mut self, waiter: u64) {
        if self.waiters.len() < MOST_WAITERS && !self.waiters.contains(&waiter) {
            self.waiters.push(waiter);
        }
    }
}

/// May a value be stored where `there` is, with this lease living?
pub(super) fn may_store(
    store: StoreLease,
    epoch: Epoch,
    lease: Option<&Lease>,
    there: Option<Epoch>,
) -> bool {
    let on_line = there.filter(|there| there.line == epoch.line);
    let has_lost = match store {
        StoreLease::Ends(token) => match lease {
            Some(lease) => lease.token != token,
            None => on_line.is_some_and(|there| there.at >= epoch.at),
        },
        StoreLease::Yields => there.is_some_and(|there| on_line.is_none() || there.at >= epoch.at),
        StoreLease::Apart | StoreLease::Breaks => false,
    };
    !(has_lost || on_line.is_some_and(|there| there.at > epoch.at))
}

/// Bytes counted to shares, by when they end.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(BTreeMap<Vec<u8>, BTreeMap<(u64, u64), u64>>);

impl Shares {
    pub(super) fn reserve(
        &mut self,
        share: &[u8],
        bytes: u64,
        life: Duration,
        limit: u64,
        now_us: u64,
    ) -> bool {
        let parts = self.0.entry(share.to_vec()).or_default();
        parts.retain(|(width, end), _| width * end > now_us);
        let held: u64 = parts.values().sum();
        if held.saturating_add(bytes) > limit {
            return false;
        }
        *parts.entry(part(life, now_us)).or_default() += bytes;
        true
    }

    pub(super) fn give_back(&mut self, share: &[u8], bytes: u64, left: Duration, now_us: u64) {
        let Some(parts) = self.0.get_mut(share) else { return };
        let mut bytes = bytes;
        let end_us = now_us + micros(left);
        // What is over was free already: nothing is taken from it.
        parts.retain(|(width, end), _| width * end > now_us);
        // Where they were counted is known roughly: from the part in which they end on, whatever its width.
        let mut ends: Vec<(u64, u64)> = parts.keys().copied().collect();
        ends.sort_by_key(|(width, end)| (width * end).abs_diff(end_us));
        for end in ends {
            let held = parts.entry(end).or_default();
            let taken = bytes.min(*held);
            *held -= taken;
            bytes -= taken;
        }
    }
}

/// The part in which bytes that live for `life` end: its width in microseconds, and its number.
fn part(life: Duration, now_us: u64) -> (u64, u64) {
    let width = (micros(life) / PARTS).max(1_000_000).next_power_of_two();
    (width, (now_us + micros(life)) / width + 1)
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
