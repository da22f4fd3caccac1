//! What an answer adds up to: its usage, and its tool calls.

use serde_json::{Value, json};

use super::{pair, pair_with, usage_too};
use crate::support::app::ask;
use crate::support::upstream::{events, fault};

#[tokio::test]
async fn b14_a_usage_that_is_missing_is_estimated_marked_and_shown_to_who_asked() {
    let (one, _two, app) = pair().await;
    one.always(fault("usage=missing tokens=40"));
    let streamed = app.stream(&usage_too("tell me something about wells")).await;
    assert!(streamed.done && streamed.text().split_whitespace().count() == 40, "{}", streamed.raw);
    let last = streamed.chunks.last().expect("chunks");
    assert_eq!((&last["choices"], &last["usage"]["estimated"]), (&json!([]), &json!(true)), "{last}");
    let told = last["usage"]["completion_tokens"].as_u64().expect("tokens");
    assert!((35..=80).contains(&told), "by a tokenizer, not by a guess: {told}");
    let row = app.row(&streamed.headers).await;
    assert_eq!((&row["estimated_usage"], &row["completion_tokens"]), (&json!(true), &json!(told)), "{row}");
    assert!(row["prompt_tokens"].as_u64() >= Some(5) && row["cost_usd"].as_f64() > Some(0.0), "{row}");
    assert_eq!(one.last()["stream_options"]["include_usage"], true, "it was asked for all the same");
    let streamed = app.stream(&ask("hi")).await;
    assert!(streamed.chunks.iter().all(|chunk| chunk.get("usage").is_none()), "nobody asked: {}", streamed.raw);
}

/// One fragment of a call's arguments.
fn fragment(index: u64, id: Option<&str>, arguments: &str) -> Value {
    let mut call = json!({"index": index, "function": {"arguments": arguments}});
    if let Some(id) = id {
        call["id"] = json!(id);
        call["function"]["name"] = json!(format!("f_{id}"));
    }
    json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
}

fn finish(word: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
}

/// The calls of a stream put together as a client does it: by index.
fn assembled(chunks: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let deltas = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array()).flatten();
    for call in deltas {
        let index = call["index"].as_u64().expect("an index") as usize;
        assert!(index <= calls.len(), "an index without its predecessors: {call}");
        if index == calls.len() {
            calls.push(Default::default());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        calls[index].0 += &text(&call["id"]);
        calls[index].1 += &text(&call["function"]["name"]);
        calls[index].2 += &text(&call["function"]["arguments"]);
    }
    calls
}

/// Two calls whose arguments come in fragments of `size`, one fragment of each in turn.
fn interleaved(size: usize) -> Vec<Value> {
    let (first, second) = (r#"{"city":"Z\u00fcrich"}"#, r#"{"city":"Oslo","days":3}"#);
    let cut = |text: &str| {
        text.as_bytes().chunks(size).map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
    };
    let (first, second) = (cut(first), cut(second));
    let mut events = vec![fragment(0, Some("a"), ""), fragment(1, Some("b"), "")];
    for place in 0..first.len().max(second.len()) {
        events.extend(first.get(place).map(|part| fragment(0, None, part)));
        events.extend(second.get(place).map(|part| fragment(1, None, part)));
    }
    events
}

#[tokio::test]
async fn b15_arguments_in_fragments_keep_their_index_and_order_however_they_interleave() {
    let (one, two, app) = pair().await;
    for size in 1..=24 {
        let mut all = interleaved(size);
        // Some layers say "stop" after a call.
        all.push(finish(if size % 2 == 0 { "stop" } else { "tool_calls" }));
        one.then(events(&all));
        let streamed = app.stream(&ask("hi")).await;
        let calls = assembled(&streamed.chunks);
        let wanted = [("a", "f_a", r#"{"city":"Z\u00fcrich"}"#), ("b", "f_b", r#"{"city":"Oslo","days":3}"#)];
        let wanted = wanted.map(|(id, name, arguments)| (id.to_owned(), name.to_owned(), arguments.to_owned()));
        assert_eq!(calls, wanted, "fragments of {size}: {}", streamed.raw);
        assert_eq!((streamed.finishes(), streamed.done), (vec!["tool_calls"], true), "fragments of {size}");
    }
    assert_eq!(two.count(), 0);
}

#[tokio::test]
async fn b15_a_call_that_is_cut_never_looks_complete() {
    // Cut streams open breakers; this test is about something else.
    let (one, _two, app) = pair_with("breaker: { consecutive_failures: 100, min_requests: 1000 }").await;
    let all = interleaved(4);
    for kept in 1..=all.len() {
        // Cut off; a polite end of the body; `[DONE]` without a finish_reason, which does not say how many calls there are.
        let said = events(&all[..kept]);
        for act in [said.clone().cut(), said.clone().with("no-done").expect("a fault"), said] {
            one.then(act);
            let streamed = app.stream(&ask("hi")).await;
            assert!(streamed.finishes().is_empty() && !streamed.done, "{kept}: {}", streamed.raw);
            let error = streamed.error().expect("an error event");
            assert_eq!(error["code"], "upstream_stream_interrupted", "{kept}");
        }
    }
}
