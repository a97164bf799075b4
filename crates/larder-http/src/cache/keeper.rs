//! Where an answer goes.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Fill, Found, Key, Lead, Outcome, Slot};

use super::config::Config;
use super::failed::Failed;
use super::stored::StoredResponse;

/// Where an answer goes, if it may be stored. Holds what the load needs until it is over: the lease, its place among the
/// loads. Dropped, it gives them back.
pub(super) enum Keeper {
    /// To everybody who waits for it.
    Lead(Lead<StoredResponse>),
    /// Into the cache, past whoever else is loading: a bypass, or a key whose answers could not be shared a moment ago.
    Slot(Slot<StoredResponse>, Outcome),
}

/// What a keeper did.
pub(super) struct Kept {
    pub(super) value: Arc<StoredResponse>,
    pub(super) outcome: Outcome,
    /// How long it stays fresh, jitter included; a slot does not say.
    pub(super) ttl: Option<Duration>,
    pub(super) stored: bool,
}

impl Keeper {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Keeper::Lead(_) => Outcome::Miss,
            Keeper::Slot(_, outcome) => *outcome,
        }
    }

    pub(super) fn keep(self, config: &Config, value: StoredResponse, fill: &Fill) -> Kept {
        let value = Arc::new(value);
        match self {
            Keeper::Lead(lead) => {
                let found = lead.fill(value, fill);
                let (outcome, ttl) = (Outcome::Miss, Some(found.ttl));
                Kept { value: found.value, outcome, ttl, stored: found.stored }
            }
            Keeper::Slot(slot, outcome) => {
                config.handle.count_read(outcome);
                let stored = slot.put_shared(value.clone(), fill);
                Kept { value, outcome, ttl: None, stored }
            }
        }
    }

    /// The answer is for its first client alone.
    pub(super) fn refuse(self, config: &Config) {
        match self {
            Keeper::Lead(lead) => lead.unshared(true),
            Keeper::Slot(slot, outcome) => {
                config.handle.count_read(outcome);
                // What one client has sent for past the cache says nothing of the others' answers.
                if outcome == Outcome::Miss {
                    slot.unshared();
                }
            }
        }
    }

    /// The handler has failed: something stale to serve instead, if there is any.
    pub(super) fn fail(self, config: &Config, key: &Key, failed: Failed) -> Option<Found<StoredResponse>> {
        config.failed(key, failed);
        match self {
            Keeper::Lead(lead) => lead.fail(failed.failure()),
            Keeper::Slot(_, outcome) => {
                config.handle.count_read(outcome);
                None
            }
        }
    }

    /// Is there something better than an answer that is a failure?
    pub(super) fn fails_softly(&self) -> bool {
        matches!(self, Keeper::Lead(lead) if lead.fails_softly())
    }

    /// The body of the answer comes in a task of its own.
    pub(super) fn watch(&self) {
        if let Keeper::Lead(lead) = self {
            lead.watch();
        }
    }
}
