//! Why a key is served or not, and who invalidated it: for people.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::{Engine, Fetched};
use crate::entry::{Entry, Freshness};
use crate::envelope::{Envelope, Reject};
use crate::key::{Key, Probe};
use crate::log::{Append, Epoch, Mode, Record, RecordBody, Verdict};
use crate::outcome::Tier;
use crate::remote::Cursor;
use crate::runtime::{Moment, within};
use crate::selector::Selector;
use crate::tag::Tag;

/// Records read at one time, and reads: together more than a log keeps.
const RECORDS: (usize, usize) = (1000, 12);
/// How long one look at the remote tier may take, and the walk for variants altogether: somebody waits for the answer.
const LIMIT: Duration = Duration::from_secs(1);
/// Values looked at in one step of that walk.
const STEP: usize = 1000;
/// Entries told of one key: its variants in both tiers.
const MOST_ENTRIES: usize = 64;
/// Entries of memory looked at before others get their turn.
const LOOKS: usize = 1024;

/// What the cache knows of a key.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The key.
    pub key: String,
    /// Its segments, as selectors write them.
    pub parts: Vec<String>,
    /// Every selector that names it, its entries' tags included.
    pub selectors: Vec<String>,
    /// Where this node's log stands.
    pub position: Option<String>,
    /// What the tiers have: at most 64 entries. Several if the key has variants (HTTP: hosts, languages).
    pub entries: Vec<Explained>,
    /// The newest record in the log that names the key, or a tag of an entry that was found, however the entries are.
    pub last_invalidated: Option<Culprit>,
    /// The oldest record that was looked at, in ms since the Unix epoch: about what lies before nothing can be said.
    pub log_reaches_back_to_ms: Option<u64>,
    /// What could not be asked or cannot be known, each behind a `;`: an entry or a record that is not told may be there all
    /// the same. `None`: nothing of the kind.
    pub incomplete: Option<String>,
}

/// One entry of a key.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Explained {
    /// Where it lies.
    pub tier: Tier,
    /// The key with its variant.
    pub key: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where the log stood when its load began.
    pub epoch: Option<String>,
    /// How long ago it was stored, in milliseconds.
    pub age_ms: u64,
    /// How long it stays fresh, in milliseconds.
    pub ttl_ms: u64,
    /// `fresh`, `stale`, `expired`, `dead` (invalidated), `unverifiable` (older than what this node knows of the log, or
    /// from another history) or `cut_off` (this node has heard nothing of the log for too long).
    pub verdict: &'static str,
    /// The record that killed it, or made it stale, if the log still has it.
    pub killed_by: Option<Culprit>,
}

/// A record of the log that names an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Culprit {
    /// Its position.
    pub epoch: String,
    /// When it was written, in ms since the Unix epoch, by the server's clock.
    pub at_ms: u64,
    /// `h` (invalidated) or `s` (expired).
    pub mode: &'static str,
    /// Which of its selectors names the entry.
    pub selector: String,
    /// The node that wrote it.
    pub node: String,
    /// Why.
    pub reason: String,
    /// On whose behalf.
    pub actor: String,
}

/// An entry whose record is still to be found.
struct Suspect {
    told: Explained,
    key: Key,
    tags: Vec<Tag>,
    epoch: Option<Epoch>,
}

