//! Chunks as an event stream, in whatever dialect the caller speaks: keep-alive comments, the error event, the end. And
//! chat's own dialect: the envelope and `[DONE]`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, guarded, interrupted};
use crate::chat::{Chunk, Usage};
use crate::gateway::error::Error;
use crate::gateway::inbound::Delivery;
use crate::gateway::reply::{self, Head, Reply, ReplyStream};
use crate::ingress::{Envelope, Writer};

/// Silence after which a comment is sent: most proxies close a connection after 30 to 60 s without a byte.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What the caller asked for and is told.
#[derive(Clone)]
pub struct Options {
    pub request_id: Arc<str>,
    pub stream: bool,
    /// The hint `explain`.
    pub explain: bool,
    /// Cancelled when the server must stop and streams have to end.
    pub cut: CancellationToken,
    pub delivery: Arc<Delivery>,
}

/// A reply that is not decided yet.
pub type Pending = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// The body of a reply whose first content is there.
pub fn body(head: &Head, stream: Box<ReplyStream>, writer: Box<dyn Writer>, options: Options) -> Body {
    let envelope = envelope(head, &options);
    let target = format!("{}/{}", head.provider, head.target_model);
    Body::from_stream(async_stream::stream! {
        let mut events = std::pin::pin!(events(envelope, target, stream, writer, options));
        while let Some(event) = futures_util::StreamExt::next(&mut events).await {
            yield Ok::<Bytes, std::convert::Infallible>(event);
        }
    })
}

/// The body of a reply that takes long: comments until it is there, then the same as [`body`]. A failure becomes an error
/// event, because the status is already sent.
pub fn patient_body(
    mut pending: Pending,
    delivery: Arc<Delivery>,
    mut writer: Box<dyn Writer>,
    options: Options,
) -> Body {
    Body::from_stream(async_stream::stream! {
        yield Ok::<Bytes, std::convert::Infallible>(comment());
        let mut cut = std::pin::pin!(options.cut.clone().cancelled_owned());
        let result = loop {
            tokio::select! {
                biased;
                result = tokio::time::timeout(KEEP_ALIVE, &mut pending) => match result {
                    Ok(result) => break result,
                    Err(_) => yield Ok(comment()),
                },
                () = &mut cut => {
                    delivery.stop();
                    drop(pending);
                    yield Ok(broken(&mut *writer, &super::error::shutting_down(&options.request_id), &options));
                    return;
                }
            }
        };
        match result {
            Ok(Reply { head, body: reply::Body::Stream(stream) }) => {
                let envelope = envelope(&head, &options);
                let target = format!("{}/{}", head.provider, head.target_model);
                let mut events = std::pin::pin!(events(envelope, target, stream, writer, options));
                while let Some(event) = futures_util::StreamExt::next(&mut events).await {
                    yield Ok(event);
                }
            }
            // A provider that answered a stream request in one piece.
            Ok(Reply { head, body: reply::Body::Whole(response) }) => {
                yield Ok(whole(&head, &response, &mut *writer, &options));
            }
            Err(error) => {
                yield Ok(broken(&mut *writer, &ApiError::from(error).body(&options.request_id), &options));
            }
        }
    })
}

/// A whole answer as an event stream.
pub fn whole(head: &Head, response: &crate::chat::Response, writer: &mut dyn Writer, options: &Options) -> Bytes {
    let mut out = Vec::new();
    writer.begin(envelope(head, options), &mut out);
    for chunk in crate::chat::replay(response) {
        writer.chunk(&chunk, &mut out);
    }
    writer.end(response.usage.as_ref(), &mut out);
    Bytes::from(out)
}

fn envelope(head: &Head, options: &Options) -> Envelope {
    Envelope {
        id: head.id.clone(),
        created: head.created,
        model: head.model.clone(),
        explanation: options.explain.then(|| super::chat::decision(head, &options.request_id)),
    }
}

/// An error in the caller's dialect, from its OpenAI body.
fn broken(writer: &mut dyn Writer, error: &serde_json::Value, options: &Options) -> Bytes {
    options.delivery.break_off();
    let mut out = Vec::new();
    writer.broken(error, &mut out);
    Bytes::from(out)
}

