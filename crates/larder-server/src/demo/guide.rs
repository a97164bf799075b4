//! What to try: each step once, printed as a curl line for people and run as a request by `--check`.

mod across;
mod trouble;

use std::fmt::Write as _;
use std::net::SocketAddr;

pub(super) use self::across::{HOST, Place, steps as steps_across};
use crate::cli::Demo;

/// One request, and what must come of it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) about: &'static str,
    pub(super) method: &'static str,
    pub(super) address: SocketAddr,
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// The admin token, which is sent and not printed.
    pub(super) token: Option<String>,
    pub(super) body: Option<String>,
    pub(super) status: u16,
    /// Each header, and how its value begins.
    pub(super) expect: Vec<(&'static str, &'static str)>,
    /// What the answer's body contains.
    pub(super) says: Vec<&'static str>,
    /// It may take a moment to come true.
    pub(super) patient: bool,
    /// Does the shell, and the check, keep the answer's token?
    pub(super) keeps_token: bool,
    /// Is that token sent?
    pub(super) names_token: bool,
    /// Is it sent so many times at once? `{}` in the path is the number of the request, from 1.
    pub(super) crowd: Option<Crowd>,
}

/// Many requests at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) size: usize,
    /// Another status that some of them must have, and a header that comes with it.
    pub(super) some: Option<(u16, &'static str)>,
}

impl Step {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn json(mut self, body: String) -> Self {
        self.body = Some(body);
        self.header("Content-Type", "application/json")
    }

    /// The answer must be this, by its `X-Cache-Status`.
    fn cached(mut self, status: &'static str) -> Self {
        self.expect.push(("x-cache-status", status));
        match status {
            "HIT" => self.expect.extend([("x-cache-age", ""), ("x-cache-ttl", ""), ("age", "")]),
            "MISS" => self.expect.push(("x-cache-ttl", "")),
            _ => {}
        }
        self
    }

    fn says(mut self, text: &'static str) -> Self {
        self.says.push(text);
        self
    }

    fn patient(self) -> Self {
        Step { patient: true, ..self }
    }

