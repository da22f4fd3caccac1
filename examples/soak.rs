//! Runs a router under random faults, streams, disconnects and reloads, and checks that it ends as it began.
//!
//! ```text
//! cargo build --release && cargo run --example soak [SECONDS] [CALLERS] [BINARY]
//! ```
//!
//! Three scripted upstreams change their trouble every second; callers ask plain and streamed, alike and apart, and every
//! tenth leaves in the middle; the configuration is rewritten every five seconds. At the end the upstreams are well, and:
//!
//! - every request has exactly one outcome: a whole answer, a truthful error, or a caller who left; nobody was lied to
//! - the ledger has a row for each of them, and as many attempts as the upstreams counted calls
//! - no request, place, queue entry or connection is left, and memory is where it was after the first minute
//!
//! docs/reliability.md has the figures of one run.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepwell::ledger::journal::{Cursor, Filter, Journal};
use stepwell::scripted::{Upstream, act};
use stepwell::store::sqlite::Sqlite;

const ANSWER: &str = "one two three four five six seven eight nine ten";
/// Half of the time an upstream is well.
const TROUBLES: [&str; 20] = [
    "delay=20ms",
    "delay=20ms",
    "delay=20ms",
    "pace=2ms",
    "pace=2ms",
    "slice=1",
    "slice=7",
    "delay=50ms",
    "pace=1ms",
    "first_token=30ms",
    "status=500",
    "status=503; retry_after=1",
    "status=429; retry_after=2",
    "reset",
    "cut_after=4",
    "body=html",
    "body=truncated",
    "stall_after=3",
    "stall",
    "body=no_choices",
];

#[derive(Default)]
struct Totals {
    asked: AtomicU64,
    answered: AtomicU64,
    told: AtomicU64,
    cut: AtomicU64,
    left: AtomicU64,
    lied: AtomicU64,
}

/// Numbers that look random; every run has others only by their timing.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Router {
    child: Child,
    url: String,
}

impl Router {
    /// On a free port.
    fn start(binary: &Path, config: &Path, data: &Path) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(binary)
            .args(["serve", "--port", "0", "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let mut errors = BufReader::new(child.stderr.take().ok_or("no output")?).lines();
        let (told, heard) = std::sync::mpsc::channel();
        let other = told.clone();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next() {
                let _ = told.send(line);
            }
        });
        std::thread::spawn(move || {
            while let Some(Ok(line)) = errors.next() {
                let _ = other.send(line);
            }
        });
        let url = loop {
            let line = heard.recv_timeout(Duration::from_secs(10))?;
            if let Some(at) = line.find("http://127.0.0.1:") {
                let rest = &line[at..];
                let end = rest[7..]
                    .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                    .map_or(rest.len(), |end| end + 7);
                break rest[..end].to_owned();
            }
        };
        std::thread::spawn(move || {
            while let Ok(line) = heard.recv() {
                eprintln!("  router: {line}");
            }
        });
        Ok(Self { child, url })
    }

    fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn configuration(upstreams: &[Upstream], turn: u64) -> String {
    let mut text = String::from("providers:\n");
    for (index, upstream) in upstreams.iter().enumerate() {
        let priority = (index as u64 + turn) % 3;
        text.push_str(&format!(
            "  p{index}: {{ format: openai, base_url: '{}', priority: {priority}, max_concurrency: 40, models: [ {{ id: m{index}, price: {{ input: 1, output: {} }} }} ] }}\n",
            upstream.url,
            index + 1
        ));
    }
    text.push_str(
        "timeouts: { first_token: 1s, between_tokens: 1s }\nbreaker: { cooldown: 500ms, max_cooldown: 2s }\n",
    );
    text.push_str("logging: { level: error }\n");
    text.push_str("cache: { max_size: 10MB }\nhedge: { enabled: true }\nhealth_checks: { enabled: true, interval: 2s, timeout: 500ms }\noverload: { max_in_flight: 200, queue: 50 }\n");
    text
}

