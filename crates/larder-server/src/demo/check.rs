//! `larder demo --check`: every printed line, run as a request against the demo itself.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::response::Parts;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::guide::Step;
use super::say;
use crate::exit::{Failure, chain};

/// How long one request may take, the largest facets of level 3 in a debug build included.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the steps in order and says of each what came.
///
/// # Errors
/// How many did not do what they say.
pub(super) async fn run(steps: &[Step]) -> Result<(), Failure> {
    let mut differences = 0;
    for step in steps {
        let found = match answer(step).await {
            Ok(head) => compare(step, &head),
            Err(error) => vec![error],
        };
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

async fn answer(step: &Step) -> Result<Parts, String> {
    let stream = TcpStream::connect(step.address).await.map_err(|e| chain(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let mut request = Request::builder()
        .method(step.method)
        .uri(&step.path)
        .header("Host", step.address.to_string())
        .header("User-Agent", "curl")
        .header("Accept", "*/*");
    for (name, value) in &step.headers {
        request = request.header(*name, value);
    }
    if let Some(token) = &step.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let body = Full::new(Bytes::from(step.body.clone().unwrap_or_default()));
    let request = request.body(body).map_err(|e| chain(&e))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|e| chain(&e))?;
        let (parts, body) = response.into_parts();
        // The whole answer has to come, or it is none.
        body.collect().await.map_err(|e| chain(&e))?;
        Ok(parts)
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(format!("the connection ended: {ended:?}")),
        () = elapsed() => Err(format!("no answer within {LIMIT:?}")),
    }
}

#[expect(clippy::disallowed_methods, reason = "a limit on a check; the cache's own time is on its port")]
async fn elapsed() {
    tokio::time::sleep(LIMIT).await;
}

fn compare(step: &Step, head: &Parts) -> Vec<String> {
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
    differences
}
