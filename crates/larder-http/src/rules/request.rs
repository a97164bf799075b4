//! May this request be answered from a cache, and may its answer be stored?

use http::header::{
    self, AUTHORIZATION, CONTENT_LENGTH, COOKIE, HeaderName, IF_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};
use larder_core::SkipReason;

use super::control::CacheControl;

/// Who may share a route's answers, as far as credentials go.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody: a request with `Authorization` or `Cookie` is none of the cache's business.
    #[default]
    Refuse,
    /// Anybody, whatever they carry: the answers do not depend on it, or an extractor has looked at it.
    Ignore,
    /// Requests whose only credentials are cookies of these names.
    IgnoreCookies(Vec<String>),
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer it from the cache if possible; store the answer.
    Cache,
    /// Go past the cache, and store the new answer (`Cache-Control: no-cache`).
    Bypass,
    /// Only what is in the cache will do (`only-if-cached`).
    OnlyIfCached,
    /// Hand it on untouched, and leave its answer alone.
    Pass(SkipReason),
}

/// Headers by which a client makes a GET something else behind the cache's back.
const OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// Decides by method and headers.
pub fn judge(method: &Method, headers: &HeaderMap, credentials: &Credentials) -> Verdict {
    if method != Method::GET && method != Method::HEAD {
        return Verdict::Pass(SkipReason::Method);
    }
    // Most requests carry a handful of headers, none of which matters here: one pass decides.
    let mut control = false;
    for name in headers.keys() {
        match *name {
            RANGE | IF_RANGE => return Verdict::Pass(SkipReason::Range),
            UPGRADE => return Verdict::Pass(SkipReason::Upgrade),
            // For the origin alone (RFC 9111 section 4.3.2), or a body in a GET, which no key covers.
            IF_MATCH | IF_UNMODIFIED_SINCE | TRANSFER_ENCODING => return Verdict::Pass(SkipReason::Route),
            CONTENT_LENGTH if !has_no_body(headers) => return Verdict::Pass(SkipReason::Route),
            AUTHORIZATION if !matches!(credentials, Credentials::Ignore) => {
                return Verdict::Pass(SkipReason::Credentials);
            }
            COOKIE if !cookies_do_not_matter(headers, credentials) => {
                return Verdict::Pass(SkipReason::Credentials);
            }
            header::CACHE_CONTROL | header::PRAGMA => control = true,
            _ if OVERRIDES.contains(name) => return Verdict::Pass(SkipReason::Method),
            _ => {}
        }
    }
    if !control {
        return Verdict::Cache;
    }
    let control = CacheControl::of_request(headers);
    if control.no_store {
        Verdict::Pass(SkipReason::RequestNoStore)
    } else if control.only_if_cached {
        Verdict::OnlyIfCached
    } else if control.no_cache || control.max_age_zero {
        Verdict::Bypass
    } else {
        Verdict::Cache
    }
}

fn has_no_body(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_LENGTH).iter().all(|length| length.as_bytes() == b"0")
}

fn cookies_do_not_matter(headers: &HeaderMap, credentials: &Credentials) -> bool {
    let ignored = match credentials {
        Credentials::Refuse => return false,
        Credentials::Ignore => return true,
        Credentials::IgnoreCookies(names) => names,
    };
    headers.get_all(COOKIE).iter().all(|line| {
        line.as_bytes().split(|&b| b == b';').all(|pair| {
            let name = pair.split(|&b| b == b'=').next().unwrap_or_default().trim_ascii();
            pair.trim_ascii().is_empty() || ignored.iter().any(|ignored| ignored.as_bytes() == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[(&'static str, &'static str)], credentials: &Credentials) -> Verdict {
        let headers: HeaderMap =
            lines.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        judge(&Method::GET, &headers, credentials)
    }

    #[test]
    fn credentials_keep_a_request_out_unless_the_route_says_otherwise() {
        let bearer = [("authorization", "Bearer x")];
        let cookie = [("cookie", "session=1; theme=dark")];
        let only = Credentials::IgnoreCookies(vec!["theme".into(), "session".into()]);
        assert_eq!(verdict(&bearer, &Credentials::Refuse), Verdict::Pass(SkipReason::Credentials));
        assert_eq!(verdict(&cookie, &Credentials::Refuse), Verdict::Pass(SkipReason::Credentials));
        assert_eq!(verdict(&bearer, &Credentials::Ignore), Verdict::Cache);
        assert_eq!(verdict(&cookie, &only), Verdict::Cache);
        assert_eq!(verdict(&bearer, &only), Verdict::Pass(SkipReason::Credentials));
        let fewer = Credentials::IgnoreCookies(vec!["theme".into()]);
        assert_eq!(verdict(&cookie, &fewer), Verdict::Pass(SkipReason::Credentials));
    }

    #[test]
    fn a_get_with_a_body_or_an_override_is_not_a_get() {
        let none = Credentials::Refuse;
        assert_eq!(verdict(&[("content-length", "5")], &none), Verdict::Pass(SkipReason::Route));
        assert_eq!(verdict(&[("content-length", "0")], &none), Verdict::Cache);
        assert_eq!(
            verdict(&[("x-http-method-override", "DELETE")], &none),
            Verdict::Pass(SkipReason::Method)
        );
    }

    #[test]
    fn no_store_wins_over_no_cache() {
        let none = Credentials::Refuse;
        assert_eq!(verdict(&[("cache-control", "no-cache")], &none), Verdict::Bypass);
        assert_eq!(
            verdict(&[("cache-control", "no-cache, no-store")], &none),
            Verdict::Pass(SkipReason::RequestNoStore)
        );
        assert_eq!(verdict(&[("cache-control", "only-if-cached")], &none), Verdict::OnlyIfCached);
    }
}
