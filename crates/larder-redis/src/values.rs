//! Values: one string each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{Cursor, Epoch, PEEKED, Page, RemoteError, Stored};
use redis::{Cmd, Pipeline, Value, cmd};

use crate::keys::Keys;
use crate::lane::{Failure, Lane};
use crate::lanes::ValueLanes;
use crate::link::{Keeper, Wiring};
use crate::reply::{self, senseless};
use crate::scripts::{self, By};

/// The longest life of a value. Redis adds it to the time, and refuses what does not fit in 63 bits.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Values shown or discarded at one time: so that no answer, and no pause of the server, is as long as a caller likes.
const BATCH: usize = 1000;

/// The values on their connections.
#[derive(Debug)]
pub(crate) struct Values {
    wiring: Arc<Wiring>,
    pub(crate) keeper: Arc<Keeper<ValueLanes>>,
}

impl Values {
    pub(crate) fn new(wiring: &Arc<Wiring>, keeper: Keeper<ValueLanes>) -> Self {
        Values { wiring: Arc::clone(wiring), keeper: Arc::new(keeper) }
    }

    fn keys(&self) -> &Keys {
        &self.wiring.settings.keys
    }

    fn lane(&self) -> Result<Arc<Lane>, RemoteError> {
        Ok(Arc::clone(self.keeper.lanes()?.next()))
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RemoteError> {
        let mut get = cmd("GET");
        get.arg(self.keys().value(key));
        match self.lane()?.ask(&get).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            _ => Err(senseless()),
        }
    }

    pub(crate) async fn store(
        &self,
        key: &[u8],
        bytes: Bytes,
        life: Duration,
        epoch: Epoch,
    ) -> Result<Stored, RemoteError> {
        let life = u64::try_from(life.min(LONGEST_LIFE).as_millis()).unwrap_or(u64::MAX);
        if life == 0 {
            return Err(RemoteError::refused("a life of less than a millisecond is not stored"));
        }
        let name = self.keys().value(key);
        let (line, at) = (epoch.line.to_be_bytes(), epoch.at.to_be_bytes());
        let lane = self.lane()?;
        let answer = scripts::STORE.run(&lane, 1, |call| {
            call.arg(&name).arg(&*bytes).arg(life).arg(&line).arg(&at);
        });
        match answer.await? {
            Value::Int(1) => Ok(Stored::Stored),
            Value::Int(0) => Ok(Stored::Overtaken),
            _ => Err(senseless()),
        }
    }

    pub(crate) async fn remove(&self, key: &[u8]) -> Result<(), RemoteError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(self.keys().value(key));
        self.lane()?.ask(&unlink).await?;
        Ok(())
    }

    pub(crate) async fn page(&self, under: &[u8], cursor: Cursor, limit: usize) -> Result<Page, RemoteError> {
        let lane = self.lane()?;
        let mut scan = cmd("SCAN");
        scan.arg(cursor.at).arg("MATCH").arg(self.keys().pattern(under));
        scan.arg("COUNT").arg(limit.clamp(1, BATCH));
        let (next, names) = reply::names(lane.ask(&scan).await?).ok_or_else(senseless)?;
        let mut look = Pipeline::new();
        for name in &names {
            look.cmd("GETRANGE").arg(name).arg(0).arg(PEEKED - 1);
        }
        let heads = if names.is_empty() { Vec::new() } else { lane.ask_all(&look).await? };
        let mut values = Vec::with_capacity(names.len());
        for (name, head) in names.into_iter().zip(heads) {
            let Some(short) = self.keys().short(&name) else { continue };
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
        Ok(Page { values, next: (next != 0).then_some(Cursor { server: 0, at: next }) })
    }

    pub(crate) async fn discard(&self, values: &[(Vec<u8>, Epoch)]) -> Result<u64, RemoteError> {
        let mut discarded = 0;
        for batch in values.chunks(BATCH) {
            let lane = self.lane()?;
            let mut unknown = Vec::new();
            for (value, answer) in batch.iter().zip(self.try_discard(&lane, By::Name, batch).await?) {
                match answer {
                    Err(Failure::Refused(refusal)) if refusal.is_unknown_script() => unknown.push(value),
                    answer => discarded += count(answer)?,
                }
            }
            if !unknown.is_empty() {
                for answer in self.try_discard(&lane, By::Text, unknown).await? {
                    discarded += count(answer)?;
                }
            }
        }
        Ok(discarded)
    }

    async fn try_discard<'v>(
        &self,
        lane: &Lane,
        by: By,
        values: impl IntoIterator<Item = &'v (Vec<u8>, Epoch)>,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let mut calls = Pipeline::new();
        for (short, epoch) in values {
            calls.add_command(self.discard_call(by, short, *epoch));
        }
        lane.ask_all(&calls).await
    }

    fn discard_call(&self, by: By, short: &[u8], epoch: Epoch) -> Cmd {
        let mut call = scripts::DISCARD.call(by, 1);
        call.arg(self.keys().whole(short));
        call.arg([epoch.line.to_be_bytes(), epoch.at.to_be_bytes()].as_flattened());
        call
    }
}

fn count(answer: Result<Value, Failure>) -> Result<u64, RemoteError> {
    match answer? {
        Value::Int(0) => Ok(0),
        Value::Int(1) => Ok(1),
        _ => Err(senseless()),
    }
}
