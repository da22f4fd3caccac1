//! Groups of deployments and who takes over for whom, said as providers with priorities and as aliases.
//!
//! LiteLLM balances over the entries of one name and falls back to other names. Here an alias lists the models of its group
//! and of those that take over, and `priority` puts them in order. A priority belongs to a provider and holds for all
//! aliases, so that groups are numbered such that whoever takes over comes later. Where two groups take over for each
//! other, one order cannot serve both: then whoever takes over is written a second time, with a later priority.

use std::collections::BTreeMap;

use super::deployment::Deployment;
use crate::import::field::Field;
use crate::import::{Account, Verdict, yaml};

/// One group after another, if the first cannot answer.
pub struct Fallback<'a> {
    pub field: Field<'a>,
    pub from: String,
    pub to: Vec<String>,
    /// Why it does not mean quite the same; empty if it does.
    pub differs: &'static str,
}

/// A provider of the new file.
pub struct Entry {
    pub name: String,
    pub lines: Vec<(&'static str, String)>,
    /// `id`, and what stands beside it. Empty: all of the catalogue.
    pub models: Vec<(String, Vec<(&'static str, String)>)>,
}

pub struct Alias {
    pub name: String,
    pub only: Vec<String>,
    pub strategy: Option<&'static str>,
}

pub struct Layout {
    pub entries: Vec<Entry>,
    pub aliases: Vec<Alias>,
    /// The provider's name of each deployment.
    pub providers: Vec<String>,
    /// The longest chain of models for one alias.
    pub longest: usize,
}

/// Steps between two groups' priorities, for the `order` within one.
const STEP: usize = 100;

pub fn lay_out(
    deployments: &[Deployment],
    fallbacks: &[Fallback<'_>],
    renamed: &[(Field<'_>, String, String)],
    balancing: &'static str,
    account: &mut Account,
) -> Layout {
    let mut groups: Vec<&str> = Vec::new();
    for deployment in deployments {
        if !groups.contains(&deployment.group.as_str()) {
            groups.push(&deployment.group);
        }
    }
    let chains = chains(&groups, fallbacks, account);
    let levels = levels(&groups, deployments, &chains, fallbacks, account);
    let whole = deployments.iter().filter_map(|one| one.weight).all(|weight| weight.fract() == 0.0);
    let scale = if whole { 1.0 } else { 1000.0 };

    let mut entries: Vec<(String, Entry)> = Vec::new();
    let mut providers = Vec::new();
    for deployment in deployments {
        let level = groups.iter().position(|group| *group == deployment.group).map_or(0, |at| levels[at]);
        let is_ordered = levels.iter().any(|level| *level > 0) || deployments.iter().any(|one| one.order.is_some());
        let order = deployment.order.map_or(0, |order| (order as usize).min(STEP - 1));
        let mut lines = deployment.connection.clone();
        if is_ordered {
            lines.push(("priority", (level * STEP + order).to_string()));
        }
        if let Some(weight) = deployment.weight {
            lines.push(("weight", yaml::number((weight * scale).round().clamp(0.0, 1e6))));
        }
        // What differs is a provider of its own; so are two ways to serve the same model.
        let same = |(prefix, entry): &&mut (String, Entry)| {
            let twin = entry.models.iter().find(|(id, _)| *id == deployment.model);
            *prefix == deployment.vendor.prefix
                && entry.lines == lines
                && entry.models.is_empty() == deployment.is_wildcard
                && twin.is_none_or(|(_, details)| *details == deployment.details)
        };
        let at = match entries.iter_mut().find(same) {
            Some((_, entry)) => entry,
            None => {
                let base = match (&deployment.host, deployment.vendor.format(), deployment.vendor.preset) {
                    (Some(host), "openai", _) if !host.is_empty() => host.clone(),
                    (.., "") => deployment.vendor.prefix.to_owned(),
                    (.., preset) => preset.to_owned(),
                };
                let names = (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") });
                let name = names.into_iter().find(|name| !entries.iter().any(|(_, entry)| entry.name == *name));
                let entry = Entry { name: name.unwrap_or(base), lines, models: Vec::new() };
                entries.push((deployment.vendor.prefix.to_owned(), entry));
                &mut entries.last_mut().expect("it was just added").1
            }
        };
        let known = at.models.iter().any(|(id, _)| *id == deployment.model);
        if !deployment.is_wildcard && !known {
            at.models.push((deployment.model.clone(), deployment.details.clone()));
        }
        providers.push(at.name.clone());
    }
    let mut entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    for (index, deployment) in deployments.iter().enumerate() {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.name == providers[index]) {
            introduce(entry, deployment);
        }
    }

    let of = |group: &str| -> Vec<(usize, &Deployment)> {
        deployments.iter().enumerate().filter(|(_, one)| one.group == group).collect()
    };
    let mut aliases = Vec::new();
    let mut longest = 1;
    for (at, group) in groups.iter().enumerate() {
        let has_order = of(group).iter().any(|(_, one)| one.order.is_some());
        let after = chains.get(*group).cloned().unwrap_or_default();
        let mut only: Vec<String> = Vec::new();
        let mut add = |provider: &str, one: &Deployment| {
            let id = if one.is_wildcard { provider.to_owned() } else { format!("{provider}/{}", one.model) };
            if !only.contains(&id) {
                only.push(id);
            }
        };
        of(group).into_iter().for_each(|(index, one)| add(&providers[index], one));
        let mut last = levels[at];
        for other in &after {
            let level = groups.iter().position(|group| group == other).map_or(0, |at| levels[at]);
            last = level.max(last + 1);
            for (index, one) in of(other) {
                if level == last {
                    add(&providers[index], one);
                } else {
                    add(&later(&mut entries, &providers[index], one, last), one);
                }
            }
        }
        longest = longest.max(only.len());
        if !after.is_empty() || has_order {
            unweighed(deployments, group, account);
        }
        let strategy = match (after.is_empty() && !has_order, only.len()) {
            (false, _) => Some("priority"),
            (true, 1) => None,
            (true, _) => Some(balancing),
        };
        aliases.push(Alias { name: (*group).to_owned(), only, strategy });
    }
    for (field, name, meant) in renamed {
        match aliases.iter().find(|alias| alias.name == *meant) {
            Some(alias) => {
                let (only, strategy) = (alias.only.clone(), alias.strategy);
                aliases.push(Alias { name: name.clone(), only, strategy });
                account.exact(field, format!("routing.aliases.{name}"));
            }
            None => account.look(field, format!("there is no group `{meant}` in model_list")),
        }
    }
    Layout { entries, aliases, providers, longest }
}

/// The same provider once more, for where it takes over later than its own priority says. Its name.
fn later(entries: &mut Vec<Entry>, name: &str, deployment: &Deployment, level: usize) -> String {
    let order = deployment.order.map_or(0, |order| (order as usize).min(STEP - 1));
    let priority = (level * STEP + order).to_string();
    let copy = format!("{name}-at-{priority}");
    if !entries.iter().any(|entry| entry.name == copy)
        && let Some(original) = entries.iter().find(|entry| entry.name == name)
    {
        let mut entry = Entry { name: copy.clone(), lines: original.lines.clone(), models: Vec::new() };
        entry.lines.iter_mut().filter(|(key, _)| *key == "priority").for_each(|(_, value)| value.clone_from(&priority));
        introduce(&mut entry, deployment);
        entries.push(entry);
    }
    if let Some(entry) = entries.iter_mut().find(|entry| entry.name == copy)
        && !deployment.is_wildcard
        && !entry.models.iter().any(|(id, _)| *id == deployment.model)
    {
        entry.models.push((deployment.model.clone(), deployment.details.clone()));
    }
    copy
}

/// Under `priority` weights say nothing.
fn unweighed(deployments: &[Deployment], group: &str, account: &mut Account) {
    let indices: Vec<usize> = (0..deployments.len()).filter(|index| deployments[*index].group == group).collect();
    for note in &mut account.notes {
        if indices.iter().any(|index| note.to == format!("providers.<{index}>.weight")) {
            note.verdict = Verdict::Changed;
            note.reason = "written, but without effect: a group with fallbacks or an order goes by priority, and among equals by score and load".to_owned();
        }
    }
}

/// A name that no preset has needs format and address.
fn introduce(entry: &mut Entry, deployment: &Deployment) {
    let vendor = &deployment.vendor;
    if entry.name == vendor.preset && !vendor.is_local() || entry.lines.iter().any(|(key, _)| *key == "format") {
        return;
    }
    let base_url = vendor.preset().map(|preset| preset.base_url).filter(|url| !url.is_empty());
    if let Some(base_url) = base_url
        && entry.name != vendor.preset
        && !entry.lines.iter().any(|(key, _)| *key == "base_url")
    {
        entry.lines.insert(0, ("base_url", yaml::text(base_url)));
    }
    entry.lines.insert(0, ("format", vendor.format().to_owned()));
}

/// For each group those that take over, in order.
fn chains(groups: &[&str], fallbacks: &[Fallback<'_>], account: &mut Account) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for fallback in fallbacks {
        let unknown: Vec<&String> = fallback.to.iter().filter(|to| !groups.contains(&to.as_str())).collect();
        if !unknown.is_empty() || (fallback.from != "*" && !groups.contains(&fallback.from.as_str())) {
            let names: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
            let names = if names.is_empty() { format!("`{}`", fallback.from) } else { names.join(", ") };
            account.look(&fallback.field, format!("{names} is no group of model_list that was imported"));
        }
        let from = groups.iter().filter(|group| fallback.from == "*" || fallback.from == **group);
        for group in from {
            let chain = chains.entry((*group).to_owned()).or_default();
            for to in fallback.to.iter().filter(|to| groups.contains(&to.as_str()) && to != group) {
                if !chain.contains(to) {
                    chain.push(to.clone());
                }
            }
        }
    }
    chains.retain(|_, chain| !chain.is_empty());
    chains
}

/// How far behind each group comes, such that who takes over is further behind wherever that can be said.
fn levels(
    groups: &[&str],
    deployments: &[Deployment],
    chains: &BTreeMap<String, Vec<String>>,
    fallbacks: &[Fallback<'_>],
    account: &mut Account,
) -> Vec<usize> {
    let at = |name: &str| groups.iter().position(|group| *group == name).unwrap_or(0);
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut refused: Vec<String> = Vec::new();
    for (from, chain) in chains {
        let mut before = at(from);
        for to in chain {
            let next = at(to);
            if is_reached(&edges, next, before) {
                refused.push(from.clone());
            } else {
                edges.push((before, next));
            }
            before = next;
        }
    }
    for fallback in fallbacks {
        let field = &fallback.field;
        if account.covered.contains(&(field.file.to_owned(), field.path.clone())) {
            continue;
        }
        let to = format!("routing.aliases.{}", fallback.from);
        let is_one = |group: &str| deployments.iter().filter(|one| one.group == group).count() < 2;
        if refused.contains(&fallback.from) || fallback.from == "*" && !refused.is_empty() {
            let reason = "two groups take over for each other: one of them is written a second time (`-at-`), with a breaker and measurements of its own";
            account.changed(field, to, reason);
        } else if fallback.differs.is_empty() && !is_one(&fallback.from) {
            let reason = "the same order of groups; within this group the best by score is first and load moves it, weights do not";
            account.changed(field, to, reason);
        } else if fallback.differs.is_empty() {
            account.exact(field, to);
        } else {
            account.changed(field, to, fallback.differs);
        }
    }
    let mut levels = vec![0; groups.len()];
    // The longest path, found by as many rounds as there are groups; there are no circles.
    for _ in groups {
        for (from, to) in &edges {
            levels[*to] = levels[*to].max(levels[*from] + 1);
        }
    }
    levels
}

fn is_reached(edges: &[(usize, usize)], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while let Some(node) = seen.get(at).copied() {
        if node == to {
            return true;
        }
        let next = edges.iter().filter(|(start, _)| *start == node).map(|(_, end)| *end);
        let new: Vec<usize> = next.filter(|end| !seen.contains(end)).collect();
        seen.extend(new);
        at += 1;
    }
    false
}
