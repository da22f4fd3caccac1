//! `GET /v1/models`: aliases first, then every model as `provider/model`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::openapi::{self, answered};
use crate::catalog::Target;
use crate::gateway::Gateway;
use crate::gateway::snapshot::Snapshot;
use crate::gateway::terms::Terms;

/// Models have no birthday here; the SDKs want a number. The catalogue's date, 2026-11-20.
const CREATED: i64 = 1_795_132_800;

/// Lists what can be asked for.
#[utoipa::path(get, path = "/v1/models", tag = openapi::REPORTS, operation_id = "models",
    responses((status = 200, description = "All models.", body = answered::Models)))]
pub async fn list(State(gateway): State<Arc<Gateway>>, caller: Caller, headers: HeaderMap) -> Json<Value> {
    let rules = gateway.rules();
    // A key of a tier that is gone may ask for nothing.
    let terms = Terms::of(&rules, &caller.tenant).ok();
    let aliases = rules.index.aliases().filter(|name| terms.as_ref().is_some_and(|terms| terms.shows_alias(name)));
    let targets = rules.index.targets().iter().filter(|target| terms.as_ref().is_some_and(|terms| terms.shows(target)));
    let mut data: Vec<Value> = aliases.map(alias).chain(targets.map(|target| model(target))).collect();
    if !headers.contains_key("anthropic-version") {
        return Json(json!({"object": "list", "data": data}));
    }
    data.iter_mut().for_each(in_anthropics_words);
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    let (first, last) = (id(data.first()), id(data.last()));
    Json(json!({"data": data, "has_more": false, "first_id": first, "last_id": last}))
}

/// What Anthropic's SDKs read of a model, beside our own members (API reference, Models).
fn in_anthropics_words(model: &mut Value) {
    model["type"] = json!("model");
    model["display_name"] = model["id"].clone();
    model["created_at"] = json!("2026-11-20T00:00:00Z");
}

/// Tells what is known of a model. The id may have slashes.
#[utoipa::path(get, path = "/v1/models/{*id}", tag = openapi::REPORTS, operation_id = "model",
    params(("id" = String, Path, description = "An alias, `provider/model`, or a bare model id.", example = "auto")),
    responses((status = 200, description = "The model.", body = answered::Model),
        (status = 404, description = "There is no such model.", body = answered::Failed)))]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let rules = gateway.rules();
    let terms = Terms::of(&rules, &caller.tenant).ok();
    match terms.and_then(|terms| find(&rules, &terms, &id)) {
        Some(found) => Json(found).into_response(),
        None => {
            let error = rules.index.select(&id, &[]).err();
            let message = error.map_or_else(|| format!("the model `{id}` does not exist"), |error| error.to_string());
            ApiError::request(StatusCode::NOT_FOUND, "model_not_found", Some("model"), message)
                .respond(request_id(&headers))
        }
    }
}

fn find(rules: &Snapshot, terms: &Terms<'_>, id: &str) -> Option<Value> {
    if let Some(name) = rules.index.aliases().find(|name| *name == id) {
        return terms.shows_alias(name).then(|| alias(name));
    }
    if let Some(target) = rules.index.target(id) {
        return terms.shows(target).then(|| model(target));
    }
    let selection = rules.index.select(id, &[]).ok()?;
    selection.groups.first()?.targets.iter().find(|target| terms.shows(target)).map(|target| model(target))
}

fn alias(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "stepwell"})
}

/// OpenAI's members, then what is known of the model and how.
fn model(target: &Target) -> Value {
    let model = &target.model;
    json!({
        "id": target.id,
        "object": "model",
        "created": CREATED,
        "owned_by": *target.provider.name,
        "context_length": model.context,
        "max_output_tokens": model.max_output,
        "price_usd_per_million": model.price.as_ref().map(|price| json!({
            "input": price.input, "output": price.output, "cached_input": price.cached_input,
        })),
        "supports": model.supports,
        "routable": model.routable,
    })
}
