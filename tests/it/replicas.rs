//! Three servers on one PostgreSQL and one Redis behind a balancer, under load: one is killed and started again, one stands
//! still past its lease, PostgreSQL is killed, Redis forgets everything, in a drawn order at drawn moments. Then the books
//! are compared with what the upstream counted, request by request.
//!
//! `STEPWELL_REPLICAS_SEED` repeats a run, `STEPWELL_REPLICAS_ROUNDS` makes more of them.

mod books;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::balancer::Balancer;
use crate::support::process::{Home, Process, client, until};
use crate::support::servers::{Postgres, Redis};
use crate::support::upstream::chat;
use crate::support::{Upstream, upstream};
use books::{Books, Left};

/// What an answer has, and what its caller allows it to have; a dime a token.
pub const WORDS: &str = "three slow words";
pub const ANSWER_TOKENS: u64 = 3;
const MOST_TOKENS: u64 = 5;
pub const PROMPT_TOKENS: u64 = 10;
pub const ANSWER_NANO_USD: i64 = 300_000_000;
pub const WORST_NANO_USD: i64 = 500_000_000;
/// The keys, by their place.
const SPENDS: usize = 0;
const HURRIES: usize = 1;
const TALKS: usize = 2;
const WORKS: usize = 3;
/// Of the key that spends, in dollars: a hundred and twenty answers, which is more than there are before the last trouble.
const BUDGET_USD: i64 = 36;
/// Of the key that is in a hurry.
const PER_MINUTE: u64 = 12;
/// Of the key that says much.
const TOKENS_PER_MINUTE: u64 = 180;
/// Between two requests of the load.
const PACE: Duration = Duration::from_millis(20);
/// Longer than a lease of a replica in Redis (5 s) and of a job (1 s).
const STANDSTILL: Duration = Duration::from_millis(5_500);

const RULES: &str = "
providers:
  one: { format: openai, base_url: '{upstream}', models: [ { id: m1, price: { input: 0, output: 100000 } } ] }
cache: { enabled: false }
retry: { same_target: 0 }
breaker: { consecutive_failures: 100, min_requests: 10000 }
auth: { required: never, secret: a-secret-of-all-replicas-0123456789 }
shared: { url: '{redis}', timeout: 2s }
storage: { url: '{postgres}' }
jobs: { workers: 4, lease: 1s, max_attempts: 50, backoff: { start: 10ms, max: 50ms } }
budgets: { total: { month: 1000000 } }
";

fn replayed(home: &Home) -> (Option<i32>, Value) {
    let mut command = home.command();
    let output = command.args(["events", "replay", "--json", "--data-dir"]).arg(home.data()).output().expect("it runs");
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")))
}

/// Numbers that a seed repeats.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for index in (1..all.len()).rev() {
            all.swap(index, self.below(index as u64 + 1) as usize);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Kill,
    Stop,
    Database,
    Flush,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Plain,
    Stream,
    Job,
}

/// What a caller saw of a request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub kind: Kind,
    /// `None`: the connection broke before there was one.
    pub status: Option<u16>,
    pub is_whole: bool,
}

struct Site {
    homes: Vec<Home>,
    processes: Vec<Option<Process>>,
    balancer: Balancer,
    postgres: Postgres,
    database: String,
    redis: Redis,
    one: Upstream,
    keys: Vec<(&'static str, String)>,
}

impl Site {
    async fn start() -> Option<Self> {
        let (postgres, redis) = (Postgres::start()?, Redis::start()?);
        let one = upstream().await;
        one.always(chat(WORDS).after(Duration::from_millis(60)).paced(Duration::from_millis(15)));
        let database = postgres.create("").await;
        let rules = RULES
            .replace("{upstream}", &one.url)
            .replace("{redis}", &redis.url())
            .replace("{postgres}", &postgres.url(postgres.server.address, &database));
        let homes = [0; 3].map(|_| Home::new(&rules));
        let (first, second, third) = tokio::join!(homes[0].start(), homes[1].start(), homes[2].start());
        let urls = [&first, &second, &third].map(|process| process.url.clone());
        let balancer = Balancer::start(&urls.each_ref().map(String::as_str)).await;
        let mut keys = Vec::new();
        for (name, limits) in [
            ("spends", json!({"budget": {"month": BUDGET_USD}})),
            ("hurries", json!({"requests_per_minute": PER_MINUTE})),
            ("talks", json!({"tokens_per_minute": TOKENS_PER_MINUTE})),
            ("works", json!({})),
        ] {
            let post = client().post(format!("{}/v1/keys", urls[0])).json(&json!({"name": name, "limits": limits}));
            let key: Value = post.send().await.expect("an answer").json().await.expect("json");
            keys.push((name, key["key"].as_str().expect("a key").to_owned()));
        }
        let processes = vec![Some(first), Some(second), Some(third)];
        let site = Self { homes: homes.into(), processes, balancer, postgres, database, redis, one, keys };
        for process in site.processes.iter().flatten() {
            until("the replicas find each other", async || process.get("/health").await["shared"]["replicas"] == 3)
                .await;
            let chat = format!("{}/v1/chat/completions", process.url);
            until("every key is known", async || {
                let asked = site.keys.iter().map(|(_, key)| client().post(&chat).bearer_auth(key).body("{").send());
                let answers = futures_util::future::join_all(asked).await;
                answers.into_iter().all(|answer| answer.expect("an answer").status() == 400)
            })
            .await;
        }
        Some(site)
    }

