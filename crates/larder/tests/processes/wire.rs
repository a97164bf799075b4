//! Questions and answers between processes: lines on a loopback connection, many under way at a time.
//!
//! A question is `<number> <text>`, its answer `<number> <text>`, in whatever order answers are ready.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Lines that wait to be written, at the most: more than there are tasks that ask.
const QUEUE: usize = 1024;

/// Answers by the number of their question; `None` once the connection is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<String>>>>>;

/// The side that asks.
pub(crate) struct Caller {
    next: AtomicU64,
    lines: mpsc::Sender<String>,
    waiting: Waiting,
}

impl Caller {
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let (lines, queue) = mpsc::channel(QUEUE);
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(write(queue, writer));
        let answers = waiting.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(reader).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                let Some((number, answer)) = line.split_once(' ') else { break };
                let number: u64 = number.parse().expect("an answer begins with its number");
                let asker = answers.lock().as_mut().and_then(|waiting| waiting.remove(&number));
                // Who asked may have gone.
                let _ = asker.map(|asker| asker.send(answer.to_owned()));
            }
            // Those who wait are told by their senders' end.
            answers.lock().take();
        });
        Caller { next: AtomicU64::new(0), lines, waiting }
    }

    /// The answer; `None` if the other side is gone.
    pub(crate) async fn ask(&self, question: &str) -> Option<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answer) = oneshot::channel();
        self.waiting.lock().as_mut()?.insert(number, asker);
        self.lines.send(format!("{number} {question}\n")).await.ok()?;
        answer.await.ok()
    }
}

/// Answers whoever connects, on a port of its own. It ends with the test's runtime.
pub(crate) async fn answer_everybody<F>(
    answer: impl Fn(String) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = String> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, answer.clone()));
        }
    });
    addr
}

/// The side that answers, until the connection ends.
pub(crate) async fn answer_all<F>(stream: TcpStream, answer: impl Fn(String) -> F)
where
    F: Future<Output = String> + Send + 'static,
{
    stream.set_nodelay(true).unwrap();
    let (reader, writer) = stream.into_split();
    let (lines, queue) = mpsc::channel(QUEUE);
    tokio::spawn(write(queue, writer));
    let mut reader = BufReader::new(reader).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        let Some((number, question)) = line.split_once(' ') else { return };
        let (number, answer, lines) = (number.to_owned(), answer(question.to_owned()), lines.clone());
        tokio::spawn(async move {
            let answer = answer.await;
            // The asker may have gone.
            let _ = lines.send(format!("{number} {answer}\n")).await;
        });
    }
}

async fn write(mut lines: mpsc::Receiver<String>, mut writer: OwnedWriteHalf) {
    while let Some(line) = lines.recv().await {
        if writer.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}
