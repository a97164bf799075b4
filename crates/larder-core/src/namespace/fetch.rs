//! Reading what the remote tier has, for a handle: from bytes to an entry that may be served.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::handle::Handle;
use super::store::weight;
use crate::codec::unpack;
use crate::engine::{Fetched, Over};
use crate::entry::{AnyValue, Entry, Freshness, Origin};
use crate::envelope::Reject;
use crate::event::Event;
use crate::key::Key;
use crate::log::{Mark, Verdict};
use crate::policy::Content;
use crate::runtime::Moment;
use crate::stats::Count;

/// What the remote tier has under a key, for a handle.
pub(crate) enum Fetch {
    /// An entry that is valid and not expired, and how its bytes begin.
    Entry(Entry, Bytes),
    /// Nothing of use; and how the bytes begin that are there, if any are.
    Rejected(Option<Bytes>),
}

impl Fetch {
    pub(crate) fn entry(self) -> Option<Entry> {
        match self {
            Fetch::Entry(entry, _) => Some(entry),
            Fetch::Rejected(_) => None,
        }
    }
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// May this handle ask the remote tier now? A node that has heard of the log too long ago cannot tell what is valid of
    /// what others have loaded.
    pub(crate) fn asks_remote(&self) -> bool {
        self.uses_remote() && self.engine.node.serves_any(self.engine.clock.now())
    }

    /// The entry of `key` in the remote tier, if it is valid and not expired. It enters memory on the way.
    pub(crate) async fn fetch(self: &Arc<Self>, key: &Key) -> Fetch {
        match &self.engine.remote {
            Some(remote) if self.asks_remote() => {
                self.read(key, remote.fetch(&*self.engine.runtime, key.as_bytes()).await)
            }
            _ => Fetch::Rejected(None),
        }
    }

    /// What the remote tier's answer is to this handle. An entry enters memory.
    pub(crate) fn read(self: &Arc<Self>, key: &Key, fetched: Fetched) -> Fetch {
        let (Some(remote), Some(codec)) = (&self.engine.remote, &self.codec) else {
            return Fetch::Rejected(None);
        };
        let rejected = |reject: Reject, head| {
            self.counters.count(Count::Rejected);
            self.engine.events.emit(|| Event::Rejected { key: key.clone(), reason: reject.as_str() });
            // A store that is under way will overwrite it.
            if reject.is_damage() && !self.engine.is_storing(key) {
                self.remove_remotely(key);
            }
            Fetch::Rejected(Some(head))
        };
        let (envelope, head) = match fetched {
            Fetched::Envelope(envelope, head) => (envelope, head),
            Fetched::Rejected(reject, head) => return rejected(reject, head),
            Fetched::Nothing => return Fetch::Rejected(None),
        };
        if envelope.schema != self.schema || envelope.codec != codec.id() {
            return rejected(Reject::Schema, head);
        }
        let (verdict, n) = remote.verdict(&envelope);
        // The answer may have come late: by now this node may have heard of the log too long ago to tell.
        if verdict == Verdict::Dead || !self.engine.node.serves_any(self.engine.clock.now()) {
            self.counters.count(Count::Unverified);
            return Fetch::Rejected(Some(head));
        }
        let payload = match unpack(envelope.compression, &envelope.payload, self.policy.max_stored_size) {
            Ok(payload) => payload,
            Err(reject) => return rejected(reject, head),
        };
        let Ok(value) = codec.decode(&payload) else {
            return rejected(Reject::Decode, head);
        };
        // Both ages by the server's time: what the calendar of this machine does is of no matter.
        let now = self.engine.runtime.now();
        let age = remote.driver.server_millis(now).saturating_sub(envelope.stored_at_ms);
        let stored = now.minus(Duration::from_millis(age));
        let learns = self.policy.adaptive.is_some();
        let origin = Origin {
            mark: Mark { n, epoch: Some(envelope.epoch), loaded: Moment::default() },
            cost: envelope.cost,
            content: learns.then(|| Content {
                hash: self.content_hash.as_ref().map_or_else(|| xxh3_64(&payload), |hash| hash(&value)),
                ttl: envelope.life.fresh_for,
            }),
            home: self.home(),
        };
        let weight = weight(key, (self.weigh)(&value), &envelope.tags);
        let value: AnyValue = Arc::new(value);
        let mut entry = Entry::new(value, envelope.tags.clone(), stored, envelope.life, origin);
        entry.found_in_remote();
        entry.weight = weight;
        if verdict == Verdict::Stale {
            // By the clock that readers go by: it is a little behind, and what has just expired would be fresh by it.
            entry.age_at(self.engine.expired_at(key.as_bytes(), &entry, self.engine.clock.now()));
        }
        if entry.freshness(now) == Freshness::Expired {
            return Fetch::Rejected(Some(head));
        }
        if self.use_memory {
            self.keep(key, &entry, &Over::Promoted, now);
        }
        Fetch::Entry(entry, head)
    }
}
