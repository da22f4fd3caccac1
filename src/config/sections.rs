//! The sections about the router as a whole: routing, hints, staying up, cache, server, logging, tasks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::problem::closest;
use super::reader::{Item, Section, set};
use super::settings::{BudgetsWhenGone, Level, LogFormat, Logging, Server, Shared, Upstream};
use crate::admission;
use crate::cache;
use crate::classify::settings::{Pattern, Settings as Tasks, TaskSettings, check_pattern};
use crate::dispatch::settings::{HealthChecks, Hedge, HedgeAfter, Retry, Timeouts};
use crate::rank::settings::{Alias, Settings as Routing, Strategy, Weights, WhenImpossible};
use crate::resilience::breaker;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Tasks that exist without being configured.
pub(super) const BUILT_IN_TASKS: [&str; 13] = [
    "housekeeping",
    "coding",
    "reasoning",
    "analysis",
    "classification",
    "creative",
    "rewrite",
    "translation",
    "general",
    "roleplay",
    "safety",
    "tool_use",
    "multimodal",
];

pub(super) fn strategy(item: &Item<'_>) -> Option<Strategy> {
    let text = item.text()?;
    let strategy = Strategy::parse(text);
    if strategy.is_none() {
        item.unknown("strategy", text, Strategy::ALL.iter().map(|strategy| strategy.as_str()));
    }
    strategy
}

pub(super) fn routing(mut section: Section<'_>) -> Routing {
    let mut routing = Routing::default();
    set(&mut routing.strategy, section.get("strategy").and_then(|item| strategy(&item)));
    if let Some(weights) = section.section("weights") {
        routing.weights = self::weights(weights);
    }
    set(&mut routing.min_skill, section.number("min_skill", 0.0..=1.0));
    set(&mut routing.max_attempts, section.count("max_attempts", 1..=10).map(|count| count.0 as u32));
    for (entry, item) in section.get("aliases").map(|item| item.named("a map of aliases")).unwrap_or_default() {
        if entry.key.is_empty() || entry.key.contains(['/', ':']) || entry.key.contains(char::is_whitespace) {
            let rule = "an alias has no `/`, `:` or spaces";
            section.report.problem(entry.key_at, &item.path, format!("`{}` cannot be asked for; {rule}", entry.key));
        }
        if let Some(alias) = item.section() {
            routing.aliases.insert(entry.key.clone(), self::alias(alias));
        }
    }
    section.finish();
    routing
}

fn weights(mut section: Section<'_>) -> Weights {
    let mut weights = Weights::default();
    set(&mut weights.capability, section.number("capability", 0.0..=1000.0));
    set(&mut weights.cost, section.number("cost", 0.0..=1000.0));
    set(&mut weights.latency, section.number("latency", 0.0..=1000.0));
    if weights.capability + weights.cost + weights.latency <= 0.0 {
        section.problem("all weights are 0; one must be above");
    }
    section.finish();
    weights
}

fn alias(mut section: Section<'_>) -> Alias {
    let list = |item: Option<Item<'_>>| {
        let texts = item.and_then(|item| item.texts("a list of providers or provider/model")).unwrap_or_default();
        texts.into_iter().map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
    };
    let alias = Alias {
        only: list(section.get("only")),
        avoid: list(section.get("avoid")),
        strategy: section.get("strategy").and_then(|item| strategy(&item)),
        min_skill: section.number("min_skill", 0.0..=1.0),
    };
    section.finish();
    alias
}

pub(super) fn hints(mut section: Section<'_>) -> WhenImpossible {
    let choices = [("reject", WhenImpossible::Reject), ("relax", WhenImpossible::Relax)];
    let chosen = section.get("when_impossible").and_then(|item| item.choice(&choices));
    section.finish();
    chosen.unwrap_or_default()
}

