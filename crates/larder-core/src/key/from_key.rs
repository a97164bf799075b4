//! Reading a key back: the reverse of [`ToKey`].

use std::borrow::Cow;

use super::escape::unescape_segment;
use super::{Key, ToKey};

/// A key that can be read back from the segments it wrote. What a handle needs of its `K` to load by the key alone:
/// [`Namespace::refreshable`](crate::Namespace::refreshable).
///
/// Implemented for integers, `String`, `bool`, `char`, `()`, `Option`, tuples of up to six and (feature `uuid`) `Uuid`.
/// For a type of your own: read exactly the segments that its [`ToKey`] writes, and answer `None` for any others. What
/// was read is written again and compared before it is used, so a mistake here means that nothing is loaded, never the
/// wrong thing.
pub trait FromKey: ToKey + Sized {
    /// Reads the segments of one value; `None` if they are not what it writes.
    fn from_key(segments: &mut Segments<'_>) -> Option<Self>;
}

/// The segments of a key, from the left, without their escapes.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    /// Left out where it stands: the sub-resource of a handle, behind the first segment.
    sub: &'a [u8],
    taken: usize,
}

impl<'a> Segments<'a> {
    /// What stands behind the namespace of a key; `None` if the key is of another one. `namespace` and `sub` are escaped
    /// already.
    pub(crate) fn within(key: &'a Key, namespace: &[u8], sub: &'a [u8]) -> Option<Self> {
        let rest = key.as_bytes().strip_prefix(namespace)?;
        let rest = match rest {
            [] => None,
            [b':', rest @ ..] => Some(rest),
            _ => return None,
        };
        // A handle with a sub-resource writes it behind the first segment, or alone where there is none.
        match rest {
            Some(rest) if !sub.is_empty() && rest == sub => Some(Segments { rest: None, sub: b"", taken: 0 }),
            _ => Some(Segments { rest, sub, taken: 0 }),
        }
    }

    /// The next segment as text; `None` behind the last one, and if it is nothing that a key is written with.
    #[expect(
        clippy::should_implement_trait,
        reason = "an end and a bad segment are one answer here: no iterator"
    )]
    pub fn next(&mut self) -> Option<Cow<'a, str>> {
        let segment = self.cut()?;
        self.taken += 1;
        if self.taken == 1 && !self.sub.is_empty() && self.cut()? != std::mem::take(&mut self.sub) {
            return None;
        }
        unescape_segment(segment)
    }

    fn cut(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let (segment, rest) = match rest.iter().position(|&b| b == b':') {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        self.rest = rest;
        Some(segment)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_none()
    }
}

macro_rules! numbers {
    ($($t:ty)*) => {$(
        impl FromKey for $t {
            fn from_key(segments: &mut Segments<'_>) -> Option<Self> { segments.next()?.parse().ok() }
        }
    )*};
}
numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char);

impl FromKey for String {
    fn from_key(segments: &mut Segments<'_>) -> Option<Self> {
        segments.next().map(Cow::into_owned)
    }
}

impl FromKey for () {
    fn from_key(_: &mut Segments<'_>) -> Option<Self> {
        Some(())
    }
}

impl<T: FromKey> FromKey for Option<T> {
    fn from_key(segments: &mut Segments<'_>) -> Option<Self> {
        match &*segments.next()? {
            "" => Some(None),
            "=" => T::from_key(segments).map(Some),
            _ => None,
        }
    }
}

#[cfg(feature = "uuid")]
impl FromKey for uuid::Uuid {
    fn from_key(segments: &mut Segments<'_>) -> Option<Self> {
        segments.next()?.parse().ok()
    }
}

macro_rules! tuples {
    ($(($($t:ident)*))*) => {$(
        impl<$($t: FromKey),*> FromKey for ($($t,)*) {
            fn from_key(segments: &mut Segments<'_>) -> Option<Self> { Some(($($t::from_key(segments)?,)*)) }
        }
    )*};
}
tuples! { (A) (A B) (A B C) (A B C D) (A B C D F) (A B C D F G) }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyWriter;
    use proptest::prelude::*;

    /// Writes `value` as a handle does, and reads it back.
    fn back<T: FromKey>(value: &T, sub: &str) -> Option<T> {
        let mut writer = KeyWriter::within(b"doc", sub.as_bytes());
        value.write_key(&mut writer);
        writer.finish();
        let key = writer.to_key();
        let mut segments = Segments::within(&key, b"doc", sub.as_bytes())?;
        let value = T::from_key(&mut segments)?;
        segments.is_empty().then_some(value)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(
            a: u64, b: i128, text in any::<String>(), odd in "[:%~*{}# =a]{0,6}", c: bool, d: char,
            maybe: Option<Option<String>>,
        ) {
            for sub in ["", "logs"] {
                prop_assert_eq!(back(&a, sub), Some(a));
                prop_assert_eq!(back(&text, sub), Some(text.clone()));
                prop_assert_eq!(back(&odd, sub), Some(odd.clone()));
                let all = (b, text.clone(), maybe.clone(), c, (d, odd.clone()), a);
                prop_assert_eq!(back(&all, sub), Some(all));
            }
        }

        #[cfg(feature = "uuid")]
        #[test]
        fn so_is_a_uuid(bits: u128, n: u8) {
            let key = (uuid::Uuid::from_u128(bits), n);
            prop_assert_eq!(back(&key, "logs"), Some(key));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let key = Key::from_bytes(&[b"doc:", &bytes[..]].concat());
            let segments = || Segments::within(&key, b"doc", b"logs").unwrap();
            let _ = <(String, Option<u64>)>::from_key(&mut segments());
            let _ = <(char, bool, i8)>::from_key(&mut segments());
        }
    }

    #[test]
    fn a_key_without_a_segment_is_read_back_too() {
        assert_eq!(back(&(), ""), Some(()));
        assert_eq!(back(&(), "logs"), Some(()));
    }

    #[test]
    fn the_keys_of_others_are_not_read() {
        let read = |key: &str, sub: &str| {
            let key = Key::from_bytes(key.as_bytes());
            let mut segments = Segments::within(&key, b"doc", sub.as_bytes())?;
            u64::from_key(&mut segments).filter(|_| segments.is_empty())
        };
        assert_eq!((read("doc:7", ""), read("doc:7:logs", "logs")), (Some(7), Some(7)));
        for (key, sub) in [
            ("dock:7", ""),
            ("doc", ""),
            ("doc:7:logs", ""),
            ("doc:7", "logs"),
            ("doc:7:log", "logs"),
            ("doc:7:logs:8", "logs"),
            ("doc:seven", ""),
            ("doc:7~host", ""),
            ("doc:%zz", ""),
        ] {
            assert_eq!(read(key, sub), None, "{key} {sub}");
        }
    }
}
