//! `GET /v1/budgets`: budgets with what is left. Operators see all of them, members those of their key and team.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::caller::Caller;
use super::openapi::{self, answered};
use super::router::Shared;
use crate::gateway::budgets::Standing;
use crate::tenant::role::Role;

/// Budgets with what is left of them.
#[utoipa::path(get, path = "/v1/budgets", tag = openapi::REPORTS, operation_id = "budgets",
    responses((status = 200, description = "The budgets.", body = answered::Budgets)))]
pub async fn list(State(shared): State<Shared>, caller: Caller) -> Json<Value> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    shared.gateway.look_at_budgets(now_ms).await;
    let data: Vec<Standing> = if caller.tenant.role < Role::Operator {
        shared.gateway.budgets_of(&caller.tenant, now_ms)
    } else {
        let ring = shared.access.ring();
        let keys = ring.keys().iter().filter(|key| key.revoked_unix_ms.is_none());
        let of_keys = keys.flat_map(|key| shared.gateway.budgets_of(&key.tenant(), now_ms));
        let of_keys = of_keys.filter(|standing| standing.scope == "key");
        shared.gateway.shared_budgets(now_ms).into_iter().chain(of_keys).collect()
    };
    Json(json!({"object": "list", "data": data}))
}
