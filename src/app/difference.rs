//! What a reload changed, in words for the log: names of sections, providers and models, and never a value, because any
//! of them may be a secret.

use std::fmt::Debug;

use secrecy::{ExposeSecret, SecretString};

use crate::catalog::{Provider, Target};
use crate::config::Settings;

/// Names of one kind that are spelled out; more are counted.
const SPELLED_OUT: usize = 5;

/// One line. Settings are compared as they print; credentials, which do not print, by what they are.
pub fn difference(old: &Settings, new: &Settings) -> String {
    let mut parts = Vec::new();
    let mut say = |what: &str, names: Vec<String>| {
        if !names.is_empty() {
            let more = names.len().saturating_sub(SPELLED_OUT);
            let shown = names.into_iter().take(SPELLED_OUT).collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            parts.push(format!("{what} {shown}{more}"));
        }
    };
    say("changed sections", sections(old, new));
    let provider = |provider: &Provider| provider.name.to_string();
    let (before, after) = (by(&old.providers, provider), by(&new.providers, provider));
    say("added providers", missing(&after, &before));
    say("removed providers", missing(&before, &after));
    let differs = |name: &str, a: &Provider, b: &Provider| {
        print(a) != print(b) || a.secrets().ne(b.secrets()) || print(&old.upstream(name)) != print(&new.upstream(name))
    };
    say("changed providers", changed(&before, &after, differs));
    let target = |target: &Target| target.id.to_string();
    let (before, after) = (by(&old.targets, target), by(&new.targets, target));
    say("added models", missing(&after, &before));
    say("removed models", missing(&before, &after));
    say("changed models", changed(&before, &after, |_, a, b| print(&a.model) != print(&b.model)));
    if parts.is_empty() { "nothing changed".to_owned() } else { parts.join("; ") }
}

fn sections(old: &Settings, new: &Settings) -> Vec<String> {
    let all = [
        ("tasks", print(&old.tasks) != print(&new.tasks)),
        ("routing", print(&old.routing) != print(&new.routing)),
        ("hints", print(&old.when_impossible) != print(&new.when_impossible)),
        ("breaker", print(&old.upstream.breaker) != print(&new.upstream.breaker)),
        ("retry", print(&old.upstream.retry) != print(&new.upstream.retry)),
        ("timeouts", print(&old.upstream.timeouts) != print(&new.upstream.timeouts)),
        ("overload", print(&old.overload) != print(&new.overload)),
        ("hedge", print(&old.hedge) != print(&new.hedge)),
        ("health_checks", print(&old.health_checks) != print(&new.health_checks)),
        ("guards", print(&old.guards) != print(&new.guards)),
        ("cache", print(&old.cache) != print(&new.cache)),
        ("server", print(&old.server) != print(&new.server)),
        ("storage", print(&old.storage) != print(&new.storage)),
        ("retention", old.retention != new.retention),
        ("jobs", old.jobs != new.jobs),
        (
            "webhooks",
            print(&old.webhooks) != print(&new.webhooks) || differ(&old.webhooks.secret, &new.webhooks.secret),
        ),
        ("anomalies", print(&old.anomalies) != print(&new.anomalies)),
        ("shared", old.shared != new.shared),
        ("queue", old.queue != new.queue),
        ("events", old.events != new.events),
        ("jobs", print(&old.jobs) != print(&new.jobs)),
        ("logging", print(&old.logging) != print(&new.logging)),
        ("auth", print(&old.tenants.auth) != print(&new.tenants.auth)),
        ("tiers", old.tenants.tiers != new.tenants.tiers),
        ("teams", old.tenants.teams != new.tenants.teams),
        ("budgets", old.tenants.budgets != new.tenants.budgets),
        ("telemetry", old.telemetry != new.telemetry),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

/// Secrets do not print.
fn differ(old: &Option<SecretString>, new: &Option<SecretString>) -> bool {
    old.as_ref().map(ExposeSecret::expose_secret) != new.as_ref().map(ExposeSecret::expose_secret)
}

fn print(value: &impl Debug) -> String {
    format!("{value:?}")
}

type Named<'a, T> = Vec<(String, &'a T)>;

fn by<T>(all: &[std::sync::Arc<T>], name: impl Fn(&T) -> String) -> Named<'_, T> {
    all.iter().map(|one| (name(one), &**one)).collect()
}

/// Names in `these` that are not in `those`.
fn missing<T>(these: &Named<'_, T>, those: &Named<'_, T>) -> Vec<String> {
    let known = |name: &String| those.iter().any(|(other, _)| other == name);
    these.iter().map(|(name, _)| name.clone()).filter(|name| !known(name)).collect()
}

fn changed<T>(before: &Named<'_, T>, after: &Named<'_, T>, differs: impl Fn(&str, &T, &T) -> bool) -> Vec<String> {
    let same = |(name, new): &(String, &T)| {
        let old = before.iter().find(|(other, _)| other == name);
        old.is_some_and(|(_, old)| differs(name, old, new)).then(|| name.clone())
    };
    after.iter().filter_map(same).collect()
}
