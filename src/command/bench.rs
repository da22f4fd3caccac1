//! `stepwell bench`: the router's own cost, measured against a demo model that answers at once.
//!
//! Server and load generator share this machine's cores, so the figures are on the low side; BENCHMARKS.md tells how to
//! measure properly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::{Exit, Outcome, print};
use crate::app;
use crate::config::{self, Source, environment};
use crate::provider::adapter::Outgoing;
use crate::provider::transport::Transport;

/// The whole path is on: classification, scoring, ledger. Only the cache is off, and the model takes no time.
const CONFIGURATION: &str = "
providers:
  demo:
    models:
      - { id: instant, price: { input: 1, output: 2 }, latency: { first_token: 0ms, tokens_per_second: 1000000 } }
      - { id: spare, price: { input: 2, output: 4 }, latency: { first_token: 0ms, tokens_per_second: 1000000 } }
cache: { enabled: false }
logging: { level: error }
";

pub fn run(concurrency: usize, duration: u64, stream: bool) -> Outcome {
    if !(1..=10_000).contains(&concurrency) || !(1..=600).contains(&duration) {
        return Err(Exit::new(Exit::USAGE, "--concurrency is 1 to 10000, --duration 1 to 600 seconds"));
    }
    let directory = config::scratch_directory("bench");
    std::fs::create_dir_all(&directory)
        .map_err(|error| Exit::new(Exit::FAILED, format!("cannot write {}: {error}", directory.display())))?;
    let result = measure(&directory, concurrency, Duration::from_secs(duration), stream);
    // Only what this run wrote.
    let _ = std::fs::remove_dir_all(&directory);
    print(&result?)
}

fn measure(directory: &std::path::Path, concurrency: usize, duration: Duration, stream: bool) -> Result<String, Exit> {
    let file = directory.join("providers.yaml");
    std::fs::write(&file, CONFIGURATION).map_err(anyhow::Error::from)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    runtime.block_on(async {
        let source = Source::File(file);
        let loaded = config::load(&source, &environment)?;
        let listen = Some("127.0.0.1:0".parse().context("the loopback address")?);
        let options = app::Options { source, listen, data_dir: Some(directory.to_owned()), insecure: false };
        let running = app::start(loaded, options).await?;
        let url = format!("http://{}/v1/chat/completions", running.address);
        let mut text = format!("{:<34}{:>10}{:>12}{:>12}{:>10}\n", "", "requests/s", "p50 µs", "p99 µs", "errors");
        let mut cases = vec![("plain, 1 connection", 1, false), ("plain", concurrency, false)];
        if stream {
            cases.extend([("streamed, 1 connection", 1, true), ("streamed", concurrency, true)]);
        }
        for (name, concurrency, stream) in cases {
            let name = if concurrency > 1 { format!("{name}, {concurrency} connections") } else { name.to_owned() };
            let load = load(&url, concurrency, duration, stream).await;
            text.push_str(&format!(
                "{name:<34}{:>10.0}{:>12.0}{:>12.0}{:>10}\n",
                load.latencies.len() as f64 / load.elapsed.as_secs_f64(),
                load.percentile(0.5),
                load.percentile(0.99),
                load.errors
            ));
        }
        running.stop().await;
        text.push_str("\nthe whole path (parse, classify, score, meter, ledger) with an upstream that takes no time;\nload generator and server share this machine's cores\n");
        Ok(text)
    })
}

struct Load {
    /// Microseconds, sorted.
    latencies: Vec<u64>,
    errors: u64,
    elapsed: Duration,
}

impl Load {
    fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).map_or(0.0, |micros| *micros as f64)
    }
}

async fn load(url: &str, concurrency: usize, duration: Duration, stream: bool) -> Load {
    let (over, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let transport = Arc::new(Transport::default());
    let started = Instant::now();
    let workers: Vec<_> = (0..concurrency)
        .map(|worker| {
            let (over, errors, transport, url) = (over.clone(), errors.clone(), transport.clone(), url.to_owned());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    match ask(&transport, &url, worker, stream).await {
                        Some(()) => latencies.push(began.elapsed().as_micros() as u64),
                        None => _ = errors.fetch_add(1, Ordering::Relaxed),
                    }
                }
                latencies
            })
        })
        .collect();
    tokio::time::sleep(duration).await;
    over.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await.unwrap_or_default());
    }
    latencies.sort_unstable();
    Load { latencies, errors: errors.load(Ordering::Relaxed), elapsed: started.elapsed() }
}

/// One request; `None` if it failed.
async fn ask(transport: &Transport, url: &str, worker: usize, stream: bool) -> Option<()> {
    let body = json!({
        "model": "auto", "stream": stream,
        "messages": [{"role": "user", "content": format!("Worker {worker} asks: write a function that reverses a list.")}],
    });
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let outgoing = Outgoing {
        url: url.to_owned(),
        headers,
        body: Bytes::from(body.to_string()),
        script: None,
        warnings: Vec::new(),
    };
    let incoming = transport.send(outgoing, Duration::from_secs(3)).await.ok()?;
    let ok = incoming.status.is_success();
    let body = incoming.collect().await.ok()?;
    (ok && (!stream || body.ends_with(b"data: [DONE]\n\n"))).then_some(())
}
