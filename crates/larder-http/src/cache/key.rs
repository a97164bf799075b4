//! The key of a request: a name for people, and behind it the whole identity, which is compared on every hit.

use std::future::Future;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, RawPathParams};
use http::header::HOST;
use http::request::Parts;
use larder_core::{KeyWriter, SkipReason};
use xxhash_rust::xxh3::xxh3_64;

use super::config::{Config, Id};
use crate::rules::query;

/// Writes the key of a request, for `user` if answers are per user.
///
/// The name is `namespace:id:sub:params_1a2b3c4d:version`. The variant behind it is the user, method class, scheme, host,
/// route, path, and each varied value, every part with its length: no two different requests make one key.
pub(super) fn write<'c>(
    config: &'c Config,
    parts: &mut Parts,
    user: Option<&str>,
) -> Result<KeyWriter<'c>, SkipReason> {
    if parts.extensions.get::<MatchedPath>().is_none() && parts.extensions.get::<OriginalUri>().is_none() {
        return Err(SkipReason::NoRoute);
    }
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
    match user {
        Some(user) => key.begin_variant_of(user),
        None => key.begin_variant(),
    }
    key.push_variant(b"GET ");
    write_host(&mut key, parts);
    if let Some(route) = parts.extensions.get::<MatchedPath>() {
        part(&mut key, b'r', route.as_str().as_bytes());
    }
    write_path(&mut key, parts);
    if has_query {
        part(&mut key, b'q', &query);
    }
    for name in &config.vary_headers {
        for value in parts.headers.get_all(name) {
            part(&mut key, b'h', name.as_str().as_bytes());
            part(&mut key, b'v', value.as_bytes());
        }
    }
    if let Some(version) = &config.version {
        part(&mut key, b'V', version.as_bytes());
    }
    Ok(key)
}

/// Scheme and host, the latter as the request line has it. A `Host` header that says something else is a part of its own:
/// the handler may believe it.
fn write_host(key: &mut KeyWriter<'_>, parts: &Parts) {
    let scheme = parts.uri.scheme_str().unwrap_or("http");
    key.push_variant(scheme.as_bytes());
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    if let Some(host) = authority {
        push_host(key, host, port);
    }
    for host in parts.headers.get_all(HOST) {
        if !authority.is_some_and(|authority| host.as_bytes().eq_ignore_ascii_case(authority)) {
            push_host(key, host.as_bytes(), port);
        }
    }
}

/// Hosts are compared without case, and without the scheme's own port.
fn push_host(key: &mut KeyWriter<'_>, host: &[u8], port: &[u8]) {
    let host = host.strip_suffix(port).unwrap_or(host);
    if host.iter().any(u8::is_ascii_uppercase) {
        part(key, b'H', &host.to_ascii_lowercase());
    } else {
        part(key, b'H', host);
    }
}

/// The path that the client sent, and the one that the handler sees: a nested router leaves it the end, and other layers
/// may have put another in its place.
fn write_path(key: &mut KeyWriter<'_>, parts: &Parts) {
    let seen = parts.uri.path();
    let sent = parts.extensions.get::<OriginalUri>().map_or(seen, |uri| uri.0.path());
    part(key, b'p', sent.as_bytes());
    if sent.len() > seen.len() && sent.ends_with(seen) {
        number(key, b's', seen.len());
    } else if sent != seen {
        part(key, b'i', seen.as_bytes());
    }
}

/// ` p12:/api/v1/logs`: the length tells where a part ends, whatever it holds.
fn part(key: &mut KeyWriter<'_>, kind: u8, bytes: &[u8]) {
    number(key, kind, bytes.len());
    key.push_variant(bytes);
}

/// ` s12:`
fn number(key: &mut KeyWriter<'_>, kind: u8, number: usize) {
    let mut text = [0; 12];
    let mut at = text.len() - 1;
    text[at] = b':';
    // No head of a request has a hundred million bytes.
    let mut rest = number.min(99_999_999);
    loop {
        at -= 1;
        text[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    key.push_variant(&[b' ', kind]);
    key.push_variant(&text[at..]);
}

fn label(label: &str, query: &[u8]) -> String {
    let hash = xxh3_64(query) >> 32;
    let mut text = String::with_capacity(label.len() + 9);
    text.push_str(label);
    text.push('_');
    text.extend((0..8).rev().map(|i| {
        char::from(b"0123456789abcdef"[usize::try_from((hash >> (4 * i)) & 15).unwrap_or_default()])
    }));
    text
}

fn write_parameter(key: &mut KeyWriter<'_>, parts: &mut Parts, name: &str) -> Result<(), SkipReason> {
    if parts.extensions.get::<MatchedPath>().is_none() {
        // The router's fallback: no route, and nobody's mistake but the client's.
        return Err(SkipReason::Route);
    }
    let params = extract(parts)?;
    let (_, value) = params.iter().find(|(n, _)| *n == name).ok_or(SkipReason::MissingId)?;
    key.segment(value);
    Ok(())
}

/// The path's parameters. The extractor is async by its trait alone: it never waits.
fn extract(parts: &mut Parts) -> Result<RawPathParams, SkipReason> {
    let mut extract = std::pin::pin!(RawPathParams::from_request_parts(parts, &()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match extract.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Ok(params)) => Ok(params),
        // What the client sent is no UTF-8: the handler has an answer to that.
        std::task::Poll::Ready(Err(RawPathParamsRejection::InvalidUtf8InPathParam(_))) => {
            Err(SkipReason::Route)
        }
        std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => Err(SkipReason::MissingId),
    }
}
