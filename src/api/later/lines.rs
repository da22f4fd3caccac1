//! From a batch's file to jobs, and from jobs to files. Both may be begun anew at any point: what was done is known by its
//! name, and done once.

use std::collections::HashSet;

use axum::body::Bytes;
use serde_json::{Map, Value};

use super::Desk;
use super::carry_out::{again, failed, store_failed};
use super::native::sort::Sorter;
use super::store::Writing;
use super::work::{Owner, Work};
use crate::api::error::ApiError;
use crate::api::idempotency::seal::Answer;
use crate::api::speech::Speech;
use crate::batch::file::File;
use crate::batch::line::{Line, MOST, Splitter, written};
use crate::batch::{Batch, Ended, LineError};
use crate::jobs::job::{Claimed, End, Kind, New, Status};
use crate::ledger::journal::Failure;

/// Lines of batches wait behind requests that somebody waits for.
const PRIORITY: i16 = -10;
/// Lines taken in together.
const AT_ONCE: usize = 500;
/// Mistakes told of one file: who made the first hundred alike knows.
const MOST_ERRORS: usize = 100;
/// Lines read together when the files are written.
const READ_AT_ONCE: usize = 100;

/// The dialect of an endpoint.
pub fn speech(endpoint: &str) -> Option<Speech> {
    Some(match endpoint {
        "/v1/chat/completions" => Speech::Chat,
        "/v1/responses" => Speech::Responses,
        "/v1/completions" => Speech::Completions,
        "/v1/embeddings" => Speech::Embeddings,
        "/v1/messages" => Speech::Messages,
        _ => return None,
    })
}

/// Why the lines were not all taken in.
enum Stop {
    Wrong(Vec<LineError>),
    Store(Failure),
    Sealing,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Store(failure)
    }
}

impl From<ApiError> for Stop {
    fn from(_: ApiError) -> Self {
        Self::Sealing
    }
}

/// Reads a batch's file: first to see whether every line is right, then to make jobs of them.
pub(super) async fn start(desk: &Desk, claimed: &Claimed) -> End {
    let Some(id) = &claimed.job.part_of else { return failed("no_batch", "the job names no batch") };
    let batch = match desk.kept.batches.find(id).await {
        Ok(Some(batch)) => batch,
        Ok(None) => return failed("no_batch", "the batch is not there any more"),
        Err(failure) => return store_failed(&failure),
    };
    let result = async {
        let total = check(desk, &batch).await?;
        take_in(desk, &batch).await?;
        Ok::<_, Stop>(desk.kept.batches.start(id, total).await?)
    };
    match result.await {
        Ok(()) => End::Completed { http_status: 200, result: Vec::new() },
        Err(Stop::Wrong(errors)) => match desk.kept.batches.refuse(id, &errors).await {
            Ok(()) => End::Completed { http_status: 200, result: Vec::new() },
            Err(failure) => store_failed(&failure),
        },
        Err(Stop::Store(failure)) => store_failed(&failure),
        Err(Stop::Sealing) => {
            again("unsealed", "a line cannot be sealed", None, desk.pause_ms(claimed.job.attempts), Vec::new())
        }
    }
}

/// How many lines there are, if all are right.
async fn check(desk: &Desk, batch: &Batch) -> Result<i64, Stop> {
    let (mut errors, mut total) = (Vec::new(), 0);
    // By hash: fifty thousand names of 512 characters would be 25 MB.
    let mut seen = HashSet::new();
    let mut reader = Reader::open(desk, &batch.input_file).await?;
    while errors.len() < MOST_ERRORS && total <= MOST {
        let lines = match reader.next().await {
            Ok(Some(lines)) => lines,
            Ok(None) => break,
            Err(Stop::Wrong(more)) => {
                errors.extend(more);
                break;
            }
            Err(other) => return Err(other),
        };
        for (number, text) in lines {
            total += 1;
            match Line::read(&text, &batch.endpoint, number) {
                Ok(line) if seen.insert(*blake3::hash(line.custom_id.as_bytes()).as_bytes()) => {}
                Ok(line) => {
                    let message = format!("`custom_id` `{}` stands in another line, too", line.custom_id);
                    errors.push(LineError { code: "duplicate_custom_id".to_owned(), message, line: Some(number) });
                }
                Err(error) => errors.push(error),
            }
        }
    }
    if total > MOST {
        let message = format!("a batch has at most {MOST} lines");
        errors.push(LineError { code: "too_many_lines".to_owned(), message, line: None });
    }
    if total == 0 && errors.is_empty() {
        let message = "the file has no lines".to_owned();
        errors.push(LineError { code: "empty_file".to_owned(), message, line: None });
    }
    errors.truncate(MOST_ERRORS);
    if errors.is_empty() { Ok(total) } else { Err(Stop::Wrong(errors)) }
}

