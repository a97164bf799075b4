//! What a layer was told, and what follows from it for one request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Response};
use larder_core::{AnyKey, Cache, Fill, Key, KeyWriter, Namespace, NoLoader, Outcome, SkipReason};

use super::failed::Failed;
use super::identity::Identify;
use super::stored::StoredResponse;
use super::style::HeaderStyle;
use crate::rules::query::VaryQuery;
use crate::rules::request::{self, Credentials, Verdict};
use crate::rules::response::{Keep, Storable};

pub(super) type Handle = Namespace<AnyKey, StoredResponse, NoLoader>;
type OfRequest<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;
type WriteKey = Arc<dyn Fn(&Parts, &mut KeyWriter<'_>) + Send + Sync>;
type OfResponse<T> = Arc<dyn Fn(&http::response::Parts, &Bytes) -> T + Send + Sync>;

/// Where the second segment of keys comes from.
#[derive(Clone)]
pub(super) enum Id {
    None,
    Fixed(String),
    Parameter(String),
    Custom(WriteKey),
}

/// Who may go past the cache with `Cache-Control: no-cache` or `max-age=0`.
#[derive(Clone, Default)]
pub enum WhoMayBypass {
    /// Anybody. The default: what browsers' reload buttons expect.
    #[default]
    Anybody,
    /// Nobody: such a request is answered like any other.
    Nobody,
    /// Requests for which this is true.
    If(OfRequest<bool>),
}

impl WhoMayBypass {
    /// Requests for which `may` is true.
    pub fn only(may: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        WhoMayBypass::If(Arc::new(may))
    }
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) cache: Cache,
    pub(super) handle: Handle,
    pub(super) id: Id,
    pub(super) sub: Option<String>,
    pub(super) version: Option<String>,
    pub(super) hash_label: String,
    pub(super) vary_query: VaryQuery,
    pub(super) vary_headers: Vec<HeaderName>,
    pub(super) skip: Option<OfRequest<bool>>,
    pub(super) ttl: Option<OfRequest<Duration>>,
    pub(super) ttl_from: Option<OfResponse<Option<Duration>>>,
    pub(super) tags: Option<OfRequest<Vec<String>>>,
    pub(super) tags_from: Option<OfResponse<Vec<String>>>,
    pub(super) identify: Option<Identify>,
    pub(super) credentials: Credentials,
    pub(super) style: HeaderStyle,
    /// Tells this style from every other in the process.
    pub(super) style_number: u64,
    pub(super) bypass: WhoMayBypass,
}

/// A number no other style has; the default style has zero.
pub(super) fn style_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl Config {
    pub(super) fn new(cache: Cache, handle: Handle) -> Self {
        Config {
            cache,
            handle,
            id: Id::None,
            sub: None,
            version: None,
            hash_label: "params".to_owned(),
            vary_query: VaryQuery::All,
            vary_headers: Vec::new(),
            skip: None,
            ttl: None,
            ttl_from: None,
            tags: None,
            tags_from: None,
            identify: None,
            credentials: Credentials::Refuse,
            style: HeaderStyle::default(),
            style_number: 0,
            bypass: WhoMayBypass::Anybody,
        }
    }

    /// What to do with a request, by its head.
    pub(super) fn judge(&self, parts: &Parts) -> Verdict {
        if self.skip.as_ref().is_some_and(|skip| skip(parts)) {
            return Verdict::Pass(SkipReason::Route);
        }
        match request::judge(&parts.method, &parts.headers, &self.credentials) {
            Verdict::Bypass => match &self.bypass {
                WhoMayBypass::Anybody => Verdict::Bypass,
                WhoMayBypass::If(may) if may(parts) => Verdict::Bypass,
                WhoMayBypass::Nobody | WhoMayBypass::If(_) => Verdict::Cache,
            },
            verdict => verdict,
        }
    }

    pub(super) fn storable(&self) -> Storable<'_> {
        let policy = self.handle.policy();
        Storable {
            vary_headers: &self.vary_headers,
            smallest_body: policy.smallest_stored_size() as u64,
            largest_body: policy.largest_stored_size() as u64,
            negative_ttl: policy.negative_time_to_live(),
        }
    }

    /// What the request says of the answer: its ttl and some of its tags.
    pub(super) fn fill(&self, parts: &Parts) -> Fill {
        let mut fill = Fill::new();
        fill.ttl = self.ttl.as_ref().map(|ttl| ttl(parts));
        if let Some(tags) = &self.tags {
            fill.tags = tags(parts);
        }
        fill
    }

    /// What the answer says of itself.
    pub(super) fn complete(&self, fill: &mut Fill, keep: Keep, parts: &http::response::Parts, body: &Bytes) {
        match (keep, &self.ttl_from) {
            (Keep::Negative(ttl), _) => fill.ttl = Some(ttl),
            (Keep::Policy, Some(from)) => fill.ttl = from(parts, body).or(fill.ttl),
            (Keep::Policy, None) => {}
        }
        if let Some(tags) = &self.tags_from {
            fill.tags.extend(tags(parts, body));
        }
    }

    /// The calendar.
    pub(super) fn calendar(&self) -> &dyn larder_core::Runtime {
        &**self.cache.runtime()
    }

    /// Reports a load that has failed.
    pub(super) fn failed(&self, key: &Key, failed: Failed) {
        let (reason, message) = failed.event();
        self.cache.load_failed(key, reason, &message);
    }

    /// Counts and reports a request for which there is no room, and answers it.
    pub(super) fn turn_away(&self, path: &str, outcome: Outcome) -> Response<Body> {
        self.handle.count_read(outcome);
        self.cache.skipped(path, SkipReason::Overloaded);
        Failed::Overloaded.answer()
    }

    /// Counts and reports a request that is none of the cache's business.
    pub(super) fn passed(&self, parts: &Parts, reason: SkipReason) {
        self.handle.count_read(Outcome::Skip);
        self.cache.skipped(parts.uri.path(), reason);
    }
}
