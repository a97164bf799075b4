//! All connections to the server: some for values, one for the log. They begin and end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use larder_core::Runtime;
use redis::{Cmd, Pipeline, cmd};

use crate::config::Settings;
use crate::deadline::within;
use crate::lane::{End, Failure, Lane};

/// Open connections.
#[derive(Debug)]
pub(crate) struct Session {
    values: Vec<Arc<Lane>>,
    /// The log has a connection of its own: no large value stands before an invalidation.
    log: Arc<Lane>,
    turn: AtomicUsize,
    end: Arc<End>,
}

impl Session {
    /// Opens all connections, each within the time for connecting. The error is a reason for people.
    pub(crate) async fn open(settings: &Settings, runtime: &Arc<dyn Runtime>) -> Result<Session, String> {
        let end = EndOnDrop(End::new());
        let open = async || {
            let greeted = async {
                let lane = Lane::open(&settings.target, &**runtime, &end.0).await?;
                greet(&lane, settings).await.map(|()| lane)
            };
            within(&**runtime, settings.connect_timeout, greeted)
                .await
                .unwrap_or_else(|| Err(format!("no answer within {:?}", settings.connect_timeout)))
        };
        let log = open().await?;
        let mut values = Vec::with_capacity(settings.connections);
        for _ in 0..settings.connections {
            values.push(open().await?);
        }
        let session = Session { values, log, turn: AtomicUsize::new(0), end: end.release() };
        session.watch_over(settings, runtime);
        Ok(session)
    }

    fn watch_over(&self, settings: &Settings, runtime: &Arc<dyn Runtime>) {
        let watch = |lane: &Arc<Lane>, question: Cmd| {
            let beat = Arc::clone(lane).watch_over(Arc::clone(runtime), settings.heartbeat, question);
            runtime.spawn(Box::pin(beat));
        };
        // Asks for a write, so that a primary which has become a replica is noticed although nobody writes.
        watch(&self.log, probe(settings));
        self.values.iter().for_each(|lane| watch(lane, cmd("PING")));
    }

    /// A connection for a value: each in turn.
    pub(crate) fn values(&self) -> &Lane {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.values[turn % self.values.len()]
    }

    /// The connection of the log.
    pub(crate) fn log(&self) -> &Lane {
        &self.log
    }

    /// Ends all connections; what is under way fails.
    pub(crate) fn end(&self, reason: &str) {
        self.end.set(reason);
    }

    /// Waits for the end of any of them, which is the end of all; answers the reason.
    pub(crate) async fn ended(&self) -> String {
        self.end.wait().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end("not used any more");
    }
}

/// Ends connections that did not become a session.
struct EndOnDrop(Arc<End>);

impl EndOnDrop {
    fn release(mut self) -> Arc<End> {
        std::mem::replace(&mut self.0, End::new())
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.set("not used any more");
    }
}

/// A write that changes nothing and that every user who can work here may do.
fn probe(settings: &Settings) -> Cmd {
    let mut probe = cmd("UNLINK");
    probe.arg(&settings.keys.probe);
    probe
}

/// Logs in, selects the database, and asks whether the server takes writes.
async fn greet(lane: &Lane, settings: &Settings) -> Result<(), String> {
    let mut greeting = Pipeline::new();
    let mut wanted = Vec::new();
    if let Some(password) = &settings.password {
        let login = greeting.cmd("AUTH");
        if let Some(username) = &settings.username {
            login.arg(username);
        }
        login.arg(password.reveal());
        wanted.push("the server refuses the login: ");
    }
    if settings.address.database != 0 {
        greeting.cmd("SELECT").arg(settings.address.database);
        wanted.push("the server refuses the database: ");
    }
    greeting.add_command(probe(settings));
    wanted.push("the server does not take writes: ");
    // For operators who read CLIENT LIST. Whether it is allowed is no matter, so nothing is wanted of its answer.
    greeting.cmd("CLIENT").arg("SETNAME").arg("larder");

    let answers = lane.ask_all(&greeting).await.map_err(|failure| match failure {
        Failure::Broken(reason) => reason,
        Failure::Refused(refusal) => refusal.text().to_owned(),
    })?;
    for (answer, meaning) in answers.into_iter().zip(wanted) {
        match answer {
            Err(Failure::Refused(refusal)) if !refusal.spares_reads() => {
                return Err(without_password(&format!("{meaning}{}", refusal.text()), settings));
            }
            Err(Failure::Broken(reason)) => return Err(reason),
            Ok(_) | Err(Failure::Refused(_)) => {}
        }
    }
    Ok(())
}

/// A server that does not know AUTH repeats its arguments.
fn without_password(text: &str, settings: &Settings) -> String {
    match &settings.password {
        Some(password) => text.replace(password.reveal(), "***"),
        None => text.to_owned(),
    }
}
