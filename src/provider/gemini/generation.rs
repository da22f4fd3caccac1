//! What a Gemini model can be told, by the version in its name.

/// `gemini-2.5-flash` is (2, 5), `gemini-3-pro-preview` is (3, 0). Names without a version (`gemini-flash-latest`) count
/// as the newest; other families (Gemma) as the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u32, u32);

impl Generation {
    pub fn of(id: &str) -> Self {
        let Some((_, rest)) = id.split_once("gemini-") else { return Self(0, 0) };
        let word = rest.split(['-', '@']).next().unwrap_or_default();
        let (major, minor) = word.split_once('.').unwrap_or((word, "0"));
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Self(major, minor),
            _ => Self(u32::MAX, 0),
        }
    }

    /// Takes a thinking level; from 2.5 on it is a budget (Gemini API, Thinking).
    pub fn has_levels(self) -> bool {
        self >= Self(3, 0)
    }

    pub fn may_think(self) -> bool {
        self >= Self(2, 5)
    }

    /// Takes JSON schemas as they are; older ones take a subset of OpenAPI's (Gemini API, Structured output).
    pub fn takes_json_schema(self) -> bool {
        self >= Self(2, 5)
    }

    /// Answers in JSON although functions are offered; older ones refuse the combination.
    pub fn answers_json_beside_tools(self) -> bool {
        self >= Self(3, 0)
    }

    /// Refuses a function call without its signature (Gemini API, Thought signatures).
    pub fn wants_signatures(self) -> bool {
        self >= Self(3, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_name() {
        for (id, major, minor) in [
            ("gemini-2.5-flash", 2, 5),
            ("gemini-3-pro-preview", 3, 0),
            ("models/gemini-3.1-pro", 3, 1),
            ("gemma-3-27b-it", 0, 0),
        ] {
            assert_eq!(Generation::of(id), Generation(major, minor), "{id}");
        }
        assert!(Generation::of("gemini-flash-latest").has_levels());
    }
}
