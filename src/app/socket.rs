//! A caller's socket, below any TLS: what the kernel may hold unsent, and how long it may take nothing.
//!
//! The deadline for writing lives here and not in [`super::wire`] because only the socket knows whether a client takes
//! anything: an encoder above it takes bytes that have not left. And because whatever is written here is written as it
//! stands: below the encoder nothing can leave unencrypted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes that the kernel holds of an answer beyond what the client's own buffer takes. Some milliseconds of a fast line.
const UNSENT: u32 = 64 << 10;

pub struct Socket {
    stream: TcpStream,
    /// How long a write may make no progress.
    deadline: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub fn new(stream: TcpStream, deadline: Duration) -> Self {
        // Not on every system; without it, slow readers cost the kernel memory and nothing else.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        Self { stream, deadline, timer: None }
    }

    /// Looks at what has come without taking it.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, seen: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_peek(cx, seen)
    }

    /// The first byte, which tells a TLS handshake from everything else. `None` at the end.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut seen = [0];
        let count = self.stream.peek(&mut seen).await?;
        Ok((count > 0).then_some(seen[0]))
    }

    /// Closing must not leave the kernel with an answer that nobody takes.
    pub fn reset(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// A write that waits for the client. The kernel calls a socket writable only when much of its buffer is free: whether
    /// a slow reader has made a little room, only trying tells, at the beginning of the wait and at its end.
    fn poll_stuck(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
        }
        let sent = SockRef::from(&self.stream).send_vectored(pieces);
        match (sent, &mut self.timer) {
            (Ok(count), _) if count > 0 => self.wrote(Ok(count)),
            (_, Some(_)) => {
                self.reset();
                Poll::Ready(Err(taken_nothing()))
            }
            (_, none) => none
                .insert(Box::pin(tokio::time::sleep(self.deadline)))
                .as_mut()
                .poll(cx)
                .map(|()| Err(taken_nothing())),
        }
    }

    fn wrote(&mut self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        self.timer = None;
        Poll::Ready(result)
    }
}

pub fn taken_nothing() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(cx, pieces) {
            Poll::Ready(result) => this.wrote(result),
            Poll::Pending => this.poll_stuck(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
