//! What may go wrong between a client and the API, how often and when: data, read from scenarios.
//!
//! Owns the checks on it. Leaves injecting to `layer`.

use super::FaultError;
use serde::{Deserialize, Serialize};

/// Rules, tried in order on every call; each draws for itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultPlan {
    #[serde(default)]
    pub rules: Vec<FaultRule>,
}

/// One kind of fault, on some calls, in a window of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultRule {
    pub fault: Fault,
    /// Chance for each call that the rule is about, from 0 to 1.
    pub probability: f64,
    /// Seconds after the start from which the rule counts.
    #[serde(default)]
    pub from_seconds: u64,
    /// Seconds after the start at which it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_seconds: Option<u64>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`; empty: all that the fault makes sense for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Plural names, with `/subresource` where one is meant: `pods/eviction`; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Most injections; none: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Fault {
    /// The call takes up to this much longer.
    Latency { most_milliseconds: u64 },
    /// A write is answered with 409 and not executed.
    Conflict {},
    /// 429 with `Retry-After`; not executed.
    TooManyRequests { retry_after_seconds: u32 },
    /// This 5xx code; not executed.
    ServerError { code: u16 },
    /// The watch breaks off after this many chunks of events.
    DroppedWatch { after_chunks: u64 },
    /// Events of the watch come this much later.
    LateWatch { milliseconds: u64 },
    /// A list (or get) shows the state of so many changes ago.
    StaleList { revisions: u64 },
    /// A write is executed and its answer lost: the client sees a broken connection, or this code.
    LostResponse {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<u16>,
    },
    /// The call never arrives: the client sees a broken connection.
    LostRequest {},
}

impl Fault {
    /// The word for it in counts and reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Conflict {} => "conflict",
            Self::TooManyRequests { .. } => "tooManyRequests",
            Self::ServerError { .. } => "serverError",
            Self::DroppedWatch { .. } => "droppedWatch",
            Self::LateWatch { .. } => "lateWatch",
            Self::StaleList { .. } => "staleList",
            Self::LostResponse { .. } => "lostResponse",
            Self::LostRequest {} => "lostRequest",
        }
    }

    /// Whether the fault makes sense for a call of this verb.
    pub(super) fn fits(&self, verb: &str) -> bool {
        let writes = !matches!(verb, "get" | "list" | "watch");
        match self {
            Self::Latency { .. }
            | Self::TooManyRequests { .. }
            | Self::ServerError { .. }
            | Self::LostRequest {} => true,
            Self::Conflict {} => matches!(verb, "update" | "patch" | "create" | "delete"),
            Self::LostResponse { .. } => writes,
            Self::DroppedWatch { .. } | Self::LateWatch { .. } => verb == "watch",
            Self::StaleList { .. } => matches!(verb, "get" | "list"),
        }
    }
}

impl FaultPlan {
    /// Refuses numbers that mean nothing, naming the rule.
    pub fn check(&self) -> Result<(), FaultError> {
        for (index, rule) in self.rules.iter().enumerate() {
            let wrong = |field: &str, fix: &str| {
                Err(FaultError::Plan { field: format!("rules[{index}].{field}"), fix: fix.to_owned() })
            };
            if !(0.0..=1.0).contains(&rule.probability) {
                return wrong("probability", "give a number from 0 to 1");
            }
            if rule.until_seconds.is_some_and(|until| until <= rule.from_seconds) {
                return wrong("untilSeconds", "give a time after fromSeconds");
            }
            match &rule.fault {
                Fault::ServerError { code } if !(500..=599).contains(code) => {
                    return wrong("fault.serverError.code", "give a code from 500 to 599");
                }
                Fault::LostResponse { code: Some(code) } if !(500..=599).contains(code) => {
                    return wrong("fault.lostResponse.code", "give a code from 500 to 599, or none");
                }
                _ => {}
            }
        }
        Ok(())
    }
}
