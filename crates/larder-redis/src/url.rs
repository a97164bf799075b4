//! Reading a Redis URL, and showing one without its secrets. Pure.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::address::{Address, Secret, Servers};
use crate::endpoint::Endpoint;

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) address: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

pub(crate) const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// Servers in a list. They find the others.
const SERVERS_LIMIT: usize = 64;

const SCHEME: &str = "the scheme must be redis:// or rediss:// (or valkey://, valkeys://, unix://; \
                      redis-sentinel://, redis-cluster:// and so on)";
const HOST: &str = "the host must be a name or an address, as in redis://127.0.0.1:6379";
const PORT: &str = "the port must be 1..=65535 (in a password, / ? # @ : must be percent-encoded)";
const DATABASE: &str = "the path must be the number of a database, as in redis://127.0.0.1:6379/0";
const SERVERS: &str = "there must be 1 to 64 servers, host:port each, with commas in between";
const SERVICE: &str = "the path must name the service of A-Z a-z 0-9 . - _ (and a database), as in \
                       redis-sentinel://10.0.0.1,10.0.0.2/shop/0";
const CLUSTER_PATH: &str = "a cluster has one database, so there is no path";
const CREDENTIALS: &str = "user and password must be percent-encoded UTF-8";
const FRAGMENT: &str = "a fragment means nothing here; for a private authority set ca_certificate";
const QUERY: &str = "parameters mean nothing here; use the setters";
const SOCKET: &str = "a socket needs an absolute path, as in unix:///run/redis.sock";
const SOCKET_QUERY: &str = "the only parameter of a unix:// url is db, as in unix:///run/redis.sock?db=1";

impl Url {
    /// `redis[s]://[user][:password]@host[:port][/database]`, `unix:///path[?db=number]`,
    /// `redis[s]-sentinel://[..@]host[:port],../service[/database]` or `redis[s]-cluster://[..@]host[:port],..`. The
    /// error is the rule that is broken.
    pub(crate) fn parse(url: &str) -> Result<Url, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or(SCHEME)?;
        let scheme = scheme.to_ascii_lowercase();
        if let "unix" | "redis+unix" = scheme.as_str() {
            return socket(rest);
        }
        let (base, kind) = scheme.split_once('-').map_or((scheme.as_str(), None), |(b, k)| (b, Some(k)));
        let tls = match base {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(SCHEME),
        };
        let parts = Parts::of(rest)?;
        let (servers, database) = match kind {
            None => one(&parts)?,
            Some("sentinel") => sentinel(&parts)?,
            Some("cluster") => cluster(&parts)?,
            Some(_) => return Err(SCHEME),
        };
        let (username, password) = parts.credentials;
        Ok(Url { address: Address { servers, tls, database }, username, password })
    }
}

/// `[credentials@]hosts[/path]`
struct Parts<'a> {
    credentials: (Option<String>, Option<Secret>),
    hosts: &'a str,
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Result<Self, &'static str> {
        if rest.contains('#') {
            return Err(FRAGMENT);
        }
        if rest.contains('?') {
            return Err(QUERY);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        let credentials = (decoded(username)?, decoded(password)?.map(Secret::new));
        Ok(Parts { credentials, hosts, path })
    }

    fn list(&self, default_port: u16) -> Result<Vec<Endpoint>, &'static str> {
        let servers = self.hosts.split(',').map(|host| endpoint(host, default_port));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        if servers.len() <= SERVERS_LIMIT { Ok(servers) } else { Err(SERVERS) }
    }
}

fn one(parts: &Parts<'_>) -> Result<(Servers, u32), &'static str> {
    let server = endpoint(parts.hosts, DEFAULT_PORT)?;
    Ok((Servers::One(server), database(parts.path)?))
}

fn sentinel(parts: &Parts<'_>) -> Result<(Servers, u32), &'static str> {
    let sentinels = parts.list(SENTINEL_PORT)?;
    let (service, number) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    // What sentinels themselves accept as a name.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if service.is_empty() || !service.bytes().all(plain) {
        return Err(SERVICE);
    }
    Ok((Servers::Sentinel { sentinels, service: service.to_owned() }, database(number)?))
}

fn cluster(parts: &Parts<'_>) -> Result<(Servers, u32), &'static str> {
    let seeds = parts.list(DEFAULT_PORT)?;
    if parts.path.is_empty() { Ok((Servers::Cluster { seeds }, 0)) } else { Err(CLUSTER_PATH) }
}

fn database(text: &str) -> Result<u32, &'static str> {
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| DATABASE) }
}

