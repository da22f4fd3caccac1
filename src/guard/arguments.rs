//! JSON text that comes in pieces, such as the arguments of a call: its strings are screened as what they say, not as how
//! they are escaped, and written back as strings. What stands outside of them (numbers) is screened as it is.

use super::screen::Screen;
use super::{Rejected, Shield, Tally};

pub(super) struct Arguments {
    inside: bool,
    /// An escape that is not complete; a surrogate waits for the other one.
    escape: String,
    strings: Screen,
    rest: Screen,
}

impl Arguments {
    pub fn new(shield: &Shield) -> Self {
        Self { inside: false, escape: String::new(), strings: Screen::new(shield), rest: Screen::quoting(shield) }
    }

    /// As [`Screen::push`].
    pub fn push(&mut self, piece: &str, last: bool, tally: &mut Tally) -> Result<String, Rejected> {
        let (mut out, mut text) = (String::with_capacity(piece.len()), String::new());
        for character in piece.chars() {
            self.feed(character, &mut text, &mut out, tally)?;
        }
        self.take(&mut text, last, &mut out, tally)?;
        if last {
            (self.inside, self.escape) = (false, String::new());
        }
        Ok(out)
    }

    fn feed(
        &mut self,
        character: char,
        text: &mut String,
        out: &mut String,
        tally: &mut Tally,
    ) -> Result<(), Rejected> {
        if !self.escape.is_empty() {
            self.escape.push(character);
            match unescaped(&self.escape) {
                Escape::Open => {}
                Escape::Means(meant) => {
                    text.push(meant);
                    self.escape.clear();
                }
                Escape::Broken => {
                    // Half a pair: what came instead of the other half stands for itself.
                    text.push(char::REPLACEMENT_CHARACTER);
                    let escape = std::mem::take(&mut self.escape);
                    for character in escape.chars().skip(6) {
                        self.feed(character, text, out, tally)?;
                    }
                }
            }
        } else if character == '"' {
            self.take(text, true, out, tally)?;
            out.push('"');
            self.inside = !self.inside;
        } else if character == '\\' && self.inside {
            self.escape.push(character);
        } else {
            text.push(character);
        }
        Ok(())
    }

    fn take(&mut self, text: &mut String, last: bool, out: &mut String, tally: &mut Tally) -> Result<(), Rejected> {
        let screen = if self.inside { &mut self.strings } else { &mut self.rest };
        let passed = screen.push(text, last, tally)?;
        text.clear();
        if self.inside {
            let quoted = serde_json::to_string(&passed).unwrap_or_default();
            out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
        } else {
            out.push_str(&passed);
        }
        Ok(())
    }

    /// Whole arguments: `None` if they may stay as they are.
    pub fn whole(shield: &Shield, text: &str, tally: &mut Tally) -> Result<Option<String>, Rejected> {
        let mut found = Tally::default();
        let result = Self::new(shield).push(text, true, &mut found);
        tally.merge(&found);
        let passed = result?;
        Ok(shield.alters().then_some(passed).filter(|_| !found.is_empty()))
    }
}

enum Escape {
    Open,
    Means(char),
    Broken,
}

/// What an escape means; it begins with its backslash.
fn unescaped(escape: &str) -> Escape {
    let unicode = escape.as_bytes().get(1) == Some(&b'u');
    match (unicode, escape.len()) {
        (true, ..=5) => return Escape::Open,
        (true, 6..=11) => {
            let unit = escape.get(2..6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            // The first half of a pair, and so far no other than the second half can follow.
            let is_high = unit.is_some_and(|unit| (0xD800..0xDC00).contains(&unit));
            let goes_on = "\\u".starts_with(escape.get(6..8.min(escape.len())).unwrap_or("?"));
            if is_high && goes_on {
                return Escape::Open;
            }
        }
        _ => {}
    }
    match serde_json::from_str::<String>(&format!("\"{escape}\"")).ok().and_then(|text| text.chars().next()) {
        Some(meant) => Escape::Means(meant),
        None => Escape::Broken,
    }
}
