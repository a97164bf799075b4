//! Which bytes stand for themselves in a key, and how the others are written: `%` and two hex digits.

use std::borrow::Cow;

/// A tag's greatest length in bytes (RFC 9875 asks for at least 32; Fastly allows this many).
pub const MAX_TAG_BYTES: usize = 1024;

/// Bytes with a meaning in keys, selectors or Redis patterns (`:` `*` `%` `{` `}` `~` `?` `[` `]` `\\` `,`), those that are
/// no printable character, and two beside them (`+` `|`) that make ranges of it.
///
/// Seven comparisons without a branch (`|`, not `||`), so that sixteen bytes are compared at a time.
#[inline(always)]
const fn is_special(b: u8) -> bool {
    (b <= b' ')
        | (b == b'%')
        | (b.wrapping_sub(b'*') <= b',' - b'*')
        | (b == b':')
        | (b == b'?')
        | (b.wrapping_sub(b'[') <= b']' - b'[')
        | (b.wrapping_sub(b'{') <= 0x7f - b'{')
}

/// Is `text` written as it is?
#[inline]
pub(crate) fn is_plain(text: &str) -> bool {
    const LANE: usize = 16;
    let bytes = text.as_bytes();
    let any = |lane: &[u8; LANE]| {
        let mut special = [0; LANE];
        for (special, &b) in special.iter_mut().zip(lane) {
            *special = u8::from(is_special(b));
        }
        u128::from_ne_bytes(special)
    };
    let Some(last) = bytes.last_chunk::<LANE>() else {
        return !bytes.is_empty() && !bytes.iter().any(|&b| is_special(b));
    };
    // Whole lanes, and the last one once more where they do not come out even: no byte is looked at alone.
    let (lanes, _) = bytes.as_chunks::<LANE>();
    lanes.iter().fold(any(last), |special, lane| special | any(lane)) == 0
}

/// Passes `text` on, escaped, in as few pieces as possible. An empty segment is written `%`.
#[inline]
pub(crate) fn escape_segment(text: &str, mut push: impl FnMut(&[u8])) {
    let bytes = text.as_bytes();
    if is_plain(text) {
        push(bytes);
    } else {
        escape_slowly(bytes, &mut push);
    }
}

#[cold]
fn escape_slowly(bytes: &[u8], push: &mut impl FnMut(&[u8])) {
    if bytes.is_empty() {
        push(b"%");
    }
    for &b in bytes {
        if is_special(b) { push(&percent(b)) } else { push(&[b]) }
    }
}

fn percent(b: u8) -> [u8; 3] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]
}

/// The text of a segment as it was before it was escaped; `None` if no text is written so.
pub(super) fn unescape_segment(segment: &[u8]) -> Option<Cow<'_, str>> {
    if segment == b"%" {
        return Some(Cow::Borrowed(""));
    }
    if !segment.contains(&b'%') {
        return std::str::from_utf8(segment).ok().map(Cow::Borrowed);
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [b, after @ ..] = rest {
        rest = after;
        if *b != b'%' {
            out.push(*b);
            continue;
        }
        let [high, low, after @ ..] = rest else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        out.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Text that a person wrote as a key (segments joined by `:`, perhaps escaped already), as keys are written.
pub(crate) fn canonical_segments(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (i, segment) in text.split(':').enumerate() {
        if i > 0 {
            out.push(b':');
        }
        if segment.is_empty() {
            out.push(b'%');
        }
        for &b in segment.as_bytes() {
            if is_special(b) && b != b'%' { out.extend_from_slice(&percent(b)) } else { out.push(b) }
        }
    }
    out
}

/// A tag as it is stored: literal but for what could not be told from structure.
pub(crate) fn escape_tag(tag: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(tag.len());
    for &b in tag.as_bytes() {
        if b <= b' ' || b == 0x7f || b == b',' { out.extend_from_slice(&percent(b)) } else { out.push(b) }
    }
    out
}
