//! The rules of one moment: compiled once, then read by every request without a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::error::Error;
use super::inbound::Inbound;
use super::terms::{Terms, allot};
use crate::admission::budget::{Allotment, Scope};
use crate::cache::key::{self, Key};
use crate::catalog::Provider;
use crate::classify::Classifier;
use crate::classify::settings::BadPattern;
use crate::config::{Settings, Upstream};
use crate::dispatch::settings::Policy;
use crate::rank::hints::{BadHint, Hints};
use crate::rank::select::Index;
use crate::rank::settings::Strategy;

pub struct Snapshot {
    pub settings: Arc<Settings>,
    pub index: Index,
    pub classifier: Classifier,
    /// What the file says about routing a task.
    pub tasks: HashMap<String, TaskRule>,
    /// Budgets of providers.
    pub provider_budgets: Arc<[(Arc<str>, Vec<Allotment>)]>,
    /// Some configured transformation or guard may concern a request or its answer.
    pub treats: bool,
    /// Providers that guards for requests name.
    pub guarded_providers: Vec<Arc<str>>,
    policies: HashMap<Arc<str>, Policy>,
    /// For a provider of other rules: never met today, and no reason to panic tomorrow.
    usual: Policy,
    /// For log lines and metrics: counts reloads from 1.
    pub version: u64,
    /// When the rules were compiled.
    pub epoch: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct TaskRule {
    pub strategy: Option<Strategy>,
    pub min_skill: Option<f64>,
}

impl Snapshot {
    /// All that can fail happens here, so that putting rules in force cannot.
    pub fn compile(settings: Settings, version: u64) -> Result<Self, Vec<BadPattern>> {
        let classifier = Classifier::compile(&settings.tasks)?;
        let index = Index::new(&settings.targets, &settings.routing.aliases);
        let rule = |task: &crate::classify::settings::TaskSettings| TaskRule {
            strategy: task.strategy.as_deref().and_then(Strategy::parse),
            min_skill: task.min_skill,
        };
        let mut tasks: HashMap<String, TaskRule> =
            settings.tasks.iter().map(|(name, task)| (name.clone(), rule(task))).collect();
        // Titles and tags that a chat UI asks for behind the scenes deserve no more than the cheapest model.
        tasks.entry("housekeeping".to_owned()).or_default().strategy.get_or_insert(Strategy::Cheapest);
        let policy = |upstream: &Upstream| Policy {
            breaker: Arc::new(upstream.breaker.clone()),
            retry: Arc::new(upstream.retry.clone()),
            timeouts: Arc::new(upstream.timeouts.clone()),
        };
        let provider_budgets = settings.tenants.budgets.providers.iter().map(|(name, budget)| {
            let (name, mut allotments): (Arc<str>, _) = (name.as_str().into(), Vec::new());
            allot(&mut allotments, budget, || Scope::Provider(name.clone()));
            (name, allotments)
        });
        let provider_budgets = provider_budgets.collect();
        let usual = policy(&settings.upstream);
        let named = |provider: &Arc<Provider>| (provider.name.clone(), policy(settings.upstream(&provider.name)));
        let policies = settings.providers.iter().map(named).collect();
        let mut guarded_providers: Vec<Arc<str>> = settings.guards.providers().map(Arc::from).collect();
        guarded_providers.sort_unstable();
        guarded_providers.dedup();
        let treats = !settings.guards.is_empty()
            || !settings.transforms.is_empty()
            || settings.providers.iter().any(|provider| provider.transform.is_some());
        Ok(Self {
            settings: Arc::new(settings),
            index,
            classifier,
            tasks,
            provider_budgets,
            treats,
            guarded_providers,
            policies,
            usual,
            version,
            epoch: Instant::now(),
        })
    }

    /// How a provider is treated.
    pub fn policy(&self, provider: &Provider) -> &Policy {
        self.policies.get(&provider.name).unwrap_or(&self.usual)
    }

    /// Refuses hints that name something that does not exist.
    pub fn check_hints(&self, hints: &Hints) -> Result<(), Error> {
        if let Some(task) = &hints.task
            && !self.classifier.tasks().any(|name| name.as_str() == task)
        {
            let names: Vec<&str> = self.classifier.tasks().map(|name| name.as_str()).collect();
            let reason =
                format!("unknown task `{}`; one of {}", task.chars().take(60).collect::<String>(), names.join(", "));
            return Err(BadHint { hint: "task".to_owned(), reason }.into());
        }
        Ok(())
    }

    /// Under which key an answer to this request may be kept; `None` if it may neither be read nor written.
    pub fn cache_key(&self, inbound: &Inbound) -> Option<Key> {
        let (rules, request) = (&self.settings.cache, &inbound.request);
        let bypass = !rules.enabled
            || inbound.no_store
            || inbound.hints.no_cache
            || request.n > 1
            || request.tools > 0
            || request.temperature.is_some_and(|temperature| temperature > rules.max_temperature)
            || request.member("modalities").is_some()
            || request.member("store") == Some("true");
        if bypass {
            return None;
        }
        // A key that may not have every model shares nothing: another one's answer may come from one of those.
        let shares = rules.share_between_keys && Terms::of(self, &inbound.tenant).is_ok_and(|terms| terms.are_open());
        let partition = if shares { "" } else { &*inbound.partition };
        let mut routing = routing(&inbound.hints);
        if let Some(treatment) = &inbound.treatment {
            routing.push_str(&treatment.mark());
        }
        Some(key::key(request, partition, &routing))
    }
}

/// The hints that decide who answers, as text. Two requests that may be answered by different models are not the same.
fn routing(hints: &Hints) -> String {
    let deciding = Hints {
        no_cache: false,
        explain: false,
        unknown: Vec::new(),
        tags: Vec::new(),
        notes: Vec::new(),
        later: Vec::new(),
        ..hints.clone()
    };
    if deciding == Hints::default() { String::new() } else { format!("{deciding:?}") }
}
