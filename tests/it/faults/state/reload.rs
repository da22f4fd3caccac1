//! Configurations that come, go and break while the server runs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ONE, home};
use crate::support::app::ask;
use crate::support::process::{Home, Process, client, until};
use crate::support::upstream;
use crate::support::upstream::{Upstream, chat};

async fn error(process: &Process) -> Option<String> {
    process.get("/health").await["configuration"]["error"].as_str().map(str::to_owned)
}

async fn version(process: &Process) -> u64 {
    process.get("/health").await["configuration"]["version"].as_u64().expect("a version")
}

async fn says(process: &Process, id: &str) -> String {
    let (status, body) = process.chat(id, &ask("hi")).await;
    assert_eq!(status, 200, "{body}");
    body["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
}

fn named(home: &Home, text: &str, one: &Upstream) {
    std::fs::write(home.config(), text.replace("{0}", &one.url)).expect("a file");
}

#[tokio::test]
async fn d01_whatever_is_wrong_with_a_new_file_the_old_rules_stay_and_the_reason_shows() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    let good = std::fs::read_to_string(home.config()).expect("a file");
    for (what, text, told) in [
        ("broken YAML", "providers:\n  one: [ {\n", vec!["providers.yaml:"]),
        (
            "an unknown field",
            "providers:\n  one: { format: openai, base_url: 'http://127.0.0.1:1/v1', timeout: 3s, models: [ m ] }\n",
            vec![":2:61: providers.one.timeout", "unknown field", "did you mean `timeouts`"],
        ),
        (
            "a missing variable",
            "providers:\n  openai:\n    api_key: ${NO_SUCH_VARIABLE}\n",
            vec![":3:14: providers.openai.api_key", "NO_SUCH_VARIABLE"],
        ),
        (
            "a missing file",
            "providers:\n  openai:\n    api_key: ${file:no-such-file}\n",
            vec![":3:14: providers.openai.api_key", "no-such-file"],
        ),
        ("a file cut short", &good[..good.len() / 2], vec!["providers.yaml"]),
        ("nothing", "", vec!["the file is empty"]),
        ("no text", "\u{0}\u{1}", vec!["providers.yaml"]),
    ] {
        std::fs::write(home.config(), text).expect("a file");
        let mut shown = None;
        until(what, async || {
            shown = error(&process).await;
            shown.as_ref().is_some_and(|error| told.iter().all(|part| error.contains(part)))
        })
        .await;
        assert_eq!(says(&process, "under-old-rules").await, "hello from upstream", "{what}");
        let health = process.get("/health").await;
        assert_eq!(
            (health["status"].as_str(), health["configuration"]["version"].as_u64()),
            (Some("degraded"), Some(1))
        );
        assert!(process.metrics().await.contains("stepwell_config_reload_failed 1"), "{what}");
        // A start with it fails, and says the same.
        let other = Home::new(text);
        assert_eq!(other.fails().await, Some(3), "{what}");
        assert!(told.iter().all(|part| other.errors().contains(part)), "{what}: {}", other.errors());
    }
    std::fs::remove_file(home.config()).expect("a file");
    until("deletion shows", async || error(&process).await.is_some_and(|error| error.contains("cannot be read"))).await;
    assert_eq!(says(&process, "without-a-file").await, "hello from upstream");
    std::fs::write(home.config(), &good).expect("a file");
    until("the file is back", async || error(&process).await.is_none()).await;
    assert!(process.metrics().await.contains("stepwell_config_reload_failed 0"));
}

#[tokio::test]
async fn d01_a_file_that_only_the_new_configuration_names_is_waited_for() {
    let one = upstream().await;
    let home = home(ONE, &one);
    let process = home.start().await;
    let secret = "api_key: '${file:late-secret}', format: openai";
    named(&home, &ONE.replace("format: openai", secret), &one);
    until("it is missed", async || error(&process).await.is_some_and(|error| error.contains("late-secret"))).await;
    std::fs::write(home.path().join("late-secret"), "sk-late-and-secret\n").expect("a file");
    until("it is found", async || error(&process).await.is_none()).await;
    says(&process, "with-the-secret").await;
    assert!(one.calls().last().expect("a call").head.contains("bearer sk-late-and-secret"));
    assert!(!home.errors().contains("sk-late-and-secret"));
}