impl Engine {
    /// What the cache knows of `key`. Reads both tiers and the log; changes nothing.
    pub(crate) async fn explain(&self, key: Key) -> Explanation {
        let now = self.runtime.now();
        let mut unknown = Vec::new();
        let mut suspects = self.explain_memory(&key, now).await;
        self.explain_remote(&key, now, &mut suspects, &mut unknown).await;
        let tags: Vec<Tag> = suspects.iter().flat_map(|suspect| suspect.tags.iter().cloned()).collect();
        if self.remote.is_none() {
            unknown.push(
                "there is no log: without a remote tier nobody writes down what was invalidated".to_owned(),
            );
        } else if suspects.is_empty() {
            unknown.push(
                "no tier has the key, so its tags are not known, nor what has named one of them".to_owned(),
            );
        }
        let waiting = self.node.pending();
        if waiting > 0 {
            unknown.push(format!("not in the log yet: {waiting} of what was invalidated here"));
        }
        let mut last_invalidated = None;
        let mut log_reaches_back_to_ms = None;
        let mut before = None;
        for _ in 0..RECORDS.1 {
            let Some(side) = &self.remote else { break };
            let read = within(&*self.runtime, LIMIT, side.remote.history(before, RECORDS.0)).await;
            let records = match read {
                Ok(Ok(records)) => records,
                Ok(Err(error)) => {
                    unknown.push(format!("the log: {error}"));
                    break;
                }
                Err(_) => {
                    unknown.push("the log: no answer in time".to_owned());
                    break;
                }
            };
            let Some(oldest) = records.last() else { break };
            (before, log_reaches_back_to_ms) = (Some(oldest.epoch.at), Some(oldest.epoch.at / 1000));
            for record in &records {
                if last_invalidated.is_none() {
                    last_invalidated = culprit(record, &key, &tags);
                }
                for suspect in &mut suspects {
                    suspect.accuse(record);
                }
            }
            if records.len() < RECORDS.0 {
                break;
            }
        }
        let tags: Vec<_> = suspects.iter().flat_map(|s| s.told.tags.iter().cloned()).collect();
        Explanation {
            parts: text(key.name()).split(':').map(str::to_owned).collect(),
            selectors: selectors_of(&text(key.name()), &tags),
            key: text(key.name()),
            position: self.node.position().map(|p| p.to_string()),
            entries: suspects.into_iter().map(|s| s.told).collect(),
            last_invalidated,
            log_reaches_back_to_ms,
            incomplete: (!unknown.is_empty()).then(|| unknown.join("; ")),
        }
    }

    async fn explain_memory(&self, key: &Key, now: Moment) -> Vec<Suspect> {
        let mut of_name = Vec::new();
        for (looked, there) in self.memory.keys().enumerate() {
            if looked % LOOKS == LOOKS - 1 {
                tokio::task::yield_now().await;
            }
            if there.name() == key.name() && of_name.len() < MOST_ENTRIES {
                of_name.push(there);
            }
        }
        of_name
            .into_iter()
            .filter_map(|key| {
                let entry = self.memory.get(&Probe::from(&key))?;
                let verdict = match self.node.check_since(key.as_bytes(), entry.tags(), entry.seen()) {
                    Verdict::Dead => "dead",
                    _ if !self.node.serves(entry.loaded(), now) => "cut_off",
                    Verdict::Stale if entry.freshness(now) == Freshness::Fresh => "stale",
                    _ => freshness(&entry, now),
                };
                let told = Explained {
                    tier: Tier::Memory,
                    key: text(key.as_bytes()),
                    tags: entry.tags().iter().map(|tag| text(tag.text())).collect(),
                    epoch: entry.epoch().map(|e| e.to_string()),
                    age_ms: millis(now.since(entry.stored)),
                    ttl_ms: millis(entry.ttl(now)),
                    verdict,
                    killed_by: None,
                };
                Some(Suspect { told, tags: entry.tags().to_vec(), epoch: entry.epoch(), key })
            })
            .collect()
    }

    async fn explain_remote(
        &self,
        key: &Key,
        now: Moment,
        suspects: &mut Vec<Suspect>,
        unknown: &mut Vec<String>,
    ) {
        let Some(side) = &self.remote else { return };
        let mut keys = vec![key.clone()];
        keys.extend(suspects.iter().map(|s| s.key.clone()).filter(|of_memory| of_memory != key));
        if let Err(why) = self.find_variants(key, &mut keys).await {
            unknown.push(format!("variants that only the remote tier has: {why}"));
        }
        for key in keys.into_iter().take(MOST_ENTRIES) {
            let fetched = match side.bytes(&*self.runtime, key.as_bytes()).await {
                Some(Ok(None)) => continue,
                Some(Ok(Some(bytes))) => Fetched::read(key.as_bytes(), &bytes),
                Some(Err(_)) => Fetched::Rejected(Reject::Foreign, Bytes::new()),
                None => {
                    // Nor will there be one about the next.
                    unknown.push("what the remote tier has: no answer".to_owned());
                    break;
                }
            };
            match fetched {
                Fetched::Nothing => {}
                Fetched::Rejected(reject, _) => unknown
                    .push(format!("bytes under {key} that are no entry for this node: {}", reject.as_str())),
                Fetched::Envelope(envelope, _) => suspects.push(self.explain_envelope(key, &envelope, now)),
            }
        }
    }

