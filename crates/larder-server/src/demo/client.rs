//! An HTTP client for the checks: one connection, one request at a time.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::response::Parts;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::exit::chain;

/// The largest answer that is read: the facets of level 3 have a tenth of it.
const LARGEST: usize = 16 << 20;

pub(super) struct Client {
    address: SocketAddr,
    /// How long one request may take.
    limit: Duration,
    line: Option<Line>,
}

struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// Has to be polled for anything to happen.
    connection: Pin<Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
}

impl Client {
    pub(super) fn new(address: SocketAddr, limit: Duration) -> Self {
        Client { address, limit, line: None }
    }

    /// Asks, on the connection there is or on a new one, and reads the whole answer. Nothing is asked twice.
    ///
    /// # Errors
    /// No connection, no whole answer, or none in time. The connection is given up then.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<(Parts, Bytes), String> {
        let mut line = match self.line.take().filter(|line| !line.sender.is_closed()) {
            Some(line) => line,
            None => tokio::select! {
                line = Line::to(self.address) => line?,
                () = elapsed(self.limit) => return Err(format!("no connection within {:?}", self.limit)),
            },
        };
        let Line { sender, connection } = &mut line;
        let exchange = async {
            sender.ready().await.map_err(|e| chain(&e))?;
            let (parts, body) = sender.send_request(request).await.map_err(|e| chain(&e))?.into_parts();
            // The whole answer has to come, or it is none.
            let body = http_body_util::Limited::new(body, LARGEST).collect().await;
            Ok((parts, body.map_err(|e| e.to_string())?.to_bytes()))
        };
        let answer = tokio::select! {
            biased;
            answer = exchange => answer,
            ended = connection => Err(format!("the connection ended: {ended:?}")),
            () = elapsed(self.limit) => Err(format!("no answer within {:?}", self.limit)),
        };
        if answer.is_ok() {
            self.line = Some(line);
        }
        answer
    }
}

impl Line {
    async fn to(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|e| chain(&e))?;
        // Head and body of a request are two writes.
        stream.set_nodelay(true).map_err(|e| chain(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
        Ok(Line { sender, connection: Box::pin(connection) })
    }
}

#[expect(clippy::disallowed_methods, reason = "a limit on a check; the cache's own time is on its port")]
pub(super) async fn elapsed(time: Duration) {
    tokio::time::sleep(time).await;
}
