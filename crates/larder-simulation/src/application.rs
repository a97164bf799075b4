//! What the simulated application does with its cache: loads, reads by every front door, writes, fills.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use larder_core::{
    Claim, Delivery, Epoch, Fill, Flown, Hit, Invalidated, Key, Lead, LoadError, LookedUp, Mode, Outcome,
    Selector, Slot, Tier,
};

use crate::database::{Doc, RESOURCES, TAGS};
use crate::executor::Time;
use crate::oracle::Called;
use crate::plan::LOAD_TIMEOUT;
use crate::site::{App, Site, spawn};

/// The database is away.
#[derive(Debug)]
pub(crate) struct Broken;

/// A load by a handle's own loader.
pub(crate) async fn load_by_id(site: &Arc<Site>, resource: usize, id: u64) -> Result<Doc, Broken> {
    let row = row_of(site, resource, id);
    load(site, row, false).await
}

fn row_of(site: &Site, resource: usize, id: u64) -> usize {
    let facts = site.facts.lock();
    let found = facts.db.rows.iter().position(|row| row.resource == resource && row.id == id);
    found.expect("ids are those of rows")
}

/// Reads the committed version of a row at some point of a time that it takes. `tagged`: its value will be stored with the
/// tags of that version.
pub(crate) async fn load(site: &Arc<Site>, row: usize, tagged: bool) -> Result<Doc, Broken> {
    let (load, calm) = {
        let mut facts = site.facts.lock();
        let began = facts.oracle.next();
        facts.counts.add("load");
        let load = facts.db.begin(row, site.process(), began);
        let (now, name) = (site.now(), facts.db.rows[row].name.clone());
        facts.trace.say(now, Some(row), || format!("{site}: load {load} of {name} begins, at {began}"));
        (load, facts.calm)
    };
    let (before, after, failing) = {
        let mut chance = site.chance.lock();
        let (least, most) = match chance.below(100) {
            _ if calm => (0, 0),
            0..30 => (0, 0),
            30..70 => (0, 20),
            70..90 => (10, 300),
            90..97 => (100, 2500),
            _ => (2000, 8000),
        };
        (
            chance.millis(least, most) / 2,
            chance.millis(least, most) / 2,
            if calm { 99 } else { chance.below(100) },
        )
    };
    if before + after > LOAD_TIMEOUT {
        site.count("load: timed out");
    }
    site.pause(before).await;
    let doc = site.facts.lock().db.read(load);
    site.pause(after).await;
    let slow = site.facts.lock().slow.filter(|(of, _)| *of == row);
    if let Some((_, until)) = slow {
        site.pause(Duration::from_nanos(until.saturating_sub(site.now()))).await;
    }
    match failing {
        // Tagged loads run in a task of ours, where nobody would catch it.
        0 if !tagged => {
            site.count("load: panicked");
            // Not by the macro: that would print what nobody needs to see.
            std::panic::resume_unwind(Box::new("a loader that panics"));
        }
        0..4 => {
            site.count("load: failed");
            Err(Broken)
        }
        _ => {
            let now = site.now();
            site.facts.lock().db.end(load, now, tagged);
            site.say(Some(row), || format!("load {load} ends with v{}", doc.version));
            Ok(doc)
        }
    }
}

/// What is stored with a value that was loaded for a front door of tags.
fn fill_of(site: &Site, doc: Doc) -> Fill {
    let facts = site.facts.lock();
    let tags = facts.db.tags_of(doc.row, doc.version);
    Fill::new().tags(tags.iter().map(|&tag| TAGS[tag].to_owned()).collect())
}

