//! How much room one value takes in Redis, by codec and compression.
//!
//! `cargo run -p larder --example values --features msgpack,postcard,zstd,lz4`
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::error::Error;
use std::fmt::Write as _;

use larder::{Cache, Codec, Compression, Json, MsgPack, Policy, Postcard, units::*};
use larder_core::testing::{ManualRuntime, TestRemote};
use serde::{Deserialize, Serialize};

/// A page of visits to trig points, as an API would answer it.
#[derive(Clone, Serialize, Deserialize)]
struct Visit {
    id: u64,
    trig_id: u32,
    user: String,
    at: String,
    latitude: f64,
    longitude: f64,
    condition: Condition,
    photos: Vec<u64>,
    comment: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Condition {
    Good,
    Damaged,
}

fn page() -> Vec<Visit> {
    let users = ["ruth", "tom.k", "hillwalker7", "anna", "old_surveyor"];
    let comments = [
        "Clear day, could see the sea from here.",
        "Pillar leans a bit more than last year. The flush bracket is still readable.",
        "Approached from the north, very wet underfoot.",
    ];
    let visit = |n: u32| Visit {
        id: 982_000 + u64::from(n) * 7,
        trig_id: 100 + n * 37 % 900,
        user: users[n as usize % 5].to_owned(),
        at: format!("2025-06-{:02}T1{}:{:02}:00Z", 1 + n % 28, n % 10, n * 13 % 60),
        latitude: 53.384_7 + f64::from(n * n % 97) / 1013.0,
        longitude: -1.879_1 - f64::from(n * 31 % 89) / 1009.0,
        condition: if n % 4 == 3 { Condition::Damaged } else { Condition::Good },
        photos: (0..u64::from(n % 3)).map(|photo| 40_000 + u64::from(n) * 10 + photo).collect(),
        comment: n.is_multiple_of(2).then(|| comments[n as usize / 2 % 3].to_owned()),
    };
    (0..50).map(visit).collect()
}

/// The size of the whole entry in the remote tier: header, key and payload.
async fn stored(
    codec: impl Codec<Vec<Visit>>,
    compression: Option<Compression>,
) -> Result<usize, Box<dyn Error>> {
    let runtime = ManualRuntime::new(1);
    let redis = TestRemote::new(runtime.clone());
    let cache = Cache::builder().memory(MIB).remote(redis.clone()).runtime(runtime).build().await?;
    let mut policy = Policy::ttl(HOUR);
    if let Some(compression) = compression {
        policy = policy.compress(compression);
    }
    let pages = cache.namespace::<Vec<Visit>>("visits", policy)?.codec(codec);
    pages.put(1_u64, page());
    // Stores run in the background; a shutdown waits for them.
    cache.shutdown(SECOND).await;
    Ok(redis.bytes("visits:1").ok_or("nothing was stored")?.len())
}

pub(crate) async fn report() -> Result<String, Box<dyn Error>> {
    let mut table = "| codec | as it is | lz4 | zstd | zstd, level 19 |\n|---|---|---|---|---|\n".to_owned();
    let compressions =
        [None, Some(Compression::lz4()), Some(Compression::zstd()), Some(Compression::zstd_level(19))];
    for name in ["Json", "MsgPack", "Postcard"] {
        write!(table, "| `{name}` |")?;
        for compression in compressions {
            let size = match name {
                "Json" => stored(Json, compression).await?,
                "MsgPack" => stored(MsgPack, compression).await?,
                _ => stored(Postcard, compression).await?,
            };
            write!(table, " {size} |")?;
        }
        table.push('\n');
    }
    Ok(table)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("Bytes in Redis of a page of 50 visits:\n\n{}", report().await?);
    Ok(())
}
