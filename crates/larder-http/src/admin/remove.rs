//! `DELETE ?pattern=|tag=|namespace=|key=|all=true` and `POST clear`: what they name, and what became of it.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::Uri;
use larder_core::{Cache, Delivery, Invalidated, MAX_TAG_BYTES, Selector, Swept};
use tokio::sync::Semaphore;

use super::auth::Actor;
use super::query::{once, parameters};
use super::routes::{Admin, bad};

/// Sweeps that run, or wait for their turn: one runs at a time. What is invalidated beyond that is not swept.
pub(super) const MOST_SWEEPS: usize = 16;

/// What a request wants removed.
#[derive(Debug, Default)]
struct Order {
    selectors: Vec<Selector>,
    reason: Option<String>,
    sweep: Option<Sweep>,
}

/// When what was invalidated is freed and counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sweep {
    /// After the answer.
    #[default]
    Beside,
    /// Before the answer, which has the counts.
    Wait,
    /// Not at all: it goes with its ttl.
    Off,
}

pub(super) async fn clear(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Response {
    match Order::read(uri.query().unwrap_or_default()) {
        Ok(order) if order.selectors.is_empty() => {
            invalidate(&admin, &actor, Order { selectors: vec![Selector::all()], ..order }).await
        }
        Ok(_) => {
            bad("POST clear clears everything and takes reason= and sweep= only. To clear less, use DELETE.")
        }
        Err(why) => bad(&why),
    }
}

pub(super) async fn remove(
    State(admin): State<Arc<Admin>>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Response {
    match Order::read(uri.query().unwrap_or_default()).and_then(|order| order.complete(admin.bare_delete)) {
        Ok(order) => invalidate(&admin, &actor, order).await,
        Err(why) => bad(&why),
    }
}

async fn invalidate(admin: &Arc<Admin>, actor: &Actor, order: Order) -> Response {
    let cache = admin.cache.by(&actor.0).because(order.reason.as_deref().unwrap_or_default());
    let invalidated = cache.invalidate(order.selectors.iter().cloned()).await;
    let mut document = effect(&order.selectors, &invalidated);
    let (sweep, swept) = match order.sweep.unwrap_or_default() {
        Sweep::Off => ("off", None),
        Sweep::Wait => ("done", Some(invalidated.swept().await)),
        Sweep::Beside => (beside(&admin.cache, &admin.sweeps, invalidated), None),
    };
    document["sweep"] = sweep.into();
    if let Some(Swept { memory, remote, complete, .. }) = swept {
        document["swept"] = serde_json::json!({ "memory": memory, "remote": remote, "complete": complete });
    }
    Json(document).into_response()
}

/// What was invalidated, and how far it has come. Whoever wrote a pattern that has become wider is told what it became.
pub(super) fn effect(selectors: &[Selector], invalidated: &Invalidated) -> serde_json::Value {
    let patterns: Vec<String> = selectors.iter().map(ToString::to_string).collect();
    let became: serde_json::Map<String, serde_json::Value> = selectors
        .iter()
        .filter_map(|selector| Some((selector.folded_from()?.to_owned(), selector.to_string().into())))
        .collect();
    let token = invalidated.token.map(|token| token.to_string());
    let mut document =
        serde_json::json!({ "patterns": patterns, "state": state(invalidated.state), "token": token });
    if !became.is_empty() {
        document["folded"] = true.into();
        document["became"] = became.into();
    }
    document
}

pub(super) fn state(state: Delivery) -> &'static str {
    match state {
        Delivery::Delivered => "delivered",
        Delivery::Queued => "queued",
    }
}

/// Starts a sweep that nobody waits for. What it has freed it says as an event.
fn beside(cache: &Cache, sweeps: &Arc<Semaphore>, invalidated: Invalidated) -> &'static str {
    let Ok(one) = sweeps.clone().try_acquire_owned() else { return "busy" };
    cache.runtime().spawn(Box::pin(async move {
        invalidated.swept().await;
        drop(one);
    }));
    "started"
}

impl Order {
    fn read(query: &str) -> Result<Self, String> {
        let mut order = Order::default();
        for (name, value) in parameters(query)? {
            match name {
                "reason" if value.is_empty() => return Err("reason is empty: say why.".to_owned()),
                "reason" => once(&mut order.reason, name, value)?,
                "sweep" => once(&mut order.sweep, name, sweep(&value)?)?,
                _ => order.selectors.push(selector(name, &value)?),
            }
        }
        Ok(order)
    }

