//! One worker: a write here, reads there, again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::response::Parts;
use http_body_util::Full;
use larder_http::LARDER_EPOCH;

use super::field::{Alive, Field, Offence, Row, up};
use super::oracle::{self, Wrong};
use crate::demo::catalog::random::Random;
use crate::demo::client::Client;

/// The name that every process goes by, as behind a load balancer: the host is part of every key.
const HOST: &str = "check.test";
/// How long any request may take, whatever is wrong with Redis.
const LIMIT: Duration = Duration::from_secs(20);
/// Reads of other rows in a round.
const OTHER_READS: usize = 5;

pub(super) struct Worker {
    field: Arc<Field>,
    random: Random,
    /// By node: a connection to one of its lives.
    clients: HashMap<usize, (u32, Client)>,
}

/// A write that was answered.
struct Written {
    version: u64,
    /// `None`: it is queued, and promises nothing elsewhere.
    token: Option<String>,
    by: Alive,
}

/// Which answer a read must have.
struct Wanted<'a> {
    least: u64,
    token: Option<&'a str>,
    about: String,
}

impl Worker {
    pub(super) fn new(field: Arc<Field>, seed: u64) -> Self {
        Worker { field, random: Random::new(seed), clients: HashMap::new() }
    }

    /// Works until the rounds are done.
    pub(super) async fn run(mut self) {
        while let Some(round) = self.field.next_round().await {
            if let Err(offence) = self.round(round).await {
                return self.field.accuse(*offence);
            }
            self.field.done.send_modify(|done| *done += 1);
        }
    }

    async fn round(&mut self, round: u32) -> Result<(), Box<Offence>> {
        let field = self.field.clone();
        let alive = field.alive();
        if alive.is_empty() {
            return Ok(());
        }
        let row = &field.rows[self.below(field.rows.len())];
        let by = alive[self.below(alive.len())];
        let Some(written) = self.write(round, by, row).await? else { return Ok(()) };
        self.read_back(round, &alive, row, &written).await?;
        for _ in 0..OTHER_READS {
            let row = &field.rows[self.below(field.rows.len())];
            let at = alive[self.below(alive.len())];
            // Half of them with a token that may be from long ago.
            let told = row.told().filter(|_| self.random.below(2) == 0);
            let (least, token) = told.map_or((0, None), |(version, token)| (version, Some(token)));
            let about = format!("version {least}, written in an earlier round");
            self.read(round, at, row, &Wanted { least, token: token.as_deref(), about }).await?;
        }
        Ok(())
    }

    /// Everybody sees the write: the others with its token, the one that made it without.
    async fn read_back(
        &mut self,
        round: u32,
        alive: &[Alive],
        row: &Row,
        written: &Written,
    ) -> Result<(), Box<Offence>> {
        let first = self.below(alive.len());
        for turn in 0..alive.len() {
            let at = alive[(first + turn) % alive.len()];
            let own = at.node == written.by.node && self.field.lives(written.by);
            let token = written.token.as_deref().filter(|_| !own);
            if !own && token.is_none() {
                continue;
            }
            let about =
                format!("version {}, written by node {} in this round", written.version, written.by.node);
            self.read(round, at, row, &Wanted { least: written.version, token, about }).await?;
        }
        Ok(())
    }

    /// `None`: the process was killed under the request, and nobody knows.
    async fn write(&mut self, round: u32, by: Alive, row: &Row) -> Result<Option<Written>, Box<Offence>> {
        let field = self.field.clone();
        let _writing = row.writing.lock().await;
        let version = row.next_version();
        let body = serde_json::json!({ "description": oracle::description(version) }).to_string();
        let request = request("PUT", row.id).header("Content-Type", "application/json");
        let about = format!("version {version}");
        let answer = self.ask(by, request, body).await;
        let judged = match &answer {
            Ok((head, body)) => oracle::version(row.id, body)
                .and_then(|answered| oracle::judge(answered, version, version))
                .map(|()| head),
            Err(wrong) => Err(wrong.clone()),
        };
        match judged {
            Ok(head) => {
                let token = head.headers.get(LARDER_EPOCH).and_then(|v| Some(v.to_str().ok()?.to_owned()));
                up(&field.counts.writes);
                match &token {
                    Some(token) => row.was_told(version, token),
                    None => up(&field.counts.queued),
                }
                Ok(Some(Written { version, token, by }))
            }
            Err(_) if !field.lives(by) => {
                up(&field.counts.lost);
                Ok(None)
            }
            Err(wrong) => Err(offence(round, by, row, "PUT", None, about, &answer, wrong)),
        }
    }

