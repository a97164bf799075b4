//! A node, seen from the test: a process that is asked over a loopback connection.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use larder::Epoch;
use larder_testkit::{ChildProcess, RedisServer, wait_until};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::serve;
use crate::wire::Caller;

/// Makes the test below, run in a process of its own, a node that answers whoever listens here.
const HUB: &str = "LARDER_TEST_HUB";
const ENTRY: &str = "node::a_node_is_a_process_of_its_own_that_ends_when_nobody_asks_it_any_more";

pub(crate) struct Node {
    /// Its place among the nodes of the trial.
    pub(crate) id: usize,
    caller: Caller,
    /// `None`: killed.
    process: Mutex<Option<ChildProcess>>,
}

/// How a node answers a health probe.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) status: String,
    pub(crate) state: String,
    pub(crate) pending: usize,
    pub(crate) position: Option<Epoch>,
}

/// A value as a reader got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) key: String,
    pub(crate) version: u64,
    /// The name of an outcome, or `unsaid`.
    pub(crate) outcome: String,
}

impl Node {
    /// Starts a process with a cache on `redis` that loads from `database`. Returns once it answers.
    pub(crate) async fn start(id: usize, redis: &str, database: SocketAddr) -> Self {
        let hub = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let process = ChildProcess::spawn(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", ENTRY, "--nocapture"])
                .env(HUB, hub.local_addr().unwrap().to_string())
                .stdout(Stdio::null()),
        )
        .unwrap();
        let (stream, _) = hub.accept().await.unwrap();
        let node = Node { id, caller: Caller::over(stream), process: Mutex::new(Some(process)) };
        assert_eq!(node.ask(&format!("begin {redis} {database}")).await.as_deref(), Some("begun"));
        node
    }

    /// `None`: the process is gone.
    pub(crate) async fn ask(&self, question: &str) -> Option<String> {
        self.caller.ask(question).await
    }

    /// A read; `None`: the process is gone.
    pub(crate) async fn read(&self, question: &str) -> Option<Result<Got, String>> {
        let answer = self.ask(question).await?;
        let got = match *answer.split(' ').collect::<Vec<_>>() {
            [key, version, outcome] => version.parse().ok().map(|version| Got {
                key: key.to_owned(),
                version,
                outcome: outcome.to_owned(),
            }),
            _ => None,
        };
        Some(got.ok_or(answer))
    }

    /// A health probe; `None`: the process is gone.
    pub(crate) async fn health(&self) -> Option<Health> {
        let answer = self.ask("health").await?;
        let [status, state, pending, position] = answer.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{answer}")
        };
        Some(Health {
            status: status.to_owned(),
            state: state.to_owned(),
            pending: pending.parse().unwrap(),
            position: position.parse().ok(),
        })
    }

    /// Hits so far: from memory, from Redis.
    pub(crate) async fn hits(&self) -> (u64, u64) {
        let answer = self.ask("hits").await.expect("the node lives");
        let (memory, remote) = answer.split_once(' ').unwrap();
        (memory.parse().unwrap(), remote.parse().unwrap())
    }

    /// Stops the process (SIGSTOP).
    pub(crate) fn stop(&self) {
        self.process.lock().as_mut().expect("the node lives").pause().unwrap();
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.process.lock().as_mut().expect("the node lives").resume().unwrap();
    }

    /// Ends it (SIGKILL).
    pub(crate) fn kill(&self) {
        drop(self.process.lock().take());
    }
}

/// As a test of its own it starts a node, talks to it and lets go of it. As what it starts it is the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_a_process_of_its_own_that_ends_when_nobody_asks_it_any_more() {
    if let Some(hub) = std::env::var_os(HUB) {
        return serve::serve(hub.to_str().unwrap()).await;
    }
    let server = RedisServer::start().await;
    let nowhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let node = Node::start(0, &server.url(), nowhere.local_addr().unwrap()).await;
    let health = node.health().await.unwrap();
    assert_eq!((health.status.as_str(), health.state.as_str(), health.pending), ("ok", "following", 0));
    assert!(node.ask("hard row:1:1").await.unwrap().starts_with("delivered "));

    let Node { caller, process, .. } = node;
    let mut process = process.into_inner().unwrap();
    assert_ne!(process.id(), std::process::id());
    drop(caller);
    wait_until(Duration::from_secs(10), "the node to end", || process.has_ended()).await;
}
