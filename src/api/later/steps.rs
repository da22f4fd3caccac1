//! From a saga to jobs: one for each step, one for what undoes it. The saga's own job only looks how they stand, begins the
//! next and waits; so it can be begun anew at any point.

use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::carry_out::{failed, store_failed};
use super::lines::{speech, unstreamed};
use super::work::{Owner, Work, kept};
use super::{Desk, Streams, unkept};
use crate::api::caller::Caller;
use crate::api::error::ApiError;
use crate::api::idempotency::seal::Answer;
use crate::api::speech::Speech;
use crate::jobs::job::{Claimed, End, Job, Kind, New, Status};
use crate::jobs::queue::{Filter, Taken};
use crate::jobs::wish::Wish;
use crate::ledger::journal::Failure;
use crate::saga::{Declared, Done, MOST_STEPS, Next, Standing};

/// A saga as it is kept, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    saga: Declared,
    owner: Owner,
    headers: Vec<(String, String)>,
}

/// A saga's own job looks at its steps; that may fail as often as the store does.
const ATTEMPTS: u32 = 100;

impl Desk {
    /// Takes a checked saga in, if each of its requests could be answered as far as can be told.
    pub async fn take_saga(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        saga: &Declared,
        id: &str,
    ) -> Result<(), ApiError> {
        self.check_room(saga.steps.len() as u64)?;
        let requests = saga.steps.iter().flat_map(|step| {
            let undo = step.compensate.as_ref().map(|undo| (&undo.path, &undo.request));
            [Some((&step.path, &step.request)), undo].into_iter().flatten()
        });
        for (path, request) in requests {
            let speech = speech(path).ok_or_else(|| {
                let message =
                    format!("`{path}` is no path that a step can ask; it is one of /v1/chat/completions, ...");
                ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some("path"), message)
            })?;
            let body = Bytes::from(serde_json::to_vec(request).map_err(|_| ApiError::internal())?);
            self.check(caller, headers, &body, speech, Streams::Ignored)?;
        }
        let rules = self.gateway.rules();
        let wish = Wish::read(&[], &rules.settings.jobs, jiff::Timestamp::now().as_millisecond())?;
        let kept = Kept { saga: saga.clone(), owner: Owner::of(caller), headers: kept(headers) };
        let plain = serde_json::to_vec(&kept).map_err(|_| ApiError::internal())?;
        let job = New {
            id: id.to_owned(),
            kind: Kind::Saga,
            key: caller.tenant.name.as_deref().map(str::to_owned),
            part_of: None,
            priority: wish.priority,
            not_before_unix_ms: None,
            expires_unix_ms: wish.expires_unix_ms,
            max_attempts: ATTEMPTS,
            request: self.seal(id, &plain)?,
            webhook: false,
            carried_by: None,
        };
        if self.kept.queue.submit(&[job]).await.map_err(unkept)?.first() != Some(&Taken::In) {
            let message =
                format!("there is a request with the id `{id}` already; send another `x-request-id`, or none");
            return Err(ApiError::request(StatusCode::CONFLICT, "request_id_in_use", Some("x-request-id"), message));
        }
        self.bell.ring_work();
        Ok(())
    }
}

/// Where a step stands among the parts of its saga, and where what undoes it does.
fn place(number: usize, undoes: bool) -> i64 {
    let number = i64::try_from(number).unwrap_or(i64::MAX - 1);
    if undoes { -1 - number } else { number }
}

fn part_id(saga: &str, number: usize, undoes: bool) -> String {
    format!("{saga}.{}{number}", if undoes { "undo." } else { "" })
}

