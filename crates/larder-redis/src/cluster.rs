//! The map of a cluster: who serves which slot, as of now.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::sync::{Notify, watch};

use crate::deadline::within;
use crate::end::End;
use crate::endpoint::Endpoint;
use crate::greet;
use crate::lane::{OwnLane, Purpose};
use crate::link::Wiring;
use crate::reply;
use crate::slots::SlotMap;

/// How often a node is asked for the map although nothing speaks against it.
const EVERY: Duration = Duration::from_secs(3);
/// The shortest time from one refresh to the next, however many doubt the map.
const GAP: Duration = Duration::from_millis(100);

/// Keeps the map of a cluster up to date.
#[derive(Debug)]
pub(crate) struct Cluster {
    wiring: Arc<Wiring>,
    seeds: Vec<Endpoint>,
    known: watch::Sender<Known>,
    doubted: Notify,
}

/// What is known of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The last map that a healthy node told.
    pub(crate) map: Option<Arc<SlotMap>>,
    /// Why the last attempt to get one failed, if it did.
    pub(crate) trouble: Option<String>,
}

/// One node's view.
struct View {
    map: SlotMap,
    /// Counts the changes of the cluster. A node that was cut off stays behind.
    epoch: u64,
}

impl Cluster {
    pub(crate) fn new(wiring: &Arc<Wiring>, seeds: &[Endpoint]) -> Self {
        let known = watch::Sender::new(Known::default());
        Cluster { wiring: Arc::clone(wiring), seeds: seeds.to_vec(), known, doubted: Notify::new() }
    }

    /// What is known, and its changes.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Something speaks against the map: it is asked for soon, once for all who doubt it.
    pub(crate) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// The primary that serves a slot. Waits for the first attempt to get a map, not for more. The error is a reason for
    /// people.
    pub(crate) async fn owner(&self, slot: u16) -> Result<Endpoint, String> {
        let mut known = self.known();
        let tried = |known: &Known| known.map.is_some() || known.trouble.is_some();
        let known = known.wait_for(tried).await.map_err(|_| "closed".to_owned())?;
        match (&known.map, &known.trouble) {
            (Some(map), _) => {
                map.owner(slot).cloned().ok_or_else(|| format!("no primary serves slot {slot}"))
            }
            (None, trouble) => Err(trouble.clone().unwrap_or_default()),
        }
    }

    /// Completes when a slot is known to be served by another than `server`.
    pub(crate) async fn replaced(&self, slot: u16, server: &Endpoint) {
        let by_another = |known: &Known| {
            known.map.as_ref().and_then(|map| map.owner(slot)).is_some_and(|owner| owner != server)
        };
        // An error would mean that the sender is gone, which `self` holds.
        let _ = self.known().wait_for(by_another).await;
    }

    /// Keeps the map up to date, for ever.
    pub(crate) async fn run(&self) {
        let mut asked = None;
        let mut newest = 0;
        loop {
            let told = self.ask_around(&mut asked, newest).await;
            let pause = if told.is_ok() { EVERY } else { GAP };
            self.known.send_if_modified(|known| {
                let map = match &told {
                    Ok(view) if known.map.as_deref() != Some(&view.map) => Some(Arc::new(view.map.clone())),
                    Ok(_) | Err(_) => known.map.clone(),
                };
                let now = Known { map, trouble: told.as_ref().err().cloned() };
                let news = *known != now;
                *known = now;
                news
            });
            match told {
                Ok(view) => newest = view.epoch,
                Err(reason) => tracing::debug!(target: "larder", reason, "no map of the cluster"),
            }
            self.wiring.runtime.sleep(GAP).await;
            tokio::select! {
                () = self.doubted.notified() => {}
                () = self.wiring.runtime.sleep(pause) => {}
            }
        }
    }

    /// Asks the node that was asked last, then the others until a healthy one answers whose view is not older than
    /// `newest`. If all of them are older, the cluster was made anew, and the newest of them counts.
    async fn ask_around(&self, asked: &mut Option<(Endpoint, OwnLane)>, newest: u64) -> Result<View, String> {
        let mut older: Option<View> = None;
        let mut reasons = Vec::new();
        let candidates = self.candidates(asked.as_ref().map(|(node, _)| node));
        for node in candidates {
            let lane = match asked.take() {
                Some((open, lane)) if open == node => Ok(lane),
                _ => self.open(&node).await,
            };
            let lane = match lane {
                Ok(lane) => lane,
                Err(reason) => {
                    reasons.push(format!("{node}: {reason}"));
                    continue;
                }
            };
            match self.ask(&node, &lane).await {
                Ok(view) if view.epoch >= newest => {
                    *asked = Some((node, lane));
                    return Ok(view);
                }
                Ok(view) => {
                    if older.as_ref().is_none_or(|best| view.epoch > best.epoch) {
                        older = Some(view);
                    }
                }
                Err(reason) => reasons.push(format!("{node}: {reason}")),
            }
        }
        older.ok_or_else(|| format!("no node tells the map of the cluster: {}", reasons.join("; ")))
    }

    /// The one that was asked last, the primaries, the seeds.
    fn candidates(&self, last: Option<&Endpoint>) -> Vec<Endpoint> {
        let map = self.known.borrow().map.clone();
        let primaries = map.iter().flat_map(|map| map.primaries());
        let mut nodes: Vec<Endpoint> = Vec::new();
        for node in last.into_iter().chain(primaries).chain(&self.seeds) {
            if !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }

    async fn open(&self, node: &Endpoint) -> Result<OwnLane, String> {
        let end = End::new();
        let lane = greet::open(&self.wiring, node, Purpose::Values, &end).await?;
        Ok(OwnLane::new(lane, end))
    }

    async fn ask(&self, node: &Endpoint, lane: &OwnLane) -> Result<View, String> {
        let mut question = Pipeline::new();
        question.cmd("CLUSTER").arg("INFO");
        question.cmd("CLUSTER").arg("SLOTS");
        let limit = self.wiring.settings.connect_timeout;
        let answers = within(&*self.wiring.runtime, limit, lane.lane().ask_all(&question)).await;
        let answers = answers.ok_or_else(|| format!("no answer within {limit:?}"))?;
        let answers = answers.and_then(|answers| answers.into_iter().collect::<Result<Vec<_>, _>>());
        let answers = answers.map_err(|failure| greet::told("", &failure, None))?;
        let senseless = || "it makes no sense".to_owned();
        let [info, slots] = <[_; 2]>::try_from(answers).map_err(|_| senseless())?;
        let health = reply::cluster_info(&info).ok_or_else(senseless)?;
        if !health.is_ok {
            return Err("it says that the cluster is down".to_owned());
        }
        let map = SlotMap::parse(&slots, node).ok_or_else(senseless)?;
        Ok(View { map, epoch: health.epoch })
    }
}
