//! What hands jobs out, if the configuration names it: begun at the start, told the last things at the end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::share;
use crate::config::Settings;
use crate::events::log::Log;
use crate::jobs::bell::Bell;
use crate::jobs::queue::Queue;
use crate::store::Home;
use crate::store::nats::{Delivery, Names, Nats};

/// The start waits so long for it; then the store hands jobs out, and the log says so.
const ARRIVAL: Duration = Duration::from_secs(2);

/// Reads what there is to read. Fails only for what no connection could be made with.
pub fn read(
    settings: &Settings,
    home: &Home,
    store: Arc<dyn Queue>,
    log: Arc<dyn Log>,
) -> anyhow::Result<Option<Arc<Nats>>> {
    let Some(queue) = &settings.queue else { return Ok(None) };
    let name = share::home(home.beside())
        .context("the name of this replica, in a file beside the database, cannot be kept")?;
    // Messages are about the jobs and events of one store: of all replicas, or of this one.
    let scope = if matches!(home, Home::Shared { .. }) { share::COMMON_LEDGER.to_owned() } else { name.clone() };
    let names = Names { prefix: queue.prefix.clone(), scope, home: name };
    let delivery = Delivery { lease: settings.jobs.lease.0, max_attempts: settings.jobs.max_attempts };
    Ok(Some(Arc::new(Nats::new(queue, settings.events.clone(), names, delivery, store, log)?)))
}

/// Begins to look for it, and waits a little, so that the first jobs find it.
pub async fn start(nats: &Arc<Nats>, bell: &Bell, tracker: &TaskTracker, stop: &CancellationToken) {
    tracker.spawn(nats.clone().keep_line(bell.clone(), stop.clone()));
    tracker.spawn(nats.clone().keep_outbox(stop.clone()));
    if !nats.found(ARRIVAL).await {
        tracing::warn!("jobs are handed out by the store alone, until NATS (`queue`) is there");
    }
}