/// The three sections that may stand at the top and at a provider: what is not written keeps the value of `base`.
pub(super) fn upstream(section: &mut Section<'_>, base: &Upstream) -> Upstream {
    let mut upstream = base.clone();
    if let Some(section) = section.section("breaker") {
        breaker(section, &mut upstream.breaker);
    }
    if let Some(section) = section.section("retry") {
        retry(section, &mut upstream.retry);
    }
    if let Some(section) = section.section("timeouts") {
        timeouts(section, &mut upstream.timeouts);
    }
    upstream
}

fn breaker(mut section: Section<'_>, breaker: &mut breaker::Settings) {
    set(&mut breaker.window, section.span("window", SECOND..=10 * MINUTE));
    set(&mut breaker.min_requests, section.count("min_requests", 1..=1_000_000));
    let open_at = section.get("open_at").and_then(|item| {
        let share = item.share()?;
        if share.0 <= 0.0 {
            item.problem("at 0 the breaker would open without a failure; write a share above 0%");
        }
        Some(share)
    });
    set(&mut breaker.open_at, open_at);
    set(&mut breaker.consecutive_failures, section.count("consecutive_failures", 1..=100));
    set(&mut breaker.cooldown, section.span("cooldown", 10 * MILLISECOND..=HOUR));
    set(&mut breaker.max_cooldown, section.span("max_cooldown", 10 * MILLISECOND..=DAY));
    let alone = section.span("cooldown_without_alternative", 10 * MILLISECOND..=HOUR);
    set(&mut breaker.cooldown_without_alternative, alone);
    set(&mut breaker.probes, section.count("probes", 1..=10));
    if breaker.max_cooldown.0 < breaker.cooldown.0 {
        let message =
            format!("max_cooldown ({:?}) is below cooldown ({:?})", breaker.max_cooldown.0, breaker.cooldown.0);
        section.problem(message);
    }
    section.finish();
}

fn retry(mut section: Section<'_>, retry: &mut Retry) {
    set(&mut retry.same_target, section.count("same_target", 0..=5).map(|count| count.0 as u32));
    if let Some(mut backoff) = section.section("backoff") {
        set(&mut retry.backoff.start, backoff.span("start", MILLISECOND..=MINUTE));
        set(&mut retry.backoff.max, backoff.span("max", MILLISECOND..=10 * MINUTE));
        if retry.backoff.max.0 < retry.backoff.start.0 {
            backoff.problem(format!("max ({:?}) is below start ({:?})", retry.backoff.max.0, retry.backoff.start.0));
        }
        backoff.finish();
    }
    set(&mut retry.budget, section.share("budget"));
    set(&mut retry.respect_retry_after, section.span("respect_retry_after", Duration::ZERO..=DAY));
    section.finish();
}

fn timeouts(mut section: Section<'_>, timeouts: &mut Timeouts) {
    set(&mut timeouts.connect, section.span("connect", MILLISECOND..=10 * MINUTE));
    let first_token = section.span("first_token", MILLISECOND..=HOUR);
    timeouts.first_token = first_token.or(timeouts.first_token);
    set(&mut timeouts.between_tokens, section.span("between_tokens", MILLISECOND..=HOUR));
    set(&mut timeouts.total, section.span("total", MILLISECOND..=DAY));
    for (name, span) in [("connect", Some(timeouts.connect)), ("first_token", timeouts.first_token)] {
        if let Some(span) = span.filter(|span| span.0 > timeouts.total.0) {
            section.problem(format!("{name} ({:?}) is longer than total ({:?})", span.0, timeouts.total.0));
        }
    }
    section.finish();
}

pub(super) fn overload(mut section: Section<'_>) -> admission::settings::Settings {
    let mut overload = admission::settings::Settings::default();
    set(&mut overload.max_in_flight, section.count("max_in_flight", 1..=1_000_000).map(|count| count.0 as u32));
    set(&mut overload.queue, section.count("queue", 0..=100_000).map(|count| count.0 as u32));
    set(&mut overload.queue_timeout, section.span("queue_timeout", Duration::ZERO..=10 * MINUTE));
    section.finish();
    overload
}

