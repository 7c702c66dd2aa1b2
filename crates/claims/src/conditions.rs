//! Status conditions: set, read, and timed.
//!
//! Owns the rule that a condition's time changes only with its status, and what makes a claim ready.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub(crate) const LAUNCHED: &str = "Launched";
pub(crate) const REGISTERED: &str = "Registered";
pub(crate) const INITIALIZED: &str = "Initialized";
pub(crate) const READY: &str = "Ready";
pub(crate) const DRIFTED: &str = "Drifted";
pub(crate) const DRAINED: &str = "Drained";
pub(crate) const VOLUMES_DETACHED: &str = "VolumesDetached";
pub(crate) const INSTANCE_TERMINATING: &str = "InstanceTerminating";

/// A list of conditions while it is being worked on.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub list: Vec<Condition>,
    now: Timestamp,
    generation: Option<i64>,
    pub changed: bool,
}

impl Conditions {
    pub(crate) fn of(list: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self { list: list.to_vec(), now, generation, changed: false }
    }

    pub(crate) fn get(&self, kind: &str) -> Option<&Condition> {
        self.list.iter().find(|condition| condition.type_ == kind)
    }

    pub(crate) fn is_true(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|condition| condition.status == "True")
    }

    /// When a condition last changed its status.
    pub(crate) fn since(&self, kind: &str) -> Option<Timestamp> {
        self.get(kind).map(|condition| condition.last_transition_time.0)
    }

    pub(crate) fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let new = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(self.now),
            observed_generation: self.generation,
        };
        match self.list.iter_mut().find(|condition| condition.type_ == kind) {
            None => self.list.push(new),
            Some(old) if old.status != new.status => *old = new,
            Some(old) if old.reason != new.reason || old.message != new.message => {
                *old = Condition { last_transition_time: old.last_transition_time.clone(), ..new };
            }
            Some(_) => return,
        }
        self.changed = true;
    }

    pub(crate) fn set_true(&mut self, kind: &str) {
        self.set(kind, "True", kind, "");
    }

    pub(crate) fn remove(&mut self, kind: &str) {
        let before = self.list.len();
        self.list.retain(|condition| condition.type_ != kind);
        self.changed |= self.list.len() != before;
    }

    /// `Ready` is true when all of the others are.
    pub(crate) fn sum_up(&mut self, parts: &[&str]) {
        match parts.iter().find(|part| !self.is_true(part)) {
            None => self.set_true(READY),
            Some(part) => {
                let status =
                    self.get(part).map_or("Unknown", |condition| condition.status.as_str()).to_owned();
                self.set(READY, &status, "NotReady", &format!("{part} is {status}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conditions_time_changes_with_its_status_only() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut conditions = Conditions::of(&[], None, at(1));
        conditions.set(LAUNCHED, "Unknown", "Waiting", "a");
        conditions.sum_up(&[LAUNCHED, REGISTERED]);
        let mut later = Conditions::of(&conditions.list, None, at(9));
        later.set(LAUNCHED, "Unknown", "Waiting", "b");
        assert!(later.changed);
        assert_eq!(later.since(LAUNCHED), Some(at(1)));
        later.set_true(LAUNCHED);
        assert_eq!(later.since(LAUNCHED), Some(at(9)));
        later.set_true(REGISTERED);
        later.sum_up(&[LAUNCHED, REGISTERED]);
        assert!(later.is_true(READY));
    }
}
