//! Not paying twice for the same answer: an exact, in-memory cache of whole answers.
//!
//! What may be read and written is decided by the gateway's snapshot; identity by [`key`]. Joining identical requests in flight is the
//! gateway's business, because it needs running requests.

pub mod key;
pub mod settings;

use std::sync::Arc;

use key::Key;

use crate::chat::Response;
use crate::money::NanoUsd;

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
}

pub struct Cache {
    entries: moka::sync::Cache<Key, Arc<Entry>>,
}

impl Cache {
    /// A cache with the size and lifetime of `settings`. Changing them means a new, empty cache.
    pub fn new(settings: &settings::Settings) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(settings.max_size.0)
            .weigher(|_, entry: &Arc<Entry>| weight(&entry.response))
            .time_to_live(settings.ttl.0)
            .build();
        Self { entries }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    pub fn put(&self, key: Key, entry: Entry) {
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
