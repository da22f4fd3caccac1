//! `stepwell chaos`: failover on one's own configuration, proved without a key.

use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

fn chaos(yaml: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("providers.yaml");
    std::fs::write(&file, yaml).expect("a file");
    let mut command = Command::cargo_bin("stepwell").expect("the binary");
    command.env_clear().env("HOME", directory.path()).arg("chaos").arg("--config").arg(&file).args(arguments);
    command.output().expect("it runs")
}

#[test]
fn each_provider_breaks_in_each_way_and_no_caller_is_lied_to() {
    let output = chaos(
        "
providers:
  openai: { api_key: '${OPENAI_API_KEY}', models: [ gpt-5-mini ] }
  claude: { format: anthropic, base_url: https://example.invalid, api_key: '${KEY}', priority: 2, models: [ claude-sonnet-4-5 ] }
timeouts: { first_token: 300ms }
",
        &["--requests", "6", "--json"],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ok"], true);
    let lines = report["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 2 * 8);
    for line in lines {
        let count = |name: &str| line[name].as_u64().expect("a count");
        assert_eq!((count("lied"), count("errors"), count("answered") + count("cut")), (0, 0, 6), "{line}");
        let cuts = line["fault"] == "cut short";
        assert_eq!(cuts, count("cut") > 0, "only what was delivered cannot be taken over: {line}");
        let other = if line["provider"] == "openai" { "claude" } else { "openai" };
        assert!(line["by"][other].is_u64(), "the other one takes over: {line}");
    }
}

#[test]
fn with_one_provider_the_errors_are_told() {
    let yaml = "
providers:
  only: { format: openai, base_url: 'http://127.0.0.1:1/v1', models: [ m ] }
timeouts: { first_token: 300ms }
retry: { same_target: 0 }
";
    let output = chaos(yaml, &["--requests", "2"]);
    assert!(output.status.success(), "nobody could have done better: {}", String::from_utf8_lossy(&output.stderr));
    let (table, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("cut short") && table.contains("breaker"), "{table}");
    assert!(notes.contains("nobody could take over"), "{notes}");
}

#[test]
fn a_bad_configuration_is_told_before_anything_runs() {
    let output = chaos("providers: { openai: { api_kee: x } }", &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("api_key"));
}
