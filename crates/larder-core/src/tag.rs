//! A tag as entries carry it.

use crate::selector::{Selector, SelectorHash};

/// A tag, escaped, and what the stamp table knows it by. The hash lies beside the text, not behind it: an entry whose tags
/// nothing has touched is checked without reading one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    hash: SelectorHash,
    text: Box<[u8]>,
}

impl Tag {
    /// The tag that is written `escaped`.
    pub(crate) fn new(escaped: impl Into<Box<[u8]>>) -> Self {
        let text = escaped.into();
        Tag { hash: Selector::hash_of_tag(&text), text }
    }

    /// As a selector that names it is hashed.
    #[inline]
    pub(crate) fn hash(&self) -> SelectorHash {
        self.hash
    }

    /// Its escaped text.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }
}
