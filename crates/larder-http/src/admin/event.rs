//! `POST event`: publishes what has happened in a service that is not written in Rust, or on another machine.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use larder_core::{Delivery, Effect, PublishError, Published};
use serde_json::{Value, json};

use super::auth::Actor;
use super::remove::{effect, state};
use super::routes::{Admin, bad};
use crate::problem::problem;

/// The largest body, in bytes: the largest payload with room for white space and escapes.
const MAX_BODY: usize = 128 * 1024;

pub(super) async fn event(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return bad("POST event takes no parameters: name and payload are the body.");
    }
    let sent = parts.headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let media_type = sent.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
    if !media_type.eq_ignore_ascii_case(b"application/json") {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "JSON only",
            "Send Content-Type: application/json with {\"name\": \"...\", \"payload\": {...}}.",
        );
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return problem(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Too large, or cut off",
            "The body could not be read up to 131072 bytes. A payload names what has changed; it does not carry it.",
        );
    };
    let (name, payload) = match read(&body) {
        Ok(read) => read,
        Err(why) => return bad(&why),
    };
    match admin.cache.by(&actor.0).publish(&name, payload).await {
        Ok(published) => Json(document(&name, &published)).into_response(),
        Err(error @ PublishError::TooLarge) => {
            problem(StatusCode::PAYLOAD_TOO_LARGE, "Too large", &format!("{error}."))
        }
        Err(error) => bad(&format!("{error}.")),
    }
}

/// Name and payload; a member that is not understood is a mistake, for it may be a payload that was not wrapped.
fn read(body: &[u8]) -> Result<(String, Value), String> {
    let document = serde_json::from_slice(body).map_err(|error| format!("The body is no JSON: {error}."))?;
    let Value::Object(mut members) = document else {
        return Err("The body is no object: send {\"name\": \"...\", \"payload\": {...}}.".to_owned());
    };
    let name = match members.remove("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err("name is no string.".to_owned()),
        None => return Err("name is missing.".to_owned()),
    };
    let payload = members.remove("payload").unwrap_or(Value::Null);
    match members.keys().next() {
        Some(member) => Err(format!("Unknown member {member}: there are name and payload.")),
        None => Ok((name, payload)),
    }
}

fn document(name: &str, published: &Published) -> Value {
    let carried = |carried: &Option<Effect>| {
        carried
            .as_ref()
            .map_or(Value::Null, |Effect { selectors, invalidated, .. }| effect(selectors, invalidated))
    };
    let failures = published.failures.iter().map(|f| json!({ "handler": f.handler, "reason": f.reason }));
    let how_far = if published.is_delivered() { Delivery::Delivered } else { Delivery::Queued };
    json!({
        "name": name,
        "handlers": published.handlers,
        "failures": failures.collect::<Value>(),
        "dropped": carried(&published.dropped),
        "expired": carried(&published.expired),
        "refreshes": published.refreshes,
        "left": published.left,
        "state": state(how_far),
        "token": published.token().map(|token| token.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_name_and_perhaps_a_payload_and_nothing_else() {
        let name = |body: &str| read(body.as_bytes()).map(|(name, payload)| (name, payload.to_string()));
        assert_eq!(name(r#"{"name":"a"}"#), Ok(("a".into(), "null".into())));
        assert_eq!(name(r#"{"payload":[1],"name":"a"}"#), Ok(("a".into(), "[1]".into())));
        for body in
            ["", "{}", "[]", "\"a\"", r#"{"name":1}"#, r#"{"name":"a","user_id":1}"#, r#"{"name":"a"}x"#]
        {
            assert!(name(body).is_err(), "{body}");
        }
    }
}
