//! Deletes what nobody has to keep any longer, by the sections `retention` and `jobs`.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::api::later::Desk;
use crate::ledger::journal::{Failure, Journal};
use crate::ledger::usage::{DAY_MS, floor};
use crate::units::Span;

const EVERY: Duration = Duration::from_secs(60);

/// Looks for what is too old, at once and then every minute, until `stop`. A reload counts from the next time on.
pub async fn keep(desk: Arc<Desk>, journal: Arc<dyn Journal>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut requests_since_ms = None;
    let mut failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match forget(&desk, &*journal, &mut requests_since_ms).await {
            Ok(()) => failing = false,
            Err(failure) if failing => tracing::debug!(error = %failure, "what is too old still cannot be deleted"),
            Err(failure) => {
                failing = true;
                tracing::warn!(error = %failure, "what is too old cannot be deleted; that is tried every minute");
            }
        }
    }
}

/// `requests_since_ms`: the day before which all requests are deleted already.
async fn forget(desk: &Desk, journal: &dyn Journal, requests_since_ms: &mut Option<i64>) -> Result<(), Failure> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let before = |kept: Span| now_ms.saturating_sub(i64::try_from(kept.0.as_millis()).unwrap_or(i64::MAX));
    let rules = desk.gateway.rules();
    let (settings, retention) = (&rules.settings.jobs, rules.settings.retention);
    // Files that a batch still reads and events of jobs that go on are spared where they are kept.
    let jobs = desk.kept.queue.forget_ended_before(before(settings.keep), before(settings.keep_dead)).await?;
    desk.kept.parts.forget_ended_before(before(settings.keep)).await?;
    let events = match retention.events {
        Some(kept) => desk.kept.log.forget_before(before(kept)).await?,
        None => 0,
    };
    // Whole days: there is something to do once a day, or when the policy has become stricter.
    let day_ms = retention.requests.map(|kept| floor(before(kept), DAY_MS));
    let requests = match day_ms {
        Some(day_ms) if requests_since_ms.is_none_or(|done| done < day_ms) => {
            let requests = journal.forget_before(day_ms).await?;
            *requests_since_ms = Some(day_ms);
            requests
        }
        _ => 0,
    };
    let files = desk.kept.files.forget_expired(now_ms).await?;
    if jobs + files + events + requests > 0 {
        tracing::info!(jobs, files, events, requests, "deleted what is not kept any longer");
    }
    Ok(())
}
