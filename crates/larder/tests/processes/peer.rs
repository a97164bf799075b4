//! A process that is asked over a loopback connection: this test program once more, with one test to run.

use std::process::{Command, Stdio};
use std::time::Duration;

use larder_testkit::{ChildProcess, wait_until};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};

use super::wire::{self, Caller};

/// Names the address at which a process finds who asks it.
const HUB: &str = "LARDER_TEST_HUB";

/// How long a process may take to begin: far longer than it does.
const BEGUN: Duration = Duration::from_secs(60);

pub(crate) struct Peer {
    caller: Caller,
    /// `None`: killed.
    process: Mutex<Option<ChildProcess>>,
}

impl Peer {
    /// Starts a process that runs the test `entry` and nothing else. There [`answer_hub`] serves whoever has started it.
    pub(crate) async fn start(entry: &str) -> Self {
        let hub = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut process = ChildProcess::spawn(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", entry, "--nocapture"])
                .env(HUB, hub.local_addr().unwrap().to_string())
                .stdout(Stdio::null()),
        )
        .unwrap();
        let (stream, _) = tokio::select! {
            accepted = hub.accept() => accepted.unwrap(),
            () = wait_until(BEGUN, "a process to begin, or to end", || process.has_ended()) => {
                panic!("the process has ended before it asked who wants something of it")
            },
        };
        Peer { caller: Caller::over(stream), process: Mutex::new(Some(process)) }
    }

    /// The answer to a question; `None`: the process is gone.
    pub(crate) async fn ask(&self, question: &str) -> Option<String> {
        self.caller.ask(question).await
    }

    /// Stops the process (SIGSTOP).
    pub(crate) fn stop(&self) {
        self.process.lock().as_mut().expect("the process lives").pause().unwrap();
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn go_on(&self) {
        self.process.lock().as_mut().expect("the process lives").resume().unwrap();
    }

    /// Ends it (SIGKILL).
    pub(crate) fn kill(&self) {
        drop(self.process.lock().take());
    }

    /// Asks nothing any more, and waits until the process has ended of itself.
    ///
    /// # Panics
    /// If it was killed, or goes on.
    pub(crate) async fn end(self) {
        let Peer { caller, process } = self;
        let mut process = process.into_inner().expect("the process lives");
        assert_ne!(process.id(), std::process::id());
        drop(caller);
        wait_until(Duration::from_secs(10), "the process to end", || process.has_ended()).await;
    }
}

/// Is this a process that [`Peer::start`] has started? Then answers whoever that was, until they are gone.
pub(crate) async fn answer_hub<F>(answer: impl Fn(String) -> F) -> bool
where
    F: Future<Output = String> + Send + 'static,
{
    let Some(hub) = std::env::var_os(HUB) else { return false };
    wire::answer_all(TcpStream::connect(hub.to_str().unwrap()).await.unwrap(), answer).await;
    true
}
