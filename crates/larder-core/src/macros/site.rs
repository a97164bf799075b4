//! Where `#[cached]` stands, and the handle that each cache keeps for it.
//!
//! Handles hold the engine. They cannot lie in the `static` of their function, which would keep every cache alive for
//! ever, nor in the engine, which would keep itself: they lie beside it, shared by all clones of one [`Cache`], and end
//! with the last of them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Value;
use crate::cache::Cache;
use crate::event::Event;
use crate::namespace::{AnyKey, Namespace, NoLoader, Resource};
use crate::policy::Policy;
use crate::sync::{Mutex, OnceLock};

type Handle<V> = Namespace<AnyKey, V, NoLoader>;

/// Places in the first part of a table; each part has twice as many as the one before.
const FIRST: usize = 32;
/// Parts of a table: room for more functions than a program can have.
const PARTS: usize = 27;

/// One `#[cached]`: a `static` in the function it stands on.
pub struct Site {
    function: &'static str,
    file: &'static str,
    line: u32,
    namespace: &'static str,
    sub: &'static str,
    /// Its place in every table, counted from 1; 0 before its first call.
    place: AtomicUsize,
}

impl Site {
    /// A site. `sub` is empty if there is none.
    pub const fn new(
        function: &'static str,
        file: &'static str,
        line: u32,
        namespace: &'static str,
        sub: &'static str,
    ) -> Self {
        Site { function, file, line, namespace, sub, place: AtomicUsize::new(0) }
    }

    fn place(&self) -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        match self.place.load(Ordering::Relaxed) {
            0 => {
                let new = NEXT.fetch_add(1, Ordering::Relaxed);
                // If another thread was quicker, its number stands, and this one is nobody's.
                match self.place.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => new,
                    Err(there) => there,
                }
            }
            place => place,
        }
    }

    fn resource(&self) -> Resource {
        (self.namespace, self.sub).into()
    }

    /// The handle of this function in `cache`, made at its first call. `None` if it cannot be made, which is told at that
    /// first call.
    #[inline]
    pub(super) fn handle<'c, V: Value>(
        &'static self,
        cache: &'c Cache,
        policy: impl FnOnce(&Cache) -> Policy,
        adjust: impl FnOnce(Handle<V>) -> Handle<V>,
    ) -> Option<&'c Handle<V>> {
        match cache.sites.find(self.place(), TypeId::of::<V>()) {
            Some(seat) => seat.handle(),
            None => self.sit_down(cache, policy(cache), adjust),
        }
    }

    #[cold]
    fn sit_down<'c, V: Value>(
        &'static self,
        cache: &'c Cache,
        policy: Policy,
        adjust: impl FnOnce(Handle<V>) -> Handle<V>,
    ) -> Option<&'c Handle<V>> {
        let opened = cache
            .sites
            .take(self)
            .and_then(|()| cache.namespace::<V>(self.resource(), policy).map_err(|error| whole(&error)));
        let (handle, refused) = match opened {
            Ok(handle) => (Some(Box::new(adjust(handle)) as Box<dyn Any + Send + Sync>), None),
            Err(reason) => (None, Some(reason)),
        };
        let seat = Seat { of: TypeId::of::<V>(), handle, next: OnceLock::default() };
        let (seat, is_new) = cache.sites.put(self.place(), seat);
        if let (true, Some(reason)) = (is_new, refused) {
            let function = self.to_string();
            cache.engine.events.emit(|| Event::Misconfigured { function, reason });
        }
        seat.handle()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.function, self.file, self.line)
    }
}

/// An error with what is behind it.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(behind) = source {
        text.push_str(": ");
        text.push_str(&behind.to_string());
        source = behind.source();
    }
    text
}

/// The handles of one cache. As large as its functions are many; reading takes no lock.
#[derive(Default)]
pub(crate) struct Sites {
    parts: [OnceLock<Box<[OnceLock<Seat>]>>; PARTS],
    /// Which function has which name: two with one name would give each other's answers.
    taken: Mutex<HashMap<String, &'static Site>>,
}

