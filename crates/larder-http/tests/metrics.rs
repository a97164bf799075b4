//! `GET metrics`: what it says, and that its reference page says the same.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::{Router, routing};
use common::*;
use larder_core::testing::{ManualRuntime, TestRemote};
use larder_core::{Cache, Reaction, Runtime, Selector};
use larder_http::{AdminAuth, AdminRouter};

struct Site {
    runtime: Arc<ManualRuntime>,
    remote: Arc<TestRemote>,
    cache: Cache,
    app: Router,
}

async fn site() -> Site {
    let runtime = ManualRuntime::new(7);
    let remote = TestRemote::new(runtime.clone() as Arc<dyn Runtime>);
    let cache = Cache::builder().runtime(runtime.clone()).remote(remote.clone()).build().await.unwrap();
    let app = Router::new()
        .route("/", routing::get(|| async { "page" }).layer(layer(&cache)))
        .nest("/admin", AdminRouter::new(&cache).auth(AdminAuth::TrustHost).build());
    Site { runtime, remote, cache, app }
}

impl Site {
    /// Every sample by its name and labels.
    async fn samples(&self) -> BTreeMap<String, f64> {
        let page = ask(&self.app, get("/admin/metrics")).await;
        assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        let lines = page.text().lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    }
}

#[tokio::test]
async fn reads_are_counted_by_namespace_tier_and_outcome() {
    let site = site().await;
    for headers in [&[][..], &[], &[], &[("cache-control", "no-cache")], &[("range", "bytes=0-")]] {
        ask(&site.app, with("/", headers)).await;
    }
    let samples = site.samples().await;
    let of = |tier, outcome| {
        samples[&format!("larder_requests_total{{namespace=\"page\",tier=\"{tier}\",outcome=\"{outcome}\"}}")]
    };
    let counted = [of("memory", "hit"), of("remote", "hit"), of("none", "hit"), of("none", "miss")];
    assert_eq!(counted, [2.0, 0.0, 0.0, 1.0]);
    assert_eq!([of("none", "bypass"), of("none", "skip"), of("none", "stale")], [1.0, 1.0, 0.0]);
    assert_eq!(samples["larder_load_duration_seconds_count{namespace=\"page\"}"], 1.0);
    assert_eq!((samples["larder_entries"], samples["larder_flights"]), (1.0, 0.0));
    assert!(samples["larder_memory_bytes"] > 1000.0);
}

#[tokio::test]
async fn the_log_the_breaker_and_the_link_are_told_as_closed_sets_of_states() {
    let site = site().await;
    let state = |samples: &BTreeMap<String, f64>, family: &str| -> Vec<String> {
        let of_family = samples.iter().filter(|(name, _)| name.starts_with(family));
        of_family.filter(|(_, value)| **value == 1.0).map(|(name, _)| name.clone()).collect()
    };
    let samples = site.samples().await;
    assert_eq!(state(&samples, "larder_log_state"), ["larder_log_state{state=\"following\"}"]);
    assert_eq!(state(&samples, "larder_breaker_state"), ["larder_breaker_state{state=\"closed\"}"]);
    assert_eq!(samples.keys().filter(|name| name.starts_with("larder_log_state")).count(), 3);
    assert_eq!((samples["larder_remote_connected"], samples["larder_log_lag_seconds"]), (1.0, 0.0));

    site.remote.set(|faults| faults.down = true);
    drop_all(&site.cache, &["page:*"]).await;
    ask(&site.app, with("/", &[("larder-epoch", "made up")])).await;
    let samples = site.samples().await;
    assert_eq!(state(&samples, "larder_log_state"), ["larder_log_state{state=\"disconnected\"}"]);
    assert_eq!((samples["larder_remote_connected"], samples["larder_log_queued_invalidations"]), (0.0, 1.0));
    assert_eq!(samples["larder_tokens_ignored_total"], 1.0);
}

/// An alert on invalidations that wait must not fire where many are made: it goes by the age of the oldest.
#[tokio::test]
async fn invalidations_are_counted_by_verb_and_delivery_and_the_oldest_that_waits_has_an_age() {
    let site = site().await;
    site.cache.on("moved", |_| Reaction::failed("no such field")).unwrap();
    assert!(site.cache.publish("moved", serde_json::json!(null)).await.unwrap().dropped.is_none());
    drop_all(&site.cache, &["page:1", "page:2"]).await;
    let _ = site.cache.expire([Selector::tag("a")]).await;
    settle().await;
    let samples = site.samples().await;
    let of = |samples: &BTreeMap<String, f64>, mode, delivery| {
        samples[&format!("larder_invalidations_total{{mode=\"{mode}\",delivery=\"{delivery}\"}}")]
    };
    assert_eq!(samples["larder_handler_failures_total"], 1.0);
    assert_eq!([of(&samples, "invalidate", "delivered"), of(&samples, "expire", "delivered")], [1.0, 1.0]);
    assert_eq!(samples["larder_log_oldest_queued_seconds"], 0.0);

    site.remote.set(|faults| faults.down = true);
    drop_all(&site.cache, &["page:*"]).await;
    site.runtime.advance(std::time::Duration::from_secs(3));
    drop_all(&site.cache, &["page:*"]).await;
    let samples = site.samples().await;
    assert_eq!([of(&samples, "invalidate", "queued"), of(&samples, "expire", "queued")], [2.0, 0.0]);
    assert_eq!(samples["larder_log_oldest_queued_seconds"], 3.0, "since the first call");
    let stats = serde_json::to_value(site.cache.stats()).unwrap();
    assert_eq!(stats["invalidations"]["invalidate"], serde_json::json!({ "delivered": 1, "queued": 2 }));
}

/// One row of the page's tables: name, kind, labels.
fn documented() -> BTreeSet<(String, String, String)> {
    let page = include_str!("../../../docs/reference/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `larder_"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>());
    cells.filter(|cells| cells.len() >= 6).map(|c| (c[1].clone(), c[2].clone(), c[3].clone())).collect()
}

#[tokio::test]
async fn the_reference_page_has_every_metric_and_no_other() {
    let site = site().await;
    ask(&site.app, get("/")).await;
    let page = ask(&site.app, get("/admin/metrics")).await;
    let mut said = BTreeSet::new();
    for line in page.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        let sample = page.text().lines().find(|line| line.starts_with(name)).unwrap();
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels.split_once('}').unwrap().0);
        let labels: Vec<&str> = labels.split(',').filter_map(|l| Some(l.split_once('=')?.0)).collect();
        said.insert((name.to_owned(), kind.to_owned(), labels.join(", ")));
        assert_eq!(page.text().matches(&format!("# HELP {name} ")).count(), 1);
    }
    assert!(said.len() > 15);
    assert_eq!(said, documented());
}
