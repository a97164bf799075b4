//! Opening a connection that is ready for use: dialled, logged in, on a server that does what it is for.

use std::sync::Arc;

use redis::{Cmd, Pipeline, cmd};

use crate::config::Settings;
use crate::deadline::within;
use crate::end::{End, EndOnDrop};
use crate::endpoint::Endpoint;
use crate::lane::{Failure, Lane, Purpose};
use crate::link::Wiring;

/// Opens a connection within the time for connecting. The error is a reason for people.
pub(crate) async fn open(
    wiring: &Wiring,
    server: &Endpoint,
    purpose: Purpose,
    end: &Arc<End>,
) -> Result<Arc<Lane>, String> {
    let settings = &wiring.settings;
    let unused = EndOnDrop::new(end);
    let greeted = async {
        let lane = Lane::open(&settings.dialer, server, purpose, &*wiring.runtime, end).await?;
        greet(&lane, settings).await.map(|()| lane)
    };
    let lane = within(&*wiring.runtime, settings.connect_timeout, greeted)
        .await
        .unwrap_or_else(|| Err(format!("no answer within {:?}", settings.connect_timeout)))?;
    unused.release();
    Ok(lane)
}

/// A write that changes nothing and that every user who can work here may do.
pub(crate) fn probe(settings: &Settings) -> Cmd {
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
