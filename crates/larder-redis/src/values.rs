//! Values: one string each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    BoxFuture, Cursor, Epoch, Link, PEEKED, Page, RemoteError, Store, StoreLease, Stored, Values as Answers,
};
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::watch;

use crate::gather::{self, Reads};
use crate::keys::{self, Keys, hex};
use crate::lane::{Ask, Failure, Lane};
use crate::lanes::ValueLanes;
use crate::leases::message;
use crate::link::{Keeper, Wiring};
use crate::reply::{self, senseless};
use crate::router::Router;
use crate::scripts::{self, By};
use crate::slots::slot_of;

/// The longest life of anything. Redis adds it to the time, and refuses what does not fit in 63 bits.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Values shown or discarded at one time: so that no answer, and no pause of the server, is as long as a caller likes.
const BATCH: usize = 1000;

/// The values on their connections.
#[derive(Debug)]
pub(crate) struct Values {
    wiring: Arc<Wiring>,
    pub(crate) place: Place,
}

/// Where values are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// All in one place.
    One(Arc<Keeper<ValueLanes>>),
    /// Spread over a cluster.
    Cluster(Arc<Router>),
}

/// Wherever the value of this name is.
pub(crate) struct Holder<'a> {
    place: &'a Place,
    name: &'a [u8],
}

impl Ask for Holder<'_> {
    async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        match self.place {
            Place::One(keeper) => keeper.lanes()?.next().ask(command).await,
            Place::Cluster(router) => router.ask(slot_of(self.name), command).await,
        }
    }
}

impl Place {
    pub(crate) fn holder<'a>(&'a self, name: &'a [u8]) -> Holder<'a> {
        Holder { place: self, name }
    }

    /// The slot of a value; all are in one if nothing depends on it.
    pub(crate) fn slot_of(&self, name: &[u8]) -> u16 {
        match self {
            Place::One(_) => 0,
            Place::Cluster(_) => slot_of(name),
        }
    }

    /// The number of the server that has the values of a slot.
    pub(crate) fn server_of(&self, slot: u16) -> Result<usize, Failure> {
        match self {
            Place::One(_) => Ok(0),
            Place::Cluster(router) => router.index_of(slot),
        }
    }

    /// The reads on a connection to a server by its number.
    pub(crate) fn reads(&self, server: usize) -> Result<Arc<Reads>, Failure> {
        match self {
            Place::One(keeper) => Ok(Arc::clone(keeper.lanes()?.next_reads())),
            Place::Cluster(router) => router.reads_at(server),
        }
    }

    fn servers(&self) -> Result<usize, Failure> {
        match self {
            Place::One(_) => Ok(1),
            Place::Cluster(router) => router.count(),
        }
    }

    /// A connection to a server by its number; `None` behind the last.
    fn lane(&self, server: usize) -> Result<Option<Arc<Lane>>, Failure> {
        match self {
            Place::One(keeper) if server == 0 => Ok(Some(Arc::clone(keeper.lanes()?.next()))),
            Place::One(_) => Ok(None),
            Place::Cluster(router) => router.lane_at(server),
        }
    }
}

impl Values {
    pub(crate) fn new(wiring: &Arc<Wiring>, place: Place) -> Self {
        Values { wiring: Arc::clone(wiring), place }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        match &self.place {
            Place::One(keeper) => keeper.link(),
            Place::Cluster(router) => router.link(),
        }
    }

    pub(crate) fn close(&self) {
        match &self.place {
            Place::One(keeper) => keeper.close(),
            Place::Cluster(router) => router.close(),
        }
    }

    /// Keeps the connections open until they are closed.
    pub(crate) fn run(&self) -> BoxFuture<'static, ()> {
        match &self.place {
            Place::One(keeper) => Box::pin(Arc::clone(keeper).run()),
            Place::Cluster(router) => Box::pin(Arc::clone(router).run()),
        }
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.wiring.settings.keys
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RemoteError> {
        gather::get(&self.place, &self.keys().value(key)).await
    }

