//! Opening a connection that is ready for use: dialled, logged in, on a server that does what it is for.

use std::sync::Arc;

use redis::{Cmd, Pipeline, cmd};

use crate::address::Servers;
use crate::config::{Login, Settings};
use crate::deadline::within;
use crate::end::{End, EndOnDrop};
use crate::endpoint::Endpoint;
use crate::lane::{Failure, Lane, Purpose};
use crate::link::Wiring;
use crate::reply;
use crate::wakes;

/// Opens a connection within the time for connecting. The error is a reason for people.
pub(crate) async fn open(
    wiring: &Arc<Wiring>,
    server: &Endpoint,
    purpose: Purpose,
    end: &Arc<End>,
) -> Result<Arc<Lane>, String> {
    let settings = &wiring.settings;
    let unused = EndOnDrop::new(end);
    let user = settings.login.as_ref();
    let greeted = async {
        let (dialer, runtime) = (&settings.dialer, &*wiring.runtime);
        let lane = match purpose {
            Purpose::Values | Purpose::Log => Lane::open(dialer, server, purpose, runtime, end).await?,
            Purpose::Wakes => {
                let hearing = (user, wakes::ear(wiring));
                let opened = Lane::open_with_ear(dialer, server, purpose, runtime, end, hearing).await;
                opened.map_err(|reason| without_password(reason, user))?
            }
        };
        greet(&lane, settings, purpose).await.map(|()| lane)
    };
    let lane = within(&*wiring.runtime, settings.connect_timeout, greeted)
        .await
        .unwrap_or_else(|| Err(format!("no answer within {:?}", settings.connect_timeout)))?;
    unused.release();
    Ok(lane)
}

/// A question to which a server of use has a good answer: a write that changes nothing and that every user who can work
/// here may do. So a primary that has become a replica is noticed although nobody writes. A node of a cluster tells the
/// same by `MOVED`, and the key is in the slot of the log.
pub(crate) fn question(settings: &Settings, purpose: Purpose) -> Cmd {
    if purpose == Purpose::Values && matches!(settings.address.servers, Servers::Cluster { .. }) {
        return cmd("PING");
    }
    let mut probe = cmd("UNLINK");
    probe.arg(&settings.keys.probe);
    probe
}

pub(crate) fn login(user: &Login) -> Cmd {
    let mut login = cmd("AUTH");
    if let Some(username) = &user.username {
        login.arg(username);
    }
    login.arg(user.password.reveal());
    login
}

/// What is wanted of an answer.
enum Want {
    /// No refusal; the text says what it would mean.
    Success(&'static str),
    /// That of a primary. Whoever may not ask has to believe it.
    Primary,
}

/// Logs in, selects the database, and asks whether the server is of use.
async fn greet(lane: &Lane, settings: &Settings, purpose: Purpose) -> Result<(), String> {
    let mut greeting = Pipeline::new();
    let mut wanted = Vec::new();
    if let Some(user) = &settings.login {
        greeting.add_command(login(user));
        wanted.push(Want::Success("the server refuses the login: "));
    }
    if settings.address.database != 0 {
        greeting.cmd("SELECT").arg(settings.address.database);
        wanted.push(Want::Success("the server refuses the database: "));
    }
    if matches!(settings.address.servers, Servers::Sentinel { .. }) {
        greeting.cmd("ROLE");
        wanted.push(Want::Primary);
    }
    greeting.add_command(question(settings, purpose));
    wanted.push(Want::Success("the server does not take writes: "));
    // For operators who read CLIENT LIST. Whether it is allowed is no matter, so nothing is wanted of its answer.
    greeting.cmd("CLIENT").arg("SETNAME").arg("larder");

    let user = settings.login.as_ref();
    let answers = lane.ask_all(&greeting).await.map_err(|failure| told("", &failure, user))?;
    for (answer, want) in answers.into_iter().zip(wanted) {
        match (want, answer) {
            (Want::Success(_), Err(Failure::Refused(refusal))) if refusal.spares_reads() => {}
            (Want::Success(meaning), Err(failure)) => return Err(told(meaning, &failure, user)),
            (Want::Primary, Ok(role)) if reply::role(&role) != Some("master") => {
                return Err("the server is no primary".to_owned());
            }
            (Want::Success(_), Ok(_)) | (Want::Primary, _) => {}
        }
    }
    Ok(())
}

/// A failure in words, without the password: a server that does not know AUTH repeats its arguments.
pub(crate) fn told(meaning: &str, failure: &Failure, user: Option<&Login>) -> String {
    let text = match failure {
        Failure::Broken(reason) => return reason.clone(),
        Failure::Refused(refusal) => format!("{meaning}{}", refusal.text()),
    };
    without_password(text, user)
}

fn without_password(text: String, user: Option<&Login>) -> String {
    match user {
        Some(user) => text.replace(user.password.reveal(), "***"),
        None => text,
    }
}
