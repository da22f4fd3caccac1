//! Shapes of what is asked, for the document alone: bodies are scanned, not built (`chat::Request`, `ingress`).
//!
//! What is written here is checked by the router. Members that are not named pass through to providers that speak the same
//! dialect, and that is where their types are checked: clients are newer than this page.

#![expect(dead_code, reason = "described, never built")]

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Ref, Schema, Type};

/// A chat request in OpenAI's words. Also read: `max_completion_tokens` or `max_tokens` (a whole number from 1 to the model's
/// limit, which no schema knows), `tools`, `tool_choice`, `response_format`. Whatever else stands in it passes through.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "messages": [{"role": "user", "content": "Write a haiku about water"}], "context": {"budget": "low"}}))]
pub struct ChatRequest {
    /// `auto`, another alias, `provider/model`, or a model's bare name; `:floor` (cheapest) or `:nitro` (fastest) behind it.
    #[schema(pattern = r"\S", example = "auto")]
    model: String,
    #[schema(min_items = 1)]
    messages: Vec<Message>,
    /// An event stream, ended by `data: [DONE]`.
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    /// Tried in this order after `model`.
    models: Option<Vec<String>>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// How many answers.
    #[schema(minimum = 1, maximum = 128)]
    n: Option<u32>,
    context: Option<Hints>,
    provider: Option<Preferences>,
    metadata: Option<Labels>,
}

#[derive(ToSchema)]
#[serde(untagged)]
pub enum Message {
    User(UserMessage),
    Other(OtherMessage),
}

/// What the user says.
#[derive(ToSchema)]
#[schema(title = "User")]
pub struct UserMessage {
    role: UserRole,
    content: Content,
}

/// What anybody else says. An assistant that calls tools, and nobody else, may be silent.
#[derive(ToSchema)]
#[schema(title = "System, assistant or tool")]
pub struct OtherMessage {
    role: OtherRole,
    content: Option<Content>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    User,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherRole {
    System,
    Developer,
    Assistant,
    Tool,
}

/// Text, or parts: `{"type": "text", "text": ..}`, `{"type": "image_url", "image_url": {"url": ..}}`, `input_audio`, `file`.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// One part of a message. What else it has depends on its type.
#[derive(ToSchema)]
pub struct Part {
    #[schema(example = "image_url")]
    r#type: String,
}

#[derive(ToSchema)]
pub struct StreamOptions {
    /// A chunk with the usage before the end.
    include_usage: Option<bool>,
}

/// How this one request is to be routed: `task`, `strategy`, `budget` (low, normal, high), `latency_critical`,
/// `safety_critical`, `max_cost` (USD), `max_latency` (such as 800ms), `min_skill` (0 to 1), `only`, `avoid` (providers or
/// provider/model), `no_cache`, `explain`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({"budget": "low"}))]
pub struct Hints(Value);

/// OpenRouter's words: `order`, `only`, `ignore`, `sort`, `allow_fallbacks`, `require_parameters`, `max_price`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({"sort": "price"}))]
pub struct Preferences(Value);

/// Labels of the caller's own; names of hints in it are hints.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({"team": "research"}))]
pub struct Labels(Value);

/// A request in Anthropic's words, with `max_tokens`, `tools`, `thinking` and so on. Anthropic gets it word for word, every
/// other provider as chat.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "max_tokens": 200, "messages": [{"role": "user", "content": "Write a haiku about water"}]}))]
pub struct MessagesRequest {
    #[schema(pattern = r"\S", example = "auto")]
    model: String,
    #[schema(min_items = 1)]
    messages: Vec<MessagesTurn>,
    system: Option<String>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    stream: Option<bool>,
    context: Option<Hints>,
}

/// What `POST /v1/messages` would be asked.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "messages": [{"role": "user", "content": "Write a haiku about water"}]}))]
pub struct CountRequest {
    #[schema(pattern = r"\S", example = "auto")]
    model: String,
    #[schema(min_items = 1)]
    messages: Vec<MessagesTurn>,
    system: Option<String>,
}

#[derive(ToSchema)]
pub struct MessagesTurn {
    role: MessagesRole,
    content: Content,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessagesRole {
    User,
    Assistant,
}

/// A request in the words of OpenAI's Responses, with `max_output_tokens`, `tools`, `reasoning` and so on. Nothing is stored: the whole conversation comes as `input`.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "input": "Write a haiku about water"}))]
pub struct ResponsesRequest {
    #[schema(pattern = r"\S", example = "auto")]
    model: String,
    /// Text, or a list of items.
    #[schema(schema_with = input)]
    input: Value,
    instructions: Option<String>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    stream: Option<bool>,
    context: Option<Hints>,
}

fn input() -> Schema {
    let items = ArrayBuilder::new().items(Ref::from_schema_name("Item")).min_items(Some(1));
    OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::String)).item(items).into()
}

#[derive(ToSchema)]
pub struct Item {
    role: OtherOrUser,
    content: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OtherOrUser {
    User,
    System,
    Developer,
    Assistant,
}

/// A request in the words of OpenAI's text completions: one prompt, answered by a chat model. Also read:
/// `max_tokens`, `stop`, `seed` and other members that mean the same in chat.
#[derive(ToSchema)]
#[schema(example = json!({"model": "auto", "prompt": "Once upon a time", "max_tokens": 50}))]
pub struct CompletionsRequest {
    #[schema(pattern = r"\S", example = "auto")]
    model: String,
    prompt: String,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 1, maximum = 128)]
    n: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    context: Option<Hints>,
}

