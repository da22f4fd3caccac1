//! Why a candidate ended, and when that is no end but a failure.

use crate::chat::Finish;
use crate::provider::failure::{Failure, FailureKind};

/// What a candidate has said so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said {
    /// Text, thoughts or calls.
    pub something: bool,
    pub calls: bool,
}

/// The finish of a candidate, and the raw reason where ours says less. `Ok(None)` if it has not ended.
pub fn finish(reason: Option<&str>, said: Said) -> Result<Option<(Finish, Option<&str>)>, Failure> {
    let failed =
        |what: &str| Err(Failure::new(FailureKind::Malformed, format!("the model ended its answer with {what}")));
    Ok(Some(match reason {
        None | Some("" | "FINISH_REASON_UNSPECIFIED") => return Ok(None),
        // A limit or a filter is the truth even if a call came before it.
        Some("MAX_TOKENS") => (Finish::Length, None),
        Some(word @ ("SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE")) => {
            (Finish::ContentFilter, Some(word))
        }
        Some(word) if word.starts_with("IMAGE_") => (Finish::ContentFilter, Some(word)),
        Some(word) if word.contains("FUNCTION_CALL") || word.contains("TOOL_CALL") || word.contains("SIGNATURE") => {
            return failed(word);
        }
        // Also "STOP" with nothing said: a clean stop would tell the caller that this is the answer.
        Some(word) if !said.something => return failed(&format!("{word} and nothing said")),
        Some("STOP") if said.calls => (Finish::ToolCalls, None),
        Some("STOP") => (Finish::Stop, None),
        Some(word) => (Finish::Stop, Some(word)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_wins_over_a_call_and_an_empty_stop_is_a_failure() {
        let finish = |reason, something, calls| finish(Some(reason), Said { something, calls });
        let of = |result: Result<Option<(Finish, Option<&str>)>, Failure>| result.expect("an end").expect("an end").0;
        assert_eq!(of(finish("STOP", true, true)), Finish::ToolCalls);
        assert_eq!(of(finish("STOP", true, false)), Finish::Stop);
        assert_eq!(of(finish("MAX_TOKENS", true, true)), Finish::Length);
        assert_eq!(of(finish("MAX_TOKENS", false, false)), Finish::Length);
        assert_eq!(of(finish("IMAGE_SAFETY", false, false)), Finish::ContentFilter);
        assert!(finish("STOP", false, false).is_err());
        assert!(finish("MALFORMED_FUNCTION_CALL", true, false).is_err());
        assert!(finish("UNEXPECTED_TOOL_CALL", true, true).is_err());
    }
}
