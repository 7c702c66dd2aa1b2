//! `ProvisioningRequest`s: what each asks for at the moment, by the conditions that it has.
//!
//! Owns the course of a request: looked for or bought until it is there, then held for a while, then over. All of it is
//! in its conditions and their times, so another process goes on where this one ended. What they say next is `outcome`'s.

use super::{Name, Pods};
use api::capacity::requests::{BOOKING_EXPIRED, CAPACITY_REVOKED, FAILED, PROVISIONED};
use intake::{IntakeError, Request};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::{ApiResource, Object};
use model::{Change, Headroom, HeadroomPart, Purpose, WorkloadKey};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects that are followed; more are left alone, the last by name. Those that are over count until they are deleted.
const MOST_REQUESTS: usize = 5000;
/// How long room is held for a request's pods.
const BOOKED: SignedDuration = SignedDuration::from_mins(10);
/// Why a request has no room yet and is tried again later.
pub(super) const NOT_FOUND: &str = "CapacityIsNotFound";

/// How requests are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The version that the server has; `None` where requests are not followed.
    pub(crate) resource: Option<ApiResource>,
    /// The first and the longest wait before another try.
    pub(crate) back_off: (SignedDuration, SignedDuration),
    /// The name of this autoscaler in checks that name one.
    pub(crate) instance: String,
}

/// Where a request is in its course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Tried, last at this time in vain.
    Open {
        tried: Option<Timestamp>,
    },
    /// Room is held.
    Booked {
        since: Timestamp,
    },
    Over,
}

impl Stage {
    pub(super) fn of(conditions: &[Condition]) -> Self {
        let find = |kind: &str| conditions.iter().find(|known| known.type_ == kind);
        let holds = |kind: &str| find(kind).is_some_and(|known| known.status == "True");
        if holds(FAILED) || holds(BOOKING_EXPIRED) || holds(CAPACITY_REVOKED) {
            return Self::Over;
        }
        match find(PROVISIONED) {
            Some(known) if known.status == "True" => Self::Booked { since: known.last_transition_time.0 },
            Some(known) if known.reason == NOT_FOUND => {
                Self::Open { tried: Some(known.last_transition_time.0) }
            }
            _ => Self::Open { tried: None },
        }
    }
}

/// One request as it was heard of.
pub(super) struct Known {
    pub(super) read: Result<Request, IntakeError>,
    pub(super) created: Timestamp,
    pub(super) generation: i64,
    pub(super) conditions: Vec<Condition>,
    /// What its templates come to, or what is wrong with them.
    pub(super) parts: Result<Vec<HeadroomPart>, Arc<str>>,
}

impl Known {
    /// Until when it is tried.
    pub(super) fn valid_until(&self) -> Timestamp {
        let valid = self.read.as_ref().map_or(SignedDuration::MAX, |request| request.valid);
        self.created.saturating_add(valid).unwrap_or(Timestamp::MAX)
    }

    /// Until when room is held.
    pub(super) fn booked_until(since: Timestamp) -> Timestamp {
        since.saturating_add(BOOKED).unwrap_or(Timestamp::MAX)
    }

    /// When another try may be made: each wait is as long as all before it together, within bounds.
    pub(super) fn next_try(&self, tried: Timestamp, terms: &Terms) -> Timestamp {
        let (first, longest) = terms.back_off;
        let wait = tried.duration_since(self.created).clamp(first, longest.max(first));
        tried.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    fn headroom(&self, terms: &Terms) -> Option<Headroom> {
        let request = self.read.as_ref().ok()?;
        let (purpose, from, until) = match Stage::of(&self.conditions) {
            Stage::Open { tried } => {
                let from = tried.map(|tried| self.next_try(tried, terms));
                (request.purpose, from, self.valid_until())
            }
            Stage::Booked { since } => (Purpose::Booking, None, Self::booked_until(since)),
            Stage::Over => return None,
        };
        let parts = self.parts.as_ref().ok()?.clone();
        Some(Headroom { key: request.key.clone(), purpose, from, until: Some(until), parts })
    }
}

/// All requests that are ours to serve.
#[derive(Default)]
pub(crate) struct Requests {
    pub(super) known: BTreeMap<WorkloadKey, Known>,
    pub(super) terms: Terms,
}

impl Requests {
    pub(crate) fn new(terms: Terms) -> Self {
        Self { known: BTreeMap::new(), terms }
    }

    /// Takes news of one request in.
    pub(super) fn hear(
        &mut self,
        (namespace, name): &Name,
        object: Option<Box<Object<Value, Value>>>,
        templates: &BTreeMap<Name, Pods>,
    ) -> Change {
        let key = model::request_key(namespace, name);
        let full = self.known.len() >= MOST_REQUESTS && !self.known.contains_key(&key);
        let object = object.filter(|_| !full);
        let read = object.and_then(|object| {
            Some((intake::request(&object.metadata, &object.spec, &self.terms.instance)?, object))
        });
        let Some((read, object)) = read else {
            self.known.remove(&key);
            return Change::Headroom(key, None);
        };
        let conditions = object.status.and_then(|mut status| status.get_mut("conditions").map(Value::take));
        let known = Known {
            parts: parts_of(&read, namespace, templates),
            read,
            created: object.metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            generation: object.metadata.generation.unwrap_or(0),
            conditions: conditions.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default(),
        };
        let headroom = known.headroom(&self.terms).map(Arc::new);
        self.known.insert(key.clone(), known);
        Change::Headroom(key, headroom)
    }

    /// Reads the templates of all requests again: one of them is another.
    pub(super) fn read_again(&mut self, templates: &BTreeMap<Name, Pods>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, known) in &mut self.known {
            let parts = parts_of(&known.read, &key.namespace, templates);
            if parts != known.parts {
                known.parts = parts;
                changes.push(Change::Headroom(key.clone(), known.headroom(&self.terms).map(Arc::new)));
            }
        }
        changes
    }
}

fn parts_of(
    read: &Result<Request, IntakeError>,
    namespace: &Arc<str>,
    templates: &BTreeMap<Name, Pods>,
) -> Result<Vec<HeadroomPart>, Arc<str>> {
    let request = read.as_ref().map_err(|error| Arc::from(error.to_string()))?;
    let kinds = request.sets.iter().map(|(name, _)| {
        match templates.get(&(Arc::clone(namespace), Arc::clone(name))) {
            Some(Ok(pods)) => Ok(&**pods),
            Some(Err(error)) => Err(Arc::from(format!("PodTemplate {name}: {error}"))),
            None => {
                let why = format!("there is no PodTemplate {name} in namespace {namespace}; create it");
                Err(Arc::from(why))
            }
        }
    });
    Ok(request.parts(kinds.collect::<Result<Vec<_>, Arc<str>>>()?))
}
