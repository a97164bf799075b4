//! What travels together: how many reads, in which commands, and whose each answer is. Pure.

use bytes::Bytes;
use larder_core::RemoteError;
use redis::{Cmd, Pipeline, Value};

use crate::lane::Failure;
use crate::reply::senseless;

/// The most reads in one batch; see `CARRIERS` in `gather.rs`.
const MOST: usize = 64;
/// The most keys of one call in one batch. Its caller waits for all of them anyway, so only others count here.
const MOST_OF_ONE: usize = 1024;
/// The bytes that the answers of a batch are to stay below: nothing overtakes on a connection, and an answer comes
/// as a whole.
const BYTES: usize = 1 << 20;
/// As [`BYTES`], for the keys of one call.
const BYTES_OF_ONE: usize = 4 << 20;
/// The size of a value before any is known. So the first batches are small.
const UNKNOWN: usize = 32 << 10;

/// How large values are, and so how many of them travel together.
#[derive(Debug)]
pub(crate) struct Size {
    typical: usize,
}

impl Size {
    pub(crate) fn unknown() -> Self {
        Size { typical: UNKNOWN }
    }

    /// How many reads of several callers.
    pub(crate) fn reads(&self) -> usize {
        (BYTES / self.typical).clamp(1, MOST)
    }

    /// How many keys of one call.
    pub(crate) fn keys_of_one(&self) -> usize {
        (BYTES_OF_ONE / self.typical).clamp(1, MOST_OF_ONE)
    }

    /// Takes a batch's answers into account: growth at once, because it is what hurts; the reverse by and by, so that one
    /// batch of small values among large ones changes little.
    pub(crate) fn learn(&mut self, answers: &[Answer]) {
        let found = answers.iter().filter_map(|answer| match answer {
            Ok(Read::Done(Some(bytes))) => Some(bytes.len()),
            _ => None,
        });
        let (values, bytes) = found.fold((0, 0), |(values, bytes), more| (values + 1, bytes + more));
        if let Some(average) = bytes.checked_div(values) {
            let average = average.max(1);
            self.typical = average.max(self.typical - self.typical.saturating_sub(average).div_ceil(4));
        }
    }
}

/// A value that somebody wants.
#[derive(Debug)]
pub(crate) struct Wanted<T> {
    pub(crate) slot: u16,
    pub(crate) name: Vec<u8>,
    pub(crate) by: T,
}

/// What came of a read that travelled with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The value, if there is one.
    Done(Option<Bytes>),
    /// Nothing: this key has to be asked for by itself.
    Apart,
}

pub(crate) type Answer = Result<Read, RemoteError>;

/// The commands of a batch: one `MGET` for the keys of each slot, and `GET` for a key that is alone in its slot.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) commands: Pipeline,
    /// How many keys each of them has.
    counts: Vec<usize>,
}

impl Batch {
    /// Of values in the order of their slots.
    pub(crate) fn of<T>(wanted: &[Wanted<T>]) -> Self {
        let mut batch = Batch { commands: Pipeline::new(), counts: Vec::new() };
        for keys in wanted.chunk_by(|one, next| one.slot == next.slot) {
            let bytes: usize = keys.iter().map(|key| key.name.len()).sum();
            let mut command = Cmd::with_capacity(keys.len() + 1, bytes + "MGET".len());
            command.arg(if keys.len() == 1 { "GET" } else { "MGET" });
            for key in keys {
                command.arg(&key.name);
            }
            batch.commands.add_command(command);
            batch.counts.push(keys.len());
        }
        batch
    }

    /// One answer to each of the values, in their order.
    pub(crate) fn answers(&self, told: Result<Vec<Result<Value, Failure>>, Failure>) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut told = match told {
            Ok(told) => told.into_iter(),
            Err(failure) => {
                let all = self.counts.iter().sum();
                return vec![Err(failure.into()); all];
            }
        };
        for &count in &self.counts {
            let for_each = |answer: Answer| std::iter::repeat_n(answer, count);
            match told.next() {
                Some(Ok(Value::Array(values))) if count > 1 && values.len() == count => {
                    answers.extend(values.into_iter().map(|told| value(told).map(Read::Done)));
                }
                Some(Ok(told)) if count == 1 => answers.push(value(told).map(Read::Done)),
                Some(Err(Failure::Refused(refusal))) if refusal.spares_others(count > 1) => {
                    answers.extend(for_each(Ok(Read::Apart)));
                }
                Some(Err(failure)) => answers.extend(for_each(Err(failure.into()))),
                Some(Ok(_)) | None => answers.extend(for_each(Err(senseless()))),
            }
        }
        answers
    }
}

