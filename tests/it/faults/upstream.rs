//! Upstreams that refuse, fail, lie or are not there.

mod absent; // A11 to A14: nobody there, or nobody who speaks
mod answers; // A15 to A17: what is no answer
mod neighbours; // the same families, in other words
mod outage; // A18, A19, A23: when one or all are out
mod refusals; // A01 to A10: what a provider says with its status

use serde_json::Value;

use crate::support::App;

/// Two providers, tried in this order; the first has the smaller window.
pub const TWO: &str = "
providers:
  one: { format: openai, base_url: '{0}', api_key: sk-canary-1234, priority: 1, models: [ { id: m1, price: { input: 1, output: 2 }, context: 1000 } ] }
  two: { format: openai, base_url: '{1}', priority: 2, models: [ { id: m2, price: { input: 3, output: 4 }, context: 9000 } ] }
routing: { strategy: priority }
cache: { enabled: false }
";

/// One provider with one model.
pub const ONE: &str = "
providers: { one: { format: openai, base_url: '{0}', api_key: sk-canary-1234, models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
cache: { enabled: false }
";

/// What the status page says of a target, by its place in the file.
pub async fn target(app: &App, index: usize) -> Value {
    app.get("/gateway/status").await["targets"][index].clone()
}

pub async fn state(app: &App, index: usize) -> String {
    target(app, index).await["state"].as_str().expect("a state").to_owned()
}

/// How much longer a target is left alone, in milliseconds; 0 if it is not.
pub async fn readmitted_in_ms(app: &App, index: usize) -> u64 {
    target(app, index).await["readmitted_in_ms"].as_u64().unwrap_or(0)
}

/// The value of a metric's line that starts with `line`; 0 if there is none.
pub async fn metric(app: &App, line: &str) -> f64 {
    let text =
        app.client.get(format!("{}/metrics", app.url)).send().await.expect("metrics").text().await.expect("text");
    let found = text.lines().find_map(|known| known.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or(0.0)
}
