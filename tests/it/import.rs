//! LiteLLM's configuration said in our words: accepted by `check`, without a secret, and with every field accounted for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::support::app::ask;
use crate::support::upstream::status;
use crate::support::{app, upstream};

const FIXTURES: [&str; 6] = ["simple", "balanced", "clouds", "everything", "served", "loose"];

/// A service account's key in shape only.
const ACCOUNT: &str = r#"{"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key": "@KEY@", "token_uri": "https://oauth2.googleapis.com/token"}"#;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/import/litellm").join(format!("{name}.yaml"))
}

fn stepwell(directory: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stepwell"));
    command.env_clear().env("HOME", directory).current_dir(directory).args(arguments).envs(env.iter().copied());
    command.output().expect("output")
}

fn import(directory: &Path, file: &Path) -> Value {
    let file = file.to_str().expect("text");
    let output = stepwell(directory, &["import", "litellm", file, "-o", "providers.yaml", "--json"], &[]);
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}

/// All paths of a file's leaves, as an account writes them, by a reader of our own.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| leaves(item, &format!("{path}[{index}]"), found));
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_field_of_every_file_is_accounted_for_and_no_secret_is_copied() {
    for name in FIXTURES {
        let directory = tempfile::tempdir().expect("a directory");
        let report = import(directory.path(), &fixture(name));
        let text = std::fs::read_to_string(fixture(name)).expect("a file");
        let value: Value = serde_saphyr::from_str(&text).expect("yaml");
        let mut wanted = BTreeSet::new();
        leaves(&value, "", &mut wanted);
        let notes = report["notes"].as_array().expect("a list");
        for leaf in wanted {
            let spoken_for = notes.iter().any(|note| {
                let field = note["field"].as_str().expect("text");
                let leaf = leaf.replace('\n', "\u{b7}");
                let rest = leaf.strip_prefix(field);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            assert!(spoken_for, "{name}: nobody speaks for {leaf}\n{report:#}");
        }
        for note in notes {
            let line = note["line"].as_u64().expect("a line") as usize;
            let key = note["field"].as_str().expect("text").rsplit('.').next().unwrap_or_default();
            let key = key.split(['[', '\u{b7}']).next().unwrap_or_default();
            let is_here = note["file"].as_str().is_some_and(|file| file.ends_with(&format!("{name}.yaml")));
            let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            assert!(!is_here || line > 0 && (shown.contains(key) || shown.trim_start().starts_with('-')), "{note}");
            assert!(note["verdict"] == "exact" || note["reason"] != "", "what differs has a reason: {note}");
        }
        let written = std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file");
        for secret in [
            "sk-ant-literal",
            "sk-master-literal",
            "platform-secret-value",
            "pk-lf-literal",
            "sk-literal-for",
            "pass-word-literal",
        ] {
            assert!(!written.contains(secret) && !report.to_string().contains(secret), "{name}: {secret}");
        }
    }
}

#[test]
fn check_accepts_what_was_written_once_the_variables_are_set() {
    let key = include_str!("support/throwaway_key.pem").replace('\n', "\\n");
    for name in FIXTURES {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("key.json"), ACCOUNT.replace("@KEY@", &key)).expect("a file");
        let source = directory.path().join("config.yaml");
        let text = std::fs::read_to_string(fixture(name)).expect("a file");
        let text = text.replace("{0}", "http://127.0.0.1:1/v1").replace("{1}", "http://127.0.0.1:2/v1");
        std::fs::write(&source, text).expect("a file");
        let beside = fixture("everything.models");
        std::fs::copy(beside, directory.path().join("everything.models.yaml")).expect("a file");
        let report = import(directory.path(), &source);
        let unset = stepwell(directory.path(), &["check"], &[]);
        let variables = report["variables"].as_object().expect("a map");
        let env: Vec<(&str, &str)> = variables
            .keys()
            .map(|name| (name.as_str(), if name.ends_with("_URL") { "https://example.com/v1" } else { "a-value" }))
            .collect();
        assert_eq!(
            unset.status.success(),
            env.is_empty(),
            "{name}: a missing variable is a problem, never an empty key"
        );
        let checked = stepwell(directory.path(), &["check"], &env);
        let written = std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file");
        assert!(checked.status.success(), "{name}: {}\n{written}", String::from_utf8_lossy(&checked.stderr));
    }
}

fn verdict<'a>(report: &'a Value, field: &str) -> (&'a str, &'a str) {
    let notes = report["notes"].as_array().expect("a list");
    let note = notes.iter().find(|note| note["field"] == field).unwrap_or_else(|| panic!("{field} in {report:#}"));
    (note["verdict"].as_str().expect("text"), note["reason"].as_str().expect("text"))
}

