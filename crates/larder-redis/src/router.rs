//! Values on a cluster: every command goes to the primary that serves its slot.
//!
//! A command follows what a node answers (`MOVED`: the slot is another's for good; `ASK`: this key is another's already),
//! and nothing else: whatever fails, fails at once, and the map is asked for anew.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Link, Moment};
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::finder::Finder;
use crate::gather::Reads;
use crate::lane::{Failure, Lane};
use crate::lanes::ValueLanes;
use crate::link::{Keeper, Wiring};
use crate::refusal::Redirect;
use crate::slots::SlotMap;

/// How long a node stays connected that serves no slot as far as the map knows, but that a node has pointed to.
const GUEST_LIFE: Duration = Duration::from_secs(30);
/// How many of those there may be.
const GUESTS: usize = 16;
/// How often a command is sent on: once for a map that is out of date, once for a key on its way.
const HOPS: usize = 2;

/// Connections to all primaries, and the way to the right one.
#[derive(Debug)]
pub(crate) struct Router {
    wiring: Arc<Wiring>,
    cluster: Arc<Cluster>,
    routes: RwLock<Routes>,
    link: watch::Sender<Link>,
    /// How many connections to nodes have been made. The link's generation.
    ups: Mutex<u64>,
}

#[derive(Debug, Default)]
struct Routes {
    map: Option<Arc<SlotMap>>,
    /// Side by side with the map's primaries.
    nodes: Vec<Arc<Node>>,
    /// With the time of their last use.
    guests: Vec<(Arc<Node>, Moment)>,
}

#[derive(Debug)]
struct Node {
    server: Endpoint,
    keeper: Arc<Keeper<ValueLanes>>,
}

impl Node {
    fn lane(&self) -> Result<Arc<Lane>, Failure> {
        Ok(Arc::clone(self.keeper.lanes()?.next()))
    }
}

impl Router {
    pub(crate) fn new(wiring: &Arc<Wiring>, cluster: &Arc<Cluster>) -> Self {
        Router {
            wiring: Arc::clone(wiring),
            cluster: Arc::clone(cluster),
            routes: RwLock::default(),
            link: watch::Sender::new(Link::Down { reason: String::new() }),
            ups: Mutex::new(0),
        }
    }

    /// Up if any node is.
    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Ends everything for good.
    pub(crate) fn close(&self) {
        // First: from now on no node comes to be.
        self.link.send_replace(Link::Closed);
        let routes = std::mem::take(&mut *self.routes.write());
        routes.everyone().for_each(|node| node.keeper.close());
    }

