//! The names of all metrics. `docs/reference/metrics.md` has the same; a test (`tests/metrics.rs`) compares them.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Up, until the process ends.
    Counter,
    /// Up and down.
    Gauge,
    /// `_sum` and `_count`, both counters.
    Summary,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        }
    }
}

/// Metrics of one name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

const fn family(
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, help, labels }
}

const NAMESPACE: &[&str] = &["namespace"];

pub(super) const REQUESTS: Family = family(
    Kind::Counter,
    "larder_requests_total",
    &["namespace", "tier", "outcome"],
    "Reads, by how they were answered and from which tier.",
);
pub(super) const LOADS: Family = family(
    Kind::Summary,
    "larder_load_duration_seconds",
    NAMESPACE,
    "Loads that ended, and the time they took.",
);
pub(super) const LOAD_FAILURES: Family =
    family(Kind::Counter, "larder_load_failures_total", NAMESPACE, "Loads that ended badly.");
pub(super) const REFRESHES: Family =
    family(Kind::Counter, "larder_refreshes_total", NAMESPACE, "Loads in the background, for stale entries.");
pub(super) const STORES: Family = family(
    Kind::Counter,
    "larder_stores_total",
    &["namespace", "result"],
    "Values for the remote tier, by what became of them.",
);
pub(super) const REJECTED: Family = family(
    Kind::Counter,
    "larder_rejected_total",
    NAMESPACE,
    "Remote bytes that were no entry for this node: damaged, or of another release.",
);
pub(super) const UNVERIFIED: Family = family(
    Kind::Counter,
    "larder_unverified_total",
    NAMESPACE,
    "Remote entries that were invalidated, or whose validity this node could not verify.",
);
pub(super) const SHARES: Family = family(
    Kind::Counter,
    "larder_share_limited_total",
    &["namespace", "result"],
    "What tenants, users or the like could not have beyond their share of the cache.",
);
pub(super) const SHARE_PARTITIONS: Family = family(
    Kind::Gauge,
    "larder_share_partitions",
    &[],
    "Tenants, users or the like that have something in memory and may have only their share of it.",
);
pub(super) const ENTRIES: Family = family(Kind::Gauge, "larder_entries", &[], "Entries in memory.");
pub(super) const MEMORY: Family = family(Kind::Gauge, "larder_memory_bytes", &[], "What they weigh.");
pub(super) const MEMORY_LIMIT: Family =
    family(Kind::Gauge, "larder_memory_limit_bytes", &[], "The bound on that.");
pub(super) const FLIGHTS: Family = family(Kind::Gauge, "larder_flights", &[], "Loads under way.");
pub(super) const HUNG_LOADS: Family = family(
    Kind::Gauge,
    "larder_hung_loads",
    &[],
    "Loads that are past their deadline and still run, because they block their thread.",
);
pub(super) const LEASES: Family = family(
    Kind::Gauge,
    "larder_leases",
    &[],
    "Leases that this process has: keys that others wait for it to load.",
);
pub(super) const STAMPS: Family =
    family(Kind::Gauge, "larder_stamps", &[], "Selectors in this node's table of invalidations.");
pub(super) const INVALIDATIONS: Family = family(
    Kind::Counter,
    "larder_invalidations_total",
    &["mode", "delivery"],
    "Invalidations made in this process, by their verb and by how far they had come when they answered.",
);
pub(super) const HANDLER_FAILURES: Family = family(
    Kind::Counter,
    "larder_handler_failures_total",
    &[],
    "What handlers of published events have failed to do: panics, payloads that lacked a field.",
);
pub(super) const PUSHED_BACK: Family = family(
    Kind::Counter,
    "larder_pushed_back_total",
    &[],
    "Entries that memory has given back to a remote tier that had lost them.",
);
pub(super) const TOKENS_IGNORED: Family = family(
    Kind::Counter,
    "larder_tokens_ignored_total",
    &[],
    "Requests whose Larder-Epoch was worth nothing: made up, unreadable, or lost by the log.",
);
pub(super) const REMOTE_CONNECTED: Family =
    family(Kind::Gauge, "larder_remote_connected", &[], "1 while the remote tier is connected, else 0.");
pub(super) const BREAKER: Family =
    family(Kind::Gauge, "larder_breaker_state", &["state"], "1 for the breaker's state, 0 for the others.");
pub(super) const LOG_STATE: Family = family(
    Kind::Gauge,
    "larder_log_state",
    &["state"],
    "1 for how this node stands to the invalidation log, 0 for the others.",
);
pub(super) const LOG_LAG: Family = family(
    Kind::Gauge,
    "larder_log_lag_seconds",
    &[],
    "How long ago this node was last known to be caught up with the log. About a second when all is well.",
);
pub(super) const LOG_GAPS: Family =
    family(Kind::Counter, "larder_log_gaps_total", &[], "How often part of the log went by unseen.");
pub(super) const LOG_QUEUED: Family = family(
    Kind::Gauge,
    "larder_log_queued_invalidations",
    &[],
    "Invalidations made here that have not come back through the log: sent, or waiting for Redis.",
);
pub(super) const LOG_OLDEST_QUEUED: Family = family(
    Kind::Gauge,
    "larder_log_oldest_queued_seconds",
    &[],
    "How long the oldest of these has been on its way; 0 if there is none.",
);
pub(super) const LOG_HORIZON: Family = family(
    Kind::Gauge,
    "larder_log_horizon_seconds",
    &[],
    "How far back this node knows every invalidation: older remote entries are misses.",
);
