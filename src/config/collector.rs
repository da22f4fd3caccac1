//! The section `telemetry`, and the variables by which OpenTelemetry is usually switched on.
//!
//! What the file says wins over the environment. `OTEL_EXPORTER_OTLP_ENDPOINT` alone is enough; the other variables add to
//! it or to what the file says. `OTEL_SDK_DISABLED=true` switches everything off.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::reader::{Item, Section, set};
use crate::telemetry::settings::{Otlp, Propagate, Settings};

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the environment alone asks for.
pub(super) fn from_env(env: Env<'_>) -> Settings {
    let otlp = endpoint(env).map(|endpoint| Arc::new(with_env(Otlp::at(endpoint), env)));
    Settings { otlp: otlp.filter(|_| !is_disabled(env)), ..Settings::default() }
}

pub(super) fn telemetry(mut section: Section<'_>, env: Env<'_>) -> Settings {
    let mut settings = from_env(env);
    let propagate = section.get("propagate").and_then(|item| item.choice(&Propagate::CHOICES));
    set(&mut settings.propagate, propagate);
    if let Some(section) = section.section("otlp") {
        settings.otlp = otlp(section, env).map(|otlp| Arc::new(with_env(otlp, env))).filter(|_| !is_disabled(env));
    }
    section.finish();
    settings
}

fn otlp(mut section: Section<'_>, env: Env<'_>) -> Option<Otlp> {
    let written = section.get("endpoint").and_then(|item| collector(&item));
    if !section.has("endpoint") && endpoint(env).is_none() {
        section.problem("needs `endpoint`, such as http://127.0.0.1:4318, or OTEL_EXPORTER_OTLP_ENDPOINT");
    }
    let mut otlp = Otlp::at(written.clone().or_else(|| endpoint(env)).unwrap_or_default());
    if let Some(item) = section.get("protocol")
        && item.text().is_some_and(|text| text != HTTP)
    {
        let why = format!("only {HTTP} is spoken; every collector takes it, usually on port 4318");
        item.problem(format!("{} is not supported: {why}", item.shown()));
    }
    otlp.headers = section.get("headers").map(|item| headers(&item)).unwrap_or_default();
    set(&mut otlp.traces, section.flag("traces"));
    set(&mut otlp.metrics, section.flag("metrics"));
    set(&mut otlp.sample, section.share("sample"));
    set(&mut otlp.interval, section.span("interval", Duration::from_millis(100)..=Duration::from_secs(3600)));
    set(&mut otlp.timeout, section.span("timeout", Duration::from_millis(10)..=Duration::from_secs(300)));
    if let Some(resource) = section.get("resource") {
        for (entry, item) in resource.named("a map of attributes") {
            otlp.resource.extend(item.scalar().map(|value| (entry.key.clone(), value)));
        }
    }
    section.finish();
    (!otlp.endpoint.is_empty()).then_some(otlp)
}

const HTTP: &str = "http/protobuf";

/// A collector's address without a slash at the end.
fn collector(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let sound = sound(text);
    match &sound {
        None if text.contains('@') => item.problem("a URL must not contain a password; use `headers`"),
        None => item.problem(format!("{} is not an address; write for instance http://127.0.0.1:4318", item.shown())),
        Some(url) if url.ends_with("/v1/traces") || url.ends_with("/v1/metrics") => {
            item.problem("`/v1/traces` and `/v1/metrics` are added to it; leave them out");
        }
        Some(_) => {}
    }
    sound
}

fn sound(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty());
    (is_web && !text.contains(['@', '?', '#'])).then(|| text.trim_end_matches('/').to_owned())
}

fn headers(item: &Item<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (entry, item) in item.named("a map of headers") {
        let Some(value) = item.text() else { continue };
        match header(&entry.key, value) {
            Some(header) => headers.push(header),
            None => item.problem("this name or value cannot be sent as a header"),
        }
    }
    headers
}

/// Its value is not shown: it is often a key.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name).ok()?, value))
}

/// An address in the environment that is none is as good as none: it was set for other programs, too.
fn endpoint(env: Env<'_>) -> Option<String> {
    sound(&env("OTEL_EXPORTER_OTLP_ENDPOINT")?)
}

fn is_disabled(env: Env<'_>) -> bool {
    env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Adds what the variables say and the file does not.
fn with_env(mut otlp: Otlp, env: Env<'_>) -> Otlp {
    for (name, value) in env("OTEL_EXPORTER_OTLP_HEADERS").map(|list| pairs(&list)).unwrap_or_default() {
        let new = header(&name, &value).filter(|(name, _)| otlp.headers.iter().all(|(known, _)| known != name));
        otlp.headers.extend(new);
    }
    let service = env("OTEL_SERVICE_NAME").map(|name| ("service.name".to_owned(), name));
    let listed = env("OTEL_RESOURCE_ATTRIBUTES").map(|list| pairs(&list)).unwrap_or_default();
    for (key, value) in service.into_iter().chain(listed) {
        if otlp.resource.iter().all(|(known, _)| *known != key) {
            otlp.resource.push((key, value));
        }
    }
    otlp
}

/// `a=1,b=2`, values percent-encoded, as the specification of the variables says.
fn pairs(list: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let value = value.trim().as_bytes();
        let mut decoded = Vec::with_capacity(value.len());
        let mut at = 0;
        while at < value.len() {
            let escape = value.get(at + 1..at + 3).filter(|_| value[at] == b'%');
            let byte = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            decoded.push(byte.unwrap_or(value[at]));
            at += if byte.is_some() { 3 } else { 1 };
        }
        let (key, value) = (key.trim().to_owned(), String::from_utf8(decoded).ok()?);
        (!key.is_empty()).then_some((key, value))
    };
    list.split(',').filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => "http://collector:4318/",
            "OTEL_EXPORTER_OTLP_HEADERS" => "authorization=Basic%20abc, x-team = a ,broken,=x",
            "OTEL_SERVICE_NAME" => "llm",
            "OTEL_RESOURCE_ATTRIBUTES" => "service.name=ignored,deployment.environment.name=prod%2",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_usual_variables_switch_it_on() {
        let settings = from_env(&env);
        let otlp = settings.otlp.as_deref().expect("a collector");
        assert_eq!(otlp.endpoint, "http://collector:4318");
        let told: Vec<_> =
            otlp.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(told, [("authorization", "Basic abc"), ("x-team", "a")]);
        assert!(!format!("{settings:?}").contains("abc"), "values are not printed");
        let named: Vec<_> = otlp.resource.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(named, [("service.name", "llm"), ("deployment.environment.name", "prod%2")]);
        let disabled = |name: &str| if name == "OTEL_SDK_DISABLED" { Some("TRUE".to_owned()) } else { env(name) };
        assert_eq!(from_env(&disabled).otlp, None);
        assert_eq!(from_env(&|_| None), Settings::default());
    }
}
