//! zstd, in one piece: a stream would make room for whatever window a frame asks for.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{compress_bound, find_frame_compressed_size};

/// Appends a frame to `out`.
pub(super) fn compress(payload: &[u8], level: i32, out: &mut Vec<u8>) -> Option<()> {
    let at = out.len();
    out.resize(at + compress_bound(payload.len()), 0);
    let written = Compressor::new(level).ok()?.compress_to_buffer(payload, &mut out[at..]).ok()?;
    out.truncate(at + written);
    Some(())
}

/// `len` bytes, or none: another length, or anything behind the frame, is refused.
pub(super) fn decompress(frame: &[u8], len: usize) -> Option<Vec<u8>> {
    if find_frame_compressed_size(frame).ok()? != frame.len() {
        return None;
    }
    let mut out = vec![0; len];
    let written = Decompressor::new().ok()?.decompress_to_buffer(frame, &mut out[..]).ok()?;
    (written == len).then_some(out)
}
