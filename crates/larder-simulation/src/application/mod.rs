//! What the simulated application does with its cache: loads, reads by every front door, writes, fills.

mod load;
mod write;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use larder_core::{
    Arrival, Claim, Epoch, Failure, Flown, Hit, Key, Lead, LoadError, LookedUp, Outcome, SkipReason, Tier,
    Turn,
};

pub(crate) use self::load::{Broken, load_by_id};
pub(crate) use self::write::{Held, fill_slot, flood, take_slot, update, write};
use crate::database::Doc;
use crate::heard::{Reads, called};
use crate::oracle::{Called, Reading};
use crate::site::{App, Site, seconds, spawn};

/// A token that a client names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    /// What the oracle calls it; `None`: it was made up.
    pub(crate) told: Option<usize>,
    pub(crate) epoch: Epoch,
}

/// A call under way, until it returns or its caller is gone.
struct Open {
    site: Arc<Site>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.site.facts.lock().open.remove(&self.number);
    }
}

/// The application of a process does something, in a task of its own. It must come to an end.
pub(crate) fn call(site: &Arc<Site>, what: &str, work: impl Future<Output = ()> + Send + 'static) {
    let number = {
        let facts = &mut *site.facts.lock();
        let number = facts.heard.reader();
        facts.open.insert(number, format!("{site}: {what}, since {:.3} s", seconds(site.now())));
        number
    };
    let open = Open { site: site.clone(), number };
    let work = Reads { reader: number, work: Box::pin(work) };
    spawn(site, async move {
        let _open = open;
        work.await;
    });
}

/// Reads a row, in one of the ways there are.
pub(crate) async fn read(site: Arc<Site>, row: usize, way: u64, token: Option<Named>) {
    let Some(app) = site.app() else { return };
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    match way {
        0..25 => {
            let reading = site.reading(app, 2 * row, None);
            let hit = app.loading[resource].fetch(id).await;
            fetched(&site, &reading, &hit, "fetch");
        }
        25..35 => {
            let reading = site.reading(app, 2 * row, None);
            match app.loading[resource].load(id).await {
                Ok(doc) => site.read_quietly(&reading, *doc, "load"),
                Err(error) => site.fails(&reading, error.as_str(), "load"),
            }
        }
        35..42 => {
            let reading = site.reading(app, 2 * row, None);
            let doc = app.docs[resource].get(id).await;
            match doc {
                Some(doc) => site.read(&reading, *doc, Called::Either, "get"),
                None => site.count("read: nothing"),
            }
        }
        42..52 => {
            let reading = site.reading(app, 2 * row, None);
            let loader = site.clone();
            let doc = app.docs[resource].get_or_load(id, move || async move {
                load::load(&loader, 2 * row, larder_core::testing::loads_for_others()).await
            });
            match doc.await {
                Ok(doc) => site.read_quietly(&reading, *doc, "get_or_load"),
                Err(error) => site.fails(&reading, error.as_str(), "get_or_load"),
            }
        }
        52..62 => read_many(&site, app, resource, row).await,
        _ => read_in_steps(&site, app, row, token).await,
    }
}

/// Does something for as long as its caller has patience: now and then one goes away, at any point. True if it was done.
pub(crate) async fn patiently(site: Arc<Site>, work: impl Future<Output = ()> + Send) -> bool {
    let patience = {
        let mut chance = site.chance.lock();
        chance.percent(8).then(|| chance.millis(0, 40))
    };
    let Some(patience) = patience else {
        work.await;
        return true;
    };
    let (mut work, mut end) = (pin!(work), pin!(site.pause(patience)));
    let done = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => end.as_mut().poll(cx).map(|()| false),
    });
    let done = done.await;
    if !done {
        site.count("caller gone");
        site.say(None, || "a caller goes away".to_owned());
    }
    done
}