pub(super) fn hedge(mut section: Section<'_>) -> Hedge {
    let mut hedge = Hedge::default();
    set(&mut hedge.enabled, section.flag("enabled"));
    let after = section.get("after").and_then(|item| match item.text()? {
        "p95" => Some(HedgeAfter::P95),
        text => match crate::units::duration(text) {
            Ok(after) if (MILLISECOND..=MINUTE).contains(&after) => Some(HedgeAfter::Fixed(after)),
            _ => {
                item.problem(format!("{} is neither p95 nor a duration from 1ms to 1m", item.shown()));
                None
            }
        },
    });
    set(&mut hedge.after, after);
    let budget = section.get("budget").and_then(|item| {
        let share = item.share()?;
        if share.0 > 0.2 {
            item.problem("more than 20% would multiply the traffic; hedging is for the slowest few requests");
        }
        Some(share)
    });
    set(&mut hedge.budget, budget);
    section.finish();
    hedge
}

pub(super) fn health_checks(mut section: Section<'_>) -> HealthChecks {
    let mut checks = HealthChecks::default();
    set(&mut checks.enabled, section.flag("enabled"));
    set(&mut checks.interval, section.span("interval", SECOND..=HOUR));
    set(&mut checks.timeout, section.span("timeout", 10 * MILLISECOND..=MINUTE));
    section.finish();
    checks
}

pub(super) fn cache(mut section: Section<'_>) -> cache::settings::Settings {
    let mut cache = cache::settings::Settings::default();
    set(&mut cache.enabled, section.flag("enabled"));
    set(&mut cache.ttl, section.span("ttl", SECOND..=30 * DAY));
    set(&mut cache.max_size, section.get("max_size").and_then(|item| item.size(1000..=1 << 42)));
    set(&mut cache.max_temperature, section.number("max_temperature", 0.0..=2.0));
    set(&mut cache.share_between_keys, section.flag("share_between_keys"));
    set(&mut cache.coalesce, section.flag("coalesce"));
    section.finish();
    cache
}

pub(super) fn server(mut section: Section<'_>) -> Server {
    let mut server = Server::default();
    set(&mut server.listen, section.get("listen").and_then(|item| listen(&item)));
    set(&mut server.body_limit, section.get("body_limit").and_then(|item| item.size(1000..=1_000_000_000)));
    set(&mut server.header_timeout, section.span("header_timeout", MILLISECOND * 100..=MINUTE * 5));
    set(&mut server.body_timeout, section.span("body_timeout", MILLISECOND * 100..=HOUR));
    set(&mut server.idle_timeout, section.span("idle_timeout", MILLISECOND * 100..=DAY));
    set(&mut server.write_timeout, section.span("write_timeout", MILLISECOND * 100..=HOUR));
    server.max_connections = section.count("max_connections", 1..=1_000_000).map(|count| count.0 as usize);
    set(&mut server.shutdown_grace, section.span("shutdown_grace", Duration::ZERO..=HOUR));
    set(&mut server.compression, section.flag("compression"));
    server.cors = section.section("cors").map(super::cors::cors);
    server.tls = section.section("tls").and_then(super::tls::tls);
    section.finish();
    server
}

fn listen(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text()?;
    let address = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let parsed = address.as_deref().unwrap_or(text).parse().ok();
    if parsed.is_none() {
        item.problem(format!("{} is not an address; write for instance 127.0.0.1:4000 or 0.0.0.0:4000", item.shown()));
    }
    parsed
}

