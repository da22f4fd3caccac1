//! A turn made ready for matching: lowered once, cut into what asks and what is given, its shape counted on the way.

/// How much of the opening and the ending is read as the request itself. Longer turns are mostly quoted material.
const OPENING: usize = 480;
const ENDING: usize = 240;

/// Courtesies in front of a request. They are dropped, so that rules can say "at the start".
const COURTESIES: &[&str] = &[
    "please ",
    "pls ",
    "kindly ",
    "hello ",
    "hello, ",
    "hello! ",
    "hello. ",
    "hi ",
    "hi, ",
    "hi! ",
    "hi. ",
    "hey ",
    "hey, ",
    "can you please ",
    "could you please ",
    "can you ",
    "could you ",
    "would you ",
    "will you ",
    "i want you to ",
    "i would like you to ",
    "i'd like you to ",
    "i need you to ",
    "you need to ",
    "you are asked to ",
    "in this task, ",
    "help me to ",
    "help me ",
    "user\n",
    "请问",
    "请你",
    "请",
    "帮我",
    "por favor ",
    "por favor, ",
    "bitte ",
    "s'il te plaît ",
    "s'il vous plaît ",
    "puedes ",
    "¿puedes ",
    "peux-tu ",
    "pouvez-vous ",
    "kannst du ",
];

/// What a turn looks like, whatever its words.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Bytes of the whole turn, not only of what is in view.
    pub length: usize,
    /// Numbers in view; `1,000` is one, or two, which does not matter.
    pub numbers: usize,
}

/// One turn, lowered.
pub(super) struct View {
    /// The opening and, if the turn is long, its ending.
    pub ask: Vec<u8>,
    /// All that is in view.
    pub text: Vec<u8>,
    pub shape: Shape,
}

impl View {
    pub fn new(head: &str, tail: &str, length: usize) -> Self {
        let mut text = Vec::with_capacity(head.len() + tail.len() + 1);
        lower(head, &mut text);
        if !tail.is_empty() {
            text.push(b'\n');
            lower(tail, &mut text);
        }
        let start = courtesies(&text);
        let ask = &text[start..];
        let ask = if ask.len() <= OPENING + ENDING {
            ask.to_vec()
        } else {
            [&ask[..OPENING], b"\n", &ask[ask.len() - ENDING..]].concat()
        };
        let numbers = text.windows(2).filter(|pair| !pair[0].is_ascii_digit() && pair[1].is_ascii_digit()).count()
            + usize::from(text.first().is_some_and(u8::is_ascii_digit));
        Self { ask, shape: Shape { length, numbers }, text }
    }
}

/// Lowers ASCII and the Latin letters of two bytes, straightens the typographic apostrophe.
fn lower(from: &str, to: &mut Vec<u8>) {
    let mut rest = from.trim().as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, rest) {
            // U+00C0 to U+00DE are 0x20 below their small letters, but for the multiplication sign.
            (0xC3, [second @ 0x80..=0x9E, after @ ..]) if *second != 0x97 => {
                to.extend([0xC3, second + 0x20]);
                rest = after;
            }
            (0xE2, [0x80, 0x99, after @ ..]) => {
                to.push(b'\'');
                rest = after;
            }
            _ => to.push(byte.to_ascii_lowercase()),
        }
    }
}

/// Where the request starts, courtesies and opening quotes skipped.
fn courtesies(text: &[u8]) -> usize {
    let mut at = 0;
    // Bounded, so that "please please please ..." stays cheap.
    for _ in 0..6 {
        at += text[at..].iter().take_while(|byte| b" \t\r\n\"'*#".contains(byte)).count();
        match COURTESIES.iter().find(|courtesy| text[at..].starts_with(courtesy.as_bytes())) {
            Some(courtesy) => at += courtesy.len(),
            None => break,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> String {
        String::from_utf8(View::new(head, "", head.len()).ask).expect("UTF-8")
    }

    #[test]
    fn a_request_starts_after_its_courtesies() {
        assert_eq!(asked("Hi, could you please WRITE a poem"), "write a poem");
        assert_eq!(asked("请翻译"), "翻译");
        assert_eq!(asked("ÜBERSETZE don’t"), "übersetze don't");
    }

    #[test]
    fn a_long_turn_is_read_at_both_ends() {
        let turn = format!("Summarize this. {} THE END", "x".repeat(2000));
        let asked = asked(&turn);
        assert!(asked.starts_with("summarize") && asked.ends_with("the end") && asked.len() <= OPENING + ENDING + 1);
    }

    #[test]
    fn numbers_are_counted_as_groups() {
        assert_eq!(View::new("3 apples, 12 pears and x4", "", 0).shape.numbers, 3);
    }
}
