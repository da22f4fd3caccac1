//! Streams that break, stall, lie or are left.

mod ends; // B01 to B05, B09, B10: how a stream ends
mod framing; // B06 to B08: bytes, lines and events
mod leaving; // B11, B12: callers who go
mod oddities; // streams that bend the protocol
mod sums; // B14, B15: usage and tool calls

use serde_json::{Value, json};

use super::upstream::TWO;
use crate::support::app::ask;
use crate::support::{App, Upstream, app, upstream};

/// Two upstreams behind a router that prefers the first.
pub async fn pair() -> (Upstream, Upstream, App) {
    pair_with("").await
}

/// The same with further settings.
pub async fn pair_with(settings: &str) -> (Upstream, Upstream, App) {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}{settings}\n"), &[&one, &two]).await;
    (one, two, app)
}

/// A request that wants to see the usage at the end of its stream.
pub fn usage_too(prompt: &str) -> Value {
    let mut body = ask(prompt);
    body["stream_options"] = json!({"include_usage": true});
    body
}
