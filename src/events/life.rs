//! A ledger row, told as events. The row is written once, when the request has ended, and holds the times of everything in
//! between: so a request that is answered at once costs one row, and still has a history.

use serde_json::Value;

use super::{Event, Facts, Kind, facts};
use crate::ledger::record::Status;
use crate::ledger::row::Row;

/// The life of the request behind a row, oldest first.
pub fn of(row: &Row) -> Vec<Event> {
    let mut events = Vec::with_capacity(6 + 2 * row.attempts.len());
    let mut tell = |after_ms: u64, kind: Kind, facts: Facts| {
        let at_unix_ms = row.started_unix_ms.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
        events.push(Event { seq: None, at_unix_ms, kind, subject: row.id.clone(), key: row.key.clone(), facts });
    };
    tell(0, Kind::Received, facts([("model", row.asked_model.clone().into()), ("stream", row.stream.into())]));
    // Until the first attempt only what the router itself does takes time, and that is less than a millisecond or a wait
    // in its queue.
    let decided = row.attempts.first().map_or(0, |attempt| attempt.started_ms).min(row.total_ms);
    if !row.task.is_empty() {
        let confidence = row.task_confidence.into();
        tell(decided, Kind::Classified, facts([("task", row.task.clone().into()), ("confidence", confidence)]));
    }
    if !row.strategy.is_empty() && !row.reason.is_empty() {
        let planned = [("strategy", row.strategy.clone().into()), ("reason", row.reason.clone().into())];
        tell(decided, Kind::Planned, facts(planned));
    }
    for (number, attempt) in row.attempts.iter().enumerate() {
        let target: [(&str, Value); 3] = [
            ("attempt", (number + 1).into()),
            ("provider", attempt.provider.clone().into()),
            ("model", attempt.model.clone().into()),
        ];
        tell(attempt.started_ms, Kind::AttemptStarted, facts(target.clone()));
        if let Some(kind) = &attempt.kind {
            let mut failed = facts(target);
            failed.extend(facts([("failure", kind.clone().into()), ("http_status", attempt.status.into())]));
            tell(attempt.started_ms.saturating_add(attempt.duration_ms), Kind::AttemptFailed, failed);
        }
    }
    if let Some(first_token_ms) = row.first_token_ms {
        tell(first_token_ms, Kind::FirstToken, Facts::new());
    }
    let ended = match row.status {
        Status::Completed => Kind::Completed,
        Status::ClientClosed => Kind::Cancelled,
        Status::InProgress => return ordered(events),
        Status::Interrupted | Status::Failed | Status::Rejected => Kind::Failed,
    };
    let outcome = [
        ("status", Value::from(row.status.as_str())),
        ("http_status", row.http_status.into()),
        ("provider", Some(row.provider.clone()).filter(|provider| !provider.is_empty()).into()),
        ("model", Some(row.model.clone()).filter(|model| !model.is_empty()).into()),
        ("cache", serde_json::to_value(row.cache).unwrap_or_default()),
        ("error", row.error.clone().into()),
    ];
    tell(row.total_ms, ended, facts(outcome));
    let cost = serde_json::to_value(row.cost_usd).unwrap_or_default();
    let mut settled = facts([
        ("prompt_tokens", row.prompt_tokens.into()),
        ("completion_tokens", row.completion_tokens.into()),
        ("estimated_usage", row.estimated_usage.into()),
    ]);
    // An unknown cost is told as unknown, not left out.
    settled.insert("cost_usd".to_owned(), cost);
    tell(row.total_ms, Kind::Settled, settled);
    ordered(events)
}

/// By time; what happened in the same millisecond stays as it was told.
fn ordered(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|event| event.at_unix_ms);
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::{AttemptRow, Record};

    #[test]
    fn a_failover_is_told_in_order_and_an_unknown_cost_as_unknown() {
        let mut record = Record::new("r".into(), 1_000);
        record.status = Status::Completed;
        record.http_status = 200;
        record.cost = None;
        let mut row = Row::of(&record);
        let attempt = |provider: &str, started_ms, kind: Option<&str>| AttemptRow {
            provider: provider.to_owned(),
            started_ms,
            duration_ms: 5,
            kind: kind.map(str::to_owned),
            ..AttemptRow::default()
        };
        row.attempts = vec![attempt("one", 2, Some("server_error")), attempt("two", 7, None)];
        (row.total_ms, row.first_token_ms) = (20, Some(15));
        let events = of(&row);
        let told: Vec<(&str, i64)> = events.iter().map(|event| (event.kind.as_str(), event.at_unix_ms)).collect();
        let expected = [
            ("received", 1_000),
            ("attempt_started", 1_002),
            ("attempt_failed", 1_007),
            ("attempt_started", 1_007),
            ("first_token", 1_015),
            ("completed", 1_020),
            ("settled", 1_020),
        ];
        assert_eq!(told, expected);
        assert_eq!(events[6].facts["cost_usd"], Value::Null);
    }
}
