//! Chunks as an event stream: the envelope, keep-alive comments, the error event, `[DONE]`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, interrupted};
use crate::chat::{Chunk, Usage};
use crate::gateway::Delivery;
use crate::gateway::error::Error;
use crate::gateway::reply::{self, Head, Reply, ReplyStream};

/// Silence after which a comment is sent: most proxies close a connection after 30 to 60 s without a byte.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What the caller asked for and is told.
#[derive(Clone)]
pub struct Options {
    pub request_id: Arc<str>,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// The hint `explain`.
    pub explain: bool,
    /// Cancelled when the server must stop and streams have to end.
    pub cut: CancellationToken,
}

/// A reply that is not decided yet.
pub type Pending = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// The body of a reply whose first content is there.
pub fn body(head: &Head, stream: Box<ReplyStream>, options: Options) -> Body {
    let envelope = Envelope::new(head, &options);
    let target = format!("{}/{}", head.provider, head.target_model);
    Body::from_stream(async_stream::stream! {
        let mut events = std::pin::pin!(events(envelope, target, stream, options));
        while let Some(event) = futures_util::StreamExt::next(&mut events).await {
            yield Ok::<Bytes, std::convert::Infallible>(event);
        }
    })
}

/// The body of a reply that takes long: comments until it is there, then the same as [`body`]. A failure becomes an error
/// event, because the status is already sent.
pub fn patient_body(mut pending: Pending, delivery: Arc<Delivery>, options: Options) -> Body {
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
                    yield Ok(event(&super::error::shutting_down(&options.request_id)));
                    return;
                }
            }
        };
        match result {
            Ok(Reply { head, body: reply::Body::Stream(stream) }) => {
                let envelope = Envelope::new(&head, &options);
                let target = format!("{}/{}", head.provider, head.target_model);
                let mut events = std::pin::pin!(events(envelope, target, stream, options));
                while let Some(event) = futures_util::StreamExt::next(&mut events).await {
                    yield Ok(event);
                }
            }
            // A provider that answered a stream request in one piece.
            Ok(Reply { head, body: reply::Body::Whole(response) }) => yield Ok(whole(&head, &response, &options)),
            Err(error) => yield Ok(event(&ApiError::from(error).body(&options.request_id))),
        }
    })
}

/// A whole answer as an event stream.
pub fn whole(head: &Head, response: &crate::chat::Response, options: &Options) -> Bytes {
    let mut envelope = Envelope::new(head, options);
    let mut out = Vec::new();
    for chunk in crate::chat::replay(response) {
        envelope.write(&chunk, &mut out);
    }
    if options.include_usage
        && let Some(usage) = &response.usage
    {
        envelope.write_usage(usage, &mut out);
    }
    out.extend_from_slice(DONE);
    Bytes::from(out)
}

const DONE: &[u8] = b"data: [DONE]\n\n";

fn comment() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

fn event(value: &serde_json::Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

fn events(
    mut envelope: Envelope,
    target: String,
    mut stream: Box<ReplyStream>,
    options: Options,
) -> impl futures_util::Stream<Item = Bytes> + Send {
    async_stream::stream! {
        // One registration for the whole stream, not one a chunk.
        let mut cut = std::pin::pin!(options.cut.clone().cancelled_owned());
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
                    yield event(&super::error::shutting_down(&options.request_id));
                    break;
                }
            };
            match next {
                Ok(Some(chunk)) => {
                    let mut out = Vec::with_capacity(256);
                    envelope.write(&chunk, &mut out);
                    yield Bytes::from(out);
                }
                Ok(None) => {
                    let mut out = Vec::with_capacity(512);
                    if options.include_usage && let Some(usage) = stream.usage() {
                        envelope.write_usage(usage, &mut out);
                    }
                    out.extend_from_slice(DONE);
                    yield Bytes::from(out);
                    break;
                }
                Err(failure) => {
                    // No `[DONE]` and no finish_reason after it: a cut stream must not look finished.
                    yield event(&interrupted(&failure, &target, &options.request_id));
                    break;
                }
            }
        }
    }
}

/// The members that are the same in every chunk of a stream.
struct Envelope {
    /// `data: {"id":..,"object":..,"created":..,"model":..,"choices":`
    prefix: Vec<u8>,
    /// With `include_usage`, chunks before the last carry `usage: null`.
    null_usage: bool,
    /// Written into the first chunk.
    explanation: Option<Vec<u8>>,
}

impl Envelope {
    fn new(head: &Head, options: &Options) -> Self {
        let mut prefix = b"data: {\"id\":".to_vec();
        json(&mut prefix, &head.id);
        prefix.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        json(&mut prefix, &head.created);
        prefix.extend_from_slice(b",\"model\":");
        json(&mut prefix, &head.model);
        prefix.extend_from_slice(b",\"choices\":");
        let explanation = options.explain.then(|| super::chat::decision(head, &options.request_id));
        Self { prefix, null_usage: options.include_usage, explanation }
    }

    fn write(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
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
        out.extend_from_slice(if self.null_usage { b",\"usage\":null}\n\n" } else { b"}\n\n" });
    }

    fn write_usage(&self, usage: &Usage, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"[],\"usage\":");
        json(out, usage);
        out.extend_from_slice(b"}\n\n");
    }
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing our own types to memory as JSON cannot fail.
    let _ = serde_json::to_writer(out, value);
}
