//! `stepwell batch FILE`: the lines of a file, answered by a running server, with a bar that shows how far it is. Neither
//! file is ever whole in memory.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Exit, Outcome, block_on, print};
use crate::provider::transport::{Incoming, Transport};

/// For a connection to the server.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the server may be away in a row until that is taken for its end.
const PATIENT_TRIES: u32 = 60;
const PIECE: usize = 256 << 10;

pub fn run(
    file: &Path,
    output: Option<PathBuf>,
    endpoint: &str,
    window: &str,
    url: &str,
    api_key: Option<&str>,
) -> Outcome {
    let output = output.unwrap_or_else(|| file.with_extension("out.jsonl"));
    let errors = file.with_extension("errors.jsonl");
    block_on(async {
        let server = Server { transport: Transport::default(), url: url.trim_end_matches('/'), api_key };
        let uploaded = server.upload(file).await?;
        let asked = json!({"input_file_id": uploaded, "endpoint": endpoint, "completion_window": window});
        let batch = server.post("/batches", &asked).await?;
        let id = text(&batch, "id")?;
        eprintln!("batch {id}; it goes on if you leave: GET {url}/batches/{id}");
        let batch = server.followed(&id).await?;
        for (member, path) in [("output_file_id", &output), ("error_file_id", &errors)] {
            if let Some(file) = batch[member].as_str() {
                server.download(file, path).await?;
                eprintln!("{} has been written", path.display());
            }
        }
        let counts = &batch["request_counts"];
        let summary = format!(
            "{id} {}: {} answered, {} not, of {}",
            batch["status"].as_str().unwrap_or_default(),
            counts["completed"],
            counts["failed"],
            counts["total"]
        );
        for error in batch["errors"]["data"].as_array().into_iter().flatten().take(10) {
            eprintln!("line {}: {}", error["line"], error["message"].as_str().unwrap_or_default());
        }
        print(&summary)?;
        let is_whole = batch["status"] == "completed" && counts["failed"] == 0;
        if is_whole { Ok(()) } else { Err(Exit::new(Exit::FAILED, String::new())) }
    })?
}

fn text(object: &Value, member: &str) -> anyhow::Result<String> {
    let text = object[member].as_str().map(str::to_owned);
    text.with_context(|| format!("the server's answer has no `{member}`: is this stepwell?"))
}

struct Server<'a> {
    transport: Transport,
    url: &'a str,
    api_key: Option<&'a str>,
}

impl Server<'_> {
    fn headers(&self, kind: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        put(CONTENT_TYPE, kind.to_owned());
        if let Some(key) = self.api_key {
            put(AUTHORIZATION, format!("Bearer {key}"));
        }
        headers
    }

    async fn upload(&self, path: &Path) -> anyhow::Result<String> {
        let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = file.metadata().await.map(|metadata| metadata.len()).unwrap_or(0);
        let bar = bar(bytes, "uploading {wide_bar} {bytes}/{total_bytes}");
        let boundary = format!("stepwell-{}", uuid::Uuid::new_v4().simple());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("batch.jsonl").replace(['"', '\\'], "_");
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\n\
             content-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             content-type: application/jsonl\r\n\r\n"
        );
        let shown = bar.clone();
        let content = tokio_util::io::ReaderStream::with_capacity(file, PIECE).inspect(move |piece| {
            shown.inc(piece.as_ref().map_or(0, Bytes::len) as u64);
        });
        let once = |text: String| futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(text))]);
        let body = once(head).chain(content).chain(once(format!("\r\n--{boundary}--\r\n")));
        let headers = self.headers(&format!("multipart/form-data; boundary={boundary}"));
        let incoming = self.transport.upload(&format!("{}/files", self.url), headers, body, PATIENCE).await;
        bar.finish_and_clear();
        text(&answer(incoming.map_err(anyhow::Error::msg)?).await?, "id")
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(body.to_string()))]);
        let headers = self.headers("application/json");
        let incoming = self.transport.upload(&format!("{}{path}", self.url), headers, body, PATIENCE).await;
        answer(incoming.map_err(anyhow::Error::msg)?).await
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let headers = self.headers("application/json");
        let incoming = self.transport.get(&format!("{}{path}", self.url), headers, PATIENCE).await;
        answer(incoming.map_err(anyhow::Error::msg)?).await
    }

    /// The batch once it has ended. A server that is away for a while is waited for.
    async fn followed(&self, id: &str) -> anyhow::Result<Value> {
        let bar = bar(0, "{msg:12} {wide_bar} {pos}/{len} {eta}");
        let mut away = 0;
        loop {
            match self.get(&format!("/batches/{id}")).await {
                Ok(batch) => {
                    away = 0;
                    let count = |member: &str| batch["request_counts"][member].as_u64().unwrap_or(0);
                    bar.set_length(count("total"));
                    bar.set_position(count("completed") + count("failed"));
                    let status = batch["status"].as_str().unwrap_or_default().to_owned();
                    bar.set_message(status.clone());
                    if ["completed", "failed", "expired", "cancelled"].contains(&status.as_str()) {
                        bar.finish_and_clear();
                        return Ok(batch);
                    }
                }
                Err(error) => {
                    away += 1;
                    if away >= PATIENT_TRIES {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn download(&self, file: &str, path: &Path) -> anyhow::Result<()> {
        let url = format!("{}/files/{file}/content", self.url);
        let incoming = self.transport.get(&url, self.headers("application/json"), PATIENCE).await;
        let mut incoming = incoming.map_err(anyhow::Error::msg)?;
        if !incoming.status.is_success() {
            answer(incoming).await?;
            return Ok(());
        }
        let mut written = std::io::BufWriter::new(
            std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?,
        );
        incoming.unbounded();
        while let Some(piece) = incoming.next().await {
            let piece = piece.map_err(|failure| anyhow::anyhow!("the download broke off: {}", failure.message))?;
            written.write_all(&piece).with_context(|| format!("cannot write {}", path.display()))?;
        }
        written.flush().with_context(|| format!("cannot write {}", path.display()))
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // On standard error, and only where that is a terminal.
    ProgressBar::new(length).with_style(style)
}

/// The JSON of an answer, or what the server says is wrong.
async fn answer(incoming: Incoming) -> anyhow::Result<Value> {
    let status = incoming.status;
    let body =
        incoming.collect().await.map_err(|failure| anyhow::anyhow!("the answer broke off: {}", failure.message))?;
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(json);
    }
    let message = json["error"]["message"].as_str().unwrap_or("no reason was given").to_owned();
    Err(anyhow::anyhow!("the server answered {}: {message}", status.as_u16()))
}
