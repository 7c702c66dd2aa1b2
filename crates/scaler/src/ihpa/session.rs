//! The change under way, kept as an annotation of the profile.
//!
//! Owns its text. It is written in one go with the counts that it led to, so no crash comes between the two, and a
//! server with the peer's definitions, which know no such fields, keeps it too. The status shows it to people.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use workloads::Session;

/// On a ReplicaProfile: the change in steps that its counts belong to.
pub(super) const SESSION: &str = "tideline.dev/gray-session";

#[derive(Serialize, Deserialize)]
struct Written {
    from: u32,
    to: u32,
    reserve: u32,
    percent: u32,
    updated: Timestamp,
}

pub(super) fn write(session: &Session) -> String {
    let Session { from, to, reserve, percent, updated } = *session;
    let written = Written { from, to, reserve, percent, updated };
    serde_json::to_string(&written).unwrap_or_default()
}

/// One that cannot be read is none: the change goes on from where the pods are.
pub(super) fn read(text: &str) -> Option<Session> {
    let Written { from, to, reserve, percent, updated } = serde_json::from_str(text).ok()?;
    Some(Session { from, to, reserve, percent, updated })
}
