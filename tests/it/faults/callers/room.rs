//! More connections than there is room for.

use std::time::{Duration, Instant};

use super::impatient;
use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::raw::Raw;
use crate::support::upstream;
use crate::support::upstream::chat;

/// Longer than an idle connection keeps its buffers.
const REST: Duration = Duration::from_millis(2500);

#[tokio::test]
async fn c01_idle_connections_cost_little_and_slow_nobody() {
    let one = upstream().await;
    let home = Home::new(&super::ONE.replace("{0}", &one.url));
    let process = home.start().await;
    process.chat("warm", &ask("hi")).await;
    let before = process.resident_mib();
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let mut raw = Raw::connect(&process.url).await;
        assert_eq!(raw.get("/livez").await.status, 200);
        idle.push(raw);
    }
    let grown = process.resident_mib() - before;
    assert!(grown <= 20, "1,000 idle connections take {grown} MiB");
    let began = Instant::now();
    for index in 0..50 {
        assert_eq!(process.chat(&format!("busy-{index}"), &ask("hi")).await.0, 200);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "50 requests took {:?}", began.elapsed());
    // Once they have rested. The allocator gives back what is free when it has something else to do.
    tokio::time::sleep(REST).await;
    let mut asked = 0;
    until("1,000 connections at rest take 5 MiB", async || {
        asked += 1;
        process.chat(&format!("after-{asked}"), &ask("hi")).await.0 == 200 && process.resident_mib() <= before + 5
    })
    .await;
    assert_eq!(idle[999].get("/livez").await.status, 200, "they are still good");
}

#[tokio::test]
async fn c01_a_connection_that_has_rested_serves_like_any_other() {
    let (app, one) = impatient("header_timeout: 400ms, idle_timeout: 6s").await;
    let get = "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let (mut fresh, mut used) = (Raw::connect(&app.url).await, Raw::connect(&app.url).await);
    let (mut split, mut left) = (Raw::connect(&app.url).await, Raw::connect(&app.url).await);
    for raw in [&mut used, &mut left] {
        assert_eq!(raw.get("/livez").await.status, 200);
    }
    // The first bytes are those of POST and of HTTP/2.
    split.send("P").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    split.send("OST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(split.answer().await.status, 404);
    for _ in 0..2 {
        tokio::time::sleep(REST).await;
        for raw in [&mut fresh, &mut used, &mut split] {
            raw.send(get.repeat(3)).await;
            for _ in 0..3 {
                assert_eq!(raw.answer().await.status, 200);
            }
            raw.chat(&ask("hi")).await;
            assert_eq!(raw.answer().await.status, 200);
        }
    }
    assert_eq!(one.count(), 6);
    // Its deadline for being idle was not forgotten, nor began it anew.
    assert!(left.is_closed_cleanly().await);
    let mut slow = Raw::connect(&app.url).await;
    assert_eq!(slow.get("/livez").await.status, 200);
    tokio::time::sleep(REST).await;
    slow.send("GET /livez HTTP/1.1\r\n").await;
    let answer = slow.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "header_timeout"));
    assert!(slow.is_closed_cleanly().await);
}

