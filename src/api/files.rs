//! `/v1/files`: OpenAI's files, as its clients upload, list, read and delete them. What is uploaded is sealed piece by piece
//! as it comes; nothing is ever whole in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::later::store::Writing;
use super::later::{Desk, unkept};
use super::openapi::{self, answered, asked};
use crate::batch::file::{Deleted, File, Filter, LARGEST, PURPOSES};

/// Between two pieces of an upload.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest text of a form's other fields, in bytes.
const LONGEST_FIELD: usize = 4096;
const DEFAULT_LIMIT: usize = 10_000;

/// Takes a file in, such as the lines of a batch.
#[utoipa::path(post, path = "/v1/files", tag = openapi::BATCHES, operation_id = "create_file",
    request_body(content = asked::NewFile, content_type = "multipart/form-data"),
    responses((status = 200, description = "The file.", body = answered::File)))]
pub async fn create(State(desk): State<Arc<Desk>>, caller: Caller, headers: HeaderMap, body: Body) -> Response {
    let created = upload(&desk, &caller, &headers, body).await;
    created.map_or_else(|error| error.respond(request_id(&headers)), |file| Json(file.shown()).into_response())
}

async fn upload(desk: &Desk, caller: &Caller, headers: &HeaderMap, body: Body) -> Result<File, ApiError> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind)
        .map_err(|_| bad("content-type", "a file is sent as `multipart/form-data` with a boundary"))?;
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let (mut purpose, mut expires, mut writing) = (None, None, None);
    let filled = async {
        while let Some(mut field) = patient(form.next_field()).await? {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-[]".contains(&byte);
            match field.name().unwrap_or_default() {
                name if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) => {
                    return Err(bad(
                        "body",
                        "a field of the form has a name of up to 64 letters, digits, `_`, `-`, `[` or `]`",
                    ));
                }
                "file" if writing.is_some() => return Err(bad("file", "send one file")),
                "file" => {
                    let name = field.file_name().unwrap_or("upload.jsonl");
                    let file = fresh(caller, name);
                    let writing = writing.insert(Writing::begin(desk, file).await?);
                    while let Some(piece) = patient(field.chunk()).await? {
                        writing.write(&piece).await?;
                        if writing.bytes > LARGEST {
                            let message = format!("the file is larger than {LARGEST} bytes");
                            let status = StatusCode::PAYLOAD_TOO_LARGE;
                            return Err(ApiError::request(status, "request_too_large", Some("file"), message));
                        }
                    }
                }
                "purpose" => purpose = Some(text(&mut field).await?),
                "expires_after[seconds]" => expires = Some(text(&mut field).await?),
                // `expires_after[anchor]` has one value only; others are OpenAI's of tomorrow.
                _ => {
                    text(&mut field).await?;
                }
            }
        }
        let known = PURPOSES.join(", ");
        let purpose = purpose.ok_or_else(|| bad("purpose", &format!("say what the file is for: one of {known}")))?;
        if !PURPOSES.contains(&purpose.as_str()) || purpose == "batch_output" {
            return Err(bad("purpose", &format!("`purpose` is one of {known}, and `batch_output` is ours")));
        }
        let seconds = expires.map(|text| {
            let seconds = text.parse::<i64>().ok().filter(|seconds| (3_600..=2_592_000).contains(seconds));
            seconds.ok_or_else(|| bad("expires_after", "`expires_after[seconds]` is from 3600 to 2592000"))
        });
        Ok((purpose, seconds.transpose()?))
    };
    let filled = filled.await;
    match (filled, writing) {
        (Ok((purpose, seconds)), Some(writing)) => {
            let expires_ms = seconds.map(|seconds| seconds * 1000);
            writing.finish_as(&purpose, expires_ms).await
        }
        (Ok(_), None) => Err(bad("file", "the form has no field `file`")),
        (Err(error), writing) => {
            if let Some(writing) = writing {
                writing.abandon().await;
            }
            Err(error)
        }
    }
}

fn fresh(caller: &Caller, name: &str) -> File {
    // A name, not a path.
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    File {
        id: format!("file-{}", uuid::Uuid::now_v7().simple()),
        key: caller.tenant.name.as_deref().map(str::to_owned),
        name: name.chars().filter(|c| !c.is_control()).take(255).collect(),
        purpose: String::new(),
        bytes: 0,
        created: jiff::Timestamp::now().as_millisecond(),
        expires: None,
        whole: false,
    }
}

/// The next of an upload, which has to come within a time.
async fn patient<T>(next: impl Future<Output = Result<T, multer::Error>>) -> Result<T, ApiError> {
    match tokio::time::timeout(PATIENCE, next).await {
        Ok(next) => next.map_err(|error| bad("body", &format!("the form cannot be read: {error}"))),
        Err(_) => {
            let message = format!("nothing of the upload arrived for {PATIENCE:?}");
            Err(ApiError::request(StatusCode::REQUEST_TIMEOUT, "body_timeout", None, message))
        }
    }
}

async fn text(field: &mut multer::Field<'_>) -> Result<String, ApiError> {
    let name = field.name().unwrap_or_default().to_owned();
    let mut whole = Vec::new();
    while let Some(piece) = patient(field.chunk()).await? {
        whole.extend_from_slice(&piece);
        if whole.len() > LONGEST_FIELD {
            return Err(bad(&name, "the field is too long"));
        }
    }
    String::from_utf8(whole).map_err(|_| bad(&name, "the field is not UTF-8"))
}

