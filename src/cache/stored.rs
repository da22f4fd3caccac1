//! An answer as bytes, for a store outside of this process. Read back only what this version wrote: anything else is a
//! miss.

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::chat::{Choice, Extra, Finish, Reply, Response, ToolCall, Usage, Vector};
use crate::money::NanoUsd;

/// Rises with every change of the form.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored {
    form: u32,
    task: String,
    strategy: String,
    provider: String,
    target: String,
    demo: bool,
    cost: Option<i64>,
    id: String,
    created: i64,
    model: String,
    choices: Vec<StoredChoice>,
    vectors: Vec<StoredVector>,
    usage: Option<StoredUsage>,
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
struct StoredChoice {
    index: u32,
    content: Option<String>,
    refusal: Option<String>,
    reasoning: Option<String>,
    calls: Vec<(String, String, String, Extra)>,
    message_extra: Extra,
    finish: String,
    extra: Extra,
}

#[derive(Serialize, Deserialize)]
enum StoredVector {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize, Deserialize)]
struct StoredUsage {
    /// Prompt, completion, cached, written to the cache, reasoning.
    tokens: [u64; 5],
    estimated: bool,
    billed: Option<(u64, u64)>,
    cost: Option<i64>,
    extra: [Extra; 3],
}

/// `None` if it cannot be written.
pub fn write(entry: &Entry) -> Option<Vec<u8>> {
    let response = entry.response.clone();
    let choice = |Choice { index, message, finish, extra }: Choice| StoredChoice {
        index,
        content: message.content,
        refusal: message.refusal,
        reasoning: message.reasoning_content,
        calls: message.tool_calls.into_iter().map(|call| (call.id, call.name, call.arguments, call.extra)).collect(),
        message_extra: message.extra,
        finish: finish.as_str().to_owned(),
        extra,
    };
    let vector = |vector| match vector {
        Vector::Floats(floats) => StoredVector::Floats(floats),
        Vector::Base64(text) => StoredVector::Base64(text),
    };
    let usage = |usage: Usage| StoredUsage {
        tokens: [
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        ],
        estimated: usage.estimated,
        billed: usage.billed,
        cost: usage.cost.map(|cost| cost.0),
        extra: [usage.extra, usage.prompt_extra, usage.completion_extra],
    };
    let stored = Stored {
        form: FORM,
        task: entry.task.to_string(),
        strategy: entry.strategy.to_owned(),
        provider: entry.provider.to_string(),
        target: entry.model.clone(),
        demo: entry.demo,
        cost: entry.cost.map(|cost| cost.0),
        id: response.id,
        created: response.created,
        model: response.model,
        choices: response.choices.into_iter().map(choice).collect(),
        vectors: response.vectors.into_iter().map(vector).collect(),
        usage: response.usage.map(usage),
        extra: response.extra,
    };
    serde_json::to_vec(&stored).ok()
}

/// `None` if it was written by another version. `strategy` knows the words for strategies.
pub fn read(bytes: &[u8], strategy: fn(&str) -> Option<&'static str>) -> Option<Entry> {
    let stored: Stored = serde_json::from_slice(bytes).ok().filter(|stored: &Stored| stored.form == FORM)?;
    let choice = |choice: StoredChoice| {
        let call = |(id, name, arguments, extra)| ToolCall { id, name, arguments, extra };
        let message = Reply {
            content: choice.content,
            refusal: choice.refusal,
            reasoning_content: choice.reasoning,
            tool_calls: choice.calls.into_iter().map(call).collect(),
            extra: choice.message_extra,
        };
        Some(Choice { index: choice.index, message, finish: Finish::parse(&choice.finish)?, extra: choice.extra })
    };
    let vector = |vector| match vector {
        StoredVector::Floats(floats) => Vector::Floats(floats),
        StoredVector::Base64(text) => Vector::Base64(text),
    };
    let usage = |stored: StoredUsage| {
        let [prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens] = stored.tokens;
        let [extra, prompt_extra, completion_extra] = stored.extra;
        Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            cache_write_tokens,
            reasoning_tokens,
            is_refused: false,
            estimated: stored.estimated,
            billed: stored.billed,
            cost: stored.cost.map(NanoUsd),
            extra,
            prompt_extra,
            completion_extra,
        }
    };
    Some(Entry {
        task: stored.task.into(),
        strategy: strategy(&stored.strategy)?,
        provider: stored.provider.into(),
        model: stored.target,
        demo: stored.demo,
        cost: stored.cost.map(NanoUsd),
        until: None,
        response: Response {
            id: stored.id,
            created: stored.created,
            model: stored.model,
            choices: stored.choices.into_iter().map(choice).collect::<Option<_>>()?,
            vectors: stored.vectors.into_iter().map(vector).collect(),
            usage: stored.usage.map(usage),
            extra: stored.extra,
        },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let extra = |name: &str| vec![(name.into(), RawValue::from_string("{\"a\": 1.50}".to_owned()).expect("json"))];
        let message = Reply {
            content: Some("text".to_owned()),
            tool_calls: vec![ToolCall {
                id: "c".to_owned(),
                name: "f".to_owned(),
                arguments: "{}".to_owned(),
                extra: extra("x"),
            }],
            extra: extra("y"),
            ..Reply::default()
        };
        let usage = Usage { cost: Some(NanoUsd(1)), extra: extra("queue"), ..Usage::estimate(3, 4) };
        let entry = Entry {
            response: Response {
                id: "id".to_owned(),
                created: 7,
                model: "m".to_owned(),
                choices: vec![Choice { index: 0, message, finish: Finish::Stop, extra: extra("logprobs") }],
                vectors: vec![Vector::Base64("AAAA".to_owned()), Vector::Floats(vec![0.1, -2.0])],
                usage: Some(usage),
                extra: extra("z"),
            },
            task: "coding".into(),
            strategy: "balanced",
            provider: "one".into(),
            model: "m1".to_owned(),
            demo: false,
            cost: Some(NanoUsd(9_007_199_254_740_993)),
            until: None,
        };
        let bytes = write(&entry).expect("bytes");
        let again = read(&bytes, |word| (word == "balanced").then_some("balanced")).expect("an entry");
        assert_eq!(format!("{entry:?}"), format!("{again:?}"));
        assert!(read(&bytes, |_| None).is_none() && read(b"{}", |_| Some("x")).is_none());
    }
}
