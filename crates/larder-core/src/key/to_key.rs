//! What can be a key.

use super::KeyWriter;

/// Something that writes itself as the segments of a key.
///
/// Implemented for integers, strings, `bool`, `char`, `()`, `Option`, tuples and (feature `uuid`) `Uuid`. Segments are
/// escaped by the writer, so input from outside cannot reach beyond its own segment.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a key",
    label = "no key",
    note = "name a field of it that can (an integer, a string, a `bool`, a `Uuid`, an `Option` or a tuple of such), or implement `larder::ToKey` for it"
)]
pub trait ToKey {
    /// Writes the segments.
    fn write_key(&self, key: &mut KeyWriter<'_>);

    /// The one segment, if there is but one and it is text already: then a look-up need not write it out first.
    /// Default: `None`, always right.
    #[inline]
    fn as_text(&self) -> Option<&str> {
        None
    }
}

macro_rules! numbers {
    ($($t:ty)*) => {$(
        impl ToKey for $t {
            #[inline]
            fn write_key(&self, key: &mut KeyWriter<'_>) { key.number(*self); }
        }
    )*};
}
numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

impl ToKey for str {
    #[inline]
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.segment(self);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl ToKey for String {
    #[inline]
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.segment(self);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        Some(self)
    }
}

impl ToKey for bool {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.segment(if *self { "true" } else { "false" });
    }
}

impl ToKey for char {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.segment(self.encode_utf8(&mut [0; 4]));
    }
}

/// No segment: the namespace has one entry.
impl ToKey for () {
    fn write_key(&self, _: &mut KeyWriter<'_>) {}
}

/// `None` is a segment of its own, which no value can write.
impl<T: ToKey> ToKey for Option<T> {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        match self {
            None => key.segment(""),
            Some(value) => {
                key.segment("=");
                value.write_key(key);
            }
        }
    }
}

#[cfg(feature = "uuid")]
impl ToKey for uuid::Uuid {
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        key.segment(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
}

impl<T: ToKey + ?Sized> ToKey for &T {
    #[inline]
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        (**self).write_key(key);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        (**self).as_text()
    }
}

impl<T: ToKey + ?Sized> ToKey for std::sync::Arc<T> {
    #[inline]
    fn write_key(&self, key: &mut KeyWriter<'_>) {
        (**self).write_key(key);
    }

    #[inline]
    fn as_text(&self) -> Option<&str> {
        (**self).as_text()
    }
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),*))*) => {$(
        impl<$($t: ToKey),*> ToKey for ($($t,)*) {
            #[inline]
            fn write_key(&self, key: &mut KeyWriter<'_>) { $(self.$i.write_key(key);)* }
        }
    )*};
}
tuples! { (A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3) (A 0, B 1, C 2, D 3, F 4) (A 0, B 1, C 2, D 3, F 4, G 5) }

/// What may be handed to a handle whose loader takes `K`: a `K`, a reference to one, or `&str` for a `String`. It
/// becomes a `K` only if the loader has to run, so a hit copies nothing.
pub trait LoadKey<K>: ToKey {
    /// The key as the loader wants it.
    fn into_key(self) -> K;
}

impl<K: ToKey> LoadKey<K> for K {
    fn into_key(self) -> K {
        self
    }
}

impl<K: ToKey + Clone> LoadKey<K> for &K {
    fn into_key(self) -> K {
        self.clone()
    }
}

impl LoadKey<String> for &str {
    fn into_key(self) -> String {
        self.to_owned()
    }
}
