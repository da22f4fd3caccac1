//! Wire protocols: what is sent to a provider and what its bytes mean.
//!
//! Adapters are functions on bytes: they never await, never read a clock, an environment variable or the configuration.
//! [`transport`] alone talks to the network.

pub mod adapter;
pub mod anthropic;
pub mod batches;
pub mod bedrock;
pub mod capabilities;
pub mod cohere;
pub mod credential;
pub mod demo;
pub mod failure;
pub mod framing;
pub mod gemini;
pub mod headroom;
mod media;
pub mod ollama;
pub mod openai;
#[cfg(test)]
mod replay;
pub mod transport;
pub mod vertex;
mod wanted;
#[cfg(test)]
mod wire;

use adapter::Adapter;

use crate::catalog::{Format, Target};

/// The adapter of a wire format.
pub fn adapter(format: Format) -> &'static dyn Adapter {
    match format {
        Format::OpenAi => &openai::OpenAi,
        Format::Anthropic => &anthropic::Anthropic,
        Format::Gemini => &gemini::Gemini,
        Format::Cohere => &cohere::Cohere,
        Format::Ollama => &ollama::Ollama,
        Format::Bedrock => &bedrock::Bedrock,
        Format::Vertex => &vertex::Gemini,
        Format::Demo => &demo::Demo,
    }
}

/// The adapter for a target: Vertex AI speaks two formats.
pub fn adapter_for(target: &Target) -> &'static dyn Adapter {
    match target.provider.format {
        Format::Vertex if vertex::is_claude(&target.model) => &vertex::Claude,
        format => adapter(format),
    }
}
