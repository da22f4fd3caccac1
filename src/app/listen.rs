//! The listener: takes connections and gives each to the worker with the fewest.
//!
//! Callers get at most `server.max_connections`. Some more are let in to be told so, and to ask for health and metrics: a
//! server that is full is alive, and whoever restarts servers has to see that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::descriptors;
use super::wire::Deadlines;
use super::worker::{Arrival, Worker};
use crate::gateway::Gateway;
use crate::operations::Operations;

/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;
/// Connections beyond `max_connections` that are told so, as a part of those; more are closed without a word.
const ANTEROOM: usize = 8;
/// At least and at most this many.
const ANTEROOM_BOUNDS: (usize, usize) = (4, 64);
/// What those get for whatever they do: long enough to ask and to read the answer.
const BRIEFLY: Duration = Duration::from_secs(2);
/// How often the log hears of connections that cannot be had.
const REMIND_EVERY: Duration = Duration::from_secs(10);

pub struct Listener {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// What a connection can reach.
pub struct Doors {
    /// Everything.
    pub open: Router,
    /// Health and metrics; everything else is told to come back later.
    pub full: Router,
    /// For the rules in force when a connection comes.
    pub gateway: Arc<Gateway>,
}

/// Binds the address. Port 0 takes a free one.
pub fn bind(address: SocketAddr) -> std::io::Result<Listener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok(Listener { listener, address })
}

/// One worker per core.
pub fn workers(grace: Duration, gateway: &Arc<Gateway>, operations: &Arc<Operations>) -> std::io::Result<Vec<Worker>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..cores).map(|_| Worker::start(grace, gateway.clone(), operations.clone())).collect()
}

/// Accepts until `stop`, then drains the workers.
pub async fn serve(listener: Listener, workers: Vec<Worker>, doors: Doors, stop: CancellationToken) {
    let mut reminded = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.listener.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(stream) => {
                let open = workers.iter().map(Worker::load).sum();
                let Some(arrival) = doors.admit(stream, open, &mut reminded) else { continue };
                if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
                    worker.take(arrival).await;
                }
            }
            Err(error) => {
                remind(&mut reminded, || tracing::warn!(%error, "a connection could not be accepted"));
                // Out of descriptors, most likely: a pause lets some come back.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    join_all(workers.into_iter().map(Worker::drain)).await;
}

impl Doors {
    /// Decides by how many connections are open already. The rules of the moment hold for as long as a connection lives.
    fn admit(&self, stream: std::net::TcpStream, open: usize, reminded: &mut Option<Instant>) -> Option<Arrival> {
        let rules = self.gateway.rules();
        let server = &rules.settings.server;
        let most = server.max_connections.unwrap_or_else(descriptors::share_of_callers);
        let deadlines = Deadlines::of(server);
        let tls = server.tls.as_ref().map(|tls| tls.config.clone());
        if open < most {
            return Some(Arrival { stream, tls, deadlines, router: self.open.clone() });
        }
        metrics::counter!(crate::telemetry::metric::Metric::ConnectionsRefused.name()).increment(1);
        remind(reminded, || tracing::warn!(open, most, "no room for another connection (`server.max_connections`)"));
        let briefly = |deadline: Duration| deadline.min(BRIEFLY);
        let deadlines = Deadlines {
            header: briefly(deadlines.header),
            idle: briefly(deadlines.idle),
            write: briefly(deadlines.write),
        };
        let anteroom = (most / ANTEROOM).clamp(ANTEROOM_BOUNDS.0, ANTEROOM_BOUNDS.1);
        (open < most + anteroom).then(|| Arrival { stream, tls, deadlines, router: self.full.clone() })
    }
}

/// Under a flood one line says as much as a thousand.
fn remind(reminded: &mut Option<Instant>, say: impl FnOnce()) {
    if reminded.is_none_or(|last| last.elapsed() >= REMIND_EVERY) {
        *reminded = Some(Instant::now());
        say();
    }
}
