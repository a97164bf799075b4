//! How a read was answered, and why something was not cached: closed sets with stable names.

use serde::Serialize;

/// How a read was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// From a tier, fresh.
    Hit,
    /// By a load.
    Miss,
    /// From a tier, past its ttl but inside its stale window.
    Stale,
    /// The caller asked to go past the cache.
    Bypass,
    /// By a load that somebody else had begun.
    Coalesced,
    /// Not a matter for the cache.
    Skip,
}

impl Outcome {
    /// Every outcome, in order.
    pub const ALL: [Outcome; 6] =
        [Outcome::Hit, Outcome::Miss, Outcome::Stale, Outcome::Bypass, Outcome::Coalesced, Outcome::Skip];

    /// The name in logs, metrics, headers and the CLI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Miss => "miss",
            Outcome::Stale => "stale",
            Outcome::Bypass => "bypass",
            Outcome::Coalesced => "coalesced",
            Outcome::Skip => "skip",
        }
    }
}

/// Where an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// In this process.
    Memory,
    /// In Redis or Valkey.
    Remote,
}

impl Tier {
    /// The name in logs, metrics and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Remote => "remote",
        }
    }
}

/// Why something was not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// The value is larger than the policy stores.
    TooLarge,
    /// The value is smaller than what the policy stores.
    TooSmall,
    /// Its tenant, user or the like has its share of a tier already, or the value is larger than that.
    Share,
    /// An invalidation has overtaken the load.
    Overtaken,
    /// Too many stores were under way.
    StoresBusy,
    /// Too many refreshes were under way.
    RefreshesBusy,
    /// The method is neither GET nor HEAD.
    Method,
    /// `Authorization` or `Cookie` on a route that does not say who may share its answers.
    Credentials,
    /// A Range request.
    Range,
    /// An upgrade.
    Upgrade,
    /// The request said `no-store`.
    RequestNoStore,
    /// The route's own `skip`.
    Route,
    /// A mistake in the setup: the path has no such parameter.
    MissingId,
    /// A mistake in the setup: the layer stands outside of a router.
    NoRoute,
    /// The response's status is not one that is stored.
    Status,
    /// The response said `no-store` or `private`.
    ResponseForbids,
    /// The response sets a cookie.
    SetCookie,
    /// `Vary` names a header outside of the key, or is `*`.
    Vary,
    /// A body of unknown length, or a stream of events.
    Stream,
    /// The body ended before its length, or with an error.
    Truncated,
    /// The tags of the response are too many or too long.
    Tags,
    /// The answer to this key could not be shared a moment ago.
    Uncacheable,
    /// Too many loads are under way.
    Overloaded,
    /// The cache is switched off, or being shut down.
    Off,
}

impl SkipReason {
    /// The name in logs and headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            SkipReason::TooLarge => "too_large",
            SkipReason::TooSmall => "too_small",
            SkipReason::Share => "share",
            SkipReason::Overtaken => "overtaken",
            SkipReason::StoresBusy => "stores_busy",
            SkipReason::RefreshesBusy => "refreshes_busy",
            SkipReason::Method => "method",
            SkipReason::Credentials => "credentials",
            SkipReason::Range => "range",
            SkipReason::Upgrade => "upgrade",
            SkipReason::RequestNoStore => "request_no_store",
            SkipReason::Route => "route",
            SkipReason::MissingId => "missing_id",
            SkipReason::NoRoute => "no_route",
            SkipReason::Status => "status",
            SkipReason::ResponseForbids => "response_forbids",
            SkipReason::SetCookie => "set_cookie",
            SkipReason::Vary => "vary",
            SkipReason::Stream => "stream",
            SkipReason::Truncated => "truncated",
            SkipReason::Tags => "tags",
            SkipReason::Uncacheable => "uncacheable",
            SkipReason::Overloaded => "overloaded",
            SkipReason::Off => "off",
        }
    }

    /// Is it a mistake of whoever set up the route? Those are logged as errors.
    pub const fn is_mistake(self) -> bool {
        matches!(self, SkipReason::MissingId | SkipReason::NoRoute)
    }
}
