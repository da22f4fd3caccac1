//! One thread per core, each with its own runtime: a connection lives and dies on one of them.
//!
//! Handing work between the threads of one runtime costs CPU on every request (ARCHITECTURE.md). Here a
//! connection, its requests and the upstream connections that they use stay on one core. The listener gives each new
//! connection to the worker with the fewest, so that uneven clients do not pile up on one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::activity::{Activity, Service};
use super::wire::{Deadlines, LONGEST_HEAD, Wire};
use crate::api::caller::Peer;
use crate::catalog::Format;
use crate::gateway::Gateway;
use crate::operations::Operations;
use crate::provider::transport::Dial;

/// After the error events have been sent, connections get this long to carry them.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Connections on their way to a worker. When full, the listener waits and the kernel's backlog holds the rest.
const HANDOVER: usize = 1024;

/// A connection on its way to its worker.
pub struct Arrival {
    pub stream: std::net::TcpStream,
    pub deadlines: Deadlines,
    pub router: Router,
}

/// A thread that serves connections until its sender is dropped, and then drains.
pub struct Worker {
    connections: mpsc::Sender<Arrival>,
    open: Arc<AtomicUsize>,
    drained: oneshot::Receiver<()>,
}

impl Worker {
    pub fn start(grace: Duration, gateway: Arc<Gateway>, operations: Arc<Operations>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connections, arriving) = mpsc::channel(HANDOVER);
        let (finished, drained) = oneshot::channel();
        let open = Arc::new(AtomicUsize::new(0));
        let counter = open.clone();
        std::thread::Builder::new().name("stepwell-worker".to_owned()).spawn(move || {
            runtime.block_on(async { prepare(&gateway) });
            runtime.block_on(serve(arriving, counter, grace, &operations));
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
        self.open.fetch_add(1, Ordering::Relaxed);
        if self.connections.send(arrival).await.is_err() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
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
    });
    for dial in dials.collect::<HashSet<_>>() {
        gateway.dispatcher.transport.prepare(dial);
    }
}

async fn serve(
    mut arriving: mpsc::Receiver<Arrival>,
    open: Arc<AtomicUsize>,
    grace: Duration,
    operations: &Operations,
) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The wire has the deadlines: this one would also end connections that are idle.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(LONGEST_HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30));
    while let Some(Arrival { stream, deadlines, router }) = arriving.recv().await {
        let place = Place(open.clone());
        // Without no-delay the first token of a stream waits 40 ms for an acknowledgement.
        let Ok(stream) = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) else { continue };
        let activity = Arc::new(Activity::default());
        let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
        let wire = Wire::new(stream, activity.clone(), deadlines);
        let service = Service { router: TowerToHyperService::new(router), activity, peer };
        let connection = builder.serve_connection(TokioIo::new(wire), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // Errors here are clients that went away or spoke nonsense: nothing to do, nothing to say.
            let _ = watched.await;
        });
    }
    let mut closed = std::pin::pin!(graceful.shutdown());
    if tokio::time::timeout(grace, &mut closed).await.is_err() {
        // What still runs is told to end: a stream says so with an error event.
        operations.cut_streams();
        if tokio::time::timeout(LAST_WORDS, &mut closed).await.is_err() {
            tracing::warn!("some connections were still open after the drain limit");
        }
    }
}

/// A connection's place in its worker's count.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
