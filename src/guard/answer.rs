//! Answers, screened on their way to one caller: whole ones, and streams chunk by chunk.
//!
//! Each text of each choice (content, refusal, thinking, the arguments of every call) has a screen of its own, and ends
//! where the model goes on to another one or finishes. What could not be screened piece by piece is left out where a rule
//! masks or refuses: log probabilities, which spell the text once more, and what a provider signed over the original.

use serde_json::Value;
use serde_json::value::to_raw_value;

use super::arguments::Arguments;
use super::request::screen;
use super::screen::Screen;
use super::{Rejected, Shield, Tally};
use crate::chat::{Chunk, ChunkChoice, Delta, EXTRA_CONTENT, Extra, MAX_CHOICES, Response, ToolCallDelta};

/// Calls of one choice that are screened apart; more than any model makes at once.
const MOST_CALLS: usize = 256;

/// The answer for one caller.
pub struct AnswerScreen {
    shield: Shield,
    alters: bool,
    choices: Vec<ChoiceScreen>,
    /// What was found so far.
    pub tally: Tally,
}

/// What a model is writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Thinking,
    Content,
    Refusal,
    Call(u32),
}

/// One choice of a stream: the text that is being written.
struct ChoiceScreen {
    index: u32,
    open: Option<(Kind, Text)>,
}

enum Text {
    Plain(Screen),
    Json(Arguments),
    /// The input of a custom tool, which is plain text in a member of its own.
    Custom(Screen),
}

impl Text {
    fn push(&mut self, piece: &str, last: bool, tally: &mut Tally) -> Result<String, Rejected> {
        match self {
            Self::Plain(screen) | Self::Custom(screen) => screen.push(piece, last, tally),
            Self::Json(arguments) => arguments.push(piece, last, tally),
        }
    }
}

impl AnswerScreen {
    pub fn new(shield: Shield) -> Self {
        Self { alters: shield.alters(), shield, choices: Vec::new(), tally: Tally::default() }
    }

    /// A whole answer.
    ///
    /// # Errors
    /// A rule refuses it.
    pub fn whole(&mut self, response: &mut Response) -> Result<(), Rejected> {
        let (shield, tally) = (&self.shield, &mut self.tally);
        for choice in &mut response.choices {
            let message = &mut choice.message;
            for text in [&mut message.reasoning_content, &mut message.content, &mut message.refusal] {
                if let Some(passed) =
                    text.as_deref().map(|text| Screen::whole(shield, text, tally)).transpose()?.flatten()
                {
                    *text = Some(passed);
                }
            }
            for call in &mut message.tool_calls {
                if let Some(passed) = Arguments::whole(shield, &call.arguments, tally)? {
                    call.arguments = passed;
                }
                if let Some((custom, mut value)) = custom(&mut call.extra)
                    && let Some(input) = value.get_mut("input")
                    && screen(shield, input, tally)?
                {
                    put(custom, &value);
                }
                if self.alters {
                    call.extra.retain(|(name, _)| is_safe(name));
                }
            }
            if self.alters {
                message.extra.clear();
                choice.extra.clear();
            }
        }
        extra(shield, &mut response.extra, tally)
    }

    /// One chunk of a stream: what may pass, in up to two chunks. Texts that may still become something stay here until
    /// they are decided.
    ///
    /// # Errors
    /// A rule refuses the answer; nothing of what it found has passed.
    pub fn chunk(&mut self, chunk: &Chunk, passed: &mut Vec<Chunk>) -> Result<(), Rejected> {
        let mut chunk = chunk.clone();
        extra(&self.shield, &mut chunk.extra, &mut self.tally)?;
        let mut before = Chunk::default();
        let mut kept = Vec::with_capacity(chunk.choices.len());
        for mut choice in std::mem::take(&mut chunk.choices) {
            let role = choice.delta.role;
            if let Some(rest) = self.choice(&mut choice)? {
                before.choices.push(rest);
            }
            if role || choice.finish.is_some() || choice.delta.has_content() || !choice.extra.is_empty() {
                kept.push(choice);
            } else if !chunk.extra.is_empty() {
                // Clients read `choices[0]` of every chunk.
                kept.push(choice);
            }
        }
        if !before.choices.is_empty() {
            passed.push(before);
        }
        chunk.choices = kept;
        if !chunk.choices.is_empty() {
            passed.push(chunk);
        }
        Ok(())
    }