/// Reads a row, not older than a token.
pub(crate) async fn read_at_least(site: Arc<Site>, row: usize, named: Named) {
    let Named { told: token, epoch } = named;
    let Some(app) = site.app() else { return };
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    site.count(if token.is_some() { "read: at least a token" } else { "read: at least a forged token" });
    let reading = site.reading(app, 2 * row, token);
    let by_get = site.chance.lock().percent(20);
    if by_get {
        match app.docs[resource].at_least(epoch).get(id).await {
            Some(doc) => site.read(&reading, *doc, Called::Either, "at_least.get"),
            None => site.count("read: nothing"),
        }
    } else {
        let hit = app.loading[resource].at_least(epoch).fetch(id).await;
        fetched(&site, &reading, &hit, "at_least.fetch");
    }
}

fn fetched(site: &Site, reading: &Reading, hit: &Result<Hit<Doc>, LoadError<Broken>>, how: &'static str) {
    match hit {
        Ok(hit) => answered(site, reading, *hit.value, hit.outcome, hit.tier, how),
        Err(error) => site.fails(reading, error.as_str(), how),
    }
}

fn answered(
    site: &Site,
    reading: &Reading,
    doc: Doc,
    outcome: Outcome,
    tier: Option<Tier>,
    how: &'static str,
) {
    site.count(match (outcome, tier) {
        (Outcome::Stale, _) => "read: stale",
        (Outcome::Hit, Some(Tier::Memory)) => "read: hit in memory",
        (Outcome::Hit, _) => "read: hit in redis",
        (Outcome::Coalesced, _) => "read: joined",
        (Outcome::Bypass, _) => "read: bypassed",
        (Outcome::Miss | Outcome::Skip, _) => "read: loaded",
    });
    if (outcome, tier) == (Outcome::Stale, Some(Tier::Memory)) {
        site.shows(reading, doc);
    }
    site.read(reading, doc, called(outcome), how);
}

/// Reads several rows of a resource at once, this one among them.
async fn read_many(site: &Arc<Site>, app: &App, resource: usize, row: usize) {
    let rows = {
        let (facts, mut chance) = (site.facts.lock(), site.chance.lock());
        let all = 0..facts.db.rows.len();
        let mut rows: Vec<_> = all.filter(|other| facts.db.rows[*other].resource == resource).collect();
        rows.retain(|other| *other == row || chance.percent(60));
        // Now and then one of them twice.
        rows.extend(chance.percent(10).then_some(row));
        rows
    };
    let ids: Vec<_> = rows.iter().map(|row| site.facts.lock().db.rows[*row].id).collect();
    let readings: Vec<_> = rows.iter().map(|row| site.reading(app, 2 * row, None)).collect();
    site.count("read: batch");
    let loader = site.clone();
    let load = move |ids| {
        let site = loader.clone();
        async move { load::load_many(&site, resource, ids).await }
    };
    let answers = app.docs[resource].get_many_or_load_each(ids, load).await;
    for (reading, answer) in readings.iter().zip(answers) {
        match answer {
            Ok(Some(doc)) => site.read_quietly(reading, *doc, "get_many_or_load"),
            Ok(None) => site.fails(reading, "refused", "get_many_or_load"),
            Err(error) => site.fails(reading, error.as_str(), "get_many_or_load"),
        }
    }
}

/// As the HTTP layer does it: what a request names by a token is waited for before the first step.
async fn read_in_steps(site: &Arc<Site>, app: &App, row: usize, named: Option<Named>) {
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    let docs = &app.docs[resource];
    let (key, place) = {
        let mut key = docs.key_writer();
        key.number(id);
        // What HTTP tells apart under one name goes with the name.
        let varies = site.chance.lock().percent(30);
        if varies {
            key.begin_variant();
            key.push_variant(b"gzip");
        }
        (key.to_key(), 2 * row + usize::from(varies))
    };
    let Some(named) = named else {
        let reading = site.reading(app, place, None);
        return take_steps(site, app, &key, &reading, "steps").await;
    };
    match app.cache.arrive(named.epoch).await {
        Arrival::Arrived => {
            site.count("steps: arrived at a token");
            let reading = site.reading(app, place, named.told);
            take_steps(site, app, &key, &reading, "steps at least").await;
        }
        // Ignored: what is lost or made up is worth nothing.
        Arrival::Unknown => {
            site.count("steps: an unknown token");
            app.cache.ignore_token();
            let reading = site.reading(app, place, None);
            take_steps(site, app, &key, &reading, "steps").await;
        }
        // The front door reads past the cache, by `at_least`.
        Arrival::Late => site.count("steps: late for a token"),
    }
}

