//! What an invalidation names: a key, everything below a key, a tag, or everything.

use std::fmt;
use std::hash::BuildHasher;

use crate::key::{self, Key, KeyWriter, MAX_TAG_BYTES, ToKey};
use crate::sync::SoundHash;
use crate::tag::Tag;

/// The longest selector taken from text, in bytes.
const MAX_SELECTOR_BYTES: usize = 4096;

/// The kinds of selector. Part of every hash, so that the tag `a` and the key `a` are two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    All,
    Under,
    Key,
    Tag,
}

/// Names what an invalidation is about. The same grammar everywhere: `trig:123:*`, `trig:123`, `#site`, `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Selector {
    kind: Kind,
    /// The key, prefix or tag; without `:*` or `#`.
    name: Box<[u8]>,
    /// The text it was read from, if that meant less.
    folded: Option<Box<str>>,
}

impl Selector {
    /// `a:b:*`: the key of these segments, and every key below it. The first segment is the namespace.
    pub fn under(segments: impl ToKey) -> Self {
        Self::new(Kind::Under, Key::of(segments).as_bytes())
    }

    /// `a:b`: the key of these segments alone.
    pub fn key(segments: impl ToKey) -> Self {
        Self::new(Kind::Key, Key::of(segments).as_bytes())
    }

    /// `#tag`: every entry that carries the tag.
    pub fn tag(tag: &str) -> Self {
        Self::new(Kind::Tag, &key::escape_tag(tag))
    }

    /// `*`: every entry.
    pub fn all() -> Self {
        Self::new(Kind::All, b"")
    }

    pub(crate) fn of_key(writer: &KeyWriter<'_>) -> Self {
        Self::new(Kind::Key, writer.as_bytes())
    }

    /// Everything below bytes that are a key already.
    pub(crate) fn under_bytes(prefix: &[u8]) -> Self {
        Self::new(Kind::Under, prefix)
    }

    fn new(kind: Kind, name: &[u8]) -> Self {
        Selector { kind, name: name.into(), folded: None }
    }

    /// Reads a selector from text. A `*` that is not the last segment folds to the subtree before it
    /// ([`folded`](Self::folded)): more goes, never less.
    ///
    /// # Errors
    /// Empty or over-long text, and an empty tag.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        // ASCII only: keys and tags may end with another kind of space, never with one of these.
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLong { len: text.len() });
        }
        if let Some(tag) = text.strip_prefix('#') {
            return match tag.len() {
                0 => Err(SelectorError::EmptyTag),
                len if len > MAX_TAG_BYTES => Err(SelectorError::TooLong { len }),
                _ => Ok(Self::tag(tag)),
            };
        }
        let Some(star) = text.find('*') else {
            return Ok(Self::new(Kind::Key, &key::canonical_segments(text)));
        };
        let folded = star + 1 != text.len() || !(star == 0 || text[..star].ends_with(':'));
        let selector = match text[..star].rfind(':') {
            Some(0) => return Err(SelectorError::NoNamespace),
            Some(colon) => Self::new(Kind::Under, &key::canonical_segments(&text[..colon])),
            None => Self::all(),
        };
        Ok(Selector { folded: folded.then(|| text.into()), ..selector })
    }

    /// Reads what [`Display`](fmt::Display) wrote. Nothing is too long here, nothing folds and nothing is trimmed: what
    /// one node has put into the log must mean the same on every other.
    pub(crate) fn from_log(text: &str) -> Self {
        if let Some(tag) = text.strip_prefix('#') {
            return Self::new(Kind::Tag, tag.as_bytes());
        }
        if text == "*" {
            return Self::all();
        }
        match text.strip_suffix(":*") {
            Some(name) => Self::new(Kind::Under, name.as_bytes()),
            None => Self::new(Kind::Key, text.as_bytes()),
        }
    }

    /// Does it name a key alone?
    pub(crate) fn is_key(&self) -> bool {
        self.kind == Kind::Key
    }

    /// Is this wider than the text it was read from? Worth an event: the writer may have expected less.
    pub fn folded(&self) -> bool {
        self.folded.is_some()
    }

    /// The text it was read from, if this is wider.
    pub fn folded_from(&self) -> Option<&str> {
        self.folded.as_deref()
    }

    /// Does the selector name this entry? (For tests and tools; the engine looks up hashes.)
    pub fn matches(&self, key: &Key, tags: &[&str]) -> bool {
        let escaped: Vec<Tag> = tags.iter().map(|tag| Tag::new(key::escape_tag(tag))).collect();
        self.names(key.as_bytes(), &escaped)
    }

    /// As [`matches`](Self::matches), of an entry as it is stored.
    pub(crate) fn names(&self, key: &[u8], tags: &[Tag]) -> bool {
        let name = key::name_of(key);
        match self.kind {
            Kind::All => true,
            Kind::Key => name == &*self.name,
            Kind::Under => {
                name.strip_prefix(&*self.name).is_some_and(|rest| rest.is_empty() || rest[0] == b':')
            }
            Kind::Tag => tags.iter().any(|tag| tag.text() == &*self.name),
        }
    }

    /// What the keys of all entries that it names begin with; empty if they may begin with anything.
    pub(crate) fn prefix(&self) -> &[u8] {
        match self.kind {
            Kind::Key | Kind::Under => &self.name,
            Kind::All | Kind::Tag => b"",
        }
    }

    /// The hash of the selector that names a tag, escaped.
    pub(crate) fn hash_of_tag(escaped: &[u8]) -> SelectorHash {
        HASHER.hash(Kind::Tag, escaped)
    }

    pub(crate) fn hash(&self) -> SelectorHash {
        HASHER.hash(self.kind, &self.name)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        match self.kind {
            Kind::All => f.write_str("*"),
            Kind::Under => write!(f, "{name}:*"),
            Kind::Key => f.write_str(&name),
            Kind::Tag => write!(f, "#{name}"),
        }
    }
}

