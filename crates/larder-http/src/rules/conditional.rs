//! `If-None-Match` and `If-Modified-Since` against a stored answer (RFC 9110 section 13).

use http::HeaderMap;
use http::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

/// Has the client this very answer already? Then 304 will do.
///
/// `If-None-Match` compares weakly, `*` matches anything, and where it is present `If-Modified-Since` does not count
/// (section 13.1.3). A date that is no HTTP-date is ignored.
pub fn client_has_it(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let stored = stored.get(ETAG).map(|tag| opaque(tag.as_bytes()));
        return request.get_all(IF_NONE_MATCH).iter().any(|line| {
            tags(line.as_bytes()).any(|tag| tag == b"*" || stored.is_some_and(|s| opaque(tag) == s))
        });
    }
    let date = |headers: &HeaderMap, name| {
        let value: Option<&http::HeaderValue> = headers.get(name);
        value.and_then(|v| v.to_str().ok()).and_then(|v| httpdate::parse_http_date(v).ok())
    };
    match (date(request, IF_MODIFIED_SINCE), date(stored, LAST_MODIFIED)) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// The tag without its weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags of a list; commas inside quotes are part of a tag.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        while let [b',', after @ ..] = rest {
            rest = after.trim_ascii_start();
        }
        if rest.is_empty() {
            return None;
        }
        let start = if rest.starts_with(b"W/\"") { 3 } else { usize::from(rest.starts_with(b"\"")) };
        let end = if start > 0 {
            rest[start..].iter().position(|&b| b == b'"').map_or(rest.len(), |at| start + at + 1)
        } else {
            rest.iter().position(|&b| b == b',').unwrap_or(rest.len())
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag.trim_ascii_end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn entity_tags_compare_weakly_anywhere_in_a_list() {
        let stored = map(&[("etag", "\"a,b\"")]);
        for list in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", "\"x\",W/\"a,b\" , \"y\""] {
            assert!(client_has_it(&map(&[("if-none-match", list)]), &stored), "{list}");
        }
        for list in ["\"a\"", "a,b", "\"b\"", ""] {
            assert!(!client_has_it(&map(&[("if-none-match", list)]), &stored), "{list}");
        }
    }

    #[test]
    fn a_date_does_not_count_beside_an_entity_tag() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let stored = map(&[("etag", "\"a\""), ("last-modified", date)]);
        assert!(client_has_it(&map(&[("if-modified-since", date)]), &stored));
        let both = map(&[("if-none-match", "\"z\""), ("if-modified-since", date)]);
        assert!(!client_has_it(&both, &stored));
        assert!(!client_has_it(&map(&[("if-modified-since", "yesterday")]), &stored));
    }
}
