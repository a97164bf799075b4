//! A response as it is kept: head and body, one record. And how it travels to a remote tier and back.

use bytes::{BufMut, Bytes};
use http::header::{ETAG, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use larder_core::{Codec, CodecError};
use parking_lot::Mutex;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Headers that say when and how an answer was made, or how long it is good for, and nothing of what it says. Validators too:
/// the body itself is compared.
const OF_THE_MOMENT: [&str; 16] = [
    "age",
    "cache-control",
    "cache-status",
    "date",
    "etag",
    "expires",
    "last-modified",
    "request-id",
    "server-timing",
    "traceparent",
    "tracestate",
    "via",
    "x-correlation-id",
    "x-request-id",
    "x-response-time",
    "x-runtime",
];

/// A complete response, ready to be given out again.
#[derive(Debug)]
pub(super) struct StoredResponse {
    pub(super) status: StatusCode,
    /// Without connection headers and `Content-Length`; with `ETag`.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The head that was given out last.
    said: Mutex<Option<(Instance, HeaderMap)>>,
}

/// What a head depends on, beside the entry: which style, and the seconds of age and ttl. Within one second all hits of an
/// entry have the same head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) style: u64,
    pub(super) age: u64,
    pub(super) ttl: u64,
}

impl PartialEq for StoredResponse {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status && self.headers == other.headers && self.body == other.body
    }
}

impl StoredResponse {
    /// Takes a response apart for keeping: connection headers go, an `ETag` is added where there is none.
    pub(super) fn new(status: StatusCode, mut headers: HeaderMap, body: Bytes) -> Self {
        crate::rules::response::strip(&mut headers);
        if status != StatusCode::NO_CONTENT && !headers.contains_key(ETAG) {
            headers.insert(ETAG, entity_tag(&body));
        }
        StoredResponse { status, headers, body, said: Mutex::default() }
    }

    /// What is the same as long as nothing has changed that a reader would see: status, body, and the headers that say
    /// something of the body.
    pub(super) fn content_hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&self.status.as_u16().to_be_bytes());
        let telling = self.headers.iter().filter(|(name, _)| !OF_THE_MOMENT.contains(&name.as_str()));
        // In whatever order the handler has set them.
        let headers = telling.map(|(name, value)| {
            let mut hash = Xxh3::new();
            hash.update(name.as_str().as_bytes());
            hash.update(b":");
            hash.update(value.as_bytes());
            hash.digest()
        });
        hash.update(&headers.fold(0, u64::wrapping_add).to_be_bytes());
        hash.update(&self.body);
        hash.digest()
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 96).sum();
        // Twice the head: as it is kept, and as it was given out last.
        self.body.len() + 2 * headers + 1024
    }

    /// The head of this moment, made by `make` unless it was made before.
    pub(super) fn head_at(&self, moment: Instance, make: impl FnOnce(&mut HeaderMap)) -> HeaderMap {
        // Nobody waits for this: who finds it taken makes a head of his own.
        let said = self.said.try_lock();
        if let Some((then, headers)) = said.as_deref().and_then(Option::as_ref)
            && *then == moment
        {
            return headers.clone();
        }
        let mut headers = self.fresh_headers();
        make(&mut headers);
        if let Some(mut said) = said {
            *said = Some((moment, headers.clone()));
        }
        headers
    }

    /// A head to give out, with room for what is added.
    pub(super) fn fresh_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 8);
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        headers
    }
}

/// `"` and 32 hex digits and `"`.
fn entity_tag(body: &[u8]) -> HeaderValue {
    let hash = xxh3_128(body).to_be_bytes();
    let mut tag = [b'"'; 34];
    for (pair, byte) in tag[1..33].chunks_exact_mut(2).zip(hash) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&tag).expect("quotes and hex digits are a header value")
}

/// ```text
/// status u16, count of headers u16, then of each: name length u16, name, value length u32, value; the rest is the body
/// ```
/// Big-endian. The envelope around it has the lengths and checksums; still, nothing here is believed.
pub(super) struct ResponseCodec;

impl Codec<StoredResponse> for ResponseCodec {
    fn id(&self) -> u8 {
        3
    }

