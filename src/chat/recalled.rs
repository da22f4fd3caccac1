//! What an answer carried beside its tool calls and must come back word for word.
//!
//! Chat has no place for signed thinking and thought signatures. They travel as further members of the assistant
//! message, which many clients drop; then what was remembered is put back, where the caller left it out.

use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::message::{Message, Role};
use super::object::Extra;

/// The member of an assistant message with its signed thinking: a list of `thinking` and `redacted_thinking` blocks.
pub const THINKING_BLOCKS: &str = "thinking_blocks";
/// The member of a tool call with Google's thought signature.
pub const EXTRA_CONTENT: &str = "extra_content";

/// The signed parts of one call. Without `Serialize`, and silent in `Debug`: they belong in no log and on no disk.
#[derive(Clone)]
pub struct Signed {
    /// The name of the wire format that signed them; no other one understands them.
    pub format: &'static str,
    /// Of the turn as a whole, shared by all calls of the turn.
    pub thinking_blocks: Option<Arc<RawValue>>,
    pub extra_content: Option<Box<RawValue>>,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What is remembered of a call that the request's history holds.
#[derive(Clone, Debug)]
pub struct Recalled {
    pub call: String,
    pub signed: Arc<Signed>,
}

/// Puts back what `message` lacks. What the caller sent itself always stands.
pub(super) fn put_back(message: &mut Message, recalled: &[Recalled]) {
    if message.role != Role::Assistant {
        return;
    }
    for call in &mut message.tool_calls {
        let Some(known) = recalled.iter().find(|known| known.call == call.id) else { continue };
        add(&mut call.extra, EXTRA_CONTENT, known.signed.extra_content.as_deref());
        add(&mut message.extra, THINKING_BLOCKS, known.signed.thinking_blocks.as_deref());
    }
}

fn add(extra: &mut Extra, name: &str, value: Option<&RawValue>) {
    let Some(value) = value else { return };
    match extra.iter_mut().find(|(known, _)| &**known == name) {
        Some((_, given)) if given.get() != "null" => {}
        Some((_, given)) => *given = value.to_owned(),
        None => extra.push((name.into(), value.to_owned())),
    }
}
