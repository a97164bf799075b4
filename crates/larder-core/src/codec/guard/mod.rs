//! Reading bytes from outside by a type: how deep, how many, how much at once. And what was asked of them.
//!
//! The formats behind this file believe their input: MessagePack counts no depth through enums, Postcard none at all, and in
//! Postcard a list of things without bytes is as long as it claims. A few bytes could end the process.

mod access;
mod deserializer;
mod shape;
mod visitor;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use self::deserializer::Guarded;
use self::shape::Watch;

/// How deep a value may be nested: every list, map, struct, enum, `Option` and newtype is a level.
const MAX_DEPTH: usize = 256;

/// Elements of lists and maps that a value may have beyond one for each byte of it: those that have no bytes.
const MAX_EMPTY_ELEMENTS: usize = 4096;

/// Elements that room is made for at once: more come as they are read.
const MAX_HINT: usize = 1024;

/// What one decoding may still take.
pub(super) struct Guard {
    depth: usize,
    elements: usize,
    shape: Watch,
}

impl Guard {
    /// For so many bytes of input.
    pub(super) fn new(bytes: usize) -> Self {
        Guard { depth: MAX_DEPTH, elements: bytes.saturating_add(MAX_EMPTY_ELEMENTS), shape: Watch::Off }
    }

    /// The same, and fingerprints what the type asks for.
    #[cfg(feature = "postcard")]
    pub(super) fn watching(bytes: usize) -> Self {
        Guard { shape: Watch::On(shape::Shape::default()), ..Self::new(bytes) }
    }

    /// The fingerprint of all that was asked for; zero if nobody watched.
    #[cfg(feature = "postcard")]
    pub(super) fn shape(&self) -> u64 {
        self.shape.sum()
    }

    /// Reads a value, within these bounds.
    pub(super) fn read<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        &mut self,
        from: D,
    ) -> Result<V, D::Error> {
        V::deserialize(Guarded { inner: from, guard: self })
    }

    /// Does something one level deeper.
    fn deeper<T, E: Error>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        self.depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))?;
        let done = work(self);
        self.depth += 1;
        done
    }

    fn element<E: Error>(&mut self) -> Result<(), E> {
        self.elements = self.elements.checked_sub(1).ok_or_else(|| E::custom("more elements than bytes"))?;
        Ok(())
    }
}