fn link(target: &Path, at: &Path) {
    let temporary = at.with_file_name("link-on-its-way");
    std::os::unix::fs::symlink(target, &temporary).expect("a link");
    std::fs::rename(&temporary, at).expect("renamed");
}

#[tokio::test]
async fn d02_every_way_to_replace_a_file_is_seen_and_the_log_says_what_changed() {
    let (one, two) = (upstream().await, upstream().await);
    two.always(chat("from two"));
    let mut home = home(ONE, &one);
    home.env.push(("STEPWELL_UNUSED".into(), "x".into()));
    // As Kubernetes mounts a ConfigMap: the file is a link into a directory that is a link.
    let volume = home.path().join("volume");
    for (name, upstream) in [("first", &one), ("second", &two)] {
        std::fs::create_dir_all(volume.join(name)).expect("a directory");
        std::fs::write(volume.join(name).join("providers.yaml"), ONE.replace("{0}", &upstream.url)).expect("a file");
    }
    link(Path::new("first"), &volume.join("..data"));
    std::fs::remove_file(home.config()).expect("a file");
    link(&volume.join("..data/providers.yaml"), &home.config());
    let process = home.start().await;
    assert_eq!(says(&process, "first").await, "hello from upstream");
    link(Path::new("second"), &volume.join("..data"));
    until("the link is seen through", async || says(&process, "second").await == "from two").await;
    // As editors and deployment tools do.
    let beside = home.path().join("beside");
    let text =
        ONE.replace("{0}", &one.url).replace("{ id: m1 }", "{ id: m1, price: { input: 3, output: 4 } }, { id: m2 }");
    std::fs::write(&beside, format!("{text}routing: {{ strategy: priority }}\n")).expect("a file");
    std::fs::rename(&beside, home.config()).expect("renamed");
    until("the rename is seen", async || version(&process).await == 3).await;
    for part in ["changed sections routing", "changed providers one", "added models one/m2", "changed models one/m1"] {
        until(part, async || home.errors().contains(part)).await;
    }
    // A hundred writes, the last of which counts.
    for index in 0..100 {
        let text = ONE.replace("{0}", &two.url);
        std::fs::write(home.config(), format!("{text}# {index}\n")).expect("a file");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    until("the last write counts", async || says(&process, "burst").await == "from two").await;
    assert!(version(&process).await <= 6, "a burst is a few reloads at most");
    assert_eq!(error(&process).await, None);
}

#[tokio::test]
async fn d02_no_request_and_no_stream_is_lost_to_twenty_reloads_under_load() {
    let (one, two) = (upstream().await, upstream().await);
    let words = "a long answer that began under the old rules";
    one.always(chat(words).paced(Duration::from_millis(20)));
    two.always(chat(words).paced(Duration::from_millis(20)));
    let home = home(ONE, &one);
    let process = home.start().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let url = format!("{}/v1/chat/completions", process.url);
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let (url, stop) = (url.clone(), stop.clone());
            tokio::spawn(async move {
                let client = client();
                let mut outcomes = Vec::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut body = ask("hi");
                    body["stream"] = json!(caller % 2 == 0);
                    let response = client.post(&url).json(&body).send().await.expect("an answer");
                    let status = response.status().as_u16();
                    let text = response.text().await.expect("the whole answer");
                    outcomes.push(status == 200 && (caller % 2 == 1 || text.ends_with("data: [DONE]\n\n")));
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcomes
            })
        })
        .collect();
    for reload in 0..20 {
        named(&home, &format!("{ONE}# {reload}\n"), if reload % 2 == 0 { &two } else { &one });
        let before = version(&process).await;
        process.signal(rustix::process::Signal::HUP);
        until("the reload", async || version(&process).await > before).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.extend(caller.await.expect("no panic"));
    }
    assert!(outcomes.len() >= 100, "{} requests", outcomes.len());
    assert!(
        outcomes.iter().all(|whole| *whole),
        "{} of {} lost",
        outcomes.iter().filter(|whole| !**whole).count(),
        outcomes.len()
    );
    let health: Value = process.get("/health").await;
    assert!(health["configuration"]["version"].as_u64() >= Some(21), "{health}");
}
