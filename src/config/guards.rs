//! The section `guards`: rules about what requests and answers may say.

use super::reader::{Item, Section};
use crate::guard::Guards;
use crate::guard::detect::Detector;
use crate::guard::settings::{Action, Detect, On, Rule};

/// Longest mask, in bytes: it goes out at once, so it is part of what every match becomes.
const LONGEST_MASK: usize = 64;
const LONGEST_NAME: usize = 64;

/// What rules may refer to.
pub(super) struct Names<'n> {
    pub tiers: Vec<&'n str>,
    pub teams: Vec<&'n str>,
    pub providers: Vec<&'n str>,
}

pub(super) fn guards(item: &Item<'_>, names: &Names<'_>) -> Guards {
    let items = item.list("a list of rules").unwrap_or_default();
    let mut read: Vec<(Item<'_>, Rule)> = Vec::with_capacity(items.len());
    for item in items {
        let Some(section) = item.section() else { continue };
        let Some(rule) = rule(section, names) else { continue };
        if read.iter().any(|(_, known)| known.name == rule.name) {
            item.problem(format!("two guards are named `{}`; counts are kept by name", rule.name));
        }
        read.push((item, rule));
    }
    let (items, rules): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    match Guards::compile(rules) {
        Ok(guards) => guards,
        Err(bad) => {
            for (index, reason) in bad {
                let section = items[index].section();
                let matches = section.and_then(|mut section| section.get("match"));
                matches.as_ref().unwrap_or(&items[index]).problem(reason);
            }
            Guards::default()
        }
    }
}

fn rule(mut section: Section<'_>, names: &Names<'_>) -> Option<Rule> {
    for key in ["name", "action"] {
        if !section.has(key) {
            section.problem(format!("a guard needs `{key}`"));
        }
    }
    let name = section.get("name").and_then(|item| {
        let name = item.text()?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.len() > LONGEST_NAME || !name.bytes().all(fits) {
            item.problem(format!("a name has 1 to {LONGEST_NAME} letters, digits, `_` or `-`: it stands in headers"));
        }
        Some(name.to_owned())
    });
    let detectors = section.get("detect").map(|item| {
        let words = match item.is_list() {
            true => item.list("a list of detectors").unwrap_or_default(),
            false => vec![item.clone()],
        };
        if words.is_empty() {
            item.problem("names no detector");
        }
        words.iter().filter_map(|word| word.choice(&Detector::CHOICES)).collect::<Vec<_>>()
    });
    let pattern = section.get("match").and_then(|item| item.text()).map(str::to_owned);
    let detect = match (detectors, pattern) {
        (Some(detectors), None) => Some(Detect::BuiltIn(detectors)),
        (None, Some(pattern)) => Some(Detect::Match(pattern)),
        (Some(_), Some(_)) => {
            section.problem("`detect` and `match` are two rules; write one after the other");
            None
        }
        (None, None) if section.has("detect") || section.has("match") => None,
        (None, None) => {
            section.problem("a guard needs `detect` or `match`: what it looks for");
            None
        }
    };
    let action = section.get("action").and_then(|item| item.choice(&Action::CHOICES));
    let on = section.get("on").and_then(|item| item.choice(&On::CHOICES)).unwrap_or_default();
    let mask_with = section.get("mask_with").and_then(|item| {
        let mask = item.text()?;
        if mask.len() > LONGEST_MASK || mask.contains(['"', '\\']) || mask.contains(char::is_control) {
            let rule = "no quotes, backslashes or control characters, because a mask may stand inside JSON";
            item.problem(format!("a mask has at most {LONGEST_MASK} bytes and {rule}"));
        }
        if action.is_some_and(|action| action != Action::Mask) {
            item.problem("only `action: mask` puts something in the place of what it found");
        }
        Some(mask.to_owned())
    });
    let mut listed = |key: &'static str, what: &str, known: &[&str]| -> Vec<String> {
        let Some(item) = section.get(key) else { return Vec::new() };
        let texts = item.texts("a list of names").unwrap_or_default();
        if texts.is_empty() && item.is_list() {
            item.problem("an empty list would mean everybody; leave it out, or name somebody");
        }
        for (item, text) in texts.iter().filter(|(_, text)| !known.contains(text)) {
            item.unknown(what, text, known.iter().copied());
        }
        texts.into_iter().map(|(_, text)| text.to_owned()).collect()
    };
    let tiers = listed("tiers", "tier", &names.tiers);
    let teams = listed("teams", "team", &names.teams);
    let providers = listed("providers", "provider", &names.providers);
    section.finish();
    Some(Rule { name: name?, detect: detect?, on, action: action?, mask_with, tiers, teams, providers })
}
