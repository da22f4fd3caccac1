//! Cohere's chat API, version 2: chat requests written in its words, answers and streams read back.
//!
//! Messages and tools look like OpenAI's; parameters, answers and events do not. A plan that the model makes before it
//! calls tools (`tool_plan`) is reasoning and comes back as `reasoning_content`; citations travel in an extension of the
//! message, `citations`.

mod decode;
mod embed;
mod encode;
mod messages;
mod stream;

use super::adapter::{Adapter, Decoder, Outgoing, Untranslatable, headers, url_from_root};
use super::failure::{Failure, FailureKind};
use crate::catalog::Target;
use crate::chat::{Embed, Finish, Request, Response};

/// How warnings and refusals call the provider.
const NAME: &str = "Cohere";

/// What a base URL may end in; the path below has its own version.
const VERSIONS: [&str; 3] = ["/compatibility/v1", "/v1", "/v2"];

pub struct Cohere;

impl Adapter for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn encode(&self, request: &Request, target: &Target, _task: &str) -> Result<Outgoing, Untranslatable> {
        let (body, warnings) = encode::body(request, &target.model)?;
        Ok(Outgoing {
            url: url_from_root(target, &VERSIONS, "/v2/chat"),
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
            url: url_from_root(target, &VERSIONS, "/v2/embed"),
            headers: headers(&target.provider),
            body: embed::body(embed, target)?,
            script: None,
            warnings: Vec::new(),
        })
    }

    fn vectors(&self, body: &[u8]) -> Result<Response, Failure> {
        embed::answer(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::ChatStream::default())
    }
}

/// Why an answer ended, and the raw reason where ours says less than it. The reasons in `ERROR_` are those of version 1,
/// which some private deployments still send.
fn finish(reason: &str, called: bool) -> Result<(Finish, Option<&str>), Failure> {
    Ok(match reason {
        "COMPLETE" | "STOP_SEQUENCE" | "TOOL_CALL" if called => (Finish::ToolCalls, None),
        "COMPLETE" | "STOP_SEQUENCE" => (Finish::Stop, None),
        "MAX_TOKENS" => (Finish::Length, None),
        "ERROR_LIMIT" => (Finish::Length, Some(reason)),
        "ERROR_TOXIC" => (Finish::ContentFilter, Some(reason)),
        "ERROR" => return Err(Failure::new(FailureKind::ServerError, "the provider ended the answer with an error")),
        "TIMEOUT" => return Err(Failure::new(FailureKind::ServerError, "the provider ran out of time")),
        _ => (Finish::Stop, Some(reason)),
    })
}
