//! Changes to requests and answers that the configuration asks for: headers and members of bodies, set or removed.
//!
//! Values in, values out: what a name means to a provider, nobody here knows. Names that the router itself decides with
//! are refused when the configuration is checked. Without a transformation nothing here runs.

use std::fmt;

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

/// Members of an object in their order, as raw JSON.
pub type Members = Vec<(Box<str>, Box<RawValue>)>;

/// What is changed for one provider, tier or team.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transform {
    pub request: Changes,
    pub response: Changes,
}

impl Transform {
    pub fn is_none(&self) -> bool {
        self.request.is_none() && self.response.is_none()
    }
}

/// Changes in one direction: removed first, then `default`, then `set`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub headers: Headers,
    pub body: Body,
}

impl Changes {
    pub fn is_none(&self) -> bool {
        self.headers.is_none() && self.body.is_none()
    }
}

/// Changes to headers. Values may be secrets and are never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Headers {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<&HeaderName> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("Headers").field("set", &set).field("remove", &self.remove).finish()
    }
}

impl Headers {
    pub fn is_none(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            if let Entry::Occupied(entry) = headers.entry(name) {
                entry.remove_entry_mult();
            }
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }
}

/// Changes to a JSON object.
#[derive(Clone, Default, PartialEq)]
pub struct Body {
    pub remove: Vec<Path>,
    /// Set where nothing is, or `null`.
    pub default: Vec<(Path, Value)>,
    pub set: Vec<(Path, Value)>,
}

/// Paths only: a value may have come from a variable.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = |pairs: &[(Path, Value)]| pairs.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        let mut shown = f.debug_struct("Body");
        shown.field("remove", &self.remove).field("default", &paths(&self.default)).field("set", &paths(&self.set));
        shown.finish()
    }
}

/// A member, or a member of a member: `metadata.env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Box<str>>);

impl Path {
    /// `None` if a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<Box<str>> = text.split('.').map(Into::into).collect();
        parts.iter().all(|part| !part.is_empty()).then_some(Self(parts))
    }

    pub fn first(&self) -> &str {
        &self.0[0]
    }

    pub fn is_top_level(&self) -> bool {
        self.0.len() == 1
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl Body {
    pub fn is_none(&self) -> bool {
        self.remove.is_empty() && self.default.is_empty() && self.set.is_empty()
    }

    /// The paths that may change.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.remove.iter().chain(self.default.iter().chain(&self.set).map(|(path, _)| path))
    }

    /// The part of it that concerns members for which `concerns` says so.
    pub fn only(&self, concerns: impl Fn(&str) -> bool) -> Self {
        let pairs = |pairs: &[(Path, Value)]| {
            pairs.iter().filter(|(path, _)| concerns(path.first())).cloned().collect::<Vec<_>>()
        };
        Self {
            remove: self.remove.iter().filter(|path| concerns(path.first())).cloned().collect(),
            default: pairs(&self.default),
            set: pairs(&self.set),
        }
    }

    /// Changes what it names; all other members keep their bytes.
    pub fn apply(&self, members: &mut Members) {
        for path in &self.remove {
            remove(members, path);
        }
        for (path, value) in &self.default {
            put(members, path, value, false);
        }
        for (path, value) in &self.set {
            put(members, path, value, true);
        }
    }

    /// The same for an object's text; `None` if it is none.
    pub fn applied(&self, body: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(body).ok()?;
        let mut members = read(text)?;
        self.apply(&mut members);
        Some(write(&members))
    }
}

fn remove(members: &mut Members, path: &Path) {
    if path.is_top_level() {
        members.retain(|(name, _)| **name != *path.first());
        return;
    }
    within(members, path, false, |object, last| {
        object.remove(last);
    });
}

fn put(members: &mut Members, path: &Path, value: &Value, replace: bool) {
    if !path.is_top_level() {
        return within(members, path, true, |object, last| {
            if replace || object.get(last).is_none_or(Value::is_null) {
                object.insert(last.to_owned(), value.clone());
            }
        });
    }
    let Ok(raw) = to_raw_value(value) else { return };
    let mut known = members.iter_mut().filter(|(name, _)| **name == *path.first()).peekable();
    if known.peek().is_none() {
        drop(known);
        members.push((path.first().into(), raw));
        return;
    }
    for (_, slot) in known {
        if replace || slot.get() == "null" {
            slot.clone_from(&raw);
        }
    }
}

