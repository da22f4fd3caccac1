//! One try at one target, up to the point where the caller could see something.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::patience::until;
use super::settings::Policy;
use super::stream::OpenStream;
use super::trail::Moments;
use crate::catalog::Target;
use crate::chat::{Assembly, Request, Response, depth};
use crate::provider;
use crate::provider::adapter::Outgoing;
use crate::provider::failure::{Failure, FailureKind};
use crate::provider::headroom::Headroom;
use crate::provider::transport::{Dial, Incoming, Transport};
use crate::telemetry::trace::{SpanId, Trace};
use crate::transform::Headers;

/// Enough of an error answer to read its reason.
const ERROR_BYTES: usize = 64 << 10;
/// The status says what to do; its reason is only worth a short wait.
const ERROR_PATIENCE: Duration = Duration::from_secs(1);

/// What a target answered. A stream has content waiting, or is finished without any.
pub enum Answer {
    Whole(Box<Response>),
    Stream(Box<OpenStream>),
}

/// What one try brought beside its answer.
#[derive(Debug, Default)]
pub struct Heard {
    /// What the provider's format could not say.
    pub warnings: Vec<String>,
    pub headroom: Headroom,
    pub moments: Moments,
}

/// The limits of one try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the first token of a stream, or the head of a plain answer.
    pub first_token: Duration,
    /// The end of the whole request.
    pub deadline: Instant,
    /// A target that could not be told everything is not asked.
    pub require_parameters: bool,
    /// `first_token` is what the caller allows, and less than the target would get otherwise.
    pub is_hurried: bool,
    /// On a new connection, because a kept one broke.
    pub fresh: bool,
    /// Others were asked before: what is left of the whole request may be too little for anybody.
    pub is_later: bool,
}

impl Limits {
    /// What silence until now means: a target that had the time it gets has failed, another one has not.
    fn late(&self) -> FailureKind {
        let cut_short = self.is_hurried || (self.is_later && Instant::now() >= self.deadline);
        if cut_short { FailureKind::Deadline } else { FailureKind::Timeout }
    }
}

/// What is asked, and under which conditions.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub policy: &'a Policy,
    pub request: &'a Request,
    pub task: &'a str,
    pub limits: Limits,
    /// The trace that the request belongs to, and this try's span in it.
    pub trace: Option<(&'a Trace, Option<SpanId>)>,
    /// Changes to headers for the caller's sake; those for the provider's come after them.
    pub headers: &'a [&'a Headers],
}

/// Sends `request` to `target`. Dropping the future closes the connection.
pub async fn attempt(
    transport: &Transport,
    target: &Target,
    question: Question<'_>,
    heard: &mut Heard,
) -> Result<Answer, Failure> {
    let answer = exchange(transport, target, question, heard).await;
    answer.map_err(|failure| failure.without_secrets(&target.provider))
}

/// The request as `target` gets it: in its format, with the changes to headers (those for the provider's sake come last) and
/// to the body that the configuration makes.
///
/// # Errors
/// The format cannot say it.
pub fn outgoing(target: &Target, request: &Request, task: &str, headers: &[&Headers]) -> Result<Outgoing, Failure> {
    let adapter = provider::adapter_for(target);
    let encoded = match &request.embed {
        Some(embed) => adapter.encode_embed(request, embed, target),
        None => adapter.encode(&request.for_format(target.provider.format.as_str()), target, task),
    };
    let mut outgoing = encoded.map_err(|error| {
        let param = Some(error.param.clone());
        Failure { param, ..Failure::new(FailureKind::Untranslatable, error.to_string()) }
    })?;
    if let Some(native) = request.native.as_ref().filter(|native| adapter.speaks() != Some(native.dialect)) {
        outgoing.warnings.extend(native.notes.iter().cloned());
    }
    // Before it is signed.
    headers.iter().for_each(|changes| changes.apply(&mut outgoing.headers));
    if let Some(transform) = &target.provider.transform {
        transform.request.headers.apply(&mut outgoing.headers);
        let body = &transform.request.body;
        // Vectors have members of their own.
        if let Some(changed) = Some(body).filter(|body| !body.is_none() && request.embed.is_none()) {
            outgoing.body = changed.applied(&outgoing.body).map_or(outgoing.body, Bytes::from);
        }
    }
    Ok(outgoing)
}