/// `None` without a URL.
pub(super) fn shared(mut section: Section<'_>) -> Option<Shared> {
    const SCHEMES: [&str; 4] = ["redis://", "rediss://", "unix://", "redis+unix://"];
    let mut shared = Shared::default();
    let written = section.get("url").filter(|item| !item.is_emptied());
    let url = written.and_then(|item| {
        let url = item.text()?;
        // Never shown: there may be a password in it.
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            item.problem("is no Redis; write redis://, rediss:// (TLS) or unix:// and where it is");
            return None;
        }
        if url.contains('#') {
            item.problem(
                "ends with `#..`: TLS that looks at no certificate is not spoken; name the authority in `shared.ca`, and \
                 write `#` in a password as %23",
            );
            return None;
        }
        Some(SecretString::from(url))
    });
    let prefix = section.get("prefix").and_then(|item| {
        let text = item.text()?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if text.len() > 64 || !text.bytes().all(fits) {
            item.problem("use up to 64 letters, digits, `_`, `-` or `.`");
        }
        Some(text.to_owned())
    });
    let ca = section.get("ca").filter(|item| !item.is_emptied());
    shared.ca = ca.as_ref().and_then(|item| item.text().map(PathBuf::from));
    if let (Some(item), Some(url)) = (&ca, &url)
        && !url.expose_secret().starts_with("rediss://")
    {
        item.problem("is for TLS, and `shared.url` does not begin with rediss://");
    }
    set(&mut shared.prefix, prefix);
    set(&mut shared.timeout, section.span("timeout", 5 * MILLISECOND..=10 * SECOND));
    set(&mut shared.largest_value, section.get("largest_value").and_then(|item| item.size(1000..=64_000_000)));
    let choice = section.get("budgets_when_gone").and_then(|item| item.choice(&BudgetsWhenGone::CHOICES));
    set(&mut shared.budgets_when_gone, choice);
    section.finish();
    shared.url = url?;
    Some(shared)
}

pub(super) fn logging(mut section: Section<'_>) -> Logging {
    let mut logging = Logging::default();
    set(&mut logging.level, section.get("level").and_then(|item| item.choice(&Level::CHOICES)));
    set(&mut logging.format, section.get("format").and_then(|item| item.choice(&LogFormat::CHOICES)));
    set(&mut logging.access, section.flag("access"));
    if let Some(item) = section.get("prompts")
        && item.text().is_some_and(|text| text != "never")
    {
        item.problem("prompts are never logged; write never or leave it out");
    }
    section.finish();
    logging
}

pub(super) fn tasks(item: &Item<'_>) -> Tasks {
    let mut tasks = Tasks::new();
    for (entry, item) in item.named("a map of tasks") {
        let name = &entry.key;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
            let rule = "use 1 to 64 small letters, digits, `_` or `-`";
            item.report.problem(entry.key_at, &item.path, format!("`{name}` is not a name for a task; {rule}"));
        }
        let Some(section) = item.section() else { continue };
        let task = task(section);
        if task.patterns.is_empty()
            && !BUILT_IN_TASKS.contains(&name.as_str())
            && let Some(meant) = closest(name, BUILT_IN_TASKS)
        {
            let message = format!("a task of your own without patterns; did you mean the built-in `{meant}`?");
            item.report.warn(entry.key_at, &item.path, &message);
        }
        if name == "general" && !task.enabled {
            item.problem("`general` is the fallback and cannot be disabled");
        }
        tasks.insert(name.clone(), task);
    }
    tasks
}

fn task(mut section: Section<'_>) -> TaskSettings {
    let mut task = TaskSettings::default();
    let patterns = section.get("patterns").and_then(|item| item.list("a list of patterns")).unwrap_or_default();
    task.patterns = patterns.iter().filter_map(|item| pattern(item.section()?)).collect();
    let strategy = section.get("strategy").and_then(|item| self::strategy(&item));
    task.strategy = strategy.map(|strategy| strategy.as_str().to_owned());
    task.min_skill = section.number("min_skill", 0.0..=1.0);
    set(&mut task.replace, section.flag("replace"));
    set(&mut task.enabled, section.flag("enabled"));
    section.finish();
    task
}

fn pattern(mut section: Section<'_>) -> Option<Pattern> {
    let matches = section.get("match").and_then(|item| Some((item.clone(), item.text()?)));
    if !section.has("match") {
        section.problem("a pattern needs `match`, a regular expression");
    }
    let weight = section.number("weight", -10.0..=10.0).unwrap_or(1.0);
    let force = section.flag("force").unwrap_or_default();
    section.finish();
    let (item, matches) = matches?;
    let pattern = Pattern { matches: matches.to_owned(), weight, force };
    check_pattern(&pattern).map_err(|message| item.problem(message)).ok()?;
    Some(pattern)
}