async fn take_in(desk: &Desk, batch: &Batch) -> Result<(), Stop> {
    let speech = speech(&batch.endpoint).ok_or(Stop::Sealing)?;
    let owner = desk.open(&batch.id, &batch.owner).and_then(|owner| serde_json::from_slice::<Owner>(&owner).ok());
    let owner =
        owner.ok_or_else(|| Failure("the batch's owner cannot be opened: the secret has changed".to_owned()))?;
    let max_attempts = desk.gateway.rules().settings.jobs.max_attempts;
    let mut sorter = Sorter::open(desk, batch, &owner, speech).await?;
    let mut jobs = Vec::with_capacity(AT_ONCE);
    let mut reader = Reader::open(desk, &batch.input_file).await?;
    while let Some(lines) = reader.next().await? {
        for (number, text) in lines {
            let line = Line::read(&text, &batch.endpoint, number).map_err(|error| Stop::Wrong(vec![error]))?;
            let id = format!("{}.{number}", batch.id);
            let mut work = Work {
                speech,
                owner: owner.clone(),
                headers: Vec::new(),
                webhook: None,
                custom_id: Some(line.custom_id.clone()),
                decided: None,
                body: plain(line.body.get()),
            };
            let part = sorter.sort(&id, &mut work).await?;
            let job = New {
                request: desk.seal(&id, &work.to_bytes())?,
                id,
                kind: Kind::Request,
                key: batch.key.clone(),
                part_of: Some((batch.id.clone(), number)),
                priority: PRIORITY,
                not_before_unix_ms: None,
                expires_unix_ms: Some(batch.expires),
                max_attempts,
                webhook: false,
                carried_by: None,
            };
            jobs.push(match part {
                Some(part) => part.carry(job),
                None => job,
            });
            if jobs.len() >= AT_ONCE {
                desk.kept.queue.submit(&jobs).await?;
                jobs.clear();
            }
        }
    }
    desk.kept.queue.submit(&jobs).await?;
    sorter.finish().await?;
    desk.bell.ring_work();
    Ok(())
}

/// A line's request: as it is, but never streamed nor in the background.
fn plain(body: &str) -> Bytes {
    match serde_json::from_str(body) {
        Ok(Value::Object(body)) => serde_json::to_vec(&unstreamed(body)).unwrap_or_default().into(),
        _ => Bytes::copy_from_slice(body.as_bytes()),
    }
}

/// A request to which nobody listens: never streamed, nor answered later once more.
pub(super) fn unstreamed(mut request: Map<String, Value>) -> Map<String, Value> {
    for name in ["stream", "stream_options", "background"] {
        request.remove(name);
    }
    request
}

/// Goes through the lines of a file, as many at once as a piece holds.
struct Reader<'d> {
    desk: &'d Desk,
    file: &'d str,
    splitter: Splitter,
    piece: i64,
    ended: bool,
}

impl<'d> Reader<'d> {
    async fn open(desk: &'d Desk, file: &'d str) -> Result<Self, Stop> {
        if desk.kept.files.find(file).await?.is_none() {
            let message = format!("the input file `{file}` is not there any more");
            return Err(Stop::Wrong(vec![LineError { code: "file_not_found".to_owned(), message, line: None }]));
        }
        Ok(Self { desk, file, splitter: Splitter::default(), piece: 0, ended: false })
    }

