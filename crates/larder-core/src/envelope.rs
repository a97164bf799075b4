//! An entry as a remote tier holds it: a small binary header, the key, the tags, the payload.
//!
//! ```text
//!  0  "Lr"  version  flags            the version is 1
//!  4  line  u64   12  at  u64         the epoch, where the store script reads it
//! 20  codec  21  compression  22  reserved u16
//! 24  stored at, ms   32  fresh for, ms   40  stale for, ms      u64 each; server time
//! 48  load cost, us  u32
//! 52  schema  u64
//! 60  length of key, of all tags, of the payload      u32 each
//! 72  xxh3 of the payload  u64       also tells whether a reload changed anything
//! 80  xxh3 of all before it, key and tags  u64
//! 88  key, tags (u16 length and bytes each), payload
//! ```
//! Compression is 0 for none, else `codec/compress.rs` says what the payload looks like; lengths and checksums are those of
//! what is stored.
//!
//! All numbers are big-endian. Everything here may come from outside: nothing panics, nothing is believed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::entry::Tags;
use crate::log::Epoch;
use crate::policy::Lifetime;
use crate::tag::Tag;

const MAGIC: [u8; 2] = *b"Lr";
const VERSION: u8 = 1;
const HEADER: usize = 88;

const _: () = assert!(crate::remote::REJECTED_BYTES == HEADER);

/// Where the epoch stands: 8 bytes of line, then 8 bytes of position. For store scripts.
pub const EPOCH_OFFSET: usize = 4;

/// Tags an entry may carry (the bound of design section 6).
const MAX_TAGS: usize = 256;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) key: Bytes,
    pub(crate) tags: Tags,
    pub(crate) epoch: Epoch,
    pub(crate) codec: u8,
    pub(crate) compression: u8,
    pub(crate) schema: u64,
    pub(crate) stored_at_ms: u64,
    pub(crate) life: Lifetime,
    pub(crate) cost: Duration,
    /// As it is stored: compressed, if `compression` is not 0.
    pub(crate) payload: Bytes,
}

/// Why stored bytes are no entry for this reader. All are misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reject {
    /// Not written by Larder, or another type of value under the key.
    Foreign,
    /// A version, or a compression, that this release does not know. Left alone: a node of another release may still use it.
    Version,
    /// Shorter or longer than it says, packed or unpacked. The entry is deleted.
    Truncated,
    /// A checksum does not fit. The entry is deleted.
    Checksum,
    /// Another schema or codec. Left alone.
    Schema,
    /// The key inside is not the key that was asked for.
    Key,
    /// The codec could not read it.
    Decode,
    /// Unpacked it would be larger than this handle takes. Left alone: where the limit is higher it is of use.
    TooLarge,
}

impl Reject {
    /// The name in events and statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reject::Foreign => "foreign",
            Reject::Version => "version",
            Reject::Truncated => "truncated",
            Reject::Checksum => "checksum",
            Reject::Schema => "schema",
            Reject::Key => "key",
            Reject::Decode => "decode",
            Reject::TooLarge => "too_large",
        }
    }

    /// Is the entry of use to nobody?
    pub(crate) const fn is_damage(self) -> bool {
        matches!(self, Reject::Truncated | Reject::Checksum)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Envelope {
    /// The bytes to store; `None` if a part is too large for its length field.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let tags = self.tags.as_deref().unwrap_or_default();
        let tags_len: usize = tags.iter().map(|tag| tag.text().len() + 2).sum();
        let mut out = Vec::with_capacity(HEADER + self.key.len() + tags_len + self.payload.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&self.epoch.line.to_be_bytes());
        out.extend_from_slice(&self.epoch.at.to_be_bytes());
        out.extend_from_slice(&[self.codec, self.compression, 0, 0]);
        for ms in [self.stored_at_ms, millis(self.life.fresh_for), millis(self.life.stale_for)] {
            out.extend_from_slice(&ms.to_be_bytes());
        }
        out.extend_from_slice(&u32::try_from(self.cost.as_micros()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&self.schema.to_be_bytes());
        for len in [self.key.len(), tags_len, self.payload.len()] {
            out.extend_from_slice(&u32::try_from(len).ok()?.to_be_bytes());
        }
        out.extend_from_slice(&xxh3_64(&self.payload).to_be_bytes());
        let checksum_at = out.len();
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.key);
        for tag in tags {
            out.extend_from_slice(&u16::try_from(tag.text().len()).ok()?.to_be_bytes());
            out.extend_from_slice(tag.text());
        }
        let checksum = checksum(&out);
        out[checksum_at..checksum_at + 8].copy_from_slice(&checksum.to_be_bytes());
        out.extend_from_slice(&self.payload);
        Some(Bytes::from(out))
    }

    /// Reads what [`encode`](Self::encode) wrote. The payload is a slice of `bytes`, not a copy.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Envelope, Reject> {
        let (mut envelope, payload) = Self::read(bytes)?;
        if bytes.len() != payload.at.saturating_add(payload.len) {
            return Err(Reject::Truncated);
        }
        envelope.payload = bytes.slice(payload.at..);
        if xxh3_64(&envelope.payload) != payload.sum {
            return Err(Reject::Checksum);
        }
        Ok(envelope)
    }

    /// As [`decode`](Self::decode), from the first bytes alone, as many as there are: without the payload.
    pub(crate) fn peek(bytes: &Bytes) -> Result<Envelope, Reject> {
        Self::read(bytes).map(|(envelope, _)| envelope)
    }

    fn read(bytes: &Bytes) -> Result<(Envelope, Payload), Reject> {
        if bytes.len() < 4 || bytes[..2] != MAGIC {
            return Err(Reject::Foreign);
        }
        if bytes[2] != VERSION {
            return Err(Reject::Version);
        }
        let mut fields = Fields { rest: bytes.get(4..HEADER).ok_or(Reject::Truncated)? };
        let epoch = Epoch { line: fields.u64(), at: fields.u64() };
        let [codec, compression, _, _] = fields.take::<4>();
        let stored_at_ms = fields.u64();
        let life = Lifetime {
            fresh_for: Duration::from_millis(fields.u64()),
            stale_for: Duration::from_millis(fields.u64()),
        };
        let cost = Duration::from_micros(u64::from(fields.u32()));
        let schema = fields.u64();
        let [key, tags, len] = [fields.len(), fields.len(), fields.len()];
        let sum = fields.u64();
        let header_sum = fields.u64();
        let at = HEADER.saturating_add(key).saturating_add(tags);
        let head = bytes.get(..at).ok_or(Reject::Truncated)?;
        if checksum(head) != header_sum {
            return Err(Reject::Checksum);
        }
        let tags = read_tags(&head[HEADER + key..])?;
        let key = bytes.slice(HEADER..HEADER + key);
        let payload = Bytes::new();
        let envelope =
            Envelope { key, tags, epoch, codec, compression, schema, stored_at_ms, life, cost, payload };
        Ok((envelope, Payload { at, len, sum }))
    }
}

