//! Remembers signed thinking and thought signatures by tool call, for clients that drop members they do not know.
//!
//! Anthropic and Gemini refuse the next turn of a conversation with tools if these are missing. Only memory, bounded by
//! bytes and time, and never written anywhere: what was forgotten is as if the client alone had dropped it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::catalog::Format;
use crate::chat::{EXTRA_CONTENT, Extra, Recalled, Reply, Request, Signed, THINKING_BLOCKS};

/// Room for the open turns of thousands of conversations: one turn's thinking has some ten kilobytes.
const CAPACITY_BYTES: u64 = 64 << 20;
/// Tools answer within minutes; an hour leaves time for a person who has to confirm a call.
const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// What an entry costs beside its texts: key, pointers and the map's own records, roughly.
const ENTRY_BYTES: usize = 256;

/// Call ids are the providers' own, so a caller could guess another one's: the partition keeps them apart.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    partition: Arc<str>,
    call: Box<str>,
}

pub struct Recall {
    entries: moka::sync::Cache<Key, Arc<Signed>>,
}

impl Default for Recall {
    fn default() -> Self {
        Self::bounded(CAPACITY_BYTES, LIFETIME)
    }
}

impl Recall {
    fn bounded(bytes: u64, lifetime: Duration) -> Self {
        let entries = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &Key, signed: &Arc<Signed>| weight(key, signed))
            .time_to_live(lifetime)
            // The usual policy favours what is read often and may turn the newest away; here the newest is the next one
            // to be asked for.
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Self { entries }
    }

    /// Keeps what a complete answer has signed, under each of its calls.
    pub fn keep<'a>(&self, partition: &Arc<str>, format: Format, replies: impl Iterator<Item = &'a Reply>) {
        if !signs(format) {
            return;
        }
        for reply in replies.filter(|reply| !reply.tool_calls.is_empty()) {
            let thinking_blocks: Option<Arc<RawValue>> =
                member(&reply.extra, THINKING_BLOCKS).map(|blocks| Arc::from(blocks.to_owned()));
            for call in reply.tool_calls.iter().filter(|call| !is_made_up(&call.id)) {
                let extra_content = member(&call.extra, EXTRA_CONTENT).map(RawValue::to_owned);
                if thinking_blocks.is_none() && extra_content.is_none() {
                    continue;
                }
                let signed =
                    Signed { format: format.as_str(), thinking_blocks: thinking_blocks.clone(), extra_content };
                self.entries.insert(Key { partition: partition.clone(), call: (*call.id).into() }, Arc::new(signed));
            }
        }
    }

    /// What is known of the calls in the request's history. Costs nothing where there are none.
    pub fn look_up(&self, partition: &Arc<str>, request: &Request) -> Vec<Recalled> {
        if !request.calls_tools() {
            return Vec::new();
        }
        let known = |call: String| {
            let signed = self.entries.get(&Key { partition: partition.clone(), call: call.as_str().into() })?;
            Some(Recalled { call, signed })
        };
        request.called_ids().into_iter().filter_map(known).collect()
    }
}

/// `call_0` and its like are written here where a provider gives no id, and stand in many conversations.
fn is_made_up(id: &str) -> bool {
    let number = id.strip_prefix("call_").unwrap_or(id);
    number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Formats that refuse a turn whose signatures were lost.
fn signs(format: Format) -> bool {
    match format {
        Format::Anthropic | Format::Bedrock | Format::Gemini | Format::Vertex => true,
        Format::OpenAi | Format::Cohere | Format::Ollama | Format::Demo => false,
    }
}

fn member<'a>(extra: &'a Extra, name: &str) -> Option<&'a RawValue> {
    extra.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
}

/// Thinking that parallel calls share is counted for each: the bound errs on the small side.
fn weight(key: &Key, signed: &Signed) -> u32 {
    let texts = [signed.thinking_blocks.as_deref(), signed.extra_content.as_deref()];
    let texts: usize = texts.into_iter().flatten().map(|text| text.get().len()).sum();
    u32::try_from(ENTRY_BYTES + key.partition.len() + key.call.len() + texts).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::chat::ToolCall;

    fn reply(call: &str, thinking: &str) -> Reply {
        let call = ToolCall { id: call.into(), name: "f".into(), arguments: "{}".into(), extra: Extra::new() };
        let blocks = to_raw_value(&json!([{"type": "thinking", "thinking": thinking, "signature": "s"}]));
        let extra = vec![(THINKING_BLOCKS.into(), blocks.expect("json"))];
        Reply { tool_calls: vec![call], extra, ..Reply::default() }
    }

    fn history(call: &str) -> Request {
        let call = json!({"id": call, "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let body = json!({"model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]});
        Request::parse(Bytes::from(body.to_string())).expect("a request")
    }

    fn knows(recall: &Recall, partition: &str, call: &str) -> bool {
        !recall.look_up(&partition.into(), &history(call)).is_empty()
    }

    #[test]
    fn a_call_is_known_to_its_own_caller_alone() {
        let recall = Recall::default();
        recall.keep(&"a".into(), Format::Anthropic, [reply("one", "hm")].iter());
        assert!(knows(&recall, "a", "one"));
        assert!(!knows(&recall, "b", "one") && !knows(&recall, "a", "two"));
    }

    #[test]
    fn a_format_that_signs_nothing_leaves_nothing_behind() {
        let recall = Recall::default();
        recall.keep(&"a".into(), Format::OpenAi, [reply("one", "hm")].iter());
        assert!(!knows(&recall, "a", "one"));
    }

    #[test]
    fn an_id_that_was_made_up_here_is_not_remembered() {
        let recall = Recall::default();
        recall.keep(&"".into(), Format::Anthropic, [reply("call_0", "hm"), reply("call_0a", "hm")].iter());
        assert!(!knows(&recall, "", "call_0") && knows(&recall, "", "call_0a"));
    }

    #[test]
    fn the_newest_calls_stay_within_the_bytes() {
        let recall = Recall::bounded(16 << 10, LIFETIME);
        for number in 0..100 {
            recall.keep(&"".into(), Format::Bedrock, [reply(&format!("call{number}"), &"x".repeat(1000))].iter());
            recall.entries.run_pending_tasks();
        }
        assert!(recall.entries.weighted_size() <= 16 << 10, "{}", recall.entries.weighted_size());
        assert!(knows(&recall, "", "call99") && knows(&recall, "", "call95"));
        assert!(!knows(&recall, "", "call0"));
    }

    #[test]
    fn one_turn_above_the_bound_is_not_kept() {
        let recall = Recall::bounded(16 << 10, LIFETIME);
        recall.keep(&"".into(), Format::Anthropic, [reply("huge", &"x".repeat(32 << 10))].iter());
        recall.entries.run_pending_tasks();
        assert_eq!(recall.entries.weighted_size(), 0);
    }

    #[test]
    fn after_its_lifetime_a_call_is_unknown() {
        let recall = Recall::bounded(16 << 10, Duration::ZERO);
        recall.keep(&"".into(), Format::Anthropic, [reply("one", "hm")].iter());
        assert!(!knows(&recall, "", "one"));
    }
}
