//! The admin API (attacks 36 and 38; rule 58; lesson 24: purges that silently do nothing, or too much).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use axum::routing;
use common::*;
use larder_core::testing::{ManualRuntime, TestRemote};
use larder_core::{Cache, Claim, Occasion, Reaction, Remote as _, Selector};
use larder_http::{AdminAuth, AdminRouter};
use serde_json::json;

/// A site with warm pages `page:1`, `page:2` (tagged `two ~ #x`) and `post:1`, and an admin API beside it.
struct Site {
    app: Router,
    cache: Cache,
}

impl Site {
    async fn new(change: impl FnOnce(AdminRouter) -> AdminRouter) -> Self {
        let (cache, _) = cache().await;
        let admin = change(AdminRouter::new(&cache).auth(AdminAuth::TrustHost)).build();
        let posts = larder_http::ResponseCache::new(&cache, "post", policy()).unwrap().id("id");
        let pages = layer(&cache).id("id").tags(|parts| match parts.uri.path() {
            "/pages/2" => vec!["two ~ #x".to_owned()],
            _ => vec![],
        });
        let app = Router::new()
            .route("/pages/{id}", routing::get(|| async { "page" }).layer(pages))
            .route("/posts/{id}", routing::get(|| async { "post" }).layer(posts))
            .nest("/admin/cache", admin);
        let site = Site { app, cache };
        site.warm().await;
        site
    }

    /// Which of the three were there; all are afterwards.
    async fn warm(&self) -> [bool; 3] {
        let mut there = [false; 3];
        for (there, path) in there.iter_mut().zip(["/pages/1", "/pages/2", "/posts/1"]) {
            *there = ask(&self.app, get(path)).await.word() == "HIT";
        }
        there
    }

    async fn ask(&self, method: Method, path: &str) -> Reply {
        let mut request = get(&format!("/admin/cache{path}"));
        *request.method_mut() = method;
        ask(&self.app, request).await
    }

    async fn delete(&self, query: &str) -> Reply {
        self.ask(Method::DELETE, &format!("?{query}")).await
    }
}

fn json(reply: &Reply) -> serde_json::Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{e}: {reply:?}"))
}

fn is_problem(reply: &Reply, status: u16) {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("cache-control"), "no-store");
    let document = json(reply);
    assert_eq!((&document["status"], &document["type"]), (&status.into(), &"about:blank".into()));
    assert!(document["title"].is_string() && document["detail"].is_string());
}

#[tokio::test]
async fn every_form_of_delete_removes_what_it_names_and_nothing_else() {
    let site = Site::new(|admin| admin).await;
    let forms: [(&str, &[&str], [bool; 3]); 10] = [
        ("pattern=page:1:*", &["page:1:*"], [false, true, true]),
        ("pattern=page%3A%2A", &["page:*"], [false, false, true]),
        ("pattern=pa*", &["*"], [false, false, false]),
        ("key=page:2", &["page:2"], [true, false, true]),
        ("tag=two+%7E%20%23x", &["#two%20~%20#x"], [true, false, true]),
        ("namespace=post", &["post:*"], [true, true, false]),
        ("key=page:1&namespace=post", &["page:1", "post:*"], [false, true, false]),
        ("all=true", &["*"], [false, false, false]),
        ("tag=*", &["#*"], [true, true, true]),
        ("key=page:3", &["page:3"], [true, true, true]),
    ];
    for (query, patterns, left) in forms {
        let reply = site.delete(query).await;
        assert_eq!((reply.status, reply.header("cache-control")), (StatusCode::OK, "no-store"), "{query}");
        let document = json(&reply);
        assert_eq!(document["patterns"], serde_json::json!(patterns), "{query}");
        assert_eq!(document["state"], "delivered");
        assert_eq!(site.warm().await, left, "{query}");
    }
    assert_eq!(json(&site.ask(Method::POST, "/clear").await)["patterns"], serde_json::json!(["*"]));
    assert_eq!(site.warm().await, [false; 3]);
}

