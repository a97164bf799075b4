//! Arguments by reference, for a body that may outlive their owner.

use std::borrow::Borrow;

use super::Lend;

/// A clone of what a caller has lent, to lend on.
pub struct Lent<T: Lend + ?Sized> {
    owned: T::Owned,
}

/// Clones what is borrowed.
pub fn lend<T: Lend + ?Sized>(borrowed: &T) -> Lent<T> {
    Lent { owned: borrowed.to_owned() }
}

/// The clone.
pub fn lent<T: Lend + ?Sized>(lent: &Lent<T>) -> &T {
    lent.owned.borrow()
}
