//! Looking a key up: hashed once for every table, and without being written out first where it is plain.

use std::borrow::Cow;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::LazyLock;

use equivalent::Equivalent;

use super::Key;
use crate::sync::FastHash;

/// Seeded anew in each process: nobody outside can make keys that collide.
static STATE: LazyLock<FastHash> = LazyLock::new(FastHash::default);

fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = STATE.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Where the namespace of a key ends, its `:` included. The two parts are hashed apart, so that a handle hashes its
/// namespace once and for all.
fn namespace_end(key: &[u8]) -> usize {
    key.iter().position(|&b| b == b':').map_or(key.len(), |at| at + 1)
}

/// The hash of a whole key.
pub(super) fn hash_key(key: &[u8]) -> u64 {
    let (namespace, rest) = key.split_at(namespace_end(key));
    hash_bytes(namespace) ^ hash_bytes(rest)
}

/// A key to look up, in two pieces.
pub(crate) struct Probe<'a> {
    head: &'a [u8],
    rest: &'a [u8],
    hash: u64,
}

impl<'a> Probe<'a> {
    /// The probe of a key that is written out.
    #[inline]
    pub(crate) fn of(key: &'a [u8]) -> Self {
        Probe { head: key, rest: b"", hash: hash_key(key) }
    }

    /// The key, in one piece.
    pub(crate) fn bytes(&self) -> Cow<'a, [u8]> {
        match self.rest {
            [] => Cow::Borrowed(self.head),
            rest => Cow::Owned([self.head, rest].concat()),
        }
    }

    /// The key, to keep.
    pub(crate) fn to_key(&self) -> Key {
        Key { bytes: self.bytes().into(), hash: self.hash }
    }
}

/// `namespace:`, hashed.
#[derive(Clone)]
pub(crate) struct Prefix {
    bytes: Box<[u8]>,
    hash: u64,
}

impl Prefix {
    pub(crate) fn new(namespace: &str) -> Self {
        let bytes = format!("{namespace}:").into_bytes();
        Prefix { hash: hash_bytes(&bytes), bytes: bytes.into() }
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - 1]
    }

    /// The probe of the key whose one segment is `plain`: text that is written as it is.
    #[inline]
    pub(crate) fn probe<'a>(&'a self, plain: &'a str) -> Probe<'a> {
        let rest = plain.as_bytes();
        Probe { head: &self.bytes, rest, hash: self.hash ^ hash_bytes(rest) }
    }
}

impl<'a> From<&'a Key> for Probe<'a> {
    #[inline]
    fn from(key: &'a Key) -> Self {
        Probe { head: &key.bytes, rest: b"", hash: key.hash }
    }
}

impl Hash for Probe<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for Probe<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash
            && key.bytes.len() == self.head.len() + self.rest.len()
            && key.bytes[..self.head.len()] == *self.head
            && key.bytes[self.head.len()..] == *self.rest
    }
}

/// For tables of keys, which bring their hash.
pub(crate) type Identity = BuildHasherDefault<IdentityHasher>;

/// Hands on the hash it is given.
#[derive(Default)]
pub(crate) struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // No key gets here; what does is hashed all the same.
        self.0 ^= hash_bytes(bytes);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_pieces_finds_the_key_that_was_written_out() {
        let prefix = Prefix::new("trig");
        let key = Key::of(("trig", "a-b_c"));
        let probe = prefix.probe("a-b_c");
        assert!(probe.equivalent(&key) && probe.hash == key.hash);
        assert_eq!(probe.to_key(), key);
        assert!(Probe::of(key.as_bytes()).equivalent(&key));
        assert!(!prefix.probe("a-b_d").equivalent(&key));
        assert!(!Prefix::new("trip").probe("a-b_c").equivalent(&key));
        let bare = Key::of(("trig",));
        assert!(Probe::of(b"trig").equivalent(&bare) && !probe.equivalent(&bare));
    }
}
