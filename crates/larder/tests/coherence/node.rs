//! A node, seen from the test: a process that is asked over a loopback connection.

use std::net::SocketAddr;
use std::sync::Arc;

use larder::Epoch;
use larder_testkit::RedisServer;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::processes::peer::{Peer, answer_hub};
use crate::serve;

/// The test below, which in a process of its own is a node.
const ENTRY: &str = "node::a_node_is_a_process_of_its_own_that_ends_when_nobody_asks_it_any_more";

pub(crate) struct Node {
    /// Its place among the nodes of the trial.
    pub(crate) id: usize,
    peer: Peer,
}

/// How a node answers a health probe.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) status: String,
    pub(crate) state: String,
    pub(crate) pending: usize,
    pub(crate) position: Option<Epoch>,
    /// How often a part of the log went by unseen.
    pub(crate) gaps: u64,
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
        let node = Node { id, peer: Peer::start(ENTRY).await };
        assert_eq!(node.ask(&format!("begin {redis} {database}")).await.as_deref(), Some("begun"));
        node
    }

    /// `None`: the process is gone.
    pub(crate) async fn ask(&self, question: &str) -> Option<String> {
        self.peer.ask(question).await
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
        let [status, state, pending, position, gaps] = answer.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{answer}")
        };
        Some(Health {
            status: status.to_owned(),
            state: state.to_owned(),
            pending: pending.parse().unwrap(),
            position: position.parse().ok(),
            gaps: gaps.parse().unwrap(),
        })
    }

    /// Has every load let go of everything?
    pub(crate) async fn is_idle(&self) -> bool {
        self.ask("idle").await.expect("the node lives") == "idle"
    }

    /// Hits so far: from memory, from Redis.
    pub(crate) async fn hits(&self) -> (u64, u64) {
        let answer = self.ask("hits").await.expect("the node lives");
        let (memory, remote) = answer.split_once(' ').unwrap();
        (memory.parse().unwrap(), remote.parse().unwrap())
    }

    /// Stops the process (SIGSTOP).
    pub(crate) fn stop(&self) {
        self.peer.stop();
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.peer.go_on();
    }

    /// Ends it (SIGKILL).
    pub(crate) fn kill(&self) {
        self.peer.kill();
    }
}

/// As a test of its own it starts a node, talks to it and lets go of it. As what it starts it is the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_a_process_of_its_own_that_ends_when_nobody_asks_it_any_more() {
    let server = Arc::new(OnceCell::new());
    if answer_hub(move |question| serve::answer(server.clone(), question)).await {
        return;
    }
    let server = RedisServer::start().await;
    let nowhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let node = Node::start(0, &server.url(), nowhere.local_addr().unwrap()).await;
    let health = node.health().await.unwrap();
    assert_eq!((health.status.as_str(), health.state.as_str(), health.pending), ("ok", "following", 0));
    assert!(node.ask("hard row:1:1").await.unwrap().starts_with("delivered "));

    node.peer.end().await;
}