async fn take_steps(site: &Arc<Site>, app: &App, key: &Key, reading: &Reading, how: &'static str) {
    let place = reading.key;
    let docs = {
        let facts = site.facts.lock();
        &app.docs[facts.db.rows[reading.row].resource]
    };
    let found = |found: &larder_core::Found<Doc>| {
        answered(site, reading, *found.value, found.outcome, found.tier, how);
    };
    for _ in 0..10 {
        let lead = match docs.claim(key.as_bytes()) {
            Claim::Found(it) => return found(&it),
            Claim::Stale(it, lead) => {
                if it.outcome == Outcome::Hit && lead.is_some() {
                    site.count("early refresh");
                }
                refresh(site, app, place, key, lead);
                return found(&it);
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(it) => return found(&it),
                Flown::Again => continue,
                Flown::Unshared => return site.fails(reading, "refused", how),
                Flown::Failed(failure) => return site.fails(reading, named(&failure), how),
            },
            Claim::Lead(lead) => lead,
            Claim::Apart(SkipReason::Overloaded) => return site.fails(reading, "overloaded", how),
            Claim::Apart(_) => return site.fails(reading, "refused", how),
        };
        match lead.look_up().await {
            LookedUp::Found(it) => return found(&it),
            LookedUp::Stale(it, lead) => {
                refresh(site, app, place, key, lead);
                return found(&it);
            }
            LookedUp::Nothing(lead) => {
                return match fill(site, lead, place).await {
                    Ok(filled) => found(&filled),
                    Err(reason) => site.fails(reading, reason, how),
                };
            }
        }
    }
    site.count("steps: in vain");
}

fn named(failure: &Failure) -> &'static str {
    match failure {
        Failure::Loader(_) => "loader",
        Failure::Panicked => "panicked",
        Failure::TimedOut => "timed_out",
        Failure::Overloaded => "overloaded",
        Failure::ShuttingDown => "shutting_down",
    }
}

fn refresh(site: &Arc<Site>, app: &App, place: usize, key: &Key, lead: Option<Lead<Doc>>) {
    let Some(lead) = lead else { return };
    let resource = site.facts.lock().db.rows[place / 2].resource;
    site.count("refresh");
    let refresher = site.clone();
    app.docs[resource].refresh_in_background(key, async move {
        if let LookedUp::Nothing(lead) = lead.look_up().await {
            let _ = fill(&refresher, lead, place).await;
        }
    });
}

/// Loads when it is this one's turn. Answers what its caller gets, something stale if the load fails; or why there is nothing.
async fn fill(
    site: &Arc<Site>,
    lead: Lead<Doc>,
    place: usize,
) -> Result<larder_core::Found<Doc>, &'static str> {
    let mut lead = match lead.turn().await {
        Turn::Found(found) => return Ok(found),
        Turn::Overloaded(found) => {
            site.overloaded(place);
            return found.ok_or("overloaded");
        }
        Turn::Load(lead) => lead,
    };
    lead.begin();
    match load::load_in_time(site, place).await {
        Ok(doc) => {
            let fill = load::fill_of(site, doc);
            Ok(lead.fill(Arc::new(doc), &fill))
        }
        Err(broken) => lead.fail(Failure::Loader(Arc::new(broken))).ok_or("loader"),
    }
}

/// Reads every row once, for the end.
pub(crate) fn read_all(site: &Arc<Site>, rows: usize) {
    for row in 0..rows {
        call(site, "a read", read(site.clone(), row, 0, None));
        call(site, "a read", read(site.clone(), row, 99, None));
    }
}
