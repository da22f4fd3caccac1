//! Who is chosen: strategies, names and hints, and that the explanation is what happens.

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::{App, Upstream, app, upstream};

/// `cheap` is cheap, slow and weak; `strong` is skilled and dear; `fast` is quick.
const THREE: &str = "
providers:
  cheap:
    format: openai
    base_url: '{0}'
    priority: 3
    models: [ { id: small, price: { input: 0.1, output: 0.2 }, context: 8k, skills: { general: 0.4, coding: 0.3 }, latency: { first_token: 2s, tokens_per_second: 30 }, supports: [] } ]
  strong:
    format: openai
    base_url: '{1}'
    priority: 2
    models: [ { id: large, price: { input: 10, output: 30 }, context: 200k, skills: { general: 0.9, coding: 0.95 }, latency: { first_token: 1s, tokens_per_second: 60 }, supports: [tools, vision, json_schema] } ]
  fast:
    format: openai
    base_url: '{2}'
    priority: 1
    models: [ { id: quick, price: { input: 1, output: 2 }, context: 32k, skills: { general: 0.6, coding: 0.5 }, latency: { first_token: 100ms, tokens_per_second: 300 }, supports: [tools] } ]
cache: { enabled: false }
";

async fn three(more: &str) -> (App, [Upstream; 3]) {
    let upstreams = [upstream().await, upstream().await, upstream().await];
    let app = app(&format!("{THREE}{more}"), &[&upstreams[0], &upstreams[1], &upstreams[2]]).await;
    (app, upstreams)
}

async fn chosen(app: &App, body: &Value) -> String {
    let (status, headers, answer) = app.chat(body).await;
    assert_eq!(status, 200, "{answer}");
    headers["x-stepwell-provider"].to_str().expect("text").to_owned()
}

fn hinted(context: Value) -> Value {
    let mut body = ask("Explain how tides work");
    body["context"] = context;
    body
}

#[tokio::test]
async fn each_strategy_picks_what_it_promises() {
    let (app, _upstreams) = three("").await;
    for (strategy, provider) in [
        ("cheapest", "cheap"),
        ("cost_optimized", "cheap"),
        ("fastest", "fast"),
        ("latency_based", "fast"),
        ("quality", "strong"),
        ("priority", "fast"),
    ] {
        assert_eq!(chosen(&app, &hinted(json!({"strategy": strategy}))).await, provider, "{strategy}");
    }
    let mut turns: Vec<String> = Vec::new();
    for _ in 0..3 {
        turns.push(chosen(&app, &hinted(json!({"strategy": "round_robin"}))).await);
    }
    turns.sort();
    assert_eq!(turns, ["cheap", "fast", "strong"]);
}

#[tokio::test]
async fn names_mean_what_they_say() {
    let (app, _upstreams) = three("routing: { aliases: { house: { only: [strong, cheap/small], strategy: quality }, thrifty: { avoid: [cheap], strategy: cheapest } } }\n").await;
    for (model, provider) in [
        ("auto-cheap", "cheap"),
        ("auto-fast", "fast"),
        ("auto-best", "strong"),
        ("cheap/small", "cheap"),
        ("large", "strong"),
        ("auto:floor", "cheap"),
        ("auto:nitro", "fast"),
        ("house", "strong"),
        ("house:floor", "cheap"),
        ("thrifty", "fast"),
    ] {
        let mut body = ask("Explain how tides work");
        body["model"] = json!(model);
        assert_eq!(chosen(&app, &body).await, provider, "{model}");
    }
    let models = app.get("/v1/models").await;
    let ids: Vec<&str> =
        models["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(
        ids,
        [
            "auto",
            "auto-cheap",
            "auto-fast",
            "auto-best",
            "house",
            "thrifty",
            "cheap/small",
            "strong/large",
            "fast/quick"
        ]
    );
    assert_eq!(app.get("/v1/models/strong/large").await["owned_by"], "strong");
}

