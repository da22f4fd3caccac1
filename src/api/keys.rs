//! `/v1/keys`: what `stepwell keys` does, for admins, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::chat::read;
use super::edge::request_id;
use super::error::ApiError;
use super::openapi::{self, answered, asked};
use super::router::Shared;
use crate::gateway::Gateway;
use crate::tenant::keeper::{Error, shown};
use crate::tenant::key::{Key, OVERLAP, Wish};
use crate::tenant::role::Role;
use crate::tenant::settings::Limits;
use crate::units;

/// The body of `POST /v1/keys`. A member that is null is as good as none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    tier: Option<String>,
    team: Option<String>,
    role: Option<Role>,
    tags: Option<Vec<String>>,
    /// `90d`, or RFC 3339.
    expires: Option<String>,
    limits: Option<Limits>,
    /// Short for `limits.models` and `limits.providers`.
    models: Option<Vec<String>>,
    providers: Option<Vec<String>>,
}

/// The body of `POST /v1/keys/{id}/rotate`; may be empty.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    overlap: Option<units::Span>,
}

/// Lists all keys, without their secrets.
#[utoipa::path(get, path = "/v1/keys", tag = openapi::KEYS, operation_id = "keys",
    responses((status = 200, description = "The keys.", body = answered::Keys), (status = 503, description = "Keys cannot be read right now.", body = answered::Failed)))]
pub async fn list(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let now_ms = now_ms();
    match shared.keeper.ring().await {
        Ok(ring) => {
            let data: Vec<_> = ring.keys().iter().map(|key| shown(key, None, now_ms)).collect();
            Json(json!({"object": "list", "data": data})).into_response()
        }
        Err(error) => failed(error).respond(request_id(&headers)),
    }
}

/// Shows a key, without its secret.
#[utoipa::path(get, path = "/v1/keys/{id}", tag = openapi::KEYS, operation_id = "key", params(("id" = String, Path, description = "The key's id or name.")),
    responses((status = 200, description = "The key.", body = answered::Key), (status = 404, description = "There is no such key, or it is revoked.", body = answered::Failed), (status = 503, description = "Keys cannot be read or changed right now.", body = answered::Failed)))]
pub async fn one(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match shared.keeper.find(&id).await {
        Ok(key) if key.revoked_unix_ms.is_some() => {
            let message = format!("the key `{}` is revoked; GET /v1/keys lists those, too", key.name);
            ApiError::request(StatusCode::NOT_FOUND, "key_revoked", Some("id"), message).respond(request_id(&headers))
        }
        Ok(key) => Json(shown(&key, None, now_ms())).into_response(),
        Err(error) => failed(error).respond(request_id(&headers)),
    }
}

/// Makes a key. The answer is the only place where it is shown.
#[utoipa::path(post, path = "/v1/keys", tag = openapi::KEYS, operation_id = "create_key", request_body = asked::NewKey,
    responses((status = 201, description = "The key with its secret.", body = answered::Key),
        (status = 404, description = "There is no tier of this name.", body = answered::Failed),
        (status = 409, description = "The name is taken.", body = answered::Failed)))]
pub async fn create(State(shared): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let made = async {
        let wish = wish(&shared.gateway, &headers, body).await?;
        shared.keeper.create(wish, now_ms()).await.map_err(failed)
    };
    match made.await {
        Ok((key, text)) => {
            tracing::info!(key.id, key.name, key.role = key.role.as_str(), "a key was created");
            made_known(&shared, StatusCode::CREATED, &key, Some(&text)).await
        }
        Err(error) => error.respond(request_id(&headers)),
    }
}

/// Gives a key a new secret; the old one is good for a while. The body may be left out.
#[utoipa::path(post, path = "/v1/keys/{id}/rotate", tag = openapi::KEYS, operation_id = "rotate_key", params(("id" = String, Path, description = "The key's id or name.")), request_body = Option<asked::Rotation>,
    responses((status = 200, description = "The key with its new secret.", body = answered::Key),
        (status = 404, description = "There is no such key.", body = answered::Failed),
        (status = 409, description = "The key is revoked.", body = answered::Failed)))]
pub async fn rotate(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>, body: Body) -> Response {
    let rotated = async {
        let body = body_or_nothing(&shared.gateway, &headers, body).await?;
        let Rotate { overlap } = parse::<Option<Rotate>>(&body)?.unwrap_or_default();
        let overlap = overlap.map_or(OVERLAP, |overlap| overlap.0);
        shared.keeper.rotate(&id, overlap, now_ms()).await.map_err(failed)
    };
    match rotated.await {
        Ok((key, text)) => {
            tracing::info!(key.id, key.name, "a key was rotated");
            made_known(&shared, StatusCode::OK, &key, Some(&text)).await
        }
        Err(error) => error.respond(request_id(&headers)),
    }
}

