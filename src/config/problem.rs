//! What is wrong with a configuration, said so that it can be put right at once.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

use super::tree::Place;

/// Words in a key that say its value is nobody's business.
const SECRET_WORDS: [&str; 7] = ["key", "kye", "token", "secret", "password", "auth", "credential"];
/// How keys of well-known providers begin, wherever they stand.
const SECRET_STARTS: [&str; 7] = ["sk-", "sk_", "gsk_", "xai-", "AIza", "pplx-", "csk-"];

/// Settings that have such a word in their name and are no secrets.
const NO_SECRETS: [&str; 5] =
    ["first_token", "between_tokens", "tokens_per_second", "tokens_per_minute", "tokens_per_day"];
/// What is expected where settings belong.
pub(super) const MAP: &str = "a map of settings";

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// As the user named it.
    pub file: String,
    /// From 1; 0 if the problem has no place in the file.
    pub line: usize,
    pub column: usize,
    /// Where in the structure: `providers.openai.models[0].price`.
    pub path: String,
    pub message: String,
    /// The word that was probably meant.
    pub suggestion: Option<String>,
    /// The line of the file, with anything that looks like a secret masked.
    pub snippet: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean `{suggestion}`?")?;
        }
        if let Some(snippet) = &self.snippet {
            let number = self.line.to_string();
            let blank = " ".repeat(number.len());
            write!(f, "\n  {number} | {snippet}\n  {blank} | {}^", " ".repeat(self.column.saturating_sub(1)))?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The file as a whole cannot be used.
    pub(super) fn of_file(path: &Path, message: String) -> Self {
        let report = Problem {
            file: path.display().to_string(),
            line: 0,
            column: 0,
            path: String::new(),
            message,
            suggestion: None,
            snippet: None,
        };
        Self(vec![report])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}")?;
        }
        match self.0.len() {
            1 => write!(f, "1 problem"),
            many => write!(f, "{many} problems"),
        }
    }
}

impl std::error::Error for Problems {}

/// Collects problems while the file is read. Shared by all readers of one file.
pub(super) struct Report<'a> {
    file: &'a str,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    /// Files that are read beside this one.
    files: RefCell<Vec<PathBuf>>,
}

impl<'a> Report<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, problems: RefCell::default(), warnings: RefCell::default(), files: RefCell::default() }
    }

    /// Where a file is that the text names, relative to its own. It is watched from now on, readable or not.
    pub fn beside(&self, name: &str) -> PathBuf {
        let path = Path::new(self.file).parent().unwrap_or(Path::new("")).join(name);
        self.files.borrow_mut().push(path.clone());
        path
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().clone()
    }

    pub fn problem(&self, at: Place, path: &str, message: impl Into<String>) {
        self.suggest(at, path, message, None);
    }

    /// A problem with the word that was probably meant.
    pub fn suggest(&self, at: Place, path: &str, message: impl Into<String>, suggestion: Option<String>) {
        let line = at.line.checked_sub(1).and_then(|index| self.text.lines().nth(index));
        let message = message.into();
        // Where a map belongs, a plain word may be a key that somebody put one level too high.
        let mask_all = path.contains("headers") || message.contains(MAP);
        self.problems.borrow_mut().push(Problem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message,
            suggestion,
            snippet: line.map(|line| masked(line, mask_all)),
        });
    }

    /// Something that works, but probably not as intended.
    pub fn warn(&self, at: Place, path: &str, message: &str) {
        let place = if at.line > 0 { format!(":{}", at.line) } else { String::new() };
        self.warnings.borrow_mut().push(format!("{}{place}: {path}: {message}", self.file));
    }

    pub fn is_clean(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    pub fn finish(self) -> Result<Vec<String>, Problems> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        // A value that two rules look at is reported twice.
        let mut unique: Vec<Problem> = Vec::new();
        for problem in problems {
            if !unique.contains(&problem) {
                unique.push(problem);
            }
        }
        if unique.is_empty() { Ok(self.warnings.into_inner()) } else { Err(Problems(unique)) }
    }
}

