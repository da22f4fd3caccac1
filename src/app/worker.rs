//! One thread per core, each with its own runtime: a connection lives and dies on one of them.
//!
//! Handing work between the threads of one runtime costs CPU on every request (ARCHITECTURE.md). Here a
//! connection, its requests and the upstream connections that they use stay on one core. The listener gives each new
//! connection to the worker with the fewest, so that uneven clients do not pile up on one.

use std::collections::HashSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;

use super::activity::{Activity, Service};
use super::line::{self, Line, Opened};
use super::refusal::Refusal;
use super::socket::Socket;
use super::wire::{Deadlines, LONGEST_HEAD, Speaks, Wire};
use crate::api::caller::Peer;
use crate::catalog::Format;
use crate::gateway::Gateway;
use crate::operations::Operations;
use crate::provider::transport::Dial;
use crate::telemetry::metric::Metric;

/// After the error events have been sent, connections get this long to carry them.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Connections on their way to a worker. When full, the listener waits and the kernel's backlog holds the rest.
const HANDOVER: usize = 1024;

/// A connection on its way to its worker.
pub struct Arrival {
    pub stream: std::net::TcpStream,
    /// The certificate in force. `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    pub deadlines: Deadlines,
    pub router: Router,
}

/// A thread that serves connections until its sender is dropped, and then drains.
pub struct Worker {
    connections: mpsc::Sender<(Arrival, Place)>,
    open: Arc<AtomicUsize>,
    drained: oneshot::Receiver<()>,
}

impl Worker {
    pub fn start(grace: Duration, gateway: Arc<Gateway>, operations: Arc<Operations>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, arriving) = mpsc::channel(HANDOVER);
        let (finished, drained) = oneshot::channel();
        let open = Arc::new(AtomicUsize::new(0));
        std::thread::Builder::new().name("stepwell-worker".to_owned()).spawn(move || {
            runtime.block_on(async { prepare(&gateway) });
            runtime.block_on(serve(arriving, grace, &operations));
            // Upstream connections that are kept for later do not hold up the end.
            runtime.shutdown_background();
            let _ = finished.send(());
        })?;
        Ok(Self { connections, open, drained })
    }

    /// Connections that this worker has.
    pub fn load(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub async fn take(&self, arrival: Arrival) {
        // Fails only when the worker is gone, and with it the connection.
        let _ = self.connections.send((arrival, Place::take(&self.open))).await;
    }

    /// No new connections; waits until the open ones have ended or were cut.
    pub async fn drain(self) {
        drop(self.connections);
        let _ = self.drained.await;
    }
}

/// Makes the runtime's HTTP clients, one for every way to connect that is in use.
fn prepare(gateway: &Gateway) {
    let rules = gateway.rules();
    let remote = rules.settings.providers.iter().filter(|provider| provider.format != Format::Demo);
    let dials = remote.map(|provider| Dial {
        connect: rules.policy(provider).timeouts.connect.0,
        insecure_tls: provider.insecure_tls,
        fresh: false,
    });
    for dial in dials.collect::<HashSet<_>>() {
        gateway.dispatcher.transport.prepare(dial);
    }
}

async fn serve(mut arriving: mpsc::Receiver<(Arrival, Place)>, grace: Duration, operations: &Operations) {
    let protocols = Arc::new(Protocols::new());
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    while let Some((Arrival { stream, tls, deadlines, router }, place)) = arriving.recv().await {
        // Without no-delay the first token of a stream waits 40 ms for an acknowledgement.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) else { continue };
        let activity = Arc::new(Activity::default());
        let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
        let socket = Socket::new(stream, deadlines.write);
        let service = Service { router: TowerToHyperService::new(router), activity, peer, encrypted: tls.is_some() };
        let (protocols, stop) = (protocols.clone(), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let activity = service.activity.clone();
            let wire = match tls {
                None => Some(Wire::new(Line::Plain(socket), activity, deadlines)),
                // In a box: a connection at rest would keep room for its handshake.
                Some(tls) => Box::pin(encrypted(socket, tls, activity, deadlines, &stop)).await,
            };
            if let Some(wire) = wire {
                protocols.converse(wire, service, &stop).await;
            }
        });
    }
    stop.cancel();
    connections.close();
    operations.tasks().close();
    let ended = async || {
        connections.wait().await;
        operations.tasks().wait().await;
    };
    if tokio::time::timeout(grace, ended()).await.is_err() {
        // What still runs is told to end: a stream says so with an error event.
        operations.cut_streams();
        if tokio::time::timeout(LAST_WORDS, ended()).await.is_err() {
            tracing::warn!("some connections were still open after the drain limit");
        }
    }
}