/// `host[:port]`. The error is the rule that is broken.
pub(crate) fn endpoint(text: &str, default_port: u16) -> Result<Endpoint, &'static str> {
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or(HOST)?;
        host.parse::<Ipv6Addr>().map_err(|_| HOST)?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(PORT)?) };
        (host, port)
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(HOST);
        }
        (host, port)
    };
    let port = match port {
        None => default_port,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|&port| port != 0).ok_or(PORT)?
        }
        Some(_) => return Err(PORT),
    };
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn socket(rest: &str) -> Result<Url, &'static str> {
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') {
        return Err(SOCKET);
    }
    let database = match query {
        None => 0,
        Some(query) => {
            query.strip_prefix("db=").and_then(|number| number.parse().ok()).ok_or(SOCKET_QUERY)?
        }
    };
    let path = percent_decode_str(path).decode_utf8().map_err(|_| SOCKET)?;
    let server = Endpoint::Unix { path: PathBuf::from(path.as_ref()) };
    Ok(Url {
        address: Address { servers: Servers::One(server), tls: false, database },
        username: None,
        password: None,
    })
}

fn decoded(text: &str) -> Result<Option<String>, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| CREDENTIALS)?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

/// A URL, right or wrong, with `***` for whatever may be secret in it.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) =
        url.split_once("://").map_or(("", url), |(scheme, rest)| (&url[..scheme.len() + 3], rest));
    // The last @: an earlier one may belong to a password that was not encoded.
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    let (rest, tail) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}***", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // `redis://:secret`, where the host was forgotten; `redis-cluster://user:secret,b:1`, where the @ was.
    let authority = if authority.split(',').any(has_odd_port) {
        format!("{}:***", authority.split([':', ',']).next().unwrap_or_default())
    } else {
        authority.to_owned()
    };
    format!("{scheme}{user}{authority}{path}{tail}")
}

