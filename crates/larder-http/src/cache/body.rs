//! Gathering the body of a response: at once where it is there already, beside the first client where it is not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use larder_core::BoxFuture;
use tokio::sync::mpsc;

/// A body whose length is known, as far as it has come.
pub(super) struct Gathering {
    body: Body,
    chunks: Vec<Bytes>,
    missing: u64,
}

/// How far a body has come.
pub(super) enum Gathered {
    /// All of it.
    Whole(Bytes),
    /// It takes its time.
    Waiting(Gathering),
    /// It has ended early, or gone on too long, or brought trailers: what came, and what may still come.
    Broken(Gathering),
}

enum Step {
    More,
    End,
    Broken,
}

impl Gathering {
    pub(super) fn new(body: Body, length: u64) -> Self {
        Gathering { body, chunks: Vec::new(), missing: length }
    }

    /// Takes what is there without waiting.
    pub(super) async fn at_once(mut self) -> Gathered {
        let step = std::future::poll_fn(|cx| {
            loop {
                match self.poll_step(cx) {
                    Poll::Ready(Step::More) => {}
                    Poll::Ready(end) => return Poll::Ready(Some(end)),
                    Poll::Pending => return Poll::Ready(None),
                }
            }
        })
        .await;
        match step {
            Some(Step::End) => Gathered::Whole(self.whole()),
            Some(Step::Broken | Step::More) => Gathered::Broken(self),
            None => Gathered::Waiting(self),
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Poll::Pending };
        let step = match frame.map(|frame| frame.map(Frame::into_data)) {
            None if self.missing == 0 => Step::End,
            Some(Ok(Ok(data))) if data.len() as u64 <= self.missing => {
                self.missing -= data.len() as u64;
                self.chunks.push(data);
                Step::More
            }
            Some(Ok(Ok(data))) => {
                self.chunks.push(data);
                Step::Broken
            }
            // The end, an error, or trailers, which are part of no stored response.
            None | Some(Err(_) | Ok(Err(_))) => Step::Broken,
        };
        Poll::Ready(step)
    }

    fn whole(&mut self) -> Bytes {
        match self.chunks.len() {
            0 => Bytes::new(),
            1 => self.chunks.remove(0),
            _ => {
                let mut whole = BytesMut::with_capacity(self.chunks.iter().map(Bytes::len).sum());
                self.chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
                whole.freeze()
            }
        }
    }

    /// What came, and then whatever the body still brings: for a client whose answer is not stored.
    pub(super) fn pass_on(self) -> Body {
        let length = self.chunks.iter().map(|c| c.len() as u64).sum::<u64>() + self.missing;
        Body::new(Chained { front: self.chunks.into(), rest: self.body, length })
    }

    /// Splits in two: a body for the client, and the work of filling it. The work goes on, at the pace of the source, if
    /// the client is slow or goes away; it ends with the whole body, or with nothing.
    pub(super) fn tee(mut self) -> (Body, impl Future<Output = Option<Bytes>> + Send) {
        let (client, receiver) = mpsc::unbounded_channel();
        let length = self.chunks.iter().map(|c| c.len() as u64).sum::<u64>() + self.missing;
        for chunk in &self.chunks {
            // The receiver is in our hands still.
            let _ = client.send(Ok(chunk.clone()));
        }
        let work = async move {
            loop {
                let came = self.chunks.len();
                let step = std::future::poll_fn(|cx| self.poll_step(cx)).await;
                for chunk in &self.chunks[came..] {
                    // A client that went away does not end the work: others wait for it.
                    let _ = client.send(Ok(chunk.clone()));
                }
                match step {
                    Step::More => {}
                    Step::End => return Some(self.whole()),
                    Step::Broken => {
                        let _ = client.send(Err(Truncated));
                        return None;
                    }
                }
            }
        };
        (Body::new(Piped { receiver, missing: length }), work)
    }
}

/// The body a client reads was cut short at its source.
#[derive(Debug)]
struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the response ended before its length")
    }
}

impl std::error::Error for Truncated {}

/// A body that comes through a channel. Bounded by what may be stored at all.
struct Piped {
    receiver: mpsc::UnboundedReceiver<Result<Bytes, Truncated>>,
    missing: u64,
}

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        self.receiver.poll_recv(cx).map(|chunk| match chunk {
            Some(Ok(chunk)) => {
                self.missing = self.missing.saturating_sub(chunk.len() as u64);
                Some(Ok(Frame::data(chunk)))
            }
            Some(Err(error)) => Some(Err(error)),
            // The other side was dropped, cut off by its time limit.
            None if self.missing > 0 => Some(Err(Truncated)),
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.missing)
    }
}

struct Chained {
    front: std::collections::VecDeque<Bytes>,
    rest: Body,
    length: u64,
}

impl http_body::Body for Chained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(chunk) = self.front.pop_front() {
            self.length = self.length.saturating_sub(chunk.len() as u64);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::default();
        hint.set_lower(self.front.iter().map(|c| c.len() as u64).sum());
        hint
    }
}

/// Polls once: what is done at once needs no task.
pub(super) async fn at_once<T>(future: &mut BoxFuture<'static, T>) -> Option<T> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
