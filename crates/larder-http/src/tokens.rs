//! The header `Larder-Epoch`: tokens of writes, told to clients and named by them in later reads.

use http::header::HeaderName;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response};
use larder_core::{Arrival, Cache, Epoch};

/// On the answer to a write: its token. On a read: the tokens that the answer may not be older than.
pub const LARDER_EPOCH: HeaderName = HeaderName::from_static("larder-epoch");

/// Lines that one request may name: more than any client meets between two of its reads. Each may cost a wait.
const MOST_LINES: usize = 4;

/// In the extensions of a request: this node's log has not reached the token that the client named, and the wait is over.
/// What caches hold here may be older than the token; [`Namespace::at_least`](larder_core::Namespace::at_least) reads
/// past them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The token.
    pub token: Epoch,
}

/// Of each line of the log its newest token.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tokens(Vec<Epoch>);

impl Tokens {
    /// Reads every line of the header, each a list. False if any of it was worth nothing: unreadable, or too much.
    fn read(headers: &HeaderMap) -> (Self, bool) {
        let (mut tokens, mut good) = (Tokens::default(), true);
        for value in headers.get_all(&LARDER_EPOCH) {
            for text in value.to_str().unwrap_or("?").split(',') {
                good &= text.trim().parse().is_ok_and(|token| tokens.add(token));
            }
        }
        (tokens, good)
    }

    /// On one line the newest counts: whoever has reached it has reached the others.
    fn add(&mut self, token: Epoch) -> bool {
        if let Some(there) = self.0.iter_mut().find(|there| there.line == token.line) {
            there.at = there.at.max(token.at);
            return true;
        }
        let fits = self.0.len() < MOST_LINES;
        if fits {
            self.0.push(token);
        }
        fits
    }

    fn header(&self) -> Option<HeaderValue> {
        let list: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        // Digits, `-` and `, `: always a header's value.
        HeaderValue::try_from(list.join(", ")).ok().filter(|_| !list.is_empty())
    }
}

/// Does the request name a token?
pub(crate) fn are_named(parts: &Parts) -> bool {
    parts.headers.contains_key(&LARDER_EPOCH)
}

/// Waits until this node's log has reached the tokens that a request names. What is made up or lost is ignored, and
/// counted. What was waited for is taken off the request, so that no layer further in waits again; if this node is late,
/// it stays, with [`Late`] beside it.
pub(crate) async fn arrive(cache: &Cache, parts: &mut Parts) {
    let (tokens, mut good) = Tokens::read(&parts.headers);
    let mut late = None;
    for token in tokens.0 {
        match cache.arrive(token).await {
            Arrival::Arrived => {}
            Arrival::Unknown => good = false,
            Arrival::Late => {
                late = Some(Late { token });
                break;
            }
        }
    }
    if !good {
        cache.ignore_token();
    }
    match late {
        Some(late) => drop(parts.extensions.insert(late)),
        None => {
            parts.headers.remove(&LARDER_EPOCH);
            parts.extensions.remove::<Late>();
        }
    }
}

/// Tells the client of a write its token; beside those that the handler, or a layer further in, has told already.
pub(crate) fn tell<B>(response: &mut Response<B>, token: Option<Epoch>) {
    let mut tokens = Tokens::default();
    let by_hand = response.extensions_mut().remove::<Epoch>();
    let (told, _) = Tokens::read(response.headers());
    for token in token.into_iter().chain(by_hand).chain(told.0) {
        tokens.add(token);
    }
    if let Some(value) = tokens.header() {
        response.headers_mut().insert(LARDER_EPOCH, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(LARDER_EPOCH, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let (tokens, good) = Tokens::read(&headers);
        let text = tokens.header().map(|value| value.to_str().unwrap().to_owned());
        (text.unwrap_or_default(), good)
    }

    fn token(line: u64, at: u64) -> String {
        Epoch { line, at }.to_string()
    }

    #[test]
    fn of_each_line_the_newest_token_counts() {
        let (a, b, other) = (token(1, 5), token(1, 7), token(2, 3));
        assert_eq!(read(&[&a, &b]), (b.clone(), true));
        assert_eq!(read(&[&format!("{b},{a} , {other}")]), (format!("{b}, {other}"), true));
        assert_eq!(read(&[&other, &a, &b]), (format!("{other}, {b}"), true));
    }

    #[test]
    fn what_is_no_token_is_worth_nothing_and_harms_no_other() {
        let good = token(1, 5);
        for bad in ["", "queued", "1-2", "000000000000000g-1", "0000000000000001-4503599627370496", "\u{e9}"]
        {
            assert_eq!(read(&[bad]), (String::new(), false), "{bad:?}");
            assert_eq!(read(&[bad, &good]), (good.clone(), false), "{bad:?}");
        }
        let many: Vec<String> = (0..2000).map(|line| token(line, 1)).collect();
        let (kept, all) = read(&[&many.join(",")]);
        assert_eq!((kept, all), (many[..MOST_LINES].join(", "), false));
    }
}
