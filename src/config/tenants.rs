//! The sections about callers: `auth`, `tiers`, `teams`, `budgets`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::reader::{Item, Section, set};
use super::sections;
use crate::money::NanoUsd;
use crate::tenant::settings::{AtLimit, Auth, Budget, Budgets, Jwt, Limits, Metrics, Required, Window};
use crate::transform::Transform;
use crate::units::Span;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Shorter secrets can be guessed, in characters.
const SHORTEST_SECRET: usize = 32;
/// Most USD of a budget: what amounts can hold.
const MOST_USD: f64 = 1e9;

/// Reports the names in `models` and `providers` that mean nobody.
pub(super) type Known<'k> = &'k dyn Fn(&Item<'_>, &str);

pub(super) fn auth(mut section: Section<'_>) -> Auth {
    let mut auth = Auth::default();
    let required = [("auto", Required::Auto), ("always", Required::Always), ("never", Required::Never)];
    set(&mut auth.required, section.get("required").and_then(|item| item.choice(&required)));
    let metrics = [("open", Metrics::Open), ("operator", Metrics::Operator)];
    set(&mut auth.metrics, section.get("metrics").and_then(|item| item.choice(&metrics)));
    if let Some(item) = section.get("secret")
        && let Some(text) = item.text()
    {
        if text.trim().chars().count() < SHORTEST_SECRET {
            item.problem(format!("shorter than {SHORTEST_SECRET} characters; draw one with `openssl rand -hex 32`"));
        }
        auth.secret = Some(text.to_owned().into());
    }
    auth.jwt = section.section("jwt").and_then(jwt);
    section.finish();
    auth
}

fn jwt(mut section: Section<'_>) -> Option<Jwt> {
    for key in ["issuer", "audience", "jwks_url"] {
        if !section.has(key) {
            section.problem(format!("`{key}` is missing: a token is only good if it says by whom and for whom"));
        }
    }
    let audience = section.get("audience").and_then(|item| match item.is_list() {
        true => {
            let audience: Vec<_> = item.texts("a list")?.into_iter().map(|(_, text)| text.to_owned()).collect();
            if audience.is_empty() {
                item.problem("an empty list fits no token; write what the issuer calls this router, such as stepwell");
            }
            Some(audience)
        }
        false => Some(vec![item.text()?.to_owned()]),
    });
    let jwks_url = section.get("jwks_url").and_then(|item| {
        let url = item.text()?;
        let is_near = ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|near| url.starts_with(near));
        if !url.starts_with("https://") && !is_near {
            item.problem("must be an https:// URL: whoever can change these keys on the way can be anybody");
        }
        Some(url.to_owned())
    });
    let mut jwt = Jwt {
        issuer: section.text("issuer").unwrap_or_default(),
        audience: audience.unwrap_or_default(),
        jwks_url: jwks_url.unwrap_or_default(),
        tier_claim: section.text("tier_claim"),
        team_claim: section.text("team_claim"),
        user_claim: "sub".to_owned(),
        role_claim: section.text("role_claim"),
        leeway: Span(MINUTE),
        refresh: Span(10 * MINUTE),
    };
    set(&mut jwt.user_claim, section.text("user_claim"));
    set(&mut jwt.leeway, section.span("leeway", Duration::ZERO..=5 * MINUTE));
    set(&mut jwt.refresh, section.span("refresh", MINUTE..=DAY));
    section.finish();
    Some(jwt)
}

/// `tiers` or `teams`: limits by name, and what is changed of requests and answers.
pub(super) fn limits_by_name(
    item: &Item<'_>,
    what: &str,
    known: Known<'_>,
    transforms: &mut BTreeMap<String, Arc<Transform>>,
) -> BTreeMap<String, Limits> {
    let mut all = BTreeMap::new();
    for (entry, item) in item.named(what) {
        if entry.key.trim().is_empty() || entry.key.chars().any(char::is_control) {
            item.report.problem(entry.key_at, &item.path, "this name is empty, or cannot be printed");
        }
        if let Some(mut section) = item.section() {
            if let Some(section) = section.section("transform") {
                transforms.insert(entry.key.clone(), Arc::new(super::transforms::of_callers(section)));
            }
            all.insert(entry.key.clone(), limits(section, known));
        }
    }
    all
}

