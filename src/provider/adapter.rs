//! What a wire protocol has to answer for: functions from values to bytes and back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret;

use super::demo::Script;
use super::failure::Failure;
use super::framing::{Event, Framing};
use crate::catalog::{Auth, Provider, Target};
use crate::chat::{Chunk, Dialect, Embed, Inputs, Request, Response, Usage, Vector};

/// A request as it goes out: a POST, of JSON unless it asks for an access token.
#[derive(Debug)]
pub struct Outgoing {
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// An answer played in-process instead of a call over the network; only `demo` has one.
    pub script: Option<Script>,
    /// What could not be said in this format and was left out, for `x-stepwell-warnings`.
    pub warnings: Vec<String>,
}

/// The request asks for something that this format cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{param}` cannot be sent to this provider: {reason}")]
pub struct Untranslatable {
    pub param: String,
    pub reason: String,
}

/// One wire protocol. Sans I/O: no await, no clock, no environment, no configuration.
pub trait Adapter: Send + Sync {
    /// The format's name as in the configuration file.
    fn name(&self) -> &'static str;

    /// The dialect of callers that this format is, too: it takes their own words.
    fn speaks(&self) -> Option<Dialect> {
        None
    }

    /// Writes `request` for `target`. `task` is what classification found; only `demo` answers by it.
    fn encode(&self, request: &Request, target: &Target, task: &str) -> Result<Outgoing, Untranslatable>;

    /// Reads a whole answer. An error object inside a 200 is a failure.
    fn decode(&self, body: &[u8]) -> Result<Response, Failure>;

    fn framing(&self) -> Framing {
        Framing::Sse
    }

    /// Writes a request for embeddings.
    fn encode_embed(&self, _request: &Request, _embed: &Embed, _target: &Target) -> Result<Outgoing, Untranslatable> {
        Err(Untranslatable { param: "input".into(), reason: format!("`{}` has no embeddings", self.name()) })
    }

    /// Reads the vectors of [`Adapter::encode_embed`], in the order of its inputs.
    fn vectors(&self, _body: &[u8]) -> Result<Response, Failure> {
        Err(Failure::malformed("an answer that was never asked for"))
    }

    /// A decoder for one stream; it owns its state.
    fn decoder(&self) -> Box<dyn Decoder>;

    /// Reads an error answer (status 300 and above). `now_unix` resolves HTTP dates.
    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], now_unix: i64) -> Failure {
        Failure::of_answer(status, headers, body, now_unix)
    }
}

/// What one upstream event means.
#[derive(Debug)]
pub enum Piece {
    Chunk(Chunk),
    /// The provider says that the stream is complete.
    Done,
    Failure(Failure),
    /// An event that cannot be read; the stream goes on.
    Unreadable,
}

/// Turns the events of one stream into pieces. Events come whole, see [`super::framing`].
pub trait Decoder: Send {
    fn event(&mut self, event: &Event, pieces: &mut Vec<Piece>);
}

/// An answer of vectors.
pub fn embedded(id: String, model: String, vectors: Vec<Vector>, usage: Option<Usage>) -> Response {
    Response { id, created: 0, model, choices: Vec::new(), vectors, usage, extra: Vec::new() }
}

/// The texts of an embeddings request, for formats that take no token ids.
pub fn texts(embed: &Embed) -> Result<&[String], Untranslatable> {
    match &embed.inputs {
        Inputs::Texts(texts) => Ok(texts),
        Inputs::Tokens(_) => Err(Untranslatable {
            param: "input".into(),
            reason: "token ids mean something to OpenAI's models only".into(),
        }),
    }
}

/// The address of `path` at the target's provider, with the provider's own query.
pub fn url(target: &Target, path: &str) -> String {
    with_query(format!("{}{path}", target.provider.url(&target.model)), &target.provider)
}

/// The address of `path` where the API begins, for those that have one version only: whichever of `versions` ends the
/// configured URL is not part of that place.
pub fn url_from_root(target: &Target, versions: &[&str], path: &str) -> String {
    let base = target.provider.url(&target.model);
    let root = versions.iter().find_map(|version| base.strip_suffix(version)).unwrap_or(&base);
    with_query(format!("{root}{path}"), &target.provider)
}

fn with_query(mut url: String, provider: &Provider) -> String {
    for (name, value) in &provider.query {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(value);
    }
    url
}

/// The headers of every request: content type, the provider's own additions, then its credential.
pub fn headers(provider: &Provider) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4 + provider.headers.len());
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &provider.headers {
        // Names and values were checked when the configuration was loaded.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            headers.insert(name, value);
        }
    }
    if let Some(key) = &provider.api_key {
        let (name, value) = match &provider.auth {
            Auth::Bearer => (http::header::AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            Auth::Header(name) => (HeaderName::from_static(name), key.expose_secret().to_owned()),
            Auth::None => return headers,
        };
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}
