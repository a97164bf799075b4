//! Reading a Redis URL, and showing one without its secrets. Pure.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::endpoint::Endpoint;

const DEFAULT_PORT: u16 = 6379;

/// A password. Neither `Debug` nor `Display` gives it away.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the server is, without the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) server: Endpoint,
    pub(crate) tls: bool,
    pub(crate) database: u32,
}

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) address: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { server, tls, database } = self;
        match server {
            Endpoint::Tcp { .. } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                write!(f, "{scheme}://{server}/{database}")
            }
            Endpoint::Unix { .. } => write!(f, "unix://{server}?db={database}"),
        }
    }
}

const SCHEME: &str = "the scheme must be redis:// or rediss:// (or valkey://, valkeys://, unix://)";
const HOST: &str = "the host must be a name or an address, as in redis://127.0.0.1:6379";
const PORT: &str = "the port must be 1..=65535 (in a password, / ? # @ : must be percent-encoded)";
const DATABASE: &str = "the path must be the number of a database, as in redis://127.0.0.1:6379/0";
const CREDENTIALS: &str = "user and password must be percent-encoded UTF-8";
const FRAGMENT: &str = "a fragment means nothing here; for a private authority set ca_certificate";
const QUERY: &str = "parameters mean nothing here; use the setters";
const SOCKET: &str = "a socket needs an absolute path, as in unix:///run/redis.sock";
const SOCKET_QUERY: &str = "the only parameter of a unix:// url is db, as in unix:///run/redis.sock?db=1";

impl Url {
    /// `redis[s]://[user][:password]@host[:port][/database]` or `unix:///path[?db=number]`. The error is the rule that
    /// is broken.
    pub(crate) fn parse(url: &str) -> Result<Url, &'static str> {
        let (scheme, rest) = url.split_once("://").ok_or(SCHEME)?;
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => server(rest, false),
            "rediss" | "valkeys" => server(rest, true),
            "unix" | "redis+unix" => socket(rest),
            _ => Err(SCHEME),
        }
    }
}

fn server(rest: &str, tls: bool) -> Result<Url, &'static str> {
    if rest.contains('#') {
        return Err(FRAGMENT);
    }
    if rest.contains('?') {
        return Err(QUERY);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, endpoint) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (host, port) = host_and_port(endpoint)?;
    let database = match path {
        "" => 0,
        number => number.parse().map_err(|_| DATABASE)?,
    };
    let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    Ok(Url {
        address: Address { server: Endpoint::Tcp { host, port }, tls, database },
        username: decoded(username)?,
        password: decoded(password)?.map(Secret),
    })
}

/// `host[:port]`. The error is the rule that is broken.
pub(crate) fn host_and_port(endpoint: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(bracketed) = endpoint.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']').ok_or(HOST)?;
        host.parse::<Ipv6Addr>().map_err(|_| HOST)?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(PORT)?) };
        (host, port)
    } else {
        let (host, port) = endpoint.split_once(':').map_or((endpoint, None), |(h, p)| (h, Some(p)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(HOST);
        }
        (host, port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().ok().filter(|&port| port != 0).ok_or(PORT)?
        }
        Some(_) => return Err(PORT),
    };
    Ok((host.to_owned(), port))
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
    Ok(Url { address: Address { server, tls: false, database }, username: None, password: None })
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
    // `redis://:secret`, where the host was forgotten.
    let authority = match authority.rsplit_once(':') {
        Some((host, port)) if !port.bytes().all(|b| b.is_ascii_digit() || b == b']') => format!("{host}:***"),
        _ => authority.to_owned(),
    };
    format!("{scheme}{user}{authority}{path}{tail}")
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
        let rule = |url| Url::parse(url).unwrap_err();
        assert_eq!(rule("http://x"), SCHEME);
        assert_eq!(rule("localhost:6379"), SCHEME);
        assert_eq!(rule(""), SCHEME);
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
        for url in [
            "redis://user:hunter2@a:1",
            "redis://hunter2@a",
            "redis://:hunter2",
            "redis://user:hunter2",
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
        fn no_text_makes_it_panic(text in "(redis|rediss|unix)?(://)?[a-z:@/?#%\\[\\]\\PC]{0,30}") {
            let _ = Url::parse(&text);
            let _ = shown(&text);
        }
    }
}
