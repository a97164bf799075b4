//! The protocol, as pure functions over a world of one database, one log server (plus a deposed one), one value slot and a
//! few nodes. One key; its selectors share one table row, with a hard and a soft column. Numbers are small on purpose: they collide.

pub type At = u8;
pub type Line = u8;
pub type Ver = u8;

macro_rules! state {
    ($($(#[$m:meta])* struct $name:ident { $($f:ident: $t:ty,)* })*) => {
        $($(#[$m])* #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)] pub struct $name { $(pub $f: $t,)* })*
    };
}

#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode { Soft, Hard }

#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict { Fresh, Stale, Miss }
use Verdict::*;

/// One deliberate mistake each, to show that the properties can fail.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None, EpochAfterLoad, NoGapDetection, MissingStampIsNever, OlderOverwrites, ForgetKeepsFloor, NoNewLine, NoBarrier, LineIgnored,
    ShortcutByPosition, PendingIsOrdinary, JoinUnchecked, PositionAfterScan, RotationUnseen, SoftForgottenOnTouch, NoClamp, NoRepublish, CoverageMovesBack,
}

state! {
    /// A point of one line of history. Points of different lines compare only through a lineage.
    #[derive(Copy)]
    struct Epoch { line: Line, at: At, }

    /// `what`: the mode, and the process that wrote it. `None`: a barrier, or the beginning of a line.
    struct Record { id: At, line: Line, pred: Epoch, what: Option<(Mode, u8)>, }

    /// One Redis primary, as far as the log goes. `line == 0`: no state (flushed, evicted, never written).
    struct Server {
        replid: u8, seen_replid: u8, line: Line, last: At, lineage: Vec<(Line, At)>, since: At, stamps: [At; 2],
        stream: Vec<Record>,
    }

    /// A value as Redis holds it.
    struct Entry { ver: Ver, epoch: Epoch, }

    /// `checked` is only for the mutant that compares positions instead of the local counter.
    struct Memory { ver: Ver, epoch: Epoch, seen: u8, stale: bool, checked: Epoch, }
    struct Flight { n0: u8, epoch: Epoch, ver: Option<Ver>, }
    #[derive(Copy)]
    struct Row { n: u8, at: At, }

    /// `vers`: the newest version invalidated softly, and hard.
    struct Pending { vers: [Ver; 2], token: Option<Epoch>, }
    struct Sync { line: Line, start: At, lineage: Vec<(Line, At)>, since: At, rows: Option<[At; 2]>, }

    /// `n` and `floor` belong to the clock of the memory tier; `line`, `at`, `lineage`, `covered` to that of whatever crosses nodes.
    /// `must`, `must_fresh` are the oracle: the oldest version that may be served here, and served as fresh.
    struct Node {
        process: u8, on_zombie: bool, n: u8, floor: u8, line: Line, at: At, lineage: Vec<(Line, At)>, covered: At, rows: [Row; 2],
        pending: Option<Pending>, sent: Vec<(Epoch, [Ver; 2])>, sync: Option<Sync>, memory: Option<Memory>, flight: Option<Flight>,
        fetched: Option<Entry>, must: Ver, must_fresh: Ver,
    }
    struct Token { epoch: Epoch, vers: [Ver; 2], process: u8, }

    /// What may still happen. Bounds the exploration.
    #[derive(Copy)]
    struct Budget { writes: u8, loads: u8, gets: u8, touches: u8, forgets: u8, lost_replies: u8, faults: u8, }

    /// `zombie`: the deposed primary that some nodes still talk to. `past`: what a replica that lags may be promoted with.
    struct World {
        db: Ver, main: Server, zombie: Option<Server>, past: Vec<Server>, keep_past: bool, clock: At, lines: Line, processes: u8,
        replids: u8, remote: Option<Entry>, stores: Vec<Entry>, nodes: Vec<Node>, tokens: Vec<Token>, went_back: bool, left: Budget,
    }
}

/// What holds for a whole exploration. `server_known`: scripts see which server process runs them (`INFO replication`).
/// `clock_sane`: server time moves on; otherwise it stands still and ids are only `last + 1`.
#[rustfmt::skip]
#[derive(Clone, Copy, Debug)]
pub struct Rules { pub server_known: bool, pub clock_sane: bool, pub mutant: Mutant }

pub fn on_lineage(line: Line, lineage: &[(Line, At)], e: Epoch) -> bool {
    e.line != 0 && (e.line == line || lineage.iter().any(|&(l, cut)| l == e.line && e.at <= cut))
}

fn verdict(dead: bool, stale: bool) -> Verdict {
    if dead { Miss } else if stale { Stale } else { Fresh }
}

impl Rules { fn is(&self, m: Mutant) -> bool { self.mutant == m } }

impl Node {
    pub fn position(&self) -> Epoch { Epoch { line: self.line, at: self.at } }

    /// `at_least(token)`: may this node say that its log has reached the token?
    pub fn reached(&self, t: Epoch) -> bool { on_lineage(self.line, &self.lineage, t) && t.at <= self.at }

    /// A value known valid when the local counter stood at `seen`: what is it now?
    fn check_since(&self, seen: u8, stale: bool) -> Verdict {
        verdict(seen < self.floor || self.rows[1].n > seen, stale || self.rows[0].n > seen)
    }
    pub fn check_memory(&self, r: &Rules, m: &Memory) -> Verdict {
        if r.is(Mutant::ShortcutByPosition) && m.checked == self.position() { return verdict(false, m.stale); }
        self.check_since(m.seen, m.stale)
    }
    pub fn check_flight(&self, r: &Rules, f: &Flight) -> Verdict {
        if r.is(Mutant::JoinUnchecked) { Fresh } else { self.check_since(f.n0, false) }
    }
    pub fn check_remote(&self, r: &Rules, e: &Entry) -> Verdict {
        if !on_lineage(self.line, &self.lineage, e.epoch) && !r.is(Mutant::LineIgnored) { return Miss; }
        let at = e.epoch.at;
        let pending = |m| self.pending.as_ref().is_some_and(|p| p.vers[m as usize] > 0) && !r.is(Mutant::PendingIsOrdinary);
        verdict(at < self.covered || pending(Mode::Hard) || self.rows[1].at > at, pending(Mode::Soft) || self.rows[0].at > at)
    }

    /// A load begins: both clocks are read before it.
    pub fn take_off(&mut self) { self.flight = Some(Flight { n0: self.n, epoch: self.position(), ver: None }); }

    /// A fresh entry of a later load stays; anything else gives way.
    fn admit(&mut self, r: &Rules, m: Memory) {
        let newer = |old: &Memory| old.epoch.line == m.epoch.line && old.epoch.at > m.epoch.at;
        if !self.memory.as_ref().is_some_and(|old| newer(old) && self.check_memory(r, old) == Fresh) { self.memory = Some(m); }
    }

    /// Own invalidations that came back through the log are no longer pending.
    fn arrived(&mut self) {
        if let Some(Pending { vers, token: Some(t) }) = self.pending && self.reached(t) {
            self.sent.push((t, vers));
            self.pending = None;
        }
    }

    /// Caught up, and an own append is not behind us: the server lost it. Queue it again. True if there was one.
    fn lost(&mut self, r: &Rules) -> bool {
        if r.is(Mutant::NoRepublish) { return false; }
        let (kept, lost): (Vec<_>, Vec<_>) = self.sent.iter().cloned().partition(|s| self.reached(s.0));
        self.sent = kept;
        lost.iter().for_each(|s| self.queue(s.1));
        let stuck = self.pending.as_ref().is_some_and(|p| p.token.is_some_and(|t| !self.reached(t)));
        if stuck { self.pending.as_mut().unwrap().token = None; }
        stuck || !lost.is_empty()
    }
    fn queue(&mut self, vers: [Ver; 2]) {
        let old = self.pending.take().map_or([0; 2], |p| p.vers);
        self.pending = Some(Pending { vers: [0, 1].map(|m| old[m].max(vers[m])), token: None });
    }
}

impl World {
    fn server(&mut self, i: usize) -> &mut Server {
        if self.nodes[i].on_zombie { self.zombie.as_mut().unwrap() } else { &mut self.main }
    }
    fn next_id(&mut self, r: &Rules, i: usize) -> At {
        self.clock += r.clock_sane as u8;
        self.clock.max(self.server(i).last + 1)
    }
    fn remember(&mut self, i: usize) {
        if self.keep_past && !self.nodes[i].on_zombie { self.past.push(self.main.clone()); }
    }

    /// The preamble of every script that writes. It begins a line of history if there is none, if another server process wrote the
    /// state, or if the caller has seen more of this line than is left of it. A caller that comes from anywhere else than this
    /// line's past gets a barrier: a record that invalidates nothing, above all that was loaded before.
    fn enter(&mut self, r: &Rules, i: usize) {
        let me = self.nodes[i].position();
        let s = self.server(i);
        let none = s.line == 0;
        let broken = r.server_known && s.seen_replid != s.replid || me.line == s.line && me.at > s.last;
        let new_line = none || broken && !r.is(Mutant::NoNewLine);
        let barrier = me.line != 0 && !on_lineage(s.line, &s.lineage, me) && !r.is(Mutant::NoBarrier);
        if !new_line && !barrier { return; }
        self.remember(i);
        let id = self.next_id(r, i);
        self.lines += new_line as u8;
        let line = self.lines;
        let s = self.server(i);
        let pred = Epoch { line: s.line, at: s.last };
        if new_line && !none { s.lineage.push((s.line, s.last)); }
        if none { *s = Server { replid: s.replid, since: id, ..Server::default() }; }
        if new_line { (s.line, s.seen_replid) = (line, s.replid); }
        s.last = id;
        s.stream.push(Record { id, line: s.line, pred, what: None });
    }
    fn append(&mut self, r: &Rules, i: usize, mode: Mode) -> Epoch {
        self.enter(r, i);
        self.remember(i);
        let (id, process) = (self.next_id(r, i), self.nodes[i].process);
        let s = self.server(i);
        let pred = Epoch { line: s.line, at: s.last };
        s.last = id;
        s.stamps[mode as usize] = id;
        s.stream.push(Record { id, line: s.line, pred, what: Some((mode, process)) });
        Epoch { line: s.line, at: id }
    }

    /// The write is committed, then `invalidate` begins: it takes effect here before anything is sent.
    pub fn write(&mut self, i: usize, mode: Mode) {
        self.db += 1;
        let (ver, node) = (self.db, &mut self.nodes[i]);
        node.n += 1;
        node.rows[mode as usize].n = node.n;
        node.queue(if mode == Mode::Hard { [0, ver] } else { [ver, 0] });
        node.must_fresh = ver;
        if mode == Mode::Hard { node.must = ver; }
    }
    pub fn can_publish(&self, i: usize) -> bool { self.nodes[i].pending.as_ref().is_some_and(|p| p.token.is_none()) }
    pub fn publish(&mut self, r: &Rules, i: usize, reply: bool) {
        let vers = self.nodes[i].pending.as_ref().unwrap().vers;
        let epoch = self.append(r, i, if vers[1] > 0 { Mode::Hard } else { Mode::Soft });
        if reply {
            self.tokens.push(Token { epoch, vers, process: self.nodes[i].process });
            self.nodes[i].pending.as_mut().unwrap().token = Some(epoch);
            self.observe();
        }
    }
    pub fn fill(&mut self, r: &Rules, i: usize) {
        let node = &mut self.nodes[i];
        let mut f = node.flight.take().unwrap();
        if r.is(Mutant::EpochAfterLoad) { (f.n0, f.epoch) = (node.n, node.position()); }
        let (ver, epoch) = (f.ver.unwrap(), f.epoch);
        if node.check_since(f.n0, false) == Miss { return; }
        node.admit(r, Memory { ver, epoch, seen: f.n0, stale: false, checked: node.checked(r) });
        if epoch.line != 0 { self.stores.push(Entry { ver, epoch }); }
        self.stores.sort();
    }

    /// A store reaches Redis, however late. Newer loads of the same line stay.
    pub fn store(&mut self, r: &Rules, k: usize) {
        let e = self.stores.remove(k);
        let back = self.remote.as_ref().is_some_and(|old| old.epoch.line == e.epoch.line && old.epoch.at > e.epoch.at);
        if back && !r.is(Mutant::OlderOverwrites) { return; }
        self.went_back |= back;
        self.remote = Some(e);
    }
    pub fn promote(&mut self, r: &Rules, i: usize) {
        let node = &mut self.nodes[i];
        let e = node.fetched.take().unwrap();
        let v = node.check_remote(r, &e);
        let m = Memory { ver: e.ver, epoch: e.epoch, seen: node.n, stale: v == Stale, checked: node.checked(r) };
        if v != Miss { node.admit(r, m); }
    }

    /// A hit in memory: what was checked against everything applied so far is dated up to now.
    pub fn touch(&mut self, r: &Rules, i: usize) -> bool {
        let node = &mut self.nodes[i];
        let Some(m) = node.memory.clone() else { return false };
        let v = node.check_memory(r, &m);
        if m.seen == node.n || v == Miss { return false; }
        let stale = v == Stale && !r.is(Mutant::SoftForgottenOnTouch);
        node.memory = Some(Memory { seen: node.n, stale, checked: node.checked(r), ..m });
        true
    }

    /// The bounded local table drops what it holds.
    pub fn forget(&mut self, r: &Rules, i: usize) {
        let node = &mut self.nodes[i];
        node.rows = Default::default();
        if !r.is(Mutant::ForgetKeepsFloor) { (node.floor, node.covered) = (node.n, node.at); }
    }

    /// The stamps rotate so far that everything up to `last` is forgotten.
    pub fn rotate(&mut self) {
        let s = &mut self.main;
        (s.since, s.stamps) = (s.last, [0; 2]);
    }

    /// One round of the follower: peek at the state, read one record, or take one step of a synchronisation.
    pub fn follow(&mut self, r: &Rules, i: usize) -> bool {
        let s = self.server(i).clone();
        let node = &mut self.nodes[i];
        if let Some(sync) = &mut node.sync {
            if sync.rows.is_none() {
                sync.rows = Some(s.stamps);
            } else if s.line != sync.line || s.last < sync.start || (s.since != sync.since && !r.is(Mutant::RotationUnseen)) {
                node.sync = None;
            } else {
                let mut done = node.sync.take().unwrap();
                if r.is(Mutant::PositionAfterScan) { done.start = s.last; }
                node.apply_snapshot(r, done);
                self.observe();
            }
            return true;
        }
        let me = node.position();
        match s.stream.iter().find(|x| x.id > me.at && me.line != 0) {
            Some(x) if x.pred == me || r.is(Mutant::NoGapDetection) => {
                if x.line != node.line { node.lineage.push((node.line, node.at)); }
                if let Some((mode, process)) = x.what {
                    let row = &mut node.rows[mode as usize];
                    row.at = row.at.max(x.id);
                    if process != node.process { (node.n, row.n) = (node.n + 1, node.n + 1); }
                }
                (node.line, node.at) = (x.line, x.id);
                // A round is caught up by what it reached, not by having found nothing: records may come without a pause.
                if node.position() == (Epoch { line: s.line, at: s.last }) {
                    node.lost(r);
                }
            }
            None if s.line != 0 && s.line == me.line && s.last == me.at => return node.lost(r),
            None if r.is(Mutant::NoGapDetection) && me.line != 0 => return false,
            _ => {
                self.enter(r, i);
                let Server { line, last, lineage, since, .. } = self.server(i).clone();
                self.nodes[i].sync = Some(Sync { line, start: last, lineage, since, rows: None });
            }
        }
        self.observe();
        true
    }

    /// An earlier state is promoted. Where scripts cannot see the server process, tokens lost this way are outside the guarantee.
    pub fn fail_over(&mut self, r: &Rules, back: usize, split: bool) {
        let mut promoted = self.past.iter().rev().chain([&self.main]).nth(back.wrapping_sub(1)).unwrap_or(&self.main).clone();
        self.replids += 1;
        promoted.replid = self.replids;
        let old = std::mem::replace(&mut self.main, promoted);
        self.zombie = split.then_some(old);
        self.nodes.iter_mut().for_each(|n| n.on_zombie = split);
        self.past.clear();
        let (line, last) = (self.main.line, self.main.last);
        self.tokens.retain(|t| r.server_known || t.epoch.line == line && t.epoch.at <= last);
    }
    pub fn reattach(&mut self, i: usize) {
        self.nodes[i].on_zombie = false;
        self.zombie = self.zombie.take().filter(|_| self.nodes.iter().any(|n| n.on_zombie));
    }
    pub fn restart(&mut self, i: usize) {
        self.processes += 1;
        self.nodes[i] = Node { process: self.processes, ..Node::default() };
    }

    /// The oracle learns what each node may no longer serve: its own invalidations (see `write`) and every returned token that
    /// the node itself would call reached.
    fn observe(&mut self) {
        for node in &mut self.nodes {
            node.arrived();
            for t in &self.tokens {
                if node.reached(t.epoch) {
                    node.must = node.must.max(t.vers[1]);
                    node.must_fresh = node.must_fresh.max(t.vers[0]).max(t.vers[1]);
                }
            }
        }
    }
}

impl Node {
    fn checked(&self, r: &Rules) -> Epoch { if r.is(Mutant::ShortcutByPosition) { self.position() } else { Epoch::default() } }
    fn apply_snapshot(&mut self, r: &Rules, s: Sync) {
        // Up to `base` this node's history and the server's are the same.
        let cut = [(s.line, s.start)].iter().chain(&s.lineage).find(|l| l.0 == self.line && self.line != 0).map(|l| l.1);
        let base = cut.map(|cut| self.at.min(cut));
        self.n += 1;
        for (row, &stamp) in self.rows.iter_mut().zip(&s.rows.unwrap()) {
            if row.at > base.unwrap_or(0) && !r.is(Mutant::NoClamp) {
                row.at = s.start; // from a lost tail: it counts against all that is older than what follows, and nothing else
            }
            if stamp > base.unwrap_or(0) { row.n = self.n; }
            row.at = row.at.max(stamp);
        }
        let gap = base.is_none_or(|b| b < s.since);
        if gap { self.floor = self.n; }
        self.covered = match base {
            _ if r.is(Mutant::MissingStampIsNever) => 0,
            None if self.line == 0 => s.since,
            None => s.start,                        // other history: what the table knew is not in the stamps
            Some(b) if self.covered > b => s.start, // part of the lost tail is forgotten already
            Some(_) if gap => s.since,
            Some(_) if r.is(Mutant::CoverageMovesBack) => self.covered.min(s.since),
            Some(_) => self.covered,
        };
        if r.is(Mutant::MissingStampIsNever) { self.floor = 0; }
        (self.line, self.lineage, self.at) = (s.line, s.lineage, s.start);
    }
}

/// Smaller state space, same behaviour.
impl World {
    pub fn canonical(mut self, r: &Rules) -> World {
        for node in &mut self.nodes {
            // counters only grow: a miss stays a miss
            node.memory = node.memory.take().filter(|m| !r.is(Mutant::None) || node.check_memory(r, m) != Miss);
            node.renumber();
        }
        // What every node has read is never read again.
        let read = self.nodes.iter().map(|n| n.sync.as_ref().map_or(n.at, |s| n.at.min(s.start))).min().unwrap();
        self.main.stream.retain(|x| x.id > read);
        self.keep_past &= self.left.faults > 0;
        if !self.keep_past { self.past.clear(); }
        // Nodes are alike: order them, then number the processes by that order.
        self.nodes.sort_by_cached_key(|n| Node { process: 0, ..n.clone() });
        let order: Vec<u8> = self.nodes.iter().map(|n| n.process).collect();
        let rename = |p: u8| order.iter().position(|&o| o == p).map_or(0, |k| k as u8 + 1);
        let streams = self.zombie.iter_mut().chain([&mut self.main]).chain(&mut self.past);
        for x in streams.flat_map(|s| &mut s.stream) { x.what = x.what.map(|(m, p)| (m, rename(p))); }
        self.tokens.iter_mut().for_each(|t| t.process = rename(t.process));
        self.nodes.iter_mut().enumerate().for_each(|(k, n)| n.process = k as u8 + 1);
        self.processes = order.len() as u8;
        self
    }
}

impl Node {
    /// The local counter matters by order only.
    fn renumber(&mut self) {
        let mut used = vec![0, self.n, self.floor, self.rows[0].n, self.rows[1].n];
        used.extend(self.memory.iter().map(|m| m.seen).chain(self.flight.iter().map(|f| f.n0)));
        used.sort();
        used.dedup();
        let rank = |n: &mut u8| *n = used.binary_search(n).unwrap() as u8;
        let rows = self.rows.iter_mut().map(|row| &mut row.n);
        let loads = self.memory.iter_mut().map(|m| &mut m.seen).chain(self.flight.iter_mut().map(|f| &mut f.n0));
        rows.chain(loads).chain([&mut self.n, &mut self.floor]).for_each(rank);
    }
}
