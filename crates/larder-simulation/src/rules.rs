//! How a resource is kept: its policy, and what follows from that for the oracle.

use std::time::Duration;

use larder_core::Policy;

use crate::chance::Chance;

/// How far a load may be short of its ttl by chance.
const JITTER: f64 = 0.1;
/// The load timeout of most resources. Longer than the shortest `disconnected_ttl`: what a node knows may grow too old while
/// it loads.
const SHORT: Duration = Duration::from_secs(6);
/// The one of others. Longer than a lease lives that nobody extends.
const LONG: Duration = Duration::from_secs(25);

/// The rules of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) memory: bool,
    pub(crate) remote: bool,
    /// Loads ask for a lease.
    pub(crate) lease: bool,
    /// A value is fresh so long at the least, and at the most.
    pub(crate) fresh: (Duration, Duration),
    /// How long it is served stale at once.
    pub(crate) revalidate: Duration,
    /// How long it is served stale for whatever reason.
    pub(crate) window: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) max_loads: Option<usize>,
    /// Fresh entries may be loaded again.
    pub(crate) early: bool,
    /// Some values say that there is none.
    pub(crate) negative: bool,
}

impl Rules {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let ttl = chance.millis(5000, 90_000);
        let window = |chance: &mut Chance, none, most| match chance.percent(none) {
            true => Duration::ZERO,
            false => chance.millis(2000, most),
        };
        let (revalidate, on_error) = (window(chance, 35, 40_000), window(chance, 40, 90_000));
        let load_timeout = if chance.percent(25) { LONG } else { SHORT };
        let retry_after = chance.millis(500, 8000);
        let mut policy = Policy::ttl(ttl)
            .stale_while_revalidate(revalidate)
            .stale_if_error(on_error)
            .retry_after(retry_after)
            .jitter(JITTER)
            .load_timeout(load_timeout);
        let (memory, remote) = match chance.below(100) {
            0..8 => (true, false),
            8..20 => (false, true),
            _ => (true, true),
        };
        policy = match (memory, remote) {
            (true, false) => policy.memory_only(),
            (false, _) => policy.remote_only(),
            (true, true) => policy,
        };
        let (mut least, mut most) = (ttl, ttl);
        if chance.percent(20) {
            (least, most) = (chance.millis(3000, 5000), ttl + Duration::from_secs(20));
            policy = policy.adaptive_ttl(least, most);
        }
        let negative = chance.percent(25);
        if negative {
            let ttl = chance.millis(3000, 10_000);
            (least, most) = (least.min(ttl), most.max(ttl));
            policy = policy.negative_ttl(ttl);
        }
        least = least.mul_f64(1.0 - JITTER);
        if memory && chance.percent(25) {
            let cap = chance.millis(2500, 20_000);
            least = least.min(cap);
            policy = policy.memory_ttl(cap);
        }
        let soft_timeout = chance.percent(35).then(|| chance.millis(20, 2000));
        if let Some(limit) = soft_timeout {
            policy = policy.soft_timeout(limit);
        }
        let early = chance.percent(20);
        if early {
            policy = policy.early_refresh(if chance.percent(50) { 1.0 } else { 20.0 });
        }
        let max_loads = chance.percent(20).then(|| chance.index(3) + 1);
        if let Some(most) = max_loads {
            policy = policy.max_loads(most).load_queue(chance.index(3));
        }
        let without = chance.percent(10);
        if without {
            policy = policy.without_lease();
        }
        Rules {
            policy,
            memory,
            remote,
            lease: remote && !without,
            fresh: (least, most),
            revalidate,
            window: revalidate.max(on_error),
            retry_after,
            soft_timeout,
            load_timeout,
            max_loads,
            early,
            negative,
        }
    }
}
