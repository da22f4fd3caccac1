//! The real application on a free port, with its own data directory.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use stepwell::config::{self, Source};

use super::Upstream;

pub struct App {
    pub url: String,
    pub client: reqwest::Client,
    pub config: PathBuf,
    running: Option<stepwell::app::Running>,
    directory: tempfile::TempDir,
}

/// A finished stream, as a client saw it.
#[derive(Debug, Default)]
pub struct Streamed {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// All `data:` payloads but `[DONE]`.
    pub chunks: Vec<Value>,
    pub done: bool,
    pub raw: String,
}

impl Streamed {
    pub fn text(&self) -> String {
        self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }
    pub fn finishes(&self) -> Vec<&str> {
        self.chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect()
    }
    pub fn error(&self) -> Option<&Value> {
        self.chunks.iter().map(|chunk| &chunk["error"]).find(|error| error.is_object())
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Starts the router. In `yaml`, `{0}`, `{1}`, ... are the base URLs of the upstreams.
pub async fn app(yaml: &str, upstreams: &[&Upstream]) -> App {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("providers.yaml");
    std::fs::write(&path, filled(yaml, upstreams)).expect("a file");
    start(directory, path).await
}

fn filled(yaml: &str, upstreams: &[&Upstream]) -> String {
    upstreams
        .iter()
        .enumerate()
        .fold(yaml.to_owned(), |yaml, (index, upstream)| yaml.replace(&format!("{{{index}}}"), &upstream.url))
}

async fn start(directory: tempfile::TempDir, path: PathBuf) -> App {
    let source = Source::File(path.clone());
    let loaded = config::load(&source, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let options = stepwell::app::Options {
        source,
        listen: Some(([127, 0, 0, 1], 0).into()),
        data_dir: Some(directory.path().join("data")),
        insecure: false,
    };
    let running = stepwell::app::start(loaded, options).await.expect("the app starts");
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().expect("a client");
    App { url: format!("http://{}", running.address), client, config: path, running: Some(running), directory }
}

/// All that is wrong with a configuration, as `stepwell check` shows it.
pub fn problems(yaml: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("providers.yaml");
    std::fs::write(&path, yaml.replace("{0}", "http://127.0.0.1:9/v1")).expect("a file");
    config::load(&Source::File(path), &|_| None).expect_err("problems").to_string()
}

/// A chat body with one user message.
pub fn ask(prompt: &str) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]})
}

impl App {
    /// Writes another configuration over the file that the app was started with.
    pub fn rewrite(&self, yaml: &str, upstreams: &[&Upstream]) {
        std::fs::write(&self.config, filled(yaml, upstreams)).expect("a file");
    }

    /// Makes a key by the API, as whoever needs none.
    pub async fn key(&self, wish: Value) -> String {
        let response = self.post("/v1/keys", &wish).await;
        let (status, key) = (response.status(), response.json::<Value>().await.expect("json"));
        assert_eq!(status, 201, "{key}");
        key["key"].as_str().expect("a key").to_owned()
    }

    /// A chat with a key: status, headers, body.
    pub async fn chat_as(&self, key: &str, body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
        let post = self.client.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(key).json(body);
        let response = post.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.json().await.expect("json"))
    }

    pub async fn get_as(&self, key: &str, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.url)).bearer_auth(key).send().await.expect("an answer");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// The binary's command line on this app's configuration and data.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_stepwell"));
        command.env_clear().args(arguments).arg("--config").arg(&self.config);
        command.arg("--data-dir").arg(self.directory.path().join("data")).output().expect("the binary runs")
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.client.post(format!("{}{path}", self.url)).json(body).send().await.expect("an answer")
    }

    pub async fn chat(&self, body: &Value) -> (u16, reqwest::header::HeaderMap, Value) {
        let response = self.post("/v1/chat/completions", body).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        (status, headers, response.json().await.expect("json"))
    }

    /// The text of a plain answer that must succeed.
    pub async fn say(&self, prompt: &str) -> String {
        let (status, _, body) = self.chat(&ask(prompt)).await;
        assert_eq!(status, 200, "{body}");
        body["choices"][0]["message"]["content"].as_str().expect("text").to_owned()
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        response.json().await.expect("json")
    }

    /// Streams a body to its end.
    pub async fn stream(&self, body: &Value) -> Streamed {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let response = self.post("/v1/chat/completions", &body).await;
        let mut streamed =
            Streamed { status: response.status().as_u16(), headers: response.headers().clone(), ..Streamed::default() };
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(Ok(piece)) = pieces.next().await {
            bytes.extend_from_slice(&piece);
        }
        streamed.raw = String::from_utf8(bytes).expect("UTF-8");
        for data in streamed.raw.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")) {
            if data == "[DONE]" {
                streamed.done = true;
            } else {
                streamed.chunks.push(serde_json::from_str(data).expect("a chunk is JSON"));
            }
        }
        streamed
    }

    /// The ledger's row of a request, by the id in its answer.
    pub async fn row(&self, headers: &reqwest::header::HeaderMap) -> Value {
        let id = headers["x-request-id"].to_str().expect("an id");
        self.get(&format!("/v1/requests/{id}")).await
    }

    /// Waits until no request is under way: rows of callers who left are written then.
    pub async fn idle(&self) {
        let gateway = &self.running.as_ref().expect("running").gateway;
        let waiting = async {
            while gateway.in_flight() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("requests end");
    }

    /// Stops cleanly and starts again on the same file and data.
    pub async fn restart(mut self) -> Self {
        let running = self.running.take().expect("running");
        assert_eq!(running.stop().await, 0, "every row is saved");
        let (directory, config) =
            (std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory")), self.config.clone());
        start(directory, config).await
    }

    pub async fn stop(mut self) -> usize {
        self.running.take().expect("running").stop().await
    }
}
