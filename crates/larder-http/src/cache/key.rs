//! The key of a request: a name for people, and behind it the whole identity, which is compared on every hit.

use std::future::Future;

use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, RawPathParams};
use http::header::HOST;
use http::request::Parts;
use larder_core::{KeyWriter, SkipReason};
use xxhash_rust::xxh3::xxh3_64;

use super::config::{Config, Id};
use crate::rules::query;

/// Writes the key of a request, for `user` if answers are per user.
///
/// The name is `namespace:id:sub:params_1a2b3c4d:version`. The variant behind it is method class, scheme, host, route,
/// path, and each varied value, every part with its length: no two different requests make one key.
pub(super) fn write<'c>(
    config: &'c Config,
    parts: &mut Parts,
    user: Option<&str>,
) -> Result<KeyWriter<'c>, SkipReason> {
    let mut key = config.handle.key_writer();
    let mut query = Vec::new();
    let has_query = parts
        .uri
        .query()
        .is_some_and(|q| query::canonical(q, &config.vary_query, |bytes| query.extend_from_slice(bytes)));
    match &config.id {
        Id::Custom(write) => write(parts, &mut key),
        Id::None => {}
        Id::Fixed(id) => key.segment(id),
        Id::Parameter(name) => write_parameter(&mut key, parts, name)?,
    }
    if !matches!(config.id, Id::Custom(_)) {
        if let Some(sub) = &config.sub {
            key.segment(sub);
        }
        if has_query {
            key.segment(&label(&config.hash_label, &query));
        }
        if let Some(version) = &config.version {
            key.segment(version);
        }
    }
    key.begin_variant();
    key.push_variant(b"GET ");
    key.push_variant(parts.uri.scheme_str().unwrap_or("http").as_bytes());
    let host = parts.uri.host().map_or_else(
        || parts.headers.get(HOST).map(http::HeaderValue::as_bytes).unwrap_or_default(),
        |_| parts.uri.authority().map(|a| a.as_str().as_bytes()).unwrap_or_default(),
    );
    push_host(&mut key, host);
    if let Some(route) = parts.extensions.get::<MatchedPath>() {
        part(&mut key, b'r', route.as_str().as_bytes());
    }
    // A nested router sees the rest of the path; the original tells /v1 from /v2.
    let path = parts.extensions.get::<OriginalUri>().map_or(parts.uri.path(), |uri| uri.0.path());
    part(&mut key, b'p', path.as_bytes());
    if has_query {
        part(&mut key, b'q', &query);
    }
    for name in &config.vary_headers {
        for value in parts.headers.get_all(name) {
            part(&mut key, b'h', name.as_str().as_bytes());
            part(&mut key, b'v', value.as_bytes());
        }
    }
    if let Some(user) = user {
        part(&mut key, b'u', user.as_bytes());
    }
    if let Some(version) = &config.version {
        part(&mut key, b'V', version.as_bytes());
    }
    Ok(key)
}

/// ` p12:/api/v1/logs`: the length tells where a part ends, whatever it holds.
fn part(key: &mut KeyWriter<'_>, kind: u8, bytes: &[u8]) {
    let mut head = [b' ', kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut digits = 2;
    let mut buffer = [0_u8; 8];
    let mut rest = bytes.len().min(99_999_999);
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    for &digit in &buffer[at..] {
        head[digits] = digit;
        digits += 1;
    }
    head[digits] = b':';
    key.push_variant(&head[..=digits]);
    key.push_variant(bytes);
}

/// Hosts are compared without case, and without the scheme's own port.
fn push_host(key: &mut KeyWriter<'_>, host: &[u8]) {
    let host = host.strip_suffix(b":80").unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) {
        part(key, b'H', &host.to_ascii_lowercase());
    } else {
        part(key, b'H', host);
    }
}

fn label(label: &str, query: &[u8]) -> String {
    format!("{label}_{:08x}", xxh3_64(query) >> 32)
}

fn write_parameter(key: &mut KeyWriter<'_>, parts: &mut Parts, name: &str) -> Result<(), SkipReason> {
    if parts.extensions.get::<MatchedPath>().is_none() {
        return Err(SkipReason::NoRoute);
    }
    let params = extract(parts).ok_or(SkipReason::MissingId)?;
    let (_, value) = params.iter().find(|(n, _)| *n == name).ok_or(SkipReason::MissingId)?;
    key.segment(value);
    Ok(())
}

/// The path's parameters. The extractor is async by its trait alone: it never waits.
fn extract(parts: &mut Parts) -> Option<RawPathParams> {
    let mut extract = std::pin::pin!(RawPathParams::from_request_parts(parts, &()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match extract.as_mut().poll(&mut context) {
        std::task::Poll::Ready(params) => params.ok(),
        std::task::Poll::Pending => None,
    }
}