    pub(crate) async fn get_many(&self, keys: &[&[u8]]) -> Answers {
        gather::get_many(&self.place, keys.iter().map(|key| self.keys().value(key)).collect()).await
    }

    pub(crate) async fn store(&self, key: &[u8], store: Store) -> Result<Stored, RemoteError> {
        let Store { bytes, life, epoch, lease, measured } = store;
        let life = lasting(life)?;
        let name = self.keys().value(key);
        let (line, at) = (epoch.line.to_be_bytes(), epoch.at.to_be_bytes());
        let measured = if measured { "1" } else { "" };
        let yields = lease == StoreLease::Yields;
        let token = match lease {
            StoreLease::Apart | StoreLease::Yields => None,
            StoreLease::Ends(token) => Some(hex(token)),
            StoreLease::Breaks => Some(String::new()),
        };
        let holder = self.place.holder(&name);
        let answer = match token {
            None => {
                let plain = scripts::STORE.run(&holder, 1, |call| {
                    call.arg(&name).arg(&*bytes).arg(life).arg(&line).arg(&at).arg(measured);
                    call.arg(if yields { "1" } else { "" });
                });
                plain.await?
            }
            Some(token) => {
                let (lease, message) = (keys::lease(&name), message(key, true));
                let leased = scripts::STORE.run(&holder, 2, |call| {
                    call.arg(&name).arg(&lease).arg(&*bytes).arg(life).arg(&line).arg(&at).arg(measured);
                    call.arg(&token).arg(&self.keys().wake).arg(&message);
                });
                leased.await?
            }
        };
        reply::stored(&answer).ok_or_else(senseless)
    }

    pub(crate) async fn remove(&self, key: &[u8]) -> Result<(), RemoteError> {
        let name = self.keys().value(key);
        let mut unlink = cmd("UNLINK");
        unlink.arg(&name);
        self.place.holder(&name).ask(&unlink).await?;
        Ok(())
    }

    pub(crate) async fn page(
        &self,
        under: &[&[u8]],
        cursor: Cursor,
        limit: usize,
    ) -> Result<Page, RemoteError> {
        let server = usize::try_from(cursor.server).unwrap_or(usize::MAX);
        let servers = self.place.servers()?;
        let Some(lane) = self.place.lane(server)? else {
            return Ok(Page { values: Vec::new(), next: None });
        };
        let mut scan = cmd("SCAN");
        scan.arg(cursor.at).arg("MATCH").arg(self.keys().pattern(keys::common(under)));
        scan.arg("COUNT").arg(limit.clamp(1, BATCH));
        let (next, mut names) = reply::names(lane.ask(&scan).await?).ok_or_else(senseless)?;
        let begin: Vec<_> = under.iter().map(|key| self.keys().beginning(key)).collect();
        names.retain(|name| begin.iter().any(|begin| name.starts_with(begin)));
        let values = self.heads(&lane, names).await?;
        let next = match next {
            0 if server + 1 >= servers => None,
            0 => Some(Cursor { server: cursor.server + 1, at: 0 }),
            at => Some(Cursor { server: cursor.server, at }),
        };
        Ok(Page { values, next })
    }

