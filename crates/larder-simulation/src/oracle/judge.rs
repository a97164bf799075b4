//! A read has returned: was it allowed to?

use std::time::Duration;

use larder_core::Mode;

use super::{Bounds, COARSE, Called, Known, LEARNED, Oracle, Reading, Returned, Sel, Seq, nanos};
use crate::counts::Counts;
use crate::database::{Database, Doc};
use crate::executor::Time;

impl Oracle {
    /// A read has returned a value: which promises does that break?
    ///
    /// What is beyond the time in which it is served stale at once may have been served because it could not be loaded:
    /// `excuse` says whether.
    pub(crate) fn check(
        &self,
        reading: &Reading,
        doc: Doc,
        returned: Returned,
        db: &Database,
        counts: &mut Counts,
        excuse: impl FnOnce() -> bool,
    ) -> Vec<String> {
        if doc.row != reading.row {
            return vec![format!("the value of another row, {}", db.rows[doc.row].name)];
        }
        let Some(load) = db.loads.get(doc.load) else { return vec!["a value that nobody loaded".to_owned()] };
        let row = &db.rows[doc.row];
        let carried: Vec<_> = row.selectors.iter().chain(&load.tags).copied().collect();
        let mut judged = Judged { counts, in_cache: load.ended_at < reading.at, broken: Vec::new() };
        judged.count("judged: a cached value");
        // A value that was there before the read began is judged by when it is returned. The result of a load is handed to those
        // who wait when it ends, whenever they began.
        let returned = match load.ended_at < reading.at {
            true => returned,
            false => Returned { at: reading.at, misled: reading.misled, ..returned },
        };
        for &sel in &carried {
            self.check_orders(reading, sel, Mode::Hard, load.began, &mut judged);
            self.check_time(returned, sel, Mode::Hard, load.began, &mut judged);
        }
        let is_expired =
            |sel: Sel| self.bounds(reading, sel, Mode::Soft).any(|(_, bound)| load.began < bound);
        if returned.called == Called::Fresh {
            for &sel in &carried {
                self.check_orders(reading, sel, Mode::Soft, load.began, &mut judged);
                self.check_time(returned, sel, Mode::Soft, load.began, &mut judged);
            }
        }
        if self.clock_was_set {
            judged.count("waived: times, the server's clock was set");
            return judged.broken;
        }
        judged.count("judged: times");
        let rules = &self.times.rules[row.resource];
        // A flight's result is handed to those who wait when the load ends, whenever they began to read.
        if returned.called == Called::Fresh && is_past(reading, load.ended_at, rules.fresh.1) {
            judged.broken.push("it was called fresh beyond its ttl".to_owned());
        }
        let is_beyond = |window| {
            if is_past(reading, load.ended_at, rules.fresh.1 + window) {
                return Err("it was returned beyond its ttl and stale window".to_owned());
            }
            // The window begins with an expiry: the last one, for an entry that nobody has looked at in between ("a soft
            // row's n > seen: its fresh life ends now, it is marked stale, its stale window begins").
            let expired = carried.iter().copied().filter(|sel| is_expired(*sel));
            let Some(sel) = expired.max_by_key(|sel| self.expired.get(sel)) else {
                return Ok(());
            };
            let last = carried.iter().filter_map(|sel| self.expired.get(sel)).max().copied();
            match last.is_some_and(|last| is_past(reading, last, window)) {
                true => Err(format!("`{}` was expired, and its stale window is over", self.names.text(sel))),
                false => Ok(()),
            }
        };
        judged.broken.extend(is_beyond(rules.window).err());
        if let Err(beyond) = is_beyond(rules.revalidate)
            && !excuse()
        {
            judged.broken.push(format!("{beyond}, and nothing kept it from being loaded"));
        }
        judged.broken
    }

