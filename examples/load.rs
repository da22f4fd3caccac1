//! A load generator for BENCHMARKS.md: raw sockets, keep-alive, bounded in count and time, loopback only.
//!
//! `load URL --connections N --seconds S [--bytes B] [--stream]` prints one line of JSON. Latencies in microseconds; with
//! `--stream` each connection reads one stream after the other, and the first token is timed. `--keys FILE` sends a key of
//! the file with each request, in turn; `--rate N` spreads N requests evenly over each second; `--get` asks with GET.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Options {
    address: String,
    path: String,
    connections: usize,
    duration: Duration,
    bytes: usize,
    stream: bool,
    cached: bool,
    get: bool,
    keys: Vec<String>,
    /// Between two requests of one connection.
    pause: Option<Duration>,
}

fn options() -> anyhow::Result<Options> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    let number = |name: &str, default: usize| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let url = arguments.first().cloned().unwrap_or_default();
    let rest = url.strip_prefix("http://").ok_or_else(|| anyhow::anyhow!("the first argument is a http:// URL"))?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    anyhow::ensure!(address.starts_with("127.0.0.1:") || address.starts_with("localhost:"), "only loopback is loaded");
    let keys = value("--keys").map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    let connections = number("--connections", 1).clamp(1, 20_000);
    let rate = number("--rate", 0);
    Ok(Options {
        get: arguments.iter().any(|a| a == "--get"),
        keys: keys.lines().map(str::to_owned).collect(),
        pause: (rate > 0).then(|| Duration::from_secs_f64(connections as f64 / rate as f64)),
        address: address.to_owned(),
        path: format!("/{path}"),
        connections,
        duration: Duration::from_secs(number("--seconds", 3).clamp(1, 120) as u64),
        bytes: number("--bytes", 40).min(10_000_000),
        stream: arguments.iter().any(|a| a == "--stream"),
        cached: arguments.iter().any(|a| a == "--cached"),
    })
}

#[derive(Default)]
struct Tally {
    latencies: Vec<u64>,
    first_tokens: Vec<u64>,
    tokens: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Arc::new(options()?);
    let (over, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let workers: Vec<_> = (0..options.connections)
        .map(|worker| tokio::spawn(work(worker, options.clone(), over.clone(), errors.clone())))
        .collect();
    tokio::time::sleep(options.duration).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Tally::default();
    for worker in workers {
        let tally = worker.await?;
        all.latencies.extend(tally.latencies);
        all.first_tokens.extend(tally.first_tokens);
        all.tokens += tally.tokens;
    }
    let seconds = began.elapsed().as_secs_f64();
    let percentile = |values: &mut Vec<u64>, share: f64| {
        values.sort_unstable();
        values.get((values.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(0)
    };
    println!(
        "{}",
        serde_json::json!({
            "requests": all.latencies.len(),
            "errors": errors.load(Ordering::Relaxed),
            "per_second": (all.latencies.len() as f64 / seconds).round(),
            "tokens_per_second": (all.tokens as f64 / seconds).round(),
            "p50_us": percentile(&mut all.latencies, 0.5),
            "p99_us": percentile(&mut all.latencies, 0.99),
            "first_token_p50_us": percentile(&mut all.first_tokens, 0.5),
            "first_token_p99_us": percentile(&mut all.first_tokens, 0.99),
        })
    );
    Ok(())
}

async fn work(worker: usize, options: Arc<Options>, over: Arc<AtomicBool>, errors: Arc<AtomicU64>) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    let mut count = 0_u64;
    let mut ticks = options.pause.map(tokio::time::interval);
    while !over.load(Ordering::Relaxed) {
        count += 1;
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        let key = options.keys.get((worker * 7919 + count as usize) % options.keys.len().max(1));
        // Different prompts, unless the cache is what is measured: nothing may be answered from it by accident.
        let nonce = if options.cached { "same".to_owned() } else { format!("{worker}-{count}") };
        if ask(&mut connection, &options, &nonce, key, &mut tally).await.is_err() {
            errors.fetch_add(1, Ordering::Relaxed);
            connection = None;
        }
    }
    tally
}

async fn ask(
    connection: &mut Option<TcpStream>,
    options: &Options,
    nonce: &str,
    key: Option<&String>,
    tally: &mut Tally,
) -> std::io::Result<()> {
    let filler = "write code. ".repeat(options.bytes / 12 + 1);
    let body = format!(
        "{{\"model\":\"auto\",\"stream\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"Question {nonce}: {filler}\"}}]}}",
        options.stream
    );
    let credential = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let Options { path, address, .. } = options;
    let request = if options.get {
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{credential}\r\n")
    } else {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n{credential}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    if connection.is_none() {
        let stream = TcpStream::connect(&options.address).await?;
        stream.set_nodelay(true)?;
        *connection = Some(stream);
    }
    let Some(stream) = connection.as_mut() else { return Ok(()) };
    let began = Instant::now();
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(4096);
    let mut first = None;
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
        let Some(head) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        if !text.starts_with("http/1.1 200") {
            return Err(broken());
        }
        if options.stream {
            if first.is_none() && memchr::memmem::find(&bytes[head..], b"\"content\":\"word").is_some() {
                first = Some(began.elapsed());
            }
            if bytes.ends_with(b"0\r\n\r\n") {
                if memchr::memmem::find(&bytes, b"data: [DONE]").is_none() {
                    return Err(broken());
                }
                tally.tokens += memchr::memmem::find_iter(&bytes, b"\"content\":\"word").count() as u64;
                break;
            }
        } else {
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
                .ok_or_else(broken)?;
            if bytes.len() >= head + 4 + length {
                break;
            }
        }
    }
    tally.latencies.push(began.elapsed().as_micros() as u64);
    tally.first_tokens.extend(first.map(|first| first.as_micros() as u64));
    Ok(())
}
