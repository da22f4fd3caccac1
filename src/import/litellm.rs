//! A LiteLLM proxy's configuration, as its documentation describes it and as people write it.

mod deployment; // an entry of model_list
mod group; // groups and fallbacks: providers, priorities, aliases
mod secret; // keys, by the names of variables
mod section; // the settings
mod vendor; // who answers

use crate::config::tree::{self, Node};

use super::field::Field;
use super::{Account, Imported, Verdict, yaml};
use deployment::Reader;
use group::{Alias, Entry, Fallback, Layout};
use secret::Secrets;
use section::Sections;

/// A file that is no LiteLLM configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Unreadable {
    pub file: String,
    pub line: usize,
    pub message: String,
}

/// A file as it was read.
pub struct Source {
    name: String,
    node: Node,
}

impl Source {
    pub fn parse(name: &str, text: &str) -> Result<Self, Unreadable> {
        let unreadable = |line: usize, message: String| Unreadable { file: name.to_owned(), line, message };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let node = tree::parse(text).map_err(|malformed| unreadable(malformed.at.line, malformed.message))?;
        let source = Self { name: name.to_owned(), node };
        match source.root().is_map() {
            true => Ok(source),
            false => Err(unreadable(1, "it is no map; a LiteLLM configuration has model_list".to_owned())),
        }
    }

    /// Files that it wants read before it.
    pub fn includes(&self) -> Vec<String> {
        self.root().get("include").map(|include| include.texts()).unwrap_or_default()
    }

    fn root(&self) -> Field<'_> {
        Field::root(&self.name, &self.node)
    }
}

const SETTINGS: [&str; 3] = ["router_settings", "litellm_settings", "general_settings"];

/// Strategies and what they are here; `true` where that is the same.
const STRATEGIES: [(&str, &str, &str); 7] = [
    ("simple-shuffle", "weighted", ""),
    ("least-busy", "round_robin", "in turn; among models that do as well, load decides by itself"),
    ("usage-based-routing", "round_robin", "in turn; what providers say about their limits steers by itself"),
    ("usage-based-routing-v2", "round_robin", "in turn; what providers say about their limits steers by itself"),
    ("latency-based-routing", "fastest", "by the expected time to an answer, measured all the time"),
    ("cost-based-routing", "cheapest", ""),
    ("lowest-cost", "cheapest", ""),
];

/// Writes files, the first being the one that includes the others, as one of ours.
pub fn import(sources: &[Source]) -> Result<Imported, Unreadable> {
    let mut account = Account::default();
    let roots: Vec<Field<'_>> = sources.iter().map(Source::root).collect();
    let listed: Vec<Field<'_>> = roots.iter().filter_map(|root| root.get("model_list")).collect();
    let entries: Vec<Field<'_>> = listed.iter().flat_map(Field::items).collect();
    if entries.is_empty() {
        let file = sources.first().map(|source| source.name.clone()).unwrap_or_default();
        let line = listed.first().map_or(1, |list| list.line);
        let message =
            "there is no model_list with entries; models that live in a database cannot be imported".to_owned();
        return Err(Unreadable { file, line, message });
    }
    let mut reader = Reader { secrets: Secrets::of(&roots) };
    let mut deployments = Vec::new();
    let mut kept = Vec::new();
    for entry in &entries {
        if let Some(deployment) = reader.read(entry, deployments.len(), &mut account) {
            deployments.push(deployment);
            kept.push(entry);
        }
    }
    let settings: Vec<Field<'_>> =
        roots.iter().flat_map(|root| SETTINGS.iter().filter_map(|name| root.get(name))).collect();
    let balancing = balancing(&settings, &mut account);
    let fallbacks = fallbacks(&settings, &mut account);
    let renamed = renamed(&settings, &mut account);
    let mut layout = group::lay_out(&deployments, &fallbacks, &renamed, balancing, &mut account);
    for (entry, deployment) in kept.iter().zip(&deployments) {
        if let Some(name) = entry.get("model_name") {
            named(&name, &deployment.group, &mut layout, &mut account);
        }
    }
    layout.aliases.retain(|alias| is_askable(&alias.name));
    let mut sections = section::read(&settings, &mut account);
    // Off unless somebody switched it on, as there.
    sections.entry("cache").or_default().entry("enabled").or_insert_with(|| "false".to_owned());
    let attempts = sections.entry("routing").or_default().entry("max_attempts");
    let longest = layout.longest.clamp(3, 10);
    attempts
        .and_modify(|written| {
            if written.parse::<usize>().is_ok_and(|written| written < longest.min(layout.longest)) {
                *written = layout.longest.min(10).to_string();
            }
        })
        .or_insert_with(|| longest.to_string());
    for root in &roots {
        if let Some(field) = root.get("include") {
            account.exact(&field, "");
        }
        for (name, field) in root.get("environment_variables").map(|map| map.entries()).unwrap_or_default() {
            account.look(&field, format!("set {name} where stepwell is started; values of variables are not copied"));
        }
        account.sweep(root, "no rule here reads it, and nothing was written for it");
    }
    let mut notes = account.notes;
    for note in &mut notes {
        for (index, provider) in layout.providers.iter().enumerate() {
            note.to = note.to.replace(&format!("<{index}>"), provider);
        }
    }
    let place = |file: &str| sources.iter().position(|source| source.name == file).unwrap_or(0);
    notes.sort_by_key(|note| (place(&note.file), note.line));
    let yaml = written(&layout, &sections, sources, &notes);
    Ok(Imported { yaml, notes, variables: account.variables })
}