async fn exchange(
    transport: &Transport,
    target: &Target,
    question: Question<'_>,
    heard: &mut Heard,
) -> Result<Answer, Failure> {
    let Question { policy, request, task, limits, trace, headers } = question;
    let adapter = provider::adapter_for(target);
    let mut outgoing = outgoing(target, request, task, headers)?;
    if limits.require_parameters && !outgoing.warnings.is_empty() {
        let left_out = outgoing.warnings.join("; ");
        return Err(Failure::new(FailureKind::Untranslatable, format!("`provider.require_parameters`: {left_out}")));
    }
    heard.warnings.append(&mut outgoing.warnings);
    let first_token = (Instant::now() + limits.first_token).min(limits.deadline);
    let late = |_| Failure::new(limits.late(), format!("no first token within {:?}", limits.first_token));
    let connect = policy.timeouts.connect.0;
    let dial = Dial { connect, insecure_tls: target.provider.insecure_tls, fresh: limits.fresh };
    if let Some(identity) = &target.provider.identity {
        let authorize = transport.authorize(&mut outgoing, identity, SystemTime::now(), connect);
        until(first_token, authorize).await.map_err(late)??;
    }
    // A fetched token is a secret that the provider's configuration does not know.
    let bearer = outgoing.headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let without_token = |failure: Failure| if bearer.is_empty() { failure } else { failure.without(&bearer) };
    if let Some((trace, span)) = trace {
        trace.introduce(span, &mut outgoing.headers);
    }
    heard.moments.sent = Some(Instant::now().into_std());
    let incoming = until(first_token, transport.send(outgoing, dial)).await.map_err(late)??;
    let now_unix = jiff::Timestamp::now().as_second();
    heard.headroom = Headroom::read(&incoming.headers, now_unix);

    if !incoming.status.is_success() {
        let (status, headers) = (incoming.status, incoming.headers.clone());
        let body = until(first_token.min(Instant::now() + ERROR_PATIENCE), incoming.head(ERROR_BYTES))
            .await
            .unwrap_or_default();
        let mut failure = adapter.failure(status, &headers, &body, now_unix);
        if status.is_redirection() {
            failure = Failure {
                status: Some(status.as_u16()),
                ..Failure::new(FailureKind::Redirect, "the provider redirects; redirects are not followed")
            };
        }
        if let Some(identity) = target.provider.identity.as_ref().filter(|_| failure.kind == FailureKind::Credential) {
            transport.forget(identity);
        }
        return Err(without_token(failure));
    }
    if incoming.status.as_u16() >= 204 {
        // Nothing, a part of something, a report on several things: whatever it says, it is not the whole answer.
        let message = format!("status {} is no whole answer", incoming.status.as_u16());
        return Err(Failure { status: Some(incoming.status.as_u16()), ..Failure::malformed(message) });
    }
    let media_type = incoming.media_type();
    let idle = policy.timeouts.between_tokens.0;
    let framing = adapter.framing().labelled(&media_type);
    let is_stream = match media_type.as_str() {
        media_type if media_type == framing.media_type() => true,
        "application/json" | "text/html" => false,
        // Unlabelled: believe what was asked for.
        _ => request.stream,
    };
    if !is_stream {
        let body = collect(incoming, first_token, idle, limits).await?;
        heard.moments.heard = Some(Instant::now().into_std());
        if std::str::from_utf8(&body).is_ok_and(|text| depth::exceeded(text).is_some()) {
            return Err(Failure::malformed("the answer is nested too deep"));
        }
        let decoded = match &request.embed {
            Some(embed) => adapter.vectors(&body).and_then(|answer| complete(answer, embed.inputs.count())),
            None => adapter.decode(&body),
        };
        return decoded.map(Box::new).map(Answer::Whole).map_err(without_token);
    }
    let mut stream = OpenStream::new(incoming, adapter, framing, idle, &target.provider.name);
    until(first_token, stream.wait_for_content()).await.map_err(late)?.map_err(without_token)?;
    heard.moments.heard = Some(Instant::now().into_std());
    if request.stream {
        return Ok(Answer::Stream(Box::new(stream)));
    }
    // A server that streams although nobody asked: the answer is complete or it is none.
    let whole = whole(stream, limits.deadline).await.map(Box::new).map(Answer::Whole);
    heard.moments.heard = Some(Instant::now().into_std());
    whole
}

/// The whole body. Its first byte has to come in time (white space that keeps the connection open is none), and silence
/// ends it as it ends a stream.
async fn collect(
    mut incoming: Incoming,
    first_token: Instant,
    idle: Duration,
    limits: Limits,
) -> Result<Bytes, Failure> {
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    let (mut begun, mut limit) = (false, first_token);
    loop {
        let late = |_| match begun {
            false => Failure::new(limits.late(), format!("no answer within {:?}", limits.first_token)),
            true if limit >= limits.deadline => Failure::new(FailureKind::Deadline, "the answer did not end in time"),
            true => Failure::new(FailureKind::Stalled, format!("the answer stalled for {idle:?}")),
        };
        let Some(piece) = until(limit.min(limits.deadline), incoming.next()).await.map_err(late)? else { break };
        let piece = piece?;
        begun = begun || !piece.trim_ascii().is_empty();
        if begun {
            limit = Instant::now() + idle;
        }
        if first.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&piece);
        }
    }
    let whole = if rest.is_empty() { first } else { rest.freeze() };
    // JSON begins with no byte order mark, some servers' does (RFC 8259, section 8.1: a reader may ignore it).
    Ok(if whole.starts_with(BYTE_ORDER_MARK) { whole.slice(BYTE_ORDER_MARK.len()..) } else { whole })
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A vector short, and every later one would belong to the wrong text.
fn complete(answer: Response, wanted: usize) -> Result<Response, Failure> {
    match answer.vectors.len() {
        count if count == wanted => Ok(answer),
        count => Err(Failure::malformed(format!("{count} vectors for {wanted} inputs"))),
    }
}

async fn whole(mut stream: OpenStream, deadline: Instant) -> Result<Response, Failure> {
    let mut assembly = Assembly::default();
    let collect = async {
        while let Some(chunk) = stream.next().await? {
            assembly.push(&chunk);
        }
        Ok::<(), Failure>(())
    };
    until(deadline, collect)
        .await
        .map_err(|_| Failure::new(FailureKind::Deadline, "the answer did not end in time"))??;
    let id = stream.id().unwrap_or_default().to_owned();
    let model = stream.model().unwrap_or_default().to_owned();
    Ok(assembly.into_response(id, 0, model, stream.usage().cloned()))
}