/// Why text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing there.
    #[error("an empty selector: write a key (`trig:123`), a subtree (`trig:123:*`), a tag (`#site`) or `*`")]
    Empty,
    /// `#` alone.
    #[error("a tag without a name: write `#name`")]
    EmptyTag,
    /// Starts with `:`.
    #[error("a selector that begins with `:` has no namespace")]
    NoNamespace,
    /// A tag, a subtree or everything, where one key was asked for.
    #[error("no key: write it without `#` and `*`, as in `trig:123`")]
    NoKey,
    /// Longer than any key a selector may name.
    #[error("a selector of {len} bytes: at most 4096, a tag at most 1024")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// A selector as the stamp table holds it. A collision costs a miss, never a stale answer.
pub(crate) type SelectorHash = u64;

struct Hasher(std::sync::LazyLock<SoundHash>);

static HASHER: Hasher = Hasher(std::sync::LazyLock::new(SoundHash::default));

/// The selector that names every entry.
static EVERYTHING: std::sync::LazyLock<SelectorHash> =
    std::sync::LazyLock::new(|| HASHER.hash(Kind::All, b""));

impl Hasher {
    #[inline]
    fn hash(&self, kind: Kind, name: &[u8]) -> SelectorHash {
        self.0.hash_one((kind as u8, name))
    }
}

/// Calls `visit` with every selector that names an entry: everything, each subtree above it, its key, its tags.
#[inline]
pub(crate) fn each_of(key: &[u8], tags: &[Tag], mut visit: impl FnMut(SelectorHash)) {
    visit(*EVERYTHING);
    // Once through the key, and no further than its name.
    let mut end = key.len();
    for (at, &b) in key.iter().enumerate() {
        match b {
            b':' => visit(HASHER.hash(Kind::Under, &key[..at])),
            key::VARIANT => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    let name = &key[..end];
    visit(HASHER.hash(Kind::Under, name));
    visit(HASHER.hash(Kind::Key, name));
    for tag in tags {
        visit(tag.hash());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, bool) {
        let selector = Selector::parse(text).unwrap();
        (selector.to_string(), selector.folded())
    }

    #[test]
    fn the_grammar_reads_back_what_it_writes() {
        for text in ["trig:123:*", "trig:*", "trig:123:v1", "#site", "*"] {
            assert_eq!(parsed(text), (text.to_owned(), false));
        }
    }

    #[test]
    fn a_star_elsewhere_folds_to_the_subtree_before_it() {
        assert_eq!(parsed("trig:12*"), ("trig:*".to_owned(), true));
        assert_eq!(parsed("trig:*:photos"), ("trig:*".to_owned(), true));
        assert_eq!(parsed("tr*"), ("*".to_owned(), true));
        assert_eq!(Selector::parse(" trig:12* ").unwrap().folded_from(), Some("trig:12*"));
        assert_eq!(Selector::parse("trig:12:*").unwrap().folded_from(), None);
    }

    #[test]
    fn text_without_a_meaning_is_refused_with_a_reason() {
        for text in ["", "  ", "#", ":*"] {
            assert!(Selector::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_star_in_user_input_is_a_character_not_a_wildcard() {
        let selector = Selector::under(("trig", "*"));
        assert!(!selector.matches(&Key::of(("trig", 123)), &[]));
        assert!(selector.matches(&Key::of(("trig", "*", "logs")), &[]));
    }

    #[test]
    fn the_hashes_of_an_entry_are_exactly_those_of_the_selectors_that_match_it() {
        let key = Key::of(("trig", 123, "logs"));
        let tags = [Tag::new(key::escape_tag("site"))];
        let mut hashes = Vec::new();
        each_of(key.as_bytes(), &tags, |h| hashes.push(h));
        for text in ["*", "trig:*", "trig:123:*", "trig:123:logs:*", "trig:123:logs", "#site"] {
            let selector = Selector::parse(text).unwrap();
            assert!(selector.matches(&key, &["site"]), "{text}");
            assert!(hashes.contains(&selector.hash()), "{text}");
        }
        for text in ["trig:123", "trig:12:*", "site", "#trig", "trig:123:log:*", "trig"] {
            let selector = Selector::parse(text).unwrap();
            assert!(!selector.matches(&key, &["site"]), "{text}");
            assert!(!hashes.contains(&selector.hash()), "{text}");
        }
    }
}
