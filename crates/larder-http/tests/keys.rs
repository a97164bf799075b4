//! What tells answers apart, and what does not (attacks 1 to 4, 28, 30, 31; lessons H4, H5, S1).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::collections::HashMap;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header};
use axum::routing;
use common::*;
use larder_core::Cache;
use larder_core::testing::Recorder;
use larder_http::{ResponseCache, VaryQuery};
use tower::{Layer, ServiceExt as _};

/// Says all that a handler can see of a request's head.
async fn echo(uri: Uri, headers: HeaderMap) -> String {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map_or("-", |v| v.to_str().unwrap());
    let languages: Vec<_> = headers.get_all("accept-language").iter().collect();
    let feature = headers.get_all("x-feature").iter().collect::<Vec<_>>();
    format!("{host} {uri} {languages:?} {feature:?}")
}

/// Asks each once, then each again: everybody must get what an uncached handler says, the second time from an entry
/// of their own.
async fn all_apart(app: &Router, uncached: &Router, requests: &[Request<()>]) {
    let copy = |request: &Request<()>| request.clone().map(|()| Body::empty());
    for word in ["MISS", "HIT"] {
        for request in requests {
            let reply = ask(app, copy(request)).await;
            let expected = ask(uncached, copy(request)).await;
            let asked = format!("{} {:?}", request.uri(), request.headers());
            assert_eq!(reply.told(), format!("{word} {}", expected.text()), "{asked}");
        }
    }
}

fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
    with(uri, headers).map(|_| ())
}

fn sites(pages: ResponseCache) -> (Router, Router) {
    let plain = Router::new().route("/", routing::get(echo)).route("/{*rest}", routing::get(echo));
    (plain.clone().layer(pages), plain)
}

#[tokio::test]
async fn requests_that_a_handler_could_tell_apart_never_share_an_entry() {
    let (cache, _) = cache().await;
    let names = [header::ACCEPT_LANGUAGE, HeaderName::from_static("x-feature")];
    let (app, uncached) = sites(layer(&cache).fixed_id("one").vary_headers(names));
    let mut requests = Vec::new();
    // Attack 30: nothing is normalised in a path.
    for path in [
        "/a/../b",
        "/a/./b",
        "/b",
        "//a",
        "/a",
        "/%61",
        "/A",
        "/a%2Fb",
        "/a/b",
        "/a;x",
        "/%zz",
        "/a/",
        "/a%3Fx=1",
        "/a%20b",
        "/a+b",
        "/caf%C3%A9",
        "/~",
        "/a~b",
        "/*",
        "/a:b",
        "/%25",
        "/a%00",
    ] {
        requests.push(request(path, &[]));
    }
    // Attack 31: in a query, nothing but the order of names.
    for query in [
        "x=1&y=2",
        "x=1&x=2",
        "x=2&x=1",
        "x=1%26y=2",
        "x=1;y=2",
        "x=+",
        "x=%20",
        "x",
        "x=",
        "X=1&y=2",
        "x=a",
        "x=b",
        "utm_content=x;callback=evil",
        "page=1&%70age=2",
        "%70age=2&page=1",
        "x=1&y=2%20",
        "q1:x=1",
    ] {
        requests.push(request(&format!("/a?{query}"), &[]));
    }
    // Attack 28: structure of the key, sent as if it were content.
    requests.push(request("/x", &[("accept-language", "de"), ("x-feature", "1")]));
    requests.push(request("/x", &[("accept-language", "de v9:x-feature v1:1")]));
    requests.push(request("/x", &[("accept-language", "de"), ("accept-language", "fr")]));
    requests.push(request("/x", &[("accept-language", "fr"), ("accept-language", "de")]));
    requests.push(request("/x", &[("accept-language", "de, fr")]));
    requests.push(request("/x", &[("accept-language", "")]));
    requests.push(request("/x", &[("x-feature", "de")]));
    requests.push(request("/x", &[]));
    requests.push(request("/x%20p1:/", &[]));
    // Attack 4: the host is part of the key, a foreign port too.
    for host in ["b.test", "a.test:8080", "a.test:443", "a.test.", "a.test p2:/x", "", "b.test/x"] {
        requests.push(request("/x", &[("host", host)]));
    }
    // A request line that names another host than the header: the handler may believe either.
    requests.push(request("http://b.test/y", &[("host", "a.test")]));
    requests.push(request("http://a.test/y", &[("host", "b.test")]));
    requests.push(request("http://b.test/y", &[("host", "b.test")]));
    requests.push(request("https://b.test/y", &[("host", "b.test")]));
    requests.push(request("https://b.test:80/y", &[("host", "b.test")]));
    all_apart(&app, &uncached, &requests).await;
}

