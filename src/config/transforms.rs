//! The section `transform` of a provider, a tier or a team. Refuses what the router itself decides with.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::reader::{Item, Section};
use super::tree::{Node, Value};
use crate::chat::{Request, destination};
use crate::transform::{Body, Changes, Headers, Path, Transform};

/// Headers that belong to the connection, or to the one who holds the key.
const CONNECTION: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "x-amz-security-token",
];

/// Members that say where a request goes, what is asked, and how it is answered.
const DECIDED: [&str; 7] = ["model", "models", "messages", "stream", "stream_options", "context", "provider"];
/// Beside those, what the router has counted with before a provider is chosen; in the dialects of all providers.
const COUNTED: [&str; 21] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "tools",
    "tool_choice",
    "toolConfig",
    "functions",
    "response_format",
    "modalities",
    "contents",
    "system",
    "systemInstruction",
    "input",
    "prompt",
    "generationConfig.maxOutputTokens",
    "generationConfig.candidateCount",
    "inferenceConfig.maxTokens",
    "options.num_predict",
    "thinking",
    "anthropic_version",
];
/// Members of an answer that are the router's own account of it.
const ANSWERED: [&str; 8] = ["id", "object", "created", "model", "choices", "usage", "error", "stepwell"];

const DECIDES: &str = "the router itself decides with it";
const COUNTS: &str = "the router has counted with it before; set it at a tier or a team, where budgets see it";
const ACCOUNTS: &str = "it is the router's own account of the answer";

/// What may be changed of requests to one provider, in its own dialect, and of its answers.
pub(super) fn of_provider(section: Section<'_>) -> Transform {
    transform(section, &|path| {
        let whole = path.to_string();
        let is_above = |name: &str| name.strip_prefix(whole.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if DECIDED.contains(&path.first()) {
            Some(DECIDES)
        } else if COUNTED.contains(&path.first())
            || COUNTED.contains(&whole.as_str())
            || COUNTED.iter().any(|name| is_above(name))
        {
            Some(COUNTS)
        } else {
            None
        }
    })
}

/// What may be changed of requests of a tier or a team, before anything is decided, in chat's words.
pub(super) fn of_callers(section: Section<'_>) -> Transform {
    let (at, path, report) = (section.at, section.path.clone(), section.report);
    let transform = transform(section, &|path| {
        let forbidden = destination::refuse([(path.first(), false)]).is_err();
        (DECIDED.contains(&path.first()) || forbidden).then_some(DECIDES)
    });
    // Whatever is set has to make a request; better found here than by every caller.
    let probe = br#"{"model":"m","messages":[{"role":"user","content":""}]}"#;
    if let Some(made) = transform.request.body.applied(probe)
        && let Err(invalid) = Request::parse(Bytes::from(made))
    {
        // Not its message: that may quote a value that came from a variable.
        let member = invalid.param.unwrap_or_default();
        let reason = format!("every request would be refused: `{member}` is of the wrong kind or out of range");
        report.problem(at, &path, reason);
    }
    transform
}

/// Why a member may not be changed; `None` if it may.
type Forbids<'f> = &'f dyn Fn(&Path) -> Option<&'static str>;

fn transform(mut section: Section<'_>, forbids: Forbids<'_>) -> Transform {
    let answered = |path: &Path| ANSWERED.contains(&path.first()).then_some(ACCOUNTS);
    let request = section.section("request").map(|section| changes(section, forbids, &request_header));
    let response = section.section("response").map(|section| changes(section, &answered, &response_header));
    if request.is_none() && response.is_none() {
        section.problem("says nothing; write `request` or `response`");
    }
    section.finish();
    Transform { request: request.unwrap_or_default(), response: response.unwrap_or_default() }
}

fn changes(
    mut section: Section<'_>,
    forbids: Forbids<'_>,
    header: &dyn Fn(&str, bool) -> Option<&'static str>,
) -> Changes {
    let mut headers = Headers::default();
    for (entry, item) in section.get("set_headers").map(|item| item.named("a map of headers")).unwrap_or_default() {
        let Some(name) = header_name(&item, &entry.key, true, header) else { continue };
        let Some(text) = item.text() else { continue };
        match HeaderValue::try_from(text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.set.push((name, value));
            }
            Err(_) => item.problem("the value holds characters that a header cannot carry"),
        }
    }
    for (item, name) in texts(section.get("remove_headers"), "a list of headers") {
        headers.remove.extend(header_name(&item, name, false, header));
    }
    let mut body = Body::default();
    for (item, text) in texts(section.get("remove"), "a list of members such as [user, metadata.env]") {
        body.remove.extend(path(&item, text, forbids));
    }
    body.default = values(section.get("default"), forbids);
    body.set = values(section.get("set"), forbids);
    section.finish();
    Changes { headers, body }
}

fn texts<'a>(item: Option<Item<'a>>, what: &str) -> Vec<(Item<'a>, &'a str)> {
    item.and_then(|item| item.texts(what)).unwrap_or_default()
}

fn header_name(
    item: &Item<'_>,
    name: &str,
    is_set: bool,
    forbids: &dyn Fn(&str, bool) -> Option<&'static str>,
) -> Option<HeaderName> {
    let Ok(header) = HeaderName::try_from(name) else {
        item.problem(format!("`{name}` is not a valid header name"));
        return None;
    };
    match forbids(header.as_str(), is_set) {
        Some(reason) => {
            item.problem(format!("`{header}` cannot be changed: {reason}"));
            None
        }
        None => Some(header),
    }
}

fn request_header(name: &str, _is_set: bool) -> Option<&'static str> {
    if CREDENTIALS.contains(&name) || name.starts_with("x-amz-") {
        Some("credentials are written as api_key, so that they are kept secret and sent to their provider only")
    } else if CONNECTION.contains(&name) {
        Some("it belongs to the connection")
    } else if matches!(name, "traceparent" | "tracestate") {
        Some("`telemetry.propagate` says what providers are told of traces")
    } else {
        None
    }
}

fn response_header(name: &str, is_set: bool) -> Option<&'static str> {
    if CONNECTION.contains(&name) {
        Some("it belongs to the connection")
    } else if name == "x-request-id" {
        Some("it is how an answer is found in the ledger")
    } else if name.starts_with("access-control-") {
        Some("`server.cors` says what browsers may do")
    } else if name.starts_with("x-ratelimit-") {
        Some("it is what is left to the caller")
    } else if is_set && name.starts_with("x-stepwell-") {
        Some("it is the router's own word; it may be removed")
    } else {
        None
    }
}

fn path(item: &Item<'_>, text: &str, forbids: Forbids<'_>) -> Option<Path> {
    let Some(path) = Path::parse(text) else {
        item.problem("a member is written `name`, a member of a member `name.name`");
        return None;
    };
    if let Some(reason) = forbids(&path) {
        item.problem(format!("`{path}` cannot be changed: {reason}"));
        return None;
    }
    Some(path)
}

fn values(item: Option<Item<'_>>, forbids: Forbids<'_>) -> Vec<(Path, Json)> {
    let mut values = Vec::new();
    for (entry, item) in item.map(|item| item.named("a map of members")).unwrap_or_default() {
        if let Some(path) = path(&item, &entry.key, forbids) {
            values.push((path, json(item.node)));
        }
    }
    values
}

/// What is written, as JSON.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Nothing | Value::Broken => Json::Null,
        Value::Flag(flag) => Json::Bool(*flag),
        // YAML has one kind of number here; a whole one is written as such.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Json::from(*number as i64),
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.node))).collect(),
    }
}