    async fn next(&mut self) -> Result<Option<Vec<(i64, Vec<u8>)>>, Stop> {
        while !self.ended {
            let lines = match self.desk.piece(self.file, self.piece).await? {
                Some(piece) => self.splitter.push(&piece).map_err(|error| Stop::Wrong(vec![error]))?,
                None => {
                    self.ended = true;
                    self.splitter.finish()
                }
            };
            self.piece += 1;
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }
}

/// Writes what became of the lines into two files: answers, and everything else.
pub(super) async fn end(desk: &Desk, claimed: &Claimed) -> End {
    let Some(id) = &claimed.job.part_of else { return failed("no_batch", "the job names no batch") };
    let batch = match desk.kept.batches.find(id).await {
        Ok(Some(batch)) => batch,
        Ok(None) => return failed("no_batch", "the batch is not there any more"),
        Err(failure) => return store_failed(&failure),
    };
    let result = async {
        let output = file(desk, &batch, "output", |line| line.status == Status::Completed).await?;
        let error = file(desk, &batch, "errors", |line| line.status != Status::Completed).await?;
        desk.kept.batches.finish(id, output.as_deref(), error.as_deref()).await?;
        Ok::<_, Stop>(())
    };
    match result.await {
        Ok(()) => End::Completed { http_status: 200, result: Vec::new() },
        Err(Stop::Store(failure)) => store_failed(&failure),
        Err(Stop::Wrong(_) | Stop::Sealing) => again(
            "unwritten",
            "the batch's files cannot be written",
            None,
            desk.pause_ms(claimed.job.attempts),
            Vec::new(),
        ),
    }
}

/// Writes the lines that pass, in their order; no file without one. Its name follows from the batch's, so that it is the
/// same file however often it is begun.
async fn file(desk: &Desk, batch: &Batch, what: &str, passes: impl Fn(&Ended) -> bool) -> Result<Option<String>, Stop> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let keep = i64::try_from(desk.gateway.rules().settings.jobs.keep_files.0.as_millis()).unwrap_or(i64::MAX);
    let suffix = batch.id.strip_prefix("batch_").unwrap_or(&batch.id);
    let file = File {
        id: format!("file-{what}-{suffix}"),
        key: batch.key.clone(),
        name: format!("{}_{what}.jsonl", batch.id),
        purpose: "batch_output".to_owned(),
        bytes: 0,
        created: now_ms,
        expires: Some(now_ms.saturating_add(keep)),
        whole: false,
    };
    let mut writing: Option<Writing<'_>> = None;
    let mut behind = -1;
    loop {
        let lines = desk.kept.batches.ended(&batch.id, behind, READ_AT_ONCE).await?;
        let Some(last) = lines.last() else { break };
        behind = last.place;
        for line in lines.iter().filter(|line| passes(line)) {
            let writing = match &mut writing {
                Some(writing) => writing,
                none => none.insert(Writing::begin(desk, file.clone()).await?),
            };
            writing.write(&told(desk, line)).await?;
        }
    }
    match writing {
        Some(writing) => Ok(Some(writing.finish().await?.id)),
        None => Ok(None),
    }
}

fn told(desk: &Desk, line: &Ended) -> Vec<u8> {
    let work = desk.open(&line.job, &line.request).and_then(Work::from_bytes);
    let custom_id = work.and_then(|work| work.custom_id).unwrap_or_default();
    let answer = line.result.as_ref().and_then(|sealed| Answer::from_bytes(&desk.open(&line.job, sealed)?));
    match (&answer, &line.error) {
        (Some(answer), _) => written(&line.job, &custom_id, Ok((answer.status.as_u16(), &answer.body))),
        (None, Some(error)) => {
            let (code, message) = error.split_once(": ").unwrap_or(("error", error));
            let code = if code == "expired" { "batch_expired" } else { code };
            written(&line.job, &custom_id, Err((code, message)))
        }
        (None, None) => written(&line.job, &custom_id, Err(("unreadable", "the answer cannot be opened"))),
    }
}

/// Kept of a batch: whose limits and budgets its lines go by.
pub(crate) fn sealed_owner(desk: &Desk, batch: &str, caller: &crate::api::caller::Caller) -> Result<Vec<u8>, ApiError> {
    let owner = serde_json::to_vec(&Owner::of(caller)).map_err(|_| ApiError::internal())?;
    desk.seal(batch, &owner)
}