/// Reads a row, in one of the ways there are.
pub(crate) async fn read(site: Arc<Site>, row: usize, way: u64) {
    let Some(app) = site.app() else { return };
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    match way {
        0..25 => {
            let reading = site.reading(app, row, None);
            let hit = app.loading[resource].fetch(id).await;
            fetched(&site, &reading, &hit, "fetch");
        }
        25..35 => {
            let reading = site.reading(app, row, None);
            match app.loading[resource].load(id).await {
                Ok(doc) => site.read(&reading, *doc, Called::Either, "load"),
                Err(_) => site.count("read: failed"),
            }
        }
        35..42 => {
            let reading = site.reading(app, row, None);
            let doc = app.docs[resource].get(id).await;
            match doc {
                Some(doc) => site.read(&reading, *doc, Called::Either, "get"),
                None => site.count("read: nothing"),
            }
        }
        42..52 => {
            let reading = site.reading(app, row, None);
            let loader = site.clone();
            let doc =
                app.docs[resource].get_or_load(id, move || async move { load(&loader, row, false).await });
            match doc.await {
                Ok(doc) => site.read(&reading, *doc, Called::Either, "get_or_load"),
                Err(_) => site.count("read: failed"),
            }
        }
        _ => read_in_steps(&site, app, row).await,
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

/// Reads a row, not older than a token. `token`: what the oracle calls it, if it is not made up.
pub(crate) async fn read_at_least(site: Arc<Site>, row: usize, token: Option<usize>, epoch: Epoch) {
    let Some(app) = site.app() else { return };
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    site.count(if token.is_some() { "read: at least a token" } else { "read: at least a forged token" });
    let reading = site.reading(app, row, token);
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

fn fetched(
    site: &Site,
    reading: &crate::oracle::Reading,
    hit: &Result<Hit<Doc>, LoadError<Broken>>,
    how: &'static str,
) {
    match hit {
        Ok(hit) => answered(site, reading, *hit.value, hit.outcome, hit.tier, how),
        Err(_) => site.count("read: failed"),
    }
}

fn answered(
    site: &Site,
    reading: &crate::oracle::Reading,
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
    let called = if outcome == Outcome::Stale { Called::Stale } else { Called::Fresh };
    site.read(reading, doc, called, how);
}

/// As the HTTP layer does it.
async fn read_in_steps(site: &Arc<Site>, app: &App, row: usize) {
    let how = "steps";
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    let docs = &app.docs[resource];
    let key = {
        let mut key = docs.key_writer();
        key.number(id);
        // What HTTP tells apart under one name goes with the name.
        if site.chance.lock().percent(30) {
            key.begin_variant();
            key.push_variant(b"gzip");
        }
        key.to_key()
    };
    let reading = site.reading(app, row, None);
    let found = |found: &larder_core::Found<Doc>| {
        answered(site, &reading, *found.value, found.outcome, found.tier, how);
    };
    for _ in 0..10 {
        let lead = match docs.claim(key.as_bytes()) {
            Claim::Found(it) => return found(&it),
            Claim::Stale(it, lead) => {
                refresh(site, app, row, &key, lead);
                return found(&it);
            }
            Claim::Join(flying) => match flying.wait().await {
                Flown::Found(it) => return found(&it),
                Flown::Again => continue,
                Flown::Unshared | Flown::Failed(_) => return site.count("read: failed"),
            },
            Claim::Lead(lead) => lead,
            Claim::Apart(_) => return site.count("read: failed"),
        };
        match lead.look_up().await {
            LookedUp::Found(it) => return found(&it),
            LookedUp::Stale(it, lead) => {
                refresh(site, app, row, &key, lead);
                return found(&it);
            }
            LookedUp::Nothing(lead) => {
                // As the HTTP layer: the load goes on when the one who asked has gone.
                let Some(filled) = fill(site, lead, row).await else { return site.count("read: failed") };
                return found(&filled);
            }
        }
    }
    site.count("read: failed");
}

fn refresh(site: &Arc<Site>, app: &App, row: usize, key: &Key, lead: Option<Lead<Doc>>) {
    let Some(lead) = lead else { return };
    let resource = site.facts.lock().db.rows[row].resource;
    site.count("refresh");
    let refresher = site.clone();
    app.docs[resource].refresh_in_background(key, async move {
        if let LookedUp::Nothing(lead) = lead.look_up().await {
            fill(&refresher, lead, row).await;
        }
    });
}

async fn fill(site: &Arc<Site>, mut lead: Lead<Doc>, row: usize) -> Option<larder_core::Found<Doc>> {
    lead.begin();
    let doc = load(site, row, true).await.ok()?;
    let fill = fill_of(site, doc);
    Some(lead.fill(Arc::new(doc), &fill))
}

/// A slot that was taken and is not filled yet.
pub(crate) struct Held {
    pub(crate) site: Arc<Site>,
    pub(crate) since: Time,
    slot: Slot<Doc>,
    doc: Doc,
}

/// Takes a slot, and reads the data for it.
pub(crate) fn take_slot(site: &Arc<Site>, row: usize) -> Option<Held> {
    let app = site.app()?;
    let mut facts = site.facts.lock();
    let (resource, id) = (facts.db.rows[row].resource, facts.db.rows[row].id);
    let slot = app.docs[resource].begin(id);
    let began = facts.oracle.next();
    let load = facts.db.begin(row, site.process(), began);
    let doc = facts.db.read(load);
    let now = site.now();
    facts
        .trace
        .say(now, Some(row), || format!("{site}: slot for v{} taken, load {load}, at {began}", doc.version));
    drop(facts);
    Some(Held { site: site.clone(), since: now, slot, doc })
}

/// Fills it.
pub(crate) fn fill_slot(held: Held) {
    let Held { site, slot, doc, .. } = held;
    let now = site.now();
    site.facts.lock().db.end(doc.load, now, true);
    let fill = fill_of(&site, doc);
    let stored = slot.put_with(doc, &fill);
    site.count("slot: filled");
    site.say(Some(doc.row), || format!("slot filled with load {}: stored {stored}", doc.load));
}

/// Changes a stored value into one that says the same.
pub(crate) async fn update(site: Arc<Site>, row: usize) {
    let Some(app) = site.app() else { return };
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    site.count("update");
    let updated = app.docs[resource].update(id, |doc| Some(*doc)).await;
    site.say(Some(row), || format!("update: {updated:?}"));
}

/// Commits a new version of a row, and makes its entries go: by a selector that names them all, perhaps with others. Without
/// `commit`, the entries go although nothing has changed.
pub(crate) async fn write(site: Arc<Site>, row: usize, mode: Mode, commit: bool, noise: u64) {
    let Some(app) = site.app() else { return };
    let (wait, by_handle) = {
        let mut chance = site.chance.lock();
        let facts = &mut *site.facts.lock();
        if commit {
            let tags = (0..TAGS.len()).filter(|_| chance.percent(25)).collect();
            let version = facts.db.commit(row, tags);
            let (now, name) = (site.now(), facts.db.rows[row].name.clone());
            facts.trace.say(now, Some(row), || format!("{site}: {name} is v{version} from now on"));
        }
        let wait = if chance.percent(25) { chance.millis(0, 50) } else { Duration::ZERO };
        (wait, chance.below(100))
    };
    site.pause(wait).await;
    let (resource, id) = {
        let facts = site.facts.lock();
        (facts.db.rows[row].resource, facts.db.rows[row].id)
    };
    let docs = &app.docs[resource];
    match (by_handle, mode) {
        (0..8, Mode::Hard) => {
            let call = begin_call(&site, Mode::Hard, &[one(&site, row)], &["key"]);
            end_call(&site, call, docs.invalidate(id).await).await;
        }
        (0..8, Mode::Soft) => {
            let call = begin_call(&site, Mode::Soft, &[one(&site, row)], &["key"]);
            end_call(&site, call, docs.expire(id).await).await;
        }
        (8..16, Mode::Hard) => {
            let call = begin_call(&site, Mode::Hard, &[one(&site, row)], &["key"]);
            end_call(&site, call, docs.remove(id).await).await;
        }
        (16..18, Mode::Hard) => {
            let all = Selector::under(RESOURCES[resource].namespace);
            let call = begin_call(&site, Mode::Hard, &[all], &["namespace"]);
            end_call(&site, call, docs.invalidate_all().await).await;
        }
        _ => {
            let (selectors, kinds) = selectors(&site, row, noise);
            let mut call = None;
            let done = patiently(site.clone(), async {
                let begun = begin_call(&site, mode, &selectors, &kinds);
                call = Some(begun);
                let done = match mode {
                    Mode::Hard => app.cache.invalidate(selectors).await,
                    Mode::Soft => app.cache.expire(selectors).await,
                };
                call = None;
                end_call(&site, begun, done).await;
            });
            // "It holds in this process from the first poll on, whatever the answer. Cancel safe."
            if !done.await
                && let Some(call) = call
            {
                site.facts.lock().oracle.returned(call, None);
            }
        }
    }
}

fn one(site: &Site, row: usize) -> Selector {
    let name = site.facts.lock().db.rows[row].name.clone();
    Selector::parse(&name).expect("the names of rows are keys")
}

/// A selector that names the row, whose kind it says, and perhaps others.
fn selectors(site: &Site, row: usize, noise: u64) -> (Vec<Selector>, Vec<&'static str>) {
    let mut chance = site.chance.lock();
    let facts = site.facts.lock();
    let of = &facts.db.rows[row];
    let resource = RESOURCES[of.resource];
    let (mut selectors, mut kinds) = (Vec::new(), Vec::new());
    loop {
        let (selector, kind) = match chance.below(100) {
            0..40 => (Selector::parse(&of.name).expect("the names of rows are keys"), "key"),
            40..60 => (Selector::under((resource.namespace, of.id)), "subtree"),
            60..68 => (Selector::under(resource.namespace), "namespace"),
            68..74 => (Selector::all(), "everything"),
            _ => (Selector::tag(chance.pick(&TAGS)), "tag"),
        };
        selectors.push(selector);
        kinds.push(kind);
        if chance.percent(80) {
            break;
        }
    }
    drop(facts);
    if noise > 0 && chance.percent(60) {
        for _ in 0..chance.between(1, 3) {
            selectors.push(Selector::key(("noise", chance.below(noise))));
        }
    }
    (selectors, kinds)
}

fn begin_call(site: &Site, mode: Mode, selectors: &[Selector], kinds: &[&'static str]) -> usize {
    let now = site.now();
    let facts = &mut *site.facts.lock();
    for kind in kinds {
        facts.counts.add(named(mode, kind));
    }
    let sels = selectors.iter().map(|selector| facts.oracle.names.sel(&selector.to_string())).collect();
    let call = facts.oracle.call(site.process(), mode, sels, now);
    facts.trace.say(now, None, || {
        let names: Vec<_> = selectors.iter().take(20).map(ToString::to_string).collect();
        format!(
            "{site}: call {call}: {} {}",
            if mode == Mode::Hard { "invalidate" } else { "expire" },
            names.join(" ")
        )
    });
    call
}

fn named(mode: Mode, kind: &str) -> &'static str {
    match (mode, kind) {
        (Mode::Hard, "key") => "invalidate: key",
        (Mode::Hard, "subtree") => "invalidate: subtree",
        (Mode::Hard, "namespace") => "invalidate: namespace",
        (Mode::Hard, "everything") => "invalidate: everything",
        (Mode::Hard, _) => "invalidate: tag",
        (Mode::Soft, "key") => "expire: key",
        (Mode::Soft, "subtree") => "expire: subtree",
        (Mode::Soft, "namespace") => "expire: namespace",
        (Mode::Soft, "everything") => "expire: everything",
        (Mode::Soft, _) => "expire: tag",
    }
}

async fn end_call(site: &Site, call: usize, done: Invalidated) {
    let now = site.now();
    {
        let facts = &mut *site.facts.lock();
        facts.oracle.returned(call, done.token);
        facts.counts.add(match done.state {
            Delivery::Delivered => "invalidated: delivered",
            Delivery::Queued => "invalidated: queued",
        });
        facts.trace.say(now, None, || match done.token {
            Some(token) => format!("{site}: call {call} is delivered as {token}"),
            None => format!("{site}: call {call} is queued"),
        });
    }
    if site.chance.lock().percent(4) {
        site.count("sweep");
        let swept = done.swept().await;
        site.say(None, || format!("call {call} is swept: {swept:?}"));
    }
}

/// Calls of many selectors that name nothing: queues overflow, tables and stamps forget.
pub(crate) async fn flood(site: Arc<Site>) {
    let Some(app) = site.app() else { return };
    for _ in 0..4 {
        let selectors: Vec<_> = {
            let mut chance = site.chance.lock();
            (0..chance.between(100, 500)).map(|_| Selector::key(("flood", chance.next()))).collect()
        };
        site.count("flood");
        let call = begin_call(&site, Mode::Hard, &selectors, &[]);
        end_call(&site, call, app.cache.invalidate(selectors).await).await;
    }
}

/// Reads every row once, for the end.
pub(crate) fn read_all(site: &Arc<Site>, rows: usize) {
    for row in 0..rows {
        spawn(site, read(site.clone(), row, 0));
        spawn(site, read(site.clone(), row, 99));
    }
}
