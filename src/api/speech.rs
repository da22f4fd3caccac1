//! The dialects that callers speak, one path for all of them: `POST /v1/messages`, `/v1/responses`, `/v1/completions` and
//! `/v1/embeddings`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::caller::Caller;
use super::chat::answer;
use super::edge::request_id;
use super::error::ApiError;
use super::later::Desk;
use super::openapi::{self, answered, asked};
use super::sse::ChatWriter;
use crate::chat::{Invalid, Request};
use crate::gateway::Gateway;
use crate::gateway::error::Error;
use crate::ingress::{Writer, completions, embeddings, messages, responses};
use crate::meter::estimate;

/// In which words a request came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speech {
    Chat,
    Messages,
    Responses,
    Completions,
    Embeddings,
}

/// A request, who writes its answer, and what of it could not be said as chat.
pub struct Heard {
    pub request: Request,
    pub writer: Box<dyn Writer>,
    pub notes: Vec<String>,
}

impl Speech {
    /// For the log and the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Messages => "messages",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }

    pub fn read(self, body: Bytes) -> Result<Heard, Invalid> {
        let asked = match self {
            Self::Chat => {
                let request = Request::parse(body)?;
                let writer = ChatWriter::new(request.include_usage);
                return Ok(Heard { request, writer: Box::new(writer), notes: Vec::new() });
            }
            Self::Messages => messages::read(&body)?,
            Self::Responses => responses::read(&body)?,
            Self::Completions => completions::read(&body)?,
            Self::Embeddings => {
                let (request, writer) = embeddings::read(&body)?;
                return Ok(Heard { request, writer, notes: Vec::new() });
            }
        };
        let mut request = Request::parse(asked.chat)?;
        request.native = asked.native;
        Ok(Heard { request, writer: asked.writer, notes: asked.notes })
    }

    /// An error in the shape that the caller's SDK reads.
    pub fn refuse(self, error: &ApiError, request_id: &str) -> Response {
        let mut response = error.respond(request_id);
        if self == Self::Messages {
            let kind = messages::error_type(error.status().as_u16());
            *response.body_mut() = Body::from(messages::failed(&error.body(request_id), kind).to_string());
        }
        response
    }
}

/// Answers a chat in Anthropic's words.
#[utoipa::path(post, path = "/v1/messages", tag = openapi::ANSWERS, operation_id = "messages", request_body = asked::MessagesRequest,
    responses((status = 200, description = "The answer, or an event stream if `stream` asked for one.",
        content((answered::MessagesAnswer = "application/json"), (answered::Event = "text/event-stream")))))]
pub async fn messages(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    answer(&desk, &caller, &headers, body, Speech::Messages).await
}

/// Answers a request in the words of OpenAI's Responses.
#[utoipa::path(post, path = "/v1/responses", tag = openapi::ANSWERS, operation_id = "responses", request_body = asked::ResponsesRequest,
    responses((status = 200, description = "The answer, or an event stream if `stream` asked for one.",
        content((answered::ResponsesAnswer = "application/json"), (answered::Event = "text/event-stream")))))]
pub async fn responses(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    answer(&desk, &caller, &headers, body, Speech::Responses).await
}

/// Answers a prompt in the words of OpenAI's text completions.
#[utoipa::path(post, path = "/v1/completions", tag = openapi::ANSWERS, operation_id = "completions", request_body = asked::CompletionsRequest,
    responses((status = 200, description = "The answer, or an event stream if `stream` asked for one.",
        content((answered::TextCompletion = "application/json"), (answered::Event = "text/event-stream")))))]
pub async fn completions(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    answer(&desk, &caller, &headers, body, Speech::Completions).await
}

/// Makes vectors of texts.
#[utoipa::path(post, path = "/v1/embeddings", tag = openapi::ANSWERS, operation_id = "embeddings", request_body = asked::EmbeddingsRequest,
    responses((status = 200, description = "The vectors.", body = answered::Embeddings)))]
pub async fn embeddings(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    answer(&desk, &caller, &headers, body, Speech::Embeddings).await
}

/// `POST /v1/messages/count_tokens`: counted here, exactly for OpenAI's current models and closely for others; no
/// provider is asked.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = openapi::ANSWERS, operation_id = "count_tokens", request_body = asked::CountRequest,
    responses((status = 200, description = "The count.", body = answered::TokenCount)))]
pub async fn count_tokens(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Response {
    let id = request_id(&headers).to_owned();
    let result = async {
        let body = super::chat::read(&gateway, &headers, body).await?;
        let request = messages::count(&body).map_err(Error::from)?;
        gateway.rules().index.select(&request.model, &request.models).map_err(Error::from)?;
        Ok::<_, ApiError>(estimate::prompt_tokens(&request))
    };
    match result.await {
        Ok(tokens) => {
            let mut response = axum::Json(json!({"input_tokens": tokens, "estimated": true})).into_response();
            response
                .headers_mut()
                .insert("x-stepwell-warnings", HeaderValue::from_static("counted here, not by a provider"));
            response
        }
        Err(error) => Speech::Messages.refuse(&error, &id),
    }
}
