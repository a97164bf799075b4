//! How much memory a decoded value takes, found by walking it the way serde does, without writing anything.
//!
//! The encoded length is no measure: a thousand two-letter strings are 5 kB of JSON and 56 kB of memory, and a cache
//! bounded by such figures outgrows its bound tenfold. See `docs/decisions/0002-weights-by-walking.md`.

use serde::ser::{self, Serialize};

/// What a small allocation costs beside its bytes: the allocator's header and rounding.
const ALLOCATION: usize = 16;
/// The handle of a string or list: pointer, length, capacity.
const HANDLE: usize = 24;

/// About how many bytes `value` takes. Never panics; a value whose `Serialize` fails counts what was seen of it.
pub(crate) fn weigh<V: Serialize + ?Sized>(value: &V) -> usize {
    let mut scales = Scales(0);
    // An error here is the value's own; encoding it, if it has to be encoded, reports it.
    let _ = value.serialize(&mut scales);
    scales.0
}

struct Scales(usize);

impl Scales {
    fn add(&mut self, bytes: usize) -> Result<(), Unweighable> {
        self.0 = self.0.saturating_add(bytes);
        Ok(())
    }

    fn allocation(&mut self, bytes: usize) -> Result<(), Unweighable> {
        let heap = if bytes == 0 { 0 } else { bytes.next_multiple_of(16) + ALLOCATION };
        self.add(HANDLE + heap)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unweighable(String);

impl ser::Error for Unweighable {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Unweighable(message.to_string())
    }
}

macro_rules! fixed {
    ($($method:ident: $t:ty),* $(,)?) => {$(
        fn $method(self, _: $t) -> Result<(), Unweighable> { self.add(size_of::<$t>()) }
    )*};
}

impl ser::Serializer for &mut Scales {
    type Ok = ();
    type Error = Unweighable;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_f32: f32, serialize_f64: f64, serialize_char: char,
    }

    fn serialize_str(self, v: &str) -> Result<(), Unweighable> {
        self.allocation(v.len())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Unweighable> {
        self.allocation(v.len())
    }
    fn serialize_none(self) -> Result<(), Unweighable> {
        self.add(HANDLE)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Unweighable> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Unweighable> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Unweighable> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Unweighable> {
        self.add(8)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unweighable> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unweighable> {
        self.add(8)?;
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Unweighable> {
        self.add(HANDLE + ALLOCATION)?;
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Unweighable> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Unweighable> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unweighable> {
        self.add(8)?;
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Unweighable> {
        // Tables keep about half their places free.
        self.add(HANDLE + ALLOCATION + 16 * len.unwrap_or(0))?;
        Ok(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Unweighable> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Unweighable> {
        self.add(8)?;
        Ok(self)
    }
}

macro_rules! parts {
    ($($trait:ident $($method:ident)+;)*) => {$(
        impl ser::$trait for &mut Scales {
            type Ok = ();
            type Error = Unweighable;
            $(fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unweighable> {
                value.serialize(&mut **self)
            })+
            fn end(self) -> Result<(), Unweighable> { Ok(()) }
        }
    )*};
}
parts! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeMap serialize_key serialize_value;
}

macro_rules! named_parts {
    ($($trait:ident)*) => {$(
        impl ser::$trait for &mut Scales {
            type Ok = ();
            type Error = Unweighable;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Unweighable> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), Unweighable> { Ok(()) }
        }
    )*};
}
named_parts! { SerializeStruct SerializeStructVariant }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_strings_weigh_what_they_take_not_what_they_print() {
        let values: Vec<String> = (0..1000).map(|i| format!("{:02}", i % 100)).collect();
        let taken = 24 + 1000 * (24 + 32);
        let weight = weigh(&values);
        assert!((taken..taken * 5 / 4).contains(&weight), "{weight} for {taken}");
    }

    #[test]
    fn a_long_string_weighs_its_length_and_little_more() {
        let weight = weigh(&"x".repeat(100_000));
        assert!((100_000..100_200).contains(&weight), "{weight}");
    }

    #[test]
    fn bytes_in_a_list_weigh_a_byte_each() {
        let weight = weigh(&vec![7_u8; 10_000]);
        assert!((10_000..10_200).contains(&weight), "{weight}");
    }
}
