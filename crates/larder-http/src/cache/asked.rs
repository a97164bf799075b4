//! What was asked, and an answer made to fit: HEAD, and what the client has already.

use axum::body::Body;
use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, TRANSFER_ENCODING,
    VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Body as _;
use larder_core::{Fill, Found, Key, Outcome, SkipReason};

use super::body::nothing;
use super::config::Config;
use super::failed::Failed;
use super::stored::StoredResponse;
use super::style::Told;
use crate::rules::conditional::client_has_it;
use crate::tokens::Late;

/// What was asked, as far as it matters to the answer.
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) path: String,
    pub(super) fill: Fill,
    /// Is this node behind a token that the request names?
    pub(super) late: bool,
    head: bool,
    /// `If-None-Match` and `If-Modified-Since`, which the handler does not get to see.
    conditions: HeaderMap,
}

impl Asked {
    /// Takes from a request what is for the cache, and leaves what is for the handler.
    pub(super) fn take(config: &Config, key: Key, parts: &mut Parts) -> Self {
        let mut conditions = HeaderMap::new();
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            for value in parts.headers.get_all(&name) {
                conditions.append(name.clone(), value.clone());
            }
            parts.headers.remove(&name);
        }
        // HEAD runs as GET, so that what is stored has a body.
        let head = std::mem::replace(&mut parts.method, Method::GET) == Method::HEAD;
        let path = parts.uri.path().to_owned();
        let late = parts.extensions.get::<Late>().is_some();
        Asked { key, path, fill: config.fill(parts), late, head, conditions }
    }

    /// An answer made from a stored response.
    pub(super) fn answer(&self, config: &Config, stored: &StoredResponse, told: &Told<'_>) -> Response<Body> {
        give(config, self.head, &self.conditions, stored, told)
    }

    /// An answer from the cache.
    pub(super) fn found(&self, config: &Config, found: &Found<StoredResponse>) -> Response<Body> {
        self.answer(config, &found.value, &Told::found(found, self.key.name(), config.calendar()))
    }

    /// A stale answer, because there is no other.
    pub(super) fn instead(
        &self,
        config: &Config,
        found: &Found<StoredResponse>,
        failed: Failed,
    ) -> Response<Body> {
        let told = Told::found(found, self.key.name(), config.calendar());
        self.answer(config, &found.value, &Told { failed: Some(failed), ..told })
    }

    /// Adds headers to an answer that is not stored, or not yet.
    pub(super) fn tell(
        &self,
        config: &Config,
        outcome: Outcome,
        reason: Option<SkipReason>,
        headers: &mut HeaderMap,
    ) {
        let told = Told::nothing_stored(outcome, reason, Some(self.key.name()), config.calendar());
        config.style.tell(&Told { late: self.late, ..told }, headers);
    }

    /// What a client gets of an answer that is not stored, or not yet. The handler ran as a plain GET, so what the client
    /// made of it is seen to here: HEAD, and the answer it has already.
    pub(super) fn hand_over(&self, response: Response<Body>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        if parts.status.is_success() && client_has_it(&self.conditions, &parts.headers) {
            parts.status = StatusCode::NOT_MODIFIED;
            for name in OF_CONTENT {
                parts.headers.remove(name);
            }
            return Response::from_parts(parts, nothing());
        }
        if !self.head {
            return Response::from_parts(parts, body);
        }
        let length = body.size_hint().exact().filter(|_| parts.status != StatusCode::NO_CONTENT);
        if let (Some(length), false) = (length, parts.headers.contains_key(CONTENT_LENGTH)) {
            parts.headers.insert(CONTENT_LENGTH, length.into());
        }
        Response::from_parts(parts, nothing())
    }
}

/// What a 304 does not say of the content it does not have.
const OF_CONTENT: [HeaderName; 5] =
    [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, TRANSFER_ENCODING];

/// The fast path: nothing is taken from the request but what the answer depends on.
pub(super) fn hit(
    config: &Config,
    parts: &Parts,
    key: &[u8],
    found: &Found<StoredResponse>,
) -> Response<Body> {
    let name = match config.style.key {
        true => key.split(|&b| b == b'~').next().unwrap_or_default(),
        false => b"",
    };
    let told = Told::found(found, name, config.calendar());
    give(config, parts.method == Method::HEAD, &parts.headers, &found.value, &told)
}

/// What 304 carries of what 200 would have (RFC 9110 section 15.4.5).
const IN_304: [HeaderName; 8] =
    [AGE, CACHE_CONTROL, CONTENT_LOCATION, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];

fn give(
    config: &Config,
    head: bool,
    conditions: &HeaderMap,
    stored: &StoredResponse,
    told: &Told<'_>,
) -> Response<Body> {
    let conditional = conditions.contains_key(IF_NONE_MATCH) || conditions.contains_key(IF_MODIFIED_SINCE);
    if let (false, false, Some(instance)) =
        (conditional, head, config.style.instance(told, config.style_number))
    {
        let headers = stored.head_at(instance, |headers| config.style.tell(told, headers));
        let mut response = Response::new(Body::from(stored.body.clone()));
        *response.status_mut() = stored.status;
        *response.headers_mut() = headers;
        return response;
    }
    let mut headers = stored.fresh_headers();
    let (mut status, mut body) = (stored.status, None);
    if conditional && status.is_success() && client_has_it(conditions, &headers) {
        status = StatusCode::NOT_MODIFIED;
        let names: Vec<HeaderName> = headers.keys().filter(|n| !IN_304.contains(n)).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    } else if !head {
        body = Some(Body::from(stored.body.clone()));
    } else if status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, stored.body.len().into());
    }
    config.style.tell(told, &mut headers);
    let mut response = Response::new(body.unwrap_or_else(nothing));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
