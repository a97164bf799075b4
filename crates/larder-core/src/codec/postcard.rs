//! Postcard, with a fingerprint of the type.

use bytes::Bytes;
use postcard::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guard::Guard;
use super::{Codec, CodecError};

/// Postcard: no names, small numbers in one byte. The smallest, and the quickest to read. Feature `postcard`.
///
/// Bytes without names would be read as whatever the type is by now. So eight bytes in front of them hold a fingerprint of what
/// the type asked for when they were read: kinds, names of structs, fields and variants. Whatever of that changes makes old
/// entries misses, never garbage. To know it, encoding reads the value back: it costs a decoding more.
///
/// Not for types that look at the data to know what they are (`#[serde(untagged)]`, `tag`, `flatten`, `serde_json::Value`) or
/// that leave fields out (`skip_serializing_if`): they are returned and not stored. Nesting is bounded as in `MsgPack`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

/// Bytes of the fingerprint.
const SHAPE: usize = 8;

impl<V: Serialize + DeserializeOwned> Codec<V> for Postcard {
    fn id(&self) -> u8 {
        5
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let at = out.len();
        out.extend_from_slice(&[0; SHAPE]);
        *out = postcard::to_extend(value, std::mem::take(out))
            .map_err(|e| CodecError::because("the value has no Postcard form", e))?;
        let (_, shape) = read::<V>(&out[at + SHAPE..])
            .map_err(|e| CodecError::because("the value cannot be read back from Postcard", e))?;
        out[at..at + SHAPE].copy_from_slice(&shape.to_be_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let (told, payload) =
            bytes.split_first_chunk::<SHAPE>().ok_or_else(|| CodecError::new("no Postcard: too short"))?;
        let (value, shape) = read(payload)?;
        if shape != u64::from_be_bytes(*told) {
            return Err(CodecError::new("written by a type of another shape"));
        }
        Ok(value)
    }
}

/// A value, and the fingerprint of its type as far as these bytes reach.
fn read<V: DeserializeOwned>(bytes: &[u8]) -> Result<(V, u64), CodecError> {
    let mut from = Deserializer::from_bytes(bytes);
    let mut guard = Guard::watching(bytes.len());
    let not_this = |e| CodecError::because("no Postcard of this type", e);
    let value = guard.read(&mut from).map_err(not_this)?;
    if !from.finalize().map_err(not_this)?.is_empty() {
        return Err(CodecError::new("bytes after the value"));
    }
    Ok((value, guard.shape()))
}
