//! What the conditions of a `ProvisioningRequest` say next: with Cluster Autoscaler's types, reasons and texts.
//!
//! Owns when they change and when they are written: on change only, and each object not more often than an interval.
//! Conditions of others are left as they are.

use super::Capacity;
use super::requests::{Known, NOT_FOUND, Stage, Terms};
use super::status::{INTERVAL, StatusWrite};
use api::capacity::requests::{ACCEPTED, BOOKING_EXPIRED, CAPACITY_REVOKED, FAILED, PROVISIONED};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use model::{HeadroomVerdict, Reason, Verdicts, WorkloadKey};
use serde_json::json;
use std::collections::BTreeMap;

/// Why a request that is bought for is not provisioned yet.
const ON_ITS_WAY: &str = "CapacityIsOnItsWay";
/// How long promised room has to be missing before that is said: a node may be unready for a moment.
const MISSED: SignedDuration = SignedDuration::from_secs(30);

/// Keeps the conditions of requests current.
#[derive(Default)]
pub(crate) struct RequestStatuses {
    /// What was written last, and when the next write may be.
    written: BTreeMap<WorkloadKey, (Vec<Condition>, Timestamp)>,
    /// Since when promised room is missing.
    missed: BTreeMap<WorkloadKey, Timestamp>,
    due: Option<Timestamp>,
}

/// What one condition is to say.
struct Says(&'static str, bool, &'static str, String);

impl RequestStatuses {
    /// When there may be something to write; `None` while nothing changes by itself.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What is to be written now; what has to wait sets the time at which it is asked for again.
    pub(crate) fn news(
        &mut self,
        capacity: &Capacity,
        verdicts: &Verdicts,
        now: Timestamp,
    ) -> Vec<StatusWrite> {
        self.due = None;
        let requests = &capacity.requests;
        self.written.retain(|key, _| requests.known.contains_key(key));
        self.missed.retain(|key, _| requests.known.contains_key(key));
        let Some(resource) = &requests.terms.resource else { return Vec::new() };
        let mut writes = Vec::new();
        for (key, known) in &requests.known {
            // What was written just now counts until it is seen, or should have been.
            let last = self.written.get(key).filter(|(_, next)| now < *next);
            let before = last.map_or(&known.conditions, |(conditions, _)| conditions).clone();
            let next = last.map(|(_, next)| *next);
            let says = self.says(key, known, &before, verdicts.headroom.get(key), &requests.terms, now);
            let conditions = with(&before, says, known.generation, now);
            if conditions == before {
                continue;
            }
            if let Some(next) = next {
                self.wake(next);
                continue;
            }
            writes.push(StatusWrite {
                resource: resource.clone(),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                body: json!({"status": {"conditions": conditions}}),
            });
            let next = now.checked_add(INTERVAL).unwrap_or(now);
            self.written.insert(key.clone(), (conditions, next));
        }
        writes
    }