    /// Nothing named is a mistake, never "everything", unless a bare DELETE is to clear.
    fn complete(mut self, bare_delete: bool) -> Result<Self, String> {
        match (self.selectors.is_empty(), bare_delete) {
            (false, _) => {}
            (true, true) => self.selectors.push(Selector::all()),
            (true, false) => {
                return Err("Say what to delete: pattern=, tag=, namespace=, key=, or all=true.".to_owned());
            }
        }
        Ok(self)
    }
}

fn sweep(value: &str) -> Result<Sweep, String> {
    match value {
        "wait" => Ok(Sweep::Wait),
        "off" => Ok(Sweep::Off),
        _ => Err(format!("sweep={value}: there are wait and off; without it, it is done beside.")),
    }
}

fn selector(name: &str, value: &str) -> Result<Selector, String> {
    let parse = |text: &str| Selector::parse(text).map_err(|e| format!("{name}={value}: {e}."));
    let plain = |what: &str| match value {
        "" => Err(format!("{name} is empty: name {what}.")),
        _ if name != "tag" && value.contains('*') => Err(format!("{name}={value}: use pattern= for a `*`.")),
        _ => Ok(()),
    };
    match name {
        "pattern" => parse(value),
        // Literal: no white space is trimmed, no `*` means anything.
        "tag" if value.len() > MAX_TAG_BYTES => Err(format!("tag is longer than {MAX_TAG_BYTES} bytes.")),
        "tag" => plain("a tag").map(|()| Selector::tag(value)),
        "key" if value.starts_with('#') => Err(format!("key={value}: use tag= for a tag.")),
        "key" => plain("a key").and_then(|()| parse(value)),
        "namespace" => {
            plain("a namespace")?;
            match value.contains(':') {
                true => Err(format!("namespace={value}: a namespace has no `:`; use pattern={value}:*.")),
                false => Ok(Selector::under(value)),
            }
        }
        "all" if value == "true" => Ok(Selector::all()),
        "all" => Err(format!("all={value}: only all=true is understood.")),
        _ => Err(format!(
            "Unknown parameter {name}: there are pattern, tag, namespace, key, all, reason and sweep."
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Vec<String>, String> {
        let order = Order::read(query)?.complete(false)?;
        Ok(order.selectors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_form_of_delete_becomes_its_selector() {
        assert_eq!(read("pattern=trig:123:*").unwrap(), ["trig:123:*"]);
        assert_eq!(read("pattern=trig%3A123%3A%2A&tag=site").unwrap(), ["trig:123:*", "#site"]);
        assert_eq!(read("namespace=trig").unwrap(), ["trig:*"]);
        assert_eq!(read("key=trig:123").unwrap(), ["trig:123"]);
        assert_eq!(read("tag=*").unwrap(), ["#*"]);
        assert_eq!(Order::read("tag=a%20").unwrap().selectors, [Selector::tag("a ")]);
        assert_eq!(read("all=true").unwrap(), ["*"]);
    }

    #[test]
    fn what_is_not_understood_is_never_everything() {
        for query in [
            "",
            "patern=trig:*",
            "all",
            "all=1",
            "tag=",
            "key=trig:*",
            "key=%23a",
            "namespace=a:b",
            "pattern=",
            "&",
            "reason=x",
            "reason=",
            "key=a&reason=x&reason=y",
            "key=a&sweep=later",
            "key=a&sweep=wait&sweep=wait",
        ] {
            assert!(read(query).is_err(), "{query:?}");
        }
        let bare = Order::read("").and_then(|order| order.complete(true));
        assert_eq!(bare.unwrap().selectors, [Selector::all()]);
    }

    #[test]
    fn reason_and_sweep_stand_beside_what_is_named() {
        let order = Order::read("key=a&reason=a+bad%20deploy&sweep=wait").unwrap();
        assert_eq!((order.reason.as_deref(), order.sweep), (Some("a bad deploy"), Some(Sweep::Wait)));
        assert_eq!(order.selectors.len(), 1);
    }
}