    /// Keeps connections to the primaries, whichever they are, until it is closed.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut link = self.link.subscribe();
        let keep = async {
            let mut known = self.cluster.known();
            loop {
                let map = known.borrow_and_update().map.clone();
                if let Some(map) = map {
                    self.reconcile(map);
                }
                self.tell();
                tokio::select! {
                    changed = known.changed() => if changed.is_err() { return },
                    () = self.wiring.runtime.sleep(GUEST_LIFE) => {}
                }
            }
        };
        tokio::select! {
            _ = link.wait_for(|link| *link == Link::Closed) => {}
            () = keep => {}
            () = self.cluster.run() => {}
        }
    }

    /// Sends a command to the node that serves `slot`.
    pub(crate) async fn ask(self: &Arc<Self>, slot: u16, command: &Cmd) -> Result<Value, Failure> {
        let mut lane = self.lane_of(slot)?;
        let mut answer = lane.ask(command).await;
        for _ in 0..HOPS {
            let Err(Failure::Refused(refusal)) = &answer else { break };
            let Some(redirect) = refusal.redirect(lane.server()) else { break };
            answer = match redirect {
                Redirect::Moved(server) => {
                    self.cluster.doubt();
                    lane = self.reach(&server).await?;
                    lane.ask(command).await
                }
                Redirect::Ask(server) => {
                    lane = self.reach(&server).await?;
                    ask_importer(&lane, command).await
                }
            };
        }
        if let Err(failure) = &answer {
            self.doubt_after(failure);
        }
        answer
    }

    /// The connection to whoever serves `slot`.
    fn lane_of(&self, slot: u16) -> Result<Arc<Lane>, Failure> {
        self.lane_at(self.index_of(slot)?)?.ok_or_else(|| self.nobody())
    }

    /// Who serves `slot`, as a place in the list of primaries.
    pub(crate) fn index_of(&self, slot: u16) -> Result<usize, Failure> {
        let index = self.routes.read().map.as_ref().and_then(|map| map.owner_index(slot));
        index.ok_or_else(|| self.nobody())
    }

    /// How many primaries there are now. An error if that is not known.
    pub(crate) fn count(&self) -> Result<usize, Failure> {
        let routes = self.routes.read();
        if routes.map.is_some() { Ok(routes.nodes.len()) } else { Err(self.nobody()) }
    }

    /// The connection to a primary by its place in their list; `None` behind the end of that.
    pub(crate) fn lane_at(&self, index: usize) -> Result<Option<Arc<Lane>>, Failure> {
        let node = self.routes.read().nodes.get(index).cloned();
        node.map(|node| node.lane()).transpose()
    }

    /// The reads on a connection to a primary by its place in their list.
    pub(crate) fn reads_at(&self, index: usize) -> Result<Arc<Reads>, Failure> {
        let node = self.routes.read().nodes.get(index).cloned().ok_or_else(|| self.nobody())?;
        Ok(Arc::clone(node.keeper.lanes()?.next_reads()))
    }

    fn nobody(&self) -> Failure {
        self.cluster.doubt();
        Failure::Broken(match &*self.link.borrow() {
            Link::Down { reason } if !reason.is_empty() => reason.clone(),
            Link::Closed => "closed".to_owned(),
            Link::Down { .. } => "no attempt to connect has ended yet".to_owned(),
            Link::Up { .. } => "no primary serves this slot".to_owned(),
        })
    }

    /// Asks for the map anew if what happened may be because of an old one.
    pub(crate) fn doubt_after(&self, failure: &Failure) {
        match failure {
            Failure::Refused(refusal) if !refusal.doubts_map() => {}
            Failure::Refused(_) | Failure::Broken(_) => self.cluster.doubt(),
        }
    }

    /// The connection to a node that another has pointed to. Waits for the first attempt to open it, not for more.
    async fn reach(self: &Arc<Self>, server: &Endpoint) -> Result<Arc<Lane>, Failure> {
        let node = self.member(server)?;
        let mut link = node.keeper.link();
        let tried = |link: &Link| !matches!(link, Link::Down { reason } if reason.is_empty());
        // An error would mean that the sender is gone, which the node holds.
        let _ = link.wait_for(tried).await;
        node.lane()
    }

    /// A node by its address; one that is not known becomes a guest.
    fn member(self: &Arc<Self>, server: &Endpoint) -> Result<Arc<Node>, Failure> {
        let now = self.wiring.runtime.now();
        let mut routes = self.routes.write();
        if let Some(node) = routes.nodes.iter().find(|node| node.server == *server) {
            return Ok(Arc::clone(node));
        }
        if let Some((node, used)) = routes.guests.iter_mut().find(|(node, _)| node.server == *server) {
            *used = now;
            return Ok(Arc::clone(node));
        }
        if self.is_closed() {
            return Err(Failure::Broken("closed".to_owned()));
        }
        if routes.guests.len() >= GUESTS
            && let Some(longest) = (0..GUESTS).min_by_key(|&i| routes.guests[i].1)
        {
            routes.guests.swap_remove(longest).0.keeper.close();
        }
        let node = self.admit(server);
        routes.guests.push((Arc::clone(&node), now));
        Ok(node)
    }

    /// Takes over a new map: connects to nodes that are new, lets go of those that are gone.
    fn reconcile(self: &Arc<Self>, map: Arc<SlotMap>) {
        let now = self.wiring.runtime.now();
        let mut routes = self.routes.write();
        // Whoever closes says so first and takes the nodes away then: either is seen here.
        if self.is_closed() {
            return;
        }
        let Routes { nodes, guests, .. } = std::mem::take(&mut *routes);
        let (guests, overstayed): (Vec<_>, Vec<_>) =
            guests.into_iter().partition(|(_, used)| now.since(*used) < GUEST_LIFE);
        let mut there: Vec<Arc<Node>> =
            guests.iter().map(|(node, _)| Arc::clone(node)).chain(nodes).collect();
        for server in map.primaries() {
            let known = there.iter().position(|node| node.server == *server);
            routes.nodes.push(known.map_or_else(|| self.admit(server), |at| there.swap_remove(at)));
        }
        let is_guest = |node: &Arc<Node>| there.iter().any(|other| Arc::ptr_eq(node, other));
        routes.guests = guests.into_iter().filter(|(node, _)| is_guest(node)).collect();
        routes.map = Some(map);
        let gone =
            there.iter().filter(|node| !routes.guests.iter().any(|(guest, _)| Arc::ptr_eq(guest, node)));
        gone.chain(overstayed.iter().map(|(node, _)| node)).for_each(|node| node.keeper.close());
    }

    fn is_closed(&self) -> bool {
        *self.link.borrow() == Link::Closed
    }

    /// Begins to connect to a node.
    fn admit(self: &Arc<Self>, server: &Endpoint) -> Arc<Node> {
        let keeper = Arc::new(Keeper::new(Arc::clone(&self.wiring), Finder::Fixed(server.clone())));
        let node = Arc::new(Node { server: server.clone(), keeper });
        self.wiring.runtime.spawn(Box::pin(Arc::clone(self).tend(Arc::clone(&node))));
        node
    }

    /// Keeps a node connected and tells how it goes, until it is closed.
    async fn tend(self: Arc<Self>, node: Arc<Node>) {
        let mut link = node.keeper.link();
        let observe = async {
            while link.changed().await.is_ok() {
                let now = link.borrow_and_update().clone();
                match now {
                    Link::Up { .. } => *self.ups.lock() += 1,
                    Link::Down { .. } => self.cluster.doubt(),
                    Link::Closed => return,
                }
                self.tell();
            }
        };
        tokio::join!(Arc::clone(&node.keeper).run(), observe);
    }

    /// Tells the state of the whole, unless it is no news.
    fn tell(&self) {
        // Held to the end, so that nobody tells an older state after a newer one.
        let ups = self.ups.lock();
        let mut is_up = false;
        let mut why = None;
        for node in self.routes.read().everyone() {
            match &*node.keeper.link().borrow() {
                Link::Up { .. } => is_up = true,
                Link::Down { reason } if !reason.is_empty() => {
                    why.get_or_insert_with(|| format!("{}: {reason}", node.server));
                }
                Link::Down { .. } | Link::Closed => {}
            }
        }
        let state = if is_up {
            Link::Up { generation: *ups }
        } else {
            let why = why.or_else(|| self.cluster.known().borrow().trouble.clone());
            Link::Down { reason: why.unwrap_or_default() }
        };
        self.link.send_if_modified(|link| {
            let news = *link != Link::Closed && *link != state;
            if news {
                *link = state;
            }
            news
        });
    }
}

impl Routes {
    fn everyone(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().chain(self.guests.iter().map(|(node, _)| node))
    }
}

/// Asks a node that is taking a slot over: only for one command, and only if told so, does it answer for that slot.
async fn ask_importer(lane: &Lane, command: &Cmd) -> Result<Value, Failure> {
    let mut both = Pipeline::new();
    both.add_command(cmd("ASKING")).add_command(command.clone());
    let answers = lane.ask_all(&both).await?;
    answers.into_iter().nth(1).unwrap_or_else(|| Err(Failure::Broken("an answer is missing".to_owned())))
}