    /// The first bytes of values, under their short names; without those that are none or have vanished.
    async fn heads(&self, lane: &Lane, names: Vec<Vec<u8>>) -> Result<Vec<(Vec<u8>, Bytes)>, RemoteError> {
        let mut look = Pipeline::new();
        for name in &names {
            look.add_command(head_of(name));
        }
        let heads = if names.is_empty() { Vec::new() } else { lane.ask_all(&look).await? };
        let mut values = Vec::with_capacity(names.len());
        for (name, head) in names.into_iter().zip(heads) {
            let Some(short) = self.keys().short(&name) else { continue };
            let head = match head {
                Err(failure) if self.is_elsewhere(lane, &failure) => {
                    self.place.holder(&name).ask(&head_of(&name)).await
                }
                head => head,
            };
            match head {
                // An empty one has vanished, or is nothing of ours.
                Ok(Value::BulkString(head)) if !head.is_empty() => {
                    values.push((short.to_vec(), Bytes::from(head)));
                }
                Ok(_) => {}
                Err(Failure::Refused(refusal)) if refusal.is_wrong_type() => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(values)
    }

    /// Was it asked of a node that does not have it any more?
    fn is_elsewhere(&self, lane: &Lane, failure: &Failure) -> bool {
        matches!(failure, Failure::Refused(refusal) if refusal.redirect(lane.server()).is_some())
    }

    pub(crate) async fn discard(&self, values: &[(Vec<u8>, Epoch)]) -> Result<u64, RemoteError> {
        let mut discarded = 0;
        for batch in values.chunks(BATCH) {
            let mut servers: BTreeMap<usize, Vec<&(Vec<u8>, Epoch)>> = BTreeMap::new();
            for value in batch {
                let server = self.place.server_of(self.place.slot_of(&self.keys().whole(&value.0)))?;
                servers.entry(server).or_default().push(value);
            }
            for (server, values) in servers {
                discarded += self.discard_at(server, &values).await?;
            }
        }
        Ok(discarded)
    }

    async fn discard_at(&self, server: usize, values: &[&(Vec<u8>, Epoch)]) -> Result<u64, RemoteError> {
        let gone = || RemoteError::disconnected("the server is not a part of the cluster any more");
        let lane = self.place.lane(server)?.ok_or_else(gone)?;
        let mut discarded = 0;
        let mut unknown = Vec::new();
        let mut elsewhere = Vec::new();
        for (value, answer) in values.iter().zip(self.try_discard(&lane, By::Name, values).await?) {
            match answer {
                Err(Failure::Refused(refusal)) if refusal.is_unknown_script() => unknown.push(*value),
                Err(failure) if self.is_elsewhere(&lane, &failure) => elsewhere.push(*value),
                answer => discarded += count(answer)?,
            }
        }
        if !unknown.is_empty() {
            for (value, answer) in unknown.iter().zip(self.try_discard(&lane, By::Text, &unknown).await?) {
                match answer {
                    Err(failure) if self.is_elsewhere(&lane, &failure) => elsewhere.push(*value),
                    answer => discarded += count(answer)?,
                }
            }
        }
        for (short, epoch) in elsewhere {
            let name = self.keys().whole(short);
            let holder = self.place.holder(&name);
            let answer = scripts::DISCARD.run(&holder, 1, |call| {
                call.arg(&name).arg(&epoch_bytes(*epoch));
            });
            discarded += count(answer.await)?;
        }
        Ok(discarded)
    }

    async fn try_discard(
        &self,
        lane: &Lane,
        by: By,
        values: &[&(Vec<u8>, Epoch)],
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let mut calls = Pipeline::new();
        for (short, epoch) in values {
            let mut call = scripts::DISCARD.call(by, 1);
            call.arg(self.keys().whole(short)).arg(&epoch_bytes(*epoch));
            calls.add_command(call);
        }
        lane.ask_all(&calls).await
    }
}

/// A life in milliseconds.
pub(crate) fn millis(life: Duration) -> u64 {
    u64::try_from(life.min(LONGEST_LIFE).as_millis()).unwrap_or(u64::MAX)
}

/// A life in milliseconds, if that is any.
pub(crate) fn lasting(life: Duration) -> Result<u64, RemoteError> {
    match millis(life) {
        0 => Err(RemoteError::refused("what lives for less than a millisecond is not kept")),
        life => Ok(life),
    }
}

fn head_of(name: &[u8]) -> Cmd {
    let mut head = cmd("GETRANGE");
    head.arg(name).arg(0).arg(PEEKED - 1);
    head
}

/// As in a value's header.
pub(crate) fn epoch_bytes(epoch: Epoch) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&epoch.line.to_be_bytes());
    bytes[8..].copy_from_slice(&epoch.at.to_be_bytes());
    bytes
}

fn count(answer: Result<Value, Failure>) -> Result<u64, RemoteError> {
    match answer? {
        Value::Int(0) => Ok(0),
        Value::Int(1) => Ok(1),
        _ => Err(senseless()),
    }
}
