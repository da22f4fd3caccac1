//! Deviations that no recording shows and that servers are known for, one test each.

use super::*;
use crate::chat::{Assembly, Sequence};
use crate::provider::framing::{Framing, Splitter};

fn whole(body: &str) -> Result<Response, Failure> {
    OpenAi.decode(body.as_bytes())
}

/// What a caller gets of a stream with these payloads.
fn stream(payloads: &[&str]) -> Result<Response, Failure> {
    let body: String = payloads.iter().map(|data| format!("data:{data}\n\n")).collect();
    let (mut splitter, mut events) = (Splitter::new(Framing::Sse), Vec::new());
    splitter.push(body.as_bytes(), &mut events).expect("small events");
    let (mut decoder, mut pieces) = (OpenAi.decoder(), Vec::new());
    events.iter().for_each(|event| decoder.event(event, &mut pieces));
    let (mut sequence, mut assembly, mut done) = (Sequence::default(), Assembly::default(), false);
    for piece in pieces {
        match piece {
            Piece::Chunk(chunk) => sequence.accept(chunk).iter().for_each(|chunk| assembly.push(chunk)),
            Piece::Failure(failure) => return Err(failure),
            Piece::Done => done = true,
            Piece::Unreadable => return Err(Failure::malformed("unreadable")),
        }
    }
    sequence.end(done).map_err(|_| Failure::malformed("cut"))?.iter().for_each(|chunk| assembly.push(chunk));
    Ok(assembly.into_response(String::new(), 0, String::new(), sequence.usage))
}

fn text(answer: Result<Response, Failure>) -> String {
    answer.expect("an answer").choices[0].message.content.clone().unwrap_or_default()
}

fn message(message: &str) -> Result<Response, Failure> {
    whole(&format!("{{\"choices\":[{{\"message\":{message},\"finish_reason\":\"stop\"}}]}}"))
}

fn finish_of(word: &str) -> Result<Finish, FailureKind> {
    let body = format!("{{\"choices\":[{{\"message\":{{\"content\":\"x\"}},\"finish_reason\":\"{word}\"}}]}}");
    whole(&body).map(|answer| answer.choices[0].finish).map_err(|failure| failure.kind)
}

#[test]
fn every_known_word_for_an_end_is_understood() {
    for (word, finish) in [
        ("eos", Finish::Stop),
        ("eos_token", Finish::Stop),
        ("max_output_tokens", Finish::Length),
        ("model_length", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("sensitive", Finish::ContentFilter),
        ("refusal", Finish::ContentFilter),
    ] {
        assert_eq!(finish_of(word), Ok(finish), "{word}");
    }
    for word in ["error", "insufficient_system_resource", "network_error", "abort"] {
        assert_eq!(finish_of(word), Err(FailureKind::ServerError), "{word}");
        let chunk = format!("{{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{word}\"}}]}}");
        assert!(stream(&[&chunk, "[DONE]"]).is_err(), "{word}");
    }
}

#[test]
fn content_may_be_parts_texts_or_one_part() {
    for content in [r#"[{"type":"text","text":"a"},{"text":"b"}]"#, r#"["a","b"]"#, r#"{"type":"text","text":"ab"}"#] {
        assert_eq!(text(message(&format!("{{\"content\":{content}}}"))), "ab", "{content}");
    }
    let thinking = message(r#"{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"a"}]}"#);
    assert_eq!(thinking.expect("an answer").choices[0].message.reasoning_content.as_deref(), Some("hm"));
}

#[test]
fn reasoning_is_found_under_every_name() {
    for said in [
        r#""reasoning":"hm""#,
        r#""reasoning_content":"hm""#,
        r#""reasoning":{"content":"hm"}"#,
        r#""reasoning_details":[{"type":"reasoning.text","text":"h"},{"type":"reasoning.summary","summary":"m"}]"#,
        r#""reasoning":"hm","reasoning_details":[{"type":"reasoning.text","text":"hm"}]"#,
    ] {
        let answer = message(&format!("{{\"content\":\"x\",{said}}}")).expect("an answer");
        assert_eq!(answer.choices[0].message.reasoning_content.as_deref(), Some("hm"), "{said}");
    }
}

#[test]
fn the_older_completions_shape_still_holds_a_text() {
    assert_eq!(text(whole(r#"{"choices":[{"text":"ab","finish_reason":"stop"}]}"#)), "ab");
    let end = r#"{"choices":[{"index":0,"text":"b","finish_reason":"stop"}]}"#;
    assert_eq!(text(stream(&[r#"{"choices":[{"index":0,"text":"a","finish_reason":null}]}"#, end])), "ab");
}

#[test]
fn a_whole_message_inside_a_stream_counts_once() {
    let end = r#"{"choices":[{"index":0,"message":{"content":"ab"},"finish_reason":"stop"}]}"#;
    assert_eq!(text(stream(&[end, "[DONE]"])), "ab");
    assert_eq!(text(stream(&[r#"{"choices":[{"index":0,"delta":{"content":"ab"}}]}"#, end])), "ab");
}

#[test]
fn nulls_and_missing_members_are_no_trouble() {
    let chunks = [
        r#"{"id":null,"choices":[{"delta":{"role":"assistant","content":"a","tool_calls":null},"finish_reason":null}]}"#,
        r#"{"choices":[{"delta":null,"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":null,"usage":{"prompt_tokens":"3","completion_tokens":"4"}}"#,
    ];
    let answer = stream(&chunks).expect("an answer");
    assert_eq!(answer.usage.as_ref().map(|usage| (usage.prompt_tokens, usage.completion_tokens)), Some((3, 4)));
    assert_eq!(text(Ok(answer)), "a");
    let whole = whole(
        r#"{"created":17.9,"error":{},"choices":[{"message":{"content":"a","tool_calls":null},"finish_reason":"stop"}]}"#,
    );
    assert_eq!(whole.expect("an answer").created, 17);
}

#[test]
fn usage_grows_and_the_last_one_counts_wherever_it_stands() {
    let chunks = [
        r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":2}}}"#,
        "[DONE]",
    ];
    assert_eq!(stream(&chunks).expect("an answer").usage.map(|usage| usage.completion_tokens), Some(2));
}

#[test]
fn an_error_is_an_error_in_every_dialect() {
    for error in [
        r#"{"error":"text"}"#,
        r#"{"error":{"message":"x","code":503}}"#,
        r#"{"object":"error","message":"x","code":400}"#,
        r#"{"code":"DataInspectionFailed","message":"x","request_id":"r"}"#,
        r#"{"detail":"x"}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#,
        r#"{"choices":[{"error":{"message":"x","code":502},"delta":{}}]}"#,
    ] {
        let begun = r#"{"choices":[{"delta":{"content":"a"}}]}"#;
        let failure = stream(&[begun, error, "[DONE]"]).expect_err(error);
        assert_ne!(failure.kind, FailureKind::Malformed, "{error}: {failure:?}");
        assert!(whole(error).is_err(), "{error}");
    }
}
