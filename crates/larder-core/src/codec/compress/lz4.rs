//! LZ4's frame format, in one form of it.

use std::io::{Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// How every frame begins: independent blocks of 64 KiB, no checksums, for the entry has its own. Other heads could ask for
/// buffers of megabytes.
pub(super) const HEAD: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];

/// Appends a frame to `out`.
pub(super) fn compress(payload: &[u8], _level: i32, out: &mut Vec<u8>) -> Option<()> {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(payload).ok()?;
    encoder.finish().ok()?;
    Some(())
}

/// `len` bytes, or none: another length, or anything behind the frame, is refused.
pub(super) fn decompress(frame: &[u8], len: usize) -> Option<Vec<u8>> {
    if !is_one_frame(frame) {
        return None;
    }
    let mut decoder = FrameDecoder::new(frame);
    let mut out = vec![0; len];
    decoder.read_exact(&mut out).ok()?;
    (decoder.read(&mut [0]).ok()? == 0).then_some(out)
}

/// Is this one whole frame of our form? The decoder itself takes the end of its input for the end of a frame.
fn is_one_frame(frame: &[u8]) -> bool {
    let Some(mut rest) = frame.strip_prefix(&HEAD) else { return false };
    while let Some((len, blocks)) = rest.split_first_chunk::<4>() {
        // The highest bit says that the block is stored as it is.
        let len = u32::from_le_bytes(*len) & !(1 << 31);
        if len == 0 {
            return blocks.is_empty();
        }
        let Some(after) = usize::try_from(len).ok().and_then(|len| blocks.get(len..)) else { return false };
        rest = after;
    }
    false
}
