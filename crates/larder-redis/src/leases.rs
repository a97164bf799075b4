//! Leases: one string each, beside the value.

use std::time::Duration;

use larder_core::{LeaseAnswer, LeaseRequest, RemoteError};
use redis::Value;

use crate::keys::{self, hex};
use crate::reply::{self, senseless};
use crate::scripts;
use crate::values::{Values, lasting};

impl Values {
    pub(crate) async fn lease(&self, key: &[u8], request: &LeaseRequest) -> Result<LeaseAnswer, RemoteError> {
        let LeaseRequest { token, epoch, life, rejected, vain, waiter } = request;
        let life = lasting(*life)?;
        let name = self.keys().value(key);
        let lease = keys::lease(&name);
        let holder = self.place.holder(&name);
        let answer = scripts::LEASE.run(&holder, 2, |call| {
            call.arg(&name).arg(&lease).arg(hex(*token)).arg(hex(epoch.line)).arg(epoch.at).arg(life);
            call.arg(rejected.as_deref().unwrap_or_default());
            call.arg(vain.map(hex).unwrap_or_default()).arg(hex(*waiter));
        });
        reply::leased(answer.await?).ok_or_else(senseless)
    }

    pub(crate) async fn extend(&self, key: &[u8], token: u64, life: Duration) -> Result<bool, RemoteError> {
        let life = lasting(life)?;
        let name = self.keys().value(key);
        let holder = self.place.holder(&name);
        let answer = scripts::EXTEND.run(&holder, 1, |call| {
            call.arg(keys::lease(&name)).arg(hex(token)).arg(life);
        });
        match answer.await? {
            Value::Int(done) => Ok(done == 1),
            _ => Err(senseless()),
        }
    }

    pub(crate) async fn release(&self, key: &[u8], token: u64, shared: bool) -> Result<(), RemoteError> {
        let name = self.keys().value(key);
        let holder = self.place.holder(&name);
        let message = message(key, shared);
        let answer = scripts::RELEASE.run(&holder, 1, |call| {
            call.arg(keys::lease(&name)).arg(hex(token)).arg(&self.keys().wake).arg(&message);
        });
        answer.await?;
        Ok(())
    }
}

/// What those who wait for a lease are told at its end: whether its answer is shared, and the key. The whole key, since names of
/// values do not tell it: and so nobody has to remember what he waits for.
pub(crate) fn message(key: &[u8], shared: bool) -> Vec<u8> {
    [if shared { b"1" } else { b"0" }, key].concat()
}
