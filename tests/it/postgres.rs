//! Servers that share a database: what they see of each other, and what they do while it is gone (fault D05).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stepwell::scripted::proxy::{Proxy, Reach, Weather};

use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::upstream::{chat, hang};
use crate::support::{Upstream, servers, upstream};

const ONE: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } } ] } }
cache: { enabled: false }
";

fn home(one: &Upstream, storage: &str) -> Home {
    Home::new(&format!("{ONE}storage: {{ url: '{storage}' }}\n").replace("{0}", &one.url))
}

/// A server on a fresh database, behind a proxy that can take it away; `None` where there is no server.
async fn behind_a_proxy(one: &Upstream) -> Option<(Home, Proxy)> {
    let postgres = servers::postgres()?;
    let name = postgres.create("").await;
    let proxy = Proxy::start(postgres.server.address).await.expect("a proxy");
    Some((home(one, &postgres.url(proxy.address, &name)), proxy))
}

fn command(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = home.command();
    let output = command.args(arguments).arg("--data-dir").arg(home.data()).output().expect("output");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), text)
}

async fn total(process: &Process) -> Value {
    process.get("/v1/usage").await["total"]["requests"].clone()
}

async fn saved(process: &Process) {
    until("rows are saved", async || {
        let health = process.get("/health").await;
        health["ledger"]["pending"] == 0 && health["status"] == "ok"
    })
    .await;
}

