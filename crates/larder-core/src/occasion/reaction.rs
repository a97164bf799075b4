//! What a handler wants done.

use std::fmt::Display;

use crate::selector::Selector;

/// What is to be done about an occasion. Reactions add up: see [`and`](Self::and).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until a handler answers it"]
pub struct Reaction {
    pub(super) drop: Vec<Selector>,
    pub(super) expire: Vec<Selector>,
    pub(super) refresh: Vec<Selector>,
    pub(super) failures: Vec<String>,
}

impl Reaction {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Invalidate these: never served again.
    pub fn drop(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Reaction { drop: selectors.into_iter().collect(), ..Self::default() }
    }

    /// Expire these: stale from now on, loaded again when next read.
    pub fn expire(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Reaction { expire: selectors.into_iter().collect(), ..Self::default() }
    }

    /// Expire these, and load them again here at once, in the background, as far as they are keys of handles that are
    /// [`refreshable`](crate::Namespace::refreshable). Meanwhile every node serves the stale value within its window.
    ///
    /// A selector of one key loads that key, whether it is cached or not. A wider one (subtree, tag, everything) loads
    /// again what this node's memory has of it and could still serve. One call of `publish` begins at most 128 loads,
    /// and looks for them among at most 100,000 entries; the rest waits for its next read.
    pub fn refresh(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Reaction { refresh: selectors.into_iter().collect(), ..Self::default() }
    }

    /// Something could not be done: reported in [`Published`](crate::Published), with the handler's place. What else
    /// there is to do is done all the same. Say nothing in it that logs must not hold.
    pub fn failed(reason: impl Into<String>) -> Self {
        Reaction { failures: vec![reason.into()], ..Self::default() }
    }

    /// This, and that too.
    pub fn and(mut self, other: impl Into<Reaction>) -> Self {
        let other = other.into();
        self.drop.extend(other.drop);
        self.expire.extend(other.expire);
        self.refresh.extend(other.refresh);
        self.failures.extend(other.failures);
        self
    }
}

impl<R: Into<Reaction>> FromIterator<R> for Reaction {
    fn from_iter<I: IntoIterator<Item = R>>(reactions: I) -> Self {
        reactions.into_iter().fold(Self::none(), Reaction::and)
    }
}

impl<const N: usize> From<[Reaction; N]> for Reaction {
    fn from(reactions: [Reaction; N]) -> Self {
        reactions.into_iter().collect()
    }
}

impl From<Vec<Reaction>> for Reaction {
    fn from(reactions: Vec<Reaction>) -> Self {
        reactions.into_iter().collect()
    }
}

impl<R: Into<Reaction>, E: Display> From<Result<R, E>> for Reaction {
    fn from(result: Result<R, E>) -> Self {
        result.map_or_else(|error| Self::failed(error.to_string()), Into::into)
    }
}
