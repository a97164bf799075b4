//! How a cache is described and built.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::engine::{Engine, RemoteSide};
use crate::error::BuildError;
use crate::event::{Event, Events, Observer};
use crate::log::{Driver, Node};
use crate::policy::{Policy, defaults};
use crate::remote::{Breaker, BreakerOptions, Link, Remote};
use crate::runtime::{Runtime, TokioRuntime, within};

const LEAST_DISCONNECTED_TTL: Duration = Duration::from_secs(3);

/// Something that becomes a remote tier: `Redis::at(..)` of `larder-redis`, or a tier that is one already.
pub trait RemoteConfig: Send + 'static {
    /// Checks the configuration and makes the tier. Connects nowhere.
    ///
    /// # Errors
    /// The option that is wrong, its value and the rule. Never a secret.
    fn build(self: Box<Self>, runtime: Arc<dyn Runtime>) -> Result<Arc<dyn Remote>, BuildError>;
}

impl<R: Remote> RemoteConfig for Arc<R> {
    fn build(self: Box<Self>, _: Arc<dyn Runtime>) -> Result<Arc<dyn Remote>, BuildError> {
        Ok(*self)
    }
}

/// Describes a cache. Every option has a default; [`build`](Self::build) checks them together.
pub struct CacheBuilder {
    memory: u64,
    remote: Option<Box<dyn RemoteConfig>>,
    defaults: Policy,
    runtime: Option<Arc<dyn Runtime>>,
    observers: Vec<Arc<dyn Observer>>,
    breaker: BreakerOptions,
    budget: Duration,
    enabled: bool,
    stamp_limit: usize,
    disconnected_ttl: Duration,
}

impl Default for CacheBuilder {
    fn default() -> Self {
        CacheBuilder {
            memory: defaults::MEMORY,
            remote: None,
            defaults: Policy::default(),
            runtime: None,
            observers: Vec::new(),
            breaker: BreakerOptions::default(),
            budget: defaults::REMOTE_BUDGET,
            enabled: true,
            stamp_limit: defaults::STAMP_LIMIT,
            disconnected_ttl: defaults::DISCONNECTED_TTL,
        }
    }
}

impl CacheBuilder {
    /// Bounds the in-process tier, in bytes; zero switches it off. Default: 256 MiB.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Puts a remote tier behind the in-process one. If it is away, the cache starts all the same, warns, and goes on
    /// trying. Default: none.
    pub fn remote(mut self, remote: impl RemoteConfig) -> Self {
        self.remote = Some(Box::new(remote));
        self
    }

    /// The policy that [`Cache::defaults`] answers. Default: [`Policy::default`].
    pub fn defaults(mut self, policy: Policy) -> Self {
        self.defaults = policy;
        self
    }

    /// The runtime to live on. Default: the Tokio runtime that `build` is called in.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Tells `observer` what happens. Default: nobody; `tracing` hears in any case.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// When reads stop asking a remote tier that does not answer. Default: 5 failures, 30 s.
    pub fn breaker(mut self, options: BreakerOptions) -> Self {
        self.breaker = options;
        self
    }

    /// How long a read waits for the remote tier, over all its calls. Default: 100 ms.
    pub fn remote_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Switches the cache off or on: off, reads load and writes do nothing. Default: on.
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// How many selectors one generation of the local stamp table holds; about 100 bytes each, two generations. No fewer than
    /// the remote tier keeps in one of its own: else a node that starts knows too little to use what is there.
    /// Default: 65 536.
    pub fn stamp_limit(mut self, selectors: usize) -> Self {
        self.stamp_limit = selectors;
        self
    }

    /// How long a node that is cut off from the log goes on serving an entry: counted from when it was last known to be
    /// caught up, or, if that is later, from when it began to load that entry itself. Without a remote tier nothing is
    /// cut off. Default: 60 s.
    pub fn disconnected_ttl(mut self, ttl: Duration) -> Self {
        self.disconnected_ttl = ttl;
        self
    }

