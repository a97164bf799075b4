//! Where a key is written before anybody looks it up: on the stack, as long as it is not unusually long.

use super::escape::escape_segment;
use super::{Key, USER, VARIANT};

/// Keys up to this many bytes are built without allocating.
const INLINE: usize = 128;

/// Takes the segments of a key, one after the other.
pub struct KeyWriter<'s> {
    inline: [u8; INLINE],
    len: usize,
    spilled: Vec<u8>,
    segments: usize,
    /// Written behind the first segment: the sub-resource of a handle.
    sub: &'s [u8],
    /// Segments that do not count as the first: those of the handle's own prefix.
    prefix: usize,
}

impl<'s> KeyWriter<'s> {
    /// An empty key.
    #[inline(always)]
    pub fn new() -> Self {
        KeyWriter { inline: [0; INLINE], len: 0, spilled: Vec::new(), segments: 0, sub: b"", prefix: 0 }
    }

    /// A key in a namespace; `namespace` and `sub` are escaped already.
    #[inline(always)]
    pub(crate) fn within(namespace: &[u8], sub: &'s [u8]) -> Self {
        let mut writer = Self::new();
        writer.push(namespace);
        writer.segments = 1;
        writer.prefix = 1;
        writer.sub = sub;
        writer
    }

    /// Adds a segment, escaped.
    #[inline]
    pub fn segment(&mut self, text: &str) {
        self.begin();
        escape_segment(text, |bytes| self.push(bytes));
        self.end();
    }

    /// Adds a number as a segment.
    #[inline]
    pub fn number(&mut self, number: impl itoa::Integer) {
        self.begin();
        self.push(itoa::Buffer::new().format(number).as_bytes());
        self.end();
    }

    /// Adds bytes that are part of a key already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    /// Ends the name: what is [`push_variant`](Self::push_variant)ed from here on tells apart what people call by one
    /// name. It is part of the key, and compared whole like the rest; selectors do not see it.
    pub fn begin_variant(&mut self) {
        self.finish();
        self.push(&[VARIANT]);
    }

    /// As [`begin_variant`](Self::begin_variant), for answers that are this user's own; [`Share::of_user`](crate::Share)
    /// reads it back. It stands in front, with its length: nothing that follows could be taken for it.
    pub fn begin_variant_of(&mut self, user: &str) {
        self.begin_variant();
        self.push(&[USER]);
        self.push(itoa::Buffer::new().format(user.len()).as_bytes());
        self.push(b":");
        self.push(user.as_bytes());
        self.push(b" ");
    }

    /// Adds to the variant, as it is.
    #[inline]
    pub fn push_variant(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    /// Writes the sub-resource if no segment came for it to stand behind.
    #[inline]
    pub(crate) fn finish(&mut self) {
        if !self.sub.is_empty() {
            let sub = std::mem::take(&mut self.sub);
            self.push(b":");
            self.push(sub);
        }
    }

    /// What is written so far.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.spilled.is_empty() { &self.inline[..self.len] } else { &self.spilled }
    }

    /// The key, to keep.
    pub fn to_key(&self) -> Key {
        Key::from_bytes(self.as_bytes())
    }

    #[inline]
    fn begin(&mut self) {
        if self.segments == 0 {
        } else if self.spilled.is_empty() && self.len < INLINE {
            self.inline[self.len] = b':';
            self.len += 1;
        } else {
            self.push(b":");
        }
    }

    #[inline]
    fn end(&mut self) {
        self.segments += 1;
        if self.segments == self.prefix + 1 && self.prefix > 0 {
            self.finish();
        }
    }

    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.spilled.is_empty() && end <= INLINE {
            self.inline[self.len..end].copy_from_slice(bytes);
            self.len = end;
        } else {
            self.spill(bytes);
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.spilled.is_empty() {
            self.spilled.reserve(4 * INLINE);
            self.spilled.extend_from_slice(&self.inline[..self.len]);
        }
        self.spilled.extend_from_slice(bytes);
    }
}

impl Default for KeyWriter<'_> {
    fn default() -> Self {
        Self::new()
    }
}
