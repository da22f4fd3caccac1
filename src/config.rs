//! `providers.yaml`: found, read, checked as a whole, and turned into [`Settings`].
//!
//! The file is read into a tree in which everything knows its place, variables are filled in, and readers take it
//! apart. None of them stops at a mistake: all problems come together, each with file, line, column, the path in the
//! structure and the word that was probably meant. A section of a later version is refused, never ignored.
//!
//! The rules that a problem is checked against live here; what a setting means stands at its type, in the module that
//! it steers. This is the only module that reads the environment, and it does so through a function that tests replace.

mod batches;
mod check;
mod clouds;
mod collector;
mod cors;
mod detect;
mod guards;
mod interpolate;
mod jobs;
mod models;
mod place;
mod problem;
mod providers;
mod queue;
mod reader;
mod sections;
mod settings;
mod storage;
mod template;
mod tenants;
mod tls;
mod transforms;
pub mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::civil::Date;

pub use cors::Cors;
pub use detect::{Candidate, Detected, local_candidates, with_local};
pub use place::{Source, data_dir, environment, locate};
pub use problem::{Problem, Problems};
pub use queue::{Events, EventsWebhook, Login, Queue};
pub use settings::{BudgetsWhenGone, Level, LogFormat, Logging, Retention, Server, Settings, Shared, Upstream};
pub use storage::{PostgresUrl, Storage};
pub use template::template;
pub use tls::Tls;

use interpolate::Values;
use problem::Report;
use reader::Item;
use tree::{Node, Place, Value};

/// Largest configuration file. A file of a thousand models has a tenth of it.
const LARGEST_FILE: u64 = 4 << 20;

/// A configuration, and what is known about how it came to be.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub origin: Origin,
    /// To be watched: the file itself and those that it takes values from.
    pub files: Vec<PathBuf>,
    /// What works, but probably not as intended. For the log.
    pub warnings: Vec<String>,
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    /// No file; these were found.
    Detected(Vec<Detected>),
    /// No file, and nothing was found.
    Demo,
}

/// For the log and `/health`: `providers.yaml`, `openai (OPENAI_API_KEY), ollama (http://..)`, `the demo provider`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Detected(found) => {
                let shown: Vec<_> = found.iter().map(|found| format!("{} ({})", found.provider, found.by)).collect();
                f.write_str(&shown.join(", "))
            }
            Self::Demo => f.write_str("the demo provider"),
        }
    }
}

/// Loads and checks. `env` is [`environment`] outside of tests.
pub fn load(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    match source {
        Source::File(path) => {
            let text = read(path).map_err(|message| Problems::of_file(path, message))?;
            parse(path, &text, env, today())
        }
        Source::Detect => Ok(detect::detected(env, today())),
        Source::Demo => Ok(Loaded {
            settings: Settings { telemetry: collector::from_env(env), ..detect::demo(today()) },
            origin: Origin::Demo,
            files: Vec::new(),
            warnings: Vec::new(),
        }),
    }
}

/// Checks a configuration that comes with the program; `name` stands for its file.
pub fn built_in(name: &str, text: &str) -> Result<Loaded, Problems> {
    parse(Path::new(name), text, &|_| None, today())
}

/// A place for what a command writes and removes again; `name` says which.
pub fn scratch_directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("stepwell-{name}-{}", uuid::Uuid::now_v7().simple()))
}

fn today() -> Date {
    jiff::Zoned::now().date()
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > LARGEST_FILE {
        return Err(format!("has {size} bytes; a configuration has at most {LARGEST_FILE}"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

/// A parser's message with what is usually meant. Inside `{ }` YAML takes the brace of `${NAME}` for one of its own.
fn explained(text: &str, at: Place, message: String) -> String {
    let line = text.lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    match line.split_once("${") {
        Some((before, _)) if before.contains('{') => format!("{message}; inside {{ }} write '${{NAME}}' in quotes"),
        _ => message,
    }
}

/// The configuration file and all files that it names, readable or not: what to watch when it cannot be used.
pub fn named_files(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let Source::File(path) = source else { return Vec::new() };
    examine(path, &read(path).unwrap_or_default(), env, today()).0
}

/// The text as a tree with its values filled in, and the files that it takes them from.
fn filled(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>, report: &Report<'_>) -> (Node, Vec<PathBuf>) {
    let mut tree = match tree::parse(text) {
        Ok(tree) => tree,
        Err(malformed) => {
            report.problem(malformed.at, "", explained(text, malformed.at, malformed.message));
            Node { value: Value::Broken, at: malformed.at, hidden: false }
        }
    };
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut values = Values { env, directory, report, files: vec![path.to_owned()] };
    values.fill(&mut tree, "");
    (tree, values.files)
}

/// Checks a text as if it were the content of `path`. Reads only the files that it names.
fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>, today: Date) -> Result<Loaded, Problems> {
    let (files, examined) = examine(path, text, env, today);
    let (settings, warnings) = examined?;
    Ok(Loaded { settings, origin: Origin::File(path.to_owned()), files, warnings })
}

/// What a text means, and what is doubtful about it.
type Examined = Result<(Settings, Vec<String>), Problems>;

/// The files that a text names, and what it means.
fn examine(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<String>, today: Date) -> (Vec<PathBuf>, Examined) {
    let file = path.display().to_string();
    // A byte order mark, which some editors write, is no part of the YAML.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let report = Report::new(&file, text);
    let (tree, mut files) = filled(path, text, env, &report);
    if matches!(tree.value, Value::Nothing) {
        report.problem(Place::default(), "", "the file is empty; `stepwell init` writes one to start from");
    }
    let settings = check::settings(&Item { node: &tree, path: String::new(), report: &report }, env, today);
    files.extend(report.files());
    files.sort();
    files.dedup();
    (files, report.finish().map(|warnings| (settings, warnings)))
}
