//! Anthropic's Messages API as callers speak it: Claude Code and Anthropic's SDKs (API reference, Messages).
//!
//! A provider that speaks Messages itself gets the caller's own body, so nothing is lost on that way. For all others
//! the body becomes a chat request; blocks that chat has no place for are noted.

mod block;
mod count;
mod read;
mod stream;
mod write;

pub use count::count;
pub use read::read;

use serde_json::{Value, json};

use crate::chat::{Extra, Finish, Usage};

/// Why the answer ended, in Anthropic's words.
fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls | Finish::FunctionCall => "tool_use",
        Finish::ContentFilter => "refusal",
    }
}

/// Why the answer ended, as the members of a message: with the sequence that stopped it, where the provider said so.
fn ending(finish: Option<Finish>, extra: &Extra) -> (Value, Value) {
    let said = |name: &str| {
        let (_, raw) = extra.iter().find(|(known, _)| &**known == name)?;
        serde_json::from_str::<String>(raw.get()).ok()
    };
    match finish {
        Some(Finish::Stop) if said("native_finish_reason").as_deref() == Some("stop_sequence") => {
            (json!("stop_sequence"), json!(said("stop_sequence")))
        }
        _ => (json!(finish.map(stop_reason)), Value::Null),
    }
}

/// Anthropic's `input_tokens` excludes what was read from or written to the cache.
fn usage(usage: Option<&Usage>) -> Value {
    let Some(usage) = usage else { return json!({"input_tokens": 0, "output_tokens": 0}) };
    let fresh = usage.prompt_tokens.saturating_sub(usage.cached_tokens + usage.cache_write_tokens);
    let mut members = json!({
        "input_tokens": fresh,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "cost": usage.cost,
    });
    if usage.estimated {
        members["estimated"] = json!(true);
    }
    members
}

/// An error in Anthropic's shape, from OpenAI's error body (API reference, Errors).
pub fn failed(error: &Value, kind: &str) -> Value {
    let error = &error["error"];
    json!({
        "type": "error",
        "error": {
            "type": kind,
            "message": error["message"],
            "param": error["param"],
            "code": error["code"],
            "stepwell": error["stepwell"],
        },
        "request_id": error["stepwell"]["request_id"],
    })
}

/// Anthropic's word for a status, by which its SDKs tell errors apart.
pub fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// An id that Anthropic itself would take back (`^[a-zA-Z0-9_-]+$`), always the same for the same call.
fn tool_id(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}
