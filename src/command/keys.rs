//! `stepwell keys`: makes, shows, rotates and revokes keys in the data directory, also beside a running server, which
//! sees a change within a second.

use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::{Exit, Outcome, block_on, print, terminal_width};
use crate::api::keys::moment;
use crate::app;
use crate::config::{self, Settings, Source, environment};
use crate::tenant::keeper::{Error, Keeper, shown};
use crate::tenant::key::{Key, OVERLAP, Wish};
use crate::tenant::role::Role;
use crate::units;

/// Where the keys are, and how results are shown.
pub struct Place {
    pub config: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
    pub json: bool,
}

/// What a new key is to be, in the words of the command line.
pub struct New {
    pub name: String,
    pub tier: Option<String>,
    pub team: Option<String>,
    pub role: Option<String>,
    pub tags: Vec<String>,
    /// `90d`, or RFC 3339.
    pub expires: Option<String>,
    pub models: Vec<String>,
    pub providers: Vec<String>,
    /// `requests_per_minute=60`, `budget.month=20`.
    pub limits: Vec<String>,
}

/// The rest is on standard error: a script that reads the key reads nothing else.
pub fn create(place: &Place, new: New) -> Outcome {
    let settings = settings(place)?;
    let wish = wish(new, &settings)?;
    let (key, text) = with(place, &settings, async |keeper| keeper.create(wish, now_ms()).await)?;
    hand_over(place, &key, text.expose_secret(), "was created")
}

pub fn rotate(place: &Place, name: &str, overlap: Option<&str>) -> Outcome {
    let overlap = match overlap {
        None => OVERLAP,
        Some("0") => Duration::ZERO,
        Some(text) => {
            units::duration(text).map_err(|message| Exit::new(Exit::USAGE, format!("--overlap: {message}")))?
        }
    };
    let settings = settings(place)?;
    let (key, text) = with(place, &settings, async |keeper| keeper.rotate(name, overlap, now_ms()).await)?;
    hand_over(place, &key, text.expose_secret(), &format!("has a new text; the old one ends in {overlap:?}"))
}

pub fn revoke(place: &Place, name: &str) -> Outcome {
    let key = with(place, &settings(place)?, async |keeper| keeper.revoke(name, now_ms()).await)?;
    if place.json {
        return json(&shown(&key, None, now_ms()));
    }
    print(&format!("{} ({}) is revoked; running servers refuse it within a second", key.name, key.id))
}

pub fn show(place: &Place, name: &str) -> Outcome {
    let key = with(place, &settings(place)?, async |keeper| keeper.find(name).await)?;
    let value = shown(&key, None, now_ms());
    if place.json {
        return json(&value);
    }
    let lines = value.as_object().into_iter().flatten().filter(|(name, value)| *name != "object" && !is_empty(value));
    let text: String = lines.map(|(name, value)| format!("{name:<12}{}\n", plain(value))).collect();
    print(&text)
}

pub fn list(place: &Place) -> Outcome {
    let ring = with(place, &settings(place)?, async |keeper| keeper.ring().await)?;
    let now_ms = now_ms();
    if place.json {
        let data: Vec<Value> = ring.keys().iter().map(|key| shown(key, None, now_ms)).collect();
        return json(&Value::Array(data));
    }
    if ring.keys().is_empty() {
        return print("there are no keys; `stepwell keys create --name NAME` makes one");
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(terminal_width()).unwrap_or(u16::MAX));
    table.set_header(["NAME", "ID", "STATE", "ROLE", "TIER", "TEAM", "EXPIRES"]);
    for key in ring.keys() {
        let shown = shown(key, None, now_ms);
        let cell = |name: &str| plain(&shown[name]);
        table.add_row([
            cell("name"),
            cell("id"),
            cell("state"),
            cell("role"),
            cell("tier"),
            cell("team"),
            cell("expires_at").chars().take(10).collect(),
        ]);
    }
    print(&table.to_string())
}

fn hand_over(place: &Place, key: &Key, text: &str, what: &str) -> Outcome {
    if place.json {
        return json(&shown(key, Some(text), now_ms()));
    }
    eprintln!("key `{}` ({}) {what}; this is the only time it is shown:", key.name, key.id);
    print(text)
}

