//! Nobody there, nobody to be trusted, or nobody who speaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepwell::scripted::proxy::{Proxy, Reach};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{ONE, TWO, state};
use crate::support::app::ask;
use crate::support::upstream::{chat, events, fault, hang, within};
use crate::support::{app, upstream};

/// What the first attempt of a request came to.
fn first_attempt(row: &Value) -> &Value {
    &row["attempts"][0]
}

/// Asks a router whose first provider is at `address`; the second one must answer within the connect timeout.
async fn fails_to_connect(address: &str) {
    let two = upstream().await;
    let app = app(&TWO.replace("{0}", address).replace("{1}", "{0}"), &[&two]).await;
    let began = Instant::now();
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{address}: {:?}", began.elapsed());
    assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"two".parse().expect("a value")), "{body}");
    let row = app.row(&headers).await;
    assert_eq!(first_attempt(&row)["kind"], "connect", "{address}: {row}");
}

#[tokio::test]
async fn a11_a_port_where_nobody_listens_is_a_connect_error_and_left_at_once() {
    let one = upstream().await;
    let proxy = Proxy::start(one.address).await.expect("a proxy");
    proxy.reach(Reach::Refuse).await;
    fails_to_connect(&format!("http://{}/v1", proxy.address)).await;
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a11_a_name_that_nobody_has_is_a_connect_error() {
    fails_to_connect("http://nobody.invalid/v1").await;
}

#[tokio::test]
async fn a11_a_dead_provider_does_not_use_up_the_attempts() {
    let two = upstream().await;
    let dead = TWO.replace("{0}", "http://127.0.0.1:9/v1").replace("{1}", "{0}");
    let yaml = dead.replace("models: [ { id: m1,", "models: [ { id: m7 }, { id: m8 }, { id: m9 }, { id: m1,");
    let app = app(&yaml, &[&two]).await;
    assert_eq!(app.say("hi").await, "hello from upstream");
}

#[tokio::test]
async fn a11_a_handshake_that_never_ends_is_left_at_the_connect_timeout() {
    let (one, two) = (upstream().await, upstream().await);
    let proxy = Proxy::start(one.address).await.expect("a proxy");
    proxy.reach(Reach::BlackHole).await;
    let yaml = TWO.replace("{0}", &format!("https://{}/v1", proxy.address)).replace("{1}", "{0}");
    let app = app(&format!("{yaml}timeouts: {{ connect: 300ms }}\n"), &[&two]).await;
    let began = Instant::now();
    let (_, headers, _) = app.chat(&ask("hi")).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(headers["x-stepwell-provider"], "two");
    assert_eq!(first_attempt(&app.row(&headers).await)["kind"], "connect");
}

/// A server with a certificate for `name` that nobody has signed, valid until `year`. It answers every request with a chat
/// completion and counts the bytes that it could read.
async fn self_signed(name: &str, year: i32) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("a certificate").der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://localhost:{}/v1", listener.local_addr().expect("an address").port());
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = read.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buffer = vec![0; 64 << 10];
            let bytes = stream.read(&mut buffer).await.unwrap_or(0);
            counted.fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
            let body =
                json!({"model": "m1", "choices": [{"message": {"content": "over TLS"}, "finish_reason": "stop"}]})
                    .to_string();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
            let _ = stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, read)
}

#[tokio::test]
async fn a11_a_certificate_that_proves_nothing_is_a_connect_error_and_no_key_is_sent() {
    for (name, year) in [("localhost", 2099), ("localhost", 2001), ("elsewhere.example", 2099)] {
        let (url, read) = self_signed(name, year).await;
        fails_to_connect(&url).await;
        assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 0, "{name} {year}: not a byte of the request");
    }
}

#[tokio::test]
async fn a11_certificate_checks_are_relaxed_for_one_provider_only_and_loudly() {
    let ((insecure, _), (checked, read)) =
        (self_signed("elsewhere.example", 2001).await, self_signed("localhost", 2099).await);
    let yaml = TWO.replace("one: {", "one: { insecure_tls: true,").replace("{0}", &insecure).replace("{1}", &checked);
    let app = app(&yaml, &[]).await;
    assert_eq!(app.say("hi").await, "over TLS");
    let mut other = ask("hi");
    other["model"] = json!("two/m2");
    assert_eq!(app.chat(&other).await.0, 502, "the other provider's certificate is still checked");
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 0);
    let check =
        assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("stepwell")).arg("check").arg(&app.config).output();
    let said = check.expect("an output");
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("INSECURE") && said.contains("providers.one"), "{said}");
    assert!(!said.contains("providers.two: INSECURE"), "{said}");
}

