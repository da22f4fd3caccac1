//! The `providers` section: who can answer. A well-known name brings most of it; what is written wins.

use std::sync::Arc;

use jiff::civil::Date;

use super::problem::closest;
use super::reader::{Item, Section, set};
use super::sections;
use super::settings::Upstream;
use super::tree::Entry;
use super::{batches, clouds, models, transforms};
use crate::catalog::{Auth, Fault, Format, Model, Preset, Provider, Shelf, Target, presets};

/// What a provider's entry is read against.
pub(super) struct Surroundings<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub today: Date,
    /// What holds for all providers.
    pub upstream: &'a Upstream,
}

/// What a provider's entry came to.
pub(super) struct Configured {
    pub provider: Arc<Provider>,
    pub targets: Vec<Arc<Target>>,
    /// Its models must be asked for.
    pub discover: bool,
    /// Where it is treated differently from the others.
    pub upstream: Option<Upstream>,
}

/// A wire format as it is written, and the preset that usually goes with it.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Cohere,
    Ollama,
    Bedrock,
    Vertex,
    Demo,
}

const WIRES: [(&str, Wire); 9] = [
    ("openai", Wire::OpenAi),
    ("azure", Wire::Azure),
    ("anthropic", Wire::Anthropic),
    ("gemini", Wire::Gemini),
    ("cohere", Wire::Cohere),
    ("ollama", Wire::Ollama),
    ("demo", Wire::Demo),
    ("bedrock", Wire::Bedrock),
    ("vertex", Wire::Vertex),
];

pub(super) fn provider(entry: &Entry, item: &Item<'_>, around: &Surroundings<'_>) -> Option<Configured> {
    let name = entry.key.as_str();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        let rule = "use letters, digits, `_`, `-` and `.`";
        item.report.problem(entry.key_at, &item.path, format!("`{name}` is not a name for a provider; {rule}"));
        return None;
    }
    let mut section = item.section()?;
    if section.get("api_key").is_some_and(|item| item.is_emptied()) {
        item.report.warn(entry.key_at, &item.path, "left out, because its key is empty");
        return None;
    }
    let format = section.get("format").and_then(|item| Some((item.clone(), item.choice(&WIRES)?)));
    let url = section.get("base_url").and_then(|item| Some((item.clone(), item.text()?.trim_end_matches('/'))));

    let Some(preset) = preset(name, format.as_ref().map(|(_, wire)| *wire), url.as_ref().map(|(_, url)| *url)) else {
        let names = presets::ALL.iter().map(|preset| preset.name);
        match (format.is_some() || section.has("format"), url.is_some() || section.has("base_url")) {
            (_, true) => {}
            (written, false) => {
                let missing = if written { "base_url" } else { "base_url and format" };
                let message = format!("`{name}` is no well-known provider, so it needs {missing}");
                item.report.suggest(entry.key_at, &item.path, message, closest(name, names));
                return None;
            }
        }
        return own(name, section, around, url, format.map(|(_, wire)| wire));
    };
    known(name, preset, section, around, url, format.map(|(_, wire)| wire))
}

/// The preset that an entry builds on: by its name, by a URL that is a preset's, or by a format that only one speaks.
fn preset(name: &str, wire: Option<Wire>, url: Option<&str>) -> Option<&'static Preset> {
    let by_format = || match wire? {
        Wire::Anthropic => presets::find("anthropic"),
        Wire::Gemini => presets::find("gemini"),
        Wire::Azure => presets::find("azure"),
        Wire::Cohere => presets::find("cohere"),
        Wire::Ollama => presets::find("ollama"),
        Wire::Bedrock => presets::find("bedrock"),
        Wire::Vertex => presets::find("vertex"),
        Wire::Demo => presets::find("demo"),
        Wire::OpenAi => None,
    };
    let by_url = || match url? {
        presets::COHERE_AS_OPENAI => presets::find("cohere"),
        url => presets::ALL.iter().find(|preset| !preset.base_url.is_empty() && preset.base_url == url),
    };
    presets::find(name).or_else(by_url).or_else(by_format)
}