#[tokio::test]
async fn what_is_not_understood_is_a_400_and_nothing_is_lost() {
    let site = Site::new(|admin| admin).await;
    for query in [
        "patern=x",
        "patern=page:*",
        "pattern=",
        "pattern=page:1&patern=x",
        "all=true&x=1",
        "all",
        "all=1",
        "all=",
        "key=",
        "key=*",
        "key=page:*",
        "key=%23two",
        "tag=",
        "namespace=",
        "namespace=page:1",
        "namespace=pa*",
        "x",
        "=",
        "&",
        "pattern=page:1&",
        "%70attern=*",
        "pattern=%ff",
        "PATTERN=*",
        "pattern=%20",
        "pattern=:*",
    ] {
        is_problem(&site.delete(query).await, 400);
        assert_eq!(site.warm().await, [true; 3], "{query}");
    }
    is_problem(&site.delete(&format!("tag={}", "x".repeat(1025))).await, 400);
    is_problem(&site.ask(Method::POST, "/clear?pattern=page:1").await, 400);
    is_problem(&site.ask(Method::DELETE, "").await, 400);
    for path in ["/stats?namespace=page", "/metrics?x", "/health?full=true", "/health?=", "/stats?a&b"] {
        is_problem(&site.ask(Method::GET, path).await, 400);
    }
    assert_eq!(site.ask(Method::GET, "/health?").await.status, StatusCode::OK);
    assert_eq!(site.warm().await, [true; 3]);
}

