//! `larder demo --check`: every printed line, run as a request against the demo itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http::response::Parts;
use http_body_util::Full;

use super::client::{Client, elapsed};
use super::guide::{Crowd, Step};
use super::say;
use crate::exit::{Failure, chain};
use larder_http::LARDER_EPOCH;

/// How long one request may take, the largest facets of level 3 in a debug build included.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a step may take to come true that says "a moment later".
const MOMENT: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(20);

/// Runs the steps in order and says of each what came.
///
/// # Errors
/// How many did not do what they say.
pub(super) async fn run(steps: &[Step]) -> Result<(), Failure> {
    let (mut differences, mut kept) = (0, None);
    for step in steps {
        let mut found = one(step, &mut kept).await;
        if step.patient && !found.is_empty() {
            tokio::select! {
                () = elapsed(MOMENT) => {}
                () = async { while !found.is_empty() {
                    elapsed(AGAIN).await;
                    found = one(step, &mut kept).await;
                }} => {}
            }
        }
        let verdict = if found.is_empty() { "ok  " } else { "DIFF" };
        say(&format!("{verdict} {}", step.curl()));
        for difference in &found {
            say(&format!("     {difference}"));
        }
        differences += usize::from(!found.is_empty());
    }
    say(&format!("{} lines passed, {differences} failed", steps.len() - differences));
    if differences == 0 { Ok(()) } else { Err(Failure::differences(differences)) }
}

/// What is not as it should be. Keeps the token if the step says so.
async fn one(step: &Step, kept: &mut Option<String>) -> Vec<String> {
    if let Some(crowd) = step.crowd {
        return all(step, crowd).await;
    }
    let request = match request(step, kept.as_deref()) {
        Ok(request) => request,
        Err(error) => return vec![chain(&error)],
    };
    match Client::new(step.address, LIMIT).ask(request).await {
        Ok((head, body)) => {
            if step.keeps_token {
                *kept = head.headers.get(LARDER_EPOCH).and_then(|v| Some(v.to_str().ok()?.to_owned()));
            }
            compare(step, &head, &body)
        }
        Err(error) => vec![error],
    }
}

/// The same, of many requests at once.
async fn all(step: &Step, crowd: Crowd) -> Vec<String> {
    let requests = (1..=crowd.size).map(|number| {
        let step = Step { path: step.path.replace("{}", &number.to_string()), ..step.clone() };
        async move {
            let request = request(&step, None).map_err(|error| chain(&error))?;
            Client::new(step.address, LIMIT).ask(request).await
        }
    });
    let (mut differences, mut others) = (Vec::new(), 0);
    for answer in join_all(requests).await {
        match (answer, crowd.some) {
            (Ok((head, _)), Some((status, header))) if head.status.as_u16() == status => {
                others += 1;
                if !head.headers.contains_key(header) {
                    differences.push(format!("a {status} without {header}"));
                }
            }
            (Ok((head, body)), _) => differences.extend(compare(step, &head, &body)),
            (Err(error), _) => differences.push(error),
        }
    }
    if let Some((status, _)) = crowd.some
        && !(1..crowd.size).contains(&others)
    {
        differences.push(format!("{others} of {} answers were {status}", crowd.size));
    }
    differences
}

fn request(step: &Step, kept: Option<&str>) -> http::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder().method(step.method).uri(&step.path);
    if !step.headers.iter().any(|(name, _)| *name == "Host") {
        request = request.header("Host", step.address.to_string());
    }
    request = request.header("User-Agent", "curl").header("Accept", "*/*");
    for (name, value) in &step.headers {
        request = request.header(*name, value);
    }
    if step.names_token {
        request = request.header(LARDER_EPOCH, kept.unwrap_or_default());
    }
    if let Some(token) = &step.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    request.body(Full::new(Bytes::from(step.body.clone().unwrap_or_default())))
}

fn compare(step: &Step, head: &Parts, body: &Bytes) -> Vec<String> {
    let mut differences = Vec::new();
    if head.status.as_u16() != step.status {
        differences.push(format!("status {} instead of {}", head.status.as_u16(), step.status));
    }
    for (name, expected) in &step.expect {
        let value = head.headers.get(*name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
        match value {
            None => differences.push(format!("no {name}")),
            Some(value) if !value.starts_with(expected) => {
                differences.push(format!("{name}: {value} instead of {expected}"));
            }
            Some(_) => {}
        }
    }
    for expected in &step.says {
        if !String::from_utf8_lossy(body).contains(expected) {
            differences.push(format!("the answer does not say {expected}"));
        }
    }
    differences
}
