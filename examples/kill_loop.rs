//! Kills the server without a warning, again and again, and looks whether a row is missing or doubled.
//!
//! `cargo run --example kill_loop -- target/debug/stepwell 200`: rounds of half a second to a bit more, 50 requests a
//! second against the demo provider, `kill -9`, a restart on the same data. Every answer that was received more than
//! 250 ms before the end must have its row. Every fifth request is handed in to be answered later: whatever was
//! acknowledged must end, once, and the log of events told again must give the states that are kept. The test
//! `kill_9_loses_..` runs six rounds of the same.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

const ACKNOWLEDGED: Duration = Duration::from_millis(250);
const EVERY: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().unwrap_or_else(|| "target/debug/stepwell".to_owned());
    let rounds: u64 = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(200);
    let home = std::env::temp_dir().join(format!("stepwell-kill-{}", std::process::id()));
    std::fs::create_dir_all(&home).expect("a directory");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    std::fs::write(home.join("providers.yaml"), CONFIG).expect("a file");
    let (mut kept, mut later) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (mut child, url) = start(&binary, &home);
        let lifetime = Duration::from_millis(300 + round * 211 % 700);
        let (answered, killed) = ask_until(&client, &url, round, lifetime, &mut child).await;
        for (id, at) in answered {
            match id.starts_with("later-") {
                true => later.push(id),
                false if at + ACKNOWLEDGED < killed => kept.push(id),
                false => {}
            }
        }
    }
    let (mut child, url) = start(&binary, &home);
    let mut unfinished = 0;
    for id in &later {
        unfinished += usize::from(!has_ended_once(&client, &url, id).await);
    }
    let listed = listed(&client, &url).await;
    let _ = child.kill();
    let _ = child.wait();
    let replay = Command::new(&binary).args(["events", "replay", "--data-dir"]).arg(&home).status();
    let told_the_same = replay.is_ok_and(|status| status.success());
    let missing = kept.iter().filter(|id| !listed.contains_key(*id)).count();
    // A request that is answered later may be begun more than once, and each attempt is a row.
    let doubled = listed.iter().filter(|(id, count)| **count > 1 && id.starts_with("kill-")).count();
    println!("{rounds} rounds, {} answers older than 250 ms: {missing} rows missing, {doubled} doubled", kept.len());
    println!(
        "{} requests for later: {unfinished} did not end, or not once; replay is the same: {told_the_same}",
        later.len()
    );
    let _ = std::fs::remove_dir_all(&home);
    assert!(missing == 0 && doubled == 0 && unfinished == 0 && told_the_same);
}

/// Leases are short, so that what a killed server held is soon done again; kills count as attempts.
const CONFIG: &str = "providers: { demo: {} }\njobs: { lease: 1s, max_attempts: 100 }\n";

/// Whether a request that was handed in has been answered, and its history has one end.
async fn has_ended_once(client: &reqwest::Client, url: &str, id: &str) -> bool {
    let get = client.get(format!("{url}/v1/requests/{id}")).header("prefer", "wait=60");
    let Ok(response) = get.send().await else { return false };
    let shown: Value = response.json().await.unwrap_or_default();
    let ends = shown["events"].as_array().into_iter().flatten().filter(|event| event["kind"] == "completed").count();
    shown["status"] == "completed" && ends == 1
}

fn start(binary: &str, home: &Path) -> (Child, String) {
    let mut command = Command::new(binary);
    command.args(["serve", "--port", "0", "--config"]).arg(home.join("providers.yaml"));
    command.arg("--data-dir").arg(home).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let url = lines.filter_map(|line| Some(line.split_once("listens on ")?.1.trim().to_owned())).next();
    (child, url.expect("it starts: the file is sound"))
}

/// Asks 50 times a second; the answers with the times at which they were there, and when the server was killed.
async fn ask_until(
    client: &reqwest::Client,
    url: &str,
    round: u64,
    lifetime: Duration,
    child: &mut Child,
) -> (Vec<(String, Instant)>, Instant) {
    let (mut asking, mut answered) = (JoinSet::new(), Vec::new());
    let mut ticks = tokio::time::interval(EVERY);
    let mut index = 0;
    let end = Instant::now() + lifetime;
    while Instant::now() < end {
        ticks.tick().await;
        let is_later = index % 5 == 4;
        let id = format!("{}-{round}-{index}", if is_later { "later" } else { "kill" });
        index += 1;
        let message = json!({"role": "user", "content": "hi"});
        // The quickest of the models, so that answers are there before the end.
        let body = json!({"model": "demo/small", "messages": [message], "max_tokens": 3, "stream": index % 3 == 0 && !is_later});
        let mut post = client.post(format!("{url}/v1/chat/completions")).header("x-request-id", &id).json(&body);
        if is_later {
            post = post.header("prefer", "respond-async");
        }
        asking.spawn(async move {
            let response = post.send().await.ok()?;
            assert!(response.status().is_success(), "{}", response.status());
            response.text().await.ok()?;
            Some((id, Instant::now()))
        });
    }
    let killed = Instant::now();
    child.kill().expect("killed");
    let _ = child.wait();
    while let Some(done) = asking.join_next().await {
        answered.extend(done.expect("no panic"));
    }
    (answered, killed)
}

/// Every row by its id, and how often it is there.
async fn listed(client: &reqwest::Client, url: &str) -> HashMap<String, usize> {
    let mut listed = HashMap::new();
    let mut before = String::new();
    loop {
        let page = client.get(format!("{url}/v1/requests?limit=1000{before}")).send().await.expect("an answer");
        let page: Value = page.json().await.expect("json");
        for row in page["data"].as_array().expect("rows") {
            *listed.entry(row["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return listed,
        }
    }
}
