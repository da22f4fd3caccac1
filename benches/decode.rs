//! What reading an answer costs: streams of a hundred pieces, one event of 2 MiB, and a plain answer of 100 kB.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use stepwell::catalog::Format;
use stepwell::chat::Sequence;
use stepwell::provider::adapter;
use stepwell::provider::adapter::Piece;
use stepwell::provider::framing::Splitter;

const PIECES: usize = 100;
const WORDS: &str = "four words of text, ";

fn anthropic() -> String {
    let mut body = String::new();
    let mut event = |data: serde_json::Value| {
        body.push_str(&format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()));
    };
    event(
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 10}}}),
    );
    event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
    for _ in 0..PIECES {
        event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}}));
    }
    event(json!({"type": "content_block_stop", "index": 0}));
    event(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 400}}));
    event(json!({"type": "message_stop"}));
    body
}

fn openai() -> String {
    let chunk = |delta: serde_json::Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt",
            "service_tier": "default", "system_fingerprint": "fp_1", "choices": [choice], "usage": null});
        format!("data: {chunk}\n\n")
    };
    let mut body = chunk(json!({"role": "assistant", "content": "", "refusal": null}), None);
    for _ in 0..PIECES {
        body.push_str(&chunk(json!({"content": WORDS}), None));
    }
    body.push_str(&chunk(json!({}), Some("stop")));
    body.push_str(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":400,\"total_tokens\":410}}\n\n",
    );
    body.push_str("data: [DONE]\n\n");
    body
}

fn gemini() -> String {
    let event = |text: &str, more: serde_json::Value| {
        let mut candidate = json!({"content": {"role": "model", "parts": [{"text": text}]}, "index": 0});
        if let (Some(candidate), Some(more)) = (candidate.as_object_mut(), more.as_object()) {
            candidate.extend(more.clone());
        }
        let event = json!({"candidates": [candidate], "modelVersion": "gemini", "responseId": "r",
            "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}});
        format!("data: {event}\r\n\r\n")
    };
    let mut body: String = (0..PIECES).map(|_| event(WORDS, json!({}))).collect();
    body.push_str(&event("", json!({"finishReason": "STOP"})));
    body
}

/// One event of 2 MiB, such as a tool's arguments that hold a file.
fn large_event() -> String {
    let chunk = |text: &str, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "chatcmpl-1", "model": "gpt", "choices": [choice]}))
    };
    chunk(&WORDS.repeat((2 << 20) / WORDS.len()), None) + &chunk("", Some("stop")) + "data: [DONE]\n\n"
}

/// Reads a stream that arrives in network-sized pieces, up to the chunks that a caller is sent.
fn read(format: Format, bytes: &[u8]) -> usize {
    let (mut splitter, mut decoder, mut sequence) =
        (Splitter::default(), adapter(format).decoder(), Sequence::default());
    let (mut events, mut pieces, mut sent) = (Vec::new(), Vec::new(), 0);
    for packet in bytes.chunks(1400) {
        splitter.push(packet, &mut events).expect("small events");
        for event in events.drain(..) {
            decoder.event(&event, &mut pieces);
        }
        for piece in pieces.drain(..) {
            if let Piece::Chunk(chunk) = piece {
                sent += usize::from(sequence.accept(chunk).is_some());
            }
        }
    }
    assert!(sequence.is_finished());
    sent
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, format, body) in [
        ("anthropic/100_chunks", Format::Anthropic, anthropic()),
        ("openai/100_chunks", Format::OpenAi, openai()),
        ("gemini/100_chunks", Format::Gemini, gemini()),
        ("openai/one_event_of_2_MiB", Format::OpenAi, large_event()),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| read(format, black_box(body.as_bytes()))));
    }
    let text = WORDS.repeat(100_000 / WORDS.len());
    let plain = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20_000, "total_tokens": 20_010}})
    .to_string();
    group.throughput(Throughput::Bytes(plain.len() as u64));
    group.bench_function("openai/plain_100_kB", |b| {
        b.iter(|| adapter(Format::OpenAi).decode(black_box(plain.as_bytes())).expect("an answer"));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
