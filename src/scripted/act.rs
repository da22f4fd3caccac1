//! What is done with one request: what is said, and what goes wrong on the way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::catalog::Fault;
use crate::catalog::fault::{BadFault, Break, Breaking};

/// What is done with one request. Made by the functions of this module, changed by its methods.
#[derive(Clone, Debug)]
pub struct Act {
    pub(super) content: Content,
    pub(super) fault: Fault,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A chat answer, plain or streamed as the request wants it.
    Chat(String),
    /// What a model would do with the request: call its tools, fill its schema, else this text.
    Model(String),
    Raw {
        content_type: String,
        body: Vec<u8>,
    },
    /// Pieces of a stream, whatever was asked for.
    Events(Vec<String>),
    /// These bytes and no others, head included; then the connection is closed.
    Wire(Vec<u8>),
}

fn of(content: Content) -> Act {
    Act { content, fault: Fault::default() }
}

/// Says `text`, one word a chunk in a stream.
pub fn chat(text: &str) -> Act {
    of(Content::Chat(text.to_owned()))
}

/// Behaves like a model: calls the offered tools until it has a result, answers JSON where a schema is given, and says
/// `text` otherwise; with `n` choices and `logprobs` where they are asked for.
pub fn model(text: &str) -> Act {
    of(Content::Model(text.to_owned()))
}

/// Answers with this status; from 400 on with an error in OpenAI's shape.
pub fn status(status: u16) -> Act {
    let act = chat("");
    Act { fault: Fault { status: Some(status), ..act.fault }, ..act }
}

/// Answers with this status and these bytes, which pass for `content_type`.
pub fn raw(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Act {
    let act = of(Content::Raw { content_type: content_type.to_owned(), body: body.into() });
    Act { fault: Fault { status: Some(status), ..act.fault }, ..act }
}

/// Streams these events, and `[DONE]` after them unless the stream breaks.
pub fn events(events: &[Value]) -> Act {
    of(Content::Events(events.iter().map(|event| format!("data: {event}\n\n")).collect()))
}

/// Streams these bytes, and nothing after them; each piece is cut at multiples of the slice.
pub fn pieces(pieces: impl IntoIterator<Item = String>) -> Act {
    let act = of(Content::Events(pieces.into_iter().collect()));
    Act { fault: Fault { no_done: true, ..act.fault }, ..act }
}

/// Writes these bytes in the place of everything, status line included, and closes the connection.
pub fn wire(bytes: impl Into<Vec<u8>>) -> Act {
    of(Content::Wire(bytes.into()))
}

/// Accepts the request and says nothing.
pub fn hang() -> Act {
    chat("").breaking(Breaking::Stall, None)
}

/// Accepts the request and resets the connection.
pub fn reset() -> Act {
    chat("").breaking(Breaking::Reset, None)
}

/// A chat answer with the trouble of a text in the grammar of [`Fault`].
///
/// # Errors
/// The text cannot be read.
pub fn fault(text: &str) -> Result<Act, BadFault> {
    chat("hello from upstream").with(text)
}

/// The answer to a request whose fault cannot be read.
pub(super) fn refusal(bad: &BadFault) -> Act {
    let error =
        json!({"message": bad.to_string(), "type": "invalid_request_error", "param": null, "code": "invalid_fault"});
    raw(400, "application/json", json!({"error": error}).to_string())
}

impl Act {
    /// Adds the words of a text in the grammar of [`Fault`].
    ///
    /// # Errors
    /// The text cannot be read.
    pub fn with(mut self, text: &str) -> Result<Self, BadFault> {
        self.fault.read(text)?;
        Ok(self)
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fault.headers.push((name.into(), value.into()));
        self
    }

    /// Waits before the head of the answer.
    pub fn after(mut self, delay: Duration) -> Self {
        self.fault.delay = delay;
        self
    }

    /// Writes so many bytes at once.
    pub fn sliced(mut self, bytes: usize) -> Self {
        self.fault.slice = bytes;
        self
    }

    /// Pauses after each piece of a stream.
    pub fn paced(mut self, pace: Duration) -> Self {
        self.fault.pace = pace;
        self
    }

    /// Announces more than it sends, and leaves the connection open.
    pub fn unfinished(mut self) -> Self {
        self.fault.length = 1000;
        self.stall()
    }

    /// Closes the connection after the content, without the end that the protocol wants.
    pub fn cut(self) -> Self {
        self.breaking(Breaking::Cut, Some(Break::AFTER_ALL))
    }

    /// Says no more after the content, with the connection open.
    pub fn stall(self) -> Self {
        self.breaking(Breaking::Stall, Some(Break::AFTER_ALL))
    }

    /// Breaks after so many tokens; `None`: before anything is sent.
    pub fn breaking(mut self, how: Breaking, after: Option<u64>) -> Self {
        self.fault.breaks = Some(Break { how, after });
        self
    }
}
