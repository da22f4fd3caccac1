//! Chunks as content blocks: one open at a time, in the order in which they began.
//!
//! Chat may interleave the fragments of parallel calls; a message may not. Fragments of another call wait until the
//! open one is complete.

use serde_json::{Value, json};

use super::tool_id;
use crate::chat::{Delta, Finish, Seal, THINKING_BLOCKS, ToolCallDelta};
use crate::ingress::event;

#[derive(Default)]
pub struct Blocks {
    /// Blocks begun so far.
    count: u64,
    open: Option<Open>,
    /// Calls that wait for their turn, in their order.
    waiting: Vec<Call>,
    /// Calls that were written.
    written: Vec<u32>,
    pub finished: Option<Finish>,
}

enum Open {
    Text,
    Thinking,
    Call(Call),
}

struct Call {
    index: u32,
    id: String,
    name: String,
    arguments: String,
}

impl Call {
    fn is_complete(&self) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

impl Blocks {
    pub fn delta(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        // A whole answer that is replayed carries its signed blocks with the first piece; they say what the reasoning
        // says, with their signatures.
        let replayed = delta.role && self.replayed(delta, out);
        if let Some(thoughts) = delta.reasoning_content.as_deref().filter(|text| !text.is_empty() && !replayed) {
            self.thinking(out);
            self.piece(&json!({"type": "thinking_delta", "thinking": thoughts}), out);
        }
        match &delta.seal {
            None => {}
            Some(Seal::Signature(signature)) => self.sign(signature, out),
            Some(Seal::Redacted(block)) => self.redacted(&serde_json::from_str(block).unwrap_or_default(), out),
        }
        for words in [&delta.content, &delta.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
            if !matches!(self.open, Some(Open::Text)) {
                self.begin(Open::Text, &json!({"type": "text", "text": ""}), out);
            }
            self.piece(&json!({"type": "text_delta", "text": words}), out);
        }
        for fragment in &delta.tool_calls {
            self.fragment(fragment, out);
        }
    }

    pub fn finish(&mut self, finish: Finish, out: &mut Vec<u8>) {
        self.close(out);
        for call in std::mem::take(&mut self.waiting) {
            self.begin_call(call, out);
            self.close(out);
        }
        self.finished = Some(finish);
    }

    /// Sees to it that a block of thinking is open to be written to.
    fn thinking(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.open, Some(Open::Thinking)) {
            self.begin(Open::Thinking, &json!({"type": "thinking", "thinking": "", "signature": ""}), out);
        }
    }

    /// Ends a block of thinking with its signature; one without text is begun for it.
    fn sign(&mut self, signature: &str, out: &mut Vec<u8>) {
        self.thinking(out);
        self.piece(&json!({"type": "signature_delta", "signature": signature}), out);
        self.close(out);
    }

    /// Thinking that nobody may read: it comes whole.
    fn redacted(&mut self, block: &Value, out: &mut Vec<u8>) {
        self.begin(Open::Thinking, block, out);
        self.close(out);
    }

    fn replayed(&mut self, delta: &Delta, out: &mut Vec<u8>) -> bool {
        let kept = delta.extra.iter().find(|(name, _)| &**name == THINKING_BLOCKS);
        let kept = kept.and_then(|(_, raw)| serde_json::from_str::<Vec<Value>>(raw.get()).ok()).unwrap_or_default();
        for block in &kept {
            match (block["thinking"].as_str(), block["signature"].as_str()) {
                (Some(thoughts), signature) => {
                    self.thinking(out);
                    if !thoughts.is_empty() {
                        self.piece(&json!({"type": "thinking_delta", "thinking": thoughts}), out);
                    }
                    self.sign(signature.unwrap_or_default(), out);
                }
                (None, _) => self.redacted(block, out),
            }
        }
        !kept.is_empty()
    }

    fn fragment(&mut self, fragment: &ToolCallDelta, out: &mut Vec<u8>) {
        match &mut self.open {
            Some(Open::Call(call)) if call.index == fragment.index => {
                call.arguments.push_str(&fragment.arguments);
                if !fragment.arguments.is_empty() {
                    self.piece(&json!({"type": "input_json_delta", "partial_json": fragment.arguments}), out);
                }
                return;
            }
            _ => {}
        }
        if let Some(call) = self.waiting.iter_mut().find(|call| call.index == fragment.index) {
            return call.arguments.push_str(&fragment.arguments);
        }
        if self.written.contains(&fragment.index) {
            // Its block is closed: the arguments were complete, and what follows is only white space.
            return;
        }
        let call = Call {
            index: fragment.index,
            id: fragment.id.clone().unwrap_or_default(),
            name: fragment.name.clone().unwrap_or_default(),
            arguments: fragment.arguments.clone(),
        };
        match &self.open {
            Some(Open::Call(open)) if !open.is_complete() || !self.waiting.is_empty() => self.waiting.push(call),
            _ => self.begin_call(call, out),
        }
    }

    fn begin_call(&mut self, call: Call, out: &mut Vec<u8>) {
        let block = json!({"type": "tool_use", "id": tool_id(&call.id), "name": call.name, "input": {}});
        let arguments = call.arguments.clone();
        self.written.push(call.index);
        self.begin(Open::Call(call), &block, out);
        if !arguments.is_empty() {
            self.piece(&json!({"type": "input_json_delta", "partial_json": arguments}), out);
        }
    }

    fn begin(&mut self, open: Open, block: &Value, out: &mut Vec<u8>) {
        self.close(out);
        let index = self.count;
        event(
            out,
            "content_block_start",
            &json!({"type": "content_block_start", "index": index, "content_block": block}),
        );
        self.open = Some(open);
        self.count += 1;
    }

    fn piece(&mut self, delta: &Value, out: &mut Vec<u8>) {
        let index = self.count.saturating_sub(1);
        event(out, "content_block_delta", &json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let index = self.count.saturating_sub(1);
            event(out, "content_block_stop", &json!({"type": "content_block_stop", "index": index}));
        }
    }
}
