//! OpenAI's Responses API as callers speak it (API reference, Responses).
//!
//! No prompt and no answer is kept here, so there is nothing that `previous_response_id` could refer to: it is refused,
//! and every answer says `store: false`. Tools that OpenAI runs by itself are noted, since no other provider has them.

mod item;
mod read;
mod stream;
mod write;

pub use read::read;

use serde_json::{Value, json};

use crate::chat::Usage;

/// The marker of reasoning that we sealed ourselves, so that a foreign one is not mistaken for it.
const SEAL: &str = "stepwell:";

fn usage(usage: Option<&Usage>) -> Value {
    let Some(usage) = usage else { return Value::Null };
    let mut members = json!({
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens(),
        "cost": usage.cost,
    });
    if usage.estimated {
        members["estimated"] = json!(true);
    }
    members
}