#[tokio::test]
async fn a_list_of_models_is_an_ordered_fallback() {
    let (app, upstreams) = three("").await;
    upstreams[0].always(crate::support::upstream::status(500));
    let mut body = ask("hi");
    body["model"] = json!("cheap/small");
    body["models"] = json!(["fast/quick", "strong/large"]);
    assert_eq!(chosen(&app, &body).await, "fast");
    body["provider"] = json!({"allow_fallbacks": false});
    let (status, ..) = app.chat(&body).await;
    assert_eq!(status, 502, "no fallbacks means none");
}

#[tokio::test]
async fn hints_mean_the_same_in_body_metadata_and_headers() {
    let (app, _upstreams) = three("").await;
    assert_eq!(chosen(&app, &hinted(json!({"only": ["strong"]}))).await, "strong");
    let mut body = ask("hi");
    body["metadata"] = json!({"only": "strong", "my_own": "value"});
    assert_eq!(chosen(&app, &body).await, "strong");
    let request = app
        .client
        .post(format!("{}/v1/chat/completions", app.url))
        .json(&ask("hi"))
        .header("x-stepwell-avoid", "cheap, fast/quick");
    assert_eq!(request.send().await.expect("an answer").headers()["x-stepwell-provider"], "strong");
    // A label of the caller's own that looks like a hint is no reason to refuse a request.
    body["metadata"] = json!({"budget": "team-a", "only": "strong"});
    assert_eq!(chosen(&app, &body).await, "strong");
    // The body wins over headers, context over metadata.
    body["context"] = json!({"only": ["cheap"]});
    let request =
        app.client.post(format!("{}/v1/chat/completions", app.url)).json(&body).header("x-stepwell-only", "fast");
    assert_eq!(request.send().await.expect("an answer").headers()["x-stepwell-provider"], "cheap");
}

#[tokio::test]
async fn openrouters_provider_object_is_understood() {
    let (app, _upstreams) = three("").await;
    for (provider, expected) in [
        (json!({"order": ["fast", "strong"]}), "fast"),
        (json!({"only": ["strong"]}), "strong"),
        (json!({"ignore": ["fast", "strong"]}), "cheap"),
        (json!({"sort": "price"}), "cheap"),
        (json!({"sort": "throughput"}), "fast"),
        (json!({"max_price": {"prompt": 0.5}}), "cheap"),
    ] {
        let mut body = ask("hi");
        body["provider"] = provider.clone();
        assert_eq!(chosen(&app, &body).await, expected, "{provider}");
    }
}

#[tokio::test]
async fn a_hard_limit_is_never_violated_and_the_refusal_names_the_hint() {
    let (app, upstreams) = three("").await;
    let mut body = hinted(json!({"max_cost": 0.001}));
    body["max_tokens"] = json!(100);
    assert_ne!(chosen(&app, &body).await, "strong");
    assert_eq!(chosen(&app, &hinted(json!({"max_latency": "500ms"}))).await, "fast");
    assert_eq!(chosen(&app, &hinted(json!({"min_skill": 0.8}))).await, "strong");
    let calls = upstreams.iter().map(Upstream::count).sum::<usize>();
    for (context, hint) in [
        (json!({"max_cost": 0.0000001}), "max_cost"),
        (json!({"max_latency": "1ms"}), "max_latency"),
        (json!({"min_skill": 0.99}), "min_skill"),
        (json!({"only": ["nobody"]}), "only"),
        (json!({"avoid": ["cheap", "strong", "fast"]}), "avoid"),
    ] {
        let (status, _, answer) = app.chat(&hinted(context)).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (422, Some("no_candidate")), "{answer}");
        let excluded = answer["error"]["stepwell"]["excluded"].as_array().expect("a list");
        assert_eq!(excluded.len(), 3);
        assert!(excluded.iter().all(|excluded| excluded["hint"] == hint), "{answer}");
    }
    assert_eq!(upstreams.iter().map(Upstream::count).sum::<usize>(), calls);
}