async fn caller(url: String, seed: u64, totals: Arc<Totals>, over: Arc<AtomicBool>) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client");
    let mut dice = Dice(seed);
    while !over.load(Relaxed) {
        let stream = dice.below(2) == 0;
        let prompt = match dice.below(4) {
            0 => "the same for all".to_owned(),
            _ => format!("question {}", dice.below(u64::MAX)),
        };
        let body = json!({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": prompt}]});
        totals.asked.fetch_add(1, Relaxed);
        let asking = ask(&client, &url, &body, stream);
        let outcome = if dice.below(10) == 0 {
            // Long enough for the request to have arrived, short enough to leave before the end.
            tokio::time::timeout(Duration::from_millis(15 + dice.below(30)), asking).await
        } else {
            Ok(asking.await)
        };
        let counter = match outcome {
            Err(_) => &totals.left,
            Ok(outcome) => match outcome {
                "answered" => &totals.answered,
                "told" => &totals.told,
                "cut" => &totals.cut,
                lie => {
                    eprintln!("a lie: {lie}");
                    &totals.lied
                }
            },
        };
        counter.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
    }
}

async fn ask(client: &reqwest::Client, url: &str, body: &Value, stream: bool) -> &'static str {
    let Ok(response) = client.post(format!("{url}/v1/chat/completions")).json(body).send().await else {
        return "no answer at all";
    };
    let good = response.status().is_success();
    let Ok(text) = response.text().await else { return "the connection broke" };
    if !good {
        let error: Value = serde_json::from_str(&text).unwrap_or_default();
        return if error["error"]["message"].is_string() { "told" } else { "an error without a word" };
    }
    if !stream {
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        return if answer["choices"][0]["message"]["content"] == ANSWER { "answered" } else { "another answer" };
    }
    let events: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let done = text.trim_end().ends_with("data: [DONE]");
    match (events.iter().any(|event| event["error"].is_object()), done) {
        (true, false) => "cut",
        (false, true) if said == ANSWER => "answered",
        _ => "a stream that looks whole and is not, or the other way round",
    }
}

