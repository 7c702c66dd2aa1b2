//! Conditions of the three kinds' status.
//!
//! Owns how one is set: the time moves only when its status does.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message; the API takes 32 KiB.
const LONGEST: usize = 2048;

/// What one condition says now.
#[derive(Clone, Debug)]
pub(crate) struct Say {
    pub(crate) kind: &'static str,
    pub(crate) status: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Say {
    pub(crate) fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: true, reason, message: message.into() }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: false, reason, message: message.into() }
    }
}

/// Sets a condition.
pub(crate) fn set(conditions: &mut Vec<Condition>, say: &Say, generation: Option<i64>, now: Timestamp) {
    let status = if say.status { "True" } else { "False" };
    let message: String = say.message.chars().take(LONGEST).collect();
    if let Some(known) = conditions.iter_mut().find(|condition| condition.type_ == say.kind) {
        if known.status != status {
            known.last_transition_time = Time(now);
        }
        status.clone_into(&mut known.status);
        say.reason.clone_into(&mut known.reason);
        known.message = message;
        known.observed_generation = generation;
        return;
    }
    conditions.push(Condition {
        type_: say.kind.to_owned(),
        status: status.to_owned(),
        reason: say.reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: Time(now),
    });
}

/// What of the listed reasons has become true between two states, with its message.
pub(crate) fn warnings(
    before: &[Condition],
    after: &[Condition],
    reasons: &[&'static str],
) -> Vec<(&'static str, String)> {
    let news = after.iter().filter(|condition| {
        find(before, &condition.type_).is_none_or(|known| known.reason != condition.reason)
    });
    news.filter_map(|condition| {
        let reason = reasons.iter().find(|reason| **reason == condition.reason)?;
        Some((*reason, condition.message.clone()))
    })
    .collect()
}

/// Takes away a condition that has nothing more to say.
pub(crate) fn clear(conditions: &mut Vec<Condition>, kind: &str) {
    conditions.retain(|condition| condition.type_ != kind);
}

pub(crate) fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}