/// Settings for the commands that need no provider: what the environment of this terminal lacks is no hindrance.
pub(super) fn settings(place: &Place) -> Result<Settings, Exit> {
    match config::locate(place.config.as_deref(), &environment) {
        Source::Demo | Source::Detect => Ok(config::load(&Source::Demo, &environment)?.settings),
        file => match config::load(&file, &environment) {
            Ok(loaded) => Ok(loaded.settings),
            Err(problems) => {
                let lenient = |name: &str| environment(name).or_else(|| Some("unset".to_owned()));
                config::load(&file, &lenient).map(|loaded| loaded.settings).map_err(|_| problems.into())
            }
        },
    }
}

fn with<T>(place: &Place, settings: &Settings, work: impl AsyncFnOnce(&Keeper) -> Result<T, Error>) -> Result<T, Exit> {
    let data_dir: Option<PathBuf> = config::data_dir(place.data_dir.as_deref(), &environment);
    let home = app::home(&settings.storage, data_dir.as_deref())?;
    block_on(async {
        let store = home.open().await.map_err(anyhow::Error::from)?;
        let keeper = Keeper::new(store.vault(), app::keys::pepper(&settings.tenants.auth, &home, &store).await?);
        let result = work(&keeper).await.map_err(|error| Exit::new(Exit::FAILED, error.to_string()));
        drop(keeper);
        store.close().await;
        result
    })?
}

fn wish(new: New, settings: &Settings) -> Result<Wish, Exit> {
    let usage = |message: String| Exit::new(Exit::USAGE, message);
    if let Some(tier) = new.tier.as_ref().filter(|tier| !settings.tenants.tiers.contains_key(*tier)) {
        let known: Vec<&str> = settings.tenants.tiers.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none are configured".to_owned() } else { known.join(", ") };
        return Err(usage(format!("there is no tier `{tier}` in the configuration ({known}); add it under `tiers`")));
    }
    let role = match new.role.as_deref() {
        None => Role::Member,
        Some(word) => Role::parse(word)
            .ok_or_else(|| usage(format!("`{word}` is no role; use {}", Role::ALL.map(Role::as_str).join(", "))))?,
    };
    let expires_unix_ms =
        match new.expires.as_deref() {
            None => None,
            Some(text) => Some(moment(text, now_ms()).ok_or_else(|| {
                usage(format!("--expires: `{text}` is neither a span such as 90d nor an RFC 3339 time"))
            })?),
        };
    let mut limits = Map::new();
    for limit in &new.limits {
        set(&mut limits, limit).map_err(usage)?;
    }
    let mut limits: crate::tenant::settings::Limits =
        serde_json::from_value(Value::Object(limits)).map_err(|error| usage(format!("--limit: {error}")))?;
    limits.models.extend(new.models);
    limits.providers.extend(new.providers);
    Ok(Wish { name: new.name, tier: new.tier, team: new.team, role, tags: new.tags, limits, expires_unix_ms })
}

/// Puts `a.b=value` into nested maps.
fn set(limits: &mut Map<String, Value>, assignment: &str) -> Result<(), String> {
    let wrong =
        || format!("--limit: `{assignment}` is not NAME=VALUE, such as requests_per_minute=60 or budget.month=20");
    let (name, value) = assignment.split_once('=').ok_or_else(wrong)?;
    let value = match units::count(value) {
        Ok(count) if !value.contains('.') => json!(count),
        _ => match value.parse::<f64>() {
            Ok(number) if number.is_finite() => json!(number),
            _ => json!(value),
        },
    };
    let (path, last) = name.rsplit_once('.').map_or((None, name), |(path, last)| (Some(path), last));
    let mut map = limits;
    for part in path.into_iter().flat_map(|path| path.split('.')) {
        let inner = map.entry(part).or_insert_with(|| Value::Object(Map::new()));
        map = inner.as_object_mut().ok_or_else(wrong)?;
    }
    map.insert(last.to_owned(), value);
    Ok(())
}

fn json(value: &Value) -> Outcome {
    print(&serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?)
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
