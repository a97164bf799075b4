//! Reads that wait for one server at the same moment travel together.
//!
//! A read that finds nobody on the way goes out at once. While some batches are under way on a connection, the reads that
//! come wait for one of them to return, and travel together then: the busier a node is, the less a read costs it and the
//! server. Nothing waits for time to pass.
//!
//! Batches are carried by tasks, not by the callers: whoever goes away strands nobody.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_core::{RemoteError, Runtime, Values as Answers};
use parking_lot::Mutex;
use redis::cmd;
use tokio::sync::oneshot;

use crate::batch::{Answer, Batch, Read, Size, Wanted, value};
use crate::lane::{Ask as _, Lane};
use crate::values::Place;

/// Batches under way on one connection. With one alone the server would idle while its answers are handed out here, and
/// every read would wait behind it; with many, each is small. Measured with 256 readers: four of 64 reads are as fast as two
/// of 128, and a read waits less for the next to return.
const CARRIERS: usize = 4;
/// Reads that wait for their batch, on one connection. Those beyond go by themselves, as if there were no batches.
const WAITING: usize = 4096;
/// Keys of one call that are asked for by themselves at a time.
const APART: usize = 32;

/// The bytes under a name.
pub(crate) async fn get(place: &Place, name: &[u8]) -> Result<Option<Bytes>, RemoteError> {
    let slot = place.slot_of(name);
    let reads = place.reads(place.server_of(slot)?)?;
    match reads.read(slot, name).await? {
        Read::Done(found) => Ok(found),
        Read::Apart => get_apart(place, name).await,
    }
}

