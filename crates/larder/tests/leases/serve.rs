//! What a node does in its process: a cache, and answers to what it is asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder::units::{HOUR, SECOND};
use larder::{BreakerOptions, Cache, Delivery, LoadError, LogState, Namespace, Policy, redis::Redis};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use crate::answers::Answers;
use crate::processes::wire::Caller;
use crate::trial::{IMPATIENT, IMPATIENT_FOR};

type Rows = Namespace<String, u64, String>;

pub(crate) struct Server {
    cache: Cache,
    rows: Rows,
    /// Whose loads may not take long.
    impatient: Rows,
}

/// Answers a question. The first one says who this is, and where Redis and the database are.
pub(crate) async fn answer(server: Arc<OnceCell<Server>>, question: String) -> String {
    let words: Vec<_> = question.split(' ').collect();
    match (server.get(), &*words) {
        (None, ["begin", place, redis, database]) => {
            server
                .get_or_init(|| Server::begin(place.parse().unwrap(), redis, database.parse().unwrap()))
                .await;
            "begun".to_owned()
        }
        (Some(server), words) => server.answer(words).await,
        _ => "not begun".to_owned(),
    }
}

impl Server {
    async fn begin(place: usize, redis: &str, database: SocketAddr) -> Self {
        let database = Arc::new(Caller::over(TcpStream::connect(database).await.unwrap()));
        let cache = Cache::builder()
            .remote(Redis::at(redis))
            .breaker(BreakerOptions { failures: 5, open_for: SECOND })
            // A thousand readers on a busy machine: whoever gets no answer in time does not wait for others.
            .remote_budget(SECOND)
            .build()
            .await
            .unwrap();
        let rows = |name: &str, policy: Policy| {
            let database = database.clone();
            cache.namespace::<u64>(name, policy).unwrap().loader(move |key: String| {
                let database = database.clone();
                async move { load(&database, place, &key).await }
            })
        };
        let policy = Policy::ttl(HOUR).jitter(0.0);
        let rows = (rows("row", policy.clone()), rows("impatient", policy.load_timeout(IMPATIENT_FOR)));
        Server { cache, rows: rows.0, impatient: rows.1 }
    }

    fn rows_of(&self, key: &str) -> &Rows {
        if key.starts_with(IMPATIENT) { &self.impatient } else { &self.rows }
    }

    async fn answer(&self, question: &[&str]) -> String {
        match *question {
            ["read", readers, key] => self.read(readers.parse().unwrap(), key).await.to_string(),
            ["at", token, key] => {
                let rows = self.rows_of(key).at_least(Some(token.parse().unwrap()));
                said(rows.load(key).await)
            }
            ["invalidate", key] => {
                let rows = self.rows_of(key);
                let invalidated = rows.invalidate(key).await;
                match (invalidated.state, invalidated.token) {
                    (Delivery::Delivered, Some(token)) => token.to_string(),
                    _ => "queued".to_owned(),
                }
            }
            ["well"] => self.well().await,
            ["counts"] => {
                let stats = self.cache.stats();
                let sum =
                    |of: fn(&larder::NamespaceStats) -> u64| stats.namespaces.values().map(of).sum::<u64>();
                let (stores, refused) = (sum(|n| n.stores), sum(|n| n.stores_refused));
                format!("{} {} {stores} {refused}", stats.leases, stats.flights)
            }
            ["shutdown", millis] => {
                self.cache.shutdown(Duration::from_millis(millis.parse().unwrap())).await.to_string()
            }
            _ => panic!("what is {question:?}"),
        }
    }

    async fn read(&self, readers: usize, key: &str) -> Answers {
        let mut reading = JoinSet::new();
        for _ in 0..readers {
            let (rows, key) = (self.rows_of(key).clone(), key.to_owned());
            reading.spawn(async move { said(rows.load(&key).await) });
        }
        let mut answers = Answers::default();
        for answer in reading.join_all().await {
            answers.count(answer);
        }
        answers
    }

    /// An open breaker waits for somebody who wants something of Redis: this.
    async fn well(&self) -> String {
        let _ = self.rows.get("nobody").await;
        let health = self.cache.health();
        let log = health.remote.as_ref().map(|remote| &remote.log);
        let follows =
            log.is_some_and(|log| log.state == LogState::Following && log.pending_invalidations == 0);
        if health.status == "ok" && follows { "well".to_owned() } else { format!("{health:?}") }
    }
}

async fn load(database: &Caller, place: usize, key: &str) -> Result<u64, String> {
    let answer = database.ask(&format!("{place} {key}")).await.ok_or("the database is gone")?;
    match answer.split_once(' ') {
        Some(("value", version)) => Ok(version.parse().unwrap()),
        _ if answer == "panics" => panic!("on purpose"),
        _ if answer == "hangs" => std::future::pending().await,
        _ => Err(answer),
    }
}

/// A version, or the name of an error.
fn said(read: Result<Arc<u64>, LoadError<String>>) -> String {
    match read {
        Ok(version) => version.to_string(),
        Err(error) => error.as_str().to_owned(),
    }
}