#[tokio::test]
async fn a12_a_reset_before_the_answer_is_tried_again_or_elsewhere() {
    let alone = upstream().await;
    let app_of_one = app(ONE, &[&alone]).await;
    alone.then(fault("reset"));
    assert_eq!(app_of_one.say("hi").await, "hello from upstream");
    assert_eq!(alone.count(), 2);

    let (one, two) = (upstream().await, upstream().await);
    let proxy = Proxy::start(one.address).await.expect("a proxy");
    let yaml = TWO.replace("{0}", &format!("http://{}/v1", proxy.address)).replace("{1}", "{0}");
    let app = app(&yaml, &[&two]).await;
    // A warm connection that breaks is as good as a new one that does.
    app.say("warm").await;
    proxy.reach(Reach::Reset).await;
    let (status, headers, _) = app.chat(&ask("hi")).await;
    assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"two".parse().expect("a value")));
    let row = app.row(&headers).await;
    assert!(
        ["reset", "connect", "stale_connection"].contains(&first_attempt(&row)["kind"].as_str().expect("a kind")),
        "{row}"
    );
    proxy.reach(Reach::Open).await;
    assert_eq!(app.chat(&ask("hi")).await.1["x-stepwell-provider"], "one");
}

#[tokio::test]
async fn a13_a_provider_that_accepts_and_says_nothing_is_left_at_the_deadline() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ first_token: 300ms }}\n"), &[&one, &two]).await;
    one.always(hang());
    for stream in [false, true] {
        let began = Instant::now();
        let mut body = ask("hi");
        body["stream"] = json!(stream);
        let response = app.post("/v1/chat/completions", &body).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-stepwell-provider"]),
            (200, &"two".parse().expect("a value"))
        );
        response.bytes().await.expect("an answer");
        assert!(
            (Duration::from_millis(290)..Duration::from_secs(2)).contains(&began.elapsed()),
            "{:?}",
            began.elapsed()
        );
    }
    one.closed(2).await;
    assert_eq!((one.count(), two.count()), (2, 2), "the silent route is not tried again");
}

#[tokio::test]
async fn a13_without_settings_it_is_left_after_ten_seconds() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(TWO, &[&one, &two]).await;
    one.always(hang());
    let began = Instant::now();
    let streamed = app.stream(&ask("hi")).await;
    assert_eq!((streamed.text().as_str(), two.count()), ("hello from upstream", 1));
    assert!(
        (Duration::from_millis(9_900)..Duration::from_secs(12)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a13_with_nobody_else_left_the_hard_deadline_ends_it() {
    let one = upstream().await;
    let app = app(&format!("{ONE}timeouts: {{ first_token: 300ms }}\n"), &[&one]).await;
    one.always(hang());
    let (status, headers, body) = app.chat(&ask("hi")).await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("upstream_timeout")), "{body}");
    one.closed(1).await;
    assert_eq!(one.count(), 1, "the silent route is not tried again");
    assert_eq!(app.row(&headers).await["attempts"][0]["kind"], "timeout");
}

#[tokio::test]
async fn a14_a_head_without_a_token_counts_as_silence_and_nobody_sees_it() {
    let (one, two) = (upstream().await, upstream().await);
    let app = app(&format!("{TWO}timeouts: {{ first_token: 300ms }}\n"), &[&one, &two]).await;
    two.always(chat("second"));
    let role = json!({"id": "first", "choices": [{"delta": {"role": "assistant", "content": ""}}]});
    let silent = [fault("first-token=20s"), events(&[role]).stall(), fault("first-token=20s interim=103")];
    for (index, act) in silent.into_iter().enumerate() {
        one.then(act);
        let began = Instant::now();
        let streamed = app.stream(&ask("hi")).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.done, streamed.header("x-stepwell-provider")),
            ("second", true, "two")
        );
        assert!(!streamed.raw.contains("first"), "{}", streamed.raw);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        one.closed(index + 1).await;
    }
    let mut plain = ask("hi");
    plain["model"] = json!("one/m1");
    one.then(fault("first-token=20s"));
    assert_eq!(app.chat(&plain).await.0, 504, "a plain answer's first byte is waited for as long");
}

#[tokio::test]
async fn a13_a_stopped_process_accepts_in_its_kernel_and_is_left_at_the_deadline() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let mut demo = Command::new(assert_cmd::cargo::cargo_bin!("stepwell"))
        .args(["demo", "--port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut banner = String::new();
    BufReader::new(demo.stdout.as_mut().expect("its output")).read_line(&mut banner).expect("a line");
    let url = banner.split("base URL ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a URL").to_owned();
    let signal = |name: &str| Command::new("kill").args([name, &demo.id().to_string()]).status().expect("kill runs");
    let two = upstream().await;
    let yaml = TWO.replace("{0}", &url).replace("{1}", "{0}");
    let app = app(&format!("{yaml}timeouts: {{ first_token: 300ms }}\n"), &[&two]).await;
    assert!(signal("-STOP").success());
    let began = Instant::now();
    let (status, headers, _) = within(app.chat(&ask("hi"))).await;
    let elapsed = began.elapsed();
    signal("-CONT");
    demo.kill().expect("it is ended");
    demo.wait().expect("it ends");
    assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"two".parse().expect("a value")));
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    assert_eq!(app.row(&headers).await["attempts"][0]["kind"], "timeout");
    assert_eq!(state(&app, 0).await, "closed", "one silence opens nothing");
}
