//! A web server that counts how often it was really asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Request, Response, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::background::Background;

/// Longest body an origin makes: 64 MiB, far above what a cache of API answers should meet.
const LONGEST_BODY: usize = 64 << 20;
/// Longest delay: a minute, more than any deadline in the tests.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

type Hits = Arc<Mutex<HashMap<String, u64>>>;

/// An HTTP/1.1 origin on a free loopback port that counts requests per path and answers as the query says.
///
/// | query | the answer |
/// |---|---|
/// | `status=503` | has this status; default 200 |
/// | `delay_ms=40` | comes this many milliseconds later, at most 60000; counted before the delay |
/// | `len=4096` | has a body of exactly this many bytes, at most 64 MiB |
/// | `header=Cache-Control:max-age=5` | has this header; may be repeated |
///
/// Values are percent-decoded. The body is one line, `<method> <path> #<count of this path>`, cut or filled up with
/// dots to `len`. A query it does not understand is answered 400, with what is wrong as the body.
///
/// Dropping it closes the port and all connections.
pub struct CountingOrigin {
    addr: SocketAddr,
    hits: Hits,
    _background: Background,
}

impl CountingOrigin {
    /// Starts an origin that has counted nothing yet.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn start() -> Self {
        let hits = Hits::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&hits));
        let background = Background::start("counting-origin");
        let listener = background
            .run(TcpListener::bind(("127.0.0.1", 0)))
            .await
            .expect("the system has a free port for the origin");
        let addr = listener.local_addr().expect("a bound listener has an address");
        background.spawn(async move {
            // Ends only with the runtime it runs on.
            let _ = axum::serve(listener, app).await;
        });
        Self { addr, hits, _background: background }
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many requests came for `path` (begins with a slash, has no query), of any method, refused ones included.
    pub fn hits(&self, path: &str) -> u64 {
        self.hits.lock().get(path).copied().unwrap_or(0)
    }

    /// How many requests came for all paths together.
    pub fn total_hits(&self) -> u64 {
        self.hits.lock().values().sum()
    }
}

async fn answer(State(hits): State<Hits>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    let count = {
        let mut hits = hits.lock();
        let count = hits.entry(path.to_owned()).or_insert(0);
        *count += 1;
        *count
    };
    let order = match Order::read(request.uri()) {
        Ok(order) => order,
        Err(wrong) => {
            let mut refusal = Response::new(Body::from(wrong));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            return refusal;
        }
    };
    let mut body = format!("{} {path} #{count}\n", request.method()).into_bytes();
    if let Some(len) = order.len {
        body.resize(len, b'.');
    }
    sleep(order.delay).await;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = order.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let mut named = Vec::new();
    for (name, value) in order.headers {
        // The first of a name replaces ours, the next ones are added to it.
        if named.contains(&name) {
            response.headers_mut().append(name, value);
        } else {
            response.headers_mut().insert(name.clone(), value);
            named.push(name);
        }
    }
    response
}

/// What the query asks for.
struct Order {
    status: StatusCode,
    delay: Duration,
    len: Option<usize>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Order {
    fn read(uri: &Uri) -> Result<Self, String> {
        let Query(pairs) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|error| format!("query: {error}\n"))?;
        let mut order =
            Self { status: StatusCode::OK, delay: Duration::ZERO, len: None, headers: Vec::new() };
        for (name, value) in pairs {
            let wrong = |rule: &str| format!("{name}={value}: {rule}\n");
            match name.as_str() {
                "status" => {
                    order.status = value.parse().map_err(|_| wrong("must be a status from 100 to 999"))?;
                }
                "delay_ms" => {
                    let delay = value.parse().map(Duration::from_millis).ok().filter(|d| *d <= LONGEST_DELAY);
                    order.delay = delay.ok_or_else(|| wrong("must be milliseconds, at most 60000"))?;
                }
                "len" => {
                    let len = value.parse().ok().filter(|len| *len <= LONGEST_BODY);
                    order.len = Some(len.ok_or_else(|| wrong("must be bytes, at most 64 MiB"))?);
                }
                "header" => {
                    let header = value.split_once(':').and_then(|(name, value)| {
                        Some((name.trim().parse().ok()?, HeaderValue::from_str(value.trim()).ok()?))
                    });
                    order.headers.push(header.ok_or_else(|| wrong("must be Name:Value"))?);
                }
                // Anything else only makes a different URL, which tests of cache keys want.
                _ => {}
            }
        }
        Ok(order)
    }
}
