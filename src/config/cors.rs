//! `server.cors`: which web pages may call from a browser.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};

use super::reader::{Item, Section, set};
use crate::units::Span;

/// Without this section no page of another origin may read an answer.
#[derive(Clone, Debug)]
pub struct Cors {
    /// Origins such as `https://app.example.com`: scheme, host and port, without a path. `None`: all, written `["*"]`.
    pub origins: Option<Vec<HeaderValue>>,
    /// Request headers that a page may set. `None`: those that it asks for, because SDKs send many of their own.
    pub headers: Option<Vec<HeaderName>>,
    pub methods: Vec<Method>,
    /// How long a browser remembers a permission. 0s to 24h; browsers cut it to 10m to 24h themselves.
    pub max_age: Span,
    /// Whether pages may send cookies and the browser's own logins. Not together with all origins.
    pub credentials: bool,
}

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn cors(mut section: Section<'_>) -> Cors {
    let mut cors = Cors {
        origins: Some(Vec::new()),
        headers: None,
        methods: vec![Method::GET, Method::POST],
        max_age: Span(Duration::from_secs(600)),
        credentials: false,
    };
    let listed = section.get("origins");
    if listed.is_none() && !section.has("origins") {
        section
            .problem("name the pages that may call under `origins`, such as [\"https://app.example.com\"], or [\"*\"]");
    }
    let origins = listed.as_ref().and_then(|item| item.texts("a list of origins")).unwrap_or_default();
    if let Some(item) = listed.as_ref().filter(|_| origins.is_empty()) {
        item.problem("no page could call; name at least one origin, or leave `cors` out");
    }
    let all = origins.iter().find(|(_, text)| *text == "*").map(|(item, _)| item.clone());
    match &all {
        Some(item) if origins.len() > 1 => item.problem("`*` allows every origin; leave the others out, or `*`"),
        Some(_) => cors.origins = None,
        None => cors.origins = Some(origins.iter().filter_map(|(item, text)| origin(item, text)).collect()),
    }
    let headers = section.get("headers").and_then(|item| item.texts("a list of header names"));
    cors.headers = headers.map(|headers| headers.iter().filter_map(|(item, text)| header(item, text)).collect());
    let methods = section.get("methods").and_then(|item| item.texts("a list of methods"));
    let methods = methods.map(|methods| methods.iter().filter_map(|(item, text)| method(item, text)).collect());
    set(&mut cors.methods, methods);
    set(&mut cors.max_age, section.span("max_age", Duration::ZERO..=DAY));
    let credentials = section.get("credentials");
    set(&mut cors.credentials, credentials.as_ref().and_then(Item::flag));
    if let Some(item) = credentials.filter(|_| cors.credentials && all.is_some()) {
        item.problem("every page could act in the name of its visitors; with `credentials: true` list the `origins`");
    }
    section.finish();
    cors
}

/// An origin as browsers send it, to be compared byte by byte.
fn origin(item: &Item<'_>, text: &str) -> Option<HeaderValue> {
    let uri: Option<Uri> = text.parse().ok();
    let written = uri.as_ref().and_then(|uri| Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?)));
    match written {
        Some(written) if written == text && !text.contains('@') => HeaderValue::from_str(text).ok(),
        Some(written) if !text.contains('@') => {
            item.suggest(format!("{} has more than scheme, host and port", item.shown()), Some(written));
            None
        }
        _ => {
            item.problem(format!("{} is no origin; write for instance https://app.example.com", item.shown()));
            None
        }
    }
}

fn header(item: &Item<'_>, text: &str) -> Option<HeaderName> {
    let name = text.parse().ok();
    if name.is_none() {
        item.problem(format!("{} is no name of a header; leave `headers` out to allow all", item.shown()));
    }
    name
}

fn method(item: &Item<'_>, text: &str) -> Option<Method> {
    let known = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD];
    let method = known.iter().find(|method| method.as_str() == text).cloned();
    if method.is_none() {
        item.unknown("method", text, known.iter().map(Method::as_str));
    }
    method
}