fn has_odd_port(server: &str) -> bool {
    let port = server.rsplit_once(':').map_or("", |(_, port)| port);
    !port.bytes().all(|b| b.is_ascii_digit() || b == b']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn describe(url: &str) -> String {
        Url::parse(url).unwrap().address.to_string()
    }

    #[test]
    fn every_accepted_form_is_described_without_credentials() {
        assert_eq!(describe("redis://127.0.0.1:6379"), "redis://127.0.0.1:6379/0");
        assert_eq!(describe("redis://cache.example"), "redis://cache.example:6379/0");
        assert_eq!(describe("VALKEY://cache.example/"), "redis://cache.example:6379/0");
        assert_eq!(describe("valkeys://a:1/3"), "rediss://a:1/3");
        assert_eq!(describe("rediss://user:pass@h:7/15"), "rediss://h:7/15");
        assert_eq!(describe("redis://[::1]:7/1"), "redis://[::1]:7/1");
        assert_eq!(describe("redis://[::1]"), "redis://[::1]:6379/0");
        let sentinel = "redis-sentinel://user:pw@a,[::1]:7,c:9/shop";
        assert_eq!(describe(sentinel), "redis-sentinel://a:26379,[::1]:7,c:9/shop/0");
        assert_eq!(describe("valkeys-sentinel://a/my.shop/3"), "rediss-sentinel://a:26379/my.shop/3");
        assert_eq!(describe("redis-cluster://:pw@a,b:2"), "redis-cluster://a:6379,b:2");
        assert_eq!(describe("rediss-cluster://a/"), "rediss-cluster://a:6379");
        assert_eq!(describe("unix:///run/redis.sock"), "unix:///run/redis.sock?db=0");
        assert_eq!(describe("unix:///run/my%20redis.sock?db=2"), "unix:///run/my redis.sock?db=2");
    }

    #[test]
    fn credentials_are_decoded_and_empty_ones_are_none() {
        let url = Url::parse("redis://us%40er:p%2Fw%3A@h").unwrap();
        assert_eq!(url.username.as_deref(), Some("us@er"));
        assert_eq!(url.password.unwrap().reveal(), "p/w:");
        let url = Url::parse("redis://:pw@h").unwrap();
        assert_eq!((url.username, url.password), (None, Some(Secret::new("pw"))));
        let url = Url::parse("redis://:@h").unwrap();
        assert_eq!((url.username, url.password), (None, None));
    }

    #[test]
    fn each_mistake_is_told_by_its_own_rule() {
        let rule = |url: &str| Url::parse(url).unwrap_err();
        assert_eq!(rule("http://x"), SCHEME);
        assert_eq!(rule("localhost:6379"), SCHEME);
        assert_eq!(rule(""), SCHEME);
        assert_eq!(rule("redis-ring://a"), SCHEME);
        assert_eq!(rule("redis-sentinel://a"), SERVICE);
        assert_eq!(rule("redis-sentinel://a/"), SERVICE);
        assert_eq!(rule("redis-sentinel://a/my shop"), SERVICE);
        assert_eq!(rule("redis-sentinel://a/shop/x"), DATABASE);
        assert_eq!(rule("redis-sentinel://a,/shop"), HOST);
        assert_eq!(rule("redis-sentinel://a,b:0/shop"), PORT);
        assert_eq!(rule("redis-cluster://a/1"), CLUSTER_PATH);
        assert_eq!(rule(&format!("redis-cluster://{}", vec!["a"; 65].join(","))), SERVERS);
        assert_eq!(rule("redis://a,b"), HOST);
        assert_eq!(rule("redis://"), HOST);
        assert_eq!(rule("redis://a b"), HOST);
        assert_eq!(rule("redis://[::1"), HOST);
        assert_eq!(rule("redis://a:0"), PORT);
        assert_eq!(rule("redis://a:65536"), PORT);
        assert_eq!(rule("redis://a:+1"), PORT);
        assert_eq!(rule("redis://user:pa/ss@a:1"), PORT);
        assert_eq!(rule("redis://a/zero"), DATABASE);
        assert_eq!(rule("redis://a/1/2"), DATABASE);
        assert_eq!(rule("redis://:%ff@a"), CREDENTIALS);
        assert_eq!(rule("rediss://a/#insecure"), FRAGMENT);
        assert_eq!(rule("redis://a?timeout=1"), QUERY);
        assert_eq!(rule("unix://run/redis.sock"), SOCKET);
        assert_eq!(rule("unix:///run/redis.sock?pass=x"), SOCKET_QUERY);
    }

    #[test]
    fn a_url_is_shown_without_its_password_however_wrong_it_is() {
        assert_eq!(shown("redis://127.0.0.1:6379/0"), "redis://127.0.0.1:6379/0");
        assert_eq!(shown("redis://[::1]:6379"), "redis://[::1]:6379");
        assert_eq!(shown("http://x"), "http://x");
        assert_eq!(shown("redis-cluster://:pw@a:1,b:2"), "redis-cluster://***@a:1,b:2");
        for url in [
            "redis://user:hunter2@a:1",
            "redis://hunter2@a",
            "redis://:hunter2",
            "redis://user:hunter2",
            "redis-cluster://user:hunter2,b:1",
            "redis-cluster://b:1,user:hunter2",
            "redis-sentinel://user:hun,hunter2:x,b:1/shop",
            "redis://:p@ss/hunter2?#@a:1",
            ":hunter2@a:1",
            "unix:///run/redis.sock?pass=hunter2",
            "redis://a#hunter2",
        ] {
            assert!(!shown(url).contains("hunter2"), "{}", shown(url));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(redis|rediss|unix|redis-sentinel|redis-cluster)?(://)?[a-z:@/?#%,\\[\\]\\PC]{0,30}") {
            let _ = Url::parse(&text);
            let _ = shown(&text);
        }
    }
}
