//! Shapes of what is answered, for the document alone: answers are written by the ledger, the ranking and the dialects'
//! writers. Members may be added to any of them; those that are here stay.

#![expect(dead_code, reason = "described, never built")]

use serde_json::Value;
use utoipa::ToSchema;

/// An object whose members are described elsewhere.
#[derive(ToSchema)]
#[schema(value_type = Object)]
pub struct AnyObject(Value);

/// An error as OpenAI's clients understand it.
#[derive(ToSchema)]
#[schema(example = json!({"error": {"message": "missing required parameter: `model`", "type": "invalid_request_error", "param": "model", "code": "missing_required_parameter", "stepwell": {"request_id": "req_1", "attempts": []}}}))]
pub struct Failed {
    error: Failure,
}

#[derive(ToSchema)]
pub struct Failure {
    /// What was wrong, with which value, what to do next.
    message: String,
    r#type: String,
    /// The member at fault.
    #[schema(required)]
    param: Option<String>,
    #[schema(required)]
    code: Option<String>,
    stepwell: FailureDetails,
}

#[derive(ToSchema)]
pub struct FailureDetails {
    request_id: String,
    /// Who was asked and what became of it.
    attempts: Vec<AnyObject>,
    /// Who was not asked, and which hint or rule is the reason.
    excluded: Option<Vec<AnyObject>>,
}

/// An error as Anthropic's clients understand it.
#[derive(ToSchema)]
pub struct MessagesFailed {
    r#type: String,
    error: Failure,
    #[schema(required)]
    request_id: Option<String>,
}

/// One event of a stream: its data is JSON in the dialect's words, or `[DONE]`.
#[derive(ToSchema)]
#[schema(example = json!({"data": "{..}"}))]
pub struct Event {
    data: String,
    event: Option<String>,
}

#[derive(ToSchema)]
pub struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    /// USD; `null` if the model has no known price, never 0 for that.
    cost: Option<f64>,
}

/// An answer to a chat request.
#[derive(ToSchema)]
pub struct ChatCompletion {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: i64,
    /// The model that answered.
    model: String,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    /// The decision, if the hint `explain` asked for it.
    stepwell: Option<AnyObject>,
}

#[derive(ToSchema)]
pub struct Choice {
    index: u32,
    message: AnyObject,
    finish_reason: Option<String>,
}

/// An answer in Anthropic's words.
#[derive(ToSchema)]
pub struct MessagesAnswer {
    id: String,
    r#type: String,
    role: String,
    model: String,
    content: Vec<AnyObject>,
    stop_reason: Option<String>,
    usage: AnyObject,
}

/// How many tokens a request has, counted here.
#[derive(ToSchema)]
pub struct TokenCount {
    input_tokens: u64,
    estimated: bool,
}

/// An answer in the words of Responses.
#[derive(ToSchema)]
pub struct ResponsesAnswer {
    id: String,
    object: String,
    created_at: i64,
    status: String,
    model: String,
    output: Vec<AnyObject>,
}

/// An answer in the words of text completions.
#[derive(ToSchema)]
pub struct TextCompletion {
    id: String,
    object: String,
    created: i64,
    model: String,
    choices: Vec<AnyObject>,
    usage: Option<Usage>,
}

/// Vectors in the order of the texts.
#[derive(ToSchema)]
pub struct Embeddings {
    object: String,
    data: Vec<AnyObject>,
    model: String,
    usage: AnyObject,
}

/// What would be asked, and why.
#[derive(ToSchema)]
pub struct Decision {
    task: String,
    task_confidence: f64,
    /// What in the prompt spoke for the task.
    signals: Vec<AnyObject>,
    strategy: String,
    /// Best first.
    candidates: Vec<AnyObject>,
    excluded: Vec<AnyObject>,
    reason: String,
    /// What the configured guards found in the request: `guard`, `action`, `count`.
    guards: Option<Vec<AnyObject>>,
}

/// Aliases first, then every model as `provider/model`. With the header `anthropic-version`, in Anthropic's words.
#[derive(ToSchema)]
pub struct Models {
    object: Option<String>,
    data: Vec<Model>,
}

#[derive(ToSchema)]
pub struct Model {
    id: String,
    object: String,
    created: i64,
    owned_by: String,
    /// Tokens of question and answer together.
    context_length: Option<u64>,
    max_output_tokens: Option<u64>,
    price_usd_per_million: Option<AnyObject>,
    /// Which features, by name.
    supports: Option<AnyObject>,
    routable: Option<bool>,
}

/// What was used and what it cost.
#[derive(ToSchema)]
pub struct UsageReport {
    #[schema(required)]
    since: Option<String>,
    #[schema(required)]
    until: Option<String>,
    catalogue_date: String,
    total: AnyObject,
    rows: Vec<AnyObject>,
    /// What the month will have cost, and by which method that was guessed.
    forecast: AnyObject,
}

/// What the recorded traffic would have cost at every model with a price.
#[derive(ToSchema)]
pub struct Comparison {
    requests: u64,
    rows: Vec<AnyObject>,
}

