//! Working without a file: providers whose usual variable is set, then local servers, then the demo.

use std::sync::Arc;

use jiff::civil::Date;

use super::clouds::amazons_domain;
use super::collector;
use super::settings::{Settings, Upstream};
use super::{Loaded, Origin};
use crate::catalog::{Auth, Preset, Provider, Shelf, Target, presets};

/// A provider that was found, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    pub provider: String,
    /// The variable's name, or the URL of a local server.
    pub by: String,
}

/// A server that may run on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub preset: &'static str,
    pub base_url: &'static str,
}

/// Where local servers listen unless told otherwise. Ask each for its models, then call [`with_local`].
pub fn local_candidates() -> Vec<Candidate> {
    let local = presets::ALL.iter().filter(|preset| preset.is_local());
    local.map(|preset| Candidate { preset: preset.name, base_url: preset.base_url }).collect()
}

/// Remote providers whose key is in its usual variable.
pub(super) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Vec<(&'static Preset, &'static str, String)> {
    let set = |name: &&'static str| Some((*name, env(name).filter(|value| !value.trim().is_empty())?));
    let found = |preset: &'static Preset| {
        let (name, key) = preset.key_env.iter().find_map(set)?;
        Some((preset, name, key))
    };
    presets::ALL.iter().filter_map(found).collect()
}

/// The configuration that the environment implies; the demo if it implies nothing.
pub(super) fn detected(env: &dyn Fn(&str) -> Option<String>, today: Date) -> Loaded {
    let mut settings = Settings::empty();
    let mut found = Vec::new();
    let mut warnings = Vec::new();
    for (preset, variable, key) in from_env(env) {
        let mut provider = Provider::new(preset.name, preset.format, preset.base_url, preset.auth);
        provider.preset = Some(preset.name);
        provider.api_key = Some(key.into());
        if preset.name == "azure" {
            let Some(endpoint) = env("AZURE_OPENAI_ENDPOINT").filter(|url| url.starts_with("http")) else {
                warnings.push(format!("{variable} is set, but not AZURE_OPENAI_ENDPOINT; azure is left out"));
                continue;
            };
            provider.base_url = format!("{}/openai/v1", endpoint.trim_end_matches('/').trim_end_matches("/openai/v1"));
        }
        let mut shelf = Shelf::open(Some(preset), today);
        if preset.name == "bedrock" {
            let Some(region) = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")) else {
                warnings.push(format!("{variable} is set, but not AWS_REGION; bedrock is left out"));
                continue;
            };
            provider.base_url = format!("https://bedrock-runtime.{region}.{}", amazons_domain(&region));
            shelf = shelf.within(Some(&region));
        }
        settings.add(provider, &shelf, None);
        found.push(Detected { provider: preset.name.to_owned(), by: variable.to_owned() });
    }
    let origin = if found.is_empty() {
        settings = demo(today);
        Origin::Demo
    } else {
        Origin::Detected(found)
    };
    settings.telemetry = collector::from_env(env);
    Loaded { settings, origin, files: Vec::new(), warnings }
}

/// The demo provider alone.
pub(super) fn demo(today: Date) -> Settings {
    let mut settings = Settings::empty();
    if let Some(preset) = presets::find("demo") {
        let mut provider = Provider::new(preset.name, preset.format, preset.base_url, preset.auth);
        provider.preset = Some(preset.name);
        settings.add(provider, &Shelf::open(Some(preset), today), None);
    }
    settings
}

/// Adds a local server that answered, with the models that it listed. It takes the place of the demo. Files are left
/// alone: who wrote one gets what it says.
pub fn with_local(loaded: &mut Loaded, candidate: &Candidate, models: Vec<String>) {
    let Some(preset) = presets::find(candidate.preset).filter(|_| !models.is_empty()) else { return };
    let mut found = match &loaded.origin {
        Origin::File(_) => return,
        Origin::Detected(found) => found.clone(),
        Origin::Demo => {
            let telemetry = loaded.settings.telemetry.clone();
            loaded.settings = Settings { telemetry, ..Settings::empty() };
            Vec::new()
        }
    };
    let mut provider = Provider::new(preset.name, preset.format, candidate.base_url, Auth::None);
    provider.preset = Some(preset.name);
    loaded.settings.add(provider, &Shelf::open(Some(preset), super::today()), Some(&models));
    found.push(Detected { provider: preset.name.to_owned(), by: candidate.base_url.to_owned() });
    loaded.origin = Origin::Detected(found);
}

impl Settings {
    /// Defaults and nobody to ask.
    pub(super) fn empty() -> Self {
        Self {
            providers: Vec::new(),
            targets: Vec::new(),
            discover: Vec::new(),
            tasks: Default::default(),
            routing: Default::default(),
            when_impossible: Default::default(),
            upstream: Upstream::default(),
            overrides: Default::default(),
            overload: Default::default(),
            hedge: Default::default(),
            health_checks: Default::default(),
            cache: Default::default(),
            server: Default::default(),
            storage: Default::default(),
            retention: Default::default(),
            jobs: Default::default(),
            batches: Default::default(),
            webhooks: Default::default(),
            anomalies: Default::default(),
            queue: None,
            events: Default::default(),
            shared: None,
            logging: Default::default(),
            tenants: Default::default(),
            telemetry: Default::default(),
            guards: Default::default(),
            transforms: Default::default(),
        }
    }

    fn add(&mut self, provider: Provider, shelf: &Shelf, models: Option<&[String]>) {
        let provider = Arc::new(provider);
        let models = match models {
            Some(ids) => ids.iter().map(|id| shelf.describe(id)).collect(),
            None => shelf.models(),
        };
        self.targets.extend(models.into_iter().map(|model| Arc::new(Target::new(&provider, model))));
        self.providers.push(provider);
    }

    /// Fills in the models of a provider that had to be asked. Replaces what an earlier answer said.
    #[must_use]
    pub fn with_models(&self, provider: &str, models: &[String]) -> Self {
        let mut settings = self.clone();
        let Some(provider) = self.discover.iter().find(|other| &*other.name == provider) else { return settings };
        let shelf = Shelf::open(provider.preset.and_then(presets::find), super::today());
        settings.targets.retain(|target| target.provider.name != provider.name);
        let described = models.iter().map(|id| shelf.describe(id));
        settings.targets.extend(described.map(|model| Arc::new(Target::new(provider, model))));
        settings
    }
}
