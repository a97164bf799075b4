//! How values become bytes for a remote tier, and back.

mod compress;
#[cfg(any(feature = "msgpack", feature = "postcard"))]
mod guard;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "postcard")]
mod postcard;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::compress::Compression;
pub(crate) use self::compress::{pack, unpack};
#[cfg(feature = "msgpack")]
pub use self::msgpack::MsgPack;
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;

/// Why a value could not become bytes, or bytes a value. Never fails a read: a store is skipped, or the entry is a miss.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CodecError {
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CodecError {
    /// An error that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        CodecError { message: message.into(), source: None }
    }

    /// An error that says `message`, because of `source`.
    pub fn because(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        CodecError { message: message.into(), source: Some(source.into()) }
    }
}

/// Turns `V` into bytes and back. Entries name their codec, so changing it makes misses, not garbage.
///
/// A value is encoded in the background and decoded by the read that finds it in the remote tier; a hit in memory does
/// neither.
///
/// | codec | size | survives |
/// |---|---|---|
/// | [`Json`] | largest, readable with `redis-cli` | new fields that have a default, fields that go |
/// | `MsgPack` (feature `msgpack`) | names are kept, numbers and bytes are small | the same |
/// | `Postcard` (feature `postcard`) | smallest: no names | nothing: every change is a miss |
/// | [`Raw`] | the bytes | |
pub trait Codec<V>: Send + Sync + 'static {
    /// Names the codec in stored entries. Larder's own are below 128 (1 JSON, 2 raw, 3 HTTP responses, 4 MessagePack, 5
    /// Postcard); take one from 128 up.
    fn id(&self) -> u8;

    /// Appends `value` to `out`.
    ///
    /// # Errors
    /// The value has no such form. It is returned to the caller all the same, and not stored.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value.
    ///
    /// # Errors
    /// These bytes are no such value. The entry is a miss.
    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError>;
}

/// JSON: readable from outside, and survives added fields. The default.
///
/// A new field needs `#[serde(default)]` or to be an `Option`; a field that is gone is ignored; one whose type has changed
/// makes old entries misses. A *renamed* field that has a default is silently empty: change the
/// [`schema`](crate::Namespace::schema) with it. Nesting is bounded by 128 levels.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: Serialize + DeserializeOwned> Codec<V> for Json {
    fn id(&self) -> u8 {
        1
    }

    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|e| CodecError::because("the value has no JSON form", e))
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|e| CodecError::because("no JSON of this type", e))
    }
}

/// The bytes themselves: nothing is added, nothing is checked but UTF-8 where a `String` is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &Bytes, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Bytes, CodecError> {
        Ok(bytes.clone())
    }
}

impl Codec<Vec<u8>> for Raw {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<Vec<u8>, CodecError> {
        Ok(bytes.to_vec())
    }
}

impl Codec<String> for Raw {
    fn id(&self) -> u8 {
        2
    }

    fn encode(&self, value: &String, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<String, CodecError> {
        String::from_utf8(bytes.to_vec()).map_err(|e| CodecError::because("no UTF-8", e))
    }
}