#[tokio::test]
async fn c01_the_beginning_of_a_request_outlasts_a_rest() {
    let (app, one) = impatient("header_timeout: 5s").await;
    one.always(crate::support::upstream::chat("late").after(Duration::from_millis(300)));
    let mut raw = Raw::connect(&app.url).await;
    raw.chat(&ask("hi")).await;
    one.called(1).await;
    // Comes while the first is under way.
    raw.send("GET /livez HTTP/1.1\r\nhos").await;
    assert_eq!(raw.answer().await.status, 200);
    tokio::time::sleep(REST).await;
    raw.send("t: x\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test]
async fn c01_connections_at_rest_do_not_hold_up_the_end_and_are_counted_while_they_are_there() {
    let one = upstream().await;
    let home = Home::new(&super::ONE.replace("{0}", &one.url));
    let process = home.start().await;
    let mut resting = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(&process.url).await;
        assert_eq!(raw.get("/livez").await.status, 200);
        resting.push(raw);
    }
    let mut watcher = Raw::connect(&process.url).await;
    let open = async |watcher: &mut Raw| {
        let text = watcher.get("/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix("stepwell_connections "));
        line.and_then(|count| count.parse::<f64>().ok()).expect("a gauge")
    };
    assert!(open(&mut watcher).await >= 21.0);
    resting.truncate(5);
    let began = Instant::now();
    while open(&mut watcher).await > 10.0 {
        assert!(began.elapsed() < Duration::from_secs(5), "those that left are still counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(REST).await;
    let began = Instant::now();
    assert_eq!(process.stop().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    for raw in &mut resting {
        assert!(raw.is_closed_cleanly().await);
    }
}

#[tokio::test]
async fn c01_beyond_the_cap_a_connection_is_told_when_to_come_back_and_health_answers() {
    let (app, one) = impatient("max_connections: 2").await;
    let (mut first, mut second) = (Raw::connect(&app.url).await, Raw::connect(&app.url).await);
    assert_eq!((first.get("/livez").await.status, second.get("/livez").await.status), (200, 200));
    let mut third = Raw::connect(&app.url).await;
    third.chat(&ask("hi")).await;
    let answer = third.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "too_many_connections"));
    assert!(answer.header("retry-after").is_some() && answer.header("x-request-id").is_some(), "{}", answer.head);
    assert!(third.is_closed_cleanly().await);
    for path in ["/health", "/health/ready", "/metrics"] {
        let mut watcher = Raw::connect(&app.url).await;
        assert_eq!(watcher.get(path).await.status, 200, "a full server is alive: {path}");
        assert!(watcher.is_closed_cleanly().await, "and its answer is the last one");
    }
    assert_eq!(one.count(), 0);
    first.chat(&ask("hi")).await;
    assert_eq!(first.answer().await.status, 200, "those inside are served");
    drop(second);
    until("a place is free again", async || {
        let mut next = Raw::connect(&app.url).await;
        next.chat(&ask("hi")).await;
        next.try_answer().await.is_some_and(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn c01_few_descriptors_are_shared_so_that_upstreams_and_ledger_keep_some() {
    let one = upstream().await;
    let mut home = Home::new(&super::ONE.replace("{0}", &one.url));
    home.limits.push("-n 128".to_owned());
    let process = home.start().await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(Raw::connect(&process.url).await);
    }
    let inside = &mut crowd[0];
    for index in 0..20 {
        let body = ask("hi").to_string();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-request-id: in-{index}");
        inside.send(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
        assert_eq!(inside.answer().await.status, 200);
    }
    let health = inside.get("/health").await;
    assert_eq!(health.status, 200);
    assert!(health.body.contains("\"last_error\":null"), "the ledger is well: {}", health.body);
    assert_eq!(inside.get("/v1/usage").await.status, 200, "reports find descriptors too");
    drop(crowd);
    until("the crowd is gone", async || {
        // Whoever comes while there is no room may be cut off in the middle of the refusal.
        let mut next = Raw::connect(&process.url).await;
        next.chat(&ask("hi")).await;
        next.try_answer().await.is_some_and(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(process.chat("after", &ask("hi")).await.0, 200);
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn c01_a_shortage_of_our_own_is_no_fault_of_the_provider() {
    let one = upstream().await;
    one.always(chat("hi").header("connection", "close"));
    let yaml = format!("{}server: {{ max_connections: 1000 }}\nretry: {{ same_target: 0 }}\n", super::ONE);
    let mut home = Home::new(&yaml.replace("{0}", &one.url));
    home.limits.push("-n 64".to_owned());
    let process = home.start().await;
    let mut inside = Raw::connect(&process.url).await;
    assert_eq!(inside.get("/livez").await.status, 200);
    // More than it can open: by its own word, nothing is kept for upstreams.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Raw::connect(&process.url).await);
    }
    until("it has opened all it can", async || {
        std::fs::read_dir(format!("/proc/{}/fd", process.id())).is_ok_and(|open| open.count() >= 64)
    })
    .await;
    // Now and then the router closes a file of its own, and a request finds a descriptor after all.
    let mut refused = 0;
    for _ in 0..40 {
        inside.chat(&ask("hi")).await;
        let answer = inside.answer().await;
        if answer.status == 200 {
            continue;
        }
        let seen = (answer.status, answer.code());
        assert_eq!(seen, (503, "out_of_resources".to_owned()), "{} {}", answer.body, home.errors());
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.body.contains("\"kind\":\"local\""), "{}", answer.body);
        refused += 1;
    }
    assert!(refused >= 8, "{refused}");
    let status = inside.get("/gateway/status").await.body;
    assert!(status.contains("\"state\":\"closed\"") && status.contains("\"opened\":0"), "{status}");
    assert_eq!(one.count(), 40 - refused);
    drop(crowd);
    until("descriptors are back", async || {
        inside.chat(&ask("hi")).await;
        inside.answer().await.status == 200
    })
    .await;
}
