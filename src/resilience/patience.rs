//! How long one request has waited for something that must not hold it up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long one request has waited for the store, all its calls together.
#[derive(Debug, Default)]
pub struct Patience(AtomicU64);

impl Patience {
    /// What is left of `total`.
    pub fn left(&self, total: Duration) -> Duration {
        total.saturating_sub(Duration::from_nanos(self.0.load(Relaxed)))
    }

    pub fn spend(&self, waited: Duration) {
        self.0.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}