    fn process(&self, index: usize) -> &Process {
        self.processes[index].as_ref().expect("it runs")
    }
}

impl Site {
    /// When nothing is held any more, what is left of the budget can be spent to the last answer, and no further.
    async fn spend_the_rest(&self) {
        let url = format!("{}/v1/chat/completions", self.balancer.url);
        for number in 0.. {
            let seen = send(&url, &self.keys[SPENDS].1, format!("spends-rest{number}"), Kind::Plain).await;
            match seen.status {
                Some(200) => {}
                Some(429) => break,
                other => panic!("{other:?}"),
            }
        }
        for process in self.processes.iter().flatten() {
            until("the last rows are saved", async || process.get("/health").await["ledger"]["pending"] == 0).await;
        }
    }
}

/// Requests of all kinds, until it is told to end.
struct Load {
    seen: Arc<Mutex<Vec<Seen>>>,
    ends: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn begin(site: &Site) -> Self {
        let (seen, ends) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let url = format!("{}/v1/chat/completions", site.balancer.url);
        let (keys, all, end) = (site.keys.clone(), seen.clone(), ends.clone());
        let task = tokio::spawn(async move {
            let mut under_way = JoinSet::new();
            let mut ticks = tokio::time::interval(PACE);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for number in 0.. {
                ticks.tick().await;
                if end.load(Ordering::SeqCst) {
                    break;
                }
                let kind = [Kind::Plain, Kind::Stream, Kind::Job][number % 3];
                // Jobs have a key without a limit, so that they all get done.
                let (name, key) =
                    &keys[if kind == Kind::Job { WORKS } else { [SPENDS, HURRIES, SPENDS, TALKS][number % 4] }];
                let (url, key, all) = (url.clone(), key.clone(), all.clone());
                let id = format!("{name}-{number}");
                under_way.spawn(async move {
                    let one = send(&url, &key, id, kind).await;
                    all.lock().push(one);
                });
                while under_way.try_join_next().is_some() {}
            }
            while let Some(sent) = under_way.join_next().await {
                sent.expect("no caller panics");
            }
        });
        Self { seen, ends, task }
    }

    /// How many have an end.
    fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// Whether a request of this key was refused just now.
    fn was_refused(&self, key: &str) -> bool {
        let seen = self.seen.lock();
        let mut last = seen.iter().rev().filter(|seen| seen.id.split('-').next() == Some(key)).take(5);
        last.any(|seen| seen.status == Some(429))
    }

    async fn end(self) -> Vec<Seen> {
        self.ends.store(true, Ordering::SeqCst);
        self.task.await.expect("the load ends");
        std::mem::take(&mut *self.seen.lock())
    }
}

fn body(id: &str, kind: Kind) -> Value {
    // Long enough to be more tokens than the upstream says.
    let prompt = format!("{id} {}", "and a few more words ".repeat(4));
    json!({"model": "one/m1", "max_tokens": MOST_TOKENS, "stream": kind == Kind::Stream,
        "stream_options": if kind == Kind::Stream { json!({"include_usage": true}) } else { Value::Null },
        "messages": [{"role": "user", "content": prompt}]})
}

async fn send(url: &str, key: &str, id: String, kind: Kind) -> Seen {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(60));
    let mut post = client.build().expect("a client").post(url).bearer_auth(key).header("x-request-id", &id);
    if kind == Kind::Job {
        post = post.header("prefer", "respond-async");
    }
    let mut seen = Seen { id, kind, status: None, is_whole: false };
    let Ok(response) = post.json(&body(&seen.id, kind)).send().await else { return seen };
    seen.status = Some(response.status().as_u16());
    let mut pieces = response.bytes_stream();
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return seen };
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8_lossy(&text);
    seen.is_whole = match kind {
        Kind::Stream => text.contains("data: [DONE]"),
        Kind::Plain | Kind::Job => serde_json::from_str::<Value>(&text).is_ok(),
    };
    if kind == Kind::Stream && seen.is_whole {
        assert_eq!(text.matches("\"content\":").count(), 4, "a cut stream never looks finished: {text}");
    }
    seen
}

