//! The part of a query that is part of the key.

use percent_encoding::percent_decode;

/// Which query parameters tell answers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VaryQuery {
    /// All of them. `?a=1&b=2` and `?b=2&a=1` are one; `?a=1&a=2` and `?a=2&a=1` are two. The default.
    #[default]
    All,
    /// None: the handler does not look at them.
    None,
    /// Those of these names.
    Only(Vec<String>),
}

impl<const N: usize> From<[&str; N]> for VaryQuery {
    fn from(names: [&str; N]) -> Self {
        VaryQuery::Only(names.iter().map(ToString::to_string).collect())
    }
}

/// Pairs that are sorted without allocating.
const FEW: usize = 16;

/// Passes on the pairs of `query` that count, by name in order; the pairs of one name keep theirs. Each is separated
/// from the next by `&`. True if there was any.
pub fn canonical(query: &str, vary: &VaryQuery, mut push: impl FnMut(&[u8])) -> bool {
    if query.is_empty() || *vary == VaryQuery::None {
        return false;
    }
    let counts = |pair: &&str| match vary {
        VaryQuery::All => !pair.is_empty(),
        VaryQuery::None => false,
        VaryQuery::Only(names) => names.iter().any(|wanted| is_name(name(pair), wanted)),
    };
    let mut few = [""; FEW];
    let mut many: Vec<&str> = Vec::new();
    let mut len = 0;
    for pair in query.split('&').filter(counts) {
        if len < FEW {
            few[len] = pair;
        } else {
            if len == FEW {
                many.extend_from_slice(&few);
            }
            many.push(pair);
        }
        len += 1;
    }
    let pairs = if many.is_empty() { &mut few[..len] } else { &mut many[..] };
    // Stable, and by the name a handler decodes: the order of the pairs of one name may mean something to it.
    if pairs.iter().all(|pair| is_plain(name(pair))) {
        pairs.sort_by(|a, b| name(a).cmp(name(b)));
    } else {
        pairs.sort_by_cached_key(|pair| decoded(name(pair)));
    }
    for (i, pair) in pairs.iter().enumerate() {
        if i > 0 {
            push(b"&");
        }
        push(pair.as_bytes());
    }
    !pairs.is_empty()
}

fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

/// Is this the name `wanted`, as the handler will decode it? `%70age` is `page`.
fn is_name(encoded: &str, wanted: &str) -> bool {
    if is_plain(encoded) { encoded == wanted } else { decoded(encoded) == wanted.as_bytes() }
}

fn is_plain(name: &str) -> bool {
    !name.contains(['%', '+'])
}

fn decoded(name: &str) -> Vec<u8> {
    percent_decode(name.replace('+', " ").as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str, vary: &VaryQuery) -> String {
        let mut out = Vec::new();
        canonical(query, vary, |bytes| out.extend_from_slice(bytes));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_order_of_names_does_not_matter_and_that_of_values_does() {
        let all = VaryQuery::All;
        assert_eq!(of("a=1&b=2", &all), of("b=2&a=1", &all));
        assert_ne!(of("a=1&a=2", &all), of("a=2&a=1", &all));
        assert_ne!(of("q=a", &all), of("q=b", &all));
    }

    #[test]
    fn what_a_handler_could_tell_apart_stays_apart() {
        let all = VaryQuery::All;
        for (a, b) in [("q=a%26b=c", "q=a&b=c"), ("q=a+b", "q=a%20b"), ("q", "q="), ("q=1;r=2", "q=1&r=2")] {
            assert_ne!(of(a, &all), of(b, &all), "{a} {b}");
        }
    }

    #[test]
    fn a_disguised_name_counts_as_the_name_it_decodes_to() {
        let page = VaryQuery::from(["page"]);
        assert_eq!(of("utm=x&page=2", &page), "page=2");
        assert_eq!(of("%70age=2", &page), "%70age=2");
        assert_eq!(of("utm=x", &page), "");
    }

    #[test]
    fn pairs_whose_names_decode_to_one_keep_their_order() {
        let all = VaryQuery::All;
        assert_ne!(of("page=1&%70age=2", &all), of("%70age=2&page=1", &all));
        assert_eq!(of("z=0&page=1&%70age=2", &all), of("page=1&%70age=2&z=0", &all));
    }

    #[test]
    fn any_number_of_parameters_is_sorted() {
        let query: Vec<String> = (0..100).rev().map(|i| format!("p{i:03}={i}")).collect();
        let mut sorted = query.clone();
        sorted.sort();
        assert_eq!(of(&query.join("&"), &VaryQuery::All), sorted.join("&"));
    }
}
