//! From the name that a client writes in `model` to the targets that it means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::settings::{Alias, Strategy};
use crate::catalog::Target;
use crate::chat::Invalid;

/// The built-in names, with the strategy that each stands for.
pub const BUILT_IN: [(&str, Option<Strategy>); 4] = [
    ("auto", None),
    ("auto-cheap", Some(Strategy::Cheapest)),
    ("auto-fast", Some(Strategy::Fastest)),
    ("auto-best", Some(Strategy::Quality)),
];

/// What a name means.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Tried in this order; within a group the strategy decides. More than one only for a `models` list.
    pub groups: Vec<Group>,
    /// The strategy that the name asks for.
    pub strategy: Option<Strategy>,
    pub min_skill: Option<f64>,
}

impl Selection {
    pub fn contains(&self, provider: &str, model: &str) -> bool {
        let mut targets = self.groups.iter().flat_map(|group| &group.targets);
        targets.any(|target| *target.provider.name == *provider && target.model.id == model)
    }

    /// Refuses a name that stands for several models: their vectors cannot be compared.
    pub fn of_one_model(&self) -> Result<(), Invalid> {
        let mut ids = self.groups.iter().flat_map(|group| &group.targets).map(|target| &*target.model.id);
        let first = ids.next();
        if ids.all(|id| Some(id) == first) {
            return Ok(());
        }
        let message = "embeddings of different models cannot be compared: name one model, as in GET /v1/models";
        Err(Invalid::value("model", message))
    }
}

#[derive(Clone, Debug)]
pub struct Group {
    pub targets: Vec<Arc<Target>>,
    /// The caller named the model: catalogue knowledge about its abilities does not overrule that.
    pub explicit: bool,
}

/// Nobody serves a model of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model `{model}` does not exist{}", suggestion(closest))]
pub struct UnknownModel {
    pub model: String,
    /// Up to three names that look like it.
    pub closest: Vec<String>,
}

fn suggestion(closest: &[String]) -> String {
    match closest {
        [] => "; GET /v1/models lists what does".to_owned(),
        names => {
            format!("; did you mean {}?", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        }
    }
}

/// All names, compiled once per configuration.
#[derive(Debug, Default)]
pub struct Index {
    all: Vec<Arc<Target>>,
    by_id: HashMap<String, Arc<Target>>,
    by_model: HashMap<String, Vec<Arc<Target>>>,
    aliases: BTreeMap<String, (Alias, Vec<Arc<Target>>)>,
}

impl Index {
    pub fn new(targets: &[Arc<Target>], aliases: &BTreeMap<String, Alias>) -> Self {
        let mut index = Self { all: targets.to_vec(), ..Self::default() };
        for target in targets {
            index.by_id.insert(target.id.as_str().to_owned(), target.clone());
            index.by_model.entry(target.model.id.clone()).or_default().push(target.clone());
        }
        for (name, alias) in aliases {
            let meant = targets.iter().filter(|target| {
                let named = |list: &[String]| super::hints::Hints::names(list, &target.id);
                if alias.only.is_empty() {
                    target.model.routable && !named(&alias.avoid)
                } else {
                    // A provider's name means what `auto` would take of it; a full name means just that model.
                    let in_full = alias.only.iter().any(|name| name == target.id.as_str());
                    (in_full || (target.model.routable && named(&alias.only))) && !named(&alias.avoid)
                }
            });
            index.aliases.insert(name.clone(), (alias.clone(), meant.cloned().collect()));
        }
        index
    }

    pub fn targets(&self) -> &[Arc<Target>] {
        &self.all
    }

    /// Names that clients can pick: aliases first.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        BUILT_IN.iter().map(|(name, _)| *name).chain(self.aliases.keys().map(String::as_str))
    }

    pub fn target(&self, id: &str) -> Option<&Arc<Target>> {
        self.by_id.get(id)
    }

    /// Resolves `model`, then each of `models` as fallbacks.
    pub fn select(&self, model: &str, models: &[String]) -> Result<Selection, UnknownModel> {
        let mut selection = self.one(model)?;
        for model in models.iter().filter(|name| *name != model) {
            selection.groups.extend(self.one(model)?.groups);
        }
        Ok(selection)
    }

    fn one(&self, name: &str) -> Result<Selection, UnknownModel> {
        let (plain, strategy) = match name.rsplit_once(':') {
            Some((plain, "floor")) => (plain, Some(Strategy::Cheapest)),
            Some((plain, "nitro")) => (plain, Some(Strategy::Fastest)),
            _ => (name, None),
        };
        let group = |targets: Vec<Arc<Target>>, explicit| vec![Group { targets, explicit }];
        if let Some((alias, targets)) = self.aliases.get(plain) {
            return Ok(Selection {
                groups: group(targets.clone(), false),
                strategy: strategy.or(alias.strategy),
                min_skill: alias.min_skill,
            });
        }
        // OpenRouter's name for the same thing, and ours with the product's name in front.
        let alias = plain.strip_prefix("stepwell/").unwrap_or(if plain == "openrouter/auto" { "auto" } else { plain });
        if let Some((_, built_in)) = BUILT_IN.iter().find(|(name, _)| *name == alias) {
            let routable = self.all.iter().filter(|target| target.model.routable).cloned().collect();
            return Ok(Selection { groups: group(routable, false), strategy: strategy.or(*built_in), min_skill: None });
        }
        for candidate in [name, plain] {
            if let Some(target) = self.by_id.get(candidate) {
                return Ok(Selection { groups: group(vec![target.clone()], true), strategy, min_skill: None });
            }
            if let Some(targets) = self.by_model.get(candidate) {
                return Ok(Selection { groups: group(targets.clone(), true), strategy, min_skill: None });
            }
        }
        Err(UnknownModel { model: name.chars().take(200).collect(), closest: self.closest(plain) })
    }

    fn closest(&self, name: &str) -> Vec<String> {
        let name = name.to_ascii_lowercase();
        let known = self.aliases().chain(self.all.iter().map(|target| target.id.as_str()));
        let mut scored: Vec<(f64, &str)> = known
            .map(|known| {
                let bare = known.split_once('/').map_or(known, |(_, model)| model);
                (strsim::jaro_winkler(&name, known).max(strsim::jaro_winkler(&name, bare)), known)
            })
            .filter(|(likeness, _)| *likeness > 0.75)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
    }
}
