//! The dialects that callers speak, one path for all of them: `POST /v1/messages`, `/v1/responses`, `/v1/completions`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;

use super::chat::answer;
use super::error::ApiError;
use super::sse::ChatWriter;
use crate::chat::{Invalid, Request};
use crate::gateway::Gateway;
use crate::ingress::{Writer, completions, messages, responses};
use crate::operations::Operations;

/// In which words a request came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Chat,
    Messages,
    Responses,
    Completions,
}

impl Speech {
    /// The request as chat, who writes its answer, and what could not be said as chat.
    pub fn read(self, body: Bytes) -> Result<(Request, Box<dyn Writer>, Vec<String>), Invalid> {
        let asked = match self {
            Self::Chat => {
                let request = Request::parse(body)?;
                let writer = ChatWriter::new(request.include_usage);
                return Ok((request, Box::new(writer), Vec::new()));
            }
            Self::Messages => messages::read(&body)?,
            Self::Responses => responses::read(&body)?,
            Self::Completions => completions::read(&body)?,
        };
        let mut request = Request::parse(asked.chat)?;
        request.native = asked.native;
        Ok((request, asked.writer, asked.notes))
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

pub async fn messages(
    State(gateway): State<Arc<Gateway>>,
    State(operations): State<Arc<Operations>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&gateway, &operations, &headers, body, Speech::Messages).await
}

pub async fn responses(
    State(gateway): State<Arc<Gateway>>,
    State(operations): State<Arc<Operations>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&gateway, &operations, &headers, body, Speech::Responses).await
}

pub async fn completions(
    State(gateway): State<Arc<Gateway>>,
    State(operations): State<Arc<Operations>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&gateway, &operations, &headers, body, Speech::Completions).await
}