    /// The last calls that name a selector and were in force when a read began, and by which promise.
    fn bounds(&self, reading: &Reading, sel: Sel, mode: Mode) -> impl Iterator<Item = (&'static str, Seq)> {
        let known = self.known.get(&reading.process);
        let at = |of: fn(&Known) -> &Bounds| {
            let steps = known.and_then(|known| of(known).get(&(mode, sel)));
            steps.map_or(0, |steps| steps.at(reading.began))
        };
        let bounds = [("(a)", at(|known| &known.own)), ("(b)", at(|known| &known.heard))];
        bounds.into_iter().filter(|(_, bound)| *bound > 0)
    }

    /// (a) and (b), and what the caller has asked for by a token.
    fn check_orders(&self, reading: &Reading, sel: Sel, mode: Mode, began: Seq, judged: &mut Judged<'_>) {
        for (by, bound) in self.bounds(reading, sel, mode) {
            judged.count(match (mode, by) {
                (Mode::Hard, "(a)") => "judged: (a)",
                (Mode::Hard, _) => "judged: (b)",
                (Mode::Soft, "(a)") => "judged: soft (a)",
                (Mode::Soft, _) => "judged: soft (b)",
            });
            if began < bound {
                judged.broken.push(format!(
                    "{by}: its load began at {began}; `{}` was {} at {bound}, which was in force on this node when the read \
                     began at {}{}",
                    self.names.text(sel),
                    done(mode),
                    reading.began,
                    called_fresh(mode)
                ));
            }
        }
        let Some(token) = reading.token else { return };
        let call = &self.calls[self.tokens[token].call];
        if call.mode != mode || !call.selectors.contains(&sel) {
            return;
        }
        judged.count("judged: at least a token");
        if began < call.began {
            judged.broken.push(format!(
                "at least: its load began at {began}; the read wanted at least the token {} of the call at {}, by which \
                 `{}` was {}{}",
                self.tokens[token].epoch,
                call.began,
                self.names.text(sel),
                done(mode),
                called_fresh(mode)
            ));
        }
    }

    /// (c).
    fn check_time(&self, returned: Returned, sel: Sel, mode: Mode, began: Seq, judged: &mut Judged<'_>) {
        let grace = nanos(self.times.disconnected_ttl) + COARSE;
        let long_ago = |at: Time| at.saturating_add(grace) < returned.at;
        let mut entries =
            self.ledger.get(&(mode, sel)).into_iter().flatten().filter(|entry| long_ago(entry.at)).peekable();
        if entries.peek().is_none() {
            return;
        }
        if returned.misled.is_some_and(|at| !long_ago(at)) {
            judged.count("waived: (c), the node was misled");
            return;
        }
        judged.count(if mode == Mode::Hard { "judged: (c)" } else { "judged: soft (c)" });
        if let Some(entry) = entries.filter(|entry| began < entry.bound).min_by_key(|entry| entry.at) {
            judged.broken.push(format!(
                "(c): its load began at {began}; `{}` was {} at {}, and {} ms have passed since that was appended at {}{}",
                self.names.text(sel),
                done(mode),
                entry.bound,
                (returned.at - entry.at) / 1_000_000,
                entry.epoch,
                called_fresh(mode)
            ));
        }
    }
}

/// What comes of a read that is judged.
struct Judged<'a> {
    counts: &'a mut Counts,
    /// Its load was over when the read began: only such reads prove something about what is kept.
    in_cache: bool,
    broken: Vec<String>,
}

impl Judged<'_> {
    fn count(&mut self, name: &'static str) {
        if self.in_cache {
            self.counts.add(name);
        }
    }
}

fn called_fresh(mode: Mode) -> &'static str {
    match mode {
        Mode::Hard => "",
        Mode::Soft => ", and it was called fresh (soft)",
    }
}

/// Did a read begin when something that began at `since` was over for sure?
fn is_past(reading: &Reading, since: Time, life: Duration) -> bool {
    reading.at > since.saturating_add(nanos(life)).saturating_add(LEARNED)
}

fn done(mode: Mode) -> &'static str {
    match mode {
        Mode::Hard => "invalidated",
        Mode::Soft => "expired",
    }
}