    fn wake(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Whether a moment has come; it is asked for again where it has not.
    fn reached(&mut self, at: Timestamp, now: Timestamp) -> bool {
        if now < at {
            self.wake(at);
        }
        at <= now
    }

    fn says(
        &mut self,
        key: &WorkloadKey,
        known: &Known,
        before: &[Condition],
        verdict: Option<&HeadroomVerdict>,
        terms: &Terms,
        now: Timestamp,
    ) -> Vec<Says> {
        match Stage::of(before) {
            Stage::Over => Vec::new(),
            Stage::Open { tried } => {
                self.missed.remove(key);
                let waits = |known: &Condition| known.type_ == PROVISIONED && known.reason == ON_ITS_WAY;
                let bought = before.iter().any(waits);
                self.says_while_open(known, (tried, bought), verdict, terms, now)
            }
            Stage::Booked { since } => {
                if let Err(why) = &known.parts {
                    let message = format!("Couldn't create pods, err: {why}");
                    return vec![Says(FAILED, true, "FailedToBookCapacity", message)];
                }
                if self.reached(Known::booked_until(since), now) {
                    let message = "Capacity reservation time is expired".to_owned();
                    return vec![Says(BOOKING_EXPIRED, true, "CapacityReservationTimeExpired", message)];
                }
                let Some(verdict) = verdict else { return Vec::new() };
                if verdict.taken >= verdict.wanted {
                    let message = "All pods of the ProvisioningRequest are there".to_owned();
                    return vec![Says(BOOKING_EXPIRED, true, "CapacityBookingConsumed", message)];
                }
                if verdict.taken > 0 || verdict.short() == 0 {
                    self.missed.remove(key);
                    return Vec::new();
                }
                let missed = *self.missed.entry(key.clone()).or_insert(now);
                if !self.reached(missed.saturating_add(MISSED).unwrap_or(now), now) {
                    return Vec::new();
                }
                let message = format!("Capacity that was found is lost: {verdict}");
                vec![Says(CAPACITY_REVOKED, true, "CapacityIsLost", message)]
            }
        }
    }

    fn says_while_open(
        &mut self,
        known: &Known,
        (tried, bought): (Option<Timestamp>, bool),
        verdict: Option<&HeadroomVerdict>,
        terms: &Terms,
        now: Timestamp,
    ) -> Vec<Says> {
        let request = match &known.read {
            Ok(request) => request,
            // Its spec cannot be changed.
            Err(error) => return vec![Says(FAILED, true, "FailedToCreatePods", error.to_string())],
        };
        if self.reached(known.valid_until(), now) {
            return vec![Says(FAILED, true, "Expired", "ProvisioningRequest is expired".to_owned())];
        }
        if let Err(why) = &known.parts {
            return vec![Says(PROVISIONED, false, "FailedToCreatePods", why.to_string())];
        }
        let accepted = "ProvisioningRequest is accepted by ClusterAutoscaler".to_owned();
        let mut says = vec![Says(ACCEPTED, true, "Accepted", accepted)];
        // Before a round has looked at it there is no more to say.
        let Some(verdict) = verdict else { return says };
        if verdict.short() > 0 {
            let undecided = matches!(
                verdict.why,
                Some(Reason::InputNotFresh { .. } | Reason::AwaitsExpander | Reason::WaitsForMachine { .. })
            );
            if undecided {
                // The next round has an answer.
            } else if request.once {
                let message = "CA could not find requested capacity".to_owned();
                says.push(Says(FAILED, true, NOT_FOUND, message));
            } else if tried.is_none_or(|tried| known.next_try(tried, terms) <= now) {
                let message = format!("Capacity is not found, CA will try to find it later. {verdict}");
                says.push(Says(PROVISIONED, false, NOT_FOUND, message));
            }
        } else if verdict.ready + verdict.taken >= verdict.wanted {
            let found = "Capacity is found in the cluster".to_owned();
            let reason = if bought { "CapacityIsProvisioned" } else { "CapacityIsFound" };
            says.push(Says(PROVISIONED, true, reason, found));
        } else {
            let message = "Machines for all pods are asked for and not ready yet".to_owned();
            says.push(Says(PROVISIONED, false, ON_ITS_WAY, message));
        }
        says
    }
}

/// Conditions with what is said of some of them.
fn with(before: &[Condition], says: Vec<Says>, generation: i64, now: Timestamp) -> Vec<Condition> {
    let mut conditions = before.to_vec();
    for Says(kind, holds, reason, message) in says {
        let status = if holds { "True" } else { "False" };
        let old = conditions.iter().position(|old| old.type_ == kind);
        let mut time = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        if let Some(old) = old.map(|at| &conditions[at]) {
            // A try in vain is counted from when it was made; its words alone are no news.
            let again = reason == NOT_FOUND && !holds;
            if old.status == status && old.reason == reason && !again {
                continue;
            }
            if old.status == status && !again {
                time = old.last_transition_time.clone();
            }
        }
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: time,
            observed_generation: Some(generation),
        };
        match old {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }
    conditions
}
