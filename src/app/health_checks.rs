//! Cheap questions to providers that nobody uses at the moment: the list of their models.
//!
//! A failed one moves the provider's targets behind the others in every plan; it opens no breaker and excludes nobody.
//! What a real request shows counts more: a success there ends what a check said.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Format, Provider};
use crate::dispatch::settings::HealthChecks;
use crate::gateway::Gateway;
use crate::provider::adapter;
use crate::provider::failure::FailureKind;
use crate::provider::transport::Dial;

/// How often a reload that switches checks on or off is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// A failed check counts until the next one had time to come.
const COUNTS_FOR: u32 = 2;

/// Asks until `stop`, as the rules in force say.
pub async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut last = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let rules = gateway.rules();
        let checks = &rules.settings.health_checks;
        if !checks.enabled || last.elapsed() < checks.interval.0 {
            continue;
        }
        last = Instant::now();
        let fleet = &gateway.dispatcher.fleet;
        let idle =
            |provider: &&Arc<Provider>| fleet.idle(&provider.name, last).is_none_or(|idle| idle >= checks.interval.0);
        let asked = rules.settings.providers.iter().filter(|provider| lists_models(provider)).filter(idle);
        let asking = join_all(asked.map(|provider| ask(&gateway, provider, checks)));
        tokio::select! {
            () = stop.cancelled() => return,
            _ = asking => {}
        }
    }
}

/// Bedrock and Vertex AI list nothing at their address, the demo has none.
fn lists_models(provider: &Provider) -> bool {
    !matches!(provider.format, Format::Bedrock | Format::Vertex | Format::Demo)
}

async fn ask(gateway: &Gateway, provider: &Provider, checks: &HealthChecks) {
    let transport = &gateway.dispatcher.transport;
    let url = provider.listing_url();
    let dial = Dial { connect: checks.timeout.0, insecure_tls: provider.insecure_tls, fresh: false };
    let asking = transport.probe(&url, adapter::headers(provider), dial);
    // Any answer below 500 shows that somebody is there; whether the credential is right, requests will show.
    let trouble = match asking.await {
        Ok(status @ 500..) => Some(format!("status {status}")),
        Ok(_) => None,
        // Nothing is known of the provider if the question could not leave this machine.
        Err(failure) if failure.kind == FailureKind::Local => return,
        Err(failure) => Some(failure.message),
    };
    let name = provider.name.to_string();
    metrics::gauge!(crate::telemetry::metric::Metric::HealthCheckUp.name(), "provider" => name)
        .set(if trouble.is_none() { 1.0 } else { 0.0 });
    let now = Instant::now();
    let until = trouble.as_ref().map(|_| now + checks.interval.0 * COUNTS_FOR);
    let changed = gateway.dispatcher.fleet.checked(&provider.name, now, until);
    match trouble {
        Some(trouble) if changed => {
            tracing::warn!("health check of `{}` failed ({trouble}); others go first", provider.name)
        }
        None if changed => tracing::info!("health check of `{}` succeeds again", provider.name),
        _ => {}
    }
}
