//! Real client libraries against the real router: their scripts lie in `tests/clients`, `scripts/install-clients` installs
//! them. A client that is not there is skipped, loudly.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::batching::batching;
use crate::support::upstream::{hang, model, status};
use crate::support::{App, Upstream, app, upstream};

/// How long one script may take.
const BOUND: Duration = Duration::from_secs(60);

/// One provider for each scenario, so that one's failures do not close another's breaker.
const NAMES: [&str; 9] = ["good", "r400", "r401", "r404", "r422", "r429", "r500", "hang", "cut"];

struct Stage {
    app: App,
    _upstreams: Vec<Upstream>,
}

async fn stage() -> Stage {
    let mut yaml = "cache: { enabled: false }\ntimeouts: { first_token: 2s }\nproviders:\n".to_owned();
    let mut upstreams = Vec::new();
    for (index, name) in NAMES.iter().enumerate() {
        let one = upstream().await;
        one.always(match *name {
            "good" => model("hello from the model"),
            "r429" => status(429).header("retry-after", "7"),
            "hang" => hang(),
            "cut" => model("hello from the model").cut(),
            failing => status(failing[1..].parse().expect("a status")),
        });
        upstreams.push(one);
        yaml.push_str(&format!("  {name}: {{ format: openai, base_url: '{{{index}}}', models: [ {{ id: m }} ] }}\n"));
    }
    let app = app(&yaml, &upstreams.iter().collect::<Vec<_>>()).await;
    Stage { app, _upstreams: upstreams }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn installed(client: &str) -> Option<PathBuf> {
    let home = root().join("target/clients");
    if home.join(format!("{client}.done")).exists() {
        return Some(home.join(client));
    }
    // Not `eprintln!`, which the harness keeps to itself when a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED {client}: not installed, run scripts/install-clients");
    None
}

/// Runs a script against the router to its end; its output is shown if it fails.
async fn run(app: &App, mut command: tokio::process::Command) {
    let proxies = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    for name in proxies.into_iter().chain(["OPENAI_API_KEY", "OPENAI_BASE_URL", "PYTHONPATH", "NODE_OPTIONS"]) {
        command.env_remove(name);
    }
    let home = tempfile::tempdir().expect("a directory");
    command
        .env("BASE_URL", format!("{}/v1", app.url))
        .env("HOME", home.path())
        .env("OPENAI_API_KEY", "sk-any")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1")
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(BOUND, command.output()).await;
    let output =
        output.unwrap_or_else(|_| panic!("{command:?} takes longer than {BOUND:?}")).expect("the client starts");
    let (said, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ends with {}\n{said}\n{warned}", output.status);
    assert!(said.contains("ok "), "{command:?} checks something\n{said}\n{warned}");
}

async fn python(app: &App, home: &Path, script: &str) {
    run(app, script_of(home, script)).await;
}

fn script_of(home: &Path, script: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(home.join("bin/python"));
    command.arg("-X").arg("faulthandler").arg(root().join("tests/clients/python").join(script));
    command
}

/// Node looks for modules beside the script, so that the scripts are copied to where the modules are.
async fn node(app: &App, home: &Path, script: &str) {
    let scripts = tempfile::tempdir_in(home).expect("a directory");
    for name in ["check.mjs", script] {
        std::fs::copy(root().join("tests/clients/node").join(name), scripts.path().join(name)).expect("a script");
    }
    let mut command = tokio::process::Command::new("node");
    command.arg(scripts.path().join(script));
    run(app, command).await;
}

macro_rules! clients {
    ($($test:ident: $run:ident($client:literal, $script:literal);)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let Some(home) = installed($client) else { return };
            let stage = stage().await;
            $run(&stage.app, &home, $script).await;
        }
    )*};
}

