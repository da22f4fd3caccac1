//! The command line: problems with their place, detection, templates, exit codes.

use assert_cmd::Command;

fn stepwell(directory: &std::path::Path) -> Command {
    let mut command = Command::cargo_bin("stepwell").expect("the binary");
    command.env_clear().env("HOME", directory).current_dir(directory);
    command
}

fn directory(yaml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("providers.yaml"), yaml).expect("a file");
    directory
}

#[test]
fn check_shows_every_problem_with_file_line_and_the_word_that_was_meant() {
    let directory = directory(
        "providers:\n  opnai: { api_key: x }\n  local: { format: openai, base_url: 'http://127.0.0.1:1/v1', timeout: 3s, models: [ { id: m } ] }\nrouting: { strategy: balancd }\nrollout: { stages: 2 }\n",
    );
    let output = stepwell(directory.path()).arg("check").output().expect("output");
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in [
        "providers.yaml:2:",
        "`openai`",
        "providers.yaml:3:",
        "`timeouts`",
        "providers.yaml:4:",
        "`balanced`",
        "providers.yaml:5:",
        "rollout",
        "^",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_server_does_not_start_with_a_bad_file() {
    let directory = directory("providers: { one: { format: openai } }\n");
    let output = stepwell(directory.path()).output().expect("output");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("base_url"));
}

#[test]
fn six_lines_suffice() {
    let directory = directory(
        "providers:\n  openai:\n    api_key: ${OPENAI_API_KEY}\n  anthropic:\n    api_key: ${ANTHROPIC_API_KEY}\nrouting: { strategy: cheapest }\n",
    );
    let check = |key: bool| {
        let mut command = stepwell(directory.path());
        if key {
            command.env("OPENAI_API_KEY", "sk-a").env("ANTHROPIC_API_KEY", "sk-b");
        }
        command.arg("check").output().expect("output")
    };
    assert!(check(true).status.success(), "{}", String::from_utf8_lossy(&check(true).stderr));
    let missing = check(false);
    assert_eq!(missing.status.code(), Some(3));
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        text.contains("OPENAI_API_KEY") && text.contains("ANTHROPIC_API_KEY") && text.contains("providers.yaml:3:"),
        "{text}"
    );
}

#[test]
fn route_decides_without_a_call_and_without_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = stepwell(directory.path())
        .args(["route", "Write a haiku", "--demo", "--json", "--hint", "strategy=cheapest"])
        .output()
        .expect("output");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let route: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!((route["task"].as_str(), route["candidates"][0]["model"].as_str()), (Some("creative"), Some("small")));
    let bad =
        stepwell(directory.path()).args(["route", "x", "--demo", "--hint", "budget=tiny"]).output().expect("output");
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn init_writes_a_file_that_checks_and_never_overwrites() {
    let directory = tempfile::tempdir().expect("a directory");
    let init = || {
        stepwell(directory.path()).env("GROQ_API_KEY", "gsk-x").args(["init", "--from-env"]).output().expect("output")
    };
    assert!(init().status.success());
    let text = std::fs::read_to_string(directory.path().join("providers.yaml")).expect("a file");
    assert!(text.contains("groq") && !text.contains("gsk-x"), "{text}");
    let check = stepwell(directory.path()).env("GROQ_API_KEY", "gsk-x").arg("check").output().expect("output");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert_eq!(init().status.code(), Some(1));
}

#[test]
fn usage_without_a_ledger_says_what_writes_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = stepwell(directory.path()).arg("usage").output().expect("output");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("stepwell serve"));
    assert_eq!(stepwell(directory.path()).args(["usage", "--nope"]).output().expect("output").status.code(), Some(2));
}

#[test]
fn bench_measures_the_router_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    let output =
        stepwell(directory.path()).args(["bench", "--concurrency", "2", "--duration", "1"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("plain, 2 connections") && table.contains("requests/s"), "{table}");
}

#[test]
fn what_is_shipped_for_deployment_is_a_sound_configuration() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let compose = std::fs::read_to_string(deploy.join("compose/providers.yaml")).expect("a file");
    let values = std::fs::read_to_string(deploy.join("helm/stepwell/values.yaml")).expect("a file");
    let values: serde_json::Value = serde_saphyr::from_str(&values).expect("YAML");
    for text in [compose, values["config"].to_string()] {
        let directory = directory(&text);
        let output = stepwell(directory.path())
            .arg("check")
            .env("STEPWELL_SECRET", "x".repeat(32))
            .env("POSTGRES_PASSWORD", "p")
            .env("STEPWELL_POSTGRES_URL", "postgres://stepwell:p@postgres/stepwell")
            .env("STEPWELL_REDIS_URL", "redis://redis")
            .output()
            .expect("output");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