    async fn read(
        &mut self,
        round: u32,
        at: Alive,
        row: &Row,
        wanted: &Wanted<'_>,
    ) -> Result<(), Box<Offence>> {
        let field = self.field.clone();
        if !field.lives(at) {
            return Ok(());
        }
        let mut request = request("GET", row.id);
        if let Some(token) = wanted.token {
            request = request.header(LARDER_EPOCH, token);
        }
        let answer = self.ask(at, request, String::new()).await;
        let judged = match &answer {
            Ok((head, body)) => oracle::version(row.id, body).and_then(|version| {
                oracle::judge(version, wanted.least, row.newest())?;
                Ok(head.headers.get("x-cache-status").map(http::HeaderValue::as_bytes))
            }),
            Err(wrong) => Err(wrong.clone()),
        };
        let counts = &field.counts;
        match judged {
            Ok(status) => {
                up(&counts.reads);
                if wanted.token.is_some() {
                    up(&counts.with_token);
                }
                match status {
                    Some(b"HIT" | b"STALE") => up(&counts.hits),
                    Some(b"BYPASS") => up(&counts.late),
                    _ => {}
                }
                Ok(())
            }
            Err(_) if !field.lives(at) => {
                up(&counts.lost);
                Ok(())
            }
            Err(wrong) => {
                let about = wanted.about.clone();
                Err(offence(round, at, row, "GET", wanted.token, about, &answer, wrong))
            }
        }
    }

    async fn ask(
        &mut self,
        at: Alive,
        request: http::request::Builder,
        body: String,
    ) -> Result<(Parts, Bytes), Wrong> {
        let (life, client) =
            self.clients.entry(at.node).or_insert_with(|| (at.life, Client::new(at.place.api, LIMIT)));
        if *life != at.life {
            (*life, *client) = (at.life, Client::new(at.place.api, LIMIT));
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| Wrong::Failed(e.to_string()))?;
        let (head, body) = client.ask(request).await.map_err(Wrong::Failed)?;
        match head.status.as_u16() {
            200 => Ok((head, body)),
            status => Err(Wrong::Failed(format!("status {status}: {}", String::from_utf8_lossy(&body)))),
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.below(limit as u64)).unwrap_or_default()
    }
}

fn request(method: &str, row: i64) -> http::request::Builder {
    Request::builder().method(method).uri(path(row)).header("Host", HOST)
}

fn path(row: i64) -> String {
    format!("/api/v1/repositories/{row}")
}

#[expect(clippy::too_many_arguments, reason = "all that a person needs who looks into it")]
fn offence(
    round: u32,
    alive: Alive,
    row: &Row,
    method: &str,
    token: Option<&str>,
    about: String,
    answer: &Result<(Parts, Bytes), Wrong>,
    wrong: Wrong,
) -> Box<Offence> {
    let token = token.map_or(String::new(), |token| format!(" -H 'Larder-Epoch: {token}'"));
    let request =
        format!("curl -i -X {method} -H 'Host: {HOST}'{token} 'http://{}{}'", alive.place.api, path(row.id));
    let answer = match answer {
        Ok((head, body)) => format!("{} {:?} {}", head.status, head.headers, String::from_utf8_lossy(body)),
        Err(_) => "none".to_owned(),
    };
    Box::new(Offence { round, alive, request, about, answer, wrong, row: row.id })
}
