//! NATS JetStream: hands jobs out to the workers of all replicas, and is told of events. All of NATS is here.
//!
//! It keeps nothing that matters. A job and its state are in the store, where a claim is decided; a message says no more
//! than that there is something to claim. So a message that is lost, late, doubled or void does no harm: what no message
//! tells of is found by a sweep of the store, and while NATS is gone the store is asked as it is without it.

mod handing; // the port `jobs::queue`, with a stream between store and workers
mod line; // the connection, and what is set up behind it
mod outbox; // one replica reads the log: requeued jobs are handed out, events published

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{Events, Queue as Settings};
use crate::events::log::Log;
use crate::jobs::bell::Bell;
use crate::jobs::queue::Queue;
use handing::Held;
use line::Line;
use outbox::Outbox;

#[cfg(test)]
pub use handing::SWEEP_EVERY;
pub use line::Unusable;

/// How long the end of the process waits for what is still to be said.
const FAREWELL: Duration = Duration::from_secs(1);

/// What jobs are handed out by. Share it behind an `Arc`.
pub struct Nats {
    line: Arc<Line>,
    /// Where jobs are kept: what it says, counts.
    store: Arc<dyn Queue>,
    log: Arc<dyn Log>,
    events: Events,
    held: Held,
    sweep: handing::Sweep,
}

/// Who we are, and what belongs to whom.
#[derive(Clone, Debug)]
pub struct Names {
    pub prefix: String,
    /// Whose jobs and events: replicas with a store in common have this in common. Letters and digits.
    pub scope: String,
    /// This replica: the same after a restart on the same data.
    pub home: String,
}

impl Names {
    /// The subject of jobs of a lane, or of all (`*`).
    fn jobs(&self, lane: &str) -> String {
        format!("{}.jobs.{}.{lane}", self.prefix, self.scope)
    }

    /// Where it stands who reads the log, and how far.
    fn post(&self) -> String {
        format!("{}.posts.{}", self.prefix, self.scope)
    }

    fn events(&self, kind: &str) -> String {
        format!("{}.events.{kind}", self.prefix)
    }
}

/// How messages of jobs are kept for their workers.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// How long a message belongs to a worker that is not heard of: `jobs.lease`.
    pub lease: Duration,
    /// How often a job may be begun: `jobs.max_attempts`.
    pub max_attempts: u32,
}

impl Nats {
    /// Reads what has to be read of files. Begins nothing yet.
    pub fn new(
        settings: &Settings,
        events: Events,
        names: Names,
        delivery: Delivery,
        store: Arc<dyn Queue>,
        log: Arc<dyn Log>,
    ) -> Result<Self, Unusable> {
        let keep = events.publish.then_some(events.keep.0);
        let line = Arc::new(Line::new(settings, names, delivery, keep)?);
        Ok(Self { line, store, log, events, held: Held::default(), sweep: handing::Sweep::default() })
    }

    /// Looks for NATS until `stop`, and rings whenever a job was handed out anywhere.
    pub async fn keep_line(self: Arc<Self>, bell: Bell, stop: CancellationToken) {
        self.line.keep(&bell, stop).await;
    }

    /// Reads the log while it is this replica's turn, until `stop`.
    pub async fn keep_outbox(self: Arc<Self>, stop: CancellationToken) {
        Outbox::new(&self.line, &*self.store, &*self.log, self.events.publish).run(stop).await;
    }

    /// Waits until NATS is there, at most so long.
    pub async fn found(&self, longest: Duration) -> bool {
        tokio::time::timeout(longest, self.line.found()).await.is_ok()
    }

    /// Has the last words sent. Takes 1 s at most.
    pub async fn close(&self) {
        if let Some(up) = self.line.up() {
            let _ = tokio::time::timeout(FAREWELL, up.client.flush()).await;
        }
    }
}
