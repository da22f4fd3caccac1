//! What a request says beside chat: the words of another dialect, kept for providers that speak it, and embeddings.

use bytes::Bytes;

use super::request::Request;

/// The dialects besides chat completions in which a body may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's Messages.
    Messages,
}

/// What the caller wrote, before it became a chat request.
#[derive(Clone, Debug)]
pub struct Native {
    pub dialect: Dialect,
    /// A JSON object without `model`, `stream` and stepwell's own members: whoever sends it adds the first two.
    pub body: Bytes,
    /// What the chat request cannot say of it, for `x-stepwell-warnings` where another dialect is spoken.
    pub notes: Vec<String>,
}

/// A request for vectors instead of an answer. Its chat body holds the texts, so that lengths and limits count.
#[derive(Clone, Debug)]
pub struct Embed {
    pub inputs: Inputs,
    pub dimensions: Option<u32>,
    /// The caller's body, for providers that speak OpenAI's dialect.
    pub body: Bytes,
}

#[derive(Clone, Debug)]
pub enum Inputs {
    Texts(Vec<String>),
    /// Token ids mean something to the named model's own provider only; so many lists of them.
    Tokens(usize),
}

impl Inputs {
    /// How many vectors are wanted.
    pub fn count(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(count) => *count,
        }
    }
}

impl Request {
    /// All that the caller wrote, the inputs of embeddings included.
    pub fn words(&self) -> String {
        let mut words = self.all_text();
        if let Some(Inputs::Texts(texts)) = self.embed.as_ref().map(|embed| &embed.inputs) {
            texts.iter().for_each(|text| words.push_str(text));
        }
        words
    }
}