async fn round(seed: u64) {
    let Some(mut site) = Site::start().await else { return };
    let mut draw = Draw(seed);
    let mut troubles = [Trouble::Kill, Trouble::Stop, Trouble::Database, Trouble::Flush];
    draw.shuffle(&mut troubles);
    let mut servers = [0, 1, 2];
    draw.shuffle(&mut servers);
    let [killed, stopped, _] = servers;
    let said = format!("seed {seed}: {troubles:?}, server {killed} is killed, {stopped} stands still");
    println!("{said}");
    let began = Instant::now();
    let load = Load::begin(&site);
    let mut left = Left::default();
    let mut stopped_at = None;
    for trouble in troubles {
        let so_far = load.count();
        let more = 15 + draw.below(25) as usize;
        until("the load goes on", async || load.count() >= so_far + more).await;
        tokio::time::sleep(Duration::from_millis(draw.below(300))).await;
        match trouble {
            Trouble::Kill => {
                site.processes[killed].take().expect("it runs").kill();
                left = Left::of(&site.homes[killed]);
            }
            Trouble::Stop => {
                site.process(stopped).signal(Signal::STOP);
                // A health check takes a while.
                let health_check = draw.below(400);
                tokio::time::sleep(Duration::from_millis(health_check)).await;
                site.balancer.out(stopped);
                stopped_at = Some(Instant::now());
            }
            Trouble::Database => {
                site.postgres.server.signal(Signal::KILL);
                tokio::time::sleep(Duration::from_millis(draw.below(600))).await;
                let mut postgres = site.postgres;
                postgres = tokio::task::spawn_blocking(move || {
                    postgres.start_again();
                    postgres
                })
                .await
                .expect("it starts");
                site.postgres = postgres;
            }
            Trouble::Flush if draw.below(2) == 0 => drop(site.redis.ask(&["FLUSHALL"])),
            Trouble::Flush => {
                site.redis.kill();
                tokio::time::sleep(Duration::from_millis(draw.below(300))).await;
                site.redis.start_again();
            }
        }
    }
    let stood = stopped_at.expect("one stood still").elapsed();
    tokio::time::sleep(STANDSTILL.saturating_sub(stood)).await;
    site.process(stopped).signal(Signal::CONT);
    site.balancer.back(stopped, &site.process(stopped).url);
    // What it had settled is told before somebody reads the ledger anew: or it would count as two (docs/shared.md).
    until("it is there again", async || site.process(stopped).get("/health").await["shared"]["status"] == "ok").await;
    // Who was killed comes back on the same data, with the load still on.
    let back = site.homes[killed].start().await;
    site.balancer.back(killed, &back.url);
    site.processes[killed] = Some(back);
    let so_far = load.count();
    until("all three serve", async || load.count() >= so_far + 30).await;
    until("the budget is spent", async || load.was_refused("spends")).await;
    let seen = load.end().await;

    for process in site.processes.iter().flatten() {
        until("every job has ended", async || {
            let jobs = process.metrics().await;
            let open = |status: &str| format!("stepwell_jobs{{status=\"{status}\"}} 0");
            jobs.contains(&open("queued")) && jobs.contains(&open("running"))
        })
        .await;
        until("the last rows are saved", async || process.get("/health").await["ledger"]["pending"] == 0).await;
    }
    site.spend_the_rest().await;
    let took = began.elapsed();
    let books = Books::read(&site.postgres, &site.database, &site.one, left, said).await;
    books.every_accepted_job_ended_once(&seen);
    books.every_call_is_a_row_and_every_other_row_was_left_by_the_kill();
    books.budget_held("spends", BUDGET_USD * 1_000_000_000);
    // Redis forgot everything once, and began anew; whenever a replica was without it, it let its part in.
    let were_without = site.homes.iter().filter(|home| home.errors().contains("share is gone")).count();
    // The one that was killed began its own count anew.
    let within = |limit: u64| {
        let comes_back = took.as_secs_f64() / 60.0 * limit as f64;
        2 * limit + (were_without as u64 + 1) * limit.div_ceil(3) + 2 * comes_back.ceil() as u64
    };
    books.limit_held("hurries", 1, within(PER_MINUTE));
    books.limit_held("talks", PROMPT_TOKENS + ANSWER_TOKENS, within(TOKENS_PER_MINUTE));
    for process in site.processes.into_iter().flatten() {
        assert_eq!(process.stop().await, Some(0), "{}", site.homes.iter().map(Home::errors).collect::<String>());
    }
    let (code, told) = replayed(&site.homes[0]);
    books.agree_with(code, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_lose_nothing_and_pass_no_limit_whatever_is_killed_stopped_restarted_and_forgotten() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("STEPWELL_REPLICAS_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
    for seed in first..first + number("STEPWELL_REPLICAS_ROUNDS").unwrap_or(1) {
        round(seed).await;
    }
}
