//! What classification may read of a request: a bounded view, whatever the size of the prompt.

use std::borrow::Cow;

/// The last user turn, cut to a head and a tail, with what it may refer to and what the request's structure shows.
#[derive(Clone, Debug, Default)]
pub struct Prompt<'a> {
    /// Head of the first system or developer message, at most [`Prompt::CONTEXT_BYTES`].
    pub system: Cow<'a, str>,
    /// The last user turn: its first [`Prompt::HEAD_BYTES`] bytes, all of it if `tail` is empty.
    pub head: Cow<'a, str>,
    /// The last [`Prompt::TAIL_BYTES`] bytes of a last user turn that is longer than the head; else empty.
    pub tail: Cow<'a, str>,
    /// Length of the whole last user turn in bytes (of JSON text, so escapes count).
    pub length: usize,
    /// Head of the user turn before the last one, at most [`Prompt::CONTEXT_BYTES`]; what "and now in French" refers to.
    pub previous_user: Cow<'a, str>,
    /// Head of the assistant's turn before the last user turn, at most [`Prompt::CONTEXT_BYTES`].
    pub previous_assistant: Cow<'a, str>,
    /// Tools offered by the request.
    pub tools: usize,
    /// `tool_choice` is `none`: the tools are not to be called now.
    pub tools_forbidden: bool,
    /// The conversation ends with a tool's result.
    pub answers_tool: bool,
    /// Images, audio and files in the last user turn.
    pub images: usize,
    pub audio: usize,
    pub files: usize,
    /// The answer is to be JSON (`response_format`).
    pub wants_json: bool,
}

impl Prompt<'_> {
    pub const HEAD_BYTES: usize = 2048;
    pub const TAIL_BYTES: usize = 1024;
    pub const CONTEXT_BYTES: usize = 512;
}
