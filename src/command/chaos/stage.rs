//! The router under test, between scripted upstreams that play the user's providers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::Exit;
use crate::app::{self, Options, Running};
use crate::catalog::{Auth, Format, Provider, Target};
use crate::config::{self, Loaded, Source};
use crate::scripted::{Upstream, act};

/// What every healthy provider says: long enough to be cut in the middle.
pub const ANSWER: &str = "one two three four five six seven eight nine ten eleven twelve";

/// A router with its upstreams. Close it: dropping alone leaves its data behind.
pub struct Stage {
    /// Of the router's chat completions.
    pub url: String,
    running: Running,
    upstreams: Vec<Upstream>,
    directory: PathBuf,
}

/// The providers that can be played: those with models.
pub fn providers(loaded: &Loaded) -> Vec<String> {
    let settings = &loaded.settings;
    let has_models =
        |name: &str| settings.targets.iter().any(|target| &*target.provider.name == name && target.model.routable);
    settings.providers.iter().map(|provider| provider.name.to_string()).filter(|name| has_models(name)).collect()
}

impl Stage {
    /// Starts everything, with one provider broken. Without `words` nobody listens at its address.
    pub async fn open(loaded: &Loaded, broken: &str, words: Option<&str>) -> Result<Self, Exit> {
        let mut upstreams = Vec::new();
        let mut played: BTreeMap<String, Arc<Provider>> = BTreeMap::new();
        for provider in &loaded.settings.providers {
            let healthy = act::chat(ANSWER);
            let upstream =
                Upstream::start(([127, 0, 0, 1], 0).into(), healthy.clone()).await.context("no free port")?;
            let url = upstream.url.clone();
            match words {
                _ if &*provider.name != broken => upstreams.push(upstream),
                Some(words) => {
                    upstream.always(healthy.with(words).map_err(anyhow::Error::from)?);
                    upstreams.push(upstream);
                }
                None => drop(upstream),
            }
            let mut stand_in = Provider::new(&provider.name, Format::OpenAi, &url, Auth::None);
            stand_in.priority = provider.priority;
            stand_in.weight = provider.weight;
            stand_in.max_concurrency = provider.max_concurrency;
            played.insert(provider.name.to_string(), Arc::new(stand_in));
        }
        let mut loaded = loaded.clone();
        let settings = &mut loaded.settings;
        settings.providers = settings.providers.iter().filter_map(|known| played.get(&*known.name).cloned()).collect();
        let stand_in = |target: &Arc<Target>| {
            let provider = played.get(&*target.provider.name)?;
            Some(Arc::new(Target::new(provider, target.model.clone())))
        };
        settings.targets = settings.targets.iter().filter_map(stand_in).collect();
        settings.discover.clear();
        settings.cache.enabled = false;
        settings.storage = Default::default();
        // A cap of the user's on connections is not what is tried here.
        settings.server.max_connections = Default::default();
        // The file on disk is not what runs here.
        loaded.files.clear();

        let directory = config::scratch_directory("chaos");
        let listen = Some(([127, 0, 0, 1], 0).into());
        let options = Options { source: Source::Demo, listen, data_dir: Some(directory.clone()), insecure: false };
        let running = app::start(loaded, options).await?;
        let url = format!("http://{}/v1/chat/completions", running.address);
        Ok(Self { url, running, upstreams, directory })
    }

    /// Calls that the upstreams have received; a port where nobody listens counts none.
    pub fn attempts(&self) -> usize {
        self.upstreams.iter().map(Upstream::count).sum()
    }

    /// Whose a model is.
    pub fn owner(&self, model: &str) -> String {
        let rules = self.running.gateway.rules();
        let target = rules.index.targets().iter().find(|target| target.model.id == model);
        target.map_or(model.to_owned(), |target| target.provider.name.to_string())
    }

    /// The state of a provider's first target that was used, as `/gateway/status` names it.
    pub fn state(&self, provider: &str) -> String {
        let (gateway, now) = (&self.running.gateway, Instant::now());
        let rules = gateway.rules();
        let states = rules.index.targets().iter().filter(|target| &*target.provider.name == provider).map(|target| {
            gateway.dispatcher.fleet.vitals(target, rules.policy(&target.provider), now).availability.as_str()
        });
        let mut states: Vec<&str> = states.collect();
        // Most of a provider's models were never asked.
        states.sort_by_key(|state| *state == "closed");
        states.first().copied().unwrap_or("closed").to_owned()
    }

    /// Stops everything and removes what it wrote.
    pub async fn close(self) {
        self.running.stop().await;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