    fn encode(&self, response: &StoredResponse, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let too_many = || CodecError::new("more headers, or longer ones, than the format holds");
        out.put_u16(response.status.as_u16());
        out.put_u16(u16::try_from(response.headers.len()).map_err(|_| too_many())?);
        for (name, value) in &response.headers {
            out.put_u16(u16::try_from(name.as_str().len()).map_err(|_| too_many())?);
            out.extend_from_slice(name.as_str().as_bytes());
            out.put_u32(u32::try_from(value.len()).map_err(|_| too_many())?);
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(&response.body);
        Ok(())
    }

    fn decode(&self, bytes: &Bytes) -> Result<StoredResponse, CodecError> {
        let mut rest = bytes.clone();
        let status =
            StatusCode::from_u16(take_u16(&mut rest)?).map_err(|e| CodecError::because("no status", e))?;
        let count = take_u16(&mut rest)?;
        let mut headers = HeaderMap::with_capacity(usize::from(count).min(64));
        for _ in 0..count {
            let len = take_u16(&mut rest)?;
            let name = HeaderName::from_bytes(&take(&mut rest, usize::from(len))?)
                .map_err(|e| CodecError::because("no header name", e))?;
            let len = u32::from(take_u16(&mut rest)?) << 16 | u32::from(take_u16(&mut rest)?);
            let value = take(&mut rest, usize::try_from(len).unwrap_or(usize::MAX))?;
            let value = HeaderValue::from_maybe_shared(value)
                .map_err(|e| CodecError::because("no header value", e))?;
            headers.append(name, value);
        }
        Ok(StoredResponse { status, headers, body: rest, said: Mutex::default() })
    }
}

fn take(rest: &mut Bytes, len: usize) -> Result<Bytes, CodecError> {
    if rest.len() < len {
        return Err(CodecError::new("the response ends before its head does"));
    }
    Ok(rest.split_to(len))
}

fn take_u16(rest: &mut Bytes) -> Result<u16, CodecError> {
    let bytes = take(rest, 2)?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> StoredResponse {
        let mut headers = HeaderMap::new();
        headers.append("link", HeaderValue::from_static("</a>; rel=next"));
        headers.append("link", HeaderValue::from_static("</b>; rel=prev"));
        headers.append("x-bytes", HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap());
        StoredResponse::new(StatusCode::OK, headers, Bytes::from_static(b"{\"a\":1}\0\xff"))
    }

    #[test]
    fn every_header_line_and_every_byte_of_the_body_comes_back() {
        let (response, mut bytes) = (response(), Vec::new());
        ResponseCodec.encode(&response, &mut bytes).unwrap();
        assert_eq!(ResponseCodec.decode(&bytes.into()).unwrap(), response);
    }

    #[test]
    fn content_is_the_same_whenever_and_however_it_was_made() {
        let made = |status: u16, lines: &[(&'static str, &'static str)], body: &'static str| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            StoredResponse::new(StatusCode::from_u16(status).unwrap(), headers, body.into()).content_hash()
        };
        let first = made(200, &[("link", "a"), ("link", "b"), ("x-total", "2"), ("date", "then")], "body");
        let lines =
            [("age", "7"), ("date", "now"), ("x-total", "2"), ("link", "a"), ("link", "b"), ("etag", "1")];
        assert_eq!(first, made(200, &lines, "body"));
        let others = [
            made(404, &lines, "body"),
            made(200, &lines, "body "),
            made(200, &lines[..4], "body"),
            made(200, &[("link", "a"), ("link", "b"), ("x-total", "3")], "body"),
        ];
        assert!(others.iter().all(|other| *other != first));
    }

    #[test]
    fn a_head_that_was_cut_short_is_refused() {
        let mut bytes = Vec::new();
        ResponseCodec.encode(&response(), &mut bytes).unwrap();
        let head = bytes.len() - response().body.len();
        let bytes = Bytes::from(bytes);
        for len in 0..head {
            assert!(ResponseCodec.decode(&bytes.slice(..len)).is_err(), "{len}");
        }
    }

    #[test]
    fn the_same_body_has_the_same_tag_and_another_body_another() {
        let tag = |body: &'static str| {
            StoredResponse::new(StatusCode::OK, HeaderMap::new(), body.into()).headers[ETAG].clone()
        };
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }
}