/// A request for vectors, one for each text. One model answers: vectors of two cannot be compared. OpenAI's models take
/// token ids too.
#[derive(ToSchema)]
#[schema(example = json!({"model": "demo/small", "input": ["water", "stone"]}))]
pub struct EmbeddingsRequest {
    #[schema(pattern = r"\S")]
    model: String,
    #[schema(schema_with = texts)]
    input: Value,
    #[schema(minimum = 1, maximum = 65536)]
    dimensions: Option<u32>,
    encoding_format: Option<Encoding>,
}

fn texts() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let texts = ArrayBuilder::new().items(text()).min_items(Some(1)).max_items(Some(2048));
    OneOfBuilder::new().item(text()).item(texts).into()
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Float,
    Base64,
}

/// Who is to get a key, and what it may do. Limits and budgets are those of a tier in the configuration.
#[derive(ToSchema)]
#[schema(example = json!({"name": "search-team", "expires": "90d"}))]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Letters, digits and `-_.@`.
    #[schema(pattern = r"^[0-9A-Za-z_.@-]{1,64}$")]
    name: String,
    /// A tier of the configuration.
    #[schema(pattern = r"^[0-9A-Za-z_.@-]{1,64}$")]
    tier: Option<String>,
    #[schema(pattern = r"^[0-9A-Za-z_.@-]{1,64}$")]
    team: Option<String>,
    #[schema(inline)]
    role: Option<KeyRole>,
    /// Words for reports.
    #[schema(max_items = 16)]
    tags: Option<Vec<Tag>>,
    /// A span from now, such as `90d`; or an RFC 3339 time to come, which this pattern does not describe.
    #[schema(pattern = r"^[1-9][0-9]{0,3}[hd]$")]
    expires: Option<String>,
    #[schema(inline)]
    limits: Option<KeyLimits>,
    /// What may be asked for; everything if it is not given.
    models: Option<Vec<String>>,
    /// Who may answer; everybody if it is not given.
    providers: Option<Vec<String>>,
}

/// A word for reports.
#[derive(ToSchema)]
#[schema(pattern = r"^[0-9A-Za-z_.@-]{1,64}$", example = "prod")]
pub struct Tag(String);

/// What a key may do, besides what its tier and its team may.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLimits {
    #[schema(minimum = 1, maximum = 1000000)]
    requests_per_minute: Option<u64>,
    #[schema(minimum = 1, maximum = 1000000000000_u64)]
    tokens_per_minute: Option<u64>,
    #[schema(minimum = 1, maximum = 1000000000000000_u64)]
    tokens_per_day: Option<u64>,
    #[schema(minimum = 1, maximum = 100000)]
    concurrency: Option<u64>,
    #[schema(inline)]
    budget: Option<KeyBudget>,
}

/// USD per period.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyBudget {
    #[schema(minimum = 0, maximum = 1000000000)]
    day: Option<f64>,
    #[schema(minimum = 0, maximum = 1000000000)]
    month: Option<f64>,
}

#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyRole {
    Member,
    Operator,
    Admin,
}

/// How long the old secret is good beside the new one.
#[derive(ToSchema)]
#[schema(example = json!({"overlap": "24h"}))]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Such as 24h.
    #[schema(pattern = r"^[1-9][0-9]{0,3}[smhd]$")]
    overlap: Option<String>,
}

/// A file, as OpenAI's clients upload it.
#[derive(ToSchema)]
pub struct NewFile {
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// batch, assistants, fine-tune, vision, user_data or evals.
    #[schema(example = "batch", pattern = "^(batch|assistants|fine-tune|vision|user_data|evals)$")]
    purpose: String,
}

/// Requests in a row, each made of what the earlier ones gave: `{{input.*}}`, `{{steps.NAME.text}}`, `.json`, `.body`.
#[derive(ToSchema)]
// Without places, so that every part of it is right without the others; docs/jobs.md has one with places.
#[schema(example = json!({"steps": [
    {"name": "outline", "request": {"model": "auto", "messages": [{"role": "user", "content": "Outline a text about wells"}]}}]}))]
#[serde(deny_unknown_fields)]
pub struct NewSaga {
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
    #[schema(min_items = 1, max_items = 50)]
    steps: Vec<SagaStep>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaStep {
    #[schema(pattern = "^[0-9A-Za-z_-]{1,64}$")]
    name: String,
    #[schema(pattern = "^/v1/(chat/completions|responses|completions|embeddings|messages)$")]
    path: Option<String>,
    /// The body that would be sent there.
    request: ChatRequest,
    /// Undoes it, if a later step fails.
    compensate: Option<SagaUndo>,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaUndo {
    #[schema(pattern = "^/v1/(chat/completions|responses|completions|embeddings|messages)$")]
    path: Option<String>,
    request: ChatRequest,
}

/// The lines of a file, to be answered.
#[derive(ToSchema)]
#[schema(example = json!({"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}))]
pub struct NewBatch {
    input_file_id: String,
    /// Of every line.
    #[schema(pattern = "^/v1/(chat/completions|responses|completions|embeddings|messages)$")]
    endpoint: String,
    /// After which lines that nobody has come to expire: 1m to 30d.
    #[schema(pattern = "^(24h|48h|1h)$")]
    completion_window: String,
    /// At most 16 texts, for the caller's own use.
    metadata: Option<std::collections::BTreeMap<String, String>>,
}
