//! `GET /v1/usage` and `GET /v1/usage/compare`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::caller::Caller;
use super::edge::request_id;
use super::error::ApiError;
use super::openapi::{self, answered};
use crate::gateway::Gateway;
use crate::ledger::compare::compare as compared;
use crate::ledger::csv::{csv, excel};
use crate::ledger::report::Report;
use crate::ledger::usage::{BadQuery, Dimension, UsageQuery};

/// How long a report waits for the rows of a moment ago to be saved. The writer is at most 250 ms behind.
const CATCH_UP: Duration = Duration::from_millis(500);

type Parameters = Query<HashMap<String, String>>;

/// What was used and what it cost, by any columns.
#[utoipa::path(get, path = "/v1/usage", tag = openapi::REPORTS, operation_id = "usage",
    params(("group_by" = Option<String>, Query, description = "Any of provider, model, task, key, team, tier, tag, strategy, day, hour, status, with commas between.", pattern = "^((provider|model|task|key|team|tier|tag|strategy|day|hour|status)(,(provider|model|task|key|team|tier|tag|strategy|day|hour|status)){0,3})?$", example = "provider,model"),
        ("since" = Option<String>, Query, description = "How long ago, in days such as 7d. RFC 3339, a date and other durations are understood too.", pattern = "^[1-9][0-9]{0,2}d$", example = "7d"),
        ("key" = Option<String>, Query, description = "A key's name. Who is no operator sees its own alone."),
        ("until" = Option<String>, Query, description = "The end, later than `since`: how long ago, in hours such as 2h, or as for `since`.", pattern = "^([1-9]|1[0-9]|2[0-3])h$", example = "1h"),
        ("team" = Option<String>, Query, description = "Requests of this team's keys only."),
        ("tag" = Option<String>, Query, description = "Requests with this tag only."),
        ("format" = Option<answered::ReportFormat>, Query, description = "json if not given; excel is csv with a byte order mark.")),
    responses((status = 200, description = "The report.", content((answered::UsageReport = "application/json"), (String = "text/csv"))),
        (status = 400, description = "A parameter is unknown or has an impossible value.", body = answered::Failed),
        (status = 503, description = "The ledger cannot be read right now.", body = answered::Failed)))]
pub async fn report(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let result = async {
        let query = query(&parameters, &["group_by", "since", "until", "format", "key", "team", "tag"], &caller)?;
        let as_csv: Option<fn(&Report, &[Dimension]) -> String> = match parameters.get("format").map(String::as_str) {
            None | Some("json") => None,
            Some("csv") => Some(csv),
            Some("excel") => Some(excel),
            Some(other) => {
                let message =
                    format!("`{}` is not a format; use json, csv or excel", other.chars().take(40).collect::<String>());
                return Err(ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some("format"), message));
            }
        };
        gateway.ledger.caught_up(CATCH_UP).await;
        let mut report = gateway.ledger.usage(&query).await.map_err(unreadable)?;
        if let Some(write) = as_csv {
            let text = write(&report, &query.group_by);
            return Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response());
        }
        let now = jiff::Timestamp::now().to_zoned(gateway.accounts.zone());
        report.forecast = Some(gateway.ledger.forecast(&query, &now).await.map_err(unreadable)?);
        Ok(Json(report).into_response())
    };
    result.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// What the recorded traffic would have cost at every target with a price.
#[utoipa::path(get, path = "/v1/usage/compare", tag = openapi::REPORTS, operation_id = "usage_compare",
    params(("since" = Option<String>, Query, description = "How long ago, in days such as 7d. RFC 3339, a date and other durations are understood too.", pattern = "^[1-9][0-9]{0,2}d$", example = "7d"),
        ("key" = Option<String>, Query, description = "A key's name. Who is no operator sees its own alone."),
        ("until" = Option<String>, Query, description = "The end, later than `since`: how long ago, in hours such as 2h, or as for `since`.", pattern = "^([1-9]|1[0-9]|2[0-3])h$", example = "1h"),
        ("team" = Option<String>, Query, description = "Requests of this team's keys only."),
        ("tag" = Option<String>, Query, description = "Requests with this tag only.")),
    responses((status = 200, description = "The comparison.", body = answered::Comparison),
        (status = 400, description = "A parameter is unknown or has an impossible value.", body = answered::Failed),
        (status = 503, description = "The ledger cannot be read right now.", body = answered::Failed)))]
pub async fn compare(
    State(gateway): State<Arc<Gateway>>,
    caller: Caller,
    headers: HeaderMap,
    Query(parameters): Parameters,
) -> Response {
    let result = async {
        let query = query(&parameters, &["since", "until", "key", "team", "tag"], &caller)?;
        gateway.ledger.caught_up(CATCH_UP).await;
        let groups = gateway.ledger.groups(&query).await.map_err(unreadable)?;
        let rules = gateway.rules();
        let priced = rules.index.targets().iter().filter_map(|target| Some((&target.id, target.model.price.as_ref()?)));
        Ok(Json(compared(&groups, priced)).into_response())
    };
    result.await.unwrap_or_else(|error: ApiError| error.respond(request_id(&headers)))
}

/// Members ask about themselves, whatever they ask.
fn query(parameters: &HashMap<String, String>, known: &[&str], caller: &Caller) -> Result<UsageQuery, ApiError> {
    let bad = |param: &str, message: String| {
        ApiError::request(StatusCode::BAD_REQUEST, "invalid_value", Some(param), message)
    };
    if let Some(unknown) = parameters.keys().find(|name| !known.contains(&name.as_str())) {
        let name: String = unknown.chars().take(40).collect();
        return Err(bad(&name, format!("unknown parameter `{name}`; there are {}", known.join(", "))));
    }
    let get = |name: &str| parameters.get(name).map(String::as_str);
    let now = jiff::Timestamp::now().as_millisecond();
    let mut query =
        UsageQuery::parse(get("group_by"), get("since"), get("until"), now).map_err(|error: BadQuery| {
            let of_time = if get("since").is_some() { "since" } else { "until" };
            bad(error.param(of_time), error.to_string())
        })?;
    query.key = caller.sees_only().or(get("key")).map(str::to_owned);
    query.team = get("team").map(str::to_owned);
    query.tag = get("tag").map(str::to_owned);
    Ok(query)
}

/// The store cannot be read right now.
pub fn unreadable(failure: crate::ledger::journal::Failure) -> ApiError {
    tracing::error!(error = %failure, "the ledger cannot be read");
    ApiError::unavailable("ledger_unavailable", "the ledger cannot be read right now; /health has the reason")
}