/// A page of requests, newest first.
#[derive(ToSchema)]
pub struct Requests {
    object: String,
    has_more: bool,
    /// `before` of the next page.
    #[schema(required)]
    next: Option<String>,
    data: Vec<RequestRow>,
}

/// One request: its decision, attempts, tokens, cost. Short while it is still under way.
#[derive(ToSchema)]
pub struct RequestRow {
    id: String,
    status: RequestStatus,
    asked_model: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    attempts: Option<Vec<AnyObject>>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    cost_usd: Option<f64>,
    total_ms: Option<u64>,
    reason: Option<String>,
    decision: Option<AnyObject>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestStatus {
    InProgress,
    Completed,
    Interrupted,
    ClientClosed,
    Failed,
    Rejected,
}

/// Every target with its breaker, the cause, and when it is let in again.
#[derive(ToSchema)]
pub struct Status {
    strategy: String,
    fallback_enabled: bool,
    max_attempts: u32,
    aliases: Vec<String>,
    models: Vec<String>,
    configuration_version: u64,
    /// The store that all replicas share; null without one.
    shared: Option<AnyObject>,
    targets: Vec<AnyObject>,
}

/// Everything that an operator looks at first.
#[derive(ToSchema)]
pub struct Health {
    /// `ok`, `degraded` or `draining`.
    status: String,
    version: String,
    uptime_seconds: u64,
    usable_targets: u64,
    targets: u64,
    configuration: AnyObject,
    /// Whether the database of rows and keys answered when it was last asked: `ok` or `unreachable`.
    store: AnyObject,
    ledger: AnyObject,
    /// The store that all replicas share; null without one.
    shared: Option<AnyObject>,
    /// What hands jobs out on behalf of the store; null without one.
    queue: Option<AnyObject>,
}

#[derive(ToSchema)]
pub struct Drained {
    #[schema(example = "draining")]
    status: String,
    /// Requests that are still under way.
    in_flight: u64,
}

/// The rules in force.
#[derive(ToSchema)]
pub struct Reloaded {
    /// Where they came from.
    origin: String,
    /// Counts reloads from 1.
    version: u64,
}

/// It is alive.
#[derive(ToSchema)]
pub struct Live {
    status: String,
}

#[derive(ToSchema)]
pub struct Ready {
    /// `ready`, `draining` or `no usable target`.
    status: String,
    usable_targets: u64,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportFormat {
    Json,
    Csv,
    Excel,
}

/// A key. Its secret is in the answer that makes or rotates it and nowhere else.
#[derive(ToSchema)]
pub struct Key {
    id: String,
    name: String,
    role: String,
    state: String,
    tier: Option<String>,
    team: Option<String>,
    tags: Vec<String>,
    limits: AnyObject,
    /// What of the secret may be seen.
    hint: String,
    created_at: Option<String>,
    expires_at: Option<String>,
    revoked_at: Option<String>,
    key: Option<String>,
}

#[derive(ToSchema)]
pub struct Keys {
    object: String,
    data: Vec<Key>,
}

/// Something that happened.
#[derive(ToSchema)]
pub struct Happened {
    /// Its place in the log; not of requests that were answered at once.
    seq: Option<i64>,
    at_unix_ms: i64,
    kind: String,
    subject: String,
    key: Option<String>,
}

#[derive(ToSchema)]
pub struct Events {
    object: String,
    has_more: bool,
    /// For `after` of the next page.
    #[schema(required)]
    next: Option<i64>,
    data: Vec<Happened>,
}

/// What is taken in, to be answered later.
#[derive(ToSchema)]
pub struct Accepted {
    request_id: String,
    status: String,
    status_url: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    Asc,
    Desc,
}

#[derive(ToSchema)]
pub struct File {
    id: String,
    object: String,
    bytes: u64,
    created_at: i64,
    #[schema(required)]
    expires_at: Option<i64>,
    filename: String,
    purpose: String,
    status: String,
}

#[derive(ToSchema)]
pub struct Files {
    object: String,
    data: Vec<File>,
    has_more: bool,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
}

#[derive(ToSchema)]
pub struct FileDeleted {
    id: String,
    object: String,
    deleted: bool,
}

#[derive(ToSchema)]
pub struct RequestCounts {
    total: i64,
    completed: i64,
    failed: i64,
}

#[derive(ToSchema)]
pub struct Batch {
    id: String,
    object: String,
    endpoint: String,
    input_file_id: String,
    completion_window: String,
    /// validating, failed, in_progress, finalizing, completed, expired, cancelling or cancelled.
    status: String,
    /// The lines that were answered, once all have ended.
    #[schema(required)]
    output_file_id: Option<String>,
    /// The others.
    #[schema(required)]
    error_file_id: Option<String>,
    #[schema(required)]
    errors: Option<AnyObject>,
    created_at: i64,
    expires_at: i64,
    request_counts: RequestCounts,
}

#[derive(ToSchema)]
pub struct Batches {
    object: String,
    data: Vec<Batch>,
    has_more: bool,
    #[schema(required)]
    first_id: Option<String>,
    #[schema(required)]
    last_id: Option<String>,
}

#[derive(ToSchema)]
pub struct Budgets {
    object: String,
    data: Vec<AnyObject>,
}
