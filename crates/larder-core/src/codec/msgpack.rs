//! MessagePack.

use bytes::Bytes;
use rmp_serde::{Deserializer, Serializer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::Guard;
use super::{Codec, CodecError};

/// MessagePack with the names of fields: JSON's tolerance in fewer bytes, and bytes as bytes. Feature `msgpack`.
///
/// What survives a changed type is what survives in [`Json`](crate::Json). A value nested deeper than 256 levels (lists, maps,
/// structs, enums, options, newtypes) is stored and never read back.
#[derive(Debug, Clone, Copy, Default)]
pub struct MsgPack;

impl<V: Serialize + DeserializeOwned> Codec<V> for MsgPack {
    fn id(&self) -> u8 {
        4
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let mut to = Serializer::new(out).with_struct_map();
        value.serialize(&mut to).map_err(|e| CodecError::because("the value has no MessagePack form", e))
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let mut rest: &[u8] = bytes;
        let mut from = Deserializer::new(&mut rest);
        let value = Guard::new(bytes.len())
            .read(&mut from)
            .map_err(|e| CodecError::because("no MessagePack of this type", e))?;
        if !rest.is_empty() {
            return Err(CodecError::new("bytes after the value"));
        }
        Ok(value)
    }
}
