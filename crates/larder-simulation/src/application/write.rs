//! Writes, fills by hand, invalidations.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Delivery, Invalidated, Mode, Selector, Slot};

use super::load::fill_of;
use super::patiently;
use crate::database::{Doc, RESOURCES, TAGS};
use crate::executor::Time;
use crate::site::Site;

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
    site.puts(2 * doc.row);
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
    let putting = site.clone();
    let change = move |doc: &Doc| {
        putting.puts(2 * row);
        Some(*doc)
    };
    let updated = app.docs[resource].update(id, change).await;
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

/// Calls of many selectors, so that queues overflow, and tables and stamps forget. Most name nothing; a call that takes several
/// records names rows in each of them: its token must count for all.
pub(crate) async fn flood(site: Arc<Site>, row: usize) {
    let Some(app) = site.app() else { return };
    for _ in 0..4 {
        let selectors: Vec<_> = {
            let mut chance = site.chance.lock();
            let mut some: Vec<_> =
                (0..chance.between(100, 500)).map(|_| Selector::key(("flood", chance.next()))).collect();
            let rows = site.facts.lock().db.rows.len();
            let names: Vec<_> =
                [row, chance.index(rows), chance.index(rows)].map(|row| one(&site, row)).into();
            if chance.percent(50) {
                for name in names {
                    let at = chance.index(some.len() + 1);
                    some.insert(at, name);
                }
            }
            some
        };
        site.count(if selectors.len() > 256 { "flood: several records" } else { "flood: one record" });
        let call = begin_call(&site, Mode::Hard, &selectors, &[]);
        end_call(&site, call, app.cache.invalidate(selectors).await).await;
    }
}
