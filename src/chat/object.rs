//! A JSON object as ordered members with raw values: the one way in which unknown members survive.
//!
//! `serde(flatten)` would copy every value through an intermediate tree; here a value is a slice of the input until
//! somebody asks for it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Members that this crate has no name for, in their original order.
pub type Extra = Vec<(Box<str>, Box<RawValue>)>;

/// Members without a name here that are kept of one answer. Providers send a handful; a crowd is looked through for each
/// of its members.
pub(super) const MAX_MEMBERS: usize = 256;

/// A borrowed object. Members keep their order; a name may appear twice (see [`Object::duplicate`]).
#[derive(Debug, Default)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// Parses `json` as one object.
pub fn object(json: &str) -> Result<Object<'_>, serde_json::Error> {
    serde_json::from_str(json)
}

impl<'a> Object<'a> {
    /// The raw value of a member; JSON `null` counts as absent.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    /// Removes a member and returns its raw value; JSON `null` is removed and counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(index);
        (value.get() != "null").then_some(value)
    }

    /// Reads a member into `T`; `None` if it is absent, `null` or of another type.
    pub fn read<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Removes a member and reads it into `T`; `None` if it is absent, `null` or of another type.
    pub fn take_as<T: Deserialize<'a>>(&mut self, name: &str) -> Option<T> {
        serde_json::from_str(self.take(name)?.get()).ok()
    }

    /// The first of `names` that appears more than once.
    pub fn duplicate<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.0.iter().filter(|(key, _)| key == name).count() > 1)
    }

    /// What is left, owned: the members that nobody took.
    pub fn rest(self) -> Extra {
        self.0.into_iter().map(|(name, value)| (name.into(), value.to_owned())).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(12);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A member name: borrowed where it holds no escape. (`Cow<str>` alone would always be owned.)
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Makes one member of those that came in pieces under one name: lists go on, objects are filled member by member, and of
/// all else the last word counts. Linear in what was collected, for whoever collects first and joins once.
pub(super) fn join(pieces: Extra) -> Extra {
    let mut joined: Vec<(Box<str>, Vec<Box<RawValue>>)> = Vec::new();
    for (name, value) in pieces {
        let has_room = joined.len() < MAX_MEMBERS;
        match joined.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None if has_room => joined.push((name, vec![value])),
            None => {}
        }
    }
    joined.into_iter().filter_map(|(name, values)| Some((name, whole(values)?))).collect()
}

fn whole(mut values: Vec<Box<RawValue>>) -> Option<Box<RawValue>> {
    if values.len() > 1 {
        let mut sum = Value::Null;
        for value in &values {
            add(&mut sum, serde_json::from_str(value.get()).ok()?);
        }
        return serde_json::value::to_raw_value(&sum).ok();
    }
    values.pop()
}

fn add(sum: &mut Value, piece: Value) {
    match (sum, piece) {
        (_, Value::Null) => {}
        (Value::Array(items), Value::Array(more)) => items.extend(more),
        (Value::Object(members), Value::Object(more)) => {
            for (name, value) in more {
                add(members.entry(name).or_insert(Value::Null), value);
            }
        }
        (sum, piece) => *sum = piece,
    }
}

/// Writes `extra` into an open map.
pub(super) fn write_extra<M: SerializeMap>(map: &mut M, extra: &Extra) -> Result<(), M::Error> {
    for (name, value) in extra {
        map.serialize_entry(name, value)?;
    }
    Ok(())
}