/// The answer to a `GET`, or one of those to an `MGET`.
pub(crate) fn value(answer: Value) -> Result<Option<Bytes>, RemoteError> {
    match answer {
        Value::Nil => Ok(None),
        // Takes the bytes over without copying them.
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        _ => Err(senseless()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use proptest::prelude::*;

    fn found(bytes: usize) -> Answer {
        Ok(Read::Done(Some(Bytes::from(vec![0; bytes]))))
    }

    fn wanted(slot: u16, name: &str) -> Wanted<()> {
        Wanted { slot, name: name.into(), by: () }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn done(text: &str) -> Answer {
        Ok(Read::Done(Some(Bytes::copy_from_slice(text.as_bytes()))))
    }

    #[test]
    fn small_values_travel_in_full_batches_and_a_large_one_shrinks_the_next_at_once() {
        let mut size = Size::unknown();
        assert_eq!((size.reads(), size.keys_of_one()), (32, 128));
        for _ in 0..20 {
            size.learn(&[found(1000), Ok(Read::Done(None)), found(1100), Err(senseless())]);
        }
        assert_eq!((size.reads(), size.keys_of_one()), (MOST, MOST_OF_ONE));
        size.learn(&[found(2 << 20)]);
        assert_eq!((size.reads(), size.keys_of_one()), (1, 2));
        size.learn(&[found(1000)]);
        assert_eq!(size.reads(), 1, "one small value among large ones");
        size.learn(&[Ok(Read::Done(None)), Ok(Read::Apart)]);
        assert_eq!(size.reads(), 1, "what is not there says nothing");
    }

    proptest! {
        /// Whatever came before: after a batch of such values, the next one stays below its bound.
        #[test]
        fn a_batch_of_what_came_last_stays_below_its_bound(
            before in prop::collection::vec(0_usize..4 << 20, 0..8),
            bytes in 0_usize..4 << 20,
        ) {
            let mut size = Size::unknown();
            before.into_iter().for_each(|bytes| size.learn(&[found(bytes)]));
            size.learn(&[found(bytes), found(bytes)]);
            prop_assert!(size.reads() == 1 || size.reads() * bytes <= BYTES);
            prop_assert!(size.keys_of_one() == 1 || size.keys_of_one() * bytes <= BYTES_OF_ONE);
            prop_assert!((1..=MOST).contains(&size.reads()));
            for _ in 0..60 {
                size.learn(&[found(1)]);
            }
            prop_assert_eq!(size.reads(), MOST, "it is forgotten in the end");
        }
    }

    #[test]
    fn each_slot_is_one_command_and_each_value_has_its_answer() {
        let batch =
            Batch::of(&[wanted(1, "a"), wanted(1, "b"), wanted(2, "c"), wanted(3, "d"), wanted(3, "e")]);
        let packed = String::from_utf8(batch.commands.get_packed_pipeline()).unwrap();
        let words: Vec<&str> =
            packed.split("\r\n").filter(|w| w.starts_with(|c: char| c.is_alphabetic())).collect();
        assert_eq!(words, ["MGET", "a", "b", "GET", "c", "MGET", "d", "e"]);
        let told = vec![
            Ok(Value::Array(vec![bulk("A"), Value::Nil])),
            Ok(bulk("C")),
            Ok(Value::Array(vec![bulk("D"), bulk("E")])),
        ];
        assert_eq!(
            batch.answers(Ok(told)),
            [done("A"), Ok(Read::Done(None)), done("C"), done("D"), done("E")]
        );
    }

    #[test]
    fn what_makes_no_sense_is_an_error_for_those_it_concerns() {
        let batch =
            Batch::of(&[wanted(1, "a"), wanted(1, "b"), wanted(2, "c"), wanted(3, "d"), wanted(4, "e")]);
        let told = vec![Ok(Value::Array(vec![bulk("A")])), Ok(bulk("C")), Ok(Value::Int(7))];
        let no = || Err(senseless());
        assert_eq!(batch.answers(Ok(told)), [no(), no(), done("C"), no(), no()]);
        let broken = batch.answers(Err(Failure::Broken("gone".into())));
        assert_eq!(broken, vec![Err(RemoteError::disconnected("gone")); 5]);
    }

    #[test]
    fn a_refusal_that_may_be_about_another_key_has_each_asked_for_by_itself() {
        let refused = |words: &str| match redis::parse_redis_value(format!("-{words} x\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => Err(Failure::Refused(Refusal::of(&error))),
            other => panic!("{other:?}"),
        };
        let batch = Batch::of(&[wanted(1, "a"), wanted(1, "b"), wanted(2, "c")]);
        let apart = || Ok(Read::Apart);
        for words in ["MOVED 1 h:1", "ASK 1 h:1", "TRYAGAIN", "CLUSTERDOWN"] {
            assert_eq!(batch.answers(Ok(vec![refused(words), refused(words)])), [apart(), apart(), apart()]);
        }
        for words in ["CROSSSLOT", "NOPERM"] {
            let answers = batch.answers(Ok(vec![refused(words), refused(words)]));
            assert_eq!(answers[..2], [apart(), apart()]);
            assert!(answers[2].is_err(), "it was alone already");
        }
        let answers = batch.answers(Ok(vec![refused("BUSY"), refused("WRONGTYPE")]));
        assert!(answers.iter().all(Result::is_err), "asking again would change nothing");
        assert!(answers[2].as_ref().is_err_and(RemoteError::is_wrong_type));
    }
}
