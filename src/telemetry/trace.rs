//! The W3C trace context: which trace a request belongs to, and what those who are asked are told of it.
//!
//! Version 00 of the recommendation is spoken. What a caller sends is parsed into numbers and written anew: nothing of its
//! text passes, but `tracestate` where that is wanted. A header that is not exactly right counts as none.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::settings::{Propagate, Settings};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is kept; the recommendation asks for at least 512 characters.
const LONGEST_STATE: usize = 512;

/// Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SpanId {
    pub fn random() -> Self {
        Self((random() as u64) | 1)
    }
}

/// Folded, because some bits of a UUID are fixed.
fn random() -> u128 {
    let (a, b) = (uuid::Uuid::new_v4().as_u128(), uuid::Uuid::new_v4().as_u128());
    a ^ b.rotate_left(64)
}

/// What a caller said of its own span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
    state: Option<HeaderValue>,
}

impl Parent {
    /// One look-up for callers that send none.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(&TRACEPARENT).iter();
        let (one, None) = (all.next()?, all.next()) else { return None };
        let mut parent = Self::parse(one.as_bytes())?;
        let mut states = headers.get_all(&TRACESTATE).iter();
        if let (Some(state), None) = (states.next(), states.next()) {
            let plain = |byte: &u8| (0x20..0x7f).contains(byte);
            let sane = !state.is_empty() && state.len() <= LONGEST_STATE && state.as_bytes().iter().all(plain);
            parent.state = sane.then(|| state.clone());
        }
        Some(parent)
    }

    /// `00-<32 hex>-<16 hex>-<2 hex>`, in small letters; later versions may have more behind another dash.
    fn parse(text: &[u8]) -> Option<Self> {
        let (text, rest) = text.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|at| text[*at] == b'-');
        let version = hex(&text[..2])?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let (trace, span, flags) = (hex(&text[3..35])?, hex(&text[36..52])?, hex(&text[53..55])?);
        (dashes && fits && trace != 0 && span != 0).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(span as u64),
            sampled: flags & 1 == 1,
            state: None,
        })
    }
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The place of one request in a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    pub id: TraceId,
    /// The caller's span.
    pub parent: Option<SpanId>,
    /// Ours; `None` where none is made and the caller's is passed on.
    pub span: Option<SpanId>,
    pub sampled: bool,
    /// The caller's `tracestate`.
    pub state: Option<HeaderValue>,
    propagate: Propagate,
}

impl Trace {
    /// `None` for a request that belongs to no trace, which costs nothing.
    pub fn begin(parent: Option<Parent>, settings: &Settings) -> Option<Self> {
        let share = settings.sampling();
        if parent.is_none() && share.is_none() {
            return None;
        }
        let span = share.map(|_| SpanId::random());
        let propagate = settings.propagate;
        Some(match parent {
            Some(Parent { trace, span: above, sampled, state }) => {
                Self { id: trace, parent: Some(above), span, sampled, state, propagate }
            }
            None => {
                let id = TraceId(random() | 1);
                let sampled = is_sampled(id, share.unwrap_or_default());
                Self { id, parent: None, span, sampled, state: None, propagate }
            }
        })
    }

    /// Spans of this request are wanted.
    pub fn is_recorded(&self) -> bool {
        self.sampled && self.span.is_some()
    }

    /// An id for an attempt, if attempts get spans.
    pub fn attempt(&self) -> Option<SpanId> {
        self.span.map(|_| SpanId::random())
    }

