//! Keys and other secrets: named by environment variables, never written down.

use std::collections::{HashMap, HashSet};

use super::vendor::Vendor;
use crate::import::field::Field;
use crate::import::{Account, yaml};

/// Texts that stand for "no key" in front of servers that want none.
const NO_KEYS: [&str; 9] =
    ["none", "empty", "dummy", "fake", "fake-key", "no-key", "not-needed", "sk-no-key-required", "anything"];

/// Variables in which LiteLLM looks for a key, where they differ from ours.
const KEY_VARIABLES: [(&str, &str); 6] = [
    ("azure", "AZURE_API_KEY"),
    ("together_ai", "TOGETHERAI_API_KEY"),
    ("fireworks_ai", "FIREWORKS_AI_API_KEY"),
    ("perplexity", "PERPLEXITYAI_API_KEY"),
    ("nvidia_nim", "NVIDIA_NIM_API_KEY"),
    ("azure_ai", "AZURE_AI_API_KEY"),
];

/// Remembers which secrets it has seen.
pub struct Secrets {
    /// Variables that the file names.
    named: HashSet<String>,
    /// Those in plain text, and the variables that stand for them.
    literals: HashMap<String, String>,
}

impl Secrets {
    /// For a file with these parts: a secret in plain text gets no variable that means another one.
    pub fn of(parts: &[Field<'_>]) -> Self {
        let mut named = HashSet::new();
        let mut waiting = parts.to_vec();
        while let Some(part) = waiting.pop() {
            named.extend(part.text().as_deref().and_then(reference).map(str::to_owned));
            waiting.extend(part.parts());
        }
        Self { named, literals: HashMap::new() }
    }

    /// A reference to a variable: the file's own, or one that has to be set from now on.
    pub fn reference(&mut self, field: &Field<'_>, usual: &str, to: String, account: &mut Account) -> String {
        let text = field.text().unwrap_or_default();
        if let Some(name) = reference(&text) {
            account.exact(field, to);
            account.variables.entry(name.to_owned()).or_insert_with(|| format!("{} has it", field.path));
            return yaml::variable(name);
        }
        let name = match self.literals.get(&text) {
            Some(name) => name.clone(),
            None => {
                // Never the usual name itself: an entry without a key means what that variable has.
                let mut names = (1..).map(|n| format!("{usual}_{n}"));
                let is_taken =
                    |name: &String| self.named.contains(name) || self.literals.values().any(|taken| taken == name);
                names.find(|name| !is_taken(name)).unwrap_or_default()
            }
        };
        self.literals.insert(text, name.clone());
        account
            .variables
            .insert(name.clone(), format!("the secret that stands at {} (line {})", field.path, field.line));
        account.changed(field, to, format!("was written in plain text: set {name} to it"));
        yaml::variable(&name)
    }
}

/// No secret, but it may come from a variable.
pub fn plain_or_variable(field: &Field<'_>, account: &mut Account) -> String {
    let text = field.text().unwrap_or_default();
    match reference(&text) {
        Some(name) => {
            account.variables.insert(name.to_owned(), field.path.clone());
            yaml::variable(name)
        }
        None => yaml::text(&text),
    }
}

pub fn stands_for_none(text: &str) -> bool {
    NO_KEYS.contains(&text.to_ascii_lowercase().as_str())
}

/// `os.environ/NAME`.
pub fn reference(text: &str) -> Option<&str> {
    let name = text.strip_prefix("os.environ/")?;
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then_some(name)
}

/// The variable that holds a provider's key.
pub fn usual_variable(vendor: &Vendor, host: Option<&str>) -> String {
    if let Some(host) = host.filter(|_| vendor.format() == "openai" && vendor.preset != "azure") {
        return format!("{}_API_KEY", shouted(host));
    }
    let theirs = KEY_VARIABLES.iter().find(|(prefix, _)| *prefix == vendor.prefix).map(|(_, name)| *name);
    let ours = vendor.preset().and_then(|preset| preset.key_env.first().copied());
    theirs.or(ours).map_or_else(|| format!("{}_API_KEY", shouted(vendor.prefix)), str::to_owned)
}

/// As variables are written.
pub fn shouted(text: &str) -> String {
    let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    let name: String = letters.collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("AT_{name}") } else { name }
}
