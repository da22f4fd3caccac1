//! A caller's connection as the HTTP library reads and writes it, with the deadlines that the library has not.
//!
//! The wire knows whether a request is under way ([`Activity`]) and so what silence means: before the first byte of a head
//! the connection is idle, after it a caller is slow, during a request it waits for us. A pending write without progress
//! means that the caller takes nothing. And it closes so that the last answer arrives: a connection that is closed with
//! bytes unread is reset, and the answer is lost with it.
//!
//! Whether the client takes what is written, `app/socket.rs` sees to, below any TLS. Everything is read and written
//! through the `Line`, so that nothing passes TLS by.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::activity::Activity;
use super::line::Line;
use super::refusal::{Refusal, end_of_head, has_two_lengths};
use super::socket::taken_nothing;
use crate::config::Server;

/// Longest head. Hyper's read buffer has the same limit.
pub const LONGEST_HEAD: usize = 64 << 10;
/// How long the rest of a refused request is read and forgotten: in all, and without any bytes.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_IDLE: Duration = Duration::from_secs(1);

/// How long a request under way is not told that its client has closed its half of the connection. A provider is left
/// within 250 ms of its caller's leaving (faults B11).
const PARTING: Duration = Duration::from_millis(100);

/// After how long without a byte a connection gives up its buffers ([`super::worker`]). Clients with more to say mostly say
/// it sooner.
const REST: Duration = Duration::from_secs(2);

/// How long a connection may do what.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    pub header: Duration,
    pub idle: Duration,
    pub write: Duration,
}

impl Deadlines {
    pub fn of(server: &Server) -> Self {
        Self { header: server.header_timeout.0, idle: server.idle_timeout.0, write: server.write_timeout.0 }
    }
}

/// What the reading side waits for. The number is that of requests begun: another one means that this wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Nothing of the next request has come.
    Idle(u64),
    /// The rest of a head.
    Head(u64),
    /// A request is under way.
    Busy,
}

/// What a connection turned out to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    /// HTTP/2, or too few bytes have come to tell.
    Other,
}

pub struct Wire {
    line: Line,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    waiting: Waiting,
    read_timer: Option<Pin<Box<Sleep>>>,
    /// When an idle connection ends.
    idle_until: Instant,
    /// Everything that was to be written is.
    flushed: bool,
    /// Bytes that were read and not understood when the connection rested: to be read again.
    rewound: Bytes,
    /// The first bytes of the connection, until they tell HTTP/2 from HTTP/1.
    opening: Vec<u8>,
    opened: bool,
    /// A head that came in pieces.
    head: Vec<u8>,
    /// An answer of our own on its way, and how much of it is written.
    own: Option<(Vec<u8>, usize)>,
    /// Nothing more is read, whatever comes.
    ended: bool,
    /// The client has closed its side.
    hung_up: bool,
    /// When the end of what the client sends is passed on to a request under way.
    parting: Option<Pin<Box<Sleep>>>,
    lingering: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Wire {
    pub fn new(line: Line, activity: Arc<Activity>, deadlines: Deadlines) -> Self {
        Self {
            line,
            activity,
            deadlines,
            waiting: Waiting::Busy,
            read_timer: None,
            idle_until: Instant::now() + deadlines.idle,
            flushed: true,
            rewound: Bytes::new(),
            opening: Vec::new(),
            opened: false,
            head: Vec::new(),
            own: None,
            ended: false,
            hung_up: false,
            parting: None,
            lingering: None,
        }
    }

    /// Serves nothing but an answer of our own.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.waiting = Waiting::Head(self.activity.started());
        self.own = Some((refusal.answer(), 0));
        self.ended = true;
    }