/// The line with values masked that look like secrets. `${NAME}` stays: it says what to set.
fn masked(line: &str, all_values: bool) -> String {
    let line = unsigned(line);
    let mut shown = String::with_capacity(line.len());
    let (mut secret, mut begins) = (false, true);
    for piece in pieces(&line) {
        let (before, word) = piece.split_at(piece.len() - piece.trim_start().len());
        shown.push_str(before);
        let bare = word.trim_end().trim_end_matches([',', '}', ']', ':']).trim_matches(['"', '\'']);
        // A key stands at the beginning, or after `,` or `{`: what follows another colon belongs to the value.
        let key = word.trim_end().strip_suffix(':').filter(|_| begins);
        if let Some(key) = key {
            let key = key.trim_matches(['"', '\'', '{', ' ']).to_ascii_lowercase();
            let named = SECRET_WORDS.iter().any(|word| key.contains(word)) && !NO_SECRETS.contains(&key.as_str());
            secret = named || all_values;
            shown.push_str(word);
        } else if !bare.is_empty() && bare != "{" && !is_reference(bare) && (secret || looks_secret(bare)) {
            // As long as the value, so that the caret below still points at the right place.
            let stars = "*".repeat(bare.chars().count());
            shown.push_str(&word.replacen(bare, &stars, 1));
        } else {
            shown.push_str(word);
        }
        begins = piece.trim_end().is_empty() || piece.trim_end().ends_with([',', '{']);
    }
    shown
}

/// The line with the user and password of an address masked, whatever characters they have.
fn unsigned(line: &str) -> String {
    match (line.find("://"), line.rfind('@')) {
        (Some(start), Some(end)) if start + 3 < end => {
            let stars = "*".repeat(line[start + 3..end].chars().count());
            format!("{}{stars}{}", &line[..start + 3], &line[end..])
        }
        _ => line.to_owned(),
    }
}

/// `${NAME}` or `${file:/path}`, and nothing that somebody put there instead of a name or a path.
fn is_reference(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("${").map(|rest| rest.trim_end_matches('}')) else { return false };
    match inner.strip_prefix("file:") {
        Some(path) => is_path(path),
        None => is_name(inner),
    }
}

/// What environment variables are called.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What looks like a path rather than like a key: those are longer than most file names.
pub(super) fn is_path(text: &str) -> bool {
    (text.len() < 20 || text.contains(['/', '.'])) && !looks_secret(text)
}

/// Whether a value begins as the keys of well-known providers do.
pub(super) fn looks_secret(text: &str) -> bool {
    let signed_in = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    signed_in || SECRET_STARTS.iter().any(|start| text.trim().starts_with(start))
}

/// The line cut after every key (`name:`) and every value, keeping all characters.
fn pieces(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let bytes = line.as_bytes();
    for (at, byte) in line.bytes().enumerate() {
        let ends_key = byte == b':' && bytes.get(at + 1).is_none_or(|next| *next == b' ');
        if ends_key || byte == b',' || (byte == b'{' && !line[..at].ends_with('$')) {
            pieces.push(&line[start..=at]);
            start = at + 1;
        }
    }
    pieces.push(&line[start..]);
    pieces
}

/// The candidate that `word` was probably meant to be: close in spelling, not merely the least far.
pub(super) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let lower = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(similarity, candidate)| {
            let edits = strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase());
            *similarity > 0.85 || edits <= candidate.len().max(4) / 4
        })
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_its_secrets() {
        for (line, shown) in [
            ("    api_key: sk-abc123", "    api_key: *********"),
            ("    api_kye: 'abc'", "    api_kye: '***'"),
            ("  openai: { api_key: abc, weight: 2 }", "  openai: { api_key: ***, weight: 2 }"),
            ("    api_key: ${OPENAI_API_KEY}", "    api_key: ${OPENAI_API_KEY}"),
            ("    base_url: sk-oops", "    base_url: *******"),
            ("    api_key: abc: x", "    api_key: ***: *"),
            ("    headers: { authorization: \"Bearer abc\": x }", "    headers: { authorization: \"**********\": **}"),
            ("    base_url: http://me:abc@host/v1", "    base_url: *********************"),
            ("    api_key: ${abc-def}", "    api_key: *********}"),
            ("    api_key: ${file:abcdefabcdefabcdef123}", "    api_key: ****************************}"),
            ("    api_key: ${file:/run/secrets/key}", "    api_key: ${file:/run/secrets/key}"),
            ("    weight: heavy", "    weight: heavy"),
            ("timeouts: { first_token: 20 }", "timeouts: { first_token: 20 }"),
        ] {
            assert_eq!(masked(line, false), shown);
        }
        assert_eq!(masked("    x-team: blue", true), "    x-team: ****");
    }

    #[test]
    fn only_a_close_word_is_suggested() {
        let known = ["providers", "routing", "timeouts"];
        assert_eq!(closest("provders", known).as_deref(), Some("providers"));
        assert_eq!(closest("Timeout", known).as_deref(), Some("timeouts"));
        assert_eq!(closest("banana", known), None);
    }
}
