//! TLS: who is let in, how certificates change, and that every promise about connections holds behind it too.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::app::ask;
use crate::support::certificate::{Authority, Pair};
use crate::support::process::{Home, Process, until};
use crate::support::raw::Raw;
use crate::support::upstream;
use crate::support::upstream::{events, within};

const TLS: &str = "server: { tls: { cert: cert.pem, key: key.pem } }\n";

fn home(rest: &str, pair: &Pair) -> Home {
    let home = Home::new(rest);
    pair.write(home.path());
    home
}

fn demo(server: &str) -> String {
    format!("providers: {{ demo: {{}} }}\nserver: {{ tls: {{ cert: cert.pem, key: key.pem }}, {server} }}\n")
}

fn address(process: &Process) -> &str {
    process.url.strip_prefix("https://").expect("the banner says https")
}

async fn chat(client: &reqwest::Client, process: &Process) -> (u16, Value) {
    let post = client.post(format!("{}/v1/chat/completions", process.url)).json(&ask("hi"));
    let response = post.send().await.expect("an answer");
    (response.status().as_u16(), response.json().await.expect("json"))
}

#[tokio::test]
async fn http_1_and_2_are_served_behind_tls() {
    let authority = Authority::new();
    let process = home(&demo(""), &authority.pair()).start().await;
    for (client, version) in
        [(authority.client(), http::Version::HTTP_2), (authority.client().http1_only(), http::Version::HTTP_11)]
    {
        let client = client.build().expect("a client");
        let health = client.get(format!("{}/health", process.url)).send().await.expect("an answer");
        assert_eq!((health.status().as_u16(), health.version()), (200, version));
        assert!(health.headers()["strict-transport-security"].to_str().expect("text").starts_with("max-age="));
        assert_eq!(chat(&client, &process).await.0, 200);
        let body = json!({"model": "auto", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        let stream = client.post(format!("{}/v1/chat/completions", process.url)).json(&body).send().await;
        let text = stream.expect("an answer").text().await.expect("text");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_speaks_plain_http_is_told_so() {
    let process = home(&demo(""), &Authority::new().pair()).start().await;
    let mut raw = Raw::connect(address(&process)).await;
    raw.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = raw.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "https_required"));
    assert!(raw.is_closed_cleanly().await);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let process = home(&demo("header_timeout: 300ms"), &Authority::new().pair()).start().await;
    for beginning in [&b""[..], &b"\x16"[..], &b"\x16\x03\x01\x02\x00\x01"[..]] {
        let mut raw = Raw::connect(address(&process)).await;
        raw.send(beginning).await;
        assert!(raw.is_closed_cleanly().await, "{beginning:?}");
    }
}

#[tokio::test]
async fn a_slow_head_is_answered_behind_tls_as_before_it() {
    let authority = Authority::new();
    let process = home(&demo("header_timeout: 300ms"), &authority.pair()).start().await;
    let mut line = authority.connect(address(&process), None).await;
    line.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n").await.expect("written");
    let mut answer = Vec::new();
    within(line.read_to_end(&mut answer)).await.expect("a clean end, with TLS's farewell");
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("header_timeout"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_has_rested_serves_behind_tls_too() {
    let authority = Authority::new();
    let process = home(&demo(""), &authority.pair()).start().await;
    let mut line = authority.connect(address(&process), None).await;
    for round in 0..2 {
        // In two pieces, of which the second may come while the first is looked at.
        line.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.expect("written");
        line.write_all(b" x\r\n\r\n").await.expect("written");
        let mut answer = vec![0; 4096];
        let count = within(line.read(&mut answer)).await.expect("an answer");
        assert!(answer[..count].starts_with(b"HTTP/1.1 200 "), "round {round}");
        // A rest begins after two seconds.
        if round == 0 {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
    }
}

/// An upstream whose one answer is larger than all buffers between, and a router before it.
async fn long_stream(server: &str, authority: &Authority) -> (crate::support::Upstream, Process, Home) {
    let model = upstream().await;
    let text = "words ".repeat(10_000);
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
    };
    let words = |index| chunk(json!({"content": format!("{index} {text}")}), Value::Null);
    let pieces: Vec<Value> = (0..100).map(words).chain([chunk(json!({}), json!("stop"))]).collect();
    model.always(events(&pieces));
    let yaml = format!(
        "providers: {{ one: {{ format: openai, base_url: '{}', models: [ {{ id: m }} ] }} }}\ncache: {{ enabled: false }}\n{}",
        model.url,
        TLS.replace(" }\n", &format!(", {server} }}\n")),
    );
    let home = home(&yaml, &authority.pair());
    let process = home.start().await;
    (model, process, home)
}

const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;

fn post() -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: long\r\ncontent-length: {}\r\n\r\n{STREAM}",
        STREAM.len()
    )
}

#[tokio::test]
async fn a_reader_with_a_small_window_gets_every_byte_and_no_unencrypted_one() {
    let authority = Authority::new();
    let (_model, process, _home) = long_stream("write_timeout: 30s", &authority).await;
    let mut line = authority.connect(address(&process), Some(4096)).await;
    line.write_all(post().as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A byte beside TLS would break it off here.
    line.read_to_end(&mut answer).await.expect("a clean end");
    assert!(answer.len() > 6_000_000, "{}", answer.len());
    let text = String::from_utf8(answer).expect("text");
    for index in 0..100 {
        assert!(text.contains(&format!("\"{index} words")), "piece {index}");
    }
    assert!(text.contains("data: [DONE]"));
}

#[tokio::test]
async fn a_reader_who_takes_nothing_is_cut_behind_tls_and_the_provider_is_left() {
    let authority = Authority::new();
    let (model, process, _home) = long_stream("write_timeout: 500ms", &authority).await;
    let mut line = authority.connect(address(&process), Some(4096)).await;
    line.write_all(post().as_bytes()).await.expect("written");
    model.called(1).await;
    let client = authority.client().build().expect("a client");
    until("the stream is given up", async || {
        let get = client.get(format!("{}/v1/requests/long", process.url)).send().await.expect("an answer");
        get.json::<Value>().await.expect("json")["status"] == "client_closed"
    })
    .await;
    assert!(line.read_to_end(&mut Vec::new()).await.is_err(), "reset, and not ended as if all were said");
}

#[tokio::test]
async fn a_new_certificate_takes_over_without_a_dropped_request() {
    let (old, new) = (Authority::new(), Authority::new());
    let home = home(&demo(""), &old.pair());
    let process = home.start().await;
    let both = |builder: reqwest::ClientBuilder| {
        let root = reqwest::Certificate::from_pem(new.pem.as_bytes()).expect("a certificate");
        builder.tls_certs_only([reqwest::Certificate::from_pem(old.pem.as_bytes()).expect("a certificate"), root])
    };
    // Some keep their connections, some open one for every request.
    let keeping = both(old.client()).build().expect("a client");
    let fresh = both(old.client()).pool_max_idle_per_host(0).build().expect("a client");
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let callers = [&keeping, &keeping, &fresh, &fresh].map(|client| async {
        while !done.load(Ordering::Relaxed) {
            assert_eq!(chat(client, &process).await.0, 200);
            served.fetch_add(1, Ordering::Relaxed);
        }
    });
    let changing = async {
        new.pair().write(home.path());
        let only_new = new.client().pool_max_idle_per_host(0).build().expect("a client");
        until("the new certificate is shown", async || {
            only_new.get(format!("{}/livez", process.url)).send().await.is_ok()
        })
        .await;
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(callers), changing);
    assert!(served.load(Ordering::Relaxed) > 4);
}

#[tokio::test]
async fn a_broken_new_pair_changes_nothing_and_the_reason_shows() {
    let authority = Authority::new();
    let home = home(&demo(""), &authority.pair());
    let process = home.start().await;
    let client = authority.client().pool_max_idle_per_host(0).build().expect("a client");
    let error = async || {
        let get = client.get(format!("{}/health", process.url)).send().await.expect("the old pair still serves");
        get.json::<Value>().await.expect("json")["configuration"]["error"].as_str().unwrap_or_default().to_owned()
    };
    let good = authority.pair();
    std::fs::write(home.path().join("cert.pem"), "no certificate").expect("a file");
    until("the reason shows", async || error().await.contains("server.tls.cert: `cert.pem` holds no certificate"))
        .await;
    good.write(home.path());
    until("a good pair is taken", async || error().await.is_empty()).await;
}

#[tokio::test]
async fn callers_without_a_certificate_of_ours_are_turned_away_where_one_is_asked_for() {
    let authority = Authority::new();
    let yaml = demo("").replace("key: key.pem", "key: key.pem, client_ca: ca.pem");
    let home = home(&yaml, &authority.pair());
    std::fs::write(home.path().join("ca.pem"), &authority.pem).expect("a file");
    let process = home.start().await;
    let url = format!("{}/health", process.url);
    let without = authority.client().build().expect("a client").get(&url).send().await;
    assert!(without.is_err(), "{without:?}");
    let own = authority.pair();
    let identity = reqwest::Identity::from_pem((own.cert + &own.key).as_bytes()).expect("an identity");
    let with = authority.client().identity(identity).build().expect("a client").get(&url).send().await;
    assert_eq!(with.expect("an answer").status(), 200);
}

#[test]
fn check_says_where_a_pair_is_wrong() {
    let authority = Authority::new();
    let (good, other, expired) = (authority.pair(), authority.pair(), authority.pair_until(2020));
    for (cert, key, said) in [
        (
            &*good.cert,
            &*other.key,
            "providers.yaml:2:39: server.tls.key: this key is not that of the first certificate",
        ),
        (
            &expired.cert,
            &expired.key,
            "providers.yaml:2:24: server.tls.cert: the certificate in `cert.pem` expired at 2020-01-01T00:00:00Z",
        ),
        (&good.key, &good.key, "server.tls.cert: `cert.pem` holds no certificate"),
        (&good.cert, &good.cert, "server.tls.key: `key.pem` holds no private key"),
        (
            &good.cert,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "locked by a passphrase",
        ),
    ] {
        let home = home(&demo(""), &Pair { cert: cert.to_owned(), key: key.to_owned() });
        let output = home.command().arg("check").output().expect("output");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && text.contains(said), "{said} in\n{text}");
        let secret = key.lines().filter(|line| !line.starts_with("---")).any(|line| text.contains(line));
        assert!(!secret, "nothing of a key is shown: {text}");
    }
    let home = home(&demo(""), &good);
    let check = || home.command().arg("check").output().expect("output");
    assert_eq!(check().status.code(), Some(0));
    std::fs::remove_file(home.path().join("key.pem")).expect("a file");
    assert!(String::from_utf8_lossy(&check().stderr).contains("cannot read `key.pem`"));
}
