//! Wire protocols: what is sent to a provider and what its bytes mean.
//!
//! Adapters are functions on bytes: they never await, never read a clock, an environment variable or the configuration.
//! [`transport`] alone talks to the network.

pub mod adapter;
pub mod anthropic;
pub mod cohere;
pub mod demo;
pub mod failure;
pub mod framing;
pub mod gemini;
mod media;
pub mod ollama;
pub mod openai;
#[cfg(test)]
mod replay;
pub mod transport;
mod wanted;
#[cfg(test)]
mod wire;

use adapter::Adapter;

use crate::catalog::Format;

/// The adapter of a wire format.
pub fn adapter(format: Format) -> &'static dyn Adapter {
    match format {
        Format::OpenAi => &openai::OpenAi,
        Format::Anthropic => &anthropic::Anthropic,
        Format::Gemini => &gemini::Gemini,
        Format::Cohere => &cohere::Cohere,
        Format::Ollama => &ollama::Ollama,
        Format::Demo => &demo::Demo,
    }
}
