//! Asking sentinels who the primary of a service is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Pipeline, Value};

use crate::deadline::within;
use crate::end::{End, EndOnDrop};
use crate::endpoint::Endpoint;
use crate::greet::{self, login};
use crate::lane::{Failure, Lane, OwnLane, Purpose};
use crate::link::Wiring;
use crate::reply;

/// How often a sentinel is asked whether the primary is still the same.
const EVERY: Duration = Duration::from_secs(1);

/// Some sentinels, and what they know of one service.
#[derive(Debug)]
pub(crate) struct Sentinels {
    wiring: Arc<Wiring>,
    service: String,
    /// The one that gave the last answer of use is first.
    order: Mutex<Vec<Endpoint>>,
    /// The newest configuration that any of them has told. One that was cut off from the others goes on telling of the
    /// primary from before the failover.
    newest: AtomicU64,
}

/// What a sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) primary: Endpoint,
    /// Counts the failovers; 0 if it does not say.
    pub(crate) configuration: u64,
}

impl Sentinels {
    pub(crate) fn new(wiring: &Arc<Wiring>, sentinels: &[Endpoint], service: &str) -> Self {
        Sentinels {
            wiring: Arc::clone(wiring),
            service: service.to_owned(),
            order: Mutex::new(sentinels.to_vec()),
            newest: AtomicU64::new(0),
        }
    }

    /// Asks one after the other. The error is a reason for people.
    pub(crate) async fn primary(&self) -> Result<Endpoint, String> {
        let order = self.order.lock().clone();
        let mut outdated: Option<Told> = None;
        let mut reasons = Vec::new();
        for sentinel in order {
            let asked = async { self.ask(self.open(&sentinel).await?.lane()).await };
            match asked.await {
                Ok(told) if told.configuration >= self.newest.load(Ordering::Relaxed) => {
                    self.put_first(&sentinel);
                    self.newest.fetch_max(told.configuration, Ordering::Relaxed);
                    return Ok(told.primary);
                }
                Ok(told) => {
                    if outdated.as_ref().is_none_or(|best| told.configuration > best.configuration) {
                        outdated = Some(told);
                    }
                }
                Err(reason) => reasons.push(format!("{sentinel}: {reason}")),
            }
        }
        if let Some(told) = outdated {
            // Nobody knows of anything newer: the sentinels have begun to count anew.
            self.newest.store(told.configuration, Ordering::Relaxed);
            return Ok(told.primary);
        }
        Err(format!("no sentinel names the primary of {}: {}", self.service, reasons.join("; ")))
    }

    fn put_first(&self, sentinel: &Endpoint) {
        let mut order = self.order.lock();
        if let Some(at) = order.iter().position(|one| one == sentinel) {
            order[..=at].rotate_right(1);
        }
    }

    /// Asks one of them every second, each in its turn. Completes when the primary is another than `server`.
    pub(crate) async fn replaced(&self, server: &Endpoint) {
        let mut sentinels = self.order.lock().clone();
        let mut lanes: HashMap<Endpoint, OwnLane> = HashMap::new();
        loop {
            self.wiring.runtime.sleep(EVERY).await;
            let sentinel = sentinels[0].clone();
            sentinels.rotate_left(1);
            let asked = async {
                let lane = match lanes.remove(&sentinel) {
                    Some(lane) => lane,
                    None => self.open(&sentinel).await?,
                };
                let told = self.ask(lane.lane()).await?;
                lanes.insert(sentinel.clone(), lane);
                Ok::<_, String>(told)
            };
            match asked.await {
                Ok(told) => {
                    let newest = self.newest.fetch_max(told.configuration, Ordering::Relaxed);
                    if told.configuration >= newest && told.primary != *server {
                        self.put_first(&sentinel);
                        return;
                    }
                }
                // Others will be asked; and what the server does shows on its own connections.
                Err(reason) => {
                    tracing::debug!(target: "larder", %sentinel, reason, "the sentinel does not answer");
                }
            }
        }
    }

    async fn open(&self, sentinel: &Endpoint) -> Result<OwnLane, String> {
        let Wiring { settings, runtime, .. } = &*self.wiring;
        let end = End::new();
        let unused = EndOnDrop::new(&end);
        let opened = async {
            let lane = Lane::open(&settings.dialer, sentinel, Purpose::Values, &**runtime, &end).await?;
            if let Some(user) = &settings.sentinel_login {
                let refused = lane.ask(&login(user)).await;
                refused.map_err(|failure| {
                    greet::told("the sentinel refuses the login: ", &failure, Some(user))
                })?;
            }
            Ok(lane)
        };
        let lane = self.in_time(opened).await?;
        unused.release();
        Ok(OwnLane::new(lane, end))
    }

    async fn ask(&self, lane: &Lane) -> Result<Told, String> {
        let mut question = Pipeline::new();
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        question.cmd("SENTINEL").arg("MASTER").arg(&self.service);
        let asked = async {
            let answers = lane.ask_all(&question).await;
            let answers = answers.map_err(|failure| greet::told("", &failure, None))?;
            let [address, details] =
                <[_; 2]>::try_from(answers).map_err(|_| "it makes no sense".to_owned())?;
            told(address, details)
        };
        self.in_time(asked).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let limit = self.wiring.settings.connect_timeout;
        let done = within(&*self.wiring.runtime, limit, work).await;
        done.unwrap_or_else(|| Err(format!("no answer within {limit:?}")))
    }
}

fn told(address: Result<Value, Failure>, details: Result<Value, Failure>) -> Result<Told, String> {
    let address = address.map_err(|failure| greet::told("", &failure, None))?;
    if matches!(address, Value::Nil) {
        return Err("it knows no such service".to_owned());
    }
    let primary = reply::host_and_port(&address).ok_or_else(|| "it names no address".to_owned())?;
    // An access list may allow the first question only.
    let configuration = details.ok().and_then(|details| reply::field(&details, "config-epoch")).unwrap_or(0);
    Ok(Told { primary, configuration })
}
