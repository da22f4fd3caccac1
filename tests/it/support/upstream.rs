//! The library's scripted upstream, as tests want it: what does not happen within ten seconds is a failure.

use std::ops::Deref;
use std::time::Duration;

use serde_json::Value;
use stepwell::scripted;
pub use stepwell::scripted::act::{Act, chat, events, hang, model, raw, reset, status, wire};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Upstream(scripted::Upstream);

impl Deref for Upstream {
    type Target = scripted::Upstream;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Starts an upstream that answers "hello from upstream" until told otherwise.
pub async fn upstream() -> Upstream {
    let started = scripted::Upstream::start(([127, 0, 0, 1], 0).into(), chat("hello from upstream")).await;
    Upstream(started.expect("a free port"))
}

/// An answer with the trouble of a text such as `status=503; retry-after=2`.
pub fn fault(text: &str) -> Act {
    scripted::act::fault(text).expect("a fault")
}

impl Upstream {
    /// How many calls have arrived.
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// The body of the last call.
    pub fn last(&self) -> Value {
        self.last_call().expect("a call").body
    }

    /// Waits until `count` calls have arrived.
    pub async fn called(&self, count: usize) {
        within(self.until_called(count)).await;
    }

    /// Waits until the router has closed `count` connections that were still busy.
    pub async fn closed(&self, count: usize) {
        within(self.until_closed(count)).await;
    }
}

/// What must happen soon.
pub async fn within<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happening).await.expect("it happens within ten seconds")
}
