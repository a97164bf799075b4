//! One load for all processes: many requests at each of them, at one moment, for what none of them has.

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::Request;
use http_body_util::Full;

use super::faults::{LIMIT, admin};
use super::field::Field;
use super::say;
use crate::demo::client::Client;
use crate::demo::faults::PATH;
use crate::demo::guide::{HOST, Place};

/// Requests at each process.
const EACH: usize = 50;
/// Slow enough that all of them come while one loads.
const SLOW: &str = r#"{"latency_ms": 500}"#;
/// Each time another one.
const WANTED: [&str; 3] = ["/api/v1/overviews/11", "/api/v1/overviews/12", "/api/v1/overviews/13"];

/// Sends them, and counts how often the databases were asked.
///
/// A process asks Redis for a value, and for leave to load it, within its budget. A busy machine may let it run out, and then
/// the process loads without waiting for the others: that is tried again, with another path. What is not due to chance
/// fails each time.
///
/// # Errors
/// More than once, each time, or a request failed.
pub(super) async fn run(field: &Field, token: Option<&str>) -> Result<(), String> {
    let places: Vec<Place> = field.nodes.iter().map(super::field::Node::place).collect();
    try_join_all(places.iter().map(|place| set(*place, SLOW, token))).await?;
    let mut loads = Vec::new();
    for wanted in WANTED {
        let before = asked(&places, token).await?;
        let clients = places.iter().flat_map(|place| (0..EACH).map(|_| get(*place, wanted)));
        for answer in join_all(clients).await {
            answer?;
        }
        loads.push(asked(&places, token).await? - before);
        if loads.last() == Some(&1) {
            break;
        }
    }
    try_join_all(places.iter().map(|place| set(*place, "{}", token))).await?;
    let requests = EACH * places.len();
    if loads.last() != Some(&1) {
        return Err(format!("{loads:?} loads of one key at the same time, instead of one"));
    }
    let again = if loads.len() == 1 { String::new() } else { format!(" (before that, {loads:?} times)") };
    say(&format!(
        "{requests} requests at {} processes for what nobody has: the database was asked once{again}",
        places.len()
    ));
    Ok(())
}

/// How often the databases were asked so far.
async fn asked(places: &[Place], token: Option<&str>) -> Result<u64, String> {
    let asked = try_join_all(places.iter().map(|place| queries(*place, token))).await?;
    Ok(asked.iter().sum())
}

async fn get(place: Place, wanted: &str) -> Result<(), String> {
    let request =
        Request::get(wanted).header("Host", HOST).body(Full::default()).map_err(|e| e.to_string())?;
    let (head, _) = Client::new(place.api, LIMIT).ask(request).await?;
    if head.status.is_success() { Ok(()) } else { Err(format!("{wanted}: {}", head.status)) }
}

async fn set(place: Place, faults: &'static str, token: Option<&str>) -> Result<(), String> {
    let mut request = Request::post(PATH)
        .header("Host", place.admin.to_string())
        .header("Content-Type", "application/json");
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let request =
        request.body(Full::new(Bytes::from_static(faults.as_bytes()))).map_err(|e| e.to_string())?;
    let (head, _) = Client::new(place.admin, LIMIT).ask(request).await?;
    if head.status.is_success() { Ok(()) } else { Err(format!("{PATH}: {}", head.status)) }
}

async fn queries(place: Place, token: Option<&str>) -> Result<u64, String> {
    let told = admin(place, PATH, token).await?;
    let told: serde_json::Value = serde_json::from_slice(&told).map_err(|e| e.to_string())?;
    told["queries"].as_u64().ok_or_else(|| format!("{PATH} says nothing of queries: {told}"))
}