/// A wire over TLS; one with nothing but a refusal for a client that speaks no TLS; none if there is nobody to talk to.
async fn encrypted(
    socket: Socket,
    tls: Arc<ServerConfig>,
    activity: Arc<Activity>,
    deadlines: Deadlines,
    stop: &CancellationToken,
) -> Option<Wire> {
    let opened = tokio::select! {
        opened = line::open(socket, tls, deadlines.header) => opened,
        () = stop.cancelled() => return None,
    };
    match opened {
        Ok(Opened::Line(line)) => Some(Wire::new(line, activity, deadlines)),
        Ok(Opened::Unencrypted(socket)) => {
            let mut wire = Wire::new(Line::Plain(socket), activity, deadlines);
            wire.refuse(Refusal::Unencrypted);
            Some(wire)
        }
        Err(error) => {
            metrics::counter!(Metric::HandshakesFailed.name()).increment(1);
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

/// How the HTTP library is to speak.
struct Protocols {
    http1: http1::Builder,
    either: auto::Builder<TokioExecutor>,
}

impl Protocols {
    fn new() -> Self {
        let mut http1 = http1::Builder::new();
        // The wire has the deadlines: this one would also end connections that are idle.
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(LONGEST_HEAD)
            .max_buf_size(LONGEST_HEAD);
        let mut either = auto::Builder::new(TokioExecutor::new());
        either.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(LONGEST_HEAD);
        either.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
        Self { http1, either }
    }

    // In boxes, and made apart: a connection at rest would keep room for them.
    fn http1(&self, wire: Wire, service: Service) -> Box<http1::Connection<Io, Service>> {
        Box::new(self.http1.serve_connection(TokioIo::new(wire), service))
    }

    fn either(&self, wire: Wire, service: Service) -> Pin<Box<auto::Connection<'static, Io, Service, TokioExecutor>>> {
        Box::pin(self.either.serve_connection(TokioIo::new(wire), service).into_owned())
    }

    /// Serves a connection to its end. The library is there only while there is something to serve: at rest, its buffers
    /// would be nine tenths of what a connection takes.
    async fn converse(&self, mut wire: Wire, mut service: Service, stop: &CancellationToken) {
        let activity = service.activity.clone();
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            let speaks = tokio::select! {
                biased;
                speaks = wire.wake() => speaks,
                () = stopped.as_mut() => return,
            };
            if speaks == Speaks::Other {
                let mut connection = self.either(wire, service);
                while attend(connection.as_mut(), &activity, stopped.as_mut()).await == Left::Resting {}
                return;
            }
            let mut connection = self.http1(wire, service);
            if attend(Pin::new(&mut *connection), &activity, stopped.as_mut()).await == Left::Ended {
                return;
            }
            let parts = connection.into_parts();
            wire = parts.io.into_inner();
            wire.rewind(parts.read_buf);
            service = parts.service;
        }
    }
}

type Io = TokioIo<Wire>;

/// How a connection was left.
#[derive(PartialEq, Eq)]
enum Left {
    Ended,
    Resting,
}

/// Drives a connection until it ends or rests. When the worker stops, it is told to end with what is under way.
async fn attend<C: GracefulConnection>(
    mut connection: Pin<&mut C>,
    activity: &Activity,
    mut stopped: Pin<&mut WaitForCancellationFuture<'_>>,
) -> Left {
    let mut told = false;
    poll_fn(|cx| {
        // First, so that a request that is there already counts as under way. Errors here are clients that went away or
        // spoke nonsense: nothing to do, nothing to say.
        let mut polled = connection.as_mut().poll(cx);
        if polled.is_pending() && !told && stopped.as_mut().poll(cx).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
            polled = connection.as_mut().poll(cx);
        }
        match polled {
            Poll::Ready(_) => Poll::Ready(Left::Ended),
            Poll::Pending if activity.take_rest() => Poll::Ready(Left::Resting),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A connection's place in its worker's count.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        metrics::gauge!(Metric::Connections.name()).increment(1.0);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!(Metric::Connections.name()).decrement(1.0);
    }
}