/// Looks how the steps stand, and begins what is next.
pub(super) async fn go_on(desk: &Desk, claimed: &Claimed) -> End {
    let id = &claimed.job.id;
    let opened = desk.open(id, &claimed.request).and_then(|plain| serde_json::from_slice::<Kept>(&plain).ok());
    let Some(kept) = opened else {
        return failed("unreadable", "what was kept of the saga cannot be opened: the secret has changed");
    };
    let standing = match standing(desk, id).await {
        Ok(standing) => standing,
        Err(failure) => return store_failed(&failure),
    };
    match kept.saga.next(&standing) {
        Next::Begin { number, undoes, path, request } => {
            let part = part_id(id, number, undoes);
            let begun = async {
                let job = part_of(desk, &claimed.job, &kept, (number, undoes), &path, request)?;
                desk.kept.queue.submit(&[job]).await.map_err(unkept)
            };
            match begun.await {
                Ok(_) => {
                    desk.bell.ring_work();
                    End::Waits { parts: vec![part] }
                }
                Err(_) => {
                    End::Deferred { after_ms: 1_000, reason: "store_unavailable: a step cannot be begun".to_owned() }
                }
            }
        }
        Next::Wait { number, undoes } => End::Waits { parts: vec![part_id(id, number, undoes)] },
        Next::Completed => match result(desk, id, &kept.saga, &standing, StatusCode::OK, None) {
            Some(result) => End::Completed { http_status: 200, result },
            None => End::Deferred { after_ms: 1_000, reason: "unsealed: the result cannot be sealed".to_owned() },
        },
        Next::Failed(why) => {
            let result = result(desk, id, &kept.saga, &standing, StatusCode::FAILED_DEPENDENCY, Some(&why));
            End::Failed {
                http_status: Some(424),
                error: format!("saga_failed: {why}"),
                result: result.unwrap_or_default(),
            }
        }
    }
}

fn part_of(
    desk: &Desk,
    saga: &Job,
    kept: &Kept,
    (number, undoes): (usize, bool),
    path: &str,
    request: Map<String, Value>,
) -> Result<New, ApiError> {
    let id = part_id(&saga.id, number, undoes);
    let work = Work {
        speech: speech(path).unwrap_or(Speech::Chat),
        owner: kept.owner.clone(),
        headers: kept.headers.clone(),
        webhook: None,
        custom_id: None,
        decided: None,
        body: serde_json::to_vec(&unstreamed(request)).map_err(|_| ApiError::internal())?.into(),
    };
    Ok(New {
        request: desk.seal(&id, &work.to_bytes())?,
        id,
        kind: Kind::Request,
        key: saga.key.clone(),
        part_of: Some((saga.id.clone(), place(number, undoes))),
        priority: saga.priority,
        not_before_unix_ms: None,
        // What undoes a step is of use however late it is.
        expires_unix_ms: saga.expires_unix_ms.filter(|_| !undoes),
        max_attempts: desk.gateway.rules().settings.jobs.max_attempts,
        webhook: false,
        carried_by: None,
    })
}

/// How the parts of a saga stand.
async fn standing(desk: &Desk, id: &str) -> Result<Standing, Failure> {
    let filter = Filter { part_of: Some(id.to_owned()), ..Filter::default() };
    let mut standing = Standing::default();
    for part in desk.kept.queue.list(&filter, None, 2 * MOST_STEPS).await? {
        let Some(place) = part.place else { continue };
        let body = match part.status {
            Status::Completed => answer(desk, &part.id).await?,
            _ => Value::Null,
        };
        let done = Done { status: part.status, body, error: part.error };
        match usize::try_from(place) {
            Ok(number) => standing.steps.insert(number, done),
            Err(_) => standing.undone.insert(usize::try_from(-1 - place).unwrap_or(0), done),
        };
    }
    Ok(standing)
}

async fn answer(desk: &Desk, part: &str) -> Result<Value, Failure> {
    let contents = desk.kept.queue.contents(part).await?;
    let sealed = contents.and_then(|(_, result)| result);
    let answer = sealed.and_then(|sealed| desk.opened(part, &sealed));
    Ok(answer.and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default())
}

/// What a saga ends with: every step with its answer.
fn result(
    desk: &Desk,
    id: &str,
    saga: &Declared,
    standing: &Standing,
    status: StatusCode,
    error: Option<&str>,
) -> Option<Vec<u8>> {
    let shown = |done: Option<&Done>| match done {
        None => json!({"status": "not_begun"}),
        Some(done) => json!({"status": done.status, "error": done.error, "result": done.body}),
    };
    let steps: Vec<Value> = saga
        .steps
        .iter()
        .enumerate()
        .map(|(number, step)| {
            let mut told = shown(standing.steps.get(&number));
            told["name"] = step.name.clone().into();
            told["request_id"] = part_id(id, number, false).into();
            if let Some(undone) = standing.undone.get(&number) {
                told["compensation"] = shown(Some(undone));
            }
            told
        })
        .collect();
    let error = error.map(|error| json!({"code": "saga_failed", "message": error}));
    let body = json!({"object": "saga", "steps": steps, "error": error});
    let answer = Answer { status, headers: HeaderMap::new(), body: body.to_string().into() };
    desk.seal(id, &answer.to_bytes()?).ok()
}
