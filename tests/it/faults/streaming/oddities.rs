//! Streams that bend the protocol: what is said is read, what is none is somebody's failure, and nothing panics.

use serde_json::json;

use super::pair;
use crate::support::app::ask;
use crate::support::upstream::{raw, within};

const SAID: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"said\"},\"finish_reason\":\"stop\"}]}\n\n";

#[tokio::test]
async fn what_is_said_is_read_however_it_is_labelled() {
    let whole = json!({"choices": [{"message": {"content": "said"}, "finish_reason": "stop"}]}).to_string();
    let (one, two, app) = pair().await;
    for (media_type, body) in [
        ("text/event-stream", format!("{SAID}data: [DONE]\n\n")),
        ("text/event-stream; charset=utf-8", format!("{SAID}data: [DONE]\n\n")),
        ("TEXT/EVENT-STREAM", format!("{SAID}data: [DONE]\n\n")),
        ("", format!("{SAID}data: [DONE]\n\n")),
        ("text/plain", format!("{SAID}data: [DONE]\n\n")),
        ("application/octet-stream", format!("{SAID}data: [DONE]\n\n")),
        ("text/event-stream", format!("{SAID}data: [DONE] \n\n")),
        ("text/event-stream", format!("{SAID}data:  [DONE]\n\n")),
        ("text/event-stream", format!("\n\n\r\n{SAID}")),
        ("text/event-stream", format!("data: {{\"choices\":null}}\n\n{SAID}")),
        ("text/event-stream", format!("data: {{\"choices\":[{{\"delta\":null}}]}}\n\n{SAID}")),
        ("text/event-stream", format!("data: {{}}\n\ndata: null\n\ndata: 7\n\ndata: []\n\ndata: \"x\"\n\n{SAID}")),
        ("text/event-stream", format!("event: ping\ndata: {{\"type\":\"ping\"}}\n\n{SAID}")),
        ("application/json", whole.clone()),
        ("application/json; charset=utf-8", whole.clone()),
        ("APPLICATION/JSON", whole.clone()),
        ("application/json", format!("\n\n  {whole}\n\n")),
        ("application/json", format!("\u{feff}{whole}")),
    ] {
        one.then(raw(200, media_type, body.clone()));
        let streamed = within(app.stream(&ask("hi"))).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.done),
            ("said", true),
            "{media_type}: {body:?}: {}",
            streamed.raw
        );
        assert_eq!(two.count(), 0, "{media_type}: {body:?}");
    }
    // Neither asked for nor labelled as what it is: another provider is asked, and nothing of it is relayed.
    for media_type in ["", "text/plain", "text/event-stream"] {
        one.then(raw(200, media_type, whole.clone()));
        let streamed = within(app.stream(&ask("hi"))).await;
        assert_eq!((streamed.text().as_str(), streamed.done), ("hello from upstream", true), "{media_type}");
    }
}

#[tokio::test]
async fn an_error_is_found_in_whatever_event_it_comes() {
    for body in [
        "event: error\ndata: {\"message\":\"overloaded\"}\n\n",
        "event: error\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n",
        "event: error\ndata: overloaded\n\n",
        "data: {\"error\":\"overloaded\"}\n\n",
        "data: {\"error\":{\"message\":\"overloaded\"},\"choices\":[]}\n\n",
        "data: {\"detail\":\"overloaded\"}\n\ndata: [DONE]\n\n",
        "error: {\"message\":\"overloaded\"}\n\n",
        "{\"error\":{\"message\":\"overloaded\"}}",
        "data: [DONE]\n\n",
        "data: \n\n",
        "data",
        "\0\0\0\0",
    ] {
        let (one, _two, app) = pair().await;
        one.always(raw(200, "text/event-stream", body));
        let streamed = within(app.stream(&ask("hi"))).await;
        assert_eq!(
            (streamed.text().as_str(), streamed.done),
            ("hello from upstream", true),
            "{body:?}: {}",
            streamed.raw
        );
        assert_eq!(streamed.header("x-stepwell-provider"), "two", "{body:?}");
        // After content the same is an end that is none.
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n";
        let names_done = body.contains("[DONE]");
        if !names_done {
            one.always(raw(200, "text/event-stream", format!("{content}{body}")));
            let streamed = within(app.stream(&ask("hi"))).await;
            assert_eq!(streamed.text(), "half", "{body:?}");
            assert!(streamed.error().is_some() && !streamed.done, "{body:?}: {}", streamed.raw);
        }
    }
}

#[tokio::test]
async fn members_of_another_kind_than_they_should_be_do_not_panic() {
    let (one, _two, app) = pair().await;
    let odd = [json!(null), json!(7), json!("x"), json!([]), json!({}), json!([null]), json!(true), json!(-1e300)];
    for member in ["id", "model", "created", "usage", "choices", "object", "system_fingerprint"] {
        for value in &odd {
            let mut whole = json!({"id": "x", "choices": [{"message": {"content": "said"}, "delta": {"content": "said"}, "finish_reason": "stop"}]});
            whole[member] = value.clone();
            one.then(raw(200, "application/json", whole.to_string()));
            assert_eq!(within(app.chat(&ask("hi"))).await.0, 200, "{member}: {value}");
            one.then(raw(200, "text/event-stream", format!("data: {whole}\n\ndata: [DONE]\n\n")));
            let streamed = within(app.stream(&ask("hi"))).await;
            assert!(streamed.status == 200 && streamed.done, "{member}: {value}: {}", streamed.raw);
        }
    }
    for path in ["delta", "message", "finish_reason", "index", "logprobs"] {
        for value in &odd {
            let mut choice =
                json!({"message": {"content": "said"}, "delta": {"content": "said"}, "finish_reason": "stop"});
            choice[path] = value.clone();
            let whole = json!({"choices": [choice]});
            one.then(raw(200, "application/json", whole.to_string()));
            assert_eq!(within(app.chat(&ask("hi"))).await.0, 200, "{path}: {value}");
            one.then(raw(200, "text/event-stream", format!("data: {whole}\n\ndata: [DONE]\n\n")));
            let streamed = within(app.stream(&ask("hi"))).await;
            assert!(
                streamed.status == 200 && (streamed.done || streamed.error().is_some()),
                "{path}: {value}: {}",
                streamed.raw
            );
        }
    }
}
