//! Keeping each partition to its share: in memory where entries are put, in the remote tier before they are stored.

use std::time::Duration;

use super::handle::Handle;
use super::store::Held;
use crate::accounts::Part;
use crate::engine::{Fetched, Over};
use crate::entry::Entry;
use crate::envelope::Envelope;
use crate::event::Event;
use crate::key::Key;
use crate::log::Epoch;
use crate::outcome::SkipReason;
use crate::remote::{RemoteError, Stored};
use crate::runtime::Moment;
use crate::stats::Count;

/// What a value takes in the remote tier beside its bytes and its key, in bytes: what Redis keeps of each.
const REMOTE_OVERHEAD: u64 = 100;

/// What a value is counted as in the remote tier.
pub(super) struct Reserved {
    share: Vec<u8>,
    /// Of them, what is not the value.
    beside: u64,
    bytes: u64,
    left: Duration,
}

impl Reserved {
    /// What is counted too much now that it was stored, or was not. A store without an answer may have been done: it stays
    /// counted, for as long as the value would live.
    pub(super) fn excess(self, answer: &Result<Stored, RemoteError>) -> Option<Reserved> {
        match *answer {
            Ok(Stored::Stored) => None,
            Ok(Stored::Replaced { bytes, left }) => Some(self.of(bytes, left)),
            Ok(Stored::Overtaken) => Some(self),
            Err(ref error) => error.is_answer().then_some(self),
        }
    }

    /// The same for another value of its key.
    fn of(self, value: u64, left: Duration) -> Reserved {
        Reserved { bytes: value.saturating_add(self.beside), left, ..self }
    }
}

/// Why a value is not stored in the remote tier.
#[derive(Debug)]
pub(super) enum Unreserved {
    /// Its partition would have too much.
    Full,
    /// Something newer is there.
    Overtaken,
    /// The tier does not say.
    NoAnswer,
}

/// What became of a value in the remote tier that was to go.
enum TakenOut {
    /// It was to stay.
    Kept,
    /// It is gone, and counts no more.
    GivenBack,
    /// There was nothing, or nothing that is counted as far as is known.
    Nothing,
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// To whom the key of an entry counts in memory, if its share of that is bounded.
    fn part<'k>(&'k self, key: &'k Key) -> Option<Part<'k>> {
        let (accounts, share) = (self.accounts.as_ref()?, self.policy.share.as_ref()?);
        Some(Part { accounts, partition: share.whose.partition(key.as_bytes())?, bound: share.memory? })
    }

    /// Puts an entry into memory, counted to its share.
    pub(super) fn keep(&self, key: &Key, entry: &Entry, over: &Over<'_>, now: Moment) -> bool {
        self.engine.admit(key, self.for_memory(entry, now), self.part(key).as_ref(), over, now)
    }

    /// Why memory did not take an entry of this weight, if that is because it never does; counted, where it is its share.
    pub(super) fn refused_by_memory(&self, key: &Key, weight: u32) -> Option<SkipReason> {
        let refused = self.engine.memory.refuses(weight, self.part(key).as_ref());
        if refused == Some(SkipReason::Share) {
            self.counters.count(Count::ShareRefused);
        }
        refused
    }

    /// What a value of so many bytes would be counted as in the remote tier.
    fn to_reserve(&self, key: &Key, value: u64, left: Duration) -> Option<(Reserved, u64)> {
        let share = self.policy.share.as_ref()?;
        let (limit, partition) = (share.remote?, share.whose.partition(key.as_bytes())?);
        let beside = key.as_bytes().len() as u64 + REMOTE_OVERHEAD;
        let share = share.whose.name(self.namespace(), partition);
        Some((Reserved { share, beside, bytes: value + beside, left }, limit))
    }