/// Revokes a key for good.
#[utoipa::path(post, path = "/v1/keys/{id}/revoke", tag = openapi::KEYS, operation_id = "revoke_key", params(("id" = String, Path, description = "The key's id or name.")),
    responses((status = 200, description = "The key.", body = answered::Key), (status = 404, description = "There is no such key, or it is revoked.", body = answered::Failed), (status = 503, description = "Keys cannot be read or changed right now.", body = answered::Failed)))]
pub async fn revoke(State(shared): State<Shared>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    match shared.keeper.revoke(&id, now_ms()).await {
        Ok(key) => {
            tracing::info!(key.id, key.name, "a key was revoked");
            made_known(&shared, StatusCode::OK, &key, None).await
        }
        Err(error) => failed(error).respond(request_id(&headers)),
    }
}

/// The same as `POST /v1/keys/{id}/revoke`.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = openapi::KEYS, operation_id = "delete_key", params(("id" = String, Path, description = "The key's id or name.")),
    responses((status = 200, description = "The key.", body = answered::Key), (status = 404, description = "There is no such key, or it is revoked.", body = answered::Failed), (status = 503, description = "Keys cannot be read or changed right now.", body = answered::Failed)))]
pub async fn delete(shared: State<Shared>, headers: HeaderMap, id: Path<String>) -> Response {
    revoke(shared, headers, id).await
}

/// Puts a change in force here at once, and shows it. Other servers on the same database see it within a second.
async fn made_known(shared: &Shared, status: StatusCode, key: &Key, text: Option<&SecretString>) -> Response {
    match shared.keeper.ring().await {
        Ok(ring) => shared.access.replace_ring(ring),
        Err(error) => tracing::error!("a change of keys is not in force yet: {error}"),
    }
    (status, Json(shown(key, text.map(ExposeSecret::expose_secret), now_ms()))).into_response()
}

async fn wish(gateway: &Arc<Gateway>, headers: &HeaderMap, body: Body) -> Result<Wish, ApiError> {
    let body = read(gateway, headers, body).await?;
    let Create { name, tier, team, role, tags, expires, limits, models, providers } = parse(&body)?;
    let mut limits = limits.unwrap_or_default();
    limits.models.extend(models.into_iter().flatten());
    limits.providers.extend(providers.into_iter().flatten());
    let (role, tags) = (role.unwrap_or_default(), tags.unwrap_or_default());
    let rules = gateway.rules();
    let tiers = &rules.settings.tenants.tiers;
    if let Some(tier) = tier.as_ref().filter(|tier| !tiers.contains_key(*tier)) {
        let known: Vec<&str> = tiers.keys().map(String::as_str).collect();
        let message = format!("there is no tier `{}`; configured: {}", short(tier), known.join(", "));
        return Err(ApiError::request(StatusCode::NOT_FOUND, "tier_not_found", Some("tier"), message));
    }
    let expires_unix_ms = match expires.as_deref() {
        None => None,
        Some(text) => Some(moment(text, now_ms()).ok_or_else(|| {
            bad("expires", format!("`{}` is neither a span such as 90d nor an RFC 3339 time", short(text)))
        })?),
    };
    Ok(Wish { name, tier, team, role, tags, limits, expires_unix_ms })
}

/// A span from now on, or a point in time.
pub fn moment(text: &str, now_ms: i64) -> Option<i64> {
    let later = |span: Duration| now_ms.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
    let time = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    units::duration(text).ok().map(later).or_else(time)
}

async fn body_or_nothing(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<bytes::Bytes, ApiError> {
    if hyper::body::Body::is_end_stream(&body) {
        return Ok(bytes::Bytes::from_static(b"{}"));
    }
    read(gateway, headers, body).await
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", None, error.to_string()))
}

fn bad(param: &str, message: String) -> ApiError {
    ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message)
}

fn failed(error: Error) -> ApiError {
    let message = error.to_string();
    match error {
        Error::BadWish(wrong) => ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", wrong.param(), message),
        Error::NameTaken(_) => ApiError::request(StatusCode::CONFLICT, "name_taken", Some("name"), message),
        Error::Revoked(_) => ApiError::request(StatusCode::CONFLICT, "key_revoked", Some("id"), message),
        Error::NotFound(_) => ApiError::request(StatusCode::NOT_FOUND, "key_not_found", Some("id"), message),
        Error::OtherSecret | Error::Unreadable(_) => {
            tracing::error!("keys cannot be changed: {message}");
            ApiError::unavailable(
                "keys_unavailable",
                "keys cannot be read or changed right now; the log has the reason",
            )
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