#[test]
fn the_account_says_what_is_exact_what_changed_and_what_needs_a_look() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = import(directory.path(), &fixture("balanced"));
    for (field, wanted) in [
        ("model_list[0].litellm_params.model", "exact"),
        ("model_list[0].litellm_params.weight", "changed"),
        ("model_list[0].litellm_params.rpm", "changed"),
        ("model_list[3].litellm_params.tags", "needs_a_look"),
        ("router_settings.fallbacks[0].gpt-4o", "changed"),
        ("router_settings.fallbacks[1].claude-sonnet", "exact"),
        ("router_settings.context_window_fallbacks[0].gpt-4o-mini", "changed"),
        ("router_settings.content_policy_fallbacks", "needs_a_look"),
        ("router_settings.model_group_alias.gpt-4", "exact"),
        ("router_settings.timeout", "changed"),
        ("router_settings.redis_password", "needs_a_look"),
    ] {
        assert_eq!(verdict(&report, field).0, wanted, "{field}");
    }
    let other = tempfile::tempdir().expect("a directory");
    let report = import(other.path(), &fixture("everything"));
    assert!(verdict(&report, "litellm_settings.fallbacks[1].b").1.contains("take over for each other"));
    assert!(verdict(&report, "litellm_settings.fallbacks[2].a").1.contains("`nobody`"));
    assert_eq!(verdict(&report, "model_list[3].litellm_params.my_own_field").0, "needs_a_look");
    assert_eq!(verdict(&report, "router_settings.some_new_setting.deep[0]").0, "needs_a_look");
}

#[test]
fn what_cannot_be_read_says_where() {
    let directory = tempfile::tempdir().expect("a directory");
    for (text, wanted) in [
        ("model_list:\n  - model_name: [\n", "config.yaml:"),
        ("- a\n- b\n", "config.yaml:1: it is no map"),
        ("router_settings: {}\n", "config.yaml:1: there is no model_list"),
        ("include: [gone.yaml]\nmodel_list: []\n", "gone.yaml:1: cannot be read"),
    ] {
        std::fs::write(directory.path().join("config.yaml"), text).expect("a file");
        let output = stepwell(directory.path(), &["import", "litellm", "config.yaml"], &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(output.stdout.is_empty());
    }
    let file = fixture("simple");
    let arguments = ["import", "litellm", file.to_str().expect("text"), "-o", "config.yaml"];
    assert_eq!(stepwell(directory.path(), &arguments, &[]).status.code(), Some(1), "no file is written over");
}

#[tokio::test]
async fn an_imported_group_answers_under_its_names_and_its_fallback_takes_over() {
    let (one, two) = (upstream().await, upstream().await);
    let directory = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(fixture("served")).expect("a file");
    let source = directory.path().join("config.yaml");
    std::fs::write(&source, text.replace("{0}", &one.url).replace("{1}", &two.url)).expect("a file");
    let report = import(directory.path(), &source);
    let mut yaml = std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file");
    for name in report["variables"].as_object().expect("a map").keys() {
        yaml = yaml.replace(&format!("${{{name}}}"), "a-key");
    }
    let app = app(&yaml, &[]).await;
    for (name, trouble, answered) in [
        ("chat", false, "first-model"),
        ("assistant", true, "second-model"),
        ("chat", false, "first-model"),
        ("backup", false, "second-model"),
    ] {
        if trouble {
            one.then(status(500));
        }
        let mut body = ask(name);
        body["model"] = name.into();
        let (code, headers, body) = app.chat(&body).await;
        assert_eq!((code, &headers["x-stepwell-model"]), (200, &answered.parse().expect("a value")), "{name}: {body}");
    }
    assert_eq!((one.count(), two.count()), (3, 2));
}

#[tokio::test]
async fn two_groups_that_take_over_for_each_other_each_answer_first_under_their_own_name() {
    let (one, two) = (upstream().await, upstream().await);
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("config.yaml");
    let entry = |name: &str, url: &str| {
        format!(
            "  - {{ model_name: {name}, litellm_params: {{ model: openai/{name}-model, api_base: '{url}', api_key: none }} }}\n"
        )
    };
    let settings = "router_settings: { fallbacks: [{first: [second]}, {second: [first]}] }\n";
    let text = format!("model_list:\n{}{}{settings}", entry("first", &one.url), entry("second", &two.url));
    std::fs::write(&source, text).expect("a file");
    import(directory.path(), &source);
    let app = app(&std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file"), &[]).await;
    for (name, broken, other) in [("first", &one, "second"), ("second", &two, "first")] {
        let mut body = ask(name);
        body["model"] = name.into();
        let answered = async || {
            let (_, headers, _) = app.chat(&body).await;
            headers["x-stepwell-model"].to_str().expect("text").to_owned()
        };
        assert_eq!(answered().await, format!("{name}-model"));
        broken.then(status(500));
        assert_eq!(answered().await, format!("{other}-model"));
    }
}

#[test]
fn a_secret_in_plain_text_gets_a_variable_that_means_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let keys = ["sk-one", "os.environ/OPENAI_API_KEY_1", "sk-two", "sk-one", ""];
    let entries = keys.iter().enumerate().map(|(index, key)| {
        let key = if key.is_empty() { String::new() } else { format!(", api_key: {key}") };
        format!("  - {{ model_name: m{index}, litellm_params: {{ model: openai/gpt-4o{key} }} }}\n")
    });
    let source = directory.path().join("config.yaml");
    std::fs::write(&source, format!("model_list:\n{}", entries.collect::<String>())).expect("a file");
    import(directory.path(), &source);
    let written = std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file");
    let used: Vec<&str> = written.lines().filter_map(|line| line.trim().strip_prefix("api_key: ")).collect();
    let wanted =
        ["\"${OPENAI_API_KEY_2}\"", "\"${OPENAI_API_KEY_1}\"", "\"${OPENAI_API_KEY_3}\"", "\"${OPENAI_API_KEY}\""];
    assert_eq!(used, wanted, "{written}");
}
