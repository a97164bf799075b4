//! How reads were answered, for those ways of reading that do not say: by the events that the engine tells while it answers.
//!
//! An event belongs to the reader whose future was being polled. The answer to a load that a task of its own has carried is
//! told in that task; it belongs to its leader if no other event says otherwise.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};

use larder_core::{BoxFuture, Outcome};

use crate::executor::Process;
use crate::loads::KeyId;
use crate::oracle::{Called, Seq};

/// A reader, by number; 0: none.
pub(crate) type Reader = u64;

/// Answers of one process and key that are remembered.
const ANSWERS: usize = 64;

thread_local! {
    /// Whose future is being polled: a run has one thread.
    static POLLED: Cell<Reader> = const { Cell::new(0) };
}

/// Who is being polled.
pub(crate) fn polled() -> Reader {
    POLLED.get()
}

/// The future of a reader.
pub(crate) struct Reads<'a, T> {
    pub(crate) reader: Reader,
    pub(crate) work: BoxFuture<'a, T>,
}

impl<T> Future for Reads<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let before = POLLED.replace(self.reader);
        let done = self.work.as_mut().poll(cx);
        POLLED.set(before);
        done
    }
}

/// One event.
#[derive(Clone, Copy, Debug)]
struct Answer {
    at: Seq,
    to: Reader,
    outcome: Outcome,
}

/// The last answers.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    answers: BTreeMap<(Process, KeyId), VecDeque<Answer>>,
    readers: Reader,
}

impl Heard {
    pub(crate) fn reader(&mut self) -> Reader {
        self.readers += 1;
        self.readers
    }

    pub(crate) fn answer(&mut self, process: Process, key: KeyId, at: Seq, to: Reader, outcome: Outcome) {
        let answers = self.answers.entry((process, key)).or_default();
        if answers.len() == ANSWERS {
            answers.pop_front();
        }
        answers.push_back(Answer { at, to, outcome });
    }

    /// How a read that began at `since` was answered, as far as that can be told.
    pub(crate) fn called(&self, process: Process, key: KeyId, since: Seq, reader: Reader) -> Called {
        let answers = || self.answers.get(&(process, key)).into_iter().flatten();
        if let Some(own) = answers().rev().find(|answer| answer.to == reader) {
            return called(own.outcome);
        }
        let mut others = answers().filter(|answer| answer.to == 0 && answer.at >= since);
        let Some(first) = others.next() else { return Called::Either };
        match others.all(|other| called(other.outcome) == called(first.outcome)) {
            true => called(first.outcome),
            false => Called::Either,
        }
    }
}

pub(crate) fn called(outcome: Outcome) -> Called {
    if outcome == Outcome::Stale { Called::Stale } else { Called::Fresh }
}