    /// Screens one piece of a choice. Returns what was held back of a text that is over, if it has to go before.
    fn choice(&mut self, piece: &mut ChunkChoice) -> Result<Option<ChunkChoice>, Rejected> {
        let Self { shield, alters, choices, tally } = self;
        let position = choices.iter().position(|known| known.index == piece.index).unwrap_or_else(|| {
            choices.push(ChoiceScreen { index: piece.index, open: None });
            choices.len() - 1
        });
        // No more than a stream may have; those are left out before they get here.
        debug_assert!(choices.len() <= MAX_CHOICES);
        let state = &mut choices[position];
        let delta = &mut piece.delta;
        let mut rest = Delta::default();
        let written = Written::of(delta);
        let plain = [
            (Kind::Thinking, &mut delta.reasoning_content),
            (Kind::Content, &mut delta.content),
            (Kind::Refusal, &mut delta.refusal),
        ];
        for (kind, text) in plain {
            let Some(piece) = text.as_mut().filter(|piece| !piece.is_empty()) else { continue };
            *piece = state.turn_to(kind, shield, &mut rest, tally)?.push(piece, false, tally)?;
            if piece.is_empty() {
                *text = None;
            }
        }
        delta.tool_calls.truncate(MOST_CALLS);
        for call in &mut delta.tool_calls {
            let custom = custom(&mut call.extra);
            let screen = state.turn_to(Kind::Call(call.index), shield, &mut rest, tally)?;
            if let Some((raw, mut value)) = custom {
                if let Text::Json(_) = screen {
                    *screen = Text::Custom(Screen::new(shield));
                }
                if let Some(Value::String(input)) = value.get_mut("input") {
                    *input = screen.push(input, false, tally)?;
                    put(raw, &value);
                }
            } else {
                call.arguments = screen.push(&call.arguments, false, tally)?;
            }
            if *alters {
                call.extra.retain(|(name, _)| is_safe(name));
            }
        }
        if *alters {
            delta.extra.clear();
            delta.seal = None;
            piece.extra.clear();
        }
        if piece.finish.is_some() {
            state.close(&mut rest, tally)?;
        }
        written.rejoin(delta, &mut rest);
        let held = rest.has_content();
        Ok(held.then(|| ChunkChoice { index: piece.index, delta: rest, ..ChunkChoice::default() }))
    }
}

/// The texts that a piece goes on with: what was held back of one of them belongs behind it, of others before.
struct Written {
    texts: [bool; 3],
    calls: Vec<u32>,
}

impl Written {
    fn of(delta: &Delta) -> Self {
        let texts = [&delta.reasoning_content, &delta.content, &delta.refusal];
        Self { texts: texts.map(Option::is_some), calls: delta.tool_calls.iter().map(|call| call.index).collect() }
    }

    fn rejoin(&self, delta: &mut Delta, rest: &mut Delta) {
        let pairs = [
            (&mut delta.reasoning_content, &mut rest.reasoning_content),
            (&mut delta.content, &mut rest.content),
            (&mut delta.refusal, &mut rest.refusal),
        ];
        for ((text, rest), _) in pairs.into_iter().zip(self.texts).filter(|(_, written)| *written) {
            if let Some(rest) = rest.take() {
                text.get_or_insert_default().push_str(&rest);
            }
        }
        let (behind, before) = std::mem::take(&mut rest.tool_calls)
            .into_iter()
            .partition::<Vec<_>, _>(|call| self.calls.contains(&call.index));
        rest.tool_calls = before;
        delta.tool_calls.extend(behind);
    }
}

impl ChoiceScreen {
    /// The screen of what is written now; what came before it is over.
    fn turn_to(
        &mut self,
        kind: Kind,
        shield: &Shield,
        rest: &mut Delta,
        tally: &mut Tally,
    ) -> Result<&mut Text, Rejected> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != kind) {
            self.close(rest, tally)?;
        }
        let new = || match kind {
            Kind::Call(_) => Text::Json(Arguments::new(shield)),
            _ => Text::Plain(Screen::new(shield)),
        };
        Ok(&mut self.open.get_or_insert_with(|| (kind, new())).1)
    }

    /// Ends the open text: what was held back of it goes into `rest`.
    fn close(&mut self, rest: &mut Delta, tally: &mut Tally) -> Result<(), Rejected> {
        let Some((kind, mut text)) = self.open.take() else { return Ok(()) };
        let last = text.push("", true, tally)?;
        if last.is_empty() {
            return Ok(());
        }
        let slot = match kind {
            Kind::Thinking => &mut rest.reasoning_content,
            Kind::Content => &mut rest.content,
            Kind::Refusal => &mut rest.refusal,
            Kind::Call(index) => {
                let mut call = ToolCallDelta { index, ..ToolCallDelta::default() };
                match text {
                    Text::Custom(_) => call.extra.extend(
                        to_raw_value(&serde_json::json!({"input": last})).ok().map(|raw| ("custom".into(), raw)),
                    ),
                    _ => call.arguments = last,
                }
                rest.tool_calls.push(call);
                return Ok(());
            }
        };
        slot.get_or_insert_default().push_str(&last);
        Ok(())
    }
}

/// Further members of an answer: values that come whole.
fn extra(shield: &Shield, members: &mut Extra, tally: &mut Tally) -> Result<(), Rejected> {
    for (_, raw) in members {
        if let Ok(mut value) = serde_json::from_str::<Value>(raw.get())
            && screen(shield, &mut value, tally)?
        {
            put(raw, &value);
        }
    }
    Ok(())
}

/// What a custom tool is called with, where the call is one.
fn custom(extra: &mut Extra) -> Option<(&mut Box<serde_json::value::RawValue>, Value)> {
    let (_, raw) = extra.iter_mut().find(|(name, _)| &**name == "custom")?;
    let value = serde_json::from_str(raw.get()).ok()?;
    Some((raw, value))
}

fn put(raw: &mut Box<serde_json::value::RawValue>, value: &Value) {
    if let Ok(written) = to_raw_value(value) {
        *raw = written;
    }
}

/// Members of a call that hold no text of the model's, or were screened.
fn is_safe(name: &str) -> bool {
    name == "custom" || name == EXTRA_CONTENT
}