/// What a function has in a cache, for one type of value; generic functions have several.
struct Seat {
    of: TypeId,
    /// `None`: it could not be made.
    handle: Option<Box<dyn Any + Send + Sync>>,
    next: OnceLock<Box<Seat>>,
}

impl Seat {
    fn handle<V: Value>(&self) -> Option<&Handle<V>> {
        self.handle.as_ref()?.downcast_ref()
    }
}

/// In which part a place is, and where there.
fn position(place: usize) -> (usize, usize) {
    let part = (place + FIRST).ilog2() - FIRST.ilog2();
    (part as usize, place + FIRST - (FIRST << part))
}

impl Sites {
    #[inline]
    fn find(&self, place: usize, of: TypeId) -> Option<&Seat> {
        let (part, at) = position(place);
        let mut seat = self.parts[part].get()?[at].get()?;
        while seat.of != of {
            seat = seat.next.get()?;
        }
        Some(seat)
    }

    /// Puts a seat into its place, unless another call was quicker. True if it was not.
    fn put(&self, place: usize, mut seat: Seat) -> (&Seat, bool) {
        const SET: &str = "it has just been set, here or elsewhere";
        let (part, at) = position(place);
        let empty = || (0..FIRST << part).map(|_| OnceLock::default()).collect();
        let part = &self.parts[part];
        let part = match part.get() {
            Some(part) => part,
            // Whoever comes first: empty is empty.
            None => {
                let _ = part.set(empty());
                part.get().expect(SET)
            }
        };
        let of = seat.of;
        let mut there = match part[at].set(seat) {
            Ok(()) => return (part[at].get().expect(SET), true),
            Err(back) => {
                seat = back;
                part[at].get().expect(SET)
            }
        };
        while there.of != of {
            match there.next.set(Box::new(seat)) {
                Ok(()) => return (there.next.get().expect(SET), true),
                Err(back) => {
                    seat = *back;
                    there = there.next.get().expect(SET);
                }
            }
        }
        (there, false)
    }

    /// Takes a site's name for it, or says who has it.
    fn take(&self, site: &'static Site) -> Result<(), String> {
        let mut taken = self.taken.lock();
        let there = *taken.entry(site.resource().name()).or_insert(site);
        if std::ptr::eq(there, site) {
            return Ok(());
        }
        Err(format!(
            "{} is in use by {there}: give one of them a `namespace`, or a `sub`, of its own",
            site.resource().name()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_one_of_its_own_and_within_its_part() {
        let mut next = (0, 0);
        for place in 0..10 * FIRST {
            assert_eq!(position(place), next);
            next = if next.1 + 1 == FIRST << next.0 { (next.0 + 1, 0) } else { (next.0, next.1 + 1) };
        }
        assert!(position(u32::MAX as usize - FIRST).0 < PARTS);
    }

    #[test]
    fn a_seat_is_found_by_its_place_and_its_type_and_the_first_one_stays() {
        let sites = Sites::default();
        let seat = |of, value: u8| Seat { of, handle: Some(Box::new(value)), next: OnceLock::default() };
        let (one, other) = (TypeId::of::<u8>(), TypeId::of::<u16>());
        let value = |seat: &Seat| *seat.handle.as_ref().unwrap().downcast_ref::<u8>().unwrap();
        for (place, of, offered, kept, is_new) in [
            (40, one, 1, 1, true),
            (40, one, 2, 1, false),
            (40, other, 3, 3, true),
            (40, other, 4, 3, false),
            (41, one, 5, 5, true),
        ] {
            let (seat, new) = sites.put(place, seat(of, offered));
            assert_eq!((value(seat), new), (kept, is_new), "{place}");
            assert_eq!(sites.find(place, of).map(value), Some(kept));
        }
        assert!(sites.find(41, other).is_none() && sites.find(0, one).is_none());
    }
}