/// Rows, and their attempts that reached an upstream for certain, or perhaps.
async fn audit(data: &Path) -> Result<(u64, u64, u64), Box<dyn Error>> {
    let store = Sqlite::open_existing(&data.join("stepwell.db")).await?;
    let (mut rows, mut certain, mut perhaps) = (0, 0, 0);
    let mut before = None;
    loop {
        let page = store.recent(&Filter::default(), 5000, before.as_ref()).await?;
        let Some(last) = page.last() else { break };
        before = Some(Cursor::of(last));
        rows += page.len() as u64;
        for attempt in page.iter().flat_map(|row| &row.attempts) {
            match attempt.kind.as_deref() {
                // Nobody waited: it may have been dropped before it was sent.
                Some("client_closed" | "hedge_lost") => perhaps += 1,
                Some("connect") => {}
                _ => certain += 1,
            }
        }
    }
    Ok((rows, certain, perhaps))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(600), |text| text.parse())?;
    let callers: u64 = arguments.next().map_or(Ok(40), |text| text.parse())?;
    let directory = std::env::temp_dir().join(format!("stepwell-soak-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let binary = PathBuf::from(arguments.next().unwrap_or_else(|| "target/release/stepwell".to_owned()));
    let result = soak(&binary, &directory, Duration::from_secs(seconds), callers).await;
    std::fs::remove_dir_all(&directory)?;
    result
}

async fn soak(binary: &Path, directory: &Path, span: Duration, callers: u64) -> Result<(), Box<dyn Error>> {
    let mut upstreams = Vec::new();
    for _ in 0..3 {
        upstreams.push(Upstream::start(([127, 0, 0, 1], 0).into(), act::chat(ANSWER)).await?);
    }
    let (config, data): (PathBuf, PathBuf) = (directory.join("providers.yaml"), directory.join("data"));
    std::fs::write(&config, configuration(&upstreams, 0))?;
    let mut router = Router::start(binary, &config, &data)?;
    println!("router at {}, {callers} callers for {} s", router.url, span.as_secs());

    let (totals, over) = (Arc::new(Totals::default()), Arc::new(AtomicBool::new(false)));
    let running: Vec<_> = (0..callers)
        .map(|number| {
            tokio::spawn(caller(router.url.clone(), 0x9e37_79b9 + number * 7919, totals.clone(), over.clone()))
        })
        .collect();
    let (began, mut dice, mut memory) = (Instant::now(), Dice(4711), Vec::new());
    let mut second = 0;
    while began.elapsed() < span {
        tokio::time::sleep(Duration::from_secs(1)).await;
        second += 1;
        for upstream in &upstreams {
            let trouble = TROUBLES[dice.below(TROUBLES.len() as u64) as usize];
            upstream.always(act::chat(ANSWER).with(trouble)?);
        }
        if second % 5 == 0 {
            std::fs::write(&config, configuration(&upstreams, second / 5))?;
            memory.push(router.status("VmRSS"));
        }
        if second % 60 == 0 {
            println!(
                "{second:>5} s  asked {}  answered {}  told {}  cut {}  left {}  lied {}   {} MiB, {} descriptors",
                totals.asked.load(Relaxed),
                totals.answered.load(Relaxed),
                totals.told.load(Relaxed),
                totals.cut.load(Relaxed),
                totals.left.load(Relaxed),
                totals.lied.load(Relaxed),
                router.status("VmRSS") / 1024,
                router.descriptors()
            );
        }
    }
    over.store(true, Relaxed);
    for upstream in &upstreams {
        upstream.always(act::chat(ANSWER));
    }
    for caller in running {
        caller.await?;
    }

    let client = reqwest::Client::builder().no_proxy().build()?;
    let idle = json!({"in_flight": 0, "queued": 0, "waiting_for_provider": 0});
    let settled = async {
        loop {
            let health: Value = client.get(format!("{}/health", router.url)).send().await?.json().await?;
            if health["load"] == idle && health["ledger"]["pending"] == 0 {
                return Ok::<Value, reqwest::Error>(health);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let health =
        tokio::time::timeout(Duration::from_secs(30), settled).await.map_err(|_| "requests or places are left")??;
    let status: Value = client.get(format!("{}/gateway/status", router.url)).send().await?.json().await?;
    let in_flight: u64 =
        status["targets"].as_array().into_iter().flatten().filter_map(|target| target["in_flight"].as_u64()).sum();
    let calls: usize = upstreams.iter().map(|upstream| upstream.calls_to("/chat/completions")).sum();
    let (threads, descriptors) = (router.status("Threads"), router.descriptors());

    Command::new("kill").arg(router.child.id().to_string()).status()?;
    let exit = router.child.wait()?;
    let (rows, certain, perhaps) = audit(&data).await?;

    let read = |counter: &AtomicU64| counter.load(Relaxed);
    let (asked, left, lied) = (read(&totals.asked), read(&totals.left), read(&totals.lied));
    let outcomes = read(&totals.answered) + read(&totals.told) + read(&totals.cut) + left + lied;
    // The first minute fills pools, caches and the ledger's memory.
    let settled_at = memory.len().min(12);
    let mean = |samples: &[u64]| samples.iter().sum::<u64>() / samples.len().max(1) as u64 / 1024;
    let (early, late) = (mean(&memory[settled_at / 2..settled_at]), mean(&memory[memory.len().saturating_sub(6)..]));

    println!(
        "asked {asked}: answered {}, told {}, cut and told {}, left {left}, lied {lied}",
        read(&totals.answered),
        read(&totals.told),
        read(&totals.cut)
    );
    println!(
        "ledger {rows} rows, {certain} attempts and {perhaps} that nobody waited for; upstreams counted {calls} calls"
    );
    println!(
        "memory {early} MiB after a minute, {late} MiB at the end; {threads} threads, {descriptors} descriptors, {in_flight} in flight; exit {exit}"
    );
    println!("reloads failed {}", health["configuration"]["reloads_failed"]);

    let checks = [
        (lied == 0, "nobody was lied to"),
        (outcomes == asked, "every request has one outcome"),
        (rows <= asked && rows + left >= asked, "every request that arrived is a row"),
        (
            certain <= calls as u64 && calls as u64 <= certain + perhaps,
            "the ledger's attempts are the upstreams' calls",
        ),
        (in_flight == 0, "nothing is in flight"),
        (late <= early + early / 4 + 16, "memory is flat"),
        (exit.success(), "it stops cleanly"),
        (health["configuration"]["reloads_failed"] == 0, "every reload succeeded"),
    ];
    let mut good = true;
    for (holds, what) in checks {
        println!("{} {what}", if holds { "ok  " } else { "FAIL" });
        good &= holds;
    }
    if good { Ok(()) } else { Err("the soak found something".into()) }
}
