//! A deserializer that passes everything on, and notes what was asked for.

use serde::de::{DeserializeSeed, Deserializer, Visitor};

use super::Guard;
use super::visitor::Watched;

/// `inner`, within bounds. Also a seed, whose value is read within bounds.
pub(super) struct Guarded<'a, T> {
    pub(super) inner: T,
    pub(super) guard: &'a mut Guard,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Guarded { inner, guard: self.guard })
    }
}

impl<'a, T> Guarded<'a, T> {
    /// What the inner one is given: `counted` says that its input, not its type, tells how many elements there are.
    fn split<V>(self, visitor: V, counted: bool) -> (T, Watched<'a, V>) {
        (self.inner, Watched { visitor, counted, guard: self.guard })
    }
}

macro_rules! pass_on {
    ($($method:ident $kind:literal $counted:literal,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.guard.shape.kind($kind, 0);
            let (inner, visitor) = self.split(visitor, $counted);
            inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_any 1 true,
        deserialize_ignored_any 2 true,
        deserialize_identifier 3 false,
        deserialize_bool 4 false,
        deserialize_i8 5 false,
        deserialize_i16 6 false,
        deserialize_i32 7 false,
        deserialize_i64 8 false,
        deserialize_i128 9 false,
        deserialize_u8 10 false,
        deserialize_u16 11 false,
        deserialize_u32 12 false,
        deserialize_u64 13 false,
        deserialize_u128 14 false,
        deserialize_f32 15 false,
        deserialize_f64 16 false,
        deserialize_char 17 false,
        deserialize_str 18 false,
        deserialize_string 19 false,
        deserialize_bytes 20 true,
        deserialize_byte_buf 21 true,
        deserialize_option 22 false,
        deserialize_unit 23 false,
        deserialize_seq 24 true,
        deserialize_map 25 true,
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.shape.names(26, name, &[]);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.shape.names(27, name, &[]);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.guard.shape.kind(28, len);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.shape.kind(29, len);
        self.guard.shape.names(29, name, &[]);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.shape.names(30, name, fields);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.guard.shape.names(31, name, variants);
        let (inner, visitor) = self.split(visitor, false);
        inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}
