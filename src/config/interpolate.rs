//! `${NAME}`, `${NAME:-default}` and `${file:/path}` in values.
//!
//! An empty variable counts as a missing one, as `:-` does in a shell. `$$` stands for a dollar sign.

use std::path::{Path, PathBuf};

use super::problem::{Report, is_path};
use super::tree::{Node, Value};

/// Longest file that `${file:..}` reads. Secrets are short; a larger one is a mistake.
const LONGEST_FILE: u64 = 64 * 1024;

/// Where values come from.
pub(super) struct Values<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Relative paths start here: the directory of the configuration file.
    pub directory: &'a Path,
    pub report: &'a Report<'a>,
    /// Files that were read, to be watched.
    pub files: Vec<PathBuf>,
}

impl Values<'_> {
    /// Puts values into the texts of the tree. What is missing is reported and marked broken.
    pub fn fill(&mut self, node: &mut Node, path: &str) {
        match &mut node.value {
            Value::Text(text) if text.contains('$') => match self.expand(text) {
                Ok(expanded) => {
                    node.hidden = true;
                    node.value = Value::Text(expanded);
                }
                Err(message) => {
                    self.report.problem(node.at, path, message);
                    node.value = Value::Broken;
                }
            },
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.fill(item, &format!("{path}[{index}]"));
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                    // A pattern may end in `$` or contain `${`; it is not a place for variables.
                    if entry.key != "match" {
                        self.fill(&mut entry.node, &path);
                    }
                }
            }
            Value::Text(_) | Value::Nothing | Value::Flag(_) | Value::Number(_) | Value::Broken => {}
        }
    }

    fn expand(&mut self, text: &str) -> Result<String, String> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let end = after.find('}').ok_or("`${` without a closing `}`; write `$$` for a dollar sign")?;
                expanded.push_str(&self.value(&after[..end])?);
                rest = &after[end + 1..];
            } else {
                expanded.push('$');
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn value(&mut self, inside: &str) -> Result<String, String> {
        if let Some(path) = inside.strip_prefix("file:") {
            return self.read(path.trim());
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            // Not repeated: it may be a key that somebody put in the place of its variable.
            let allowed = "write ${NAME}, ${NAME:-default} or ${file:/path}";
            return Err(format!("what stands inside `${{ }}` is not the name of a variable; {allowed}"));
        }
        (self.env)(name).filter(|value| !value.is_empty()).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
            format!("the environment variable `{name}` is not set; set it, or write ${{{name}:-default}}")
        })
    }

    /// The content without line ends at its end, which editors add.
    fn read(&mut self, path: &str) -> Result<String, String> {
        let named = is_path(path);
        let path = self.directory.join(path);
        // Watched even if it cannot be read now: it may appear.
        self.files.push(path.clone());
        // Not repeated if it is no path: see above.
        let shown = if named || path.exists() { path.display().to_string() } else { "${file:..}".to_owned() };
        let size = std::fs::metadata(&path).map_err(|error| format!("cannot read `{shown}`: {error}"))?.len();
        if size > LONGEST_FILE {
            return Err(format!("`{shown}` has {size} bytes; a value has at most {LONGEST_FILE}"));
        }
        let content = std::fs::read_to_string(&path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
        match content.trim_end_matches(['\n', '\r']) {
            "" => Err(format!("`{shown}` is empty")),
            value => Ok(value.to_owned()),
        }
    }
}
