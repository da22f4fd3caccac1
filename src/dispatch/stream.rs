//! A provider's stream on its way to the caller: bytes in, straightened chunks out, and a truthful end.
//!
//! Nothing is spawned: the reader's polling drives the upstream, so back-pressure reaches it and dropping the stream
//! closes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::patience::until;
use crate::chat::{Chunk, Sequence, Usage, depth};
use crate::provider::adapter::{Adapter, Decoder, Piece};
use crate::provider::failure::{Failure, FailureKind};
use crate::provider::framing::{Cutter, Event, Framing};
use crate::provider::transport::Incoming;
use crate::telemetry::metric::Metric;

/// Comments keep a stream alive, but not for ever: without content it ends after this many idle limits.
const COMMENTS_COUNT_FOR: u32 = 4;
/// After the last finish_reason only the usage and `[DONE]` are missing: a provider that forgets them is not waited for.
const AFTER_FINISH: Duration = Duration::from_secs(2);

pub struct OpenStream {
    incoming: Incoming,
    cutter: Cutter,
    decoder: Box<dyn Decoder>,
    events: Vec<Event>,
    pieces: Vec<Piece>,
    ready: VecDeque<Chunk>,
    sequence: Sequence,
    /// Longest silence.
    idle: Duration,
    last_bytes: Instant,
    last_content: Instant,
    ended: bool,
    /// A failure that waits until the chunks before it are delivered.
    late: Option<Failure>,
    provider: Arc<str>,
    /// Events that could not be read and were left out.
    pub unreadable: u32,
}

impl OpenStream {
    /// `idle` is the longest silence; `provider` is who is blamed for what cannot be read.
    pub fn new(
        incoming: Incoming,
        adapter: &dyn Adapter,
        framing: Framing,
        idle: Duration,
        provider: &Arc<str>,
    ) -> Self {
        let now = Instant::now();
        Self {
            incoming,
            cutter: framing.cutter(),
            decoder: adapter.decoder(),
            events: Vec::new(),
            pieces: Vec::new(),
            ready: VecDeque::new(),
            sequence: Sequence::default(),
            idle,
            last_bytes: now,
            last_content: now,
            ended: false,
            late: None,
            provider: provider.clone(),
            unreadable: 0,
        }
    }

    /// The next chunk; `None` once the answer is complete. After a failure or the end there is nothing more.
    /// Cancel-safe: a call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Failure> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            if self.ended {
                return self.late.take().map_or(Ok(None), Err);
            }
            let read = until(self.deadline(), self.incoming.next()).await;
            match read {
                Ok(Some(Ok(bytes))) => {
                    self.last_bytes = Instant::now();
                    let cut = self.cutter.push(&bytes, &mut self.events);
                    self.take_events()?;
                    if let Err(broken) = cut {
                        self.fail(Failure::malformed(broken.to_string()))?;
                    }
                }
                Ok(None) => self.end_of_bytes()?,
                // All was said: how the connection ends does not matter any more.
                Ok(Some(Err(_))) | Err(_) if self.sequence.is_finished() => self.ended = true,
                Ok(Some(Err(failure))) => {
                    self.ended = true;
                    return Err(failure);
                }
                Err(_) => {
                    self.ended = true;
                    let silence = self.last_content.elapsed().as_secs();
                    return Err(Failure::new(FailureKind::Stalled, format!("the stream stalled for {silence} s")));
                }
            }
        }
    }

    /// Reads ahead up to the first thing that a caller can see: the commit point. The chunks stay queued.
    pub async fn wait_for_content(&mut self) -> Result<(), Failure> {
        let mut held = VecDeque::new();
        loop {
            let Some(chunk) = self.next().await? else { break };
            let commit = chunk.has_content() || self.sequence.is_finished();
            held.push_back(chunk);
            if commit {
                break;
            }
        }
        held.append(&mut self.ready);
        self.ready = held;
        Ok(())
    }

    /// The provider's own count, once the stream is complete.
    pub fn usage(&self) -> Option<&Usage> {
        self.sequence.usage.as_ref()
    }

    pub fn model(&self) -> Option<&str> {
        self.sequence.model.as_deref()
    }

    pub fn id(&self) -> Option<&str> {
        self.sequence.id.as_deref()
    }

    pub fn ended_with_stop(&self) -> bool {
        self.sequence.ended_with_stop()
    }

    fn deadline(&self) -> Instant {
        if self.sequence.is_finished() {
            return self.last_bytes + AFTER_FINISH;
        }
        (self.last_bytes + self.idle).min(self.last_content + self.idle * COMMENTS_COUNT_FOR)
    }

    fn take_events(&mut self) -> Result<(), Failure> {
        for event in self.events.drain(..) {
            match depth::exceeded(&event.data) {
                None => self.decoder.event(&event, &mut self.pieces),
                Some(_) => self.pieces.push(Piece::Unreadable),
            }
        }
        let pieces = std::mem::take(&mut self.pieces);
        for piece in pieces {
            // What stands after the end, or after an error, is not part of the answer.
            if self.ended {
                break;
            }
            match piece {
                Piece::Chunk(chunk) => {
                    if let Some(chunk) = self.sequence.accept(chunk) {
                        self.last_content = Instant::now();
                        self.ready.push_back(chunk);
                    }
                }
                Piece::Done => self.finish(true)?,
                Piece::Unreadable => {
                    self.unreadable += 1;
                    let provider = self.provider.to_string();
                    metrics::counter!(Metric::UnreadableEvents.name(), "provider" => provider).increment(1);
                }
                Piece::Failure(failure) => self.fail(failure)?,
            }
        }
        Ok(())
    }

    /// Ends the stream. What came before the failure in the same read is still delivered; the failure follows.
    fn fail(&mut self, failure: Failure) -> Result<(), Failure> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        if self.ready.is_empty() {
            return Err(failure);
        }
        self.late = Some(failure);
        Ok(())
    }

    fn end_of_bytes(&mut self) -> Result<(), Failure> {
        self.cutter.finish(&mut self.events);
        self.take_events()?;
        if self.ended { Ok(()) } else { self.finish(false) }
    }

    fn finish(&mut self, done: bool) -> Result<(), Failure> {
        self.ended = true;
        match self.sequence.end(done) {
            Ok(last) => {
                self.ready.extend(last);
                Ok(())
            }
            Err(_) => {
                let failure = Failure::new(FailureKind::Interrupted, "the stream ended before the answer was complete");
                if self.ready.is_empty() {
                    return Err(failure);
                }
                self.late = Some(failure);
                Ok(())
            }
        }
    }
}
