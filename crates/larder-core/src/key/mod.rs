//! Keys: segments joined by `:`, readable in `redis-cli`, escaped where a segment could be mistaken for structure.
//!
//! The name of a key is `namespace:segment:segment`. HTTP adds a *variant* behind the first `~`: it tells apart answers
//! that people address by one name (two hosts, two languages). Selectors see only the name.

mod buffer;
mod escape;
mod from_key;
mod probe;
mod to_key;

use std::fmt;
use std::sync::Arc;

pub use self::buffer::KeyWriter;
pub use self::escape::MAX_TAG_BYTES;
pub(crate) use self::escape::{canonical_segments, escape_segment, escape_tag, is_plain};
pub use self::from_key::{FromKey, Segments};
pub(crate) use self::probe::{Identity, Prefix, Probe};
pub use self::to_key::{LoadKey, ToKey};

/// Starts the variant behind a key's name. Escaped inside segments, so the first one is it.
pub(crate) const VARIANT: u8 = b'~';
/// Begins a variant that is of one user: `~u3:ann `.
const USER: u8 = b'u';

/// A whole key, shared by whoever needs it.
#[derive(Clone)]
pub struct Key {
    bytes: Arc<[u8]>,
    hash: u64,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Key {
    /// The key of `segments`; the first names the namespace.
    pub fn of(segments: impl ToKey) -> Self {
        let mut writer = KeyWriter::new();
        segments.write_key(&mut writer);
        writer.to_key()
    }

    /// The key as people write it, `trig:123`. Characters with a meaning of their own count as escaped.
    pub(crate) fn parse(text: &str) -> Self {
        Self::from_bytes(&canonical_segments(text))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Key { hash: probe::hash_key(bytes), bytes: Arc::from(bytes) }
    }

    /// The bytes, variant included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For a table of its own: the same in all tables of one process.
    pub(crate) fn hash_bits(&self) -> u64 {
        self.hash
    }

    /// The key without its variant: what people call it, and what selectors match.
    pub fn name(&self) -> &[u8] {
        name_of(&self.bytes)
    }
}

/// The part of a key before its variant.
pub(crate) fn name_of(key: &[u8]) -> &[u8] {
    match key.iter().position(|&b| b == VARIANT) {
        Some(at) => &key[..at],
        None => key,
    }
}

/// The user that a key's variant [begins with](KeyWriter::begin_variant_of), if it is of one.
pub(crate) fn user_of(key: &[u8]) -> Option<&[u8]> {
    let variant = key.get(name_of(key).len() + 1..)?.strip_prefix(&[USER])?;
    let end = variant.iter().position(|&b| b == b':')?;
    let length: usize = std::str::from_utf8(&variant[..end]).ok()?.parse().ok()?;
    variant[end + 1..].get(..length)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// May `name` be the first segment of keys, a label in metrics and part of an environment variable's name?
pub(crate) fn is_namespace_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_joined_by_colons_and_numbers_are_written_plainly() {
        assert_eq!(Key::of(("trig", 123_u64, "logs")).to_string(), "trig:123:logs");
        assert_eq!(Key::of(("trig", -5_i32)).to_string(), "trig:-5");
    }

    #[test]
    fn no_two_different_segment_lists_make_one_key() {
        let keys = [
            Key::of(("a", "b", "c")),
            Key::of(("a", "b:c")),
            Key::of(("a", "b%3Ac")),
            Key::of(("a", "b", "")),
            Key::of(("a", "b")),
            Key::of(("a", "b", "%")),
            Key::of(("a", "b", "\0")),
            Key::of(("a", "b~c")),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn braces_stars_and_control_characters_never_reach_a_key() {
        let key = Key::of(("a", "{slot}*?[x]\r\n \u{7f}~"));
        assert!(key.as_bytes().iter().all(|b| b.is_ascii_graphic()), "{key}");
        assert!(!key.as_bytes().iter().any(|b| b"{}*?[]~".contains(b)), "{key}");
    }

    #[test]
    fn a_long_key_is_written_as_faithfully_as_a_short_one() {
        let long = "x".repeat(5000);
        assert_eq!(Key::of(("a", long.as_str())).as_bytes().len(), 5002);
    }
}
