//! One direction of one connection.

use std::time::Duration;
use std::{future, io};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::fault::{Direction, Said, Setting, Verdict};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks held before we stop reading, which makes the sender feel it: 1 MiB a lane.
const QUEUE: usize = 64;

/// Bytes with the time they came. No bytes mean that the sender has closed.
struct Chunk {
    came: Instant,
    bytes: Vec<u8>,
}

/// Carries bytes until the sender closes or the receiver is gone, then closes towards the receiver.
///
/// Reading goes on while chunks wait to be written, else a latency would add up chunk by chunk. `resets` is how many
/// resets had been ordered before the connection was accepted, `said` is shared by its two directions.
pub(super) async fn carry(
    direction: Direction,
    resets: u64,
    said: &Said,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut setting: watch::Receiver<Setting>,
) {
    let (queue, mut waiting) = mpsc::channel(QUEUE);
    let read = async move {
        loop {
            let mut bytes = vec![0; CHUNK];
            // An error is a close without manners. It goes through the queue too: a black hole hides it.
            let count = from.read(&mut bytes).await.unwrap_or(0);
            bytes.truncate(count);
            if direction == Direction::Requests {
                said.hear(&bytes);
            }
            if queue.send(Chunk { came: Instant::now(), bytes }).await.is_err() || count == 0 {
                break;
            }
        }
        future::pending::<()>().await;
    };
    let write = async {
        while let Some(chunk) = waiting.recv().await {
            let last = chunk.bytes.is_empty();
            if deliver(chunk, direction, resets, said, &mut to, &mut setting).await.is_err() || last {
                break;
            }
        }
        // Fails only if the receiver is gone already.
        let _ = to.shutdown().await;
    };
    select! {
        () = read => {}
        () = write => {}
    }
}

/// Writes `chunk` when and as the fault of the moment, which may change meanwhile, allows.
async fn deliver(
    chunk: Chunk,
    direction: Direction,
    resets: u64,
    said: &Said,
    to: &mut WriteHalf<'_>,
    setting: &mut watch::Receiver<Setting>,
) -> io::Result<()> {
    let mut rest = chunk.bytes.as_slice();
    loop {
        let verdict = setting.borrow_and_update().verdict(resets, said, direction);
        let (count, wait) = match verdict {
            Verdict::Pass => (rest.len(), Duration::ZERO),
            Verdict::Age(age) => (rest.len(), age.saturating_sub(chunk.came.elapsed())),
            Verdict::Piece(bytes, every) => (bytes.min(rest.len()), every),
            Verdict::Hold => {
                setting.changed().await.map_err(io::Error::other)?;
                continue;
            }
        };
        if !wait.is_zero() {
            select! {
                changed = setting.changed() => {
                    changed.map_err(io::Error::other)?;
                    continue;
                }
                () = sleep(wait) => {}
            }
        }
        let (now, later) = rest.split_at(count);
        to.write_all(now).await?;
        rest = later;
        if rest.is_empty() {
            return Ok(());
        }
    }
}