/// What clients asked for, and what they ask for now.
fn named(field: &Field<'_>, group: &str, layout: &mut Layout, account: &mut Account) {
    if group.contains('*') {
        account.changed(field, "providers", "all models of the catalogue, asked for as provider/model or by id");
    } else if is_askable(group) {
        account.exact(field, format!("routing.aliases.{group}"));
    } else {
        let alias = layout.aliases.iter().find(|alias| alias.name == group).map(|alias| alias.only.clone());
        if alias.is_some_and(|only| only == [group.to_owned()]) {
            account.exact(field, group);
            return;
        }
        let name: String = group.chars().map(|c| if "/: \t".contains(c) { '-' } else { c }).collect();
        if let Some(alias) = layout.aliases.iter_mut().find(|alias| alias.name == group)
            && !alias.only.is_empty()
        {
            let (only, strategy) = (alias.only.clone(), alias.strategy);
            if !layout.aliases.iter().any(|other| other.name == name) {
                layout.aliases.push(Alias { name: name.clone(), only, strategy });
            }
        }
        account.changed(
            field,
            format!("routing.aliases.{name}"),
            format!("an alias has no `/`, `:` or spaces: clients ask for `{name}`"),
        );
    }
}

fn is_askable(alias: &str) -> bool {
    !alias.is_empty() && !alias.contains(['/', ':', '*']) && !alias.contains(char::is_whitespace)
}