    /// Builds the cache, and waits for its remote tier a second at the most.
    ///
    /// # Errors
    /// An option that breaks its rule. A remote tier that is away is none.
    pub async fn build(self) -> Result<Cache, BuildError> {
        self.check()?;
        let runtime = self.runtime.unwrap_or_else(|| Arc::new(TokioRuntime::current()));
        let events = Arc::new(Events::new(self.observers));
        let node = Arc::new(match &self.remote {
            Some(_) if self.enabled => Node::new(self.stamp_limit, self.disconnected_ttl),
            _ => Node::alone(self.stamp_limit),
        });
        let remote = match self.remote {
            Some(config) if self.enabled => {
                let remote = config.build(runtime.clone())?;
                let for_breaker = events.clone();
                let breaker = Arc::new(Breaker::new(self.breaker, move |from, to| {
                    for_breaker.emit(|| Event::Breaker { from, to });
                }));
                let driver = Driver::new(
                    node.clone(),
                    remote.clone(),
                    breaker.clone(),
                    runtime.clone(),
                    events.clone(),
                );
                Some(RemoteSide { remote, driver: Arc::new(driver), breaker, budget: self.budget })
            }
            _ => None,
        };
        if let Some(side) = &remote {
            side.remote.connect();
            side.driver.start();
            start(side, &*runtime, &events).await;
        }
        let returned = remote.as_ref().map(|side| side.driver.returned());
        let engine = Arc::new(Engine::new(runtime, self.memory, node, remote, events, self.enabled));
        if let Some(remote) = &engine.remote {
            let wakes = remote.remote.wakes(engine.leases.waiter());
            engine.runtime.spawn(Box::pin(Engine::hear_wakes(Arc::downgrade(&engine), wakes)));
        }
        if let Some(returned) = returned {
            engine.runtime.spawn(Box::pin(Engine::push_back(Arc::downgrade(&engine), returned)));
        }
        Ok(Cache::new(engine, self.defaults))
    }

    fn check(&self) -> Result<(), BuildError> {
        self.defaults.check().map_err(BuildError::Policy)?;
        let wrong = |option, value: String, rule: &str| {
            Err(BuildError::Option { option, value, rule: rule.to_owned() })
        };
        if self.budget.is_zero() || self.budget > Duration::from_secs(60) {
            return wrong(
                "remote_budget",
                format!("{:?}", self.budget),
                "must be above zero and at most 60 s",
            );
        }
        if self.breaker.failures == 0 {
            return wrong("breaker.failures", "0".into(), "must be at least 1");
        }
        if self.disconnected_ttl < LEAST_DISCONNECTED_TTL {
            return wrong(
                "disconnected_ttl",
                format!("{:?}", self.disconnected_ttl),
                "must be at least 3 s: a node that follows the log asks it once a second",
            );
        }
        if self.stamp_limit < 16 {
            return wrong("stamp_limit", self.stamp_limit.to_string(), "must be at least 16");
        }
        if self.memory > 0 && self.memory < 64 * 1024 {
            return wrong("memory", self.memory.to_string(), "must be 0 (off) or at least 64 KiB");
        }
        Ok(())
    }
}

/// Waits until the log is open and the values can be reached, or it is clear that they will not be for now.
async fn start(side: &RemoteSide, runtime: &dyn Runtime, events: &Events) {
    let mut link = side.remote.log_link();
    let mut opened = side.driver.opened();
    let refused = async {
        let down = link.wait_for(|l| matches!(l, Link::Down { reason } if !reason.is_empty())).await;
        match down.as_deref() {
            Ok(Link::Down { reason }) => reason.clone(),
            _ => "closed".to_owned(),
        }
    };
    let mut values = side.remote.link();
    let started = within(runtime, defaults::START_WAIT, async {
        tokio::select! {
            biased;
            _ = opened.wait_for(|opened| *opened) => {}
            reason = refused => return Some(reason),
        }
        // A connection of its own, which may be a moment later; if it fails, that is said when it does.
        let tried = |link: &Link| !matches!(link, Link::Down { reason } if reason.is_empty());
        let _ = values.wait_for(tried).await;
        None
    });
    let reason = match started.await {
        Ok(None) => return,
        Ok(Some(reason)) => reason,
        Err(_) => format!("no answer within {:?}", defaults::START_WAIT),
    };
    events.emit(|| Event::LocalOnly { reason });
}
