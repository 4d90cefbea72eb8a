//! Trace context of a run: the W3C `traceparent` that is stored with its row and outlives the process.
//!
//! Parsed here because `TraceContextPropagator` of opentelemetry_sdk refuses the flags `03` of W3C Trace Context level
//! 2.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use std::fmt;
use std::str::FromStr;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// A position in a trace, the parent of later spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    parent: SpanId,
    sampled: bool,
}

/// The text is not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent (version-trace-parent-flags in lower-case hex)")]
pub struct NotATraceparent;

impl TraceContext {
    /// Starts a new, sampled trace.
    pub fn new_root() -> Self {
        let ids = RandomIdGenerator::default();
        Self { trace: ids.new_trace_id(), parent: ids.new_span_id(), sampled: true }
    }

    /// Returns the context of `span` for storage. Without an exporter it is a new trace, so that log lines and later
    /// processes still share a trace id.
    pub fn of(span: &Span) -> Self {
        let context = span.context();
        let current = context.span().span_context().clone();
        match current.is_valid() {
            true => Self { trace: current.trace_id(), parent: current.span_id(), sampled: current.is_sampled() },
            false => Self::new_root(),
        }
    }

    /// Makes `span` a child of this context. Call it before the span is entered; without an exporter it does nothing.
    pub fn adopt(&self, span: &Span) {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let remote = SpanContext::new(self.trace, self.parent, flags, true, TraceState::default());
        // Fails only without an exporter layer or for a disabled span, which have no trace to join.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }

    /// Returns `span` as a child of the stored `traceparent`. If the text is invalid, the span stays a root.
    pub fn under(stored: Option<&str>, span: Span) -> Span {
        if let Some(Ok(context)) = stored.map(str::parse::<TraceContext>) {
            context.adopt(&span);
        }
        span
    }

    /// Returns the trace id in hex, as trace viewers such as Jaeger accept it.
    pub fn trace_id(&self) -> String {
        self.trace.to_string()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.parent, u8::from(self.sampled))
    }
}

impl FromStr for TraceContext {
    type Err = NotATraceparent;
    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(parent), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotATraceparent);
        };
        // Version 00 has exactly four parts, later versions may have more; ff is invalid.
        let version_fits = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        if !(version_fits && hex(trace, 32) && hex(parent, 16) && hex(flags, 2)) {
            return Err(NotATraceparent);
        }
        let trace = TraceId::from_hex(trace).map_err(|_| NotATraceparent)?;
        let parent = SpanId::from_hex(parent).map_err(|_| NotATraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NotATraceparent)?;
        if trace == TraceId::INVALID || parent == SpanId::INVALID {
            return Err(NotATraceparent);
        }
        Ok(Self { trace, parent, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(text.parse::<TraceContext>().map(|c| c.to_string()), Ok(text.to_owned()));
        let fresh = TraceContext::new_root();
        assert_eq!(fresh.to_string().parse(), Ok(fresh));
        assert_ne!(fresh, TraceContext::new_root());
    }

    #[test]
    fn invalid_traceparents_are_refused() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-é",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(NotATraceparent), "{bad}");
        }
    }
}
