//! The rules of one stream, enforced whatever the provider sends: the role first, one finish_reason a choice, nothing
//! after it, usage apart, and no end that was not announced.

use super::chunk::{Chunk, ChunkChoice};
use super::object::{Extra, MAX_MEMBERS};
use super::response::Finish;
use super::usage::Usage;

/// More choices than any request may ask for (`n` is at most this) are not an answer: they are left out.
pub const MAX_CHOICES: usize = 128;

/// State of one stream. Feed it every chunk, then ask [`Sequence::end`].
#[derive(Debug, Default)]
pub struct Sequence {
    choices: Vec<ChoiceState>,
    /// Members of chunks without choices, such as Azure's filter results; they ride on the next chunk that has some.
    carried: Extra,
    /// The last believable count; providers repeat and correct theirs.
    pub usage: Option<Usage>,
    /// The model and the id of the first chunk that named them.
    pub model: Option<String>,
    pub id: Option<String>,
}

#[derive(Debug)]
struct ChoiceState {
    index: u32,
    called_tools: bool,
    finish: Option<Finish>,
}

/// The stream stopped before it was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl Sequence {
    /// Straightens one chunk. `None` if nothing is left to send.
    pub fn accept(&mut self, mut chunk: Chunk) -> Option<Chunk> {
        // An absurd count takes the place of none.
        if let Some(usage) = chunk.usage.take().filter(|usage| !usage.is_refused || self.usage.is_none()) {
            self.usage = Some(usage);
        }
        self.model = self.model.take().or(chunk.model.take());
        self.id = self.id.take().or(chunk.id.take());
        chunk.choices.retain_mut(|choice| self.accept_choice(choice));
        let carried = std::mem::take(&mut self.carried);
        chunk.extra.extend(
            carried
                .into_iter()
                .filter(|(name, _)| !chunk.extra.iter().any(|(known, _)| known == name))
                .collect::<Extra>(),
        );
        if chunk.choices.is_empty() {
            // Clients read `choices[0]` of whatever comes before the usage.
            chunk.extra.truncate(MAX_MEMBERS);
            self.carried = chunk.extra;
            return None;
        }
        Some(chunk)
    }

    fn accept_choice(&mut self, choice: &mut ChunkChoice) -> bool {
        let position = self.choices.iter().position(|state| state.index == choice.index);
        let first = position.is_none();
        if first && self.choices.len() >= MAX_CHOICES {
            return false;
        }
        let position = position.unwrap_or_else(|| {
            self.choices.push(ChoiceState { index: choice.index, called_tools: false, finish: None });
            self.choices.len() - 1
        });
        let state = &mut self.choices[position];
        if state.finish.is_some() {
            return false;
        }
        choice.delta.role = first;
        state.called_tools |= !choice.delta.tool_calls.is_empty();
        if choice.finish == Some(Finish::Stop) && state.called_tools {
            // Some layers say "stop" after a tool call (protocol notes, section 6).
            choice.finish = Some(Finish::ToolCalls);
        }
        state.finish = choice.finish;
        first || choice.finish.is_some() || choice.delta.has_content() || !choice.extra.is_empty()
    }

    /// True once every choice seen has its finish_reason.
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|state| state.finish.is_some())
    }

    /// The end of the upstream's bytes. `done`: the provider said `[DONE]` or its like. Returns a last chunk if a
    /// provider that said so forgot the finish_reason of a text. A silent end without one is a cut, never a finish.
    pub fn end(&mut self, done: bool) -> Result<Option<Chunk>, Cut> {
        if self.is_finished() {
            return Ok(None);
        }
        // Half a call and a whole one look alike: only a finish_reason says that its arguments are complete.
        let calls_openly = self.choices.iter().any(|state| state.finish.is_none() && state.called_tools);
        if !done || self.choices.is_empty() || calls_openly {
            return Err(Cut);
        }
        let mut last = Chunk::default();
        for state in self.choices.iter_mut().filter(|state| state.finish.is_none()) {
            state.finish = Some(Finish::Stop);
            last.choices.push(ChunkChoice { index: state.index, finish: state.finish, ..ChunkChoice::default() });
        }
        Ok(Some(last))
    }

    /// True if every choice ended of its own accord: what may be cached.
    pub fn ended_with_stop(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|state| state.finish == Some(Finish::Stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Delta, ToolCallDelta};

    #[test]
    fn the_role_comes_once_and_first() {
        let mut sequence = Sequence::default();
        let first = sequence.accept(Chunk::text("a")).expect("a chunk");
        let second = sequence.accept(Chunk::text("b")).expect("a chunk");
        assert!(first.choices[0].delta.role && !second.choices[0].delta.role);
    }

    #[test]
    fn a_finish_comes_once_and_nothing_after_it() {
        let mut sequence = Sequence::default();
        sequence.accept(Chunk::text("a"));
        assert!(sequence.accept(Chunk::finish(Finish::Length)).is_some());
        assert!(sequence.accept(Chunk::finish(Finish::Stop)).is_none());
        assert!(sequence.accept(Chunk::text("late")).is_none());
        assert!(matches!(sequence.end(false), Ok(None)), "a finish and the end of the bytes is success without [DONE]");
    }

    #[test]
    fn a_stream_without_finish_is_cut_unless_the_provider_says_done() {
        let mut sequence = Sequence::default();
        sequence.accept(Chunk::text("a"));
        assert!(matches!(sequence.end(false), Err(Cut)));
        let last = sequence.end(true).expect("done").expect("a chunk");
        assert_eq!(last.choices[0].finish, Some(Finish::Stop));
        assert!(matches!(Sequence::default().end(true), Err(Cut)), "done without anything is no answer");
    }

    #[test]
    fn a_chunk_without_choices_is_not_sent_and_its_members_are_not_lost() {
        let mut sequence = Sequence::default();
        let raw = serde_json::value::to_raw_value(&1).expect("JSON");
        let bare = || Chunk { extra: vec![("x".into(), raw.clone())], ..Chunk::default() };
        assert!(sequence.accept(bare()).is_none() && sequence.accept(bare()).is_none());
        assert_eq!(sequence.accept(Chunk::text("a")).expect("a chunk").extra.len(), 1);
        assert!(sequence.accept(Chunk::text("b")).expect("a chunk").extra.is_empty());
    }

    #[test]
    fn a_stop_after_tool_calls_is_tool_calls() {
        let mut sequence = Sequence::default();
        let delta = Delta { tool_calls: vec![ToolCallDelta::default()], ..Delta::default() };
        sequence.accept(Chunk { choices: vec![ChunkChoice { delta, ..ChunkChoice::default() }], ..Chunk::default() });
        let last = sequence.accept(Chunk::finish(Finish::Stop)).expect("a chunk");
        assert_eq!(last.choices[0].finish, Some(Finish::ToolCalls));
    }
}
