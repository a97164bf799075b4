//! Payloads made smaller for the remote tier, and back.
//!
//! ```text
//! 0  length when unpacked  u32, big-endian   4  one frame of zstd or LZ4, to the end
//! ```
//! What is unpacked may come from outside: nothing is believed, and nothing takes more memory than the bound.

#[cfg(feature = "lz4")]
mod lz4;
#[cfg(test)]
mod tests;
#[cfg(feature = "zstd")]
mod zstd;

use bytes::Bytes;

use crate::envelope::Reject;

/// As it is.
const NONE: u8 = 0;
#[cfg(feature = "zstd")]
const ZSTD: u8 = 1;
#[cfg(feature = "lz4")]
const LZ4: u8 = 2;

/// The length in front.
const LEN: usize = 4;

/// How payloads are compressed in the remote tier: memory keeps values as they are, and HTTP clients get the bytes that the
/// handler sent.
///
/// A payload is kept compressed only if that makes it at least a tenth smaller. Images, or bodies that have a
/// `Content-Encoding`, cost the attempt and stay as they are. It runs in the task that stores in the background, in one go: a
/// payload of 2 MiB keeps a thread busy for 5 to 25 ms (LZ4, zstd up to level 3), at level 19 for a second or two.
///
/// Entries say how they were compressed: it can be changed, or left out, at any time. A node that was built without an
/// algorithm leaves such entries alone: misses for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// As entries say it.
    id: u8,
    level: i32,
    above: usize,
}

impl Compression {
    /// Payloads smaller than this are stored as they are.
    pub const DEFAULT_ABOVE: usize = 1024;
    /// zstd's level by default: about what every level above it takes much longer to improve.
    pub const DEFAULT_LEVEL: i32 = 3;

    /// zstd at level 3: smaller than LZ4, slower. Feature `zstd`.
    #[cfg(feature = "zstd")]
    pub fn zstd() -> Self {
        Self::zstd_level(Self::DEFAULT_LEVEL)
    }

    /// zstd at a level from 1 (quick) to 19 (small). Another one is refused where the policy is used. Feature `zstd`.
    #[cfg(feature = "zstd")]
    pub fn zstd_level(level: i32) -> Self {
        Compression { id: ZSTD, level, above: Self::DEFAULT_ABOVE }
    }

    /// LZ4: quick, both ways. Feature `lz4`.
    #[cfg(feature = "lz4")]
    pub fn lz4() -> Self {
        Compression { id: LZ4, level: Self::DEFAULT_LEVEL, above: Self::DEFAULT_ABOVE }
    }

    /// Only payloads of at least so many bytes. Default: 1 KiB.
    pub fn above(mut self, bytes: usize) -> Self {
        self.above = bytes;
        self
    }

    /// The level, if there is no such.
    pub(crate) fn bad_level(&self) -> Option<i32> {
        (!(1..=19).contains(&self.level)).then_some(self.level)
    }
}

/// One algorithm, both ways; `None`: it failed.
struct Way {
    compress: fn(&[u8], i32, &mut Vec<u8>) -> Option<()>,
    decompress: fn(&[u8], usize) -> Option<Vec<u8>>,
}

/// The algorithm of this id, if this build knows it.
fn way(id: u8) -> Option<Way> {
    match id {
        #[cfg(feature = "zstd")]
        ZSTD => Some(Way { compress: zstd::compress, decompress: zstd::decompress }),
        #[cfg(feature = "lz4")]
        LZ4 => Some(Way { compress: lz4::compress, decompress: lz4::decompress }),
        _ => None,
    }
}

/// How many bytes may be unpacked for a handle that stores values up to `max_stored_size`. That is measured in memory; written
/// out, numbers and names may take several times as much.
fn bound(max_stored_size: usize) -> usize {
    max_stored_size.saturating_mul(4).saturating_add(64 * 1024)
}

/// The payload as it is stored, and the id of its compression. Never fails: what cannot be compressed stays as it is.
pub(crate) fn pack(
    payload: Vec<u8>,
    compression: Option<&Compression>,
    max_stored_size: usize,
) -> (u8, Bytes) {
    // What this handle would refuse to unpack is not packed.
    let worth = |c: &&Compression| payload.len() >= c.above && payload.len() <= bound(max_stored_size);
    let packed = compression.filter(worth).and_then(|c| Some((c.id, compress(c, &payload)?)));
    match packed {
        Some((id, packed)) if packed.len() <= payload.len() - payload.len().div_ceil(10) => {
            (id, packed.into())
        }
        _ => (NONE, payload.into()),
    }
}

/// The length and a frame.
fn compress(compression: &Compression, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = u32::try_from(payload.len()).ok()?.to_be_bytes().to_vec();
    (way(compression.id)?.compress)(payload, compression.level, &mut out)?;
    Some(out)
}

/// The payload as the codec wrote it.
pub(crate) fn unpack(id: u8, payload: &Bytes, max_stored_size: usize) -> Result<Bytes, Reject> {
    if id == NONE {
        return Ok(payload.clone());
    }
    let way = way(id).ok_or(Reject::Version)?;
    let (len, frame) = payload.split_first_chunk::<LEN>().ok_or(Reject::Truncated)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| Reject::TooLarge)?;
    if len > bound(max_stored_size) {
        return Err(Reject::TooLarge);
    }
    (way.decompress)(frame, len).map(Bytes::from).ok_or(Reject::Truncated)
}
