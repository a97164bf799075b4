//! Who may use the admin API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::header::{self, AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;

type Check = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
type Identify = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// Who may use the admin API.
#[derive(Clone, Default)]
pub enum AdminAuth {
    /// Clients on this machine, by the address of their connection, that name this machine as the host: a page in a
    /// browser that lets its own name point here is refused. The default. Needs the server to pass the address on
    /// (`into_make_service_with_connect_info::<SocketAddr>()`); without it nobody is let in. A reverse proxy on this
    /// machine that says nothing of its clients cannot be told from them: behind one, set a token.
    #[default]
    Loopback,
    /// Whoever sends `Authorization: Bearer` with this token.
    Bearer(String),
    /// Everybody: the router it is mounted in has seen to it.
    TrustHost,
    /// Requests for which this is true.
    If(Check),
    /// Requests for which this has a name, of a person or a program: the name stands beside what they invalidate.
    Who(Identify),
}

/// On whose behalf something is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Actor(pub(super) String);

impl Default for Actor {
    fn default() -> Self {
        Actor("admin".to_owned())
    }
}

impl std::fmt::Debug for AdminAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AdminAuth::Loopback => "Loopback",
            AdminAuth::Bearer(_) => "Bearer(..)",
            AdminAuth::TrustHost => "TrustHost",
            AdminAuth::If(_) => "If(..)",
            AdminAuth::Who(_) => "Who(..)",
        })
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 401: no token, or a wrong one.
    Token,
    /// 403: not from here.
    Place(&'static str),
}

impl AdminAuth {
    /// Requests for which `check` is true.
    pub fn check(check: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        AdminAuth::If(Arc::new(check))
    }

    /// Requests for which `who` has a name: `x-forwarded-user` behind a proxy that signs people in, say. `explain` shows
    /// the name beside what they have invalidated. An empty name is none: a proxy that does not know a client may send it.
    pub fn identify(who: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        AdminAuth::Who(Arc::new(who))
    }

    pub(super) fn judge(&self, parts: &Parts) -> Result<Actor, Refusal> {
        const OWN: Refusal = Refusal::Place("the service's own check refused the request");
        match self {
            AdminAuth::TrustHost => Ok(Actor::default()),
            AdminAuth::If(check) if check(parts) => Ok(Actor::default()),
            AdminAuth::If(_) => Err(OWN),
            AdminAuth::Who(who) => who(parts).filter(|name| !name.trim().is_empty()).map(Actor).ok_or(OWN),
            AdminAuth::Bearer(token) if carries(parts, token) => Ok(Actor::default()),
            AdminAuth::Bearer(_) => Err(Refusal::Token),
            AdminAuth::Loopback => from_here(parts).map_err(Refusal::Place).map(|()| Actor::default()),
        }
    }
}

fn carries(parts: &Parts, token: &str) -> bool {
    let sent = parts.headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, sent)) = sent.split_at_checked(7) else { return false };
    // An empty token would let everybody in who sends one.
    scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty() && same(sent.trim_ascii(), token.as_bytes())
}

/// Takes the same time wherever the first difference lies; only the length of the token can be learned from it.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0_u8, |acc, (a, b)| acc | (a ^ b));
    std::hint::black_box(difference) == 0 && a.len() == b.len()
}

/// By these a proxy gives itself away.
const FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    header::VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-real-ip"),
];

fn from_here(parts: &Parts) -> Result<(), &'static str> {
    let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return Err("the server does not say where connections come from: set a token");
    };
    if !peer.ip().to_canonical().is_loopback() {
        return Err("without a token only clients on this machine are let in");
    }
    // A proxy on this machine speaks for the whole world.
    if FORWARDED.iter().any(|name| parts.headers.contains_key(name)) {
        return Err("without a token nobody is let in through a proxy");
    }
    let header = |name| parts.headers.get(name).map(|v: &http::HeaderValue| v.to_str().unwrap_or("?"));
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| header(HOST));
    if !host.is_some_and(names_this_machine) {
        return Err("the Host header does not name this machine");
    }
    match header(ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.split_once("://").is_some_and(|(_, o)| Some(o) == host) => Ok(()),
        Some(_) => Err("the request comes from another site's page"),
    }
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/stats");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        parts
    }

    #[test]
    fn without_a_token_only_this_machine_by_its_own_name_is_let_in() {
        let let_in =
            |peer, headers: &[(&str, &str)]| AdminAuth::Loopback.judge(&parts(peer, headers)).is_ok();
        assert!(let_in("127.0.0.1:5", &[("host", "127.0.0.1:9090")]));
        assert!(let_in("[::1]:5", &[("host", "localhost:9090"), ("origin", "http://localhost:9090")]));
        assert!(let_in("127.0.0.1:5", &[("host", "[::1]:9090")]));
        assert!(!let_in("10.0.0.7:5", &[("host", "127.0.0.1:9090")]));
        assert!(!let_in("127.0.0.1:5", &[("host", "evil.example:9090")]));
        assert!(!let_in("127.0.0.1:5", &[("host", "127.0.0.1.evil.example")]));
        assert!(!let_in("127.0.0.1:5", &[]));
        assert!(let_in("[::ffff:127.0.0.1]:5", &[("host", "localhost")]));
        assert!(!let_in("[::ffff:10.0.0.7]:5", &[("host", "localhost")]));
        assert!(!let_in("127.0.0.1:5", &[("host", "localhost:9090"), ("x-forwarded-for", "10.0.0.7")]));
        assert!(!let_in("127.0.0.1:5", &[("host", "localhost:9090"), ("origin", "http://evil.example")]));
    }

    #[test]
    fn a_token_lets_in_whoever_carries_it_and_nobody_else() {
        let auth = AdminAuth::Bearer("s3cret".into());
        let sent = |value| auth.judge(&parts("10.0.0.7:5", &[("authorization", value)]));
        assert_eq!(sent("Bearer s3cret"), Ok(Actor::default()));
        assert_eq!(sent("bearer s3cret"), Ok(Actor::default()));
        for wrong in ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "Basic s3cret", "s3cret", ""] {
            assert_eq!(sent(wrong), Err(Refusal::Token), "{wrong:?}");
        }
        let empty = AdminAuth::Bearer(String::new());
        assert_eq!(empty.judge(&parts("127.0.0.1:5", &[("authorization", "Bearer ")])), Err(Refusal::Token));
        assert!(!format!("{auth:?}").contains("s3cret"));
    }
}
