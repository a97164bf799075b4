//! Is a value the `None` of an `Option`? Asked the way serde asks: a value of any type tells a serializer what it is.

use serde::ser::{self, Impossible, Serialize};

/// Does `value` serialize as `None`? Never walks into it.
pub(crate) fn is_none<V: Serialize + ?Sized>(value: &V) -> bool {
    value.serialize(Asks).is_err_and(|said| matches!(said, Said::None))
}

/// Hears the first thing a value says, and ends there.
struct Asks;

#[derive(Debug, thiserror::Error)]
enum Said {
    #[error("none")]
    None,
    #[error("something")]
    Something,
}

impl ser::Error for Said {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Said::Something
    }
}

type Never = Result<Impossible<(), Said>, Said>;

macro_rules! something {
    ($($method:ident($($t:ty),*) -> $out:ty;)*) => {$(
        fn $method(self, $(_: $t),*) -> $out { Err(Said::Something) }
    )*};
}

impl ser::Serializer for Asks {
    type Ok = ();
    type Error = Said;
    type SerializeSeq = Impossible<(), Said>;
    type SerializeTuple = Impossible<(), Said>;
    type SerializeTupleStruct = Impossible<(), Said>;
    type SerializeTupleVariant = Impossible<(), Said>;
    type SerializeMap = Impossible<(), Said>;
    type SerializeStruct = Impossible<(), Said>;
    type SerializeStructVariant = Impossible<(), Said>;

    something! {
        serialize_bool(bool) -> Result<(), Said>;
        serialize_i8(i8) -> Result<(), Said>;
        serialize_i16(i16) -> Result<(), Said>;
        serialize_i32(i32) -> Result<(), Said>;
        serialize_i64(i64) -> Result<(), Said>;
        serialize_i128(i128) -> Result<(), Said>;
        serialize_u8(u8) -> Result<(), Said>;
        serialize_u16(u16) -> Result<(), Said>;
        serialize_u32(u32) -> Result<(), Said>;
        serialize_u64(u64) -> Result<(), Said>;
        serialize_u128(u128) -> Result<(), Said>;
        serialize_f32(f32) -> Result<(), Said>;
        serialize_f64(f64) -> Result<(), Said>;
        serialize_char(char) -> Result<(), Said>;
        serialize_str(&str) -> Result<(), Said>;
        serialize_bytes(&[u8]) -> Result<(), Said>;
        serialize_unit() -> Result<(), Said>;
        serialize_unit_struct(&'static str) -> Result<(), Said>;
        serialize_unit_variant(&'static str, u32, &'static str) -> Result<(), Said>;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_none(self) -> Result<(), Said> {
        Err(Said::None)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Said> {
        Err(Said::Something)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Said> {
        Err(Said::Something)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Said> {
        Err(Said::Something)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_none_is_none() {
        assert!(is_none(&None::<u64>));
        assert!(is_none(&None::<Vec<String>>));
        assert!(!is_none(&Some(0)) && !is_none(&Some(None::<u8>)));
        assert!(!is_none(&()) && !is_none("") && !is_none(&[0; 0]) && !is_none(&Vec::<u8>::new()));
        assert!(!is_none(&serde_json::json!({"a": null})), "what is inside is not asked");
    }
}
