//! An answer that several read while it is being written.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderName, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::seal::Answer;
use crate::api::error::ApiError;
use crate::gateway::inbound::Delivery;

/// Headers that belong to one answer, not to what is answered: only who asked first gets them.
const PASSING: [&str; 3] = ["x-request-id", "x-stepwell-response-time-ms", "server-timing"];
/// Headers that say how a body comes, which is for each connection to say.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// Cheap to share; every reader begins at the beginning.
pub struct Recording {
    tape: Arc<Mutex<Tape>>,
    /// Counts the changes of the tape.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Tape {
    head: Option<(StatusCode, HeaderMap)>,
    pieces: Vec<Bytes>,
    ended: bool,
}

/// How a recording ended, and what its readers have not seen yet.
pub struct Ended {
    /// `None` if it is not worth keeping: a failure, or not whole.
    pub answer: Option<Answer>,
    pub rest: Option<(StatusCode, HeaderMap, Vec<Bytes>)>,
}

impl Default for Recording {
    fn default() -> Self {
        Self { tape: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Recording {
    /// Reads an answer to its end. An event stream is shown as it comes, but for its end; anything else once
    /// [`Recording::finish`] is called.
    pub async fn record(&self, response: Response) -> Ended {
        let (parts, mut body) = response.into_parts();
        let delivery = parts.extensions.get::<Arc<Delivery>>().cloned();
        let mut headers = parts.headers;
        FRAMING.iter().for_each(|name| {
            headers.remove(*name);
        });
        let is_live = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if is_live {
            self.change(|tape| tape.head = Some((parts.status, headers.clone())));
        }
        let (mut pieces, mut whole, mut is_whole) = (Vec::new(), BytesMut::new(), true);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                is_whole = false;
                break;
            };
            let Ok(piece) = frame.into_data() else { continue };
            whole.extend_from_slice(&piece);
            if is_live {
                self.change(|tape| tape.pieces.push(piece));
            } else {
                pieces.push(piece);
            }
        }
        let is_broken = delivery.is_some_and(|delivery| delivery.is_broken());
        let is_kept = parts.status.is_success() && is_whole && !is_broken;
        let answer = is_kept.then(|| Answer { status: parts.status, headers: lasting(&headers), body: whole.freeze() });
        Ended { answer, rest: (!is_live).then_some((parts.status, headers, pieces)) }
    }

    /// Shows what was held back, and the end.
    pub fn finish(&self, rest: Option<(StatusCode, HeaderMap, Vec<Bytes>)>) {
        self.change(|tape| {
            if let Some((status, headers, pieces)) = rest {
                tape.head = Some((status, headers));
                tape.pieces = pieces;
            }
            tape.ended = true;
        });
    }

    /// Nothing more will come.
    pub fn abandon(&self) {
        self.change(|tape| tape.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Tape)) {
        change(&mut self.tape.lock());
        self.changed.send_modify(|count| *count += 1);
    }

    /// The answer for whoever asked first.
    pub async fn first(&self) -> Result<Response, ApiError> {
        self.read().await
    }

    /// The answer for one more reader.
    pub async fn follow(&self) -> Result<Response, ApiError> {
        let mut response = self.read().await?;
        *response.headers_mut() = lasting(response.headers());
        Ok(response)
    }

    /// Its head once that is known, its body as it comes.
    async fn read(&self) -> Result<Response, ApiError> {
        let mut changed = self.changed.subscribe();
        let (status, headers) = loop {
            {
                let tape = self.tape.lock();
                match &tape.head {
                    Some(head) => break head.clone(),
                    // Only a task that was dropped or panicked says nothing.
                    None if tape.ended => return Err(unfinished()),
                    None => {}
                }
            }
            if changed.changed().await.is_err() {
                return Err(unfinished());
            }
        };
        let tape = self.tape.clone();
        let body = async_stream::stream! {
            let mut next = 0;
            loop {
                let (piece, ended) = {
                    let tape = tape.lock();
                    (tape.pieces.get(next).cloned(), tape.ended)
                };
                match piece {
                    Some(piece) => {
                        next += 1;
                        yield Ok::<Bytes, std::convert::Infallible>(piece);
                    }
                    None if ended => return,
                    None => {
                        if changed.changed().await.is_err() && !tape.lock().ended {
                            return;
                        }
                    }
                }
            }
        };
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// What of an answer's headers holds for everybody who gets it.
fn lasting(headers: &HeaderMap) -> HeaderMap {
    let is_passing = |name: &HeaderName| PASSING.contains(&name.as_str()) || name.as_str().starts_with("x-ratelimit-");
    headers.iter().filter(|(name, _)| !is_passing(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn unfinished() -> ApiError {
    let message = "the first request with this `Idempotency-Key` ended without an answer; the log has the reason";
    ApiError::request(StatusCode::CONFLICT, "idempotency_outcome_unknown", None, message)
}
