//! The trouble that the demo provider is to make: by configuration, or by a directive inside the prompt.
//!
//! `[[fault status=503 on=large]]` anywhere in the last user turn makes `demo/large` fail; without `on` every demo model
//! does. The words are those of [`Fault`]; those that need a real connection are refused by name.

use crate::catalog::Target;
use crate::catalog::fault::{BadFault, Fault, directives};
use crate::chat::Prompt;

/// What the file and the prompt ask for; the prompt wins.
pub fn of(target: &Target, prompt: &Prompt<'_>) -> Result<Fault, BadFault> {
    let model = target.model.id.as_str();
    let meets = |fault: &Fault| fault.concerns(model) && drawn(prompt, model) < fault.rate;
    let mut trouble = target.provider.fault.clone().filter(meets).unwrap_or_default();
    for directive in directives(&prompt.head).chain(directives(&prompt.tail)) {
        if meets(&Fault::parse(directive)?) {
            trouble.read(directive)?;
        }
    }
    match trouble.needs_a_connection() {
        Some(word) => Err(BadFault::Value {
            word: word.to_owned(),
            reason: "needs a real connection, which the embedded demo provider has not; `stepwell demo` plays it"
                .to_owned(),
        }),
        None => Ok(trouble),
    }
}

/// A number in 0..1 that depends on the prompt alone: a rate of 20 % concerns the same fifth of all prompts every time.
fn drawn(prompt: &Prompt<'_>, model: &str) -> f64 {
    let hash = super::answer::seed(&[&prompt.head, &prompt.tail, model]);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