    fn crowd(self, size: usize, some: Option<(u16, &'static str)>) -> Self {
        Step { crowd: Some(Crowd { size, some }), ..self }
    }

    /// The line to type.
    pub(super) fn curl(&self) -> String {
        let line = self.plain_curl();
        if let Some(Crowd { size, .. }) = self.crowd {
            let one = line.replacen("curl -i", "curl -s -o /dev/null -w '%{http_code}\\n'", 1);
            return format!("seq {size} | xargs -P {size} -I{{}} {one} | sort | uniq -c");
        }
        match self.keeps_token {
            true => format!("TOKEN=$({line} -s | tr -d '\\r' | sed -n 's/^larder-epoch: //p'); echo $TOKEN"),
            false => line,
        }
    }

    fn plain_curl(&self) -> String {
        let mut line = "curl -i".to_owned();
        match self.method {
            "GET" => {}
            "HEAD" => line.push_str(" --head"),
            other => line.push_str(&format!(" -X {other}")),
        }
        for (name, value) in &self.headers {
            let _ = write!(line, " -H '{name}: {value}'");
        }
        if self.names_token {
            line.push_str(" -H \"Larder-Epoch: $TOKEN\"");
        }
        if self.token.is_some() {
            line.push_str(" -H \"Authorization: Bearer $LARDER_ADMIN_TOKEN\"");
        }
        if let Some(body) = &self.body {
            let _ = write!(line, " -d '{body}'");
        }
        let _ = write!(line, " 'http://{}{}'", self.address, self.path);
        line
    }
}

fn step(address: SocketAddr, about: &'static str, method: &'static str, path: &str, status: u16) -> Step {
    Step {
        about,
        method,
        address,
        path: path.to_owned(),
        headers: Vec::new(),
        token: None,
        body: None,
        status,
        expect: Vec::new(),
        says: Vec::new(),
        patient: false,
        keeps_token: false,
        names_token: false,
        crowd: None,
    }
}

/// Everything worth trying, in an order in which each line does what it says.
pub(super) fn steps(Place { api, admin }: Place, next_id: i64, admin_token: Option<&str>) -> Vec<Step> {
    let get = |about, path: &str| step(api, about, "GET", path, 200);
    let on_admin = |about, method, path: &str, status| Step {
        token: admin_token.map(str::to_owned),
        ..step(admin, about, method, path, status)
    };
    let facets = "/api/v1/facets?q=backup";
    let one = "/api/v1/repositories/7";
    let new = format!("/api/v1/repositories/{next_id}");
    let added = format!(r#"{{"owner": "larder", "name": "sample-{next_id}", "description": "A new one"}}"#);
    let described = r#"{"description": "Now with backups"}"#.to_owned();
    let mut steps = vec![
        get("The first request runs the query", facets).cached("MISS"),
        get("the second does not: note age and ttl", facets).cached("HIT"),
        get("A request may insist on a new answer", facets)
            .header("Cache-Control", "no-cache")
            .cached("BYPASS"),
        get("which is stored", facets).cached("HIT"),
        get("Another filter is another entry", "/api/v1/facets?q=light&trigger=state").cached("MISS"),
        get("whatever the order of its parameters", "/api/v1/facets?trigger=state&q=light").cached("HIT"),
        step(api, "HEAD is answered from the same entry", "HEAD", facets, 200).cached("HIT"),
        step(api, "and who has the answer already gets 304", "GET", facets, 304)
            .header("If-None-Match", "*")
            .cached("HIT"),
        get("Credentials keep a request out of a shared cache", facets)
            .header("Authorization", "Bearer mine")
            .cached("BYPASS"),
        get("A search, page 2", "/api/v1/search?q=motion&page=2").cached("MISS"),
        get("again", "/api/v1/search?q=motion&page=2").cached("HIT"),
        get("Statistics, with the time they were taken", "/api/v1/statistics").cached("MISS"),
        get("the same time, from the cache", "/api/v1/statistics").cached("HIT"),
        get("One repository", one).cached("MISS"),
        get("again", one).cached("HIT"),
        step(api, "A write invalidates what it changed", "PUT", one, 200).json(described),
        get("the repository", one).cached("MISS"),
        get("and nothing else", facets).cached("HIT"),
        step(api, "A new repository changes every count", "POST", "/api/v1/repositories", 201).json(added),
        get("so the facets are counted again", facets).cached("MISS"),
        get("and it is there", &new).cached("MISS"),
        step(api, "Gone again", "DELETE", &new, 204),
        step(api, "a 404, kept for ten seconds", "GET", &new, 404).cached("MISS"),
        step(api, "again", "GET", &new, 404).cached("HIT"),
        get("The facets", facets).cached("MISS"),
        on_admin(
            "An operator drops every facet, whatever their number: one record",
            "DELETE",
            "/?pattern=facets:*&reason=new+weights",
            200,
        ),
        get("the facets", facets).cached("MISS"),
        get("but no search", "/api/v1/search?q=light").cached("MISS"),
        get("which stays", "/api/v1/search?q=light").cached("HIT"),
        on_admin("A mistyped parameter is never \"everything\"", "DELETE", "/?patern=search:*", 400),
        on_admin("What has been counted", "GET", "/stats", 200),
        on_admin("the same for Prometheus", "GET", "/metrics", 200).says("larder_requests_total"),
        on_admin("how the cache is", "GET", "/health", 200),
        on_admin("what it knows of a key", "GET", "/explain?key=repository:7", 200)
            .says("\"verdict\":\"fresh\""),
        on_admin("and everything dropped", "POST", "/clear", 200),
        get("The facets", facets).cached("MISS"),
    ];
    steps.extend(trouble::steps(Place { api, admin }, admin_token));
    steps
}

/// What is printed at the start.
pub(super) fn text(steps: &[Step], here: Place, admin_token: Option<&str>, options: &Demo) -> String {
    let Place { api, admin } = here;
    let behind = match &options.redis {
        Some(_) => "in the memory of this process, with Redis behind it",
        None => "in the memory of this process",
    };
    let data = match &options.data {
        Some(path) => path.display().to_string(),
        None => "a temporary file".to_owned(),
    };
    let mut text = format!(
        "The sample API listens on http://{api}, its admin API on http://{admin}.\n\
         Its data (level {}) is in {data}; its answers are cached {behind}.\n\
         Stop it with ^C. What to try, in this order:\n",
        options.level,
    );
    write_steps(&mut text, steps);
    match across::second(here, options) {
        Some((there, line)) => {
            let _ = write!(
                text,
                "\nSeveral processes share catalog, Redis and invalidations. In another terminal:\n\n{line}\n\n\
                 and then, with one name for both as behind a load balancer:\n"
            );
            write_steps(&mut text, &across::steps(here, there, admin_token));
        }
        None => text.push_str(
            "\nFor several processes that agree, start this with --redis URL and --data FILE; \
             `larder demo --check --nodes 3` tries whether they do.\n",
        ),
    }
    text
}

fn write_steps(text: &mut String, steps: &[Step]) {
    for step in steps {
        let outcome = step.expect.iter().find(|(name, _)| *name == "x-cache-status");
        let outcome = outcome.map_or(String::new(), |(_, status)| format!(" {status}"));
        let _ = write!(text, "\n# {}: {}{outcome}\n{}\n", step.about, step.status, step.curl());
    }
}
