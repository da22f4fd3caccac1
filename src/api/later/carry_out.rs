//! What a worker does with a job.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;

use super::work::{LONGEST, Work};
use super::{Desk, lines, native, steps, webhook};
use crate::api::chat::answer_now;
use crate::api::edge::REQUEST_ID;
use crate::api::idempotency::seal::Answer;
use crate::batch::Status as BatchStatus;
use crate::jobs::job::{Claimed, End, Kind};
use crate::jobs::worker::Execute;

/// After this, trying again in the store's name is the worker's business.
const STORE_PAUSE_MS: i64 = 1_000;

impl Execute for Desk {
    fn run<'a>(&'a self, claimed: &'a Claimed) -> Pin<Box<dyn Future<Output = End> + Send + 'a>> {
        Box::pin(async move {
            match claimed.job.kind {
                Kind::Request => self.answer(claimed).await,
                Kind::Webhook => webhook::deliver(self, claimed).await,
                Kind::BatchStart => lines::start(self, claimed).await,
                Kind::BatchEnd => lines::end(self, claimed).await,
                Kind::Saga => steps::go_on(self, claimed).await,
                Kind::NativeBatch => native::carry(self, claimed).await,
            }
        })
    }
}

impl Desk {
    async fn answer(&self, claimed: &Claimed) -> End {
        let id = &claimed.job.id;
        if let Some(batch) = claimed.job.part_of.as_ref().filter(|whole| whole.starts_with("batch_")) {
            match self.kept.batches.find(batch).await {
                Ok(Some(batch)) if batch.status == BatchStatus::Cancelling => {
                    return End::Cancelled { reason: "batch_cancelled: its batch was cancelled".to_owned() };
                }
                Ok(_) => {}
                Err(failure) => return store_failed(&failure),
            }
        }
        let Some(work) = self.open(id, &claimed.request).and_then(Work::from_bytes) else {
            return failed("unreadable", "what was kept of the request cannot be opened: the secret has changed");
        };
        let caller = match work.owner.caller(&self.access, jiff::Timestamp::now().as_millisecond()) {
            Ok(caller) => caller,
            Err(reason) => return failed("key_not_valid", &reason),
        };
        let mut headers = work.header_map();
        if let Ok(value) = HeaderValue::try_from(id.as_str()) {
            headers.insert(REQUEST_ID, value);
        }
        let answered =
            answer_now(&self.gateway, &self.operations, &caller, &headers, work.body.into(), work.speech).await;
        match answered {
            Ok(response) => self.ended(id, response, &claimed.job.attempts).await,
            Err(_) => failed("unreadable", "the request asks to be answered later once more"),
        }
    }

    /// What an answer means for its job.
    pub(super) async fn ended(&self, id: &str, response: Response, attempts: &u32) -> End {
        let (parts, body) = response.into_parts();
        let Ok(body) = Limited::new(body, LONGEST).collect().await else {
            return again("broken_answer", "the answer broke off", None, self.pause_ms(*attempts), Vec::new());
        };
        let answer = Answer { status: parts.status, headers: told(&parts.headers), body: body.to_bytes() };
        let Some(result) = answer.to_bytes().and_then(|bytes| self.seal(id, &bytes).ok()) else {
            return again("unsealed", "the answer cannot be sealed", None, self.pause_ms(*attempts), Vec::new());
        };
        let status = parts.status.as_u16();
        if parts.status.is_success() {
            return End::Completed { http_status: status, result };
        }
        let said = Said::read(&answer.body);
        let retry_after = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        let wanted_ms = retry_after.map_or(0, |seconds| seconds.saturating_mul(1_000));
        match status {
            // Nobody was asked: that the router has no room, or the caller's limits none, is no failure of the request.
            429 | 503 if !said.asked => {
                let after_ms = wanted_ms.max(STORE_PAUSE_MS);
                End::Deferred { after_ms, reason: said.error }
            }
            408 | 409 | 425 | 429 | 500.. => {
                let after_ms = wanted_ms.max(self.pause_ms(*attempts));
                End::Again { after_ms, http_status: Some(status), error: said.error, result }
            }
            _ => End::Failed { http_status: Some(status), error: said.error, result },
        }
    }

    /// Before another attempt, as `jobs.backoff` says.
    pub fn pause(&self, attempts: u32) -> Duration {
        self.gateway.rules().settings.jobs.backoff.after(attempts, random())
    }

    pub(super) fn pause_ms(&self, attempts: u32) -> i64 {
        i64::try_from(self.pause(attempts).as_millis()).unwrap_or(i64::MAX)
    }
}

/// From 0 to 1.
pub(super) fn random() -> f64 {
    uuid::Uuid::new_v4().as_u128() as f64 / u128::MAX as f64
}

/// What is kept of an answer's headers: who answered, at which cost.
fn told(headers: &HeaderMap) -> HeaderMap {
    let is_told = |name: &str| name == "content-type" || name.starts_with("x-stepwell-");
    let named = headers.iter().filter(|(name, _)| is_told(name.as_str()));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What an error's body says.
struct Said {
    /// Code and message.
    error: String,
    /// A provider was asked.
    asked: bool,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        struct Body {
            #[serde(default)]
            error: Inner,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Inner {
            code: Option<String>,
            message: Option<String>,
            stepwell: Details,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Details {
            attempts: Vec<serde::de::IgnoredAny>,
        }
        let Body { error } = serde_json::from_slice(body).unwrap_or_default();
        let code = error.code.unwrap_or_else(|| "error".to_owned());
        // Some messages quote what a provider says of the prompt; the log of events is no place for that.
        let message = crate::ledger::words::without_content(&error.message.unwrap_or_default());
        Self { error: format!("{code}: {message}"), asked: !error.stepwell.attempts.is_empty() }
    }
}

pub(super) fn failed(code: &str, message: &str) -> End {
    End::Failed { http_status: None, error: format!("{code}: {message}"), result: Vec::new() }
}

pub(super) fn again(code: &str, message: &str, http_status: Option<u16>, after_ms: i64, result: Vec<u8>) -> End {
    End::Again { after_ms, http_status, error: format!("{code}: {message}"), result }
}

/// The store could not be read: that is no attempt of the job.
pub(super) fn store_failed(failure: &crate::ledger::journal::Failure) -> End {
    End::Deferred { after_ms: STORE_PAUSE_MS, reason: format!("store_unavailable: {failure}") }
}