/// Status and code of a chat with an idempotency key.
async fn once(process: &Process, key: &str) -> (u16, Value) {
    let post = client().post(format!("{}/v1/chat/completions", process.url)).header("idempotency-key", key);
    let response = post.json(&ask("hi")).send().await.expect("an answer");
    (response.status().as_u16(), response.json::<Value>().await.unwrap_or_default()["error"]["code"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d05_a_database_that_is_gone_or_slow_holds_up_no_request_and_loses_no_row() {
    let one = upstream().await;
    let Some((home, proxy)) = behind_a_proxy(&one).await else { return };
    let (code, key) = command(&home, &["keys", "create", "--name", "a", "--role", "admin", "--json"]);
    assert_eq!(code, Some(0), "{key}");
    let key = serde_json::from_str::<Value>(&key).expect("json")["key"].as_str().expect("a key").to_owned();
    let process = home.start().await;
    assert_eq!(process.chat("before", &ask("hi")).await.0, 200);
    saved(&process).await;
    let slow = Weather { delay: Duration::from_secs(5), ..Weather::default() };
    let troubles = [
        ("refused", Weather { reach: Reach::Refuse, ..Weather::default() }),
        ("silent", Weather { reach: Reach::BlackHole, ..Weather::default() }),
        ("slow", slow),
    ];
    let mut asked = 1;
    for (trouble, weather) in troubles {
        proxy.set(weather).await;
        for index in 0..10 {
            let began = Instant::now();
            assert_eq!(process.chat(&format!("{trouble}-{index}"), &ask("hi")).await.0, 200);
            asked += 1;
            assert!(began.elapsed() < Duration::from_secs(2), "{trouble}: {:?}", began.elapsed());
        }
        let shown = process.get(&format!("/v1/requests/{trouble}-0")).await;
        assert_eq!(shown["status"], "completed", "{trouble}: rows that wait are shown");
        // Keys that are known stay known.
        let models = client().get(format!("{}/v1/models", process.url)).bearer_auth(&key).send().await;
        assert_eq!(models.expect("an answer").status(), 200, "{trouble}");
        // What promises to be done once is refused rather than done twice, and soon.
        let began = Instant::now();
        assert_eq!(once(&process, trouble).await, (503, json!("idempotency_unavailable")), "{trouble}");
        assert!(began.elapsed() < Duration::from_secs(2), "{trouble}: {:?}", began.elapsed());
        if trouble == "refused" {
            until("operators see it", async || {
                let health = process.get("/health").await;
                health["store"]["status"] == "unreachable" && health["ledger"]["status"] == "degraded"
            })
            .await;
            let metrics = process.metrics().await;
            assert!(metrics.contains("stepwell_store_up 0") && metrics.contains("stepwell_ledger_degraded 1"));
        }
        // Whatever was on its way ends here, answered or not.
        proxy.reach(Reach::Reset).await;
        proxy.set(Weather::default()).await;
        saved(&process).await;
        assert!(process.metrics().await.contains("stepwell_store_up 1"));
        until("the key works again", async || {
            let (status, _) = once(&process, trouble).await;
            asked += u64::from(status == 200);
            status == 200
        })
        .await;
        saved(&process).await;
        assert_eq!(total(&process).await, asked, "{trouble}: none lost, none twice");
    }
    assert!(!home.errors().contains("stepwell@"), "an address is in no log");
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn servers_on_one_database_share_rows_and_keys_and_no_directory() {
    let one = upstream().await;
    let Some(database) = servers::database().await else { return };
    let homes = [home(&one, &database), home(&one, &database)];
    let (first, second) = tokio::join!(homes[0].start(), homes[1].start());
    assert!(homes[0].output().contains("ledger         postgres stepwell@127.0.0.1:"), "{}", homes[0].output());
    for (process, id) in [(&first, "at-first"), (&second, "at-second")] {
        assert_eq!(process.chat(id, &ask("hi")).await.0, 200);
        saved(process).await;
    }
    assert_eq!((total(&first).await, total(&second).await), (json!(2), json!(2)));
    assert_eq!(first.get("/v1/requests/at-second").await["status"], "completed");
    // Made at one of them, by the secret that they share.
    let post = client().post(format!("{}/v1/keys", first.url)).json(&json!({"name": "both"}));
    let key = post.send().await.expect("an answer").json::<Value>().await.expect("json")["key"].clone();
    let key = key.as_str().expect("a key");
    until("the other one knows the key", async || {
        let models = client().get(format!("{}/v1/models", second.url)).bearer_auth(key).send().await;
        models.expect("an answer").status() == 200
    })
    .await;
    // The command line, beside them.
    for (arguments, said) in [
        (&["usage"][..], "one"),
        (&["explain", "at-second"], "one/m1 answered"),
        (&["keys", "list"], "both"),
        (&["budgets"], "there are no budgets"),
    ] {
        let (code, text) = command(&homes[0], arguments);
        assert!(code == Some(0) && text.contains(said), "{arguments:?}: {text}");
    }
    // A third one in a directory that is taken would count the first one's requests as left behind.
    std::fs::write(homes[1].config(), std::fs::read(homes[0].config()).expect("a file")).expect("a file");
    assert_eq!(homes[1].fails().await, Some(1));
    assert!(homes[1].errors().contains("another server uses"), "{}", homes[1].errors());
    assert_eq!((first.stop().await, second.stop().await), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_request_that_a_kill_cut_off_becomes_a_row_in_the_shared_database() {
    let one = upstream().await;
    let Some(database) = servers::database().await else { return };
    let home = home(&one, &database);
    let yaml = std::fs::read_to_string(home.config()).expect("a file");
    std::fs::write(home.config(), format!("{yaml}budgets: {{ total: {{ day: 100 }} }}\n")).expect("a file");
    let process = home.start().await;
    one.always(hang());
    let url = format!("{}/v1/chat/completions", process.url);
    let post = client().post(url).header("x-request-id", "cut").json(&ask("hi")).send();
    let hanging = tokio::spawn(post);
    one.called(1).await;
    process.kill();
    let _ = hanging.await;
    let process = home.start().await;
    let row = process.get("/v1/requests/cut").await;
    assert_eq!((&row["status"], &row["error"]), (&json!("interrupted"), &json!("router_stopped")), "{row}");
    assert_eq!(total(&process).await, 1);
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d05_a_request_for_later_is_refused_while_the_database_is_gone_and_what_was_taken_in_is_done() {
    let one = upstream().await;
    let Some((home, proxy)) = behind_a_proxy(&one).await else { return };
    let process = home.start().await;
    let hand_in = async |id: &str| {
        let post = client().post(format!("{}/v1/chat/completions", process.url)).header("prefer", "respond-async");
        post.header("x-request-id", id).json(&ask("hi")).send().await.expect("an answer")
    };
    one.always(hang());
    assert_eq!(hand_in("held").await.status(), 202);
    one.called(1).await;
    for reach in [Reach::BlackHole, Reach::Refuse] {
        proxy.reach(reach).await;
        let began = Instant::now();
        let refused = hand_in("refused").await;
        assert!(began.elapsed() < Duration::from_secs(5), "{reach:?}: {:?}", began.elapsed());
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
        assert_eq!(refused.json::<Value>().await.expect("json")["error"]["code"], "queue_unavailable");
    }
    one.always(chat("done"));
    proxy.reach(Reach::Reset).await;
    proxy.set(Weather::default()).await;
    until("it is taken in again", async || hand_in("after").await.status() == 202).await;
    let cancel = client().post(format!("{}/v1/requests/held/cancel", process.url)).send().await.expect("an answer");
    assert_eq!(cancel.status(), 200, "nobody has forgotten it");
    until("it is done", async || process.get("/v1/requests/after").await["status"] == "completed").await;
    assert_eq!(process.get("/v1/requests/held").await["status"], "cancelled");
    assert_eq!(process.stop().await, Some(0));
}