/// `page:1*` was to name ten pages and named all. Whoever wrote it reads the answer, not the log.
#[tokio::test]
async fn a_pattern_that_becomes_wider_is_told_in_the_answer() {
    let site = Site::new(|admin| admin).await;
    let document = json(&site.delete("pattern=page:1*&pattern=post:*").await);
    assert_eq!((&document["folded"], &document["became"]), (&json!(true), &json!({ "page:1*": "page:*" })));
    assert_eq!(document["patterns"], json!(["page:*", "post:*"]));
    let document = json(&site.delete("pattern=page:1:*").await);
    assert_eq!((document.get("folded"), document.get("became")), (None, None));
    site.cache.on("moved", |_| Reaction::drop([Selector::parse("page:1*").unwrap()])).unwrap();
    let document = json(&publish(&site, "application/json", r#"{"name":"moved"}"#).await);
    assert_eq!(document["dropped"]["became"], json!({ "page:1*": "page:*" }));
}

#[tokio::test]
async fn a_bare_delete_clears_only_where_it_was_switched_on() {
    let site = Site::new(|admin| admin.bare_delete_clears(true)).await;
    is_problem(&site.delete("patern=x").await, 400);
    assert_eq!(site.warm().await, [true; 3]);
    assert_eq!(site.ask(Method::DELETE, "").await.status, StatusCode::OK);
    assert_eq!(site.warm().await, [false; 3]);
}

/// A tag is literal: no white space is trimmed from it, so that it is never another's.
#[tokio::test]
async fn a_tag_with_a_space_at_its_end_is_not_the_tag_without() {
    let site = Site::new(|admin| admin).await;
    let handle = site.cache.namespace::<u32>("typed", policy()).unwrap();
    for (key, tag) in [("plain", "a"), ("spaced", "a ")] {
        let fill = larder_core::Fill::new().tags(vec![tag.to_owned()]);
        assert!(handle.begin(key).put_with(1, &fill));
    }
    assert_eq!(site.delete("tag=a%20").await.status, StatusCode::OK);
    assert_eq!((handle.contains("plain").await, handle.contains("spaced").await), (true, false));
}

#[tokio::test]
async fn statistics_and_health_are_documents_that_nobody_stores() {
    let site = Site::new(|admin| admin).await;
    site.warm().await;
    let stats = json(&site.ask(Method::GET, "/stats").await);
    assert_eq!(stats["namespaces"]["page"]["hits"], 2);
    assert_eq!(stats["namespaces"]["page"]["misses"], 2);
    assert_eq!(stats["hit_ratios"]["page"], 0.5);
    let health = site.ask(Method::GET, "/health").await;
    assert_eq!((health.header("cache-control"), &json(&health)["status"]), ("no-store", &"ok".into()));
    assert_eq!(json(&health)["memory_entries"], 3);
    assert_eq!(site.ask(Method::HEAD, "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn errors_are_problem_documents_on_every_path() {
    let site = Site::new(|admin| admin).await;
    is_problem(&site.ask(Method::GET, "/nowhere").await, 404);
    is_problem(&site.ask(Method::GET, "/clear").await, 405);
    is_problem(&site.ask(Method::GET, "").await, 405);
    is_problem(&site.ask(Method::POST, "/stats").await, 405);
    is_problem(&site.ask(Method::POST, "/metrics").await, 405);
    is_problem(&site.ask(Method::DELETE, "/health").await, 405);
    assert_eq!(site.warm().await, [true; 3]);
}

/// Sends a body to `POST event`.
async fn publish(site: &Site, content_type: &str, body: impl Into<Body>) -> Reply {
    let mut request = with("/admin/cache/event", &[("content-type", content_type)]);
    *request.method_mut() = Method::POST;
    *request.body_mut() = body.into();
    ask(&site.app, request).await
}

#[tokio::test]
async fn an_event_runs_the_handlers_and_the_answer_says_what_was_done() {
    let site = Site::new(|admin| admin).await;
    let page = |e: &Occasion<'_>| e.text("page.id").map(|id| Reaction::drop([Selector::under(("page", id))]));
    site.cache.on("page_changed", page).unwrap();
    site.cache.on("page_changed", |_| Reaction::expire([Selector::tag("list")])).unwrap();
    let json_type = "application/json; charset=utf-8";
    let body = r#"{ "name": "page_changed", "payload": { "page": { "id": "1" } } }"#;
    let reply = publish(&site, json_type, body).await;
    assert_eq!((reply.status, reply.header("cache-control")), (StatusCode::OK, "no-store"));
    let done = |patterns: &[&str]| json!({ "patterns": patterns, "state": "delivered", "token": null });
    let expected = json!({
        "name": "page_changed", "handlers": 2, "failures": [], "dropped": done(&["page:1:*"]), "expired": done(&["#list"]),
        "refreshes": 0, "left": 0, "state": "delivered", "token": null,
    });
    assert_eq!(json(&reply), expected);
    assert_eq!(site.warm().await, [false, true, true]);

    let reply = json(&publish(&site, json_type, r#"{"name":"page_changed"}"#).await);
    let failures = json!([{ "handler": 1, "reason": "the payload has no field page.id" }]);
    assert_eq!((&reply["failures"], &reply["dropped"]), (&failures, &json!(null)));
    let reply = json(&publish(&site, json_type, r#"{"name":"nobody"}"#).await);
    assert_eq!((&reply["handlers"], &reply["state"]), (&json!(0), &json!("delivered")));
    assert_eq!(site.warm().await, [true; 3]);
}

/// With a log behind it the answer carries the token that reads on any node may name.
#[tokio::test]
async fn the_answer_to_an_event_carries_the_token_of_its_record() {
    let runtime = ManualRuntime::new(3);
    let remote = TestRemote::new(runtime.clone());
    let cache = Cache::builder().remote(remote.clone()).runtime(runtime).build().await.unwrap();
    cache
        .on("changed", |_| Reaction::drop([Selector::all()]).and(Reaction::expire([Selector::tag("a")])))
        .unwrap();
    let app = AdminRouter::new(&cache).auth(AdminAuth::TrustHost).build();
    let mut request = with("/event", &[("content-type", "application/json")]);
    (*request.method_mut(), *request.body_mut()) = (Method::POST, Body::from(r#"{"name":"changed"}"#));
    let reply = json(&ask(&app, request).await);
    let records = remote.history(None, 2).await.unwrap();
    let (last, first) = (records[0].epoch.to_string(), records[1].epoch.to_string());
    assert_eq!((&reply["dropped"]["token"], &reply["expired"]["token"]), (&json!(first), &json!(last)));
    assert_eq!((&reply["token"], &reply["state"]), (&json!(last), &json!("delivered")));
}

#[tokio::test]
async fn an_event_that_is_not_understood_runs_nothing() {
    let site = Site::new(|admin| admin).await;
    site.cache.on("clear", |_| Reaction::drop([Selector::all()])).unwrap();
    let right = r#"{"name":"clear"}"#;
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        is_problem(&publish(&site, content_type, right).await, 415);
    }
    for wrong in [
        "",
        "name=clear",
        "[]",
        "{}",
        r#"{"name":null}"#,
        r#"{"name":"clear","user_id":7}"#,
        r#"{"name":"clear"}{}"#,
        r#"{"name":"a b"}"#,
        r#"{"name":""}"#,
    ] {
        is_problem(&publish(&site, "application/json", wrong).await, 400);
    }
    let deep = format!(r#"{{"name":"clear","payload":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    is_problem(&publish(&site, "application/json", deep).await, 400);
    for size in [70_000, 200_000] {
        let large = format!(r#"{{"name":"clear","payload":"{}"}}"#, "x".repeat(size));
        is_problem(&publish(&site, "application/json", large).await, 413);
    }
    let mut request = with("/admin/cache/event?name=clear", &[("content-type", "application/json")]);
    (*request.method_mut(), *request.body_mut()) = (Method::POST, Body::from(right));
    is_problem(&ask(&site.app, request).await, 400);
    is_problem(&site.ask(Method::GET, "/event").await, 405);
    assert_eq!(site.warm().await, [true; 3]);
    assert_eq!(publish(&site, "application/json", right).await.status, StatusCode::OK);
    assert_eq!(site.warm().await, [false; 3]);
}

const EVERYTHING: [(Method, &str); 9] = [
    (Method::GET, "/stats"),
    (Method::GET, "/metrics"),
    (Method::GET, "/explain?key=page:1"),
    (Method::HEAD, "/stats"),
    (Method::POST, "/clear"),
    (Method::POST, "/event"),
    (Method::DELETE, "?all=true"),
    (Method::DELETE, "?patern=x"),
    (Method::DELETE, ""),
];

/// As a client at `peer`, or as one of whom the server does not say where it is.
fn from(peer: Option<&str>, method: &Method, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = with(&format!("/admin/cache{path}"), headers);
    *request.method_mut() = method.clone();
    if let Some(peer) = peer {
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    }
    request
}

#[tokio::test]
async fn without_the_token_everything_is_401_and_health_says_its_status_alone() {
    let site = Site::new(|admin| admin.auth(AdminAuth::Bearer("s3cret".into()))).await;
    let wrong: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", "Bearer s3cre")],
        &[("authorization", "Bearer s3cret2")],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic s3cret")],
        &[("authorization", "x"), ("authorization", "Bearer s3cret")],
    ];
    for headers in wrong {
        for (method, path) in &EVERYTHING {
            let reply = ask(&site.app, from(Some("127.0.0.1:9"), method, path, headers)).await;
            assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            assert_eq!(reply.header("www-authenticate"), "Bearer");
            if *method != Method::HEAD {
                is_problem(&reply, 401);
            }
        }
        let health = ask(&site.app, from(None, &Method::GET, "/health", headers)).await;
        assert_eq!(json(&health), serde_json::json!({ "status": "ok" }));
    }
    assert_eq!(site.warm().await, [true; 3]);
    let token = [("authorization", "bearer s3cret")];
    let health = ask(&site.app, from(None, &Method::GET, "/health", &token)).await;
    assert!(json(&health).get("memory_entries").is_some());
    let reply = ask(&site.app, from(None, &Method::DELETE, "?all=true", &token)).await;
    assert_eq!((reply.status, site.warm().await), (StatusCode::OK, [false; 3]));
}

/// Without a token: clients on this machine, by this machine's name, and no page of another site in their browser.
#[tokio::test]
async fn without_a_token_set_only_this_machine_is_let_in() {
    let site = Site::new(|admin| admin.auth(AdminAuth::Loopback)).await;
    let here = Some("127.0.0.1:9");
    type Headers = [(&'static str, &'static str)];
    let refused: [(Option<&str>, &Headers); 12] = [
        (None, &[("host", "localhost")]),
        (Some("10.0.0.7:9"), &[("host", "localhost")]),
        (Some("[::ffff:10.0.0.7]:9"), &[("host", "localhost")]),
        (here, &[("host", "a.test")]),
        (here, &[("host", "localhost.evil.test")]),
        (here, &[("host", "localhost@evil.test")]),
        (here, &[("host", "evil.test:127")]),
        (here, &[("host", "localhost:1"), ("origin", "http://evil.test")]),
        (here, &[("host", "localhost:1"), ("origin", "null")]),
        (here, &[("host", "localhost:1"), ("origin", "http://localhost:2")]),
        (here, &[("host", "localhost"), ("x-forwarded-for", "10.0.0.7")]),
        (here, &[("host", "localhost"), ("forwarded", "for=10.0.0.7")]),
    ];
    for (peer, headers) in refused {
        for (method, path) in &EVERYTHING {
            let reply = ask(&site.app, from(peer, method, path, headers)).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{peer:?} {headers:?}");
        }
        let health = ask(&site.app, from(peer, &Method::GET, "/health", headers)).await;
        assert_eq!(json(&health), serde_json::json!({ "status": "ok" }));
    }
    assert_eq!(site.warm().await, [true; 3]);
    let allowed: [(&str, &Headers); 6] = [
        ("127.0.0.1:9", &[("host", "127.0.0.1")]),
        ("127.0.0.1:9", &[("host", "LOCALHOST:8080"), ("origin", "http://LOCALHOST:8080")]),
        ("127.8.8.8:9", &[("host", "127.0.0.1:1")]),
        ("[::1]:9", &[("host", "[::1]")]),
        ("[::1]:9", &[("host", "[::1]:8080")]),
        ("[::ffff:127.0.0.1]:9", &[("host", "[::ffff:127.0.0.1]:8080")]),
    ];
    for (peer, headers) in allowed {
        let reply = ask(&site.app, from(Some(peer), &Method::GET, "/stats", headers)).await;
        assert_eq!(reply.status, StatusCode::OK, "{peer} {headers:?}");
    }
}

#[tokio::test]
async fn a_real_connection_from_this_machine_is_let_in_and_a_rebound_name_is_not() {
    let site = Site::new(|admin| admin.auth(AdminAuth::Loopback)).await;
    let server = serve(site.app).await;
    let ask = async |host: &str| {
        let request = format!("GET /admin/cache/stats HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        server.say(&request).await
    };
    assert!(ask(&server.address.to_string()).await.starts_with("HTTP/1.1 200 "));
    assert!(ask("rebound.evil.test").await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn a_check_of_the_services_own_decides() {
    let own = |parts: &http::request::Parts| parts.headers.contains_key("x-operator");
    let site = Site::new(|admin| admin.auth(AdminAuth::check(own))).await;
    is_problem(&site.delete("all=true").await, 403);
    assert_eq!(site.warm().await, [true; 3]);
    let operator = from(None, &Method::DELETE, "?all=true", &[("x-operator", "1")]);
    assert_eq!(ask(&site.app, operator).await.status, StatusCode::OK);
    assert_eq!(site.warm().await, [false; 3]);
}

/// A proxy that does not know a client may send its header without a name.
#[tokio::test]
async fn an_empty_name_lets_nobody_in() {
    let (site, _) = two_sites().await;
    for name in ["", " "] {
        let request = from(None, &Method::GET, "/stats", &[("x-user", name)]);
        is_problem(&ask(&site.app, request).await, 403);
    }
    assert_eq!(ask(&site.app, operator(&Method::GET, "/stats")).await.status, StatusCode::OK);
}

/// What the API says it has removed is what the engine calls it.
#[tokio::test]
async fn patterns_in_answers_read_back_as_selectors() {
    let site = Site::new(|admin| admin).await;
    let document = json(&site.delete("key=page:1&tag=t&namespace=n&pattern=a:b:*").await);
    for pattern in document["patterns"].as_array().unwrap() {
        let text = pattern.as_str().unwrap();
        assert_eq!(Selector::parse(text).unwrap().to_string(), text);
    }
}

/// Two processes on one remote tier, each with pages and an admin API whose proxy signs people in.
async fn two_sites() -> (Site, Site) {
    let runtime = ManualRuntime::new(7);
    let remote = TestRemote::new(runtime.clone());
    let site = async || {
        let cache = Cache::builder().runtime(runtime.clone()).remote(remote.clone()).build().await.unwrap();
        let who = |parts: &http::request::Parts| Some(parts.headers.get("x-user")?.to_str().ok()?.to_owned());
        let admin = AdminRouter::new(&cache).auth(AdminAuth::identify(who)).build();
        let app = Router::new()
            .route("/pages/{id}", routing::get(|| async { "page" }).layer(layer(&cache).id("id")))
            .nest("/admin/cache", admin);
        Site { app, cache }
    };
    (site().await, site().await)
}

fn operator(method: &Method, path: &str) -> Request<Body> {
    from(None, method, path, &[("x-user", "ada")])
}

/// Who dropped my page, and why? One node is told, another answers.
#[tokio::test]
async fn explain_says_who_invalidated_a_key_on_whatever_node_and_why() {
    let (a, b) = two_sites().await;
    for site in [&a, &b] {
        ask(&site.app, get("/pages/7")).await;
        settle().await;
    }
    let warm = json(&ask(&b.app, operator(&Method::GET, "/explain?key=page:7")).await);
    let verdicts = |document: &serde_json::Value| -> Vec<String> {
        let entries = document["entries"].as_array().unwrap().iter();
        entries
            .map(|e| format!("{} {}", e["tier"].as_str().unwrap(), e["verdict"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(verdicts(&warm), ["memory fresh", "remote fresh"]);
    assert_eq!(warm["last_invalidated"], serde_json::Value::Null);

    let path = "?key=page:7&reason=typo+in+the+title&sweep=off";
    let dropped = json(&ask(&a.app, operator(&Method::DELETE, path)).await);
    assert_eq!((&dropped["state"], &dropped["sweep"]), (&"delivered".into(), &"off".into()));
    settle().await;
    let cold = json(&ask(&b.app, operator(&Method::GET, "/explain?key=page%3A7")).await);
    assert_eq!(verdicts(&cold), ["memory dead", "remote dead"]);
    let culprit = &cold["last_invalidated"];
    assert_eq!((&culprit["actor"], &culprit["reason"]), (&"ada".into(), &"typo in the title".into()));
    assert_eq!((&culprit["epoch"], &culprit["selector"]), (&dropped["token"], &"page:7".into()));

    for query in ["", "?key=", "?key=page:*", "?key=%23tag", "?key=page:7&key=page:8", "?kye=x", "?key=a&x=1"]
    {
        is_problem(&ask(&a.app, operator(&Method::GET, &format!("/explain{query}"))).await, 400);
    }
    is_problem(&ask(&a.app, from(None, &Method::GET, "/explain?key=page:7", &[])).await, 403);
}

#[tokio::test]
async fn what_is_dropped_is_swept_beside_the_answer_or_before_it() {
    let (a, b) = two_sites().await;
    let warm = async || {
        for id in 0..3 {
            ask(&a.app, get(&format!("/pages/{id}"))).await;
            settle().await;
            ask(&b.app, get(&format!("/pages/{id}"))).await;
        }
    };
    warm().await;
    let waited = json(&ask(&a.app, operator(&Method::DELETE, "?namespace=page&sweep=wait")).await);
    let counts = serde_json::json!({ "memory": 3, "remote": 3, "complete": true });
    assert_eq!((&waited["sweep"], &waited["swept"]), (&"done".into(), &counts));
    assert_eq!(a.cache.stats().memory_entries, 0);

    warm().await;
    let beside = json(&ask(&a.app, operator(&Method::POST, "/clear?reason=deploy")).await);
    assert_eq!((&beside["sweep"], beside.get("swept")), (&"started".into(), None));
    assert_eq!(a.cache.stats().memory_entries, 3, "the answer was not held up");
    settle().await;
    assert_eq!(a.cache.stats().memory_entries, 0);
    let last = json(&ask(&b.app, operator(&Method::GET, "/explain?key=page:1")).await);
    assert_eq!(last["last_invalidated"]["reason"], "deploy");
}

#[tokio::test]
async fn health_tells_how_this_node_stands_to_the_log() {
    let (a, b) = two_sites().await;
    let log = async |site: &Site| {
        let health = json(&ask(&site.app, operator(&Method::GET, "/health")).await);
        health["remote"]["log"].clone()
    };
    drop_all(&a.cache, &["page:1"]).await;
    settle().await;
    let (of_a, of_b) = (log(&a).await, log(&b).await);
    assert_eq!((&of_b["state"], &of_b["gaps"]), (&"following".into(), &0.into()));
    assert_eq!((&of_b["lag_ms"], &of_b["pending_invalidations"]), (&0.into(), &0.into()));
    assert!(of_a["position"].is_string() && of_a["position"] == of_b["position"], "{of_a} {of_b}");
}

/// Lesson 14: a handler blocks its thread, ninety-six requests wait for it, and health is green.
#[tokio::test]
async fn a_handler_that_does_not_come_back_degrades_health_and_shows_in_the_metrics() {
    let (cache, runtime) = cache().await;
    let app = AdminRouter::new(&cache).auth(AdminAuth::TrustHost).build();
    let status = async || {
        let health = json(&ask(&app, get("/health")).await);
        (health["status"].as_str().unwrap().to_owned(), health["hung_loads"].as_u64().unwrap())
    };
    let hung = async || {
        let page = ask(&app, get("/metrics")).await;
        page.text().lines().find_map(|line| line.strip_prefix("larder_hung_loads ")?.parse::<u64>().ok())
    };
    // A thread that is blocked cannot end its load in time: neither does this one, which nobody polls.
    let pages = cache.namespace::<u64>("page", policy()).unwrap();
    let key = pages.key_writer().to_key();
    let Claim::Lead(mut lead) = pages.claim(key.as_bytes()) else { panic!("nobody loads it") };
    lead.begin();
    lead.watch();
    assert_eq!((status().await, hung().await), (("ok".to_owned(), 0), Some(0)));
    for _ in 0..35 {
        settle().await;
        runtime.advance(std::time::Duration::from_secs(1));
    }
    settle().await;
    assert_eq!((status().await, hung().await), (("degraded".to_owned(), 1), Some(1)));
    assert_eq!(json(&ask(&app, get("/stats")).await)["hung_loads"], 1);
    drop(lead);
    assert_eq!((status().await, hung().await), (("ok".to_owned(), 0), Some(0)));
}

#[tokio::test]
async fn routes_of_a_services_own_are_for_those_who_are_let_in() {
    let (cache, _) = cache().await;
    let own = Router::new().route("/own", routing::get(|| async { "mine" }));
    let admin = AdminRouter::new(&cache).auth(AdminAuth::Bearer("secret".into())).also(own).build();
    assert_eq!(ask(&admin, get("/own")).await.status, StatusCode::UNAUTHORIZED);
    let mut request = get("/own");
    request.headers_mut().insert("authorization", "Bearer secret".parse().unwrap());
    let answer = ask(&admin, request).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, "mine".as_bytes()));
    assert_eq!(ask(&admin, get("/another")).await.status, StatusCode::NOT_FOUND);
}
