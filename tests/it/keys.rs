//! Keys and roles: who is let in, who sees what, and that a key is nowhere but with its holder.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::app::ask;
use crate::support::process::{Home, until};
use crate::support::servers::stores;
use crate::support::{App, app, upstream};

const ALWAYS: &str = "
providers: { one: { format: openai, base_url: '{0}', models: [ { id: m1, price: { input: 1, output: 2 } }, { id: m2 } ] }, demo: }
routing: { aliases: { house: { only: [one/m1] } } }
auth: { required: always }
tiers: { free: { models: [house] }, team: {} }
";

/// A key by the command line, and what it printed.
fn create(app: &App, arguments: &[&str]) -> Value {
    let output = app.command(&[&["keys", "create", "--json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}

async fn known(app: &App, key: &str) {
    until("the server knows the key", async || app.get_as(key, "/v1/models").await.0 == 200).await;
}

fn text(key: &Value) -> String {
    key["key"].as_str().expect("a key").to_owned()
}

#[tokio::test]
async fn a_key_made_beside_a_running_server_opens_it_until_it_is_revoked() {
    for storage in stores().await {
        let one = upstream().await;
        let app = app(&format!("{ALWAYS}{storage}"), &[&one]).await;
        let key = create(&app, &["--name", "search", "--tier", "team", "--expires", "90d"]);
        let shown = text(&key);
        assert!(shown.starts_with("sk-sw-") && shown.len() == 55, "{key}");
        assert!(key["id"].as_str().is_some_and(|id| id.starts_with("key_")), "{key}");
        assert_eq!((&key["name"], &key["tier"]), (&json!("search"), &json!("team")));
        assert!(key["expires_at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{key}");
        known(&app, &shown).await;
        let body = ask("hi");
        for header in ["authorization", "x-api-key", "api-key"] {
            let value = if header == "authorization" { format!("Bearer {shown}") } else { shown.clone() };
            let post = app.client.post(format!("{}/v1/chat/completions", app.url)).header(header, value).json(&body);
            assert_eq!(post.send().await.expect("an answer").status(), 200, "{header}");
        }
        let (_, headers, _) = app.chat_as(&shown, &body).await;
        let row =
            app.get_as(&shown, &format!("/v1/requests/{}", headers["x-request-id"].to_str().expect("text"))).await.1;
        assert_eq!((&row["key"], &row["tier"]), (&json!("search"), &json!("team")));

        assert!(app.command(&["keys", "revoke", "search"]).status.success());
        let revoked = Instant::now();
        until("the key opens nothing", async || app.chat_as(&shown, &body).await.0 == 401).await;
        assert!(revoked.elapsed() < Duration::from_secs(5));
        let (_, headers, refused) = app.chat_as(&shown, &body).await;
        assert_eq!(refused["error"]["code"], "invalid_api_key");
        assert_eq!(refused["error"]["type"], "invalid_request_error");
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("revoked")), "{refused}");
        assert!(headers["www-authenticate"] == "Bearer" && headers["x-should-retry"] == "false");
        let list = app.command(&["keys", "list"]);
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.contains("search") && list.contains("revoked") && !list.contains(&shown), "{list}");
    }
}

#[tokio::test]
async fn what_is_no_key_in_force_is_refused_with_the_reason() {
    let one = upstream().await;
    let app = app(ALWAYS, &[&one]).await;
    let key = text(&create(&app, &["--name", "a"]));
    known(&app, &key).await;
    let mistyped = format!("{}{}", &key[..54], if key.ends_with('a') { 'b' } else { 'a' });
    let stranger = {
        let other = crate::support::app(ALWAYS, &[&one]).await;
        text(&create(&other, &["--name", "a"]))
    };
    for (shown, said) in [(&*mistyped, "checksum"), (&stranger, "not known"), ("sk-other", "no key of stepwell")] {
        let (status, _, refused) = app.chat_as(shown, &ask("hi")).await;
        assert_eq!(status, 401);
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains(said)), "{refused}");
        assert!(!refused.to_string().contains(shown), "{refused}");
    }
    let (status, _, refused) = app.chat(&ask("hi")).await;
    assert_eq!((status, refused["error"]["code"].as_str()), (401, Some("invalid_api_key")));
    let both = app.client.get(format!("{}/v1/models", app.url)).bearer_auth(&key).header("x-api-key", "other");
    assert_eq!(both.send().await.expect("an answer").status(), 401, "two different credentials");
    // In the words of the dialect that was asked in.
    let refused: Value = app.post("/v1/messages", &ask("hi")).await.json().await.expect("json");
    assert_eq!((&refused["type"], &refused["error"]["type"]), (&json!("error"), &json!("authentication_error")));
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_rotated_key_goes_on_for_the_overlap_only() {
    for storage in stores().await {
        let one = upstream().await;
        let app = app(&format!("{ALWAYS}{storage}"), &[&one]).await;
        let old = text(&create(&app, &["--name", "a"]));
        let rotated = app.command(&["keys", "rotate", "a", "--json"]);
        let new = text(&serde_json::from_slice(&rotated.stdout).expect("json"));
        assert_ne!(old, new);
        known(&app, &new).await;
        known(&app, &old).await;
        let rotated = app.command(&["keys", "rotate", "a", "--overlap", "0", "--json"]);
        let newest = text(&serde_json::from_slice(&rotated.stdout).expect("json"));
        until("both old ones are refused", async || {
            app.get_as(&old, "/v1/models").await.0 == 401 && app.get_as(&new, "/v1/models").await.0 == 401
        })
        .await;
        known(&app, &newest).await;
    }
}

#[tokio::test]
async fn members_see_their_own_operators_all_and_only_admins_make_keys() {
    for storage in stores().await {
        let one = upstream().await;
        let app = app(&format!("{ALWAYS}{storage}"), &[&one]).await;
        let [a, b] =
            ["a", "b"].map(|name| text(&create(&app, &["--name", name, "--team", "t", "--tag", "x", "--tag", name])));
        let operator = text(&create(&app, &["--name", "ops", "--role", "operator"]));
        let admin = text(&create(&app, &["--name", "root", "--role", "admin"]));
        known(&app, &admin).await;
        let mut ids = Vec::new();
        for key in [&a, &b, &b] {
            let (status, headers, body) = app.chat_as(key, &ask("hi")).await;
            assert_eq!(status, 200, "{body}");
            ids.push(headers["x-request-id"].to_str().expect("text").to_owned());
        }
        let requests = async |key: &str, path: &str| app.get_as(key, path).await.1["total"]["requests"].clone();
        assert_eq!(requests(&a, "/v1/usage").await, 1);
        assert_eq!(requests(&b, "/v1/usage?group_by=key").await, 2);
        assert_eq!(requests(&b, "/v1/usage?key=a").await, 2, "whatever a member asks");
        assert_eq!(requests(&operator, "/v1/usage").await, 3);
        assert_eq!(requests(&operator, "/v1/usage?key=a").await, 1);
        let listed = async |key: &str| app.get_as(key, "/v1/requests").await.1["data"].as_array().map(Vec::len);
        assert_eq!((listed(&a).await, listed(&operator).await), (Some(1), Some(3)));
        assert_eq!(app.get_as(&a, &format!("/v1/requests/{}", ids[1])).await.0, 404, "another one's request");
        assert_eq!(app.get_as(&b, &format!("/v1/requests/{}", ids[1])).await.0, 200);

        // By team, and by tag, where a row with two tags stands in both groups and once in the total.
        let (_, report) = app.get_as(&operator, "/v1/usage?group_by=team,tag").await;
        let rows: Vec<_> = report["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| (row["tag"].clone(), row["requests"].clone()))
            .collect();
        for row in [(json!("x"), json!(3)), (json!("a"), json!(1)), (json!("b"), json!(2))] {
            assert!(rows.contains(&row), "{report}");
        }
        assert_eq!(report["total"]["requests"], 3);
        assert!(report["rows"].as_array().expect("rows").iter().all(|row| row["team"] == "t"), "{report}");

        for (key, path, status) in [
            (&a, "/gateway/status", 403),
            (&operator, "/gateway/status", 200),
            (&a, "/v1/keys", 403),
            (&operator, "/v1/keys", 403),
            (&admin, "/v1/keys", 200),
        ] {
            assert_eq!(app.get_as(key, path).await.0, status, "{path}");
        }
        for path in ["/health", "/health/live", "/health/ready", "/livez", "/metrics"] {
            assert_eq!(
                app.client.get(format!("{}{path}", app.url)).send().await.expect("an answer").status(),
                200,
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_key_may_ask_for_what_its_tier_and_it_may() {
    let one = upstream().await;
    let app = app(ALWAYS, &[&one]).await;
    let free = text(&create(&app, &["--name", "free", "--tier", "free"]));
    let own = text(&create(&app, &["--name", "own", "--model", "one/m2"]));
    let demo = text(&create(&app, &["--name", "demo", "--provider", "demo"]));
    known(&app, &demo).await;
    let as_model = |model: &str| {
        let mut body = ask("hi");
        body["model"] = json!(model);
        body
    };
    for (key, model, status) in [
        (&free, "house", 200),
        (&free, "auto", 403),
        (&free, "one/m1", 403),
        (&own, "one/m2", 200),
        (&own, "m2", 200),
        (&own, "auto", 200),
        (&own, "one/m1", 403),
        (&demo, "auto", 200),
        (&demo, "m1", 403),
    ] {
        let (got, headers, body) = app.chat_as(key, &as_model(model)).await;
        assert_eq!(got, status, "{model}: {body}");
        if status == 403 {
            assert_eq!(body["error"]["param"], "model", "{body}");
        } else if *key == own {
            assert_eq!(headers["x-stepwell-model"], "m2");
        }
    }
    let listed = |list: Value| -> Vec<String> {
        list["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|model| model["id"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!(listed(app.get_as(&free, "/v1/models").await.1), ["house"]);
    assert_eq!(listed(app.get_as(&own, "/v1/models").await.1), ["one/m2"]);
    assert_eq!(app.get_as(&own, "/v1/models/one/m1").await.0, 404);
}

#[tokio::test]
async fn admins_keep_keys_over_http_too_and_mistakes_are_named() {
    let one = upstream().await;
    let app = app(&ALWAYS.replace("auth: { required: always }", ""), &[&one]).await;
    let made: Value = app
        .post("/v1/keys", &json!({"name": "a", "tier": "free", "expires": "1h", "limits": {"requests_per_minute": 3}}))
        .await
        .json()
        .await
        .expect("json");
    assert_eq!((&made["limits"], &made["state"]), (&json!({"requests_per_minute": 3}), &json!("active")));
    let key = text(&made);
    let shown = app.get("/v1/keys/a").await;
    assert_eq!(shown["id"], made["id"]);
    assert!(shown.get("key").is_none() && !app.get("/v1/keys").await.to_string().contains(&key));
    for (wish, param) in [
        (json!({"name": "a"}), "name"),
        (json!({"name": "with space"}), "name"),
        (json!({"name": "b", "tier": "gold"}), "tier"),
        (json!({"name": "b", "expires": "soon"}), "expires"),
        (json!({"name": "b", "limits": {"requests_per_minute": 0}}), "requests_per_minute"),
        (json!({"name": "b", "expires": "2020-01-01T00:00:00Z"}), "expires"),
    ] {
        let response = app.post("/v1/keys", &wish).await;
        let (status, refused) = (response.status().as_u16(), response.json::<Value>().await.expect("json"));
        assert!([400, 404, 409].contains(&status), "{wish}: {refused}");
        assert_eq!(refused["error"]["param"], param, "{wish}: {refused}");
    }
    assert_eq!(app.post("/v1/keys", &json!({"nam": "b"})).await.status(), 400);
    let rotated: Value = app.post("/v1/keys/a/rotate", &json!({"overlap": "0s"})).await.json().await.expect("json");
    assert_eq!(app.chat_as(&key, &ask("hi")).await.0, 401, "at once");
    let mut house = ask("hi");
    house["model"] = json!("house");
    assert_eq!(app.chat_as(&text(&rotated), &house).await.0, 200);
    let gone = app.client.delete(format!("{}/v1/keys/a", app.url)).send().await.expect("an answer");
    assert_eq!(gone.json::<Value>().await.expect("json")["state"], "revoked");
    assert_eq!(app.chat_as(&text(&rotated), &house).await.0, 401, "at once");
    assert_eq!(app.client.delete(format!("{}/v1/keys/nobody", app.url)).send().await.expect("an answer").status(), 404);
    // A page that a browser happens to show must not make itself a key.
    let foreign = app
        .client
        .post(format!("{}/v1/keys", app.url))
        .header("origin", "http://evil.example")
        .json(&json!({"name": "evil"}));
    assert_eq!(foreign.send().await.expect("an answer").status(), 403);
}

#[tokio::test]
async fn listening_wider_without_keys_is_refused_with_the_fix() {
    let home = Home::new("providers: { demo: }\nserver: { listen: '0.0.0.0:0' }\n");
    assert_eq!(home.fails().await, Some(3));
    let said = home.errors();
    for word in ["stepwell keys create", "--insecure", "required: never"] {
        assert!(said.contains(word), "{said}");
    }
    let made =
        home.command().args(["keys", "create", "--name", "first", "--json", "--data-dir"]).arg(home.data()).output();
    let key = text(&serde_json::from_slice(&made.expect("the binary runs").stdout).expect("json"));
    let process = home.start().await;
    let url = process.url.replace("0.0.0.0", "127.0.0.1");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ask = |key: Option<&str>| {
        let get = client.get(format!("{url}/v1/models"));
        key.map_or(get.try_clone().expect("a request"), |key| get.bearer_auth(key)).send()
    };
    assert_eq!(ask(None).await.expect("an answer").status(), 401, "loopback is no exception there");
    assert_eq!(ask(Some(&key)).await.expect("an answer").status(), 200);
    process.stop().await;
    // What was stolen from the disk opens nothing.
    for file in std::fs::read_dir(home.data()).expect("a directory") {
        let bytes = std::fs::read(file.expect("an entry").path()).expect("a file");
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "the key is on the disk");
    }
}

#[tokio::test]
async fn keys_under_another_secret_stop_the_start() {
    let home = Home::new("providers: { demo: }\n");
    let create = |name: &str| {
        home.command()
            .args(["keys", "create", "--name", name, "--data-dir"])
            .arg(home.data())
            .output()
            .expect("it runs")
    };
    assert!(create("a").status.success());
    std::fs::remove_file(home.data().join("stepwell.secret")).expect("a file");
    assert_eq!(home.fails().await, Some(1));
    assert!(home.errors().contains("another secret"), "{}", home.errors());
    let again = create("b");
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("another secret"));
}

/// Paths without a credential. Whoever adds one thinks about it here.
const OPEN: [&str; 4] = ["/health", "/openapi.json", "/docs", "/metrics"];

#[tokio::test]
async fn every_path_but_a_few_needs_a_key() {
    let one = upstream().await;
    let app = app(ALWAYS, &[&one]).await;
    let document = app.get("/openapi.json").await;
    let mut closed = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in ["get", "post", "put", "patch", "delete"].into_iter().filter(|method| item.get(method).is_some())
        {
            let is_open = OPEN.iter().any(|open| path == open || path.starts_with(&format!("{open}/")));
            let path = path.replace(['{', '}', '*'], "");
            let method: reqwest::Method = method.to_uppercase().parse().expect("a method");
            let response =
                app.client.request(method.clone(), format!("{}{path}", app.url)).json(&json!({})).send().await;
            let status = response.expect("an answer").status();
            assert_eq!(status == 401, !is_open, "{method} {path}: {status}");
            closed += usize::from(!is_open);
        }
    }
    assert!(closed >= 18, "{closed}");
    // The same under every prefix.
    for prefix in ["/openai/v1", "/anthropic/v1", "/v1/v1", ""] {
        let status = app.post(&format!("{prefix}/chat/completions"), &ask("hi")).await.status();
        assert_eq!(status, 401, "{prefix}");
    }
}

#[tokio::test]
async fn metrics_can_be_for_operators_only() {
    let one = upstream().await;
    let app = app(&ALWAYS.replace("required: always", "required: always, metrics: operator"), &[&one]).await;
    let [member, operator] = ["member", "operator"].map(|role| text(&create(&app, &["--name", role, "--role", role])));
    known(&app, &operator).await;
    let status = async |key: &str| app.get_as(key, "/metrics").await.0;
    assert_eq!((status("").await, status(&member).await, status(&operator).await), (401, 403, 200));
}

#[tokio::test]
async fn operators_reload_and_drain_and_members_do_not() {
    let one = upstream().await;
    let app = app(ALWAYS, &[&one]).await;
    let [member, operator] = ["member", "operator"].map(|role| text(&create(&app, &["--name", role, "--role", role])));
    known(&app, &operator).await;
    let post = async |key: &str, path: &str| {
        let response = app.client.post(format!("{}{path}", app.url)).bearer_auth(key).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("json"))
    };
    for path in ["/gateway/reload", "/gateway/drain"] {
        assert_eq!((post("", path).await.0, post(&member, path).await.0), (401, 403), "{path}");
    }
    assert_eq!(post(&operator, "/gateway/reload").await.1["version"], 2);
    app.rewrite(&ALWAYS.replace("tiers:", "tierz:"), &[&one]);
    let (status, refused) = post(&operator, "/gateway/reload").await;
    assert_eq!((status, &refused["error"]["code"]), (422, &json!("invalid_configuration")));
    assert!(
        refused["error"]["message"].as_str().is_some_and(|text| text.contains("did you mean `tiers`?")),
        "{refused}"
    );
    let health = app.get("/health").await.to_string();
    assert!(health.contains("has mistakes") && !health.contains("tierz"), "not for everybody: {health}");
    assert_eq!(post(&operator, "/gateway/drain").await.1["status"], "draining");
    assert_eq!(app.client.get(format!("{}/health/ready", app.url)).send().await.expect("an answer").status(), 503);
    assert_eq!(app.chat_as(&member, &ask("hi")).await.0, 200, "requests go on");
}

#[tokio::test]
async fn e03_no_credential_of_a_caller_is_in_any_log_metric_error_or_file_at_level_trace() {
    let home = Home::new(
        "providers: { demo: }\nlogging: { level: trace, access: true }\nauth: { required: always, jwt: { issuer: i, audience: a, jwks_url: 'http://127.0.0.1:9/keys' } }\n",
    );
    let made = home
        .command()
        .args(["keys", "create", "--name", "a", "--role", "admin", "--json", "--data-dir"])
        .arg(home.data())
        .output();
    let key = text(&serde_json::from_slice(&made.expect("the binary runs").stdout).expect("json"));
    let process = home.start().await;
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let unknown = format!("{}0000000", &key[..48]);
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImNhbmFyeSJ9.eyJzdWIiOiJjYW5hcnktc3ViIn0.Y2FuYXJ5LXNpZw";
    let mut said = String::new();
    for credential in [&*key, &unknown, token, "canary-foreign-key"] {
        for path in ["/v1/chat/completions", "/v1/keys", "/v1/messages"] {
            let post = client.post(format!("{}{path}", process.url)).bearer_auth(credential);
            let post = post.header("idempotency-key", "canary-idempotency-key").json(&ask("canary-prompt"));
            said.push_str(
                &post.send().await.expect("an answer").text().await.expect("text").replace("canary-prompt", ""),
            );
        }
        said.push_str(
            &client
                .get(format!("{}/v1/keys", process.url))
                .bearer_auth(credential)
                .send()
                .await
                .expect("an answer")
                .text()
                .await
                .expect("text"),
        );
    }
    said.push_str(
        &client.get(format!("{}/metrics", process.url)).send().await.expect("an answer").text().await.expect("text"),
    );
    process.stop().await;
    said.push_str(&home.errors());
    said.push_str(&home.output());
    for file in std::fs::read_dir(home.data()).expect("a directory") {
        said.push_str(&String::from_utf8_lossy(&std::fs::read(file.expect("an entry").path()).expect("a file")));
    }
    assert!(said.contains("stepwell::access"), "the access log is on: {said}");
    // The ending of a key is shown on purpose.
    for secret in [
        &key[6..40],
        &key[..],
        &unknown,
        token,
        "Y2FuYXJ5LXNpZw",
        "canary-foreign-key",
        "canary-idempotency-key",
        "canary-prompt",
    ] {
        let found = said.find(secret).map(|at| said[at.saturating_sub(120)..].chars().take(240).collect::<String>());
        assert!(found.is_none(), "`{secret}` in {found:?}");
    }
}

#[tokio::test]
async fn a_limit_that_is_no_number_makes_no_key() {
    let one = upstream().await;
    let app = app(ALWAYS, &[&one]).await;
    for limit in ["budget.month=NaN", "budget.day=inf", "budget.month=-5", "requests_per_minute=0", "colour=1", "x"] {
        let output = app.command(&["keys", "create", "--name", "x", "--limit", limit]);
        assert!(!output.status.success(), "{limit}");
    }
}