clients! {
    openai_python: python("openai", "openai_sync.py");
    openai_python_async: python("openai", "openai_async.py");
    openai_python_dialects: python("openai", "openai_dialects.py");
    anthropic_python: python("anthropic", "anthropic_sync.py");
    langchain: python("langchain-openai", "langchain_chat.py");
    pydantic_ai: python("pydantic-ai-slim", "pydantic_ai_agent.py");
    litellm: python("litellm", "litellm_sdk.py");
    instructor: python("instructor", "instructor_model.py");
    openai_agents: python("openai-agents", "agents_sdk.py");
    llm: python("llm", "llm_tool.py");
    openai_node: node("node", "openai.mjs");
    vercel_ai: node("node", "ai_sdk.mjs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_on_the_demo() {
    let Some(home) = installed("openai") else { return };
    let app = app("providers: { demo: {} }", &[]).await;
    python(&app, &home, "openai_demo.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_with_batches_and_in_the_background() {
    let Some(home) = installed("openai") else { return };
    let app = app("providers: { demo: {} }", &[]).await;
    python(&app, &home, "openai_batches.py").await;
}

/// The same script over providers that answer batches in batches of their own: it sees no difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_with_batches_that_providers_answer_themselves() {
    let Some(home) = installed("openai") else { return };
    for format in ["openai", "anthropic"] {
        let one = batching().await;
        let yaml = format!(
            "batches: {{ poll: 1s }}\nproviders: {{ one: {{ format: {format}, base_url: '{}', models: [ {{ id: m, price: {{ input: 1, \
             output: 1 }} }} ], batch: {{ discount: 50% }} }} }}",
            one.url
        );
        let app = app(&yaml, &[]).await;
        python(&app, &home, "openai_batches.py").await;
        let made = one.made();
        assert_eq!((made.len(), made[0].lines.len()), (1, 4), "{format}: the line for nobody's model is no provider's");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openai_python_with_keys_of_all_kinds() {
    let Some(home) = installed("openai") else { return };
    let upstreams = [upstream().await, upstream().await];
    upstreams.iter().for_each(|one| {
        one.always(model("hello from the model"));
    });
    let yaml = "
cache: { enabled: false }
auth: { required: always }
providers:
  good: { format: openai, base_url: '{0}', models: [ { id: m, price: { input: 0, output: 100000 } } ] }
  other: { format: openai, base_url: '{1}', models: [ { id: m, price: free } ] }
";
    let app = app(yaml, &[&upstreams[0], &upstreams[1]]).await;
    let mut keys = serde_json::Map::new();
    for (name, arguments) in [
        ("good", vec![]),
        ("revoked", vec![]),
        ("expired", vec!["--expires", "300ms"]),
        ("narrow", vec!["--provider", "other"]),
        ("limited", vec!["--limit", "requests_per_minute=1"]),
        ("poor", vec!["--limit", "budget.month=0.7"]),
        ("last", vec![]),
    ] {
        let output = app.command(&[&["keys", "create", "--json", "--name", name], &arguments[..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let key: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
        keys.insert(name.to_owned(), key["key"].clone());
    }
    assert!(app.command(&["keys", "revoke", "revoked"]).status.success());
    let last = keys["last"].as_str().expect("a key").to_owned();
    let revoked = keys["revoked"].as_str().expect("a key").to_owned();
    let expired = keys["expired"].as_str().expect("a key").to_owned();
    let (app, last) = (&app, &last);
    crate::support::process::until("the keys are in force", async || {
        let [known, gone, over] = [(last, 200), (&revoked, 401), (&expired, 401)]
            .map(|(key, status)| async move { app.get_as(key, "/v1/models").await.0 == status });
        known.await && gone.await && over.await
    })
    .await;
    let mut command = script_of(&home, "openai_keys.py");
    command.env("KEYS", serde_json::Value::Object(keys).to_string());
    run(app, command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemathesis_finds_nothing() {
    let Some(home) = installed("schemathesis") else { return };
    // As many requests as possible: nobody has to wait for what models usually take.
    let model = |id| format!("{{ id: {id}, latency: {{ first_token: 1ms, tokens_per_second: 10000 }} }}");
    let models = ["small", "medium", "large"].map(model).join(", ");
    let app = app(&format!("providers: {{ demo: {{ models: [ {models} ] }} }}"), &[]).await;
    python(&app, &home, "schemathesis_run.py").await;
}
