use super::*;

fn parse(json: &str) -> Result<Request, Invalid> {
    Request::parse(Bytes::copy_from_slice(json.as_bytes()))
}

#[test]
fn members_are_slices_of_the_original_bytes() {
    let request = parse(r#"{"model":"auto", "x_new": {"a" : [1, 2]}, "messages":[{"role":"user","content":"hi"}]}"#)
        .expect("a request");
    assert_eq!(request.member("x_new"), Some(r#"{"a" : [1, 2]}"#));
    assert_eq!(request.model, "auto");
    assert_eq!(request.text_bytes(), 2);
}

#[test]
fn errors_name_the_member() {
    for (json, param, code) in [
        ("", None, "invalid_json"),
        ("[]", None, "invalid_json"),
        (r#"{"messages":[]}"#, Some("model"), "missing_required_parameter"),
        (r#"{"model":"m"}"#, Some("messages"), "missing_required_parameter"),
        (r#"{"model":"m","messages":[]}"#, Some("messages"), "invalid_value"),
        (r#"{"model":"m","messages":"hi"}"#, Some("messages"), "invalid_type"),
        (r#"{"model":7,"messages":[]}"#, Some("model"), "invalid_type"),
        (r#"{"model":"m","model":"n","messages":[]}"#, Some("model"), "invalid_json"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#, Some("messages[0].content"), "missing_required_parameter"),
        (r#"{"model":"m","messages":[{"role":"robot","content":""}]}"#, Some("messages[0].role"), "invalid_value"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}"#,
            Some("messages[0].content[0].text"),
            "invalid_type",
        ),
        (r#"{"model":"m","stream":"yes","messages":[{"role":"user","content":"hi"}]}"#, Some("stream"), "invalid_type"),
    ] {
        let error = parse(json).expect_err(json);
        assert_eq!((error.param.as_deref(), error.code), (param, code), "{json}");
    }
}

#[test]
fn deep_nesting_is_refused_without_recursion() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse(&deep).expect_err("deep").code, "invalid_json");
}

#[test]
fn the_prompt_view_is_bounded_and_never_cuts_a_character() {
    let long = "žluťoučký \\n \\u017e kůň ".repeat(2000);
    let json = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    let request = parse(&json).expect("a request");
    let prompt = request.prompt();
    assert!(prompt.head.len() <= Prompt::HEAD_BYTES && prompt.tail.len() <= Prompt::TAIL_BYTES);
    assert!(prompt.head.contains('\n') && prompt.tail.ends_with("kůň "));
}

#[test]
fn a_turn_refers_to_what_came_before() {
    let request = parse(
        r#"{"model":"m","messages":[{"role":"system","content":"S"},{"role":"user","content":"one"},
        {"role":"assistant","content":"two"},{"role":"user","content":[{"type":"text","text":"three"},{"type":"text","text":"four"}]}]}"#,
    )
    .expect("a request");
    let prompt = request.prompt();
    assert_eq!((&*prompt.system, &*prompt.previous_user, &*prompt.previous_assistant), ("S", "one", "two"));
    assert_eq!(prompt.head, "three\nfour");
}
