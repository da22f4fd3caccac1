//! What a request may ask a scripted upstream for, and who decides.

use serde_json::json;

use super::act::chat;
use super::*;

fn body(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]})
}

fn chosen(x_fault: &str, body: &Value) -> Result<Fault, BadFault> {
    wanted(&chat("hi"), x_fault, body, 0.5).map(|act| act.fault)
}

#[test]
fn header_model_and_prompt_say_the_same_thing_in_the_same_words() {
    let wanted = Fault::parse("status=503; retry-after=2").expect("a fault");
    for (x_fault, body) in [
        ("status=503; retry-after=2", body("m", "hi")),
        ("", body("fault-status=503,retry-after=2", "hi")),
        ("", body("one/fault-status=503,retry-after=2", "hi")),
        ("", body("m", "hi [[fault status=503 retry_after=2]]")),
        ("status=503; retry-after=2", body("fault-stall", "[[fault status=500]]")),
    ] {
        assert_eq!(chosen(x_fault, &body), Ok(wanted.clone()), "{x_fault} {body}");
    }
    assert_eq!(chosen("", &body("m", "hi")), Ok(Fault::default()));
}

#[test]
fn a_fault_for_another_model_or_beyond_its_rate_does_not_happen() {
    for text in ["status=503 on=other", "status=503 rate=20%"] {
        assert_eq!(chosen(text, &body("m", "hi")), Ok(Fault::default()), "{text}");
    }
    assert_eq!(chosen("status=503 on=m rate=80%", &body("m", "hi")).expect("a fault").status, Some(503));
}

#[test]
fn a_rate_is_kept_within_a_few_calls() {
    let met = (0..100).filter(|count| drawn(*count) < 0.3).count();
    assert!((28..=32).contains(&met), "{met}");
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let bad = chosen("sttus=503", &body("m", "hi")).expect_err("a bad word");
    assert!(bad.to_string().contains("`sttus`"), "{bad}");
}
