//! Loads: how long they take, how they end, and that the oracle hears of both.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use larder_core::testing::loads_for_others;
use larder_core::{Fill, Filled};

use crate::database::{Doc, TAGS};
use crate::loads::{End, KeyId};
use crate::site::Site;

/// The database is away.
#[derive(Debug)]
pub(crate) struct Broken;

/// What a load of several rows answers.
type Rows = Vec<(u64, Result<Filled<Doc>, Broken>)>;

/// One load, of one row or of several. The oracle hears of it even if it is dropped.
struct Loading {
    site: Arc<Site>,
    loads: Vec<usize>,
}

impl Loading {
    fn begin(site: &Arc<Site>, keys: &[KeyId], led: bool) -> Self {
        let loads = keys.iter().map(|key| site.load_begins(*key, led)).collect();
        Loading { site: site.clone(), loads }
    }

    fn end(&mut self, load: usize, end: End) {
        self.loads.retain(|other| *other != load);
        self.site.load_ends(load, end);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        for load in std::mem::take(&mut self.loads) {
            self.site.count("load: dropped");
            self.site.load_ends(load, End::Dropped);
        }
    }
}

/// How a load goes.
struct Course {
    /// Before the row is read.
    before: Duration,
    after: Duration,
    fails: bool,
    panics: bool,
    hangs: bool,
}

impl Course {
    fn draw(site: &Site, row: usize) -> Self {
        let (calm, fails, timeout) = {
            let facts = site.facts.lock();
            let failing = facts.failing.filter(|(of, until)| *of == row && site.now() < *until);
            (facts.calm, failing.is_some(), facts.timeout(row))
        };
        let mut chance = site.chance.lock();
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let (least, most) = match chance.below(100) {
            _ if calm => (0, 0),
            0..30 => (0, 0),
            30..70 => (0, 20),
            70..88 => (10, 300),
            88..94 => (100, 2500),
            94..98 => (2000, 8000),
            // Near its end, on either side.
            _ => (timeout / 2, timeout + 200),
        };
        let (before, after) = (chance.millis(least, most) / 2, chance.millis(least, most) / 2);
        let lot = if calm { 99 } else { chance.below(100) };
        Course { before, after, fails: lot < 4 || fails, panics: lot == 4, hangs: lot == 5 }
    }

    async fn begin(&self, site: &Site) {
        site.pause(self.before).await;
    }

    /// The rest of it, from when the row was read. Answers whether it goes well.
    async fn end(&self, site: &Site, row: usize) -> bool {
        site.pause(self.after).await;
        let slow = site.facts.lock().slow.filter(|(of, _)| *of == row);
        if let Some((_, until)) = slow {
            site.pause(Duration::from_nanos(until.saturating_sub(site.now()))).await;
        }
        if self.hangs {
            site.count("load: hangs");
            pending::<()>().await;
        }
        if self.fails {
            site.count("load: failed");
        }
        !self.fails
    }
}

/// A load by a handle's own loader.
pub(crate) async fn load_by_id(site: &Arc<Site>, resource: usize, id: u64) -> Result<Doc, Broken> {
    let key = site.facts.lock().db.key_of(resource, id);
    load(site, key, loads_for_others()).await
}

/// Reads the committed version of a row at some point of a time that it takes, for a handle.
pub(super) async fn load(site: &Arc<Site>, key: KeyId, led: bool) -> Result<Doc, Broken> {
    load_row(site, key, led, false).await
}

/// The same, for a front door, which sees to timeout and panics itself. Its value is stored with the tags of its version.
pub(super) async fn load_in_time(site: &Arc<Site>, key: KeyId) -> Result<Doc, Broken> {
    let limit = site.facts.lock().timeout(key / 2);
    let (mut load, mut end) = (pin!(load_row(site, key, true, true)), pin!(site.pause(limit)));
    poll_fn(|cx| match load.as_mut().poll(cx) {
        Poll::Pending => end.as_mut().poll(cx).map(|()| Err(Broken)),
        done => done,
    })
    .await
}

async fn load_row(site: &Arc<Site>, key: KeyId, led: bool, tagged: bool) -> Result<Doc, Broken> {
    let mut course = Course::draw(site, key / 2);
    // A front door's own task would catch it.
    course.panics &= !tagged;
    let mut loading = Loading::begin(site, &[key], led);
    let load = loading.loads[0];
    course.begin(site).await;
    let doc = site.facts.lock().db.read(load);
    let goes_well = course.end(site, key / 2).await;
    if course.panics {
        site.count("load: panicked");
        loading.end(load, End::Failed);
        // Not by the macro: that would print what nobody needs to see.
        std::panic::resume_unwind(Box::new("a loader that panics"));
    }
    if !goes_well {
        loading.end(load, End::Failed);
        return Err(Broken);
    }
    site.facts.lock().db.end(load, site.now(), tagged);
    loading.end(load, End::Value);
    Ok(doc)
}

/// Loads several rows of a resource at once, tagged; some of them may be left out, or fail alone.
pub(super) async fn load_many(site: &Arc<Site>, resource: usize, ids: Vec<u64>) -> Result<Rows, Broken> {
    let led = loads_for_others();
    let keys: Vec<_> = {
        let facts = site.facts.lock();
        ids.iter().map(|id| facts.db.key_of(resource, *id)).collect()
    };
    site.count("load: batch");
    let course = Course::draw(site, keys[0] / 2);
    let mut loading = Loading::begin(site, &keys, led);
    let loads = loading.loads.clone();
    course.begin(site).await;
    let docs: Vec<_> = loads.iter().map(|load| site.facts.lock().db.read(*load)).collect();
    if !course.end(site, keys[0] / 2).await {
        loads.into_iter().for_each(|load| loading.end(load, End::Failed));
        return Err(Broken);
    }
    let mut rows = Vec::new();
    for (id, doc) in ids.into_iter().zip(docs) {
        let lot = if site.facts.lock().calm { 99 } else { site.chance.lock().below(100) };
        match lot {
            0..3 => {
                site.count("load: left out");
                loading.end(doc.load, End::Unknown);
            }
            3..6 => {
                site.count("load: failed");
                loading.end(doc.load, End::Failed);
                rows.push((id, Err(Broken)));
            }
            _ => {
                site.facts.lock().db.end(doc.load, site.now(), true);
                loading.end(doc.load, End::Value);
                let tags = fill_of(site, doc).tags;
                rows.push((id, Ok(Filled::new(doc).tags(tags))));
            }
        }
    }
    Ok(rows)
}

/// What is stored with a value that was loaded with its tags.
pub(super) fn fill_of(site: &Site, doc: Doc) -> Fill {
    let facts = site.facts.lock();
    let tags = facts.db.tags_of(doc.row, doc.version);
    Fill::new().tags(tags.iter().map(|&tag| TAGS[tag].to_owned()).collect())
}
