//! `larder demo --check --nodes N`: several processes on one catalog and one Redis, and whether they agree.

mod faults;
mod field;
mod herd;
mod oracle;
mod process;
mod redis;
mod worker;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::Runtime;
use tokio::task::JoinSet;

use self::faults::{Faults, admin};
use self::field::{Field, Node, Offence};
use self::redis::Redis;
use self::worker::Worker;
use super::{check, guide, open_catalog, prefix, say};
use crate::cli::Demo;
use crate::exit::Failure;

/// Requests under way at one time.
const WORKERS: u64 = 8;
/// Rows that are written and read: few, so that most reads find something, and more than workers, so that these seldom
/// wait for each other.
const ROWS: i64 = 16;

/// Starts the processes, runs the rounds, and says what came of it.
///
/// # Errors
/// What could not be started; what does not hold.
pub(super) async fn run(
    options: &Demo,
    nodes: u8,
    admin_token: Option<String>,
    runtime: Arc<dyn Runtime>,
) -> Result<(), Failure> {
    if let Some(url) = &options.redis {
        // Connects nowhere; the error names option and rule.
        let checked = larder_redis::Redis::at(url.as_str()).build(runtime.clone());
        checked.map_err(|error| Failure::option("--redis", &error))?;
    }
    let folder = tempfile::Builder::new()
        .prefix("larder-check-")
        .tempdir()
        .map_err(|error| Failure::unavailable("a temporary folder", &error))?;
    let data = options.data.clone().unwrap_or_else(|| folder.path().join("catalog.db"));
    let redis = Redis::get(options.redis.as_deref(), folder.path()).await?;
    // Made here, once: the processes find it.
    let in_place = Demo { data: Some(data.clone()), ..options.clone() };
    let (catalog, _) = open_catalog(&in_place, &*runtime).await?;
    let prefix = prefix(&catalog)?;

    let seed = options.seed.unwrap_or_else(|| runtime.random());
    let whose = if redis.is_own() { "a Redis of its own" } else { "the Redis that was given" };
    say(&format!("{nodes} processes on one catalog and {whose}; {} rounds, --seed {seed}", options.rounds));
    let started = start(options, nodes, &redis, &data, folder.path()).await;
    let field = Arc::new(Field::new(started?, ROWS, options.rounds));
    let (first, second) = (field.nodes[0].place(), field.nodes[1].place());
    check::run(&guide::steps_across(first, second, admin_token.as_deref())).await?;

    if let Err(why) = herd::run(&field, admin_token.as_deref()).await {
        return Err(Failure::refuted(why));
    }

    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        workers.spawn(Worker::new(field.clone(), seed.wrapping_add(worker)).run());
    }
    let victim = usize::try_from(seed % u64::from(nodes)).unwrap_or_default();
    let token = admin_token.clone();
    let mut faults = Faults { field: field.clone(), redis, prefix, options, data, admin_token, victim };
    let progress = progress(&field);
    let verdict = tokio::select! {
        (faults, worked) = async { tokio::join!(made(&mut faults), worked(&mut workers, &field)) } => faults.and(worked),
        never = progress => match never {},
    };
    workers.shutdown().await;
    say(&counted(&field));
    let offence = field.offence.lock().clone();
    let refuted = match (offence, verdict) {
        (Some(offence), _) => {
            say(&told(&offence, &field, token.as_deref()).await);
            Some(format!("a node answered wrongly, --seed {seed}"))
        }
        (None, Err(why)) => Some(format!("{why}, --seed {seed}")),
        (None, Ok(())) => too_few_hits(&field),
    };
    match refuted {
        None => {
            say("ok: no answer was older than its token");
            Ok(())
        }
        Some(why) => {
            let kept = folder.keep();
            say(&format!("the logs of the processes are in {}", kept.display()));
            Err(Failure::refuted(why))
        }
    }
}

async fn start(
    options: &Demo,
    nodes: u8,
    redis: &Redis,
    data: &Path,
    folder: &Path,
) -> Result<Vec<Node>, Failure> {
    let mut started = Vec::new();
    for number in 0..nodes {
        let log: PathBuf = folder.join(format!("node-{number}.log"));
        match process::start_demo(options, redis.url(), data, &log).await {
            Ok((process, place)) => started.push(Node::new(log, process, place)),
            Err(why) => {
                return Err(Failure::unavailable(&format!("node {number}"), &std::io::Error::other(why)));
            }
        }
    }
    Ok(started)
}

/// Makes everything go wrong that is to go wrong.
///
/// # Errors
/// It could not be made, or was not over in time.
async fn made(faults: &mut Faults<'_>) -> Result<(), String> {
    let made = faults.run().await;
    if made.is_err() {
        faults.field.end();
    }
    made
}

/// Waits for the workers.
///
/// # Errors
/// One has ended in a panic.
async fn worked(workers: &mut JoinSet<()>, field: &Field) -> Result<(), String> {
    let mut ended_well = Ok(());
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            ended_well = Err(format!("a worker of the check has ended: {error}"));
            field.end();
        }
    }
    ended_well
}

/// Says every tenth of the way how far it is. Never ends.
async fn progress(field: &Field) -> Infallible {
    let mut done = field.done.subscribe();
    for tenth in 1..10 {
        let due = field.rounds / 10 * tenth;
        // The sender lives in the field.
        let _ = done.wait_for(|done| *done >= due).await;
        if !field.is_over() {
            say(&format!("{due} rounds: {}", counted(field)));
        }
    }
    std::future::pending().await
}

fn counted(field: &Field) -> String {
    let counts = &field.counts;
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{} writes ({} queued), {} reads ({} with a token, {} past the cache), {} % hits, {} lost with their process",
        of(&counts.writes),
        of(&counts.queued),
        of(&counts.reads),
        of(&counts.with_token),
        of(&counts.late),
        of(&counts.hits) * 100 / of(&counts.reads).max(1),
        of(&counts.lost),
    )
}

/// A cache that never answers is never wrong.
fn too_few_hits(field: &Field) -> Option<String> {
    let (reads, hits) =
        (field.counts.reads.load(Ordering::Relaxed), field.counts.hits.load(Ordering::Relaxed));
    (hits * 2 < reads).then(|| format!("only {hits} of {reads} reads were hits"))
}

/// All there is to know of a wrong answer.
async fn told(offence: &Offence, field: &Field, token: Option<&str>) -> String {
    let Offence { round, alive, request, about, answer, wrong, row } = offence;
    let mut text = format!(
        "WRONG in round {round}, by node {}: {wrong}\n  {request}\n  about: {about}\n  answer: {answer}",
        alive.node
    );
    let explain = format!("/explain?key=repository:{row}");
    for (number, node) in field.nodes.iter().enumerate() {
        for path in [explain.as_str(), "/health"] {
            let said = admin(node.place(), path, token).await;
            let said = said.map_or_else(|e| e, |body| String::from_utf8_lossy(&body).into_owned());
            text.push_str(&format!("\n  node {number}, {path}: {said}"));
        }
    }
    text
}
