//! The only place where an error becomes a status and an OpenAI error body.
//!
//! `{"error": {"message", "type", "param", "code", "stepwell": {"request_id", "attempts"}}}`: the types are chosen so that
//! the official SDKs raise the class that says what happened. No upstream secret, no internal name, no stack trace.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gateway::error::{Error, SHARED_RETRY, SHED_RETRY};
use crate::guard::Rejected;
use crate::money::NanoUsd;
use crate::provider::failure::{Failure, FailureKind};

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Beyond this, an SDK that tries again by itself only wastes time: none waits that long.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// Longest message, in characters.
const MAX_MESSAGE: usize = 4000;

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: Option<String>,
    /// Further members of the `stepwell` object.
    details: serde_json::Map<String, Value>,
    retry_after_seconds: Option<u64>,
    /// `Some(false)`: an SDK that tries again only wastes its time.
    should_retry: Option<bool>,
}

impl ApiError {
    /// 400 and its neighbours: the request is wrong.
    pub fn request(status: StatusCode, code: &str, param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            kind: "invalid_request_error",
            param: param.map(str::to_owned),
            code: Some(code.to_owned()),
            details: serde_json::Map::new(),
            retry_after_seconds: None,
            should_retry: None,
        }
    }

    /// 401: nobody was let in. Trying again with the same credential is of no use.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self { should_retry: Some(false), ..Self::request(StatusCode::UNAUTHORIZED, "invalid_api_key", None, message) }
    }

    /// 500: our own fault, logged by whoever found it.
    pub fn internal() -> Self {
        Self {
            kind: "server_error",
            ..Self::request(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                None,
                "an internal error; the log has the request id",
            )
        }
    }

    /// 503: a part of the router itself cannot work right now.
    pub fn unavailable(code: &str, message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::request(StatusCode::SERVICE_UNAVAILABLE, code, None, message) }
    }

    /// 503: nothing is wrong but that there is too much of it.
    pub fn overloaded(code: &str, message: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self { retry_after_seconds: Some(retry_after_seconds), ..Self::unavailable(code, message) }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The body. `request_id` is what the answer's `x-request-id` says.
    pub fn body(&self, request_id: &str) -> Value {
        let mut details = self.details.clone();
        details.insert("request_id".to_owned(), json!(request_id));
        details.entry("attempts").or_insert_with(|| json!([]));
        // Some messages quote the caller.
        let message: String = self.message.chars().take(MAX_MESSAGE).collect();
        json!({"error": {
            "message": message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
            "stepwell": details,
        }})
    }

    pub fn respond(&self, request_id: &str) -> Response {
        let mut response = Response::new(Body::from(self.body(request_id).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(should) = self.should_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" }));
        }
        response
    }
}

/// Without a request id at hand: the edge layer fills in the header, the body says null.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond("")
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut api = Self::request(status, error.code(), None, error.to_string());
        api.kind = kind(status, error.code());
        match error {
            Error::Invalid(invalid) => api.param.clone_from(&invalid.param),
            Error::BadHint(bad) => api.param = Some(bad.hint.clone()),
            Error::UnknownModel(_) => api.param = Some("model".to_owned()),
            Error::ContextLength(_) => api.param = Some("messages".to_owned()),
            Error::NoCandidate(_) | Error::Guarded { answer: true, .. } => {}
            Error::Guarded { answer: false, .. } => api.param = Some("messages".to_owned()),
            Error::SharedGone => api.retry_after_seconds = Some(ceil(SHARED_RETRY)),
            Error::Shed(_) => api.retry_after_seconds = Some(ceil(SHED_RETRY)),
            Error::Forbidden(forbidden) => api.param = forbidden.param().map(str::to_owned),
            Error::Limited(limited) => {
                api.retry_after_seconds = Some(ceil(limited.retry_after));
                api.details.insert("limit".to_owned(), json!(limited.limit.as_str()));
                // An SDK's second try comes much earlier than that.
                api.should_retry = (limited.retry_after > LONG).then_some(false);
            }
            Error::Budget { overdrawn, .. } => {
                let balance = &overdrawn.balance;
                let ends = Timestamp::from_millisecond(balance.stretch.end_ms).ok();
                let rest = ends.and_then(|ends| ends.duration_since(Timestamp::now()).try_into().ok());
                api.retry_after_seconds = rest.map(ceil);
                let budget = json!({
                    "scope": overdrawn.account.scope.kind(),
                    "name": overdrawn.account.scope.name(),
                    "period": overdrawn.account.period.as_str(),
                    "limit_usd": NanoUsd(overdrawn.limit),
                    "spent_usd": NanoUsd(balance.spent),
                    "held_usd": NanoUsd(balance.held),
                    "left_usd": NanoUsd(balance.left(overdrawn.limit)),
                    "resets_at": overdrawn.starts_anew(),
                });
                api.details.insert("budget".to_owned(), budget);
            }
            Error::Unavailable { retry_after, .. } => api.retry_after_seconds = Some(ceil(*retry_after)),
            Error::Upstream { failure, attempts, retry_after, .. } => {
                api.param.clone_from(&failure.param);
                let attempts: Vec<Value> = attempts
                    .iter()
                    .map(|attempt| {
                        json!({
                            "provider": attempt.provider,
                            "model": attempt.model,
                            "status": attempt.status,
                            "kind": attempt.kind.map(FailureKind::as_str),
                            "duration_ms": attempt.duration_ms,
                        })
                    })
                    .collect();
                api.details.insert("attempts".to_owned(), json!(attempts));
                let transient = matches!(
                    failure.kind,
                    FailureKind::RateLimited | FailureKind::Overloaded | FailureKind::Conflict | FailureKind::Local
                );
                // The last one asked may want to be left alone for longer than another one.
                api.retry_after_seconds = [failure.retry_after.filter(|_| transient), *retry_after]
                    .into_iter()
                    .flatten()
                    .min()
                    // Nobody pauses yet: the next request may already succeed.
                    .or((api.status == StatusCode::SERVICE_UNAVAILABLE).then_some(SHED_RETRY))
                    .filter(|_| api.status.as_u16() >= 429)
                    .map(ceil);
            }
        }
        if let Error::NoCandidate(explanation)
        | Error::ContextLength(explanation)
        | Error::Budget { explanation, .. }
        | Error::Unavailable { explanation, .. } = error
        {
            let excluded: Vec<Value> = explanation
                .plan
                .excluded
                .iter()
                .map(|excluded| {
                    json!({
                        "provider": *excluded.target.provider.name,
                        "model": excluded.target.model.id,
                        "reason": excluded.reason.to_string(),
                        "hint": excluded.reason.hint(),
                    })
                })
                .collect();
            api.details.insert("excluded".to_owned(), json!(excluded));
        }
        // An SDK retries 408, 409, 429 and 5xx by itself: it should not where nothing will have healed.
        let hopeless = matches!(error, Error::Upstream { failure, .. }
            if matches!(failure.kind, FailureKind::QuotaExhausted | FailureKind::Credential | FailureKind::Redirect));
        if error.is_callers_fault() || hopeless {
            api.should_retry = Some(false);
        }
        api
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// The error event of a stream that fails after content was delivered.
pub fn interrupted(failure: &Failure, target: &str, request_id: &str) -> Value {
    let reason = match failure.kind {
        FailureKind::Stalled => "stalled",
        FailureKind::Timeout | FailureKind::Deadline => "took too long",
        _ => "was cut",
    };
    json!({"error": {
        "message": format!("the answer of `{target}` {reason} before it was complete; what was delivered is not the whole answer"),
        "type": "server_error",
        "param": null,
        "code": "upstream_stream_interrupted",
        "stepwell": {"request_id": request_id, "kind": failure.kind.as_str()},
    }})
}

/// The error event of a stream that a guard ends.
pub fn guarded(rejected: &Rejected, request_id: &str) -> Value {
    json!({"error": {
        "message": format!("{rejected}; what was delivered is not the whole answer"),
        "type": "invalid_request_error",
        "param": null,
        "code": "guard_rejected",
        "stepwell": {"request_id": request_id},
    }})
}

/// The error event of a stream that has to end because the server does.
pub fn shutting_down(request_id: &str) -> Value {
    json!({"error": {
        "message": "the router is shutting down; what was delivered is not the whole answer",
        "type": "server_error",
        "param": null,
        "code": "shutting_down",
        "stepwell": {"request_id": request_id},
    }})
}

fn kind(status: StatusCode, code: &str) -> &'static str {
    match status.as_u16() {
        429 if code == "insufficient_quota" => "insufficient_quota",
        429 => "rate_limit_exceeded",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    }
}

fn ceil(duration: std::time::Duration) -> u64 {
    duration.as_secs_f64().ceil().max(1.0) as u64
}