    /// Adds the variants of a key that the remote tier has. Only a walk through all values finds them.
    ///
    /// # Errors
    /// Why some may be missing.
    async fn find_variants(&self, key: &Key, keys: &mut Vec<Key>) -> Result<(), String> {
        let Some(side) = &self.remote else { return Ok(()) };
        let until = self.runtime.now().plus(LIMIT);
        let under = [key.name()];
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            let left = until.since(self.runtime.now());
            let page = within(&*self.runtime, left, side.remote.page(&under, at, STEP)).await;
            let page = page.map_err(|_| "not all values could be looked through in time")?;
            let page = page.map_err(|error| error.to_string())?;
            let there = page.values.iter().filter_map(|(_, head)| Envelope::peek(head).ok());
            for found in there.map(|envelope| Key::from_bytes(&envelope.key)) {
                if found.name() != key.name() || keys.contains(&found) {
                    continue;
                }
                if keys.len() == MOST_ENTRIES {
                    return Err(format!("there are more than {MOST_ENTRIES}"));
                }
                keys.push(found);
            }
            cursor = page.next;
        }
        Ok(())
    }

    fn explain_envelope(&self, key: Key, envelope: &Envelope, now: Moment) -> Suspect {
        let tags = envelope.tags.as_deref().unwrap_or_default();
        let server_ms = self.remote.as_ref().map_or(0, |side| side.driver.server_millis(now));
        let age = Duration::from_millis(server_ms.saturating_sub(envelope.stored_at_ms));
        let life = envelope.life;
        let verdict = match self.node.check_remote(&envelope.key, tags, envelope.epoch).0 {
            Verdict::Dead if !self.node.verifies(envelope.epoch) => "unverifiable",
            Verdict::Dead => "dead",
            _ if !self.node.serves_any(now) => "cut_off",
            _ if age >= life.total() => "expired",
            Verdict::Stale => "stale",
            Verdict::Valid if age >= life.fresh_for => "stale",
            Verdict::Valid => "fresh",
        };
        let told = Explained {
            tier: Tier::Remote,
            key: text(&envelope.key),
            tags: tags.iter().map(|tag| text(tag.text())).collect(),
            epoch: Some(envelope.epoch.to_string()),
            age_ms: millis(age),
            ttl_ms: millis(life.fresh_for.saturating_sub(age)),
            verdict,
            killed_by: None,
        };
        Suspect { told, key, tags: tags.to_vec(), epoch: Some(envelope.epoch) }
    }
}

impl Suspect {
    /// Records come newest first; the oldest of those behind the entry's load is the one that did it.
    fn accuse(&mut self, record: &Record) {
        let wanted = match self.told.verdict {
            "dead" | "unverifiable" => Mode::Hard,
            "stale" => Mode::Soft,
            _ => return,
        };
        let after = self.epoch.is_none_or(|epoch| record.epoch.at > epoch.at);
        let culprit = culprit(record, &self.key, &self.tags).filter(|c| after && c.mode == wanted.as_str());
        if culprit.is_some() {
            self.told.killed_by = culprit;
        }
    }
}

/// The record, if it names an entry with this key and these tags.
fn culprit(record: &Record, key: &Key, tags: &[Tag]) -> Option<Culprit> {
    let RecordBody::Invalidation(Append { mode, selectors, author, .. }) = &record.body else { return None };
    let selector = selectors.iter().find(|s| Selector::from_log(s).names(key.as_bytes(), tags))?;
    Some(Culprit {
        epoch: record.epoch.to_string(),
        at_ms: record.epoch.at / 1000,
        mode: mode.as_str(),
        selector: selector.clone(),
        node: author.node.clone(),
        reason: author.reason.clone(),
        actor: author.actor.clone(),
    })
}

fn selectors_of(name: &str, tags: &[String]) -> Vec<String> {
    let ends = name.match_indices(':').map(|(at, _)| at).chain([name.len()]);
    let mut selectors = vec!["*".to_owned()];
    selectors.extend(ends.map(|end| format!("{}:*", &name[..end])));
    selectors.push(name.to_owned());
    let mut tags: Vec<_> = tags.iter().map(|tag| format!("#{tag}")).collect();
    tags.sort_unstable();
    tags.dedup();
    selectors.extend(tags);
    selectors
}

fn freshness(entry: &Entry, now: Moment) -> &'static str {
    match entry.freshness(now) {
        Freshness::Fresh => "fresh",
        Freshness::Stale => "stale",
        Freshness::Expired => "expired",
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