#[tokio::test]
async fn impossible_hints_can_be_relaxed_and_the_answer_says_so() {
    let (app, _upstreams) = three("hints: { when_impossible: relax }\n").await;
    let (status, headers, _) = app.chat(&hinted(json!({"min_skill": 0.99}))).await;
    assert_eq!((status, &headers["x-stepwell-provider"]), (200, &"strong".parse().expect("value")));
    assert!(headers.contains_key("x-stepwell-warnings"));
}

#[tokio::test]
async fn what_a_request_needs_excludes_those_who_lack_it() {
    let (app, _upstreams) = three("routing: { strategy: cheapest }\n").await;
    assert_eq!(chosen(&app, &ask("hi")).await, "cheap");
    let mut tools = ask("What is the weather in Paris?");
    tools["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]);
    assert_eq!(chosen(&app, &tools).await, "fast");
    let image = json!([{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]);
    let vision = json!({"model": "auto", "messages": [{"role": "user", "content": image}]});
    assert_eq!(chosen(&app, &vision).await, "strong");
    assert_eq!(chosen(&app, &ask(&"word ".repeat(60_000))).await, "strong", "only one window is large enough");
    let (status, _, answer) = app.chat(&ask(&"word ".repeat(190_000))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (400, Some("context_length_exceeded")));
}

#[tokio::test]
async fn the_explanation_is_what_happens() {
    let (app, _upstreams) = three("").await;
    for context in [
        json!({}),
        json!({"budget": "low"}),
        json!({"budget": "high"}),
        json!({"latency_critical": true}),
        json!({"task": "coding"}),
        json!({"strategy": "quality"}),
    ] {
        let body = hinted(context);
        let response = app.post("/v1/route", &body).await;
        assert_eq!(response.status(), 200);
        let route: Value = response.json().await.expect("json");
        let first = &route["candidates"][0];
        assert_eq!(chosen(&app, &body).await, first["provider"].as_str().expect("a name"), "{route}");
        assert!(route["task"].is_string() && route["task_confidence"].is_number() && route["signals"].is_array());
        assert!(route["reason"].as_str().expect("a sentence").contains(first["model"].as_str().expect("a name")));
        for member in ["score", "parts", "estimated_cost_usd", "estimated_first_token_ms", "state"] {
            assert!(!first[member].is_null(), "{member}: {first}");
        }
        let scores: Vec<f64> =
            route["candidates"].as_array().expect("a list").iter().filter_map(|c| c["score"].as_f64()).collect();
        assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "best first: {scores:?}");
    }
}

#[tokio::test]
async fn an_explained_answer_carries_the_decision_losers_included() {
    let (app, _upstreams) = three("").await;
    let body = hinted(json!({"explain": true, "avoid": ["cheap"]}));
    let (_, _, answer) = app.chat(&body).await;
    let decision = &answer["stepwell"]["decision"];
    assert_eq!(decision["candidates"].as_array().expect("a list").len(), 2);
    assert_eq!(decision["excluded"][0]["hint"], "avoid");
    let streamed = app.stream(&body).await;
    assert_eq!(streamed.chunks[0]["stepwell"]["decision"]["candidates"].as_array().expect("a list").len(), 2);
}

#[tokio::test]
async fn tasks_of_ones_own_decide_by_their_patterns() {
    let (app, _upstreams) = three("tasks: { legal: { patterns: [ { match: '(?i)^contract review:', force: true } ], strategy: quality, min_skill: 0.5 }, housekeeping: { strategy: cheapest } }\n").await;
    let (_, headers, _) = app.chat(&ask("Contract review: clause 7 says")).await;
    assert_eq!(
        (&headers["x-stepwell-task"], &headers["x-stepwell-provider"]),
        (&"legal".parse().expect("value"), &"strong".parse().expect("value"))
    );
    let (_, headers, _) = app.chat(&ask("### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.\n### Chat History:\n<chat_history>\nUSER: write code\n</chat_history>")).await;
    assert_eq!(
        (&headers["x-stepwell-task"], &headers["x-stepwell-provider"]),
        (&"housekeeping".parse().expect("value"), &"cheap".parse().expect("value"))
    );
}
