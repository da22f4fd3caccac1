//! Not paying twice for the same answer: an exact cache of whole answers, in memory, and behind it one that all replicas
//! share, if there is one.
//!
//! What may be read and written is decided by the gateway's snapshot; identity by [`key`]. Joining identical requests in flight is the
//! gateway's business, because it needs running requests.

pub mod key;
pub mod settings;
mod stored; // an answer as bytes

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use key::Key;

use crate::chat::Response;
use crate::money::NanoUsd;
use crate::resilience::patience::Patience;

/// An answer that can be given again, in either shape.
#[derive(Debug)]
pub struct Entry {
    /// As it was first delivered, usage and cost included.
    pub response: Response,
    pub task: Arc<str>,
    pub strategy: &'static str,
    pub provider: Arc<str>,
    pub model: String,
    pub demo: bool,
    /// What the first answer cost; `None` if its price is unknown.
    pub cost: Option<NanoUsd>,
    /// Its end, where that comes before the end of its time in memory: it was kept elsewhere before.
    pub until: Option<Instant>,
}

/// What was found in the second level.
pub struct Found {
    pub bytes: Vec<u8>,
    /// Until it is too old.
    pub left: Duration,
}

/// Where answers of all replicas are kept. Implemented in `store`. A miss is never an error: who has nothing, asks a
/// provider.
pub trait Second: Send + Sync {
    /// Waits as long as the request still may.
    fn get<'a>(
        &'a self,
        key: &'a Key,
        patience: &'a Patience,
    ) -> Pin<Box<dyn Future<Output = Option<Found>> + Send + 'a>>;

    /// Returns at once; kept soon, or not at all.
    fn put(&self, key: &Key, bytes: Vec<u8>, ttl: Duration);
}

pub struct Cache {
    entries: moka::sync::Cache<Key, Arc<Entry>>,
    second: Option<Arc<dyn Second>>,
    ttl: Duration,
}

impl Cache {
    /// A cache with the size and lifetime of `settings`. Changing them means a new, empty cache.
    pub fn new(settings: &settings::Settings) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(settings.max_size.0)
            .weigher(|_, entry: &Arc<Entry>| weight(&entry.response))
            .time_to_live(settings.ttl.0)
            .build();
        Self { entries, second: None, ttl: settings.ttl.0 }
    }

    pub fn with_second(self, second: Arc<dyn Second>) -> Self {
        Self { second: Some(second), ..self }
    }

    fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.get(key).filter(|entry| entry.until.is_none_or(|until| Instant::now() < until))
    }

    /// Looks in memory, then where all replicas keep their answers. `strategy` knows the words for strategies.
    pub async fn find(
        &self,
        key: &Key,
        patience: &Patience,
        strategy: fn(&str) -> Option<&'static str>,
    ) -> Option<Arc<Entry>> {
        let Some(second) = &self.second else { return self.get(key) };
        if let Some(entry) = self.get(key) {
            return Some(entry);
        }
        let Found { bytes, left } = second.get(key, patience).await?;
        let entry = Arc::new(Entry { until: Some(Instant::now() + left), ..stored::read(&bytes, strategy)? });
        self.entries.insert(*key, entry.clone());
        Some(entry)
    }

    pub fn put(&self, key: Key, entry: Entry) {
        if let Some(second) = &self.second
            && let Some(bytes) = stored::write(&entry)
        {
            second.put(&key, bytes, self.ttl);
        }
        self.entries.insert(key, Arc::new(entry));
    }

    /// Number of answers, a moment ago.
    pub fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    /// What they take, roughly, a moment ago.
    pub fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes of an answer, roughly: its texts plus a fixed part for everything around them.
fn weight(response: &Response) -> u32 {
    let extra =
        |extra: &crate::chat::Extra| extra.iter().map(|(name, value)| name.len() + value.get().len()).sum::<usize>();
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let choices: usize = response
        .choices
        .iter()
        .map(|choice| {
            let message = &choice.message;
            let calls: usize =
                message.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum();
            text(&message.content)
                + text(&message.reasoning_content)
                + text(&message.refusal)
                + calls
                + extra(&choice.extra)
        })
        .sum();
    u32::try_from(1024 + choices + extra(&response.extra)).unwrap_or(u32::MAX)
}
