//! `stepwell check [FILE] [--live]`.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Exit, Outcome, block_on, print, source};
use crate::app::discover;
use crate::batch::native::Use;
use crate::catalog::Format;
use crate::config::{self, Loaded, Settings, Source, environment};
use crate::gateway::snapshot::Snapshot;
use crate::provider::adapter;
use crate::provider::transport::{Dial, Transport};

const LIVE_DEADLINE: Duration = Duration::from_secs(10);

pub fn run(file: Option<&Path>, live: bool) -> Outcome {
    let source = source(file, false);
    let loaded = config::load(&source, &environment)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let settings = &loaded.settings;
    let (providers, targets) = (settings.providers.len(), settings.targets.len());
    let routable = settings.targets.iter().filter(|target| target.model.routable).count();
    let unpriced =
        settings.targets.iter().filter(|target| target.model.routable && target.model.price.is_none()).count();
    Snapshot::compile(settings.clone(), 0).map_err(|problems| {
        let text = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        Exit::new(Exit::INVALID_CONFIGURATION, text)
    })?;
    let mut text =
        format!("{}: ok\n  {providers} providers, {targets} models, {routable} of them for `auto`\n", loaded.origin);
    if unpriced > 0 {
        text.push_str(&format!(
            "  {unpriced} models for `auto` have no known price: their cost is reported as unknown\n"
        ));
    }
    text.push_str(&batches(settings));
    print(&text)?;
    if live { block_on(ask(loaded, &source))? } else { Ok(()) }
}

/// Where lines of batches may go to a provider's own.
fn batches(settings: &Settings) -> String {
    let native = settings.providers.iter().filter_map(|provider| {
        let terms = provider.batch?;
        Some(format!("{} ({} off)", provider.name, terms.discount))
    });
    let native: Vec<String> = native.collect();
    match (settings.batches.native, native.is_empty()) {
        (_, true) => String::new(),
        (Use::Auto, false) => format!("  batches that may wait 24h go to the own ones of {}\n", native.join(", ")),
        (Use::Never, false) => "  batches are answered line by line (`batches.native: never`)\n".to_owned(),
    }
}

/// Asks every provider for its models, which costs nothing.
async fn ask(loaded: Loaded, source: &Source) -> Outcome {
    let transport = Transport::default();
    let loaded = discover::complete(loaded, &transport, *source == Source::Detect).await;
    let asked = loaded.settings.providers.iter().map(|provider| {
        let transport = &transport;
        async move {
            let started = Instant::now();
            let result = match provider.format {
                Format::Demo => Ok(200),
                _ => {
                    let dial = Dial { connect: LIVE_DEADLINE, insecure_tls: provider.insecure_tls, fresh: false };
                    transport.probe(&provider.listing_url(), adapter::headers(provider), dial).await
                }
            };
            (provider, result, started.elapsed())
        }
    });
    let mut reachable = 0;
    for (provider, result, elapsed) in join_all(asked).await {
        let (name, ms) = (&provider.name, elapsed.as_millis());
        // Their address lists no models, and only a paid call would try the credential.
        let lists_nothing = matches!(provider.format, Format::Bedrock | Format::Vertex);
        let verdict = match result {
            Ok(_) if lists_nothing => {
                reachable += 1;
                format!("answers ({ms} ms); its credential was not tried")
            }
            Ok(200..=299) => {
                reachable += 1;
                format!("ok ({ms} ms)")
            }
            Ok(status @ (401 | 403)) => {
                format!("refuses the credential (status {status}); check `providers.{name}.api_key`")
            }
            Ok(status @ (404 | 405)) => {
                reachable += 1;
                format!("answers, but does not list models (status {status}, {ms} ms)")
            }
            Ok(status) => format!("answers with status {status} ({ms} ms)"),
            Err(failure) => format!("not reachable: {}", failure.message),
        };
        print(&format!("  {name}: {verdict}"))?;
    }
    if reachable == 0 { Err(Exit::new(Exit::NOTHING_REACHABLE, "no provider is reachable")) } else { Ok(()) }
}
