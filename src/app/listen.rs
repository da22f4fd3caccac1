//! The listener: connections in, requests to the router, a drain that ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::operations::Operations;

/// A client that takes longer than this to send a request's head is dropped (faults C02).
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// After the error events have been sent, connections get this long to carry them.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;

pub struct Listeners {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// Binds the address. Port 0 takes a free one.
pub fn bind(address: SocketAddr) -> std::io::Result<Listeners> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Listeners { listener, address })
}

/// Accepts until `stop`, then drains: at most `grace`, then streams are told to end.
pub async fn serve(
    listeners: Listeners,
    router: Router,
    stop: CancellationToken,
    grace: Duration,
    operations: Arc<Operations>,
) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(64 << 10);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    loop {
        let stream = tokio::select! {
            accepted = listeners.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: a pause lets some come back.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        connect(stream, &builder, &router, &graceful);
    }
    drop(listeners);
    let mut closed = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(grace, &mut closed).await.is_err() {
        // What still runs is told to end: a stream says so with an error event.
        operations.cut_streams();
        if tokio::time::timeout(LAST_WORDS, &mut closed).await.is_err() {
            tracing::warn!("some connections were still open after the drain limit");
        }
    }
}

fn connect(stream: TcpStream, builder: &auto::Builder<TokioExecutor>, router: &Router, graceful: &GracefulShutdown) {
    // Without it the first token of a stream waits 40 ms for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.clone());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(connection);
    tokio::spawn(async move {
        // Errors here are clients that went away or spoke nonsense: nothing to do, nothing to say.
        let _ = watched.await;
    });
}