/// Where the payload is said to be, and its checksum.
struct Payload {
    at: usize,
    len: usize,
    sum: u64,
}

/// Over the header without the checksum itself, the key and the tags.
fn checksum(head: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&head[..HEADER - 8]);
    hash.update(&head[HEADER..]);
    hash.digest()
}

fn read_tags(mut bytes: &[u8]) -> Result<Tags, Reject> {
    let mut tags = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        let tag = rest.get(..len).ok_or(Reject::Truncated)?;
        tags.push(Tag::new(tag));
        bytes = &rest[len..];
    }
    if !bytes.is_empty() || tags.len() > MAX_TAGS {
        return Err(Reject::Truncated);
    }
    Ok((!tags.is_empty()).then(|| Arc::from(tags)))
}

/// Reads a header whose length was checked before.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.rest.split_first_chunk::<N>().expect("the header has all its fields");
        self.rest = rest;
        *head
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn len(&mut self) -> usize {
        usize::try_from(self.u32()).unwrap_or(usize::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<(u32, u8)>());
        let bytes = (
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
            prop::collection::vec(any::<u8>(), 0..400),
        );
        (numbers, bytes).prop_map(
            |((line, at, stored_at_ms, schema, (ms, compression)), (key, tags, payload))| Envelope {
                key: key.into(),
                tags: (!tags.is_empty()).then(|| tags.into_iter().map(Tag::new).collect()),
                epoch: Epoch { line, at },
                codec: 1,
                compression,
                schema,
                stored_at_ms,
                life: Lifetime {
                    fresh_for: Duration::from_millis(u64::from(ms)),
                    stale_for: Duration::from_millis(u64::from(ms / 2)),
                },
                cost: Duration::from_micros(u64::from(ms)),
                payload: payload.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(envelope in any_envelope()) {
            let bytes = envelope.encode().unwrap();
            prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
        }

        #[test]
        fn one_flipped_bit_or_one_missing_byte_is_never_read_as_an_entry(envelope in any_envelope(), at: usize, bit in 0..8) {
            let bytes = envelope.encode().unwrap();
            let at = at % bytes.len();
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1_u8 << bit;
            // The flags and the reserved bytes are summed too, so no bit is free.
            prop_assert!(Envelope::decode(&flipped.into()).is_err());
            prop_assert!(Envelope::decode(&bytes.slice(..at)).is_err());
        }

        #[test]
        fn any_bytes_at_all_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), ours: bool) {
            let mut bytes = bytes;
            if ours && bytes.len() > 3 { bytes[..3].copy_from_slice(b"Lr\x01"); }
            prop_assert!(Envelope::decode(&bytes.into()).is_err());
        }
    }

    #[test]
    fn an_unknown_version_is_told_from_damage() {
        let mut bytes = Envelope {
            key: Bytes::from_static(b"a"),
            tags: None,
            epoch: Epoch { line: 1, at: 2 },
            codec: 1,
            compression: 0,
            schema: 0,
            stored_at_ms: 0,
            life: Lifetime { fresh_for: Duration::ZERO, stale_for: Duration::ZERO },
            cost: Duration::ZERO,
            payload: Bytes::new(),
        }
        .encode()
        .unwrap()
        .to_vec();
        bytes[2] = 9;
        assert_eq!(Envelope::decode(&bytes.into()), Err(Reject::Version));
        assert!(!Reject::Version.is_damage());
    }

    #[test]
    fn the_epoch_stands_where_the_store_script_reads_it() {
        let envelope = Envelope {
            key: Bytes::from_static(b"k"),
            tags: None,
            epoch: Epoch { line: 0x0102_0304_0506_0708, at: 0x1112_1314_1516_1718 },
            codec: 1,
            compression: 0,
            schema: 0,
            stored_at_ms: 0,
            life: Lifetime { fresh_for: Duration::ZERO, stale_for: Duration::ZERO },
            cost: Duration::ZERO,
            payload: Bytes::new(),
        };
        let bytes = envelope.encode().unwrap();
        let expected = [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
        assert_eq!(bytes[EPOCH_OFFSET..EPOCH_OFFSET + 16], expected);
    }
}
