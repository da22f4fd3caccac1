//! A stream in every format, up to the answer that its chunks make. Every line is one event's data; the part before a
//! tab is its name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stepwell::catalog::Format;
use stepwell::chat::{Assembly, Sequence};
use stepwell::provider::adapter;
use stepwell::provider::adapter::Piece;
use stepwell::provider::framing::Event;

const FORMATS: [Format; 6] =
    [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::Cohere, Format::Ollama, Format::Bedrock];

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let events: Vec<Event> = text
        .lines()
        .map(|line| {
            let (name, data) = line.split_once('\t').unwrap_or(("", line));
            Event { name: name.to_owned(), data: data.to_owned(), stray: name == "stray" }
        })
        .collect();
    for format in FORMATS {
        let (mut decoder, mut pieces) = (adapter(format).decoder(), Vec::new());
        events.iter().for_each(|event| decoder.event(event, &mut pieces));
        let (mut sequence, mut assembly) = (Sequence::default(), Assembly::default());
        for piece in pieces {
            if let Piece::Chunk(chunk) = piece
                && let Some(chunk) = sequence.accept(chunk)
            {
                assembly.push(&chunk);
            }
        }
    }
});
