//! Whether a replica has what its primary has, and how to keep it from getting it.

use crate::RedisServer;
use crate::settle::{ask, ask_text, field, must, until};

/// A password that no primary takes. A replica that has it is turned away at the door of its primary, tries again once
/// a second, keeps its data and its place in the history, and answers everybody else.
const TURNED_AWAY: &str = "replication is cut";

/// Says what is missing until `replica` follows `primary` and has everything it had when this was called.
pub(crate) async fn in_step(primary: &RedisServer, replica: &RedisServer) -> Result<(), String> {
    // The primary first: what it writes afterwards is not waited for.
    let given = ask_text(primary, &["INFO", "replication"]).await?;
    let taken = ask_text(replica, &["INFO", "replication"]).await?;
    let (from, port) = (primary.addr(), replica.port());
    missing(&given, port, &taken, primary.port())
        .map_or(Ok(()), |missing| Err(format!("{} does not follow {from} yet: {missing}", replica.addr())))
}

/// What of `INFO replication` of a primary and of its replica shows that they are not in step.
fn missing(given: &str, replica: u16, taken: &str, primary: u16) -> Option<&'static str> {
    let listed = format!("port={replica},state=online");
    let offset = |text, name| field(text, name)?.parse::<u64>().ok();
    if field(given, "role") != Some("master") {
        Some("the primary is none")
    } else if field(taken, "role") != Some("slave") {
        Some("the replica is none")
    } else if field(taken, "master_port") != Some(primary.to_string().as_str()) {
        Some("it follows another")
    } else if field(taken, "master_link_status") != Some("up") {
        Some("their link is down")
    } else if !given.lines().any(|line| line.contains(&listed)) {
        Some("the primary does not list it as online")
    } else if field(given, "master_replid") != field(taken, "master_replid") {
        Some("their histories differ")
    } else if offset(taken, "slave_repl_offset") < offset(given, "master_repl_offset") {
        Some("it lags")
    } else {
        None
    }
}

/// Takes `replica` off `primary` once it has all that was written so far: it will get nothing more.
///
/// # Panics
/// If they do not come into step first, or a server does not answer.
pub(crate) async fn cut(primary: &RedisServer, replica: &RedisServer) {
    until("a replica to be in step before it is cut off", || in_step(primary, replica)).await;
    must(replica, &["CONFIG", "SET", "masterauth", TURNED_AWAY]).await;
    until("a replica to be cut off", || async {
        // Again each time: the link may just have been coming up.
        ask(replica, &["CLIENT", "KILL", "TYPE", "master"]).await?;
        let info = ask_text(replica, &["INFO", "replication"]).await?;
        match field(&info, "master_link_status") {
            Some("down") => Ok(()),
            other => Err(format!("{}: its link is {other:?}", replica.addr())),
        }
    })
    .await;
}

/// Lets `replica` follow its primary again. Does no harm to one that was not cut off.
///
/// # Panics
/// If it does not answer.
pub(crate) async fn restore(replica: &RedisServer) {
    must(replica, &["CONFIG", "SET", "masterauth", ""]).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: &str = "# Replication\r\nrole:master\r\nconnected_slaves:1\r\n\
        slave0:ip=127.0.0.1,port=7002,state=online,offset=90,lag=0\r\n\
        master_replid:abc\r\nmaster_repl_offset:100\r\n";
    const REPLICA: &str = "# Replication\r\nrole:slave\r\nmaster_port:7001\r\nmaster_link_status:up\r\n\
        slave_repl_offset:100\r\nmaster_replid:abc\r\n";

    #[test]
    fn a_replica_is_in_step_only_if_it_has_all_of_the_same_history_of_the_right_primary() {
        assert_eq!(missing(PRIMARY, 7002, REPLICA, 7001), None);
        assert_eq!(missing(PRIMARY, 7003, REPLICA, 7001), Some("the primary does not list it as online"));
        assert_eq!(missing(PRIMARY, 7002, REPLICA, 7003), Some("it follows another"));
        assert_eq!(missing(REPLICA, 7002, REPLICA, 7001), Some("the primary is none"));
        assert_eq!(missing(PRIMARY, 7002, PRIMARY, 7001), Some("the replica is none"));
        for (from, to, why) in [
            ("offset:100", "offset:99", "it lags"),
            ("slave_repl_offset:100\r\n", "", "it lags"),
            ("replid:abc", "replid:abd", "their histories differ"),
            ("status:up", "status:down", "their link is down"),
        ] {
            assert_eq!(missing(PRIMARY, 7002, &REPLICA.replace(from, to), 7001), Some(why), "{from}");
        }
    }
}
