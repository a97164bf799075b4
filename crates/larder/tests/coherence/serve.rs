//! What a node does in its process: a cache, and answers to what it is asked.

use std::sync::Arc;
use std::time::Duration;

use larder::units::{HOUR, SECOND};
use larder::{
    Arrival, BreakerOptions, Cache, Claim, Delivery, Epoch, Fill, Flown, Found, Json, Lead, LookedUp,
    Namespace, Outcome, Policy, Selector, Turn, redis::Redis,
};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::processes::wire::Caller;
use crate::rows;
use crate::trial::{DISCONNECTED_TTL, FAILURES, STALE_WINDOW};

/// How often something is tried before it is a failure.
const ATTEMPTS: usize = 100;

/// How far behind the clock of a process that runs may be: far less than what tests tell apart.
const CLOCK_LAG: Duration = Duration::from_millis(50);

type Answer = Result<String, String>;

pub(crate) struct Server {
    cache: Cache,
    rows: Namespace<(u64, u64), String, String>,
    pages: Namespace<larder::AnyKey, String, larder::NoLoader>,
    database: Arc<Caller>,
}

/// Answers a question. The first one says where Redis and the database are.
pub(crate) async fn answer(server: Arc<OnceCell<Arc<Server>>>, question: String) -> String {
    let words: Vec<_> = question.split(' ').collect();
    let answered = match (server.get(), &*words) {
        (None, ["begin", redis, database]) => {
            server.get_or_init(|| Server::begin(redis, database)).await;
            Ok("begun".to_owned())
        }
        (Some(server), words) => Server::answer(server, words).await,
        _ => Err("not begun".to_owned()),
    };
    answered.unwrap_or_else(|error| format!("error {error}"))
}

impl Server {
    async fn begin(redis: &str, database: &str) -> Arc<Self> {
        let database = Arc::new(Caller::over(TcpStream::connect(database).await.unwrap()));
        let cache = Cache::builder()
            .remote(Redis::at(redis))
            .breaker(BreakerOptions { failures: FAILURES, open_for: SECOND })
            .disconnected_ttl(DISCONNECTED_TTL)
            .build()
            .await
            .unwrap();
        let policy = Policy::ttl(HOUR).jitter(0.0).stale_while_revalidate(STALE_WINDOW);
        let source = database.clone();
        let rows = cache.namespace::<String>("row", policy.clone()).unwrap().loader(move |(group, row)| {
            let source = source.clone();
            async move { load(&source, &format!("row:{group}:{row}")).await }
        });
        let pages = cache.front_door("page", policy, Json, |page: &String| page.len()).unwrap();
        Arc::new(Server { cache, rows, pages, database })
    }

    async fn answer(self: &Arc<Self>, question: &[&str]) -> Answer {
        match *question {
            ["fetch", key] => self.fetch(key, None).await,
            ["fetch", key, token] => self.fetch(key, Some(token.parse().unwrap())).await,
            ["load", key] => self.load(key).await,
            ["hard", selector] => {
                Ok(delivered(&self.cache.invalidate([Selector::parse(selector).unwrap()]).await))
            }
            ["soft", selector] => {
                Ok(delivered(&self.cache.expire([Selector::parse(selector).unwrap()]).await))
            }
            ["health"] => Ok(self.health()),
            ["miss"] => {
                let missed = self.rows.get((u64::MAX, u64::MAX)).await.is_none();
                Ok(if missed { "missed" } else { "found" }.to_owned())
            }
            ["breaker"] => Ok(format!("{:?}", self.cache.health().remote.unwrap().breaker)),
            ["why"] => Ok(format!("{:?}", self.cache.health())),
            ["idle"] => {
                let stats = self.cache.stats();
                Ok(if stats.flights + stats.leases == 0 { "idle" } else { "busy" }.to_owned())
            }
            ["awake"] => Ok(self.awake().await),
            ["hits"] => {
                let stats = self.cache.stats();
                let sum =
                    |of: fn(&larder::NamespaceStats) -> u64| stats.namespaces.values().map(of).sum::<u64>();
                Ok(format!("{} {}", sum(|n| n.hits_memory), sum(|n| n.hits_remote)))
            }
            _ => Err(format!("what is {question:?}")),
        }
    }

    /// Waits until the clock that hits read shows the time again, and says so.
    async fn awake(&self) -> String {
        let (runtime, clock) = (self.cache.runtime(), self.cache.runtime().coarse_clock());
        for _ in 0..ATTEMPTS {
            if runtime.now().since(clock.now()) < CLOCK_LAG {
                return "awake".to_owned();
            }
            runtime.sleep(CLOCK_LAG).await;
        }
        "still asleep".to_owned()
    }

    /// What a health probe shows, as far as tests ask: status, state, own invalidations on their way, position, gaps.
    fn health(&self) -> String {
        let health = self.cache.health();
        let log = health.remote.unwrap().log;
        let position = log.position.unwrap_or_else(|| "-".to_owned());
        let (state, pending) = (log.state.as_str(), log.pending_invalidations);
        format!("{} {state} {pending} {position} {}", health.status, log.gaps)
    }

