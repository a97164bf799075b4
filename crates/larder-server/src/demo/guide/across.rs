//! What to try with two processes on one catalog and one Redis.

use std::net::SocketAddr;

use super::{Step, step};
use crate::cli::Demo;

/// Where a process listens.
#[derive(Debug, Clone, Copy)]
pub(in crate::demo) struct Place {
    pub(in crate::demo) api: SocketAddr,
    pub(in crate::demo) admin: SocketAddr,
}

/// The name both go by, as behind a load balancer: the host is part of every key.
pub(in crate::demo) const HOST: &str = "demo.test";

/// Writing here, reading there.
pub(in crate::demo) fn steps(here: Place, there: Place, admin_token: Option<&str>) -> Vec<Step> {
    let get = |about, place: Place| {
        step(place.api, about, "GET", "/api/v1/repositories/3", 200).header("Host", HOST)
    };
    let on_admin = |about, place: Place, method, path: &str| Step {
        token: admin_token.map(str::to_owned),
        ..step(place.admin, about, method, path, 200)
    };
    let write = step(here.api, "A write, and its token", "PUT", "/api/v1/repositories/3", 200)
        .header("Host", HOST)
        .json(r#"{"description": "Written here"}"#.to_owned());
    let read = get("A read there that names it never sees anything older", there).says("Written here");
    vec![
        on_admin("To begin with, drop everything", here, "POST", "/clear"),
        get("Loaded by the first process", here).cached("MISS"),
        Step {
            patient: true,
            ..get("and, a moment later, found in Redis by the second", there).cached("HIT")
        },
        Step { keeps_token: true, expect: vec![("larder-epoch", "")], ..write },
        Step { names_token: true, ..read },
        on_admin(
            "An operator drops it there, and says why",
            there,
            "DELETE",
            "/?key=repository:3&reason=a+typo&sweep=wait",
        )
        .says("\"delivered\""),
        Step {
            patient: true,
            ..on_admin(
                "which here, a moment later, everybody can read",
                here,
                "GET",
                "/explain?key=repository:3",
            )
            .says("a typo")
        },
        on_admin("How each stands to the log", there, "GET", "/health").says("\"state\":\"following\""),
    ]
}

/// How to start a second process beside this one; `None` if this one shares nothing.
pub(in crate::demo) fn second(here: Place, options: &Demo) -> Option<(Place, String)> {
    let (redis, data) = (options.redis.as_deref()?, options.data.as_ref()?);
    let beside = |address: SocketAddr| {
        let mut beside = address;
        beside.set_port(address.port().wrapping_add(1).max(1024));
        beside
    };
    let there = Place { api: beside(here.api), admin: beside(here.admin) };
    // A URL may hold a password.
    let redis = if redis.contains('@') { "\"$REDIS_URL\"" } else { redis };
    let line = format!(
        "larder demo --level {} --data '{}' --redis {redis} --listen {} --admin {}",
        options.level,
        data.display(),
        there.api,
        there.admin
    );
    Some((there, line))
}