#[tokio::test]
async fn a_second_host_line_has_an_entry_of_its_own() {
    let (cache, _) = cache().await;
    let (app, _) = sites(layer(&cache));
    assert_eq!(ask(&app, with("/x", &[("host", "a.test"), ("host", "evil.test")])).await.word(), "MISS");
    assert_eq!(ask(&app, with("/x", &[("host", "a.test")])).await.word(), "MISS");
}

#[tokio::test]
async fn spellings_of_one_thing_share_an_entry() {
    let (cache, _) = cache().await;
    let (app, _) = sites(layer(&cache));
    let same: [&[Request<()>]; 4] = [
        &[request("/?a=1&b=2", &[]), request("/?b=2&a=1", &[]), request("/?b=2&&a=1&", &[])],
        &[request("/h", &[]), request("/h", &[("host", "A.TEST")]), request("/h", &[("host", "a.test:80")])],
        &[
            request("http://a.test/i", &[("host", "a.test")]),
            request("http://A.test:80/i", &[("host", "A.test:80")]),
        ],
        &[
            request("https://a.test/i", &[("host", "a.test")]),
            request("https://a.test:443/i", &[("host", "a.test:443")]),
        ],
    ];
    for requests in same {
        for (i, request) in requests.iter().enumerate() {
            let word = if i == 0 { "MISS" } else { "HIT" };
            let reply = ask(&app, request.clone().map(|()| Body::empty())).await;
            assert_eq!(reply.word(), word, "{} {:?}", request.uri(), request.headers());
        }
    }
}

/// Attacks 1 and 3: what a client claims of the way its request came is no part of the key.
#[tokio::test]
async fn forwarding_headers_change_nothing_in_the_key() {
    let (cache, _) = cache().await;
    let (app, _) = sites(layer(&cache));
    assert_eq!(ask(&app, get("/")).await.word(), "MISS");
    for name in [
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-host",
        "x-forwarded-scheme",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-for",
    ] {
        assert_eq!(ask(&app, with("/", &[(name, "evil.test")])).await.word(), "HIT", "{name}");
    }
}

#[tokio::test]
async fn one_router_nested_twice_makes_two_entries() {
    let (cache, _) = cache().await;
    let count = Count::default();
    let handler = move || async move { count.up().to_string() };
    let inner = Router::new().route("/trigs/{id}", routing::get(handler)).layer(layer(&cache).id("id"));
    let app = Router::new().nest("/v1", inner.clone()).nest("/v2", inner);
    assert_eq!(ask(&app, get("/v1/trigs/7")).await.told(), "MISS 1");
    assert_eq!(ask(&app, get("/v2/trigs/7")).await.told(), "MISS 2");
    assert_eq!(ask(&app, get("/v1/trigs/7")).await.told(), "HIT 1");
    assert_eq!(ask(&app, get("/v2/trigs/7")).await.told(), "HIT 2");
    drop_all(&cache, &["page:7:*"]).await;
    assert_eq!(ask(&app, get("/v2/trigs/7")).await.told(), "MISS 3");
}