fn balancing(settings: &[Field<'_>], account: &mut Account) -> &'static str {
    let mut chosen = "weighted";
    for field in settings.iter().filter_map(|section| section.get("routing_strategy")) {
        let text = field.text().unwrap_or_default();
        match STRATEGIES.iter().find(|(theirs, ..)| *theirs == text.replace('_', "-")) {
            Some((_, ours, differs)) => {
                chosen = ours;
                let to = format!("routing.aliases.*.strategy: {ours}");
                match differs.is_empty() {
                    true => account.exact(&field, to),
                    false => account.changed(&field, to, *differs),
                }
            }
            None => account.look(&field, format!("`{text}` is no strategy that is known here; `weighted` was written")),
        }
    }
    chosen
}

fn fallbacks<'a>(settings: &[Field<'a>], account: &mut Account) -> Vec<Fallback<'a>> {
    const KINDS: [(&str, &str); 3] = [
        ("fallbacks", ""),
        ("default_fallbacks", ""),
        (
            "context_window_fallbacks",
            "a model whose window is too small is never asked, and the larger one answers; but it also takes over when others fail",
        ),
    ];
    let mut found = Vec::new();
    for (kind, differs) in KINDS {
        for list in settings.iter().filter_map(|section| section.get(kind)) {
            if kind == "default_fallbacks" {
                found.push(Fallback { field: list.clone(), from: "*".to_owned(), to: list.texts(), differs });
                continue;
            }
            // A list of maps, as documented, or one map.
            let maps = if list.is_map() { vec![list.clone()] } else { list.items() };
            for (from, field) in maps.iter().flat_map(Field::entries) {
                let to = field.texts();
                if to.is_empty() {
                    account.look(
                        &field,
                        "expected names of groups; fallbacks with messages or parameters have no counterpart",
                    );
                    continue;
                }
                found.push(Fallback { field, from: from.to_owned(), to, differs });
            }
        }
    }
    for list in settings.iter().filter_map(|section| section.get("content_policy_fallbacks")) {
        account.look(&list, "an answer that a provider's filter refuses is passed on, and nobody else is asked");
    }
    found
}

/// `model_group_alias`: other names of groups.
fn renamed<'a>(settings: &[Field<'a>], account: &mut Account) -> Vec<(Field<'a>, String, String)> {
    let mut found = Vec::new();
    for map in settings.iter().filter_map(|section| section.get("model_group_alias")) {
        for (name, field) in map.entries() {
            let model = field.text().or_else(|| field.get("model")?.text());
            match model {
                Some(model) if is_askable(name) => found.push((field, name.to_owned(), model)),
                Some(_) => account.look(&field, "an alias has no `/`, `:` or spaces; choose another name"),
                None => account.look(&field, "expected the name of a group"),
            }
        }
    }
    found
}

fn written(layout: &Layout, sections: &Sections, sources: &[Source], notes: &[super::Note]) -> String {
    let from = sources.first().map(|source| source.name.as_str()).unwrap_or_default();
    let from = super::one_line(from);
    let mut text = format!(
        "# Imported from LiteLLM's {from} by `stepwell import litellm`.\n# `stepwell check` validates it; the variables that it names must be set. What needs a look is at the end.\nproviders:\n"
    );
    for Entry { name, lines, models } in &layout.entries {
        text += &format!("  {}:\n", yaml::key(name));
        for (key, value) in lines {
            text += &format!("    {key}: {value}\n");
        }
        if !models.is_empty() {
            text += "    models:\n";
        } else if lines.is_empty() {
            text.truncate(text.len() - 1);
            text += " {}\n";
        }
        for (id, details) in models {
            let members: String = details.iter().map(|(key, value)| format!(", {key}: {value}")).collect();
            text += &format!("      - {{ id: {}{members} }}\n", yaml::text(id));
        }
    }
    for (section, members) in sections.iter().filter(|(section, _)| **section != "routing") {
        text += &format!("{section}:\n");
        for (key, value) in members {
            text += &format!("  {key}: {value}\n");
        }
    }
    text += "routing:\n";
    for (key, value) in sections.get("routing").into_iter().flatten() {
        text += &format!("  {key}: {value}\n");
    }
    if !layout.aliases.is_empty() {
        text += "  # What clients asked LiteLLM for.\n  aliases:\n";
    }
    for Alias { name, only, strategy } in &layout.aliases {
        let only: Vec<String> = only.iter().map(|id| yaml::text(id)).collect();
        let strategy = strategy.map(|strategy| format!(", strategy: {strategy}")).unwrap_or_default();
        text += &format!("    {}: {{ only: [{}]{strategy} }}\n", yaml::key(name), only.join(", "));
    }
    let open = notes.iter().filter(|note| note.verdict == Verdict::NeedsALook);
    let open: String =
        open.map(|note| format!("# {}:{} {}: {}\n", note.file, note.line, note.field, note.reason)).collect();
    if !open.is_empty() {
        text += &format!("\n# Needs a look:\n{open}");
    }
    text
}