    /// Waits for something to serve, without any buffers. Ready also when the connection is to end, which is then read.
    pub async fn wake(&mut self) -> Speaks {
        poll_fn(|cx| {
            if self.ended || self.hung_up || !self.rewound.is_empty() {
                return Poll::Ready(Speaks::Http1);
            }
            if self.line.agreed_on_http2() {
                return Poll::Ready(Speaks::Other);
            }
            let mut space = [0; PREFACE.len()];
            let mut seen = ReadBuf::new(&mut space);
            match self.line.poll_peek(cx, &mut seen) {
                Poll::Ready(Ok(())) if !self.opened && is_preface(seen.filled()) => Poll::Ready(Speaks::Other),
                Poll::Ready(_) => Poll::Ready(Speaks::Http1),
                Poll::Pending => self.poll_patience(cx).map(|_| Speaks::Http1),
            }
        })
        .await
    }

    /// The HTTP library had read this and not used it.
    pub fn rewind(&mut self, unused: Bytes) {
        // Nothing of a buffer is still the buffer.
        self.rewound = if unused.is_empty() { Bytes::new() } else { unused };
    }

    /// Looks at bytes that came while no request was under way: part of a head, unless this is HTTP/2.
    fn saw(&mut self, bytes: &[u8]) -> Option<Refusal> {
        if self.activity.is_busy() {
            return None;
        }
        if !self.opened {
            self.opening.extend_from_slice(&bytes[..bytes.len().min(PREFACE.len())]);
            let seen = self.opening.len().min(PREFACE.len());
            if self.opening[..seen] == PREFACE[..seen] {
                if seen == PREFACE.len() {
                    self.activity.multiplex();
                }
            } else {
                self.opened = true;
            }
            if seen == PREFACE.len() {
                self.opened = true;
            }
            if self.opened {
                self.opening = Vec::new();
            }
        }
        if self.activity.is_multiplexed() {
            return None;
        }
        let started = self.activity.started();
        let mut bytes = bytes;
        if self.waiting != Waiting::Head(started) {
            // Empty lines before a head are no head: some clients send one after a body.
            let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
            bytes = &bytes[begin..];
            self.waiting = Waiting::Head(started);
            self.head.clear();
            arm(&mut self.read_timer, self.deadlines.header);
        }
        let both = match (self.head.is_empty(), end_of_head(bytes)) {
            (true, Some(end)) => has_two_lengths(&bytes[..end]),
            _ => {
                let room = LONGEST_HEAD.saturating_sub(self.head.len());
                self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
                let end = end_of_head(&self.head)?;
                has_two_lengths(&std::mem::take(&mut self.head)[..end])
            }
        };
        self.activity.examine();
        both.then_some(Refusal::TwoLengths)
    }

    /// Nothing to read: waits, but not for ever. Ready when the connection is to end.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.is_busy() {
            self.waiting = Waiting::Busy;
            self.activity.wake_at_change(cx.waker());
            // HTTP/2 says with its own windows that a client takes nothing; the socket stays writable.
            let Some(since) = self.activity.untaken_since() else {
                self.read_timer = None;
                return Poll::Pending;
            };
            ready!(poll_until(&mut self.read_timer, since + self.deadlines.write, cx));
            self.line.reset();
            return Poll::Ready(Err(taken_nothing()));
        }
        let started = self.activity.started();
        if self.waiting != Waiting::Head(started) && self.waiting != Waiting::Idle(started) {
            self.waiting = Waiting::Idle(started);
            self.head = Vec::new();
            arm(&mut self.read_timer, self.deadlines.idle.min(REST));
            self.idle_until = Instant::now() + self.deadlines.idle;
        }
        while let Some(timer) = &mut self.read_timer {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if matches!(self.waiting, Waiting::Head(_)) || now >= self.idle_until {
                break;
            }
            // A slow reader may still be taking the last answer.
            self.activity.rest(self.flushed);
            timer.as_mut().reset(if self.flushed { self.idle_until } else { self.idle_until.min(now + REST) });
        }
        if matches!(self.waiting, Waiting::Head(_)) {
            self.own = Some((Refusal::HeadTimeout.answer(), 0));
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }

    /// The client sends nothing more. Most often it has left; a simple one may have closed its half and be waiting, and gets
    /// the answer if that comes at once.
    fn poll_parting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.is_busy() {
            self.activity.wake_at_change(cx.waker());
            let timer = self.parting.get_or_insert_with(|| Box::pin(tokio::time::sleep(PARTING)));
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
    }

    /// Writes an answer of our own, if there is one.
    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, written)) = &mut self.own {
            if *written == answer.len() {
                self.own = None;
                break;
            }
            *written += ready!(Pin::new(&mut self.line).poll_write(cx, &answer[*written..]))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets what a client still sends, so that it sees the answer. Bounded.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (end, quiet) = self.lingering.get_or_insert_with(|| {
            let now = Instant::now();
            (now + LINGER, Box::pin(tokio::time::sleep_until(now + LINGER_IDLE)))
        });
        let mut space = [0; 8192];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut self.line).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    quiet.as_mut().reset((Instant::now() + LINGER_IDLE).min(*end));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return quiet.as_mut().poll(cx),
            }
        }
    }
}

