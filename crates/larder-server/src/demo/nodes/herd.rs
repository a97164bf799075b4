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
const WANTED: &str = "/api/v1/overviews/11";

/// Sends them, and counts how often the databases were asked.
///
/// # Errors
/// More than once, or a request failed.
pub(super) async fn run(field: &Field, token: Option<&str>) -> Result<(), String> {
    let places: Vec<Place> = field.nodes.iter().map(super::field::Node::place).collect();
    try_join_all(places.iter().map(|place| set(*place, SLOW, token))).await?;
    let clients = places.iter().flat_map(|place| (0..EACH).map(|_| get(*place)));
    for answer in join_all(clients).await {
        answer?;
    }
    let asked = try_join_all(places.iter().map(|place| queries(*place, token))).await?;
    try_join_all(places.iter().map(|place| set(*place, "{}", token))).await?;
    let (requests, asked) = (EACH * places.len(), asked.iter().sum::<u64>());
    say(&format!(
        "{requests} requests at {} processes for what nobody has: the database was asked {}",
        places.len(),
        if asked == 1 { "once".to_owned() } else { format!("{asked} times") }
    ));
    match asked {
        1 => Ok(()),
        _ => Err(format!("{asked} loads of one key at the same time, instead of one")),
    }
}

async fn get(place: Place) -> Result<(), String> {
    let request =
        Request::get(WANTED).header("Host", HOST).body(Full::default()).map_err(|e| e.to_string())?;
    let (head, _) = Client::new(place.api, LIMIT).ask(request).await?;
    if head.status.is_success() { Ok(()) } else { Err(format!("{WANTED}: {}", head.status)) }
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
