//! Shares: counts of bytes, by when their lives end.

use std::time::Duration;

use larder_core::RemoteError;
use redis::Value;

use crate::reply::senseless;
use crate::scripts;
use crate::values::{Values, millis};

/// Parts into which the life of a share's bytes is divided: how much longer than they live bytes may be counted.
const PARTS: u64 = 16;
/// The least width of a part, in milliseconds.
const LEAST_WIDTH: u64 = 1000;

/// The width of the part in which bytes of such a life (in ms) end. A power of two, so that lives which differ a little share
/// parts.
fn width(life: u64) -> u64 {
    (life / PARTS).max(LEAST_WIDTH).next_power_of_two()
}

impl Values {
    pub(crate) async fn reserve(
        &self,
        share: &[u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> Result<bool, RemoteError> {
        let life = millis(life);
        let name = self.keys().share(share);
        let holder = self.place.holder(&name);
        let answer = scripts::RESERVE.run(&holder, 1, |call| {
            call.arg(&name).arg(bytes).arg(life).arg(width(life)).arg(limit);
        });
        match answer.await? {
            Value::Int(done) => Ok(done == 1),
            _ => Err(senseless()),
        }
    }

    pub(crate) async fn give_back(
        &self,
        share: &[u8],
        bytes: u64,
        left: Duration,
    ) -> Result<(), RemoteError> {
        let name = self.keys().share(share);
        let holder = self.place.holder(&name);
        let answer = scripts::GIVE_BACK.run(&holder, 1, |call| {
            call.arg(&name).arg(bytes).arg(millis(left));
        });
        answer.await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_a_power_of_two_and_at_most_an_eighth_of_a_long_life() {
        for (life, expected) in [(0, 1024), (16_000, 1024), (60_000, 4096), (3_600_000, 262_144)] {
            assert_eq!(width(life), expected);
            assert!(life < 16_000 || width(life) * 8 <= life * 2);
        }
    }
}
