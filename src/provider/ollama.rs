//! Ollama's own API, `/api/chat`: one JSON a line instead of events, arguments as objects, calls without ids.
//!
//! Its OpenAI-compatible API is `format: openai`, which is what the preset speaks. This one also tells how a model is
//! loaded (`options`, `keep_alive`) and whether it thinks.

mod decode;
mod embed;
mod encode;
mod messages;

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url_from_root};
use super::failure::Failure;
use super::framing::Framing;
use crate::catalog::Target;
use crate::chat::{Embed, Request, Response};

/// How warnings and refusals call the provider.
const NAME: &str = "Ollama";

/// What a base URL may end in: the other API's version, or this one's place.
const VERSIONS: [&str; 2] = ["/v1", "/api"];

pub struct Ollama;

impl Adapter for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let (body, warnings) = encode::body(request, &target.model)?;
        Ok(Outgoing {
            url: url_from_root(target, &VERSIONS, "/api/chat"),
            headers: headers(&target.provider),
            body: body.into(),
            script: None,
            warnings,
        })
    }

    fn decode(&self, body: &[u8]) -> Result<Response, Failure> {
        decode::answer(body)
    }

    fn encode_embed(&self, _request: &Request, embed: &Embed, target: &Target) -> Result<Outgoing, Untranslatable> {
        Ok(Outgoing {
            url: url_from_root(target, &VERSIONS, "/api/embed"),
            headers: headers(&target.provider),
            body: embed::body(embed, target)?,
            script: None,
            warnings: Vec::new(),
        })
    }

    fn vectors(&self, body: &[u8]) -> Result<Response, Failure> {
        embed::answer(body)
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(decode::ChatStream::default())
    }
}