    /// Counts an entry of `size` bytes to its share of the remote tier, where it is about to be stored. `None`: nothing
    /// bounds it.
    ///
    /// Refused, it is kept by memory alone; what is older in the remote tier must not be served on in its place, here once
    /// memory has forgotten it and in other processes at once, so it goes. That may be room enough: a partition that has its
    /// share still renews what it has.
    pub(super) async fn reserve(
        &self,
        key: &Key,
        size: usize,
        left: Duration,
        (epoch, stored_at_ms): (Epoch, u64),
    ) -> Result<Option<Reserved>, Unreserved> {
        let (Some((reserved, limit)), Some(remote)) =
            (self.to_reserve(key, size as u64, left), &self.engine.remote)
        else {
            return Ok(None);
        };
        let reserve = async || {
            let Reserved { share, bytes, left, .. } = &reserved;
            let answer = remote.reserve(&*self.engine.runtime, share, *bytes, *left, limit).await;
            answer.ok_or(Unreserved::NoAnswer)
        };
        if reserve().await? {
            return Ok(Some(reserved));
        }
        let newer = |there: &Envelope| {
            let of_line = there.epoch.line == epoch.line;
            of_line && (there.epoch.at, there.stored_at_ms) > (epoch.at, stored_at_ms)
        };
        match self.take_out_unless(key, newer).await {
            TakenOut::Kept => Err(Unreserved::Overtaken),
            TakenOut::GivenBack if reserve().await? => Ok(Some(reserved)),
            TakenOut::GivenBack | TakenOut::Nothing => Err(Unreserved::Full),
        }
    }

    /// A value was not stored in the remote tier because of its share. Other processes that wait for it need not wait for
    /// each other: what they load will not be there either.
    pub(super) fn not_reserved(&self, key: &Key, why: &Unreserved, held: Held) {
        match why {
            Unreserved::Full => {
                if let Held::Lease(lease) = held {
                    lease.apart();
                }
                self.counters.count(Count::ShareRefused);
                let key = key.to_string();
                self.engine.events.emit(|| Event::Skip { key, reason: SkipReason::Share });
            }
            Unreserved::Overtaken => self.counters.count(Count::StoresRefused),
            Unreserved::NoAnswer => {
                self.counters.count(Count::StoreErrors);
                let error = "the remote tier does not say whether there is room in its share".to_owned();
                self.engine.events.emit(|| Event::StoreError { key: key.clone(), error });
            }
        }
    }

    /// Gives back what is counted too much. Best effort: it ends with the life of what it was counted for.
    pub(super) async fn give_back(&self, excess: Reserved) {
        if let Some(remote) = &self.engine.remote {
            let Reserved { share, bytes, left, .. } = &excess;
            remote.give_back(&*self.engine.runtime, share, *bytes, *left).await;
        }
    }

    /// Removes what the remote tier has under a key, and counts it to its share no more.
    pub(super) async fn take_out(&self, key: &Key) {
        if self.to_reserve(key, 0, Duration::ZERO).is_some() {
            self.take_out_unless(key, |_| false).await;
        } else if let Some(remote) = &self.engine.remote {
            remote.remove(&*self.engine.runtime, &self.engine.events, key.clone()).await;
        }
    }

    /// Two steps, between which others may store or take out under the same key: then the share is counted wrong by one
    /// value until its life is over.
    async fn take_out_unless(&self, key: &Key, stays: impl Fn(&Envelope) -> bool) -> TakenOut {
        let Some(remote) = &self.engine.remote else { return TakenOut::Nothing };
        let (runtime, events) = (&*self.engine.runtime, &self.engine.events);
        let there = match remote.bytes(runtime, key.as_bytes()).await {
            Some(Ok(None)) => return TakenOut::Nothing,
            Some(Ok(Some(bytes))) => match Fetched::read(key.as_bytes(), &bytes) {
                Fetched::Envelope(there, _) if stays(&there) => return TakenOut::Kept,
                Fetched::Envelope(there, _) => Some((there, bytes.len() as u64)),
                Fetched::Rejected(..) | Fetched::Nothing => None,
            },
            Some(Err(_)) | None => None,
        };
        let removed = remote.remove(runtime, events, key.clone()).await;
        let Some((there, size)) = there.filter(|_| removed) else { return TakenOut::Nothing };
        let life = there.life.fresh_for.saturating_add(there.life.stale_for);
        let ends = Duration::from_millis(there.stored_at_ms).saturating_add(life);
        let left = ends.saturating_sub(Duration::from_millis(remote.driver.server_millis(runtime.now())));
        if let Some((counted, _)) = self.to_reserve(key, size, left) {
            self.give_back(counted).await;
        }
        TakenOut::GivenBack
    }
}
