//! What a connection is doing, told by its requests and read by its [`super::wire::Wire`].
//!
//! A request is under way from its head until its answer is handed over whole or dropped. Both ends live on one thread;
//! the atomics are there because tasks have to be `Send`, not because anybody races.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::{Body, Bytes};
use futures_util::task::AtomicWaker;
use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::caller::Peer;
use crate::api::edge::Unexamined;
use crate::api::secure::Encrypted;

#[derive(Default)]
pub struct Activity {
    in_flight: AtomicUsize,
    /// Requests since the connection began.
    started: AtomicU64,
    /// Which request's head the wire has looked at, by its number.
    examined: AtomicU64,
    /// Nothing has come for a while, and nothing is on its way out.
    resting: AtomicBool,
    /// HTTP/2: bytes say nothing about requests, and a client can refuse to take answers without blocking the socket.
    multiplexed: AtomicBool,
    /// The last request's body was not read to its end.
    unread: AtomicBool,
    /// It was begun and given up: too slow, too long, or one too many.
    broken_off: AtomicBool,
    /// Answers that gave a piece and were not asked for the next; when one of them was last asked for anything.
    held: Mutex<(usize, Option<Instant>)>,
    waker: AtomicWaker,
}

impl Activity {
    pub fn is_busy(&self) -> bool {
        self.in_flight.load(Relaxed) > 0
    }

    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// The next request's head is there and was looked at.
    pub fn examine(&self) {
        self.examined.store(self.started() + 1, Relaxed);
    }

    /// Whether the connection can do without its buffers. Said by the wire whenever it is read.
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, Relaxed);
    }

    /// Whether the wire has said so since it was last asked.
    pub fn take_rest(&self) -> bool {
        self.resting.swap(false, Relaxed)
    }

    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    pub fn multiplex(&self) {
        self.multiplexed.store(true, Relaxed);
    }

    pub fn has_unread_body(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Since when an answer is ready that nobody takes, while no other one moves.
    pub fn untaken_since(&self) -> Option<Instant> {
        let (held, moved) = *self.held.lock();
        moved.filter(|_| held > 0)
    }

    /// Wakes the connection when there is something new to wait for.
    pub fn wake_at_change(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn begin(self: &Arc<Self>) -> Underway {
        self.in_flight.fetch_add(1, Relaxed);
        self.started.fetch_add(1, Relaxed);
        self.unread.store(false, Relaxed);
        self.broken_off.store(false, Relaxed);
        Underway { activity: self.clone(), holds: false }
    }
}

/// One request under way.
struct Underway {
    activity: Arc<Activity>,
    /// Its answer gave a piece and was not asked for the next.
    holds: bool,
}

impl Underway {
    fn asked(&mut self) {
        if self.activity.is_multiplexed() {
            let mut held = self.activity.held.lock();
            held.0 -= usize::from(std::mem::take(&mut self.holds));
            held.1 = Some(Instant::now());
        }
    }

    fn gave(&mut self) {
        if self.activity.is_multiplexed() {
            self.activity.held.lock().0 += 1;
            self.holds = true;
            // A piece that the client's window has no room for wakes nobody: the wire has to see the time.
            self.activity.waker.wake();
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.holds {
            self.activity.held.lock().0 -= 1;
        }
        if self.activity.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.activity.waker.wake();
        }
    }
}

/// The router, as one connection sees it.
pub struct Service {
    pub router: TowerToHyperService<Router>,
    pub activity: Arc<Activity>,
    /// The other end.
    pub peer: Option<Peer>,
    /// Came by TLS.
    pub encrypted: bool,
}

impl hyper::service::Service<http::Request<Incoming>> for Service {
    type Response = http::Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let underway = self.activity.begin();
        let unexamined = self.activity.examined.load(Relaxed) != self.activity.started();
        let mut asked =
            request.map(|body| Question { body, activity: self.activity.clone(), begun: false, ended: false });
        if let Some(peer) = self.peer {
            asked.extensions_mut().insert(peer);
        }
        if self.encrypted {
            asked.extensions_mut().insert(Encrypted);
        }
        if unexamined && !self.activity.is_multiplexed() {
            asked.extensions_mut().insert(Unexamined);
        }
        let answering = self.router.call(asked);
        Box::pin(async move {
            let mut response = answering.await?;
            let activity = &underway.activity;
            let breaks_off = activity.broken_off.load(Relaxed) || response.status() == StatusCode::PAYLOAD_TOO_LARGE;
            if breaks_off && activity.has_unread_body() && !activity.is_multiplexed() {
                // Said, or a client that has sent it all by now would send the next request after it.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Answer { body, underway }))
        })
    }
}

/// A request's body; remembers if it was left unread.
struct Question {
    body: Incoming,
    activity: Arc<Activity>,
    begun: bool,
    /// A body in chunks does not know by itself that it has ended.
    ended: bool,
}

impl HttpBody for Question {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        this.begun = true;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.activity.unread.store(true, Relaxed);
            self.activity.broken_off.store(self.begun, Relaxed);
        }
    }
}

/// An answer's body; its request is under way for as long as it lives.
pub struct Answer {
    body: Body,
    underway: Underway,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.underway.asked();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && !this.body.is_end_stream() {
            this.underway.gave();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
