//! `Cache-Control` (RFC 9111 section 5.2), read from all its lines.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};

/// The directives this cache acts on. Unknown ones are ignored (RFC 9111 section 5.2.3); a name counts whatever its
/// argument, so a malformed argument errs towards not storing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheControl {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, with or without field names.
    pub no_cache: bool,
    /// `private`, with or without field names.
    pub private: bool,
    /// `only-if-cached` (requests).
    pub only_if_cached: bool,
    /// `max-age=0`: the reload button of browsers (requests).
    pub max_age_zero: bool,
}

impl CacheControl {
    /// The directives of a request; `Pragma: no-cache` counts where there is no `Cache-Control` (section 5.4).
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut control = Self::of(headers, &CACHE_CONTROL);
        if !headers.contains_key(CACHE_CONTROL) {
            control.no_cache = Self::of(headers, &PRAGMA).no_cache;
        }
        control
    }

    /// The directives of a response.
    pub fn of_response(headers: &HeaderMap) -> Self {
        Self::of(headers, &CACHE_CONTROL)
    }

    fn of(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut control = CacheControl::default();
        for value in headers.get_all(name) {
            for directive in Directives(value.as_bytes()) {
                control.note(directive);
            }
        }
        control
    }

    fn note(&mut self, directive: &[u8]) {
        let (name, argument) = match directive.iter().position(|&b| b == b'=') {
            Some(at) => (&directive[..at], directive[at + 1..].trim_ascii()),
            None => (directive, &b""[..]),
        };
        let is = |other: &str| name.trim_ascii().eq_ignore_ascii_case(other.as_bytes());
        self.no_store |= is("no-store");
        self.no_cache |= is("no-cache");
        self.private |= is("private");
        self.only_if_cached |= is("only-if-cached");
        self.max_age_zero |= is("max-age") && matches!(argument, b"0" | b"\"0\"");
    }
}

/// Splits at commas that are not inside a quoted string.
struct Directives<'a>(&'a [u8]);

impl<'a> Iterator for Directives<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (mut quoted, mut escaped, mut end) = (false, false, self.0.len());
        for (at, &b) in self.0.iter().enumerate() {
            match b {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        let directive = self.0[..end].trim_ascii();
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(directive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn control(lines: &[&'static str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
        }
        CacheControl::of_response(&headers)
    }

    #[test]
    fn directives_are_found_on_every_line_in_any_case() {
        assert!(control(&["max-age=60", "public, No-Store"]).no_store);
        assert!(control(&["PRIVATE"]).private);
    }

    #[test]
    fn a_directive_inside_a_quoted_string_is_none() {
        let c = control(&["ext=\"a, no-store, \\\" private\", no-cache=\"set-cookie, x\""]);
        assert!(!c.no_store && !c.private && c.no_cache);
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        assert!(CacheControl::of_request(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=10"));
        assert!(!CacheControl::of_request(&headers).no_cache);
    }
}
