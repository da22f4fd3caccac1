//! Measures work that can wait against a running server: how many requests it takes in for later and completes, and how
//! long an acknowledgement takes at a steady pace.
//!
//! `cargo run --release --example jobs_rate -- http://127.0.0.1:4000 [MODEL [steady]]`: 5 s of as many submissions as 64 connections
//! make, then until all have ended; then 10 s of 200 submissions a second, timed one by one (with `steady` only those). Any
//! model will do whose provider answers at once, such as that of `instant_upstream`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

const FLOOD: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 64;
const STEADY: Duration = Duration::from_secs(10);
const PER_SECOND: u32 = 200;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "http://127.0.0.1:4000".to_owned());
    let model = arguments.next().unwrap_or_else(|| "auto".to_owned());
    let asking =
        Arc::new(Asking { client: reqwest::Client::builder().no_proxy().build().expect("a client"), server, model });

    if arguments.next().as_deref() != Some("steady") {
        flood(&asking).await;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let (began, mut steady) = (Instant::now(), JoinSet::new());
    while began.elapsed() < STEADY {
        ticks.tick().await;
        let asking = asking.clone();
        steady.spawn(async move {
            let began = Instant::now();
            asking.submit().await;
            began.elapsed()
        });
    }
    let mut times: Vec<Duration> = steady.join_all().await;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("202 at {PER_SECOND}/s: p50 {:?}, p99 {:?}, worst {:?}", at(0.5), at(0.99), at(1.0));
}

async fn flood(asking: &Arc<Asking>) {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let earlier = asking.completed().await;
    let mut flood = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (asking, count) = (asking.clone(), count.clone());
        flood.spawn(async move {
            while began.elapsed() < FLOOD {
                asking.submit().await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while flood.join_next().await.is_some() {}
    let (submitted, took) = (count.load(Ordering::Relaxed), began.elapsed());
    let completed = asking.completed().await - earlier;
    println!(
        "submissions/s: {:.0} (while {:.0}/s were completed)",
        submitted as f64 / took.as_secs_f64(),
        completed as f64 / took.as_secs_f64()
    );

    let began = Instant::now();
    let (before, mut completed) = (completed, completed);
    while asking.waiting().await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        completed = asking.completed().await - earlier;
    }
    println!("completions/s without submissions: {:.0}", (completed - before) as f64 / began.elapsed().as_secs_f64());
}

struct Asking {
    client: reqwest::Client,
    server: String,
    model: String,
}

impl Asking {
    async fn submit(&self) {
        let body = json!({"model": self.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3});
        let post = self.client.post(format!("{}/v1/chat/completions", self.server)).header("prefer", "respond-async");
        let response = post.json(&body).send().await.expect("an answer");
        assert_eq!(response.status(), 202);
        let said: Value = response.json().await.expect("json");
        assert_eq!(said["status"], "queued");
    }

    /// From the metrics, which are counted every two seconds.
    async fn metric(&self, series: &str) -> u64 {
        let response = self.client.get(format!("{}/metrics", self.server)).send().await.expect("an answer");
        let text = response.text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or(0.0) as u64
    }

    async fn completed(&self) -> u64 {
        self.metric("stepwell_jobs_ended_total{outcome=\"completed\"}").await
    }

    async fn waiting(&self) -> u64 {
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        self.metric("stepwell_jobs{status=\"queued\"}").await + self.metric("stepwell_jobs{status=\"running\"}").await
    }
}