fn bad(param: &str, message: &str) -> ApiError {
    ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message)
}

/// A whole file that this caller may see.
pub async fn visible(desk: &Desk, caller: &Caller, id: &str) -> Result<File, ApiError> {
    let file = desk.kept.files.find(id).await.map_err(unkept)?;
    let is_theirs = |file: &File| caller.sees_only().is_none_or(|key| file.key.as_deref() == Some(key));
    file.filter(is_theirs).ok_or_else(|| {
        let id: String = id.chars().take(128).collect();
        let message = format!("there is no file `{id}`; GET /v1/files lists those that there are");
        ApiError::request(StatusCode::NOT_FOUND, "file_not_found", Some("id"), message)
    })
}

/// Lists files, newest first.
#[utoipa::path(get, path = "/v1/files", tag = openapi::BATCHES, operation_id = "files",
    params(("purpose" = Option<String>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 10_000),
        ("order" = Option<answered::Order>, Query),
        ("after" = Option<String>, Query, description = "The last file of the page before.")),
    responses((status = 200, description = "The files.", body = answered::Files),
        (status = 400, description = "A parameter has an impossible value.", body = answered::Failed),
        (status = 503, description = "Files cannot be looked up right now.", body = answered::Failed)))]
pub async fn list(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    let listed = async {
        let limit = super::batches::limit(&parameters, DEFAULT_LIMIT)?;
        let ascending = match parameters.get("order").map(String::as_str) {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(_) => return Err(bad("order", "`order` is asc or desc")),
        };
        let filter = Filter {
            key: caller.sees_only().map(str::to_owned),
            purpose: parameters.get("purpose").cloned(),
            after: parameters.get("after").cloned(),
            ascending,
        };
        let mut files = desk.kept.files.list(&filter, limit + 1).await.map_err(unkept)?;
        let has_more = files.len() > limit;
        files.truncate(limit);
        let ends = [files.first(), files.last()].map(|file| file.map(|file| file.id.clone()));
        let data: Vec<_> = files.iter().map(File::shown).collect();
        let [first, last] = ends;
        let page = json!({"object": "list", "data": data, "has_more": has_more, "first_id": first, "last_id": last});
        Ok(Json(page).into_response())
    };
    listed.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// Shows a file.
#[utoipa::path(get, path = "/v1/files/{id}", tag = openapi::BATCHES, operation_id = "file", params(("id" = String, Path)),
    responses((status = 200, description = "The file.", body = answered::File),
        (status = 404, description = "There is no such file.", body = answered::Failed),
        (status = 503, description = "Files cannot be looked up right now.", body = answered::Failed)))]
pub async fn one(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let file = visible(&desk, &caller, &id).await;
    file.map_or_else(|error| error.respond(request_id(&headers)), |file| Json(file.shown()).into_response())
}

/// Reads a file.
#[utoipa::path(get, path = "/v1/files/{id}/content", tag = openapi::BATCHES, operation_id = "file_content", params(("id" = String, Path)),
    responses((status = 200, description = "The file's bytes.", content_type = "application/octet-stream"),
        (status = 404, description = "There is no such file.", body = answered::Failed),
        (status = 503, description = "Files cannot be read right now.", body = answered::Failed)))]
pub async fn content(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let read = async {
        let file = visible(&desk, &caller, &id).await?;
        // Before the 200: what cannot be read is said as an error while there is still room for one.
        let first = desk.piece(&id, 0).await.map_err(unkept)?;
        let desk = desk.clone();
        let pieces = async_stream::try_stream! {
            let mut number = 0;
            let mut next = first;
            while let Some(piece) = next {
                yield piece;
                number += 1;
                // A failure cuts the connection: the file is never shorter than it was.
                next = desk.piece(&id, number).await?;
            }
        };
        let pieces: std::pin::Pin<
            Box<dyn futures_util::Stream<Item = Result<Bytes, crate::ledger::journal::Failure>> + Send>,
        > = Box::pin(pieces);
        let mut response = Response::new(Body::from_stream(pieces));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let plain: String = file.name.chars().filter(|c| c.is_ascii_graphic() && !"\"\\".contains(*c)).collect();
        if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{plain}\"")) {
            headers.insert(CONTENT_DISPOSITION, value);
        }
        Ok(response)
    };
    read.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// Deletes a file, once no batch reads its lines any more.
#[utoipa::path(delete, path = "/v1/files/{id}", tag = openapi::BATCHES, operation_id = "delete_file", params(("id" = String, Path)),
    responses((status = 200, description = "It is deleted.", body = answered::FileDeleted),
        (status = 404, description = "There is no such file.", body = answered::Failed),
        (status = 409, description = "A batch is reading it.", body = answered::Failed),
        (status = 503, description = "Files cannot be changed right now.", body = answered::Failed)))]
pub async fn delete(
    State(desk): State<Arc<Desk>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let deleted = async {
        visible(&desk, &caller, &id).await?;
        let deleted = desk.kept.files.delete(&id).await.map_err(unkept)?;
        if deleted == Deleted::InUse {
            let message = "a batch is reading the lines of this file; delete it when the batch is `in_progress`";
            return Err(ApiError::request(StatusCode::CONFLICT, "file_in_use", Some("id"), message));
        }
        let is_gone = deleted == Deleted::Gone;
        Ok(Json(json!({"id": id, "object": "file", "deleted": is_gone})).into_response())
    };
    deleted.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}