const DONE: &[u8] = b"data: [DONE]\n\n";

fn comment() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

fn events(
    envelope: Envelope,
    target: String,
    mut stream: Box<ReplyStream>,
    mut writer: Box<dyn Writer>,
    options: Options,
) -> impl futures_util::Stream<Item = Bytes> + Send {
    async_stream::stream! {
        // One registration for the whole stream, not one a chunk.
        let mut cut = std::pin::pin!(options.cut.clone().cancelled_owned());
        let mut out = Vec::with_capacity(256);
        writer.begin(envelope, &mut out);
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(KEEP_ALIVE, stream.next()) => match next {
                    Ok(next) => next,
                    Err(_) => {
                        yield comment();
                        continue;
                    }
                },
                () = &mut cut => {
                    stream.abandon();
                    yield broken(&mut *writer, &super::error::shutting_down(&options.request_id), &options);
                    break;
                }
            };
            match next {
                Ok(Some(chunk)) => {
                    writer.chunk(&chunk, &mut out);
                    if !out.is_empty() {
                        yield Bytes::from(std::mem::replace(&mut out, Vec::with_capacity(256)));
                    }
                }
                Ok(None) => {
                    writer.end(stream.usage(), &mut out);
                    yield Bytes::from(out);
                    break;
                }
                Err(cause) => {
                    // No `[DONE]` and no finish_reason after it: a cut stream must not look finished.
                    let error = match &cause {
                        reply::Broken::Upstream(failure) => interrupted(failure, &target, &options.request_id),
                        reply::Broken::Guarded(rejected) => guarded(rejected, &options.request_id),
                    };
                    yield broken(&mut *writer, &error, &options);
                    break;
                }
            }
        }
    }
}

/// Writes chat's own dialect.
#[derive(Default)]
pub struct ChatWriter {
    /// `data: {"id":..,"object":..,"created":..,"model":..,"choices":`
    prefix: Vec<u8>,
    /// `stream_options.include_usage`: chunks before the last carry `usage: null`.
    include_usage: bool,
    /// Written into the first chunk.
    explanation: Option<Vec<u8>>,
}

impl ChatWriter {
    pub fn new(include_usage: bool) -> Self {
        Self { include_usage, ..Self::default() }
    }
}

impl Writer for ChatWriter {
    fn whole(&mut self, answer: &crate::chat::Response, out: &mut Vec<u8>) {
        json(out, answer);
    }

    fn begin(&mut self, envelope: Envelope, _out: &mut Vec<u8>) {
        let mut prefix = b"data: {\"id\":".to_vec();
        json(&mut prefix, &envelope.id);
        prefix.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        json(&mut prefix, &envelope.created);
        prefix.extend_from_slice(b",\"model\":");
        json(&mut prefix, &envelope.model);
        prefix.extend_from_slice(b",\"choices\":");
        self.prefix = prefix;
        self.explanation = envelope.explanation;
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        if chunk.is_silent() {
            return;
        }
        out.extend_from_slice(&self.prefix);
        json(out, &chunk.choices);
        for (name, value) in &chunk.extra {
            out.push(b',');
            json(out, name);
            out.push(b':');
            out.extend_from_slice(value.get().as_bytes());
        }
        if let Some(explanation) = self.explanation.take() {
            out.extend_from_slice(b",\"stepwell\":");
            out.extend_from_slice(&explanation);
        }
        out.extend_from_slice(if self.include_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn end(&mut self, usage: Option<&Usage>, out: &mut Vec<u8>) {
        if let Some(usage) = usage.filter(|_| self.include_usage) {
            out.extend_from_slice(&self.prefix);
            out.extend_from_slice(b"[],\"usage\":");
            json(out, usage);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(DONE);
    }

    fn broken(&mut self, error: &serde_json::Value, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        json(out, error);
        out.extend_from_slice(b"\n\n");
    }
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing our own types to memory as JSON cannot fail.
    let _ = serde_json::to_writer(out, value);
}