fn known(
    name: &str,
    preset: &'static Preset,
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    url: Option<(Item<'_>, &str)>,
    wire: Option<Wire>,
) -> Option<Configured> {
    // That address says what is spoken there.
    let says_openai = url.as_ref().is_some_and(|(_, url)| *url == presets::COHERE_AS_OPENAI);
    let wire = wire.or(says_openai.then_some(Wire::OpenAi));
    let is_azure = wire.map_or(preset.name == "azure", |wire| wire == Wire::Azure);
    let (format, auth) = match wire {
        Some(wire) => spoken(wire),
        None => (preset.format, preset.auth),
    };
    let mut provider = Provider::new(name, format, preset.base_url, auth);
    provider.preset = Some(preset.name);

    let endpoint = (around.env)("AZURE_OPENAI_ENDPOINT").filter(|url| is_azure && url.starts_with("http"));
    match (&url, endpoint) {
        (Some((item, url)), _) => {
            check_url(item, url);
            provider.base_url = with_path(url, format, preset.is_local());
        }
        (None, Some(endpoint)) => provider.base_url = endpoint.trim_end_matches('/').to_owned(),
        (None, None) if is_azure && !section.has("base_url") => {
            section.problem("azure needs base_url, your resource's endpoint: https://NAME.openai.azure.com");
        }
        (None, None) if preset.name == "cohere" && format == Format::OpenAi => {
            provider.base_url = presets::COHERE_AS_OPENAI.to_owned();
        }
        (None, None) => {}
    }
    if is_azure {
        clouds::azure(&mut section, &mut provider);
    }
    let shelf = Shelf::open(Some(preset), around.today);
    match format {
        Format::Bedrock => {
            let region = clouds::bedrock(&mut section, &mut provider, around, url.is_some());
            return finish(provider, section, around, &shelf.within(region.as_deref()), false);
        }
        Format::Vertex => {
            clouds::vertex(&mut section, &mut provider, around, url.is_some());
            return finish(provider, section, around, &shelf, false);
        }
        _ => {}
    }

    let key_env = if is_azure { clouds::azure_env(&provider) } else { preset.key_env };
    let key = section.get("api_key").and_then(|item| item.text());
    match key {
        Some(key) => provider.api_key = Some(key.to_owned().into()),
        // A URL of one's own may belong to anybody: the usual key goes to the usual place only.
        None if url.is_none() || is_azure => {
            provider.api_key = key_env.iter().find_map(|name| (around.env)(name)).map(Into::into);
        }
        None => {}
    }
    if provider.api_key.is_none() && url.is_none() && preset.auth != Auth::None && !section.has("api_key") {
        section.problem(format!("{} needs api_key; write it, or set {}", preset.name, key_env.join(" or ")));
    }
    // A local server needs no key, but it may want one.
    if provider.api_key.is_some() && provider.auth == Auth::None {
        provider.auth = Auth::Bearer;
    }
    finish(provider, section, around, &shelf, is_azure)
}

/// A provider that no preset knows: the file says where it is.
fn own(
    name: &str,
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    url: Option<(Item<'_>, &str)>,
    wire: Option<Wire>,
) -> Option<Configured> {
    if !section.has("format") {
        section.problem("a server of your own needs format; most speak openai");
    }
    let (format, auth) = spoken(wire.unwrap_or(Wire::OpenAi));
    let base_url = url.as_ref().map_or("", |(_, url)| *url);
    if let Some((item, url)) = &url {
        check_url(item, url);
    }
    let mut provider = Provider::new(name, format, base_url, auth);
    provider.api_key = section.get("api_key").and_then(|item| item.text()).map(|key| key.to_owned().into());
    let shelf = Shelf::open(None, around.today);
    finish(provider, section, around, &shelf, false)
}

/// What all providers have in common.
fn finish(
    mut provider: Provider,
    mut section: Section<'_>,
    around: &Surroundings<'_>,
    shelf: &Shelf,
    is_azure: bool,
) -> Option<Configured> {
    let known = provider.preset.and_then(presets::find);
    let has_usual_batches = known.is_some_and(|preset| {
        preset.has_batches && preset.base_url == provider.base_url && preset.format == provider.format
    });
    if (provider.api_key.is_some() || provider.identity.is_some()) && is_exposed(&provider.base_url) {
        section.report.warn(section.at, &section.path, "the key travels unencrypted; use https");
    }
    set(&mut provider.insecure_tls, section.flag("insecure_tls"));
    if provider.insecure_tls {
        let message =
            "INSECURE: certificates are not checked; whoever answers at this address gets its key and every prompt";
        section.report.warn(section.at, &section.path, message);
    }
    set(&mut provider.priority, section.count("priority", 0..=1_000_000).map(|count| count.0 as u32));
    set(&mut provider.weight, section.count("weight", 0..=1_000_000).map(|count| count.0 as u32));
    provider.max_concurrency = section.count("max_concurrency", 1..=100_000).map(|count| count.0 as usize);
    provider.transform = section.section("transform").map(transforms::of_provider).map(Arc::new);
    provider.headers = section.get("headers").map(|item| headers(&item)).unwrap_or_default();
    provider.batch = batches::of_provider(&mut section, &provider, has_usual_batches);
    let upstream = ["breaker", "retry", "timeouts"].iter().any(|key| section.has(key));
    let upstream = Some(sections::upstream(&mut section, around.upstream)).filter(|_| upstream);

    let deployment = if is_azure { section.get("deployment") } else { None };
    let written = section.get("models").map(|item| models::listed(&item, shelf));
    let is_written = section.has("models");
    let mut models = written.unwrap_or_else(|| shelf.models());
    if let Some(item) = deployment {
        match (models.as_mut_slice(), is_written) {
            ([model], true) => model.deployment = item.text().map(str::to_owned),
            _ => item.problem("one deployment serves one model: list exactly one, or write `deployment` at each"),
        }
    }
    if let Some(item) = section.get("fault") {
        provider.fault = fault(&item, provider.format, &models);
    }
    let one_clouds_own = |key: &str| {
        let owner = match key {
            "api_version" | "deployment" | "auth" => "azure",
            "region" | "access_key_id" | "secret_access_key" | "session_token" => "bedrock",
            "project" | "location" | "credentials" => "vertex",
            _ => return None,
        };
        Some(format!("`{key}` has a meaning for {owner} only"))
    };
    let (report, at, path) = (section.report, section.at, section.path.clone());
    section.finish_with(one_clouds_own);

    let provider = Arc::new(provider);
    let discover = !is_written && models.is_empty();
    if !discover && !models.iter().any(|model| model.routable) {
        report.warn(at, &path, "no alias such as `auto` picks any of its models; list those to be picked");
    }
    let targets = models.into_iter().map(|model| Arc::new(Target::new(&provider, model))).collect();
    Some(Configured { provider, targets, discover, upstream })
}

fn spoken(wire: Wire) -> (Format, Auth) {
    match wire {
        Wire::OpenAi => (Format::OpenAi, Auth::Bearer),
        Wire::Azure => (Format::OpenAi, Auth::Header("api-key")),
        Wire::Anthropic => (Format::Anthropic, Auth::Header("x-api-key")),
        Wire::Gemini => (Format::Gemini, Auth::Header("x-goog-api-key")),
        Wire::Cohere => (Format::Cohere, Auth::Bearer),
        // Local, and sometimes behind a proxy that wants a key.
        Wire::Ollama => (Format::Ollama, Auth::Bearer),
        Wire::Bedrock => (Format::Bedrock, Auth::Bearer),
        Wire::Vertex => (Format::Vertex, Auth::Bearer),
        Wire::Demo => (Format::Demo, Auth::None),
    }
}

fn check_url(item: &Item<'_>, url: &str) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        Some(host) if host.contains('@') => item.problem("a URL must not contain a password; use api_key or headers"),
        Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {}
        _ if url.starts_with("demo:") => {}
        _ => item.problem(format!("{} is not a URL; write for instance https://api.example.com/v1", item.shown())),
    }
}

/// Official SDKs take these base URLs without the version segment; ours carry it.
fn with_path(url: &str, format: Format, is_local: bool) -> String {
    let has_path = url.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    match format {
        _ if has_path => url.to_owned(),
        Format::Anthropic => format!("{url}/v1"),
        Format::Gemini => format!("{url}/v1beta"),
        Format::Cohere => format!("{url}/v2"),
        Format::OpenAi if is_local => format!("{url}/v1"),
        Format::Vertex => format!("{url}/v1"),
        Format::OpenAi | Format::Bedrock | Format::Ollama | Format::Demo => url.to_owned(),
    }
}

/// Whether a key sent there could be read on the way: plain HTTP beyond this machine.
fn is_exposed(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', ':']).next().unwrap_or_default();
    !(host == "localhost" || host.starts_with("127.") || rest.starts_with("[::1]"))
}

fn headers(item: &Item<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (entry, item) in item.named("a map of headers") {
        let Some(value) = item.text() else { continue };
        if http::HeaderName::try_from(entry.key.as_str()).is_err() {
            item.report.problem(entry.key_at, &item.path, "not a valid header name");
        } else if http::HeaderValue::try_from(value).is_err() {
            item.problem("the value holds characters that a header cannot carry");
        } else {
            headers.push((entry.key.to_ascii_lowercase(), value.to_owned()));
        }
    }
    headers
}

fn fault(item: &Item<'_>, format: Format, models: &[Model]) -> Option<Fault> {
    if format != Format::Demo {
        item.problem("only a provider with `format: demo` makes faults");
        return None;
    }
    let mut section = item.section()?;
    let mut fault = Fault::default();
    // `on` is written as a list, `models`.
    for word in Fault::WORDS.into_iter().filter(|word| *word != "on") {
        let Some(item) = section.get(word) else { continue };
        let Some(value) = item.scalar() else { continue };
        match fault.set(word, Some(&value)) {
            Err(problem) => item.problem(problem.to_string()),
            Ok(()) if fault.needs_a_connection() == Some(word) => {
                item.problem(
                    "needs a real connection, which the embedded demo provider has not; `stepwell demo` plays it",
                );
            }
            Ok(()) => {}
        }
    }
    let listed = section.get("models").and_then(|item| item.texts("a list of models")).unwrap_or_default();
    for (item, name) in listed {
        if models.iter().any(|model| model.id == name) {
            fault.models.push(name.to_owned());
        } else {
            item.unknown("model", name, models.iter().map(|model| model.id.as_str()));
        }
    }
    section.finish();
    Some(fault)
}
