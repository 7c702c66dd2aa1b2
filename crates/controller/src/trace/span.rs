//! A span, and spans as OTLP writes them in JSON.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Longest value of an attribute, in characters: reasons that name hundreds of pods are cut.
const LONGEST_VALUE: usize = 4000;
const INTERNAL: u32 = 1;
const UNSET: u32 = 0;
const ERROR: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceId([u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanId([u8; 8]);

impl TraceId {
    /// The same for the same decision of the same process, and for no other.
    pub(super) fn of(instance: &str, round: u64, at: Timestamp) -> Self {
        let mut id = [0; 16];
        let digest = Sha256::digest(format!("{instance} {round} {}", at.as_nanosecond()));
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }
}

impl SpanId {
    pub(super) fn of(trace: TraceId, number: u64) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(
            &Sha256::new().chain_update(trace.0).chain_update(number.to_le_bytes()).finalize()[..8],
        );
        Self(id)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    name: &'static str,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    attributes: Vec<(&'static str, String)>,
    /// What failed.
    pub(super) problem: Option<String>,
}

impl Span {
    pub(super) fn begin(
        trace: TraceId,
        id: SpanId,
        parent: Option<SpanId>,
        name: &'static str,
        at: Timestamp,
    ) -> Self {
        Self { trace, id, parent, name, start: at, end: at, attributes: Vec::new(), problem: None }
    }

    pub(super) fn say(&mut self, name: &'static str, mut value: String) {
        if let Some((end, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(end);
            value.push('…');
        }
        self.attributes.push((name, value));
    }

    fn json(&self) -> Value {
        let (code, message) = match &self.problem {
            Some(problem) => (ERROR, problem.as_str()),
            None => (UNSET, ""),
        };
        json!({
            "traceId": hex(&self.trace.0),
            "spanId": hex(&self.id.0),
            "parentSpanId": self.parent.map_or_else(String::new, |parent| hex(&parent.0)),
            "name": self.name,
            "kind": INTERNAL,
            "startTimeUnixNano": self.start.as_nanosecond().to_string(),
            "endTimeUnixNano": self.end.as_nanosecond().to_string(),
            "attributes": attributes(self.attributes.iter().map(|(name, value)| (*name, value.as_str()))),
            "status": {"code": code, "message": message},
        })
    }
}

/// The body of an export, as the OTLP specification has it for JSON.
pub(super) fn export(spans: &[Span], instance: &str) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [("service.name", "tideline"), ("service.instance.id", instance), ("service.version", version)];
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes(resource.into_iter())},
        "scopeSpans": [{
            "scope": {"name": "tideline", "version": version},
            "spans": spans.iter().map(Span::json).collect::<Vec<_>>(),
        }],
    }]})
}

fn attributes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Value> {
    pairs.map(|(key, value)| json!({"key": key, "value": {"stringValue": value}})).collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_the_specification_has_it() {
        let at = Timestamp::UNIX_EPOCH;
        let trace = TraceId::of("one", 7, at);
        let parent = SpanId::of(trace, 0);
        let mut span = Span::begin(trace, SpanId::of(trace, 1), Some(parent), "buy", at);
        span.say("tideline.what", "é".repeat(LONGEST_VALUE + 5));
        let body = export(&[span], "one");
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"].as_str().unwrap().len(), 32);
        assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
        assert_eq!(span["parentSpanId"], hex(&parent.0));
        assert_eq!(span["startTimeUnixNano"], "0");
        let text = span["attributes"][0]["value"]["stringValue"].as_str().unwrap();
        assert_eq!(text.chars().count(), LONGEST_VALUE + 1);
        assert_ne!(TraceId::of("one", 7, at), TraceId::of("two", 7, at));
        assert_ne!(SpanId::of(trace, 0), SpanId::of(trace, 1));
    }
}
