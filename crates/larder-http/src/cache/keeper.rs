//! Where an answer goes.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Failure, Fill, Lead, Outcome, Slot};

use super::config::Config;
use super::stored::StoredResponse;

/// Where an answer goes, if it may be stored.
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

    pub(super) fn refuse(self, config: &Config) {
        match self {
            Keeper::Lead(lead) => lead.unshared(true),
            Keeper::Slot(_, outcome) => config.handle.count_read(outcome),
        }
    }

    pub(super) fn fail(self, failure: Failure) {
        if let Keeper::Lead(lead) = self {
            lead.fail(failure);
        }
    }
}
