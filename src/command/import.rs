//! `stepwell import litellm`: another router's configuration as ours, and what became of each of its fields.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Exit, Outcome, print};
use crate::import::litellm::{self, Source};
use crate::import::{Imported, Verdict};

/// Files that one may include, one within the other counted too.
const MOST_FILES: usize = 64;

/// The new file goes to `output`, or to standard output, with the account on standard error.
pub fn litellm(path: &Path, output: Option<&Path>, json: bool) -> Outcome {
    let sources = sources(path)?;
    let unreadable = |error: litellm::Unreadable| Exit::new(Exit::INVALID_CONFIGURATION, error.to_string());
    let imported = litellm::import(&sources).map_err(unreadable)?;
    let output = output.filter(|output| *output != Path::new("-"));
    if let Some(output) = output {
        write(output, &imported.yaml)?;
    }
    match (json, output) {
        (true, _) => {
            let mut value = serde_json::to_value(&imported).map_err(anyhow::Error::from)?;
            if let (Some(output), Some(members)) = (output, value.as_object_mut()) {
                members.remove("yaml");
                members.insert("output".to_owned(), json!(output.display().to_string()));
            }
            print(&serde_json::to_string_pretty(&value).map_err(anyhow::Error::from)?)
        }
        (false, Some(output)) => print(&account(&imported, Some(output))),
        (false, None) => {
            eprint!("{}", account(&imported, None));
            print(&imported.yaml)
        }
    }
}

/// The file and those that it includes, each once.
fn sources(path: &Path) -> Result<Vec<Source>, Exit> {
    let mut sources: Vec<Source> = Vec::new();
    let mut waiting = vec![path.to_owned()];
    let mut seen: Vec<PathBuf> = Vec::new();
    while let Some(path) = waiting.pop() {
        if seen.contains(&path) {
            continue;
        }
        let name = path.display().to_string();
        let bad = |message: String| Exit::new(Exit::INVALID_CONFIGURATION, message);
        if seen.len() >= MOST_FILES {
            return Err(bad(format!("{name}: more than {MOST_FILES} files are included")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| bad(format!("{name}:1: cannot be read: {error}")))?;
        let source = Source::parse(&name, &text).map_err(|error| bad(error.to_string()))?;
        let beside = |name: String| path.parent().unwrap_or(Path::new("")).join(name);
        waiting.extend(source.includes().into_iter().rev().map(beside));
        sources.push(source);
        seen.push(path);
    }
    Ok(sources)
}

/// Never over a file that somebody has written.
fn write(path: &Path, text: &str) -> Outcome {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let path = path.display();
        let message = match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!("{path} exists; name another file with --output"),
            _ => format!("cannot write {path}: {error}"),
        };
        Exit::new(Exit::FAILED, message)
    })
}

/// What became of each field, worst first, for people.
fn account(imported: &Imported, output: Option<&Path>) -> String {
    let mut text = String::new();
    for verdict in Verdict::ALL.into_iter().rev() {
        let notes: Vec<_> = imported.notes.iter().filter(|note| note.verdict == verdict).collect();
        if notes.is_empty() {
            continue;
        }
        text += &format!("{} ({})\n", verdict.as_str(), notes.len());
        for note in notes {
            let to = if note.to.is_empty() { String::new() } else { format!(" -> {}", note.to) };
            let reason = if note.reason.is_empty() { String::new() } else { format!("\n      {}", note.reason) };
            text += &format!("  {}:{} {}{to}{reason}\n", note.file, note.line, note.field);
        }
    }
    if !imported.variables.is_empty() {
        text += "variables to set\n";
        for (name, what) in &imported.variables {
            text += &format!("  {name}  {what}\n");
        }
    }
    let [exact, changed, look] = Verdict::ALL.map(|verdict| imported.count(verdict));
    text += &format!("{exact} exact, {changed} changed, {look} need a look");
    match output {
        Some(path) => text + &format!("; wrote {0}, `stepwell check {0}` validates it\n", path.display()),
        None => text + "\n",
    }
}