fn limits(mut section: Section<'_>, known: Known<'_>) -> Limits {
    let texts = |item: Option<Item<'_>>, known: Known<'_>| -> Vec<String> {
        let texts = item.and_then(|item| {
            let texts = item.texts("a list of names");
            if texts.as_ref().is_some_and(Vec::is_empty) {
                item.problem("an empty list would mean everything; leave it out, or name what is allowed");
            }
            texts
        });
        let checked = texts.unwrap_or_default().into_iter().map(|(item, text)| {
            known(&item, text);
            text.to_owned()
        });
        checked.collect()
    };
    let strategies = |item: &Item<'_>, text: &str| {
        if crate::rank::settings::Strategy::parse(text).is_none() {
            sections::strategy(item);
        }
    };
    let limits = Limits {
        requests_per_minute: section.count("requests_per_minute", Limits::REQUESTS_PER_MINUTE).map(|count| count.0),
        tokens_per_minute: section.count("tokens_per_minute", Limits::TOKENS_PER_MINUTE).map(|count| count.0),
        tokens_per_day: section.count("tokens_per_day", Limits::TOKENS_PER_DAY).map(|count| count.0),
        concurrency: section.count("concurrency", Limits::CONCURRENCY).map(|count| count.0 as u32),
        models: texts(section.get("models"), known),
        providers: texts(section.get("providers"), known),
        strategies: texts(section.get("strategies"), &strategies),
        budget: section.section("budget").map(budget).unwrap_or_default(),
    };
    section.finish();
    limits
}

pub(super) fn budgets(mut section: Section<'_>, tiers: &[&str], providers: &[&str]) -> Budgets {
    let mut budgets = Budgets::default();
    if let Some(item) = section.get("time_zone")
        && let Some(name) = item.text()
    {
        match TimeZone::get(name) {
            Ok(_) => budgets.time_zone = name.to_owned(),
            Err(_) => item.problem(format!(
                "{} is no time zone; write a name of the IANA database such as UTC or Europe/Berlin",
                item.shown()
            )),
        }
    }
    budgets.total = section.section("total").map(budget).unwrap_or_default();
    budgets.providers = by_name(section.get("providers"), "provider", providers);
    budgets.tiers = by_name(section.get("tiers"), "tier", tiers);
    section.finish();
    budgets
}

fn by_name(item: Option<Item<'_>>, what: &str, known: &[&str]) -> BTreeMap<String, Budget> {
    let mut all = BTreeMap::new();
    for (entry, item) in item.map(|item| item.named("a map of budgets")).unwrap_or_default() {
        if !known.contains(&entry.key.as_str()) {
            item.unknown(what, &entry.key, known.iter().copied());
        }
        if let Some(section) = item.section() {
            all.insert(entry.key.clone(), budget(section));
        }
    }
    all
}

fn budget(mut section: Section<'_>) -> Budget {
    let budget = Budget {
        day: amount(section.get("day")),
        month: amount(section.get("month")),
        window: section.section("window").and_then(window),
        warn_at: warn_at(section.get("warn_at")),
        at_limit: section.get("at_limit").and_then(|item| item.choice(&AtLimit::CHOICES)).unwrap_or_default(),
    };
    if budget.is_none() && !["day", "month", "window"].iter().any(|key| section.has(key)) {
        section.problem("a budget needs an amount: `day`, `month` or `window`");
    }
    section.finish();
    budget
}

fn amount(item: Option<Item<'_>>) -> Option<NanoUsd> {
    NanoUsd::from_usd(item?.number(0.0..=MOST_USD)?)
}

fn window(mut section: Section<'_>) -> Option<Window> {
    let length = section.span("length", MINUTE..=366 * DAY);
    let amount = amount(section.get("amount"));
    for key in ["length", "amount"] {
        if !section.has(key) {
            section.problem(format!("a window needs `{key}`, as in {{ length: 6h, amount: 5 }}"));
        }
    }
    section.finish();
    Some(Window { length: length?, amount: amount? })
}

fn warn_at(item: Option<Item<'_>>) -> Vec<crate::units::Share> {
    let items = item.and_then(|item| item.list("a list of shares such as [50%, 80%]")).unwrap_or_default();
    let mut shares: Vec<_> = items.iter().filter_map(Item::share).collect();
    shares.sort_by(|a, b| a.0.total_cmp(&b.0));
    shares
}
