//! A whole answer, as an answer and as an error, in every format.
#![no_main]

use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use stepwell::catalog::Format;
use stepwell::provider::adapter;

const FORMATS: [Format; 7] = [
    Format::OpenAi,
    Format::Anthropic,
    Format::Gemini,
    Format::Cohere,
    Format::Ollama,
    Format::Bedrock,
    Format::Vertex,
];

fuzz_target!(|bytes: &[u8]| {
    for adapter in FORMATS.map(adapter) {
        let _ = (adapter.decode(bytes), adapter.vectors(bytes));
        let _ = adapter.failure(StatusCode::BAD_REQUEST, &HeaderMap::new(), bytes, 0);
    }
});