/// The bytes under each of these names, in their order.
pub(crate) async fn get_many(place: &Place, names: Vec<Vec<u8>>) -> Answers {
    let mut answers: Vec<(usize, Result<Option<Bytes>, RemoteError>)> = Vec::with_capacity(names.len());
    let mut servers: BTreeMap<usize, Vec<Wanted<usize>>> = BTreeMap::new();
    for (at, name) in names.into_iter().enumerate() {
        let slot = place.slot_of(&name);
        match place.server_of(slot) {
            Ok(server) => servers.entry(server).or_default().push(Wanted { slot, name, by: at }),
            Err(failure) => answers.push((at, Err(failure.into()))),
        }
    }
    let trips = servers.into_iter().map(|(server, wanted)| get_many_at(place, server, wanted));
    answers.extend(join_all(trips).await.into_iter().flatten());
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Those that one server has.
async fn get_many_at(
    place: &Place,
    server: usize,
    mut wanted: Vec<Wanted<usize>>,
) -> Vec<(usize, Result<Option<Bytes>, RemoteError>)> {
    let reads = match place.reads(server) {
        Ok(reads) => reads,
        Err(failure) => {
            let error = RemoteError::from(failure);
            return wanted.into_iter().map(|wanted| (wanted.by, Err(error.clone()))).collect();
        }
    };
    wanted.sort_by_key(|wanted| wanted.slot);
    let mut answers = Vec::with_capacity(wanted.len());
    let mut apart = Vec::new();
    let mut left = &wanted[..];
    while !left.is_empty() {
        let most = reads.queue.lock().size.keys_of_one();
        let (batch, behind) = left.split_at(most.min(left.len()));
        left = behind;
        for (wanted, answer) in batch.iter().zip(reads.fetch(batch).await) {
            match answer {
                Ok(Read::Done(found)) => answers.push((wanted.by, Ok(found))),
                Ok(Read::Apart) => apart.push(wanted),
                Err(error) => answers.push((wanted.by, Err(error))),
            }
        }
    }
    for some in apart.chunks(APART) {
        let gets = some.iter().map(async |wanted| (wanted.by, get_apart(place, &wanted.name).await));
        answers.extend(join_all(gets).await);
    }
    answers
}

/// By itself, along the redirections of a cluster.
async fn get_apart(place: &Place, name: &[u8]) -> Result<Option<Bytes>, RemoteError> {
    let mut get = cmd("GET");
    get.arg(name);
    value(place.holder(name).ask(&get).await?)
}

/// The reads on one connection.
#[derive(Debug)]
pub(crate) struct Reads {
    lane: Arc<Lane>,
    runtime: Arc<dyn Runtime>,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Wanted<oneshot::Sender<Answer>>>,
    /// At most [`CARRIERS`].
    carriers: usize,
    /// One of the carriers is about to take a batch: whoever comes now travels with it.
    boarding: bool,
    size: Size,
}

impl Reads {
    pub(crate) fn on(lane: Arc<Lane>, runtime: &Arc<dyn Runtime>) -> Arc<Self> {
        let queue = Queue { waiting: VecDeque::new(), carriers: 0, boarding: false, size: Size::unknown() };
        Arc::new(Reads { lane, runtime: Arc::clone(runtime), queue: Mutex::new(queue) })
    }

    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Reads one value, with those of others.
    async fn read(self: &Arc<Self>, slot: u16, name: &[u8]) -> Answer {
        let (by, told) = oneshot::channel();
        let carrier = {
            let mut queue = self.queue.lock();
            if queue.waiting.len() >= WAITING {
                return Ok(Read::Apart);
            }
            queue.waiting.push_back(Wanted { slot, name: name.to_vec(), by });
            self.carrier(&mut queue)
        };
        if let Some(carrier) = carrier {
            self.runtime.spawn(Box::pin(carrier.carry()));
        }
        told.await.unwrap_or_else(|_| Err(RemoteError::disconnected("nobody carries reads any more")))
    }

    /// A carrier for what waits, unless one is about to take it, or there are enough.
    fn carrier(self: &Arc<Self>, queue: &mut Queue) -> Option<Carrier> {
        if queue.boarding || queue.carriers == CARRIERS || queue.waiting.is_empty() {
            return None;
        }
        queue.carriers += 1;
        queue.boarding = true;
        Some(Carrier { reads: Arc::clone(self), done: false })
    }

    /// Sends one batch, and learns from its answers. Its values are in the order of their slots.
    async fn fetch<T>(&self, wanted: &[Wanted<T>]) -> Vec<Answer> {
        let batch = Batch::of(wanted);
        let answers = batch.answers(self.lane.ask_all(&batch.commands).await);
        self.queue.lock().size.learn(&answers);
        answers
    }
}

/// Takes batches to the server and answers back, for as long as reads wait.
struct Carrier {
    reads: Arc<Reads>,
    /// It is not counted any more.
    done: bool,
}

impl Carrier {
    async fn carry(mut self) {
        loop {
            after_the_others().await;
            let wanted = self.board();
            if wanted.is_empty() {
                return;
            }
            let answers = self.reads.fetch(&wanted).await;
            for (wanted, answer) in wanted.into_iter().zip(answers) {
                // Who has gone away needs no answer.
                let _ = wanted.by.send(answer);
            }
            if !self.returns() {
                return;
            }
        }
    }

    /// Takes what waits, in the order of the slots. Nothing: the end.
    fn board(&mut self) -> Vec<Wanted<oneshot::Sender<Answer>>> {
        let mut queue = self.reads.queue.lock();
        queue.boarding = false;
        let most = queue.size.reads();
        let mut wanted = Vec::with_capacity(most.min(queue.waiting.len()));
        while wanted.len() < most
            && let Some(next) = queue.waiting.pop_front()
        {
            if !next.by.is_closed() {
                wanted.push(next);
            }
        }
        if wanted.is_empty() {
            queue.carriers -= 1;
            self.done = true;
        }
        let next = self.reads.carrier(&mut queue);
        drop(queue);
        if let Some(next) = next {
            self.reads.runtime.spawn(Box::pin(next.carry()));
        }
        wanted.sort_by_key(|wanted| wanted.slot);
        wanted
    }

    /// Back from the server. False: another one takes the next batch.
    fn returns(&mut self) -> bool {
        let mut queue = self.reads.queue.lock();
        if queue.boarding {
            queue.carriers -= 1;
            self.done = true;
        } else {
            queue.boarding = true;
        }
        !self.done
    }
}

impl Drop for Carrier {
    /// The runtime has ended, or is about to: nobody may be left to carry the others.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let stranded = {
            let mut queue = self.reads.queue.lock();
            queue.carriers -= 1;
            queue.boarding = false;
            std::mem::take(&mut queue.waiting)
        };
        // Wakes them, so not under the lock.
        drop(stranded);
    }
}

/// Lets everything run first that could run now, so that what is about to read travels with this batch.
async fn after_the_others() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