/// How an HTTP/2 connection begins; no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI ";

fn is_preface(seen: &[u8]) -> bool {
    !seen.is_empty() && PREFACE.starts_with(seen)
}

fn arm(timer: &mut Option<Pin<Box<Sleep>>>, wait: Duration) {
    let deadline = Instant::now() + wait;
    match timer {
        Some(timer) => timer.as_mut().reset(deadline),
        None => *timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
    }
}

fn poll_until(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
    if timer.deadline() != deadline {
        timer.as_mut().reset(deadline);
    }
    timer.as_mut().poll(cx)
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.rest(false);
        loop {
            ready!(this.poll_own(cx))?;
            if this.ended {
                // The HTTP library drops a connection that ends within a head: TLS's farewell would be missing, by which
                // a client knows that nothing of the answer is.
                if this.line.is_encrypted() && matches!(this.waiting, Waiting::Head(_)) {
                    ready!(Pin::new(&mut this.line).poll_shutdown(cx))?;
                }
                return Poll::Ready(Ok(()));
            }
            if this.hung_up {
                return this.poll_parting(cx);
            }
            let before = buffer.filled().len();
            let read = if this.rewound.is_empty() {
                Pin::new(&mut this.line).poll_read(cx, buffer)
            } else {
                let count = this.rewound.len().min(buffer.remaining());
                buffer.put_slice(&this.rewound[..count]);
                let rest = this.rewound.slice(count..);
                this.rewind(rest);
                Poll::Ready(Ok(()))
            };
            match read {
                Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                    let Some(refusal) = this.saw(&buffer.filled()[before..]) else { return Poll::Ready(Ok(())) };
                    buffer.set_filled(before);
                    this.own = Some((refusal.answer(), 0));
                    this.ended = true;
                }
                Poll::Ready(Ok(())) => this.hung_up = true,
                Poll::Ready(Err(error)) => {
                    this.hung_up = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => ready!(this.poll_patience(cx))?,
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.flushed = false;
        let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| piece);
        let waits_for_head = matches!(this.waiting, Waiting::Head(_));
        if waits_for_head && this.own.is_none() && !this.activity.is_multiplexed() {
            // Taken as written at once: nothing comes after it, and closing waits for ours.
            if let Some(refusal) = Refusal::of(first) {
                this.own = Some((refusal.answer(), 0));
                return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
            }
        }
        ready!(this.poll_own(cx))?;
        Pin::new(&mut this.line).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.line.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_own(cx))?;
        ready!(Pin::new(&mut this.line).poll_flush(cx))?;
        this.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_own(cx))?;
        ready!(Pin::new(&mut this.line).poll_shutdown(cx))?;
        let refused = matches!(this.waiting, Waiting::Head(_)) || this.activity.has_unread_body();
        if refused && !this.hung_up {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
