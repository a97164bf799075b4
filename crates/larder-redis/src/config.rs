//! What can be set, and the checked form of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_core::{BuildError, Remote, RemoteConfig, Runtime};

use crate::address::{Address, Secret, Servers};
use crate::dial::Dialer;
use crate::endpoint::Endpoint;
use crate::error::ConfigError;
use crate::keys::Keys;
use crate::remote::RedisRemote;
use crate::url::{DEFAULT_PORT, Url, endpoint, shown};

/// What is used where nothing is set.
pub mod defaults {
    use std::time::Duration;

    /// See [`Redis::prefix`](super::Redis::prefix).
    pub const PREFIX: &str = "larder";
    /// See [`Redis::connections`](super::Redis::connections).
    pub const CONNECTIONS: usize = 1;
    /// See [`Redis::connect_timeout`](super::Redis::connect_timeout).
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    /// See [`Redis::heartbeat`](super::Redis::heartbeat).
    pub const HEARTBEAT: Duration = Duration::from_secs(1);
    /// See [`Redis::stamp_limit`](super::Redis::stamp_limit).
    pub const STAMP_LIMIT: u32 = 65_536;
}

const PREFIX_LIMIT: usize = 64;
const CONNECTIONS_LIMIT: usize = 64;
const SHORTEST_TIME: Duration = Duration::from_millis(10);
const LONGEST_TIME: Duration = Duration::from_secs(60);
const STAMP_LIMIT_LIMIT: u32 = 10_000_000;

/// Where Redis is and how to use it. Nothing is checked before [`build`](Self::build).
///
/// `Debug` shows no password.
#[derive(Clone)]
#[must_use = "a configuration does nothing until it is built"]
pub struct Redis {
    url: String,
    prefix: String,
    username: Option<String>,
    password: Option<Secret>,
    database: Option<u32>,
    connections: usize,
    connect_timeout: Duration,
    heartbeat: Duration,
    stamp_limit: u32,
    tls: bool,
    authority: Option<Authority>,
    sentinel_login: (Option<String>, Option<Secret>),
    log_at: Option<String>,
}

/// Where the certificate of a private authority comes from.
#[derive(Clone, Debug)]
enum Authority {
    File(PathBuf),
    Pem(Vec<u8>),
}

impl Redis {
    /// Servers by their URL. One server: `redis://[user][:password]@host[:port][/database]`, `rediss://` for TLS (feature `tls`),
    /// `unix:///path/to/socket[?db=number]`. `valkey://` and `valkeys://` mean the same as `redis://` and `rediss://`.
    /// User and password are percent-encoded. The port is 6379 and the database 0 unless the URL says otherwise. For
    /// several servers see [`sentinel`](Self::sentinel) and [`cluster`](Self::cluster); `rediss-sentinel://` and
    /// `rediss-cluster://` are the same over TLS.
    pub fn at(url: impl Into<String>) -> Self {
        Redis {
            url: url.into(),
            prefix: defaults::PREFIX.to_owned(),
            username: None,
            password: None,
            database: None,
            connections: defaults::CONNECTIONS,
            connect_timeout: defaults::CONNECT_TIMEOUT,
            heartbeat: defaults::HEARTBEAT,
            stamp_limit: defaults::STAMP_LIMIT,
            tls: false,
            authority: None,
            sentinel_login: (None, None),
            log_at: None,
        }
    }

    /// The primary of a service that sentinels watch over: `host:port` of 1 to 64 of them (26379 is the port unless they
    /// say otherwise), and the name they have for the service. They are asked whenever a connection is opened, and about
    /// once a second whether the primary is still the same: so a failover is followed, also one that the former primary
    /// does not know of. As a URL: `redis-sentinel://[user][:password]@host:port,host:port/service[/database]`.
    pub fn sentinel<S: AsRef<str>>(sentinels: impl IntoIterator<Item = S>, service: impl AsRef<str>) -> Self {
        Redis::at(format!("redis-sentinel://{}/{}", list(sentinels), service.as_ref()))
    }