/// A layer between router and cache chooses what the handler sees, by something that the key does not know.
#[tokio::test]
async fn a_path_that_was_rewritten_on_the_way_is_part_of_the_key() {
    let (cache, _) = cache().await;
    let (app, _) = sites(layer(&cache));
    let app = app.layer(axum::middleware::map_request(|mut request: Request<Body>| async move {
        if let Some(tenant) = request.headers().get("x-tenant") {
            let path = format!("/{}{}", tenant.to_str().unwrap(), request.uri().path());
            *request.uri_mut() = path.parse().unwrap();
        }
        request
    }));
    let by = async |tenant: &str| ask(&app, with("/x", &[("x-tenant", tenant)])).await.told();
    assert!(by("ann").await.starts_with("MISS a.test /ann/x"));
    assert!(by("bob").await.starts_with("MISS a.test /bob/x"));
    assert!(by("ann").await.starts_with("HIT a.test /ann/x"));
}

#[tokio::test]
async fn query_parameters_that_do_not_vary_the_answer_do_not_vary_the_key() {
    let (cache, _) = cache().await;
    let (app, _) = sites(layer(&cache).fixed_id("only").vary_query(["page"]));
    let word = async |app: &Router, uri: &str| ask(app, get(uri)).await.word().to_owned();
    assert_eq!(word(&app, "/?page=1&utm=x").await, "MISS");
    assert_eq!(word(&app, "/?utm=y&page=1").await, "HIT");
    assert_eq!(word(&app, "/?page=2").await, "MISS");
    assert_eq!(word(&app, "/").await, "MISS");
    assert_eq!(word(&app, "/?utm=x").await, "HIT");
    // What the handler decodes to `page` is `page`: it must not be answered as if it were not there.
    assert_eq!(word(&app, "/?%70age=1").await, "MISS");
    assert_eq!(word(&app, "/?p%61ge=2").await, "MISS");
    assert_eq!(word(&app, "/?PAGE=1").await, "HIT");

    let (app, _) = sites(layer(&cache).fixed_id("none").vary_query(VaryQuery::None));
    assert_eq!(word(&app, "/?page=1").await, "MISS");
    assert_eq!(word(&app, "/?page=2").await, "HIT");
}

/// The segments a route writes for its key are for people and selectors; the rest of the identity stays.
#[tokio::test]
async fn a_key_of_the_routes_own_still_tells_paths_apart() {
    let (cache, _) = cache().await;
    let (app, uncached) = sites(layer(&cache).key(|_, key| key.segment("a:b~c*")));
    all_apart(&app, &uncached, &["/a", "/b", "/b?x=1"].map(|uri| request(uri, &[]))).await;
    drop_all(&cache, &["page:a%3Ab%7Ec%2A"]).await;
    assert_eq!(ask(&app, get("/a")).await.word(), "MISS");
}

#[tokio::test]
async fn two_paths_with_one_id_have_two_entries_and_go_together() {
    let (cache, _) = cache().await;
    let pages = layer(&cache).id("id").version("v1");
    let app = Router::new()
        .route("/trigs/{id}", routing::get(echo))
        .route("/logs/{id}", routing::get(echo))
        .layer(pages);
    for word in ["MISS", "HIT"] {
        assert!(ask(&app, get("/trigs/7")).await.told().starts_with(&format!("{word} a.test /trigs/7")));
        assert!(ask(&app, get("/logs/7")).await.told().starts_with(&format!("{word} a.test /logs/7")));
    }
    drop_all(&cache, &["page:7:v1"]).await;
    assert_eq!(ask(&app, get("/trigs/7")).await.word(), "MISS");
    assert_eq!(ask(&app, get("/logs/7")).await.word(), "MISS");
}

