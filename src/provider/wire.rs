//! Golden cases: what a chat request looks like in another wire format.
//!
//! `fixtures/wire/<format>/<case>/` holds a request and what must go out, written by hand from the providers' API
//! references. `expected.json` is `{url, headers, body, warnings}` or `{refused}`, the member that cannot be sent. A
//! warning is matched by its beginning.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::adapter_for;
use crate::catalog::{Format, Provider, Shelf, Target, presets};
use crate::chat::Request;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn cases(format: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire").join(format);
    let mut cases: Vec<PathBuf> =
        folder.read_dir().expect("the format has cases").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    cases
}

fn target(format: &str, preset: &str, model: &str) -> Target {
    let preset = presets::find(preset).expect("a preset");
    let base_url = match preset.name {
        "bedrock" => "https://bedrock-runtime.us-east-1.amazonaws.com",
        "vertex" => "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1",
        _ => preset.base_url,
    };
    let mut provider = Provider::new(preset.name, preset.format, base_url, preset.auth);
    provider.preset = Some(preset.name);
    // The one preset that speaks two formats.
    if format == "ollama" {
        provider.format = Format::Ollama;
    }
    provider.api_key = Some("test-key".into());
    let model = Shelf::open(Some(preset), jiff::civil::date(2026, 9, 1)).describe(model);
    Target::new(&Arc::new(provider), model)
}

/// All the differences between what goes out and what is expected; empty if there are none.
fn differences(format: &str, preset: &str, case: &Path) -> Vec<String> {
    let request = Request::parse(Bytes::from(read(&case.join("request.json")))).expect("a valid request");
    let expected: Value = serde_json::from_str(&read(&case.join("expected.json"))).expect("JSON");
    let target = target(format, preset, &request.model);
    let mut found = Vec::new();
    let mut differ = |what: &str, got: &dyn std::fmt::Display, want: &dyn std::fmt::Display| {
        found.push(format!("{}: {what}\n   got {got}\n  want {want}", case.display()));
    };
    match adapter_for(&target).encode(&request, &target, "") {
        Err(error) => {
            if expected["refused"] != error.param.as_str() {
                differ("refused", &error, &expected["refused"]);
            }
        }
        Ok(outgoing) => {
            let body: Value = serde_json::from_slice(&outgoing.body).expect("the body is JSON");
            if body != expected["body"] {
                differ("body", &body, &expected["body"]);
            }
            if expected["url"] != outgoing.url.as_str() {
                differ("url", &outgoing.url, &expected["url"]);
            }
            for (name, value) in expected["headers"].as_object().into_iter().flatten() {
                let got = outgoing.headers.get(name).and_then(|value| value.to_str().ok());
                if got != value.as_str() {
                    differ(name, &format!("{got:?}"), value);
                }
            }
            let wanted: Vec<&str> =
                expected["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let matches = wanted.iter().all(|start| outgoing.warnings.iter().any(|warning| warning.starts_with(start)));
            if !matches || wanted.len() != outgoing.warnings.len() {
                differ("warnings", &outgoing.warnings.join("; "), &wanted.join("; "));
            }
        }
    }
    found
}

fn check(format: &str, preset: &str) {
    let cases = cases(format);
    assert!(!cases.is_empty());
    let found: Vec<String> = cases.iter().flat_map(|case| differences(format, preset, case)).collect();
    assert!(found.is_empty(), "{} of {} cases differ\n{}", found.len(), cases.len(), found.join("\n"));
}

#[test]
fn requests_to_anthropic_are_what_its_reference_asks_for() {
    check("anthropic", "anthropic");
}

#[test]
fn requests_to_gemini_are_what_its_reference_asks_for() {
    check("gemini", "gemini");
}

#[test]
fn requests_to_bedrock_are_what_its_reference_asks_for() {
    check("bedrock", "bedrock");
}

#[test]
fn requests_to_vertex_are_what_its_reference_asks_for() {
    check("vertex", "vertex");
}

#[test]
fn requests_to_openai_keep_the_callers_bytes() {
    check("openai", "openai");
}

#[test]
fn requests_to_mistral_have_ids_that_it_takes() {
    check("mistral", "mistral");
}

#[test]
fn requests_to_cohere_are_what_its_reference_asks_for() {
    check("cohere", "cohere");
}

#[test]
fn requests_to_ollama_are_what_its_reference_asks_for() {
    check("ollama", "ollama");
}
