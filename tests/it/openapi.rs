//! The document says what is served, and the page that shows it loads nothing from outside.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{App, app};

async fn started() -> (App, Value) {
    let app = app("providers: { demo: {} }", &[]).await;
    let document = app.get("/openapi.json").await;
    (app, document)
}

/// All operations: path, method, description.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            found.push((path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    found
}

/// Every `$ref` in a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(name)) = members.get("$ref") {
                found.insert(name.clone());
            }
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_described_path_is_served_with_its_method_and_no_other() {
    let (app, document) = started().await;
    let operations = operations(&document);
    assert!(operations.len() >= 18, "{}", operations.len());
    for (path, method, operation) in &operations {
        let url = format!("{}{}", app.url, path.replace("{id}", "small"));
        let ask = |method: &str| app.client.request(method.parse().expect("a method"), &url).body("{}").send();
        let answer = ask(method).await.expect("an answer");
        let status = answer.status().as_u16();
        assert!(operation["responses"].get(status.to_string()).is_some(), "{method} {path} answers {status}");
        // What happens is streamed without an end.
        let text = if path == "/v1/events" { String::new() } else { answer.text().await.expect("text") };
        assert!(!text.contains("unknown_url"), "{method} {path}: {text}");
        assert_eq!(ask("PUT").await.expect("an answer").status(), 405, "{path}");
    }
}

/// A path can be served by [`stepwell::api::openapi::Served`] alone, which describes it in the same breath.
#[test]
fn no_path_is_served_that_is_not_described() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let mut routing = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let text = std::fs::read_to_string(&path).expect("a file");
            // Who has no router at hand routes something else.
            if !text.contains("Router") {
                continue;
            }
            let serves = [".route(", ".route_service(", ".nest(", ".nest_service(", ".merge("];
            let count: usize = serves.iter().map(|word| text.matches(word).count()).sum();
            routing.extend((count > 0).then(|| (path.file_name().expect("a name").to_owned(), count)));
        }
    }
    assert_eq!(routing, [("openapi.rs".into(), 3)], "`Served` routes, and nobody else");
}

#[tokio::test]
async fn the_document_is_whole() {
    let (_app, document) = started().await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let operations = operations(&document);
    let ids: BTreeSet<_> = operations.iter().map(|(_, _, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(ids.len(), operations.len(), "ids are there and differ");
    for (path, method, operation) in &operations {
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 10), "{method} {path} says what it does");
        let makes = path == "/v1/keys" && method == "POST";
        let good = if makes {
            "201"
        } else if path == "/v1/sagas" {
            "202"
        } else {
            "200"
        };
        assert!(operation["responses"][good].is_object(), "{method} {path}");
        let is_open = ["/health", "/docs", "/openapi.json"].iter().any(|open| path.starts_with(open));
        assert_eq!(operation["security"].is_null(), is_open, "{method} {path}");
    }
}

#[tokio::test]
async fn every_example_in_the_document_works() {
    let (app, document) = started().await;
    for (path, _, operation) in operations(&document) {
        if path.starts_with("/v1/keys") || path == "/v1/batches" {
            continue; // makes keys, after which one is needed; needs a file
        }
        let Some(reference) = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str() else {
            continue;
        };
        let example = &document.pointer(&reference[1..]).expect("a shape")["example"];
        assert!(example.is_object(), "{path} has an example");
        let answer = app.post(&path, example).await;
        let good = if path == "/v1/sagas" { 202 } else { 200 };
        assert_eq!(answer.status(), good, "{path}: {}", answer.text().await.expect("text"));
        if document.pointer(&reference[1..]).expect("a shape")["properties"].get("stream").is_some()
            && path != "/v1/route"
        {
            let mut streamed = example.clone();
            streamed["stream"] = json!(true);
            let answer = app.post(&path, &streamed).await;
            assert_eq!(answer.headers()["content-type"], "text/event-stream", "{path}");
        }
    }
}

#[tokio::test]
async fn the_page_loads_nothing_from_outside_and_stands_in_no_frame() {
    let (app, _) = started().await;
    let get = async |path: &str| app.client.get(format!("{}{path}", app.url)).send().await.expect("an answer");
    let page = get("/docs").await;
    for (name, said) in [
        ("content-type", "text/html"),
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert!(page.headers()[name].to_str().expect("text").contains(said), "{name}");
    }
    assert!(!page.headers()["content-security-policy"].to_str().expect("text").contains("unsafe"));
    let html = page.text().await.expect("text");
    let mut parts = vec![html.clone()];
    for attribute in ["src=\"", "href=\""] {
        for link in html.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
            if link.starts_with('/') {
                let part = get(link).await;
                assert_eq!(part.status(), 200, "{link}");
                parts.push(part.text().await.expect("text"));
            } else {
                assert!(link.starts_with('#') || link.starts_with("data:"), "{link}");
            }
        }
    }
    for part in &parts[..3] {
        for outside in
            ["http://", "https://", "url(", "@import", "eval(", "localStorage", "innerHTML", " style=", "onclick="]
        {
            assert!(!part.contains(outside), "{outside} in the page");
        }
    }
}