    async fn fetch(self: &Arc<Self>, key: &str, token: Option<Epoch>) -> Answer {
        match *key.split(':').collect::<Vec<_>>() {
            ["row", group, row] => {
                let key = (group.parse::<u64>().unwrap(), row.parse::<u64>().unwrap());
                let hit = self.rows.at_least(token).fetch(key).await.map_err(|error| error.to_string())?;
                Ok(said(&hit.value, hit.outcome.as_str()))
            }
            ["page", page] => {
                let page = page.parse().unwrap();
                if let Some(token) = token
                    && self.cache.arrive(token).await != Arrival::Arrived
                {
                    return Ok(said(&load(&self.database, key).await?, Outcome::Bypass.as_str()));
                }
                let (value, outcome) = self.page(page).await?;
                Ok(said(&value, outcome.as_str()))
            }
            _ => Err(format!("what is {key}")),
        }
    }

    /// The shortest way to a value, which does not say how it was found.
    async fn load(self: &Arc<Self>, key: &str) -> Answer {
        match *key.split(':').collect::<Vec<_>>() {
            ["row", group, row] => {
                let key = (group.parse::<u64>().unwrap(), row.parse::<u64>().unwrap());
                let value = self.rows.load(key).await.map_err(|error| error.to_string())?;
                Ok(said(&value, "unsaid"))
            }
            ["page", page] => Ok(said(&self.page(page.parse().unwrap()).await?.0, "unsaid")),
            _ => Err(format!("what is {key}")),
        }
    }

    /// Step by step, as the HTTP layer reads.
    async fn page(self: &Arc<Self>, page: u64) -> Result<(Arc<String>, Outcome), String> {
        let mut key = self.pages.key_writer();
        key.number(page);
        let key = key.to_key();
        let answer = |found: Found<String>| Ok((found.value, found.outcome));
        for _ in 0..ATTEMPTS {
            let lead = match self.pages.claim(key.as_bytes()) {
                Claim::Found(found) => return answer(found),
                Claim::Stale(found, lead) => {
                    self.refresh(page, lead);
                    return answer(found);
                }
                Claim::Join(flying) => match flying.wait().await {
                    Flown::Found(found) => return answer(found),
                    Flown::Again => continue,
                    Flown::Unshared => return Err("a load that is not shared".to_owned()),
                    Flown::Failed(failure) => return Err(format!("{failure:?}")),
                },
                Claim::Apart(reason) => return Err(reason.as_str().to_owned()),
                Claim::Lead(lead) => lead,
            };
            return match lead.look_up().await {
                LookedUp::Found(found) => answer(found),
                LookedUp::Stale(found, lead) => {
                    self.refresh(page, lead);
                    answer(found)
                }
                LookedUp::Nothing(lead) => answer(self.in_turn(page, lead).await?),
            };
        }
        Err(format!("{ATTEMPTS} loads of others, none of them good"))
    }

    /// Waits for the load's turn, its lease above all, and loads.
    async fn in_turn(&self, page: u64, lead: Lead<String>) -> Result<Found<String>, String> {
        match lead.turn().await {
            Turn::Found(found) => Ok(found),
            Turn::Load(lead) => self.fill(page, lead).await,
            Turn::Overloaded(_) => Err("too many loads, where there is no limit".to_owned()),
        }
    }

    async fn fill(&self, page: u64, mut lead: Lead<String>) -> Result<Found<String>, String> {
        lead.begin();
        let value = load(&self.database, &format!("page:{page}")).await?;
        Ok(lead.fill(Arc::new(value), &Fill::new().tags(vec![rows::tag(page)])))
    }

    fn refresh(self: &Arc<Self>, page: u64, lead: Option<Lead<String>>) {
        let Some(lead) = lead else { return };
        let (server, key) = (self.clone(), lead.key().clone());
        self.pages.refresh_in_background(&key, async move {
            if let LookedUp::Nothing(lead) = lead.look_up().await {
                // Whoever reads next tries again.
                let _ = server.in_turn(page, lead).await;
            }
        });
    }
}

async fn load(database: &Caller, key: &str) -> Result<String, String> {
    database.ask(key).await.ok_or_else(|| "the database is gone".to_owned())
}

/// The key and version of a value, without its filling, and how it was found.
fn said(value: &str, outcome: &str) -> String {
    let words: Vec<_> = value.splitn(3, ' ').collect();
    format!("{} {} {outcome}", words[0], words[1])
}

fn delivered(invalidated: &larder::Invalidated) -> String {
    match (invalidated.state, invalidated.token) {
        (Delivery::Delivered, Some(token)) => format!("delivered {token}"),
        (Delivery::Queued, None) => "queued".to_owned(),
        other => format!("error {other:?}"),
    }
}
