//! Gathering the body of a response: at once where it is there already, beside the first client where it is not.
//!
//! Whatever makes a body one that is not stored (an error, trailers, more or less than was announced) reaches its client
//! all the same, just as without the cache.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::mpsc;

type Piece = Result<Frame<Bytes>, axum::Error>;

/// A body whose length is known, as far as it has come.
pub(super) struct Gathering {
    body: Body,
    chunks: Vec<Bytes>,
    missing: u64,
    /// What came and is part of no stored response: it is for the client, behind the chunks.
    odd: Option<Piece>,
    /// The body has said its last; it is not asked again.
    ended: bool,
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
        Gathering { body, chunks: Vec::new(), missing: length, odd: None, ended: false }
    }

    /// Takes what is there without waiting.
    pub(super) async fn at_once(mut self) -> Gathered {
        let step = poll_fn(|cx| {
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
        let odd = match frame.map(|frame| frame.map(Frame::into_data)) {
            None if self.missing == 0 => return Poll::Ready(Step::End),
            Some(Ok(Ok(data))) if data.len() as u64 <= self.missing => {
                self.missing -= data.len() as u64;
                self.chunks.push(data);
                return Poll::Ready(Step::More);
            }
            Some(Ok(Ok(data))) => Ok(Frame::data(data)),
            // Trailers.
            Some(Ok(Err(frame))) => Ok(frame),
            Some(Err(error)) => Err(error),
            None => Err(axum::Error::new(Truncated)),
        };
        self.ended = odd.is_err();
        self.odd = Some(odd);
        Poll::Ready(Step::Broken)
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

    /// What the body said its length was.
    fn announced(&self) -> u64 {
        self.chunks.iter().map(|c| c.len() as u64).sum::<u64>() + self.missing
    }

    /// What came, and then whatever the body still brings: for a client whose answer is not stored.
    pub(super) fn pass_on(self) -> Body {
        let length = self.announced();
        let rest = (!self.ended).then_some(self.body);
        Body::new(Chained { front: self.chunks.into(), odd: self.odd, rest, length })
    }

    /// Splits in two: a body for the client, and the pump that fills it.
    pub(super) fn tee(self) -> (Body, Pump) {
        let (client, receiver) = mpsc::unbounded_channel();
        let missing = self.announced();
        for chunk in &self.chunks {
            // The receiver is in our hands still.
            let _ = client.send(Ok(Frame::data(chunk.clone())));
        }
        (Body::new(Piped { receiver, missing }), Pump { gathering: self, client })
    }
}

/// Carries a body to its client and keeps a copy.
pub(super) struct Pump {
    gathering: Gathering,
    client: mpsc::UnboundedSender<Piece>,
}

impl Pump {
    /// Gathers the whole body at the pace of its source, however slow the client is, and if it goes away too. `None`:
    /// there will be no whole body to store; the client's [`rest`](Self::rest) is still to be brought.
    ///
    /// Cancel safe.
    pub(super) async fn fill(&mut self) -> Option<Bytes> {
        loop {
            match poll_fn(|cx| self.gathering.poll_step(cx)).await {
                Step::More => {
                    if let Some(chunk) = self.gathering.chunks.last() {
                        // A client that went away does not end the work: others wait for it.
                        let _ = self.client.send(Ok(Frame::data(chunk.clone())));
                    }
                }
                Step::End => return Some(self.gathering.whole()),
                Step::Broken => return None,
            }
        }
    }

    /// Brings the client what is left, as long as there is a client.
    pub(super) async fn rest(self) {
        let (client, mut body, mut missing) = (self.client, self.gathering.body, self.gathering.missing);
        let mut gone = pin!(client.closed());
        let mut next = self.gathering.odd;
        let mut ended = self.gathering.ended;
        loop {
            if let Some(piece) = next {
                let len = data_len(&piece);
                // More than was announced has nobody to go to, and would pile up in the channel.
                ended |= piece.is_err() || len > missing;
                missing = missing.saturating_sub(len);
                if client.send(piece).is_err() {
                    return;
                }
            }
            if ended {
                return;
            }
            next = poll_fn(|cx| match gone.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => Pin::new(&mut body).poll_frame(cx),
            })
            .await;
            ended = next.is_none();
        }
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
    receiver: mpsc::UnboundedReceiver<Piece>,
    missing: u64,
}

impl http_body::Body for Piped {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.receiver.poll_recv(cx).map(|piece| match piece {
            Some(piece) => {
                self.missing = self.missing.saturating_sub(data_len(&piece));
                Some(piece)
            }
            // The other side was dropped before its time.
            None if self.missing > 0 => {
                self.missing = 0;
                Some(Err(axum::Error::new(Truncated)))
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.missing)
    }
}

fn data_len(piece: &Piece) -> u64 {
    piece.as_ref().ok().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64)
}

struct Chained {
    front: VecDeque<Bytes>,
    odd: Option<Piece>,
    rest: Option<Body>,
    length: u64,
}

impl http_body::Body for Chained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let piece = if let Some(chunk) = self.front.pop_front() {
            Some(Ok(Frame::data(chunk)))
        } else if let Some(odd) = self.odd.take() {
            Some(odd)
        } else if let Some(rest) = &mut self.rest {
            let Poll::Ready(piece) = Pin::new(rest).poll_frame(cx) else { return Poll::Pending };
            if !matches!(piece, Some(Ok(_))) {
                self.rest = None;
            }
            piece
        } else {
            None
        };
        self.length = self.length.saturating_sub(piece.as_ref().map_or(0, data_len));
        Poll::Ready(piece)
    }

    /// As the body itself said: the framing on the wire is what it would be without the cache.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// No body, and no word about how long one would be: for answers to HEAD, and for 304. (An empty body says "0", and
/// whoever writes `Content-Length` believes it.)
pub(super) fn nothing() -> Body {
    struct Nothing;
    impl http_body::Body for Nothing {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
            Poll::Ready(None)
        }

        fn is_end_stream(&self) -> bool {
            true
        }
    }
    Body::new(Nothing)
}
