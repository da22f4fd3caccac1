//! Tells the server under `events.webhook` what happens: in order, each event at least once, one replica at a time.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::later::Desk;
use crate::config::EventsWebhook;
use crate::events::log::Wanted;
use crate::ledger::journal::Failure;
use crate::telemetry::metric::Metric;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Whoever is not heard of for so long is replaced. Longer than a delivery takes at most.
const LEASE: Duration = Duration::from_secs(90);
/// Events in one delivery.
const AT_ONCE: usize = 100;

/// Publishes until `stop`, while the configuration names a webhook; with the pauses of `jobs.backoff` while that does not take
/// what it is told. A new address is another consumer, and begins with what happens then. `holder` names this process among
/// all.
pub async fn publish(desk: Arc<Desk>, holder: String, stop: CancellationToken) {
    let mut failed = 0;
    loop {
        let pause = if failed == 0 { LOOK_EVERY } else { desk.pause(failed) };
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let rules = desk.gateway.rules();
        let Some(webhook) = &rules.settings.events.webhook else { continue };
        match tokio::select! { () = stop.cancelled() => break, told = tell(&desk, webhook, &holder) => told } {
            Ok(()) if failed > 0 => {
                tracing::info!("the server under `events.webhook` is told of events again");
                failed = 0;
            }
            Ok(()) => {}
            Err(Failure(reason)) => {
                if failed == 0 {
                    tracing::warn!(%reason, "events are not told to `events.webhook`; they wait and are told later");
                }
                failed = failed.saturating_add(1);
            }
        }
    }
    // Nobody has to wait for a server that stops.
    if let Some(webhook) = &desk.gateway.rules().settings.events.webhook {
        let _ = desk.kept.log.take_turn(&consumer(webhook), &holder, Duration::ZERO).await;
    }
}

/// Has the store remember where the log ends, so that what happens from here on is told, however late the first look is.
pub async fn begin(desk: &Desk, holder: &str) -> Result<(), Failure> {
    if let Some(webhook) = &desk.gateway.rules().settings.events.webhook {
        desk.kept.log.take_turn(&consumer(webhook), holder, LEASE).await?;
    }
    Ok(())
}

/// The address is a secret: it may have a token in it.
fn consumer(webhook: &EventsWebhook) -> String {
    format!("webhook-{}", &blake3::hash(webhook.url.as_bytes()).to_hex()[..16])
}

/// Tells everything that there is to tell, if it is our turn.
async fn tell(desk: &Desk, webhook: &EventsWebhook, holder: &str) -> Result<(), Failure> {
    let (consumer, log) = (consumer(webhook), &*desk.kept.log);
    let wanted = Wanted { kinds: webhook.kinds.clone(), ..Wanted::default() };
    loop {
        let Some(place) = log.take_turn(&consumer, holder, LEASE).await? else { return Ok(()) };
        // Before the look at what is wanted: what is not wanted up to here need not be looked at again.
        let end = log.end().await?;
        let events = log.behind(place, &wanted, AT_ONCE).await?;
        let last = events.last().and_then(|event| event.seq);
        if let (Some(first), Some(last)) = (events.first().and_then(|event| event.seq), last) {
            let said = json!({
                "type": "events",
                "timestamp": jiff::Timestamp::now().to_string(),
                "data": {"events": events},
            });
            let id = format!("events_{first}_{last}");
            match desk.deliver(&id, &webhook.url, said.to_string().into_bytes()).await {
                Ok(200..300) => {}
                Ok(status) => return Err(Failure(format!("it answered {status}"))),
                Err(undelivered) => return Err(Failure(undelivered.to_string())),
            }
            counter!(Metric::EventsPublished.name(), "to" => "webhook").increment(events.len() as u64);
        }
        let is_all = events.len() < AT_ONCE;
        let reached = last.unwrap_or(place).max(if is_all { end } else { place });
        let is_ours = reached == place || log.advance(&consumer, holder, reached).await?;
        if is_all || !is_ours {
            return Ok(());
        }
    }
}
