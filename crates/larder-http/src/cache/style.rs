//! The headers by which an answer says how it came about. See `docs/reference/headers.md`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue};
use larder_core::{Found, Outcome, Runtime, SkipReason};

use super::failed::Failed;
use super::stored::Instance;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE_STATUS: HeaderName = HeaderName::from_static("x-cache-status");
const X_CACHE_KEY: HeaderName = HeaderName::from_static("x-cache-key");
const X_CACHE_AGE: HeaderName = HeaderName::from_static("x-cache-age");
const X_CACHE_TTL: HeaderName = HeaderName::from_static("x-cache-ttl");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const X_CACHE_TTL_REMAINING: HeaderName = HeaderName::from_static("x-cache-ttl-remaining");
const X_CACHE_DATE: HeaderName = HeaderName::from_static("x-cache-date");

/// Which headers answers get, beside `ETag`, and `Age` on answers from the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderStyle {
    /// `Cache-Status` (RFC 9211). Default: on.
    pub cache_status: bool,
    /// `X-Cache-Status: HIT|MISS|STALE|BYPASS`, `X-Cache-Age`, `X-Cache-TTL` (the real ttl left, jitter included; both
    /// in seconds). Default: on.
    pub x_cache_status: bool,
    /// `X-Cache: HIT|MISS`, `X-Cache-TTL-Remaining` (seconds), `X-Cache-Date` (when it was stored). Default: off.
    pub x_cache: bool,
    /// `X-Cache-Key`: the key's name. Helps attackers as much as developers. Default: off.
    pub key: bool,
    /// What to show before the key, as `larder:` of `larder:trig:123`. Default: nothing.
    pub key_prefix: String,
}

impl Default for HeaderStyle {
    fn default() -> Self {
        HeaderStyle {
            cache_status: true,
            x_cache_status: true,
            x_cache: false,
            key: false,
            key_prefix: String::new(),
        }
    }
}

impl HeaderStyle {
    /// No header but `ETag` and `Age`.
    pub fn none() -> Self {
        HeaderStyle { cache_status: false, x_cache_status: false, ..Self::default() }
    }

    /// Every header, the key too: for development.
    pub fn all() -> Self {
        HeaderStyle { x_cache: true, key: true, ..Self::default() }
    }
}

/// What there is to say of an answer.
pub(super) struct Told<'a> {
    pub(super) outcome: Outcome,
    pub(super) age: Duration,
    /// How long it stays fresh, if that is known.
    pub(super) ttl: Option<Duration>,
    /// Is it in a tier now?
    pub(super) stored: bool,
    /// The key's name, if it has one.
    pub(super) key: Option<&'a [u8]>,
    /// Why it is not stored.
    pub(super) reason: Option<SkipReason>,
    /// What has failed, so that it is served stale.
    pub(super) failed: Option<Failed>,
    /// Did it go past the cache because this node is behind the client's token?
    pub(super) late: bool,
    /// The calendar, for `X-Cache-Date`.
    pub(super) calendar: &'a dyn Runtime,
}

impl<'a> Told<'a> {
    /// Of an answer that a tier, or somebody else's load, had.
    pub(super) fn found<V>(found: &Found<V>, key: &'a [u8], calendar: &'a dyn Runtime) -> Self {
        Told {
            outcome: found.outcome,
            age: found.age,
            ttl: Some(found.ttl),
            stored: found.stored,
            key: Some(key),
            reason: None,
            failed: None,
            late: false,
            calendar,
        }
    }

    /// Of an answer that is in no tier, or not yet.
    pub(super) fn nothing_stored(
        outcome: Outcome,
        reason: Option<SkipReason>,
        key: Option<&'a [u8]>,
        calendar: &'a dyn Runtime,
    ) -> Self {
        let (age, ttl, failed) = (Duration::ZERO, None, None);
        Told { outcome, age, ttl, stored: false, key, reason, failed, late: false, calendar }
    }
}

impl HeaderStyle {
    /// What the headers of a hit depend on; `None` where they are not the same for a second.
    pub(super) fn instance(&self, told: &Told<'_>, style: u64) -> Option<Instance> {
        // `X-Cache-Date` asks the calendar, a handler's own Age and the key's name are parts of the entry.
        let ttl = told.ttl.filter(|_| told.outcome == Outcome::Hit && !self.x_cache)?;
        Some(Instance { style, age: told.age.as_secs(), ttl: ttl.as_secs() })
    }

