//! The listener: takes connections and gives each to the worker with the fewest.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::worker::Worker;
use crate::operations::Operations;

/// Connections waiting to be accepted.
const BACKLOG: u32 = 4096;

pub struct Listener {
    listener: TcpListener,
    pub address: SocketAddr,
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
pub fn workers(router: &Router, grace: Duration, operations: &Arc<Operations>) -> std::io::Result<Vec<Worker>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..cores).map(|_| Worker::start(router.clone(), grace, operations.clone())).collect()
}

/// Accepts until `stop`, then drains the workers.
pub async fn serve(listener: Listener, workers: Vec<Worker>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.listener.accept() => accepted.and_then(|(stream, _)| stream.into_std()),
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok(stream) => {
                if let Some(worker) = workers.iter().min_by_key(|worker| worker.load()) {
                    worker.take(stream).await;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: a pause lets some come back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    join_all(workers.into_iter().map(Worker::drain)).await;
}
