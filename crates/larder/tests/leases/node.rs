//! A node, seen from the test: a process that is asked over a loopback connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::Epoch;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::answers::Answers;
use crate::processes::peer::{Peer, answer_hub};
use crate::serve;

/// The test below, which in a process of its own is a node.
const ENTRY: &str = "node::a_node_is_a_process_of_its_own_and_needs_no_redis";

pub(crate) struct Node(Peer);

/// What a node counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Right now.
    pub(crate) leases: u64,
    pub(crate) flights: u64,
    /// So far.
    pub(crate) stores: u64,
    pub(crate) stores_refused: u64,
}

impl Node {
    /// Starts a process with a cache on `redis` that loads from `database` as the `place`th node.
    pub(crate) async fn start(place: usize, redis: &str, database: SocketAddr) -> Self {
        let node = Node(Peer::start(ENTRY).await);
        assert_eq!(node.ask(&format!("begin {place} {redis} {database}")).await, "begun");
        node
    }

    /// # Panics
    /// If the process is gone.
    async fn ask(&self, question: &str) -> String {
        self.0.ask(question).await.expect("the node lives")
    }

    /// So many readers ask for `key` at one moment. `None`: the process is gone.
    pub(crate) async fn read(&self, readers: usize, key: &str) -> Option<Answers> {
        let answers: Answers = self.0.ask(&format!("read {readers} {key}")).await?.parse().unwrap();
        assert_eq!(answers.readers(), readers);
        Some(answers)
    }

    /// One reader, who wants nothing older than `token`.
    pub(crate) async fn read_at(&self, token: Epoch, key: &str) -> String {
        self.ask(&format!("at {token} {key}")).await
    }

    /// Invalidates `key`. Answers the token if that was delivered.
    pub(crate) async fn invalidate(&self, key: &str) -> Option<Epoch> {
        let answer = self.ask(&format!("invalidate {key}")).await;
        (answer != "queued").then(|| answer.parse().unwrap())
    }

    /// Is it connected, does it follow the log, and has it nothing to send? Else why not.
    pub(crate) async fn is_well(&self) -> Result<(), String> {
        let answer = self.ask("well").await;
        if answer == "well" { Ok(()) } else { Err(answer) }
    }

    pub(crate) async fn counts(&self) -> Counts {
        let answer = self.ask("counts").await;
        let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
        let [leases, flights, stores, stores_refused] = numbers[..] else { panic!("{answer}") };
        Counts { leases, flights, stores, stores_refused }
    }

    /// As SIGTERM would end it. Answers whether everything was done in time.
    pub(crate) async fn shut_down(&self, deadline: Duration) -> bool {
        self.ask(&format!("shutdown {}", deadline.as_millis())).await == "true"
    }

    /// Stops the process (SIGSTOP).
    pub(crate) fn stop(&self) {
        self.0.stop();
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.0.go_on();
    }

    /// Ends it (SIGKILL).
    pub(crate) fn kill(&self) {
        self.0.kill();
    }
}

/// As a test of its own it starts a node and talks to it. As what it starts it is the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_a_process_of_its_own_and_needs_no_redis() {
    let server = Arc::new(OnceCell::new());
    if answer_hub(move |question| serve::answer(server.clone(), question)).await {
        return;
    }
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let (database, addr) = crate::database::Database::start(crate::trial::runtime()).await;
    let node = Node::start(3, &format!("redis://{nobody}"), addr).await;
    let version = database.write();
    assert_eq!(node.read(5, "a").await, Some(Answers::all(5, version)));
    assert_eq!(database.loaders("a"), [3]);
    assert_eq!(node.invalidate("a").await, None, "queued");
    node.0.end().await;
}
