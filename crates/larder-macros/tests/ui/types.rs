//! Types that are not what a cached function needs.

use larder::{Cache, LoadError, cached};

/// May be kept, and says what a load may say.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Trig(u64);

struct Fault;

impl From<LoadError<Fault>> for Fault {
    fn from(_: LoadError<Fault>) -> Self {
        Fault
    }
}

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Id(u64);

struct Database;

#[cached]
async fn no_result(cache: &Cache) -> String {
    String::new()
}

#[derive(Clone)]
struct NoSerde(u64);

#[cached]
async fn no_serde(cache: &Cache) -> Result<NoSerde, Fault> {
    Ok(NoSerde(1))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NoClone(u64);

#[cached]
async fn no_clone(cache: &Cache) -> Result<NoClone, Fault> {
    Ok(NoClone(1))
}

struct Plain;

#[cached]
async fn no_load_error(cache: &Cache) -> Result<Trig, Plain> {
    Err(Plain)
}

#[cached(key = "{id}")]
async fn no_key(cache: &Cache, id: Id) -> Result<Trig, Fault> {
    Ok(Trig(id.0))
}

#[cached(key = "{id}")]
async fn no_copy(cache: &Cache, database: &Database, id: u64) -> Result<Trig, Fault> {
    let _database: &Database = database;
    Ok(Trig(id))
}

#[cached(cache = database)]
async fn no_cache(database: Database) -> Result<Trig, Fault> {
    Ok(Trig(1))
}

struct Service {
    cache: Cache,
    trig: u64,
}

impl Service {
    #[cached]
    async fn no_handle(&self) -> Result<Trig, Fault> {
        Ok(Trig(self.trig))
    }
}

fn main() {}
