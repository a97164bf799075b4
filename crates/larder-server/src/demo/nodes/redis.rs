//! The Redis behind the processes: one of our own, or the user's; and what is done to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError, Value};
use tokio::process::Command;

use super::process::Process;
use crate::demo::client::elapsed;
use crate::exit::{Failure, chain};

/// How long a server may take to answer its first command, and any command.
const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Names the server to start, where it is not on the path.
const PROGRAM: &str = "LARDER_REDIS_SERVER";
/// Ports tried for a server of our own.
const PORTS: u16 = 50;
/// Keys deleted in one step.
const STEP: usize = 1000;

pub(super) struct Redis {
    url: String,
    own: Option<Own>,
}

/// A server that was started here.
struct Own {
    program: PathBuf,
    port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "several processes need a Redis: give one with --redis redis://127.0.0.1:6379, or install redis-server or \
     valkey-server (apt-get install redis-server, brew install redis), and this starts one of its own"
)]
struct NoServer;

impl Redis {
    /// The user's server, or one of our own.
    ///
    /// # Errors
    /// No such server, no such program.
    pub(super) async fn get(url: Option<&str>, folder: &Path) -> Result<Self, Failure> {
        let redis = match url {
            Some(url) => Redis { url: url.to_owned(), own: None },
            None => Self::start(folder).await?,
        };
        match redis.ask(Cmd::new().arg("PING")).await {
            Ok(_) => Ok(redis),
            // The message names host and port, never the password.
            Err(error) => Err(Failure::unavailable("--redis", &error)),
        }
    }

    async fn start(folder: &Path) -> Result<Self, Failure> {
        let named = std::env::var_os(PROGRAM).filter(|path| !path.is_empty()).map(PathBuf::from);
        let known = || ["redis-server", "valkey-server"].iter().find_map(|name| find(name));
        let Some(program) = named.or_else(known) else {
            return Err(Failure::unavailable("--nodes", &NoServer));
        };
        // Below the ports that the system gives to outgoing connections: while the server is down nobody else gets it.
        let first = 15_000 + u16::try_from(std::process::id() % 16_000).unwrap_or_default();
        for port in first..first + PORTS {
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_err() {
                continue;
            }
            let own = Own { program: program.clone(), port, folder: folder.to_owned(), process: None };
            let mut redis = Redis { url: format!("redis://127.0.0.1:{port}"), own: Some(own) };
            // Somebody else may have taken the port just now: then the next one.
            if redis.launch().await.is_ok() {
                return Ok(redis);
            }
        }
        Err(Failure::unavailable(&program.display().to_string(), &std::io::Error::other("it does not start")))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    async fn launch(&mut self) -> Result<(), String> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let mut command = Command::new(&own.program);
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &own.port.to_string(), "--dir"]);
        // Every write is on disk before it is answered: what survives a SIGKILL is everything.
        command.arg(&own.folder).args(["--appendonly", "yes", "--appendfsync", "always"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::spawn(&mut command).map_err(|e| chain(&e))?;
        let mut waited = Duration::ZERO;
        // Whoever else answers at this port is not ours to be emptied.
        loop {
            if self.number().await.is_some_and(|number| process.number() == Some(number)) {
                break;
            }
            if process.has_ended() || waited > LIMIT {
                return Err("redis-server does not answer".to_owned());
            }
            elapsed(POLL).await;
            waited += POLL;
        }
        if let Some(own) = &mut self.own {
            own.process = Some(process);
        }
        Ok(())
    }

    /// Kills our own server, waits, and starts it again, with or without its data.
    ///
    /// # Errors
    /// It does not come back.
    pub(super) async fn restart(&mut self, down: Duration, with_data: bool) -> Result<(), String> {
        let Some(own) = &mut self.own else { return Ok(()) };
        if let Some(process) = own.process.take() {
            process.kill().await;
        }
        if !with_data {
            match std::fs::remove_dir_all(own.folder.join("appendonlydir")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(chain(&error)),
                _ => {}
            }
            // Before version 7 it was one file.
            match std::fs::remove_file(own.folder.join("appendonly.aof")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(chain(&error)),
                _ => {}
            }
        }
        elapsed(down).await;
        self.launch().await
    }

    /// Deletes everything: of a server that is not ours, everything that the processes have stored.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn empty(&self, prefix: &str) -> Result<(), RedisError> {
        if self.is_own() {
            return self.ask(Cmd::new().arg("FLUSHALL")).await.map(drop);
        }
        let mut connection = self.connection().await?;
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("*{prefix}*")).arg("COUNT").arg(STEP);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                let _: Value = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Cuts the connection on which one of the processes waits for the next record of the log. Answers whether there was one.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn cut_a_follower(&self) -> Result<bool, RedisError> {
        let mut connection = self.connection().await?;
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await?;
        let Some(id) = list.lines().find_map(follower) else { return Ok(false) };
        let killed: i64 =
            redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut connection).await?;
        Ok(killed == 1)
    }

    /// The number of the process that answers.
    async fn number(&self) -> Option<u32> {
        let mut connection = self.connection().await.ok()?;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
        process_id(&info)
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        command.query_async(&mut self.connection().await?).await
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let client = redis::Client::open(self.url.as_str())?;
        client.get_multiplexed_async_connection().await
    }
}

fn process_id(info: &str) -> Option<u32> {
    info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok())
}

/// The number of a connection that waits in XREAD under the name that `larder-redis` gives its connections.
fn follower(line: &str) -> Option<&str> {
    let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let ours = field("name") == Some("larder") && field("cmd").is_some_and(|cmd| cmd.starts_with("xread"));
    field("id").filter(|_| ours)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports are tried from one that follows from our process: another check, or anybody's server, may be there, and answers.
    /// What is ours is emptied later on.
    #[tokio::test]
    async fn a_server_of_somebody_else_at_the_same_port_is_not_taken_for_ours() {
        let theirs = larder_testkit::RedisServer::start().await;
        theirs.command(&["SET", "mine", "kept"]).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::var_os(PROGRAM).map(PathBuf::from).or_else(|| find("redis-server")).unwrap();
        let own = Own { program, port: theirs.port(), folder: folder.path().to_owned(), process: None };
        let mut redis = Redis { url: theirs.url(), own: Some(own) };
        assert!(redis.launch().await.is_err());
        assert!(redis.own.unwrap().process.is_none());
        assert_eq!(process_id("a:1\r\nprocess_id:77\r\nb:2"), Some(77));
    }

    #[test]
    fn only_a_waiting_connection_of_ours_is_a_follower() {
        let line =
            |name, cmd| format!("id=7 addr=127.0.0.1:5 laddr=x name={name} age=3 cmd={cmd} user=default");
        assert_eq!(follower(&line("larder", "xread")), Some("7"));
        assert_eq!(follower(&line("larder", "get")), None);
        assert_eq!(follower(&line("other", "xread")), None);
    }
}
