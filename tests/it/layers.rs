//! Dependencies point one way. The table is the one of ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first: a module uses modules of lower rows only.
const ROWS: &[&[&str]] = &[
    &["money", "units"],
    &["chat", "resilience", "telemetry"],
    &["transform"],
    &["catalog", "tenant"],
    &["admission", "classify", "guard", "meter", "cache", "ledger", "ingress"],
    &["events", "provider"],
    &["jobs", "otlp"],
    &["batch", "rank", "saga"],
    &["dispatch"],
    &["config"],
    &["gateway", "import"],
    &["operations"],
    &["store", "api"],
    &["app", "scripted"],
    &["command"],
];

/// What only some places may use: (a text in the source, where it may stand, why).
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("reqwest::", &["provider/transport.rs"], "the network has one door"),
    ("axum::", &["api", "app"], "axum is the outside's business"),
    ("sqlx::", &["store"], "SQL stands in the store"),
    ("redis::", &["store", "app/share.rs", "app.rs"], "Redis stands in the store"),
    ("async_nats::", &["store"], "NATS stands in the store"),
    ("std::env::", &["config"], "the environment is configuration"),
];

fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let relative = |path: &PathBuf| path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
    files.iter().map(|path| (relative(path), fs::read_to_string(path).expect("a file"))).collect()
}

fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that a file names, `use crate::{a, b}` included.
fn used(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code(text).split("crate::").skip(1) {
        let group = rest.strip_prefix('{').and_then(|rest| rest.split_once("};"));
        let names: Vec<&str> = match group {
            Some((group, _)) => group.split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            found.insert(name);
        }
    }
    found.into_iter().filter(|name| row(name).is_some()).collect()
}

fn violations(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let own = module(path);
        let Some(own_row) = row(own) else {
            if !["lib", "main"].contains(&own) {
                found.push(format!("{path}: module `{own}` has no row in the table"));
            }
            continue;
        };
        for other in used(text) {
            if other != own && row(&other).is_some_and(|other_row| other_row >= own_row) {
                found.push(format!("{path}: `{own}` (row {own_row}) uses `{other}`, which is not below it"));
            }
        }
        for (word, places, why) in RESERVED {
            let allowed = places.iter().any(|place| own == *place || path == place);
            if !allowed && code(text).contains(word) {
                found.push(format!("{path}: uses {word} although {why}"));
            }
        }
        let waits =
            code(text).split(".await").skip(1).any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        let sans_io = own == "provider" && !["provider/transport.rs"].contains(&path.as_str());
        if sans_io
            && (waits
                || ["Instant::now", "SystemTime::now", "Timestamp::now"].iter().any(|word| code(text).contains(word)))
        {
            found.push(format!("{path}: an adapter neither waits nor reads a clock"));
        }
        if ["rank", "resilience", "classify", "meter"].contains(&own)
            && (waits || code(text).contains("Instant::now()"))
        {
            found.push(format!("{path}: decides, and must neither wait nor read a clock"));
        }
    }
    found
}

#[test]
fn every_module_uses_only_what_lies_below_it() {
    let found = violations(&sources());
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_planted_upward_import_is_caught() {
    for (path, text) in [
        ("rank/plan.rs", "use crate::gateway::Gateway;"),
        ("money.rs", "use crate::{chat::Usage, units};"),
        ("gateway.rs", "use axum::Router;"),
        ("provider/openai.rs", "let x = future.await;"),
        ("surprise.rs", "fn main() {}"),
    ] {
        assert!(!violations(&[(path.to_owned(), text.to_owned())]).is_empty(), "{path}");
    }
}

#[test]
fn no_lock_guard_is_a_std_one_and_no_task_is_spawned_out_of_sight() {
    for (path, text) in sources() {
        let code = code(&text);
        assert!(!code.contains("std::sync::Mutex"), "{path}: parking_lot's guards cannot cross an await");
        let may_spawn = ["app", "command", "ledger", "scripted", "store"].contains(&module(&path));
        assert!(may_spawn || !code.contains("tokio::spawn"), "{path}: work is driven by whoever waits for it");
    }
}

/// Where the time of day is read on the way of a request, and what for: never to decide who answers, or when.
const WALL_CLOCK: &[(&str, &str)] = &[
    ("dispatch/attempt.rs", "signatures and dates in `Retry-After` are about the provider's calendar"),
    ("gateway/admit.rs", "a row says when its request came"),
    ("gateway/draft.rs", "a row says when its request came"),
    ("gateway/reply.rs", "an answer says when it was made"),
    ("gateway/metered.rs", "an answer says when it was made"),
];

/// Reads of a clock that somebody may set.
fn wall_clock_reads(path: &str, text: &str) -> Vec<String> {
    let decides = ["resilience", "dispatch", "gateway", "rank", "cache"].contains(&module(path));
    let allowed = WALL_CLOCK.iter().any(|(place, _)| path == *place);
    let clocks = ["SystemTime::now", "Timestamp::now", "Zoned::now", "UNIX_EPOCH"];
    let found = clocks.into_iter().filter(|clock| decides && !allowed && code(text).contains(clock));
    found.map(|clock| format!("{path}: {clock} jumps when somebody sets the clock; use Instant")).collect()
}

#[test]
fn d09_nothing_is_decided_by_a_clock_that_jumps() {
    let sources = sources();
    let found: Vec<_> = sources.iter().flat_map(|(path, text)| wall_clock_reads(path, text)).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    assert!(
        !wall_clock_reads("dispatch/fleet.rs", "let now = SystemTime::now();").is_empty(),
        "a planted one is caught"
    );
    // Where it is allowed, it stays a value for others: no file there keeps or compares it.
    for (path, text) in sources.iter().filter(|(path, _)| WALL_CLOCK.iter().any(|(place, _)| path == place)) {
        for method in
            [".duration_since(UNIX_EPOCH", "SystemTime::now() +", "SystemTime::now() <", "SystemTime::now() >"]
        {
            assert!(!code(text).contains(method), "{path}: {method}");
        }
    }
}
