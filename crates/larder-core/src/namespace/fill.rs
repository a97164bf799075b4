//! What a loader says of a value.

use std::time::Duration;

use crate::entry::Tags;
use crate::key::{MAX_TAG_BYTES, escape_tag};
use crate::tag::Tag;

/// What a loader says of a value, beyond the policy.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Fill {
    /// A ttl of its own. Default: the policy's.
    pub ttl: Option<Duration>,
    /// Its tags. More than 256, or one of more than 1024 bytes, and the value is not stored: what cannot be tagged
    /// could not be invalidated.
    pub tags: Vec<String>,
}

impl Fill {
    /// The policy's ttl, no tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the ttl.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the tags.
    pub fn tags(mut self, tags: Vec<String>) -> Self {
        self.tags = tags;
        self
    }

    /// Can these tags be stored?
    pub fn tags_fit(&self) -> bool {
        self.tags.len() <= 256 && self.tags.iter().all(|tag| (1..=MAX_TAG_BYTES).contains(&tag.len()))
    }

    pub(super) fn stored_tags(&self) -> Tags {
        let tags = || self.tags.iter().map(|tag| Tag::new(escape_tag(tag))).collect();
        (!self.tags.is_empty()).then(tags)
    }
}

/// A value, and what its loader says of it.
///
/// ```
/// # use larder_core::Filled;
/// # use std::time::Duration;
/// let report = Filled::new("...").ttl(Duration::from_secs(60)).tag("report");
/// # assert_eq!(report.fill.tags, ["report"]);
/// ```
#[derive(Clone, Debug)]
pub struct Filled<V> {
    /// The value.
    pub value: V,
    /// What is said of it.
    pub fill: Fill,
}

impl<V> Filled<V> {
    /// A value of which nothing is said.
    pub fn new(value: V) -> Self {
        Filled { value, fill: Fill::default() }
    }

    /// Sets its ttl. Default: the policy's.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.fill.ttl = Some(ttl);
        self
    }

    /// Adds a tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.fill.tags.push(tag.into());
        self
    }

    /// Adds tags.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.fill.tags.extend(tags.into_iter().map(Into::into));
        self
    }
}

impl<V> From<V> for Filled<V> {
    fn from(value: V) -> Self {
        Filled::new(value)
    }
}
