//! A request with some members put in place of others: what rewrites a request goes through here, so that it is read and
//! checked like one that came so.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::object::Extra;
use super::request::{Invalid, Request};

impl Request {
    /// The same request with new values for members that it has. Everything else keeps its bytes.
    ///
    /// # Errors
    /// What comes out is not a request.
    pub fn with_members(&self, edits: &[(&str, Box<RawValue>)]) -> Result<Self, Invalid> {
        let edited = |name: &str| edits.iter().find(|(edited, _)| *edited == name).map(|(_, value)| value.get());
        self.made_of(self.members().map(|(name, value)| (name, edited(name).unwrap_or(value))))
    }

    /// The same request made of these members.
    ///
    /// # Errors
    /// They are not a request.
    pub fn with_all_members(&self, members: &Extra) -> Result<Self, Invalid> {
        self.made_of(members.iter().map(|(name, value)| (&**name, value.get())))
    }

    fn made_of<'a>(&self, members: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Invalid> {
        let mut body = String::with_capacity(self.body().len() + 64);
        for (name, value) in members {
            body.push(if body.is_empty() { '{' } else { ',' });
            body.push_str(&serde_json::to_string(name).unwrap_or_default());
            body.push(':');
            body.push_str(value);
        }
        body.push('}');
        let mut read = Self::parse(Bytes::from(body))?;
        read.native.clone_from(&self.native);
        read.forwarded.clone_from(&self.forwarded);
        read.recalled.clone_from(&self.recalled);
        if self.embed.is_some() {
            read.embed.clone_from(&self.embed);
            // Vectors have no answer to be reserved for, whatever the body says.
            read.max_tokens = self.max_tokens;
        }
        Ok(read)
    }
}
