//! `GET /metrics`: Prometheus text.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::later::Desk;
use super::openapi;
use crate::gateway::Gateway;
use crate::gateway::error::remaining;
use crate::money;
use crate::operations::Operations;
use crate::rank::score::Availability;
use crate::telemetry::metric::Metric;
use crate::telemetry::page::Page;

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = openapi::OPERATIONS, operation_id = "metrics",
    responses((status = 200, description = "All metrics.", body = String, content_type = "text/plain")))]
pub async fn text(
    State(gateway): State<Arc<Gateway>>,
    State(operations): State<Arc<Operations>>,
    State(desk): State<Arc<Desk>>,
) -> Response {
    // Whatever has ended before the scrape is in it.
    operations.observe(&gateway);
    gateway.look_at_budgets(jiff::Timestamp::now().as_millisecond()).await;
    let mut page = operations.metrics();
    load(&gateway, &mut page);
    if let Some(standing) = desk.kept.queue.standing() {
        page.add(Metric::QueueUp, &[], u8::from(standing.is_up));
    }
    targets(&gateway, &mut page);
    budgets(&gateway, &mut page);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.into_text()).into_response()
}

/// States, not events: true at the moment they are asked for.
fn load(gateway: &Gateway, page: &mut Page) {
    let (in_flight, queued, waiting_for_provider) = gateway.occupancy();
    page.add(Metric::InFlight, &[], in_flight);
    page.add(Metric::Queued, &["router"], queued);
    page.add(Metric::Queued, &["provider"], waiting_for_provider);
    page.add(Metric::CacheEntries, &[], gateway.cached_answers());
    page.add(Metric::CacheBytes, &[], gateway.cached_bytes());
    let ledger = gateway.ledger.health();
    page.add(Metric::LedgerUnsaved, &[], ledger.pending);
    page.add(Metric::LedgerBehind, &[], ledger.behind_ms as f64 / 1000.0);
    page.add(Metric::LedgerLost, &[], ledger.lost);
    page.add(Metric::LedgerDegraded, &[], u8::from(ledger.status != "ok"));
    page.add(Metric::LedgerSaved, &[], ledger.saved);
    page.add(Metric::Unobserved, &[], gateway.ledger.unobserved());
    if let Some(shared) = gateway.shared() {
        let standing = shared.counters.standing();
        page.add(Metric::SharedUp, &[], u8::from(standing.is_up));
        page.add(Metric::SharedReplicas, &[], standing.replicas);
    }
    page.add(Metric::ConfigVersion, &[], gateway.rules().version);
}

fn targets(gateway: &Gateway, page: &mut Page) {
    let (rules, now) = (gateway.rules(), Instant::now());
    let vitals = |target: &Arc<crate::catalog::Target>| {
        gateway.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now)
    };
    let all: Vec<_> = rules.index.targets().iter().map(|target| (target, vitals(target))).collect();
    // Full is busy, and busy is well.
    let pause = |availability: &Availability| match availability {
        Availability::Full { .. } => None,
        other => remaining(other),
    };
    let usable = all.iter().filter(|(_, vitals)| pause(&vitals.availability).is_none()).count();
    page.add(Metric::UsableTargets, &[], usable);
    for metric in [Metric::BreakerState, Metric::CooldownSeconds, Metric::TargetInFlight] {
        for (target, vitals) in &all {
            let value = match metric {
                Metric::BreakerState => state(&vitals.availability),
                Metric::CooldownSeconds => pause(&vitals.availability).unwrap_or_default().as_secs_f64(),
                _ => f64::from(vitals.pending),
            };
            page.add(metric, &[&target.provider.name, &target.model.id], value);
        }
    }
}

/// Those of the configuration, whose number is bounded by it; keys may have thousands.
fn budgets(gateway: &Gateway, page: &mut Page) {
    let all = gateway.shared_budgets(jiff::Timestamp::now().as_millisecond());
    for metric in [Metric::BudgetSpent, Metric::BudgetRemaining] {
        for budget in &all {
            let amount = if metric == Metric::BudgetSpent { budget.spent_usd } else { budget.left_usd };
            page.add(metric, &[budget.scope, &budget.name, budget.period], money::decimal(amount));
        }
    }
}

fn state(availability: &Availability) -> f64 {
    match availability {
        Availability::Closed | Availability::Full { .. } => 0.0,
        Availability::HalfOpen => 1.0,
        Availability::Open { .. } => 2.0,
        Availability::Cooling { .. } => 3.0,
    }
}
