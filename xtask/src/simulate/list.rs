//! Mistakes, one at a time. Each must break the promise that its story is about within [`SEEDS`](super::mutants::SEEDS) seeds, or
//! the simulation could not have found it.

/// One mistake: a text that stands exactly once in a file, and what takes its place.
#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    /// What goes wrong with it.
    pub(crate) story: &'static str,
    /// The promises that this breaks, one of which it must be caught by: what is said of them, in part. Whatever else it breaks
    /// counts for nothing.
    pub(crate) breaks: &'static [&'static str],
    /// Below `crates/larder-core/src`.
    pub(crate) file: &'static str,
    pub(crate) text: &'static str,
    pub(crate) becomes: &'static str,
}

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "epoch-after-load",
        story: "A load reads v0; the write commits and its record is applied; v0 is stored with a mark from after it.",
        breaks: &["(a)", "(b)"],
        file: "namespace/lead.rs",
        text: "let (mark, now) = (self.mark, engine.runtime.now());",
        becomes: "let (mark, now) = (engine.node.mark(self.started), engine.runtime.now());",
    },
    Mutant {
        name: "no-gap-detection",
        story: "An invalidation is trimmed away unread; the next record is taken for its successor.",
        breaks: &["(b)", "at least"],
        file: "log/node/advance.rs",
        text: "if state.position.is_none() || record.prev != state.position {",
        becomes: "if state.position.is_none() {",
    },
    Mutant {
        name: "promotion-unchecked",
        story: "What comes from Redis enters memory as valid, whatever the table says.",
        breaks: &["(a)", "(b)"],
        file: "namespace/fetch.rs",
        text: "let (verdict, n) = remote.verdict(&envelope);",
        becomes: "let (verdict, n) = (Verdict::Valid, remote.verdict(&envelope).1);",
    },
    Mutant {
        name: "waiter-ignores-tags",
        story: "Tags are known only after the load: who joined it after its tag was invalidated gets what was read before.",
        breaks: &["(a)", "(b)"],
        file: "namespace/flying.rs",
        text: "engine.node.check_since(self.key.as_bytes(), entry.tags(), *began) == Verdict::Valid",
        becomes: "engine.node.check_since(self.key.as_bytes(), &[], *began) == Verdict::Valid",
    },
    Mutant {
        name: "lineage-ignored",
        story: "An entry from a lost tail, or from before a flush, carries a higher position than a later invalidation.",
        breaks: &["(b)"],
        file: "log/node/mod.rs",
        text: "let on_lineage = state.position.is_some_and(|p| state.lineage.holds(p.line, epoch));",
        becomes: "let on_lineage = state.position.is_some();",
    },
    Mutant {
        name: "store-not-fenced",
        story: "A slow store puts the value of an earlier load in the place of a later one. (Breaks the simulated server; that the \
                real script fences is `the_newest_load_of_a_line_wins` of the conformance, on a server and a cluster.)",
        breaks: &["was replaced by an earlier load"],
        file: "testing/remote/redis/commands.rs",
        text: "let stored = may_store(store.lease, epoch, lease, over);",
        becomes: "let stored = may_store(store.lease, epoch, lease, over.filter(|_| key.is_empty()));",
    },
    Mutant {
        name: "store-dated-when-written",
        story: "A value goes to Redis with the position of when it is written: an invalidation between load and store is passed by.",
        breaks: &["(a)", "(b)"],
        file: "namespace/store.rs",
        text: "                epoch,\n                codec: codec.id(),",
        becomes: "                epoch: handle.engine.node.position().unwrap_or(epoch),\n                codec: codec.id(),",
    },
    Mutant {
        name: "queue-dropped",
        story: "An invalidation that could not be sent is forgotten instead of queued.",
        breaks: &["(b)", "(c)"],
        file: "log/node/own.rs",
        text: "self.pending.values_mut().filter(|p| p.op == op && p.answered.is_none()).for_each(|p| p.sent = false);",
        becomes: "self.pending.retain(|_, p| p.op != op || p.answered.is_some());",
    },
    Mutant {
        name: "at-least-does-not-wait",
        story: "A read that wants to see a write of another node goes ahead although this node has not heard of it.",
        breaks: &["at least"],
        file: "namespace/at_least.rs",
        text: "self.handle.engine().arrive(token, defaults::ARRIVAL_WAIT).await == Arrival::Arrived",
        becomes: "let _ = self.handle.engine().arrive(token, defaults::ARRIVAL_WAIT);\n                true",
    },
    Mutant {
        name: "no-stamp-is-never",
        story: "After a rotation, or a loss, no stamp is taken for \"never invalidated\".",
        breaks: &["(b)", "(c)"],
        file: "log/node/advance.rs",
        text: "let gap = base.is_none_or(|base| base < since);",
        becomes: "let gap = base.is_none() && since > start;",
    },
    // Beyond the nine that every release must catch: other rules of the protocol, and defects that the simulation has found.
    Mutant {
        name: "pending-counts-for-nothing",
        story: "X invalidates while Redis is away; others move the log on; an old value loaded elsewhere up there looks new.",
        breaks: &["(a)"],
        file: "log/node/mod.rs",
        text: "let pending = state.own.mode_of(key, tags);",
        becomes: "let pending: Option<Mode> = None;",
    },
    Mutant {
        name: "served-for-ever",
        story: "A node that is cut off from the log goes on serving whatever it has.",
        breaks: &["(c)"],
        file: "log/node/mod.rs",
        text: "now.as_nanos() <= self.serve_until.load(Ordering::Acquire)",
        becomes: "now.as_nanos() > 0 || self.serve_until.load(Ordering::Acquire) > 0",
    },
    Mutant {
        name: "fresh-again",
        story: "An entry that was expired is dated up without being marked stale: at the next look it is fresh.",
        breaks: &["called fresh (soft)"],
        file: "engine/mod.rs",
        text: "                    there.age_at(expired);\n                    there.date_up(n);",
        becomes: "                    there.date_up(n);",
    },
    Mutant {
        name: "forgets-quietly",
        story: "The table drops its older generation and does not say how far back it reaches now.",
        breaks: &["(a)", "(b)"],
        file: "log/table.rs",
        text: "self.raise_floor(boundary.n);\n                forgotten = Some(boundary.at);",
        becomes: "forgotten = None;",
    },
    Mutant {
        name: "lost-is-lost",
        story: "An acknowledged invalidation dies with its primary, and its sender does not send it again.",
        breaks: &["(b)", "(c)"],
        file: "log/node/own.rs",
        text: "if self.sent_holds_on.replace(line) == Some(line) {",
        becomes: "if self.sent_holds_on.replace(line).is_none_or(|_| true) {",
    },
    Mutant {
        name: "joiner-unchecked",
        story: "Who joins a flight takes its result, whatever was invalidated before he came.",
        breaks: &["(a)", "(b)"],
        file: "namespace/flying.rs",
        text: "let good = *began >= self.arrived\n",
        becomes: "let good = *began >= self.arrived || self.arrived > 0\n",
    },
    Mutant {
        name: "blind-joiner",
        story: "He joins while the node is cut off; the node hears what it missed before the load ends, and he gets it all the same.",
        breaks: &["(c)"],
        file: "namespace/claim.rs",
        text: "if engine.node.serves_any(now) { engine.node.n() } else { u64::MAX }",
        becomes: "if engine.node.serves_any(now) { engine.node.n() } else { engine.node.n() }",
    },
    Mutant {
        name: "two-clocks",
        story: "What is expired by the exact clock is fresh by the coarse one, which is 5 ms behind.",
        breaks: &["called fresh (soft)"],
        file: "namespace/fetch.rs",
        text: "entry.age_at(self.engine.expired_at(key.as_bytes(), &entry, self.engine.clock.now()));",
        becomes: "entry.age_at(self.engine.expired_at(key.as_bytes(), &entry, now));",
    },
    // Leases, and what is served instead of a load.
    Mutant {
        name: "lease-though-held",
        story: "A lease is granted although another process has it: both load. (Breaks the simulated server; of the real script \
                `a_lease_is_granted_once_and_whoever_is_refused_is_told_whose_it_is` proves it.)",
        breaks: &["loads it already, with a lease"],
        file: "testing/remote/redis/commands.rs",
        text: "Some(lease) if lease.token != request.token && Some(lease.token) != request.vain => {",
        becomes: "Some(lease) if lease.token != request.token && lease.token % 8 != 0 && Some(lease.token) != request.vain => {",
    },
    Mutant {
        name: "late-store-accepted",
        story: "A holder that was stopped stores what it had read over what the next holder has stored, under the same epoch. \
                (Breaks the simulated server; of the real script \
                `the_late_store_of_a_load_whose_lease_has_passed_on_is_refused` proves it.)",
        breaks: &["is stored:"],
        file: "testing/remote/leases.rs",
        text: "!(has_lost || on_line.is_some_and(|there| there.at > epoch.at))",
        becomes: "!(has_lost && there.is_none() || on_line.is_some_and(|there| there.at > epoch.at))",
    },
    Mutant {
        name: "lease-not-given-back",
        story: "A load fails, and its lease stays: everybody waits for a load that is over.",
        breaks: &["given back"],
        file: "engine/leases.rs",
        text: "State::Granted => self.engine.leases.held.lock().remove(&self.token).is_some(),",
        becomes: "State::Granted => self.engine.leases.held.lock().remove(&self.token).is_some_and(|_| false),",
    },
    Mutant {
        name: "spare-unchecked",
        story: "Something stale is kept for a load that fails; meanwhile it is invalidated for good; it is served all the same.",
        breaks: &["(a)", "(b)"],
        file: "namespace/handle.rs",
        text: "let serves = verdict != Verdict::Dead\n",
        becomes: "let serves = (verdict != Verdict::Dead || node.n() > 0)\n",
    },
    // What had survived until it was looked for.
    Mutant {
        name: "row-unseen",
        story: "A selector's row is written, and the filter in front of the rows does not know it: it is passed by.",
        breaks: &["(a)", "(b)"],
        file: "log/table.rs",
        text: "self.touched.at(selector, row.get(Mode::Soft).n.max(row.get(Mode::Hard).n));",
        becomes: "let _ = &self.touched;",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::step::root;

    #[test]
    fn every_mutant_has_a_name_of_its_own_and_a_text_that_stands_once() {
        let names: BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        for mutant in MUTANTS {
            let file = root().join("crates/larder-core/src").join(mutant.file);
            let times = fs::read_to_string(&file).unwrap().matches(mutant.text).count();
            assert_eq!(times, 1, "{}: its text stands {times} times in {}", mutant.name, mutant.file);
            assert_ne!(mutant.text, mutant.becomes, "{}", mutant.name);
        }
    }
}
