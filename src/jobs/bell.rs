//! Wakes whoever waits for a job, in this process. Other processes are noticed by looking now and then.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Notify;

/// Cheap to share.
#[derive(Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Default)]
struct Inner {
    work: Notify,
    waiting: DashMap<String, (Arc<Notify>, usize)>,
}

impl Bell {
    /// There is work.
    pub fn ring_work(&self) {
        self.0.work.notify_one();
    }

    pub async fn work(&self) {
        self.0.work.notified().await;
    }

    /// Something has changed about this job.
    pub fn ring(&self, id: &str) {
        if let Some(waiting) = self.0.waiting.get(id) {
            waiting.0.notify_waiters();
        }
    }

    /// To be made before the job is looked at, so that no change in between is missed.
    pub fn listen(&self, id: &str) -> Listener {
        let mut entry = self.0.waiting.entry(id.to_owned()).or_default();
        entry.1 += 1;
        Listener { bell: self.clone(), id: id.to_owned(), notify: entry.0.clone() }
    }
}

/// One who waits.
pub struct Listener {
    bell: Bell,
    id: String,
    notify: Arc<Notify>,
}

impl Listener {
    /// Take the future before looking at the job, then wait for it.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.bell.0.waiting.remove_if_mut(&self.id, |_, (_, count)| {
            *count -= 1;
            *count == 0
        });
    }
}
