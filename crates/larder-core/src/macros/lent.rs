//! Arguments by reference, for a body that may outlive their owner.

use std::borrow::Borrow;

use super::Lend;

/// A clone of what a caller has lent, to lend on.
pub struct Lent<T: ToOwned + ?Sized> {
    owned: T::Owned,
}

/// Clones what is borrowed.
pub fn lend<T: Lend + ?Sized>(borrowed: &T) -> Lent<T> {
    Lent { owned: borrowed.to_owned() }
}

impl<T: ToOwned + ?Sized> Lent<T> {
    /// The clone.
    pub fn get(&self) -> &T {
        self.owned.borrow()
    }
}
