//! `GET /openapi.json`: what is served here, as OpenAPI 3.1.
//!
//! The document is made from the code: a handler says by `#[utoipa::path]` what it is asked and what it answers, and
//! [`Served`] adds the handler to the router and the path to the document in one step, so that neither can have what the
//! other has not. Shapes of bodies are in [`asked`] and [`answered`]. What holds for many paths (errors, headers, keys) is
//! added here, by tag. Aliases are served and not described.

pub mod answered;
pub mod asked;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::Router;
use axum::body::Bytes;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, RefOr, Schema};
use utoipa_axum::router::UtoipaMethodRouter;

use super::caller::{Needs, identify};
use super::idempotency::once;
use super::router::Shared;

/// Paths that reach providers: they fail in more ways, and their answers say who made them.
pub const ANSWERS: &str = "Answers";
/// What is there and what was used.
pub const REPORTS: &str = "Reports";
/// Files, and many requests in one.
pub const BATCHES: &str = "Files and batches";
/// Who may ask. For admins.
pub const KEYS: &str = "Keys";
/// How a server is watched.
pub const OPERATIONS: &str = "Operations";

/// Where the API begins. A client that appends its own `/v1` to a base URL that has one, or none where there is none,
/// means the same. Spelled out and not nested: nesting rewrites the path of every request.
const CANONICAL: &str = "/v1";
const PREFIXES: [&str; 5] = [CANONICAL, "/openai/v1", "/anthropic/v1", "/v1/v1", ""];

/// A router that grows together with its document.
#[derive(Default)]
pub struct Served {
    router: Router<Shared>,
    document: OpenApi,
}

impl Served {
    /// A path of the API, which begins with `/v1`, under every prefix.
    pub fn api(self, described: UtoipaMethodRouter<Shared>) -> Self {
        self.serve(described, |path| match path.strip_prefix(CANONICAL) {
            Some(rest) => PREFIXES.iter().map(|prefix| format!("{prefix}{rest}")).collect(),
            None => vec![path.to_owned()],
        })
    }

    /// A path beside the API, with its other names.
    pub fn beside(self, described: UtoipaMethodRouter<Shared>, aliases: &[&str]) -> Self {
        self.serve(described, |path| [path].iter().chain(aliases).map(|path| (*path).to_owned()).collect())
    }

    fn serve(mut self, described: UtoipaMethodRouter<Shared>, names: impl Fn(&str) -> Vec<String>) -> Self {
        let (schemas, paths, handler) = described;
        for (path, item) in paths.paths {
            for name in names(&path) {
                self.router = self.router.route(&name, handler.clone());
            }
            // `{*id}` is the router's way to say that the rest of a path may have slashes.
            self.document.paths.paths.insert(path.replace("{*", "{"), item);
        }
        self.document.components.get_or_insert_default().schemas.extend(schemas);
        self
    }

    /// Everything so far needs a credential with at least this role. Who calls is known before anything is done, and done
    /// twice.
    pub fn behind(mut self, shared: &Shared, needs: Needs) -> Self {
        if let Needs::Role(_) = needs {
            self.router = self.router.route_layer(from_fn_with_state(shared.clone(), once));
        }
        self.router = self.router.route_layer(from_fn_with_state((shared.clone(), needs), identify));
        for (_, item) in &mut self.document.paths.paths {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                // One of them, or none where keys are not required.
                let schemes = ["bearer", "x-api-key", "api-key"];
                let named = schemes.map(|scheme| SecurityRequirement::new(scheme, [] as [&str; 0]));
                operation.security = Some([SecurityRequirement::default()].into_iter().chain(named).collect());
            }
        }
        self
    }

    /// Both, with their documents.
    pub fn and(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.document.merge(other.document);
        self
    }

    /// The router, and the document for it.
    pub fn finish(self) -> (Router<Shared>, Value) {
        let mut document = self.document;
        let schemas = &mut document.components.get_or_insert_default().schemas;
        describe::<answered::Failed>(schemas);
        describe::<answered::MessagesFailed>(schemas);
        describe::<asked::Item>(schemas);
        describe::<answered::ReportFormat>(schemas);
        describe::<answered::RequestStatus>(schemas);
        describe::<answered::Order>(schemas);
        // Writing our own types to memory as JSON cannot fail.
        (self.router, completed(serde_json::to_value(&document).unwrap_or_default()))
    }
}

/// Adds a shape that no handler names itself, and what it is made of.
fn describe<T: ToSchema>(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    schemas.extend(parts);
    schemas.insert(T::name().into_owned(), T::schema());
}

/// Adds what holds for many paths.
fn completed(mut document: Value) -> Value {
    document["info"] = json!({
        "title": "stepwell",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "An OpenAI-compatible LLM router. Hints for routing go into `context`, into `metadata`, or into headers `x-stepwell-<hint>`; \
                        a hint that nobody knows is a warning, one with an impossible value is a 400.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/"}]);
    document["tags"] = json!([
        {"name": ANSWERS, "description": "Questions in five dialects, all on the same path through the router."},
        {"name": REPORTS, "description": "What can answer, and what was asked and paid."},
        {"name": BATCHES, "description": "Many requests in one file, answered into another one, over any provider."},
        {"name": KEYS, "description": "Who may ask, for admins."},
        {"name": OPERATIONS, "description": "For people, balancers and Prometheus."},
    ]);
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it."},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients send it."},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "As Azure's clients send it."},
    });
    document["components"]["headers"] = headers();
    // Other fields of the form are read over; their names have to fit into a header.
    document["components"]["schemas"]["NewFile"]["propertyNames"] = json!({"pattern": r"^[0-9A-Za-z_\[\]-]{1,64}$"});
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete(path, operation);
        }
    }
    document
}

