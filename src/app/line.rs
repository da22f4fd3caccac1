//! The way to a caller: a socket, or TLS over one.
//!
//! A handshake is part of a head's time (`server.header_timeout`): who begins one and does not end it is cut like anybody
//! who sends half a head. HTTP/2 is agreed on by ALPN and by nothing else.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::socket::Socket;

pub enum Line {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// How an encrypted line begins.
pub enum Opened {
    Line(Line),
    /// The client speaks something else, most likely plain HTTP. It can be told so.
    Unencrypted(Socket),
}

/// The first byte of every TLS connection: a record of the kind handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// Agrees with a client on keys. `Err`: it did not come to that, and there is nobody to tell.
pub async fn open(socket: Socket, config: Arc<ServerConfig>, deadline: Duration) -> io::Result<Opened> {
    let opening = async {
        match socket.first_byte().await? {
            Some(HANDSHAKE) => {
                let stream = TlsAcceptor::from(config).accept(socket).await?;
                Ok(Opened::Line(Line::Tls(Box::new(stream))))
            }
            Some(_) => Ok(Opened::Unencrypted(socket)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    tokio::time::timeout(deadline, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Line {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether the client has said that it speaks HTTP/2. Over plain lines it says so with its first bytes.
    pub fn agreed_on_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// Closing must not leave the kernel with an answer that nobody takes.
    pub fn reset(&self) {
        self.socket().reset();
    }

    /// Ready when there is something to read. On a plain line, `seen` has its beginning then.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, seen: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_peek(cx, seen).map_ok(|_| ()),
            Self::Tls(stream) => {
                let (socket, session) = stream.get_mut();
                // What is decrypted and not read yet wakes nobody.
                if !session.wants_read() {
                    return Poll::Ready(Ok(()));
                }
                let mut one = [0];
                socket.poll_peek(cx, &mut ReadBuf::new(&mut one)).map_ok(|_| ())
            }
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => match ready!(Pin::new(&mut **stream).poll_read(cx, buffer)) {
                // The end without TLS's own farewell. HTTP knows by itself what is complete.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                read => Poll::Ready(read),
            },
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    /// Over TLS, ready when the encoder has nothing left: it takes up to 64 KiB that have not gone out.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
