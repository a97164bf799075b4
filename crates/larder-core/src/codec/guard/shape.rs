//! What a type asked of the bytes it was read from: kinds, names of structs, their fields and variants, in order.
//!
//! A format that writes no names reads the bytes of one type as another without a word. Read by a type that has changed
//! wherever these bytes reach, they give another fingerprint.

use xxhash_rust::xxh3::Xxh3;

/// The fingerprint so far.
#[derive(Default)]
pub(super) struct Shape {
    sum: u64,
    /// Names that were seen, by where they stand, with their hash: a list of structs asks for the same ones again and again.
    names: Vec<(Names, u64)>,
}

/// Two texts or lists at the same place, of the same length, are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Names {
    name: (usize, usize),
    parts: (usize, usize),
}

/// How many names are remembered: the rest is hashed at each visit.
const REMEMBERED: usize = 32;

impl Shape {
    fn mix(&mut self, word: u64) {
        self.sum = (self.sum.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn names(&mut self, name: &'static str, parts: &'static [&'static str]) {
        let names =
            Names { name: (name.as_ptr().addr(), name.len()), parts: (parts.as_ptr().addr(), parts.len()) };
        if let Some((_, hash)) = self.names.iter().find(|(known, _)| *known == names) {
            return self.mix(*hash);
        }
        let mut hash = Xxh3::new();
        for text in std::iter::once(&name).chain(parts) {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let hash = hash.digest();
        if self.names.len() < REMEMBERED {
            self.names.push((names, hash));
        }
        self.mix(hash);
    }
}

/// Is the shape of interest? Formats that write names notice themselves.
pub(super) enum Watch {
    Off,
    #[cfg_attr(not(feature = "postcard"), expect(dead_code, reason = "MessagePack has names"))]
    On(Shape),
}

impl Watch {
    #[cfg(feature = "postcard")]
    pub(super) fn sum(&self) -> u64 {
        match self {
            Watch::Off => 0,
            Watch::On(shape) => shape.sum,
        }
    }

    /// A value of this kind was asked for; `detail` is a length that the type knows.
    pub(super) fn kind(&mut self, kind: u8, detail: usize) {
        if let Watch::On(shape) = self {
            shape.mix(u64::from(kind) | (detail as u64) << 8);
        }
    }

    /// Something with names was asked for.
    pub(super) fn names(&mut self, kind: u8, name: &'static str, parts: &'static [&'static str]) {
        if let Watch::On(shape) = self {
            shape.mix(u64::from(kind));
            shape.names(name, parts);
        }
    }
}