/// Headers of answers, by name.
fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let number = |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    json!({
        "x-request-id": text("The caller's own id if it is sane, else a fresh one. GET /v1/requests/{id} has more."),
        "x-stepwell-provider": text("Who answered."),
        "x-stepwell-model": text("With which model."),
        "x-stepwell-task": text("What the prompt was taken for."),
        "x-stepwell-strategy": text("By which strategy the model was chosen."),
        "x-stepwell-reason": text("Why, in one sentence."),
        "x-stepwell-attempts": number("How many models were asked."),
        "x-stepwell-cache": json!({"description": "Where the answer came from.", "schema": {"type": "string", "enum": ["hit", "miss", "coalesced", "bypass"]}}),
        "x-stepwell-cost-usd": text("What the answer cost in USD, or `unknown`. Not on streams, which have it in their usage."),
        "x-stepwell-response-time-ms": number("Until the head of the answer."),
        "x-stepwell-warnings": text("What of the request was not understood or left out."),
        "server-timing": text("The same time, for browsers."),
        "retry-after": number("Seconds after which another try is worth it."),
    })
}

/// What of an answer's headers only successful answers of providers have.
const DESCRIBING: [&str; 11] = [
    "x-stepwell-provider",
    "x-stepwell-model",
    "x-stepwell-task",
    "x-stepwell-strategy",
    "x-stepwell-reason",
    "x-stepwell-attempts",
    "x-stepwell-cache",
    "x-stepwell-cost-usd",
    "x-stepwell-response-time-ms",
    "x-stepwell-warnings",
    "server-timing",
];

/// How every path that reads a body may fail, and how those that reach providers may.
const UNREADABLE: [(&str, &str); 8] = [
    ("400", "The request is wrong; `param` names the member."),
    ("404", "The model does not exist; the message names the closest ones."),
    ("408", "The body did not arrive in time."),
    ("409", "Another request with the same `idempotency-key` is under way."),
    ("413", "The body is longer than `server.body_limit`."),
    ("415", "The body's `content-encoding` is not understood."),
    ("422", "The hints exclude every model; `stepwell.excluded` says which hint excluded which."),
    ("503", "Too much at once, or nobody can answer right now; see `retry-after`."),
];
const REFUSED: [(&str, &str); 2] =
    [("401", "The key is missing, wrong, expired or revoked."), ("403", "The key may not do this.")];
const UNANSWERED: [(&str, &str); 4] = [
    (
        "429",
        "The caller's own limit or budget is reached, or every provider that could answer refuses; see `retry-after`.",
    ),
    ("500", "An error of the router itself; its log has the request id."),
    ("502", "The providers that were asked failed; `stepwell.attempts` says how."),
    ("504", "Nobody answered in time."),
];

fn complete(path: &str, operation: &mut Value) {
    let tag = operation["tags"][0].as_str().unwrap_or_default().to_owned();
    let shape = if path.starts_with("/v1/messages") { "MessagesFailed" } else { "Failed" };
    let reads = operation.get("requestBody").is_some();
    let is_guarded = operation.get("security").is_some();
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    let unreadable = UNREADABLE.iter().filter(|_| reads).chain(REFUSED.iter().filter(|_| is_guarded));
    for (status, description) in unreadable.chain(UNANSWERED.iter().filter(|_| tag == ANSWERS)) {
        let response = responses.entry(*status).or_insert(json!({"description": description}));
        if response.get("content").is_none() {
            response["content"] =
                json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{shape}")}}});
        }
    }
    for (status, response) in responses.iter_mut() {
        let mut named = vec!["x-request-id"];
        if status == "200" && tag == ANSWERS && path != "/v1/route" && path != "/v1/messages/count_tokens" {
            named.extend(DESCRIBING);
        }
        if ["429", "503"].contains(&status.as_str()) {
            named.push("retry-after");
        }
        for name in named {
            response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
}

/// The document, and all of its paths in one line: the same for as long as the process runs.
static PUBLISHED: OnceLock<(Bytes, String)> = OnceLock::new();

/// Keeps the document for [`document`] and [`paths`].
pub fn publish(document: &Value) {
    PUBLISHED.get_or_init(|| (Bytes::from(document.to_string()), listed(document)));
}

fn listed(document: &Value) -> String {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, _)| format!("{} {path}", method.to_ascii_uppercase()))
    });
    all.collect::<Vec<_>>().join(", ")
}

/// What is served, for the answer to whoever asks for something else.
pub fn paths() -> &'static str {
    PUBLISHED.get().map_or("", |(_, paths)| paths)
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = OPERATIONS,
    responses((status = 200, description = "OpenAPI 3.1", body = inline(answered::AnyObject))))]
pub async fn document() -> Response {
    let document = PUBLISHED.get().map(|(document, _)| document.clone()).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], document).into_response()
}