/// Changes the object that holds the last part of a path; without one, one is made if `make`. What is no object on the
/// way there is left alone.
fn within(members: &mut Members, path: &Path, make: bool, change: impl Fn(&mut Map<String, Value>, &str)) {
    let Some(([first, inner @ ..], last)) = path.0.split_last().map(|(last, rest)| (rest, last)) else { return };
    if make
        && !members.iter().any(|(name, _)| name == first)
        && let Ok(empty) = to_raw_value(&Map::new())
    {
        members.push((first.clone(), empty));
    }
    for (_, slot) in members.iter_mut().filter(|(name, _)| name == first) {
        let Ok(mut value) = serde_json::from_str::<Value>(slot.get()) else { continue };
        let mut place = &mut value;
        if make && place.is_null() {
            *place = Value::Object(Map::new());
        }
        for part in inner {
            let Value::Object(object) = place else { break };
            if make {
                object.entry(&**part).or_insert_with(|| Value::Object(Map::new()));
            }
            match object.get_mut(&**part) {
                Some(next) => place = next,
                None => return,
            }
        }
        if let Value::Object(object) = place {
            change(object, last);
            if let Ok(raw) = to_raw_value(&value) {
                *slot = raw;
            }
        }
    }
}

/// An object's members; a name that stands twice stands there twice.
fn read(text: &str) -> Option<Members> {
    struct Pairs(Members);
    impl<'de> serde::Deserialize<'de> for Pairs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Pairs;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                    let mut members = Members::new();
                    while let Some(pair) = map.next_entry()? {
                        members.push(pair);
                    }
                    Ok(Pairs(members))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }
    serde_json::from_str::<Pairs>(text).ok().map(|pairs| pairs.0)
}

fn write(members: &Members) -> Vec<u8> {
    let mut out = Vec::with_capacity(members.iter().map(|(name, value)| name.len() + value.get().len() + 6).sum());
    for (name, value) in members {
        out.push(if out.is_empty() { b'{' } else { b',' });
        // Writing a string to memory as JSON cannot fail.
        let _ = serde_json::to_writer(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value.get().as_bytes());
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    fn changed(body: &Body, text: &str) -> String {
        String::from_utf8(body.applied(text.as_bytes()).expect("an object")).expect("UTF-8")
    }

    #[test]
    fn members_are_removed_given_defaults_and_set_and_the_rest_keeps_its_bytes() {
        let body = Body {
            remove: vec![path("user"), path("a.b.c"), path("none.at.all")],
            default: vec![(path("temperature"), json!(0.2)), (path("top_p"), json!(1)), (path("m.env"), json!("d"))],
            set: vec![(path("tier"), json!("flex")), (path("m.deep.er"), json!(true)), (path("n.x"), json!(1))],
        };
        assert_eq!(
            changed(
                &body,
                r#"{"x": 1e400 ,"user":"u","a":{"b":{"c":1,"d":2}},"top_p":null,"tier":1,"m":{"env":"p"},"n":7}"#
            ),
            r#"{"x":1e400,"a":{"b":{"d":2}},"top_p":1,"tier":"flex","m":{"env":"p","deep":{"er":true}},"n":7,"temperature":0.2}"#
        );
        assert_eq!(changed(&Body::default(), "{}"), "{}");
        assert_eq!(body.applied(b"[]"), None);
    }

    #[test]
    fn nothing_that_may_be_a_secret_is_shown() {
        let headers =
            Headers { set: vec![("x-a".parse().expect("a name"), HeaderValue::from_static("canary"))], remove: vec![] };
        let body = Body { set: vec![(path("a"), json!("canary"))], ..Body::default() };
        let shown = format!("{:?}", Changes { headers, body });
        assert!(shown.contains("x-a") && !shown.contains("canary"), "{shown}");
    }
}
