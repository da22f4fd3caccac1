//! What a Claude model can be told, by the version in its name.
//!
//! The catalogue says whether a model reasons or answers by a schema; how it wants to be asked for that changed from
//! version to version (Anthropic's API reference: Extended thinking, Adaptive thinking, Effort, Migration guide).

/// The version in a model's id: `claude-opus-4-5-20251101` is (4, 5), `claude-3-haiku-20240307` is (3, 0).
/// Unknown names count as the newest: new names are more often new models than old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u32, u32);

impl Generation {
    pub fn of(id: &str) -> Self {
        let Some(at) = id.find("claude-") else { return Self(u32::MAX, 0) };
        // Versions have one or two digits, dates eight. Amazon writes `claude-3-haiku-20240307-v1:0`.
        let numbers = id[at..].split(['-', '.', '@', ':']).filter_map(|word| match word.len() {
            1 | 2 => word.parse::<u32>().ok(),
            _ => None,
        });
        let mut numbers = numbers.take(2);
        match numbers.next() {
            Some(major) => Self(major, numbers.next().unwrap_or(0)),
            None => Self(u32::MAX, 0),
        }
    }

    /// Thinks as much as it finds fit, steered by `effort`, instead of within a budget.
    pub fn is_adaptive(self) -> bool {
        self >= Self(4, 6)
    }

    /// Knows the effort `xhigh`. Opus 4.6 refuses it: "Supported levels: high, low, max, medium" (recording).
    pub fn has_xhigh(self) -> bool {
        self >= Self(4, 7)
    }

    /// Takes temperature or top_p, but not both.
    pub fn takes_one_sampling_member(self) -> bool {
        self >= Self(4, 1)
    }

    /// Refuses all of temperature, top_p and top_k.
    pub fn refuses_sampling(self) -> bool {
        self >= Self(4, 7)
    }

    /// Thinks if told to; asked only where the catalogue knows nothing.
    pub fn may_think(self) -> bool {
        self >= Self(3, 7)
    }

    /// Answers by a schema; asked only where the catalogue knows nothing.
    pub fn has_structured_output(self) -> bool {
        self >= Self(4, 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_every_style_of_name() {
        for (id, major, minor) in [
            ("claude-opus-4-5-20251101", 4, 5),
            ("claude-sonnet-4-20250514", 4, 0),
            ("claude-3-5-sonnet-20240620", 3, 5),
            ("claude-3-haiku-20240307", 3, 0),
            ("anthropic/claude-sonnet-4.5", 4, 5),
            ("claude-fable-5", 5, 0),
        ] {
            assert_eq!(Generation::of(id), Generation(major, minor), "{id}");
        }
        assert!(Generation::of("claude-mythos-preview").is_adaptive(), "no version: the newest");
        assert!(Generation::of("my-deployment").is_adaptive());
    }
}