    /// A cluster, by `host:port` of 1 to 64 of its nodes, which know the others. As a URL:
    /// `redis-cluster://[user][:password]@host:port,host:port`.
    ///
    /// Values are spread over all primaries; the log is in one slot, that of `{<prefix>}`. The prefix is all that can be
    /// chosen about where it is.
    pub fn cluster<S: AsRef<str>>(nodes: impl IntoIterator<Item = S>) -> Self {
        Redis::at(format!("redis-cluster://{}", list(nodes)))
    }

    /// What the names of all keys begin with: 1 to 64 of `A-Z a-z 0-9 _ . -`. Caches with the same prefix on the same
    /// database are one cache. Default: `larder`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The user of an access list; needs a password. Wins over the URL's; empty means none. Default: none, the server's
    /// `default` user.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// The password, as it is, without percent-encoding. Wins over the URL's; empty means none. Default: none.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret::new(password));
        self
    }

    /// The number of the database. Wins over the URL's. Default: 0.
    pub fn database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Connections for values, 1 to 64, used in turn. Each carries many commands at a time, so more of them help only
    /// where values are large: nothing overtakes on a connection, and reads travel together only with those on the same
    /// one. The log has two more of its own, and being woken takes another. Default: 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// How long opening one connection may take, login and TLS included: 10 ms to 60 s. Then it is tried again, for
    /// ever. Default: 1 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How often each connection is asked whether it is alive, and how long it has to answer: 10 ms to 60 s. Two misses
    /// in a row, and it is given up: a server that does not answer is noticed within three times this. While bytes come
    /// in, nothing is a miss; but a value that takes longer than two of these to send is one. Default: 1 s.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Stamps in one of the two generations that Redis keeps: 1 to 10 000 000, of some 96 bytes each. All nodes of a
    /// prefix should agree, and hold as many themselves (`CacheBuilder::stamp_limit`). Fewer of them, and entries that were written
    /// long ago are misses on a node that starts.
    /// Default: 65 536.
    pub fn stamp_limit(mut self, limit: u32) -> Self {
        self.stamp_limit = limit;
        self
    }

    /// Whether to speak TLS (feature `tls`), with sentinels too. `false` takes nothing back from a `rediss` URL. The
    /// certificates of sentinels and nodes must be for the names or addresses by which they make each other known.
    /// Default: as the URL says.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// The user to log in to the sentinels with, whose access lists are their own; needs a password. Empty means none.
    /// Default: none.
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.sentinel_login.0 = Some(username.into());
        self
    }

    /// The password of the sentinels, which is not that of the servers. Empty means none. Default: none.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_login.1 = Some(Secret::new(password));
        self
    }

    /// The PEM file of the authority to trust instead of the public ones, for `rediss://`. Read once, in
    /// [`build`](Self::build). Default: the authorities that browsers trust.
    pub fn ca_certificate(mut self, path: impl Into<PathBuf>) -> Self {
        self.authority = Some(Authority::File(path.into()));
        self
    }

    /// As [`ca_certificate`](Self::ca_certificate), with what would be in the file.
    pub fn ca_certificate_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authority = Some(Authority::Pem(pem.into()));
        self
    }

    /// Where the log's connections go, `host:port`, if not where the values' go. For tests: a proxy can break one of the
    /// two then. Login, database and TLS are the same. Default: the same server.
    #[doc(hidden)]
    pub fn log_at(mut self, host_and_port: impl Into<String>) -> Self {
        self.log_at = Some(host_and_port.into());
        self
    }

    /// Checks everything and makes the remote tier. It does not connect: that is what
    /// [`connect`](larder_core::Remote::connect) is for, and needs no server to be there.
    ///
    /// Reads the certificate's file, if one is set, on the calling thread.
    ///
    /// # Errors
    /// The first setting that breaks its rule.
    pub fn build(self, runtime: Arc<dyn Runtime>) -> Result<Arc<RedisRemote>, ConfigError> {
        Ok(Arc::new(RedisRemote::new(self.checked()?, runtime)))
    }

    fn checked(self) -> Result<Settings, ConfigError> {
        let url = Url::parse(&self.url).map_err(|rule| ConfigError::new("url", shown(&self.url), rule))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        check(
            (1..=PREFIX_LIMIT).contains(&self.prefix.len()) && self.prefix.chars().all(plain),
            "prefix",
            &self.prefix,
            "it must be 1 to 64 of A-Z a-z 0-9 _ . -",
        )?;
        check(
            (1..=CONNECTIONS_LIMIT).contains(&self.connections),
            "connections",
            self.connections,
            "it must be 1 to 64",
        )?;
        for (option, time) in [("connect_timeout", self.connect_timeout), ("heartbeat", self.heartbeat)] {
            let fits = (SHORTEST_TIME..=LONGEST_TIME).contains(&time);
            check(fits, option, format_args!("{time:?}"), "it must be 10 ms to 60 s")?;
        }
        check(
            (1..=STAMP_LIMIT_LIMIT).contains(&self.stamp_limit),
            "stamp_limit",
            self.stamp_limit,
            "it must be 1 to 10000000",
        )?;

        let from_url = (url.username, url.password);
        let named = (self.username.clone().or(from_url.0), self.password.clone().or(from_url.1));
        let user = login("username", self.username.is_some(), named)?;
        let sentinel_user = login("sentinel_username", true, self.sentinel_login.clone())?;
        let database = self.database.unwrap_or(url.address.database);
        let address = Address { database, tls: url.address.tls || self.tls, ..url.address };
        let is_cluster = matches!(address.servers, Servers::Cluster { .. });
        check(!is_cluster || database == 0, "database", database, "a cluster has one database, 0")?;
        let is_sentinel = matches!(address.servers, Servers::Sentinel { .. });
        let idle = !is_sentinel && sentinel_user.is_some();
        check(!idle, "sentinel_password", "***", "it is of use with sentinels only")?;
        Ok(Settings {
            dialer: self.dialer(&address)?,
            log_server: self.log_server(&address)?,
            address,
            login: user,
            sentinel_login: sentinel_user,
            keys: Keys::new(&self.prefix),
            prefix: self.prefix,
            connections: self.connections,
            connect_timeout: self.connect_timeout,
            heartbeat: self.heartbeat,
            stamp_limit: self.stamp_limit,
        })
    }

    fn log_server(&self, address: &Address) -> Result<Option<Endpoint>, ConfigError> {
        let Some(log_at) = &self.log_at else { return Ok(None) };
        let alone = matches!(address.servers, Servers::One(_));
        check(alone, "log_at", log_at, "it is of use with one server only")?;
        let server = endpoint(log_at, DEFAULT_PORT);
        Ok(Some(server.map_err(|rule| ConfigError::new("log_at", log_at, rule))?))
    }

    fn dialer(&self, address: &Address) -> Result<Dialer, ConfigError> {
        if let (Some(authority), false) = (&self.authority, address.tls) {
            let rule = "an authority is of use with a rediss:// url only";
            return Err(ConfigError::new("ca_certificate", authority, rule));
        }
        let on_socket = matches!(address.servers, Servers::One(Endpoint::Unix { .. }));
        if on_socket && cfg!(not(unix)) {
            return Err(ConfigError::new("url", shown(&self.url), "this system has no such sockets"));
        }
        if on_socket && address.tls {
            return Err(ConfigError::new("tls", true, "there is no TLS on a socket of this machine"));
        }
        if address.tls { self.tls_dialer(address) } else { Ok(Dialer::default()) }
    }

    #[cfg(feature = "tls")]
    fn tls_dialer(&self, address: &Address) -> Result<Dialer, ConfigError> {
        use crate::tls::Tls;

        let nameless = |server: &Endpoint| match server {
            Endpoint::Tcp { host, .. } => !Tls::can_name(host),
            Endpoint::Unix { .. } => false,
        };
        if address.servers.named().iter().any(nameless) {
            let rule = "the host must be a name or an address that a certificate can be for";
            return Err(ConfigError::new("url", shown(&self.url), rule));
        }
        let tls = match &self.authority {
            None => Tls::new(None).map_err(|rule| ConfigError::new("url", shown(&self.url), rule))?,
            Some(authority) => {
                let wrong = |rule| ConfigError::new("ca_certificate", authority, rule);
                let pem = authority.read().map_err(|error| wrong(format!("it cannot be read: {error}")))?;
                Tls::new(Some(&pem)).map_err(wrong)?
            }
        };
        Ok(Dialer { tls: Some(tls) })
    }

    #[cfg(not(feature = "tls"))]
    fn tls_dialer(&self, _address: &Address) -> Result<Dialer, ConfigError> {
        let rule = "TLS needs the feature `tls` of larder-redis, which is off";
        Err(ConfigError::new("url", shown(&self.url), rule))
    }
}

