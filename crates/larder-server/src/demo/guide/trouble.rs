//! What to try with a database that is slow, or away.

use super::{Place, Step, step};
use crate::demo::faults::PATH;

/// Has the database be slow, or fail. Counts queries from then on.
fn set(place: Place, admin_token: Option<&str>, about: &'static str, faults: &str) -> Step {
    let step = step(place.admin, about, "POST", PATH, 200).json(faults.to_owned());
    Step { token: admin_token.map(str::to_owned), ..step }
}

/// Stale answers, one load for many, timeouts, bounds, lists, and ttls that look after themselves.
pub(super) fn steps(place: Place, admin_token: Option<&str>) -> Vec<Step> {
    let Place { api, admin } = place;
    let get = |about, path: &str| step(api, about, "GET", path, 200);
    let set = |about, faults| set(place, admin_token, about, faults);
    let asked = |about, queries| {
        let step = step(admin, about, "GET", PATH, 200).says(queries);
        Step { token: admin_token.map(str::to_owned), ..step }
    };
    let overview = "/api/v1/overviews/7";
    vec![
        get("An overview is fresh for a second, and for an hour good enough if the database fails", overview)
            .cached("MISS"),
        set("The database goes away", r#"{"fail": true}"#),
        get("Overviews go on, a second later as stale ones", overview).cached("STALE").patient(),
        step(api, "What nobody has seen before fails", "GET", "/api/v1/overviews/8", 503),
        set("It is back, and takes 700 ms", r#"{"latency_ms": 700}"#),
        get("Nobody waits for longer than 300 ms while there is something stale", overview)
            .cached("STALE")
            .patient(),
        get("and the load goes on, for whoever comes next", overview).cached("HIT").patient(),
        set("It hangs", r#"{"latency_ms": 60000}"#),
        step(api, "A load that has nothing stale beside it is cancelled after two seconds", "GET", "/api/v1/overviews/9", 504),
        set("It takes 500 ms", r#"{"latency_ms": 500}"#),
        get("Fifty clients at once want what nobody has", "/api/v1/overviews/10").crowd(50, None),
        asked("and the database is asked once", "\"queries\":1}"),
        get("Fifty clients want fifty things, and eight loads run at a time: the others are told to come again", "/api/v1/overviews/{}")
            .crowd(50, Some((503, "retry-after"))),
        set("All is well again", "{}"),
        get("A list is one query for all that is missing", "/api/v1/repositories?ids=1,2,3,4,5")
            .loaded("5"),
        get("here for two of six", "/api/v1/repositories?ids=3,4,5,6,7,1").loaded("2"),
        asked("which makes two", "\"queries\":2}"),
        get("A ttl that learns: two seconds to begin with", "/api/v1/level").ttl("2"),
        get("and three once nothing has changed", "/api/v1/level").ttl("3").patient(),
        set("A query takes 100 ms", r#"{"latency_ms": 100}"#),
        get("What is read all the time", "/api/v1/total").cached("MISS"),
        set("is", r#"{"latency_ms": 100}"#),
        get("loaded again before it expires, while everybody is answered from the cache", "/api/v1/total")
            .cached("HIT")
            .crowd(20, None),
        asked("by one of them, in the background", "\"queries\":1}").patient(),
        set("All is well again", "{}"),
    ]
}

impl Step {
    /// How many rows the database was asked for.
    fn loaded(mut self, rows: &'static str) -> Self {
        self.expect.push(("x-loaded", rows));
        self
    }

    /// How long the answer stays fresh, in seconds.
    fn ttl(mut self, seconds: &'static str) -> Self {
        self.expect.push(("x-cache-ttl", seconds));
        self
    }
}