/// Lesson H4: without the path parameter, or without a router, there is nothing to tell requests apart by. One entry
/// for all would be the worst answer; the handler answers, and an error event says what is wrong.
#[tokio::test]
async fn a_mistake_in_the_setup_is_reported_and_nothing_is_cached() {
    let recorder = Recorder::new();
    let (cache, _) = built(Cache::builder().observer(recorder.clone())).await;
    let reasons = || {
        let events = recorder.events();
        let reasons = events.iter().filter_map(|event| match event {
            larder_core::Event::Skip { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        reasons.collect::<Vec<_>>()
    };

    let app = Router::new().route("/{id}", routing::get(echo).layer(layer(&cache).id("trig_id")));
    for path in ["/a", "/b"] {
        let reply = ask(&app, get(path)).await;
        assert!(reply.told().starts_with(&format!("BYPASS a.test {path}")));
        assert_eq!(reply.header("cache-status"), "larder; fwd=bypass; detail=missing_id");
    }
    assert_eq!(reasons(), ["missing_id"; 2]);

    let routes = Router::new().route("/{id}", routing::get(echo));
    for pages in [layer(&cache).id("id"), layer(&cache).fixed_id("all"), layer(&cache)] {
        let outside = pages.layer(routes.clone());
        for path in ["/a", "/b"] {
            let reply = whole(outside.clone().oneshot(get(path)).await.unwrap()).await;
            assert!(reply.told().starts_with(&format!("BYPASS a.test {path}")));
        }
    }
    assert_eq!(reasons()[2..], ["no_route"; 6]);
    assert_eq!(cache.stats().memory_entries, 0);
}

/// A path nobody has a route for, and one that is no UTF-8, are mistakes of the client: no error event for each.
#[tokio::test]
async fn clients_cannot_make_error_events() {
    let recorder = Recorder::new();
    let (cache, _) = built(Cache::builder().observer(recorder.clone())).await;
    let app = Router::new().route("/trigs/{id}", routing::get(echo)).layer(layer(&cache).id("id"));
    assert_eq!(ask(&app, get("/nowhere")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask(&app, get("/trigs/%ff")).await.word(), "BYPASS");
    assert_eq!(recorder.count("cache_skip"), 0);
}

/// Lesson X3: each query string is an entry, but memory is bounded by bytes, not by entries.
#[tokio::test]
async fn ten_thousand_query_strings_of_one_client_stay_within_the_bound() {
    let (cache, _) = built(Cache::builder().memory(1024 * 1024)).await;
    let handler = || async { "x".repeat(1000) };
    let app = Router::new().route("/", routing::get(handler).layer(layer(&cache)));
    for n in 0..10_000 {
        let reply = ask(&app, get(&format!("/?q={n}"))).await;
        assert_eq!((reply.word(), reply.body.len()), ("MISS", 1000));
    }
    let stats = cache.stats();
    assert!(stats.memory_bytes <= stats.memory_bound, "{stats:?}");
    assert!((100..=1000).contains(&stats.memory_entries), "{} entries", stats.memory_entries);
    assert_eq!(stats.flights, 0);
}

/// The name is what people and selectors call it; it looks the way the design says.
#[tokio::test]
async fn keys_have_the_names_that_people_would_write() {
    let (cache, _) = cache().await;
    let show = larder_http::HeaderStyle { key: true, ..larder_http::HeaderStyle::none() };
    let pages = || layer(&cache).headers(show.clone());
    let app = Router::new()
        .route("/logs/{id}", routing::get(echo).layer(pages().id("id").sub("logs").version("v1")))
        .route("/all", routing::get(echo).layer(pages().fixed_id("list").hash_label("include")))
        .route("/bare", routing::get(echo).layer(pages()));
    let names: HashMap<&str, String> = {
        let mut names = HashMap::new();
        for uri in ["/logs/12%3A3", "/logs/123?page=2", "/all?x=1", "/all", "/bare"] {
            names.insert(uri, ask(&app, get(uri)).await.header("x-cache-key").to_owned());
        }
        names
    };
    assert_eq!(names["/logs/12%3A3"], "page:12%3A3:logs:v1");
    assert_eq!((names["/all"].as_str(), names["/bare"].as_str()), ("page:list", "page"));
    let hashed = names["/logs/123?page=2"].strip_prefix("page:123:logs:params_").unwrap();
    let (hash, version) = hashed.split_once(':').unwrap();
    assert!(hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && version == "v1", "{hashed}");
    assert!(names["/all?x=1"].starts_with("page:list:include_"));
}