    /// Adds the headers.
    pub(super) fn tell(&self, told: &Told<'_>, headers: &mut HeaderMap) {
        let from_cache = matches!(told.outcome, Outcome::Hit | Outcome::Stale);
        let age = told.age.as_secs();
        let ttl = told.ttl.filter(|_| from_cache || told.stored).map(|ttl| ttl.as_secs());
        if from_cache {
            // Whoever answered the handler may have had it for a while (RFC 9111 section 4.2.3).
            let before = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u64>().ok());
            headers.insert(AGE, number(age.saturating_add(before.unwrap_or(0))));
        }
        if self.cache_status {
            headers.append(CACHE_STATUS, cache_status(told));
        }
        if self.x_cache_status {
            headers.insert(X_CACHE_STATUS, HeaderValue::from_static(word(told.outcome)));
            if from_cache {
                headers.insert(X_CACHE_AGE, number(age));
            }
            if let Some(ttl) = ttl {
                headers.insert(X_CACHE_TTL, number(ttl));
            }
        }
        if self.x_cache {
            let hit = if from_cache { "HIT" } else { "MISS" };
            headers.insert(X_CACHE, HeaderValue::from_static(hit));
            if let Some(ttl) = ttl {
                headers.insert(X_CACHE_TTL_REMAINING, number(ttl));
            }
            if from_cache || told.stored {
                let stored_ms = told.calendar.wall_millis().saturating_sub(age * 1000);
                let stored = std::time::UNIX_EPOCH + Duration::from_millis(stored_ms);
                if let Ok(date) = httpdate::fmt_http_date(stored).try_into() {
                    headers.insert(X_CACHE_DATE, date);
                }
            }
        }
        if let (true, Some(key)) = (self.key, told.key) {
            let shown = [self.key_prefix.as_bytes(), key].concat();
            // A prefix that no header can carry is the only way to fail; then the header is absent.
            if let Ok(value) = HeaderValue::from_bytes(&shown) {
                headers.insert(X_CACHE_KEY, value);
            }
        }
    }
}

/// Coalesced counts as MISS, skip as BYPASS: four words are what people script against.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit => "HIT",
        Outcome::Miss | Outcome::Coalesced => "MISS",
        Outcome::Stale => "STALE",
        Outcome::Bypass | Outcome::Skip => "BYPASS",
    }
}

/// RFC 9211 section 2: `larder; hit; ttl=30` or `larder; fwd=uri-miss; stored; ttl=60`. What was served stale because the
/// handler has failed was forwarded to it; what it was not, is a hit.
fn cache_status(told: &Told<'_>) -> HeaderValue {
    let ttl = told.ttl.map(|ttl| ttl.as_secs());
    if let (Outcome::Hit, Some(ttl)) = (told.outcome, ttl) {
        return hit_status(ttl);
    }
    let mut text = Text::default();
    // Infallible: what does not fit is cut off, and all of it fits.
    let _ = match told.outcome {
        Outcome::Hit => write!(text, "larder; hit; ttl={}", ttl.unwrap_or(0)),
        // A stale answer is a hit whose ttl is behind it.
        Outcome::Stale => match told.failed {
            None => write!(text, "larder; hit; ttl=-1; detail=stale"),
            Some(Failed::Overloaded) => write!(text, "larder; hit; ttl=-1; detail=overloaded"),
            Some(Failed::Answered(status)) => {
                write!(text, "larder; fwd=stale; fwd-status={}", status.as_u16())
            }
            Some(failed) => write!(text, "larder; fwd=stale; detail={}", failed.as_str()),
        },
        Outcome::Miss => write!(text, "larder; fwd=uri-miss"),
        Outcome::Coalesced => write!(text, "larder; fwd=uri-miss; collapsed"),
        Outcome::Bypass => write!(text, "larder; fwd=request"),
        Outcome::Skip => write!(text, "larder; fwd=bypass"),
    };
    if !matches!(told.outcome, Outcome::Hit | Outcome::Stale) {
        let _ = match (told.stored, told.reason) {
            (true, _) => match ttl {
                Some(ttl) => write!(text, "; stored; ttl={ttl}"),
                None => write!(text, "; stored"),
            },
            (false, Some(reason)) => write!(text, "; detail={}", reason.as_str()),
            (false, None) => Ok(()),
        };
        if told.late && (told.stored || told.reason.is_none()) {
            let _ = write!(text, "; detail=late");
        }
    }
    text.value()
}

/// A number as a header's value. Seconds are small: most are made once, and cost nothing to hand out.
fn number(number: u64) -> HeaderValue {
    static SMALL: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
        // One text that lives as long as the process, so that a value is a piece of it and counts no references.
        let text: &'static str = String::leak((0..=3600).map(|n| format!("{n:04}")).collect());
        (0..=3600_usize)
            .map(|n| {
                let digits = n.max(1).ilog10() as usize + 1;
                HeaderValue::from_static(&text[4 * n + 4 - digits..4 * n + 4])
            })
            .collect()
    });
    let small = usize::try_from(number).ok().and_then(|n| SMALL.get(n));
    small.cloned().unwrap_or_else(|| number.into())
}

/// `larder; hit; ttl=30`. Within a second the hits of an entry say the same: each thread keeps what it said last.
fn hit_status(ttl: u64) -> HeaderValue {
    const KEPT: usize = 8;
    thread_local! {
        static SAID: RefCell<[(u64, Option<HeaderValue>); KEPT]> = const { RefCell::new([const { (0, None) }; KEPT]) };
    }
    SAID.with_borrow_mut(|said| {
        let place = &mut said[usize::try_from(ttl).unwrap_or_default() % KEPT];
        if let (kept, Some(value)) = place
            && *kept == ttl
        {
            return value.clone();
        }
        let mut text = Text::default();
        // Infallible: it fits.
        let _ = write!(text, "larder; hit; ttl={ttl}");
        let value = text.value();
        *place = (ttl, Some(value.clone()));
        value
    })
}

/// A short text on the stack.
struct Text {
    bytes: [u8; 96],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Text { bytes: [0; 96], len: 0 }
    }
}

impl Text {
    fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[..self.len]).unwrap_or(HeaderValue::from_static("larder"))
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = (self.len + s.len()).min(self.bytes.len());
        self.bytes[self.len..end].copy_from_slice(&s.as_bytes()[..end - self.len]);
        self.len = end;
        Ok(())
    }
}
