//! `server-timing`: complete, true and consistent with the other header.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::HeaderMap;

use crate::support::app::ask;
use crate::support::upstream::chat;
use crate::support::{app, upstream};

const ONE: &str = "providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1 } ] } }\n";

/// Milliseconds by name, in the grammar of the header.
fn parts(headers: &HeaderMap) -> BTreeMap<String, f64> {
    let text = headers["server-timing"].to_str().expect("text");
    let part = |part: &str| {
        let (name, value) = part.trim().split_once(";dur=").unwrap_or_else(|| panic!("{text}"));
        (name.to_owned(), value.parse().expect("a number"))
    };
    text.split(',').map(part).collect()
}

fn check(headers: &HeaderMap) -> BTreeMap<String, f64> {
    let parts = parts(headers);
    let sum: f64 = parts.iter().filter(|(name, _)| *name != "total").map(|(_, dur)| dur).sum();
    assert!(sum <= parts["total"] + 0.01, "parts do not overlap: {parts:?}");
    let whole: f64 = headers["x-stepwell-response-time-ms"].to_str().expect("text").parse().expect("a number");
    assert_eq!(parts["total"].floor(), whole, "both headers say the same");
    parts
}

#[tokio::test]
async fn server_timing_tells_where_the_time_went() {
    let one = upstream().await;
    let app = app(ONE, &[&one]).await;
    one.always(chat("slow").after(Duration::from_millis(150)));
    let (_, headers, _) = app.chat(&ask("hi")).await;
    let plain = check(&headers);
    assert_eq!(plain.keys().collect::<Vec<_>>(), ["queue", "read", "route", "total", "upstream"]);
    assert!(plain["upstream"] >= 150.0 && plain["route"] > 0.0, "{plain:?}");

    let twice = ask("shared");
    let (first, second) = tokio::join!(app.chat(&twice), app.chat(&twice));
    let shared = if first.1["x-stepwell-cache"] == "coalesced" { first } else { second };
    assert_eq!(shared.1["x-stepwell-cache"], "coalesced");
    assert!(check(&shared.1)["upstream"] > 0.0, "waiting for another one's answer is no work of the router");

    let streamed = app.stream(&ask("another")).await;
    let stream = check(&streamed.headers);
    assert!(stream["upstream"] >= 150.0, "{stream:?}");

    let (_, headers, _) = app.chat(&ask("hi")).await;
    assert_eq!(headers["x-stepwell-cache"], "hit");
    assert!(!check(&headers).contains_key("upstream"), "nobody was asked");
}