    /// Adds what a provider is told. `attempt` is the span of the try at it. What the configuration sends stays.
    pub fn introduce(&self, attempt: Option<SpanId>, headers: &mut HeaderMap) {
        let Some(span) = attempt.or(self.parent) else { return };
        if self.propagate == Propagate::None || headers.contains_key(&TRACEPARENT) {
            return;
        }
        let text = format!("00-{}-{span}-{:02x}", self.id, u8::from(self.sampled));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        if let (Propagate::Tracestate, Some(state)) = (self.propagate, &self.state) {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// The lower half of an id is random; as OpenTelemetry does it, so that all who see the trace decide alike.
fn is_sampled(id: TraceId, share: f64) -> bool {
    let draw = (id.0 as u64 >> 1) as f64 / (1u64 << 63) as f64;
    draw < share
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::settings::Otlp;
    use super::*;
    use crate::units::Share;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(text).expect("a header"))])
    }

    fn traced(share: f64) -> Settings {
        let otlp = Otlp { sample: Share(share), ..Otlp::at("http://x".to_owned()) };
        Settings { otlp: Some(otlp.into()), ..Settings::default() }
    }

    #[test]
    fn a_parent_is_read_exactly_or_not_at_all() {
        let parent = Parent::read(&with(VALID)).expect("valid");
        assert_eq!(parent.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((parent.span.to_string().as_str(), parent.sampled), ("00f067aa0ba902b7", true));
        assert!(!Parent::read(&with(&VALID.replace("-01", "-02"))).expect("valid").sampled);
        assert!(Parent::read(&with(&format!("{}-more", VALID.replacen("00", "cc", 1)))).is_some(), "a later version");
        for wrong in [
            "",
            "00",
            &VALID.to_uppercase(),
            &VALID[..54],
            &format!("{VALID}-more"),
            &format!("{VALID}0"),
            &VALID.replacen("00", "ff", 1),
            &VALID.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Parent::read(&with(wrong)), None, "{wrong}");
        }
        let mut twice = with(VALID);
        twice.append(TRACEPARENT, HeaderValue::from_static(VALID));
        assert_eq!(Parent::read(&twice), None);
    }

    #[test]
    fn a_state_is_kept_and_passed_on_only_where_that_is_wanted() {
        let mut headers = with(VALID);
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        for (propagate, told, state) in [
            (Propagate::None, false, None),
            (Propagate::Traceparent, true, None),
            (Propagate::Tracestate, true, Some("vendor=1")),
        ] {
            let settings = Settings { propagate, ..traced(0.0) };
            let trace = Trace::begin(Parent::read(&headers), &settings).expect("a trace");
            let mut outgoing = HeaderMap::new();
            trace.introduce(trace.attempt(), &mut outgoing);
            assert_eq!(outgoing.contains_key(&TRACEPARENT), told);
            assert_eq!(outgoing.get(&TRACESTATE).map(|state| state.to_str().expect("text")), state);
        }
        headers.insert(TRACESTATE, HeaderValue::from_str(&"x".repeat(513)).expect("a header"));
        assert_eq!(Parent::read(&headers).expect("valid").state, None);
    }

    #[test]
    fn what_is_told_continues_the_trace_under_the_attempts_span() {
        let trace = Trace::begin(Parent::read(&with(VALID)), &traced(0.0)).expect("a trace");
        assert!(trace.is_recorded(), "the caller's flag decides");
        let attempt = trace.attempt();
        let mut headers = HeaderMap::new();
        trace.introduce(attempt, &mut headers);
        let told = Parent::read(&headers).expect("valid");
        assert_eq!((told.trace, Some(told.span), told.sampled), (trace.id, attempt, true));
    }

    #[test]
    fn without_spans_the_callers_own_is_passed_on_and_nothing_is_begun() {
        let off = Settings::default();
        assert!(Trace::begin(None, &off).is_none());
        let trace = Trace::begin(Parent::read(&with(VALID)), &off).expect("a trace");
        assert!(!trace.is_recorded());
        let mut headers = HeaderMap::new();
        trace.introduce(trace.attempt(), &mut headers);
        assert_eq!(headers[TRACEPARENT], VALID);
    }

    #[test]
    fn about_the_share_that_was_asked_for_is_sampled() {
        let sampled =
            |share| (0..2000).filter(|_| Trace::begin(None, &traced(share)).expect("a trace").sampled).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 2000));
        // Ten standard deviations.
        assert!((300..700).contains(&sampled(0.25)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_parent_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Parent::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(id in 1u128.., span in 1u64.., sampled: bool) {
            let text = format!("00-{}-{}-{:02x}", TraceId(id), SpanId(span), u8::from(sampled));
            let read = Parent::parse(text.as_bytes()).expect("valid");
            prop_assert_eq!((read.trace.0, read.span.0, read.sampled), (id, span, sampled));
        }
    }
}
