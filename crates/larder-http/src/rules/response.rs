//! May this response be stored, and what of it?

use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, StatusCode};
use larder_core::SkipReason;

use super::control::CacheControl;
use crate::tokens::LARDER_EPOCH;

/// What a route stores.
#[derive(Clone, Debug)]
pub struct Storable<'a> {
    /// Headers that are part of the key.
    pub vary_headers: &'a [HeaderName],
    /// The smallest body, in bytes.
    pub smallest_body: u64,
    /// The largest body, in bytes.
    pub largest_body: u64,
    /// How long a 404 or 410 is kept, if at all.
    pub negative_ttl: Option<Duration>,
}

/// Does a response of this status say that something is wrong at its origin, so that a stale one is better (RFC 5861 section
/// 4)?
pub fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// How long a response that may be stored lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As the policy says.
    Policy,
    /// As long as a negative answer.
    Negative(Duration),
}

impl Storable<'_> {
    /// Decides by status, headers and the length of the body, where it is known.
    ///
    /// # Errors
    /// Why the response is not stored.
    pub fn judge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        exact_length: Option<u64>,
    ) -> Result<Keep, SkipReason> {
        let keep = match (status.as_u16(), self.negative_ttl) {
            (200 | 203 | 204, _) => Keep::Policy,
            (404 | 410, Some(ttl)) => Keep::Negative(ttl),
            _ => return Err(SkipReason::Status),
        };
        if headers.contains_key(SET_COOKIE) {
            return Err(SkipReason::SetCookie);
        }
        let control = CacheControl::of_response(headers);
        if control.no_store || control.private || control.no_cache {
            return Err(SkipReason::ResponseForbids);
        }
        if !self.key_covers_vary(headers) {
            return Err(SkipReason::Vary);
        }
        if headers.contains_key(CONTENT_RANGE) {
            return Err(SkipReason::Range);
        }
        if headers.contains_key(UPGRADE) {
            return Err(SkipReason::Upgrade);
        }
        let events = |value: &http::HeaderValue| {
            let kind = value.as_bytes().split(|&b| b == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        };
        if headers.get(CONTENT_TYPE).is_some_and(events) {
            return Err(SkipReason::Stream);
        }
        match exact_length {
            None => Err(SkipReason::Stream),
            Some(length) if length > self.largest_body => Err(SkipReason::TooLarge),
            Some(length) if says_otherwise(headers, length) => Err(SkipReason::Truncated),
            Some(length) if length < self.smallest_body => Err(SkipReason::TooSmall),
            Some(_) => Ok(keep),
        }
    }

    fn key_covers_vary(&self, headers: &HeaderMap) -> bool {
        headers.get_all(VARY).iter().all(|line| {
            line.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii).all(|name| {
                name.is_empty()
                    || self.vary_headers.iter().any(|h| h.as_str().as_bytes().eq_ignore_ascii_case(name))
            })
        })
    }
}

/// A `Content-Length` that is not the body's length: the response is broken, whoever broke it.
fn says_otherwise(headers: &HeaderMap, length: u64) -> bool {
    headers.get_all(CONTENT_LENGTH).iter().any(|said| {
        let said = said.to_str().ok().and_then(|said| said.parse::<u64>().ok());
        said != Some(length)
    })
}

/// Headers that concern one connection, or one answer (RFC 9111 section 3.1); a write's token is its client's alone.
const NOT_STORED: [HeaderName; 11] = [
    LARDER_EPOCH,
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    CONTENT_LENGTH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Removes what is not stored: connection headers, those that `Connection` names, and what each answer gets anew.
pub fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&b| b == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    // Most responses have none of them: a look at each name there is costs less than asking for each that is not.
    if headers.keys().any(|name| NOT_STORED.contains(name)) {
        NOT_STORED.iter().for_each(|name| drop(headers.remove(name)));
    }
    named.iter().for_each(|name| drop(headers.remove(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(
        status: u16,
        lines: &[(&'static str, &'static str)],
        length: Option<u64>,
    ) -> Result<Keep, SkipReason> {
        let headers: HeaderMap =
            lines.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        let language = [http::header::ACCEPT_LANGUAGE];
        let negative_ttl = Some(Duration::from_secs(5));
        Storable { vary_headers: &language, smallest_body: 10, largest_body: 100, negative_ttl }.judge(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            length,
        )
    }

    #[test]
    fn only_complete_answers_for_everybody_are_stored() {
        assert_eq!(judge(200, &[], Some(10)), Ok(Keep::Policy));
        assert_eq!(judge(404, &[], Some(10)), Ok(Keep::Negative(Duration::from_secs(5))));
        let refused = [
            (judge(500, &[], Some(10)), SkipReason::Status),
            (judge(206, &[], Some(10)), SkipReason::Status),
            (judge(302, &[], Some(10)), SkipReason::Status),
            (judge(200, &[("set-cookie", "a=b")], Some(10)), SkipReason::SetCookie),
            (judge(200, &[("cache-control", "max-age=5, private")], Some(10)), SkipReason::ResponseForbids),
            (judge(200, &[("vary", "*")], Some(10)), SkipReason::Vary),
            (judge(200, &[("vary", "accept-language, cookie")], Some(10)), SkipReason::Vary),
            (judge(200, &[("content-type", "text/event-stream")], Some(10)), SkipReason::Stream),
            (judge(200, &[], None), SkipReason::Stream),
            (judge(200, &[], Some(101)), SkipReason::TooLarge),
            (judge(200, &[], Some(9)), SkipReason::TooSmall),
            (judge(200, &[("content-length", "11")], Some(10)), SkipReason::Truncated),
            (judge(200, &[("content-length", "11")], Some(9)), SkipReason::Truncated),
        ];
        for (verdict, reason) in refused {
            assert_eq!(verdict, Err(reason));
        }
        assert_eq!(judge(200, &[("vary", "Accept-Language")], Some(10)), Ok(Keep::Policy));
    }

    #[test]
    fn headers_that_connection_names_are_not_stored() {
        let mut headers: HeaderMap = [("connection", "close, x-hop"), ("x-hop", "1"), ("x-app", "2")]
            .into_iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
            .collect();
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-app"]);
    }
}