fn list<S: AsRef<str>>(servers: impl IntoIterator<Item = S>) -> String {
    let servers: Vec<S> = servers.into_iter().collect();
    servers.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

/// Who to log in as; `None` without a password. `shown` says whether a wrong name may be shown.
fn login(
    option: &'static str,
    shown: bool,
    (username, password): (Option<String>, Option<Secret>),
) -> Result<Option<Login>, ConfigError> {
    let username = username.filter(|name| !name.is_empty());
    let password = password.filter(|password| !password.reveal().is_empty());
    match (username, password) {
        (username, Some(password)) => Ok(Some(Login { username, password })),
        (None, None) => Ok(None),
        (Some(username), None) => {
            // `redis://secret@host` is a password in the wrong place.
            let shown = if shown { username.as_str() } else { "***" };
            Err(ConfigError::new(option, shown, "a user needs a password, as in user:password@host"))
        }
    }
}

fn check(
    holds: bool,
    option: &'static str,
    value: impl fmt::Display,
    rule: &'static str,
) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::new(option, value, rule)) }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &shown(&self.url))
            .field("prefix", &self.prefix)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("database", &self.database)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("heartbeat", &self.heartbeat)
            .field("stamp_limit", &self.stamp_limit)
            .field("tls", &self.tls)
            .field("sentinel_login", &self.sentinel_login)
            .field("ca_certificate", &self.authority.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl Authority {
    #[cfg(feature = "tls")]
    fn read(&self) -> std::io::Result<std::borrow::Cow<'_, [u8]>> {
        Ok(match self {
            Authority::File(path) => std::fs::read(path)?.into(),
            Authority::Pem(pem) => pem.into(),
        })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authority::File(path) => write!(f, "{}", path.display()),
            Authority::Pem(pem) => write!(f, "{} bytes", pem.len()),
        }
    }
}

/// Who to log in as.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    /// `None`: the server's `default` user.
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
}

/// The checked form.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) dialer: Dialer,
    /// Where the log is, if not where the values are.
    pub(crate) log_server: Option<Endpoint>,
    pub(crate) address: Address,
    pub(crate) login: Option<Login>,
    pub(crate) sentinel_login: Option<Login>,
    pub(crate) prefix: String,
    pub(crate) keys: Keys,
    pub(crate) connections: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) stamp_limit: u32,
}

impl RemoteConfig for Redis {
    fn build(self: Box<Self>, runtime: Arc<dyn Runtime>) -> Result<Arc<dyn Remote>, BuildError> {
        match Redis::build(*self, runtime) {
            Ok(remote) => Ok(remote),
            Err(error) => Err(BuildError::Option {
                option: error.option(),
                value: error.value().to_owned(),
                rule: error.rule().to_owned(),
            }),
        }
    }
}
