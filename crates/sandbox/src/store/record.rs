//! The log of applied writes, by which two runs are shown to be the same.
//!
//! Owns the line format. Leaves where it goes to whoever switches it on.

use super::object::Object;
use super::write::At;
use std::fmt;
use std::io::Write;

/// One applied write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRecord {
    pub at: jiff::Timestamp,
    pub verb: &'static str,
    pub resource: &'static str,
    pub namespace: String,
    pub name: String,
    pub revision: u64,
    /// FNV-1a of the object's JSON.
    pub digest: u64,
    pub actor: String,
}

impl WriteRecord {
    pub(crate) fn of(at: &At<'_>, verb: &'static str, object: &Object) -> Self {
        Self {
            at: at.now,
            verb,
            resource: object.resource().as_str(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
            revision: object.revision(),
            digest: fnv1a(&object.bytes()),
            actor: at.actor.to_owned(),
        }
    }
}

impl fmt::Display for WriteRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, verb, resource, namespace, name, revision, digest, actor } = self;
        let slash = if namespace.is_empty() { "" } else { "/" };
        write!(f, "{at} {verb} {resource} {namespace}{slash}{name} rv={revision} {digest:016x} by {actor}")
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Where records go, one line each; after a first error nothing more is written.
pub(crate) struct WriteLog {
    sink: Box<dyn Write + Send>,
    failed: Option<std::io::Error>,
}

impl WriteLog {
    pub(crate) fn new(sink: Box<dyn Write + Send>) -> Self {
        Self { sink, failed: None }
    }

    pub(crate) fn write(&mut self, record: &WriteRecord) {
        if self.failed.is_none() {
            self.failed = writeln!(self.sink, "{record}").err();
        }
    }

    pub(crate) fn finish(mut self) -> std::io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.sink.flush(),
        }
    }
}
