//! Hints from headers and body. The body wins over headers, `context` over `metadata`.

mod litellm;

use http::HeaderMap;
use serde_json::value::RawValue;

use crate::chat::{Invalid, Object, Request};
use crate::gateway::error::Error;
use crate::rank::hints::{BadHint, Hints};
use crate::rank::settings::Strategy;

const PREFIX: &str = "x-stepwell-";

/// Reads all hints of a request.
pub fn read(headers: &HeaderMap, request: &Request) -> Result<Hints, Error> {
    let mut hints = Hints::default();
    for (name, value) in headers {
        if let Some(theirs) = name.as_str().strip_prefix(litellm::PREFIX) {
            litellm::set(&mut hints, theirs, value, request.stream)?;
        }
        let Some(hint) = name.as_str().strip_prefix(PREFIX) else { continue };
        let value = value.to_str().map_err(|_| bad(hint, "the header is not plain text"))?;
        hints.set(hint, value)?;
    }
    if request.member("metadata").is_some() {
        // Metadata belongs to the caller: only our own words in it are hints, all else passes.
        let metadata: Object<'_> = request.read("metadata").ok_or_else(|| Invalid::kind("metadata", "an object"))?;
        for (name, value) in &metadata.0 {
            let known = Hints::is_known(name);
            if &**name == "tags" && value.get().starts_with('[') {
                litellm::listed_tags(&mut hints, value.get());
            }
            // `{"budget": "team-a"}` is somebody's label, not a wrong hint.
            if known && text(name, value).and_then(|value| hints.set(name, &value)).is_err() {
                hints.unknown.push(format!("metadata.{name}"));
            }
        }
    }
    if request.member("context").is_some() {
        let context: Object<'_> =
            request.read("context").ok_or_else(|| Invalid::kind("context", "an object of hints"))?;
        for (name, value) in &context.0 {
            // Of a hint that nobody knows, nobody knows what its value may be.
            let known = Hints::is_known(&name.to_ascii_lowercase().replace('-', "_"));
            match value.get() {
                "null" => {}
                _ if known => hints.set(name, &text(name, value)?)?,
                _ => hints.unknown.push(name.to_string()),
            }
        }
    }
    if request.member("provider").is_some() {
        let provider: Object<'_> = request.read("provider").ok_or_else(|| Invalid::kind("provider", "an object"))?;
        openrouter(&provider, &mut hints)?;
    }
    Ok(hints)
}

/// OpenRouter's `provider` object (its documentation, "Provider Routing").
fn openrouter(provider: &Object<'_>, hints: &mut Hints) -> Result<(), Error> {
    let list = |name: &str| -> Result<Vec<String>, Error> {
        match provider.get(name) {
            None => Ok(Vec::new()),
            Some(_) => {
                Ok(provider.read(name).ok_or_else(|| Invalid::kind(format!("provider.{name}"), "a list of strings"))?)
            }
        }
    };
    hints.order = list("order")?;
    let (only, ignore) = (list("only")?, list("ignore")?);
    if !only.is_empty() {
        hints.only = only;
    }
    hints.avoid.extend(ignore);
    if provider.get("sort").is_some_and(|sort| sort.get() != "null") {
        let sort: String = provider.read("sort").ok_or_else(|| Invalid::kind("provider.sort", "a string"))?;
        let strategy =
            Strategy::parse(&sort).ok_or_else(|| bad("provider.sort", "expected price, throughput or latency"))?;
        hints.strategy = hints.strategy.or(Some(strategy));
    }
    let flag = |name: &str| match provider.get(name).map(serde_json::value::RawValue::get) {
        None | Some("null") => Ok(None),
        Some(_) => {
            let flag: Option<bool> = provider.read(name);
            flag.map(Some).ok_or_else(|| Invalid::kind(format!("provider.{name}"), "a boolean"))
        }
    };
    hints.no_fallbacks = flag("allow_fallbacks")? == Some(false);
    hints.require_parameters = flag("require_parameters")? == Some(true);
    if provider.get("max_price").is_some_and(|price| price.get() != "null") {
        let price: Object<'_> =
            provider.read("max_price").ok_or_else(|| Invalid::kind("provider.max_price", "an object"))?;
        // A limit that cannot be read must not be ignored.
        let amount = |name: &str| match price.get(name).map(serde_json::value::RawValue::get) {
            None | Some("null") => Ok(None),
            Some(_) => {
                let amount = price.read::<f64>(name).or_else(|| price.read::<String>(name)?.parse().ok());
                let amount = amount.filter(|amount| *amount >= 0.0);
                amount.map(Some).ok_or_else(|| {
                    Invalid::kind(format!("provider.max_price.{name}"), "USD per million tokens, 0 or more")
                })
            }
        };
        hints.max_prompt_price = amount("prompt")?;
        hints.max_completion_price = amount("completion")?;
    }
    for (name, _) in &provider.0 {
        let known = ["order", "only", "ignore", "sort", "allow_fallbacks", "require_parameters", "max_price"];
        if !known.contains(&&**name) {
            hints.unknown.push(format!("provider.{name}"));
        }
    }
    Ok(())
}

/// A JSON value as the text that a header would hold.
fn text(name: &str, value: &RawValue) -> Result<String, BadHint> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|_| bad(name, "not a readable string")),
        Some(b'[') => {
            let list: Vec<String> = serde_json::from_str(raw).map_err(|_| bad(name, "expected a list of strings"))?;
            Ok(list.join(","))
        }
        Some(b'{') => Err(bad(name, "expected a single value")),
        _ => Ok(raw.to_owned()),
    }
}

fn bad(hint: &str, reason: &str) -> BadHint {
    BadHint { hint: hint.to_owned(), reason: reason.to_owned() }
}
