//! One autoscaler's decision: the value that counts, its bounds, and the replica profile to make true now.
//!
//! Owns the order of the steps: read and choose, clamp, stabilise, mind the allowed directions, change in steps.

use crate::behavior::{Behavior, History};
use crate::gray::{self, Counts, Session, Strategies};
use crate::outlook::{Expected, NextChange, next_change, outlook};
use crate::portrait::{Provider, Source, Value, choose, earlier, read};
use crate::stability::Held;
use jiff::Timestamp;
use std::sync::Arc;

/// Whether a direction may be taken at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    pub disabled: bool,
}

/// What a user asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Autoscaler {
    pub sources: Vec<Source>,
    pub min: u32,
    pub max: u32,
    /// Values are computed and nothing is planned.
    pub preview: bool,
    pub up: Direction,
    pub down: Direction,
    pub strategies: Strategies,
    pub behavior: Behavior,
}

/// What was decided before, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The replica profile as it is written; none before the first.
    pub planned: Option<Counts>,
    pub session: Option<Session>,
    /// Whether pods are as planned.
    pub settled: bool,
    pub history: History,
    /// Where a check failed.
    pub held: Option<Held>,
}

/// Which bound holds a value back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    TooFew,
    TooMany,
}

/// Something wrong with one source, which keeps no other from counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub provider: Provider,
    pub why: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The value that counts, before bounds.
    pub value: Option<Value>,
    pub problems: Vec<Problem>,
    pub limit: Option<Limit>,
    /// Online replicas in the end: within bounds, as allowed at this moment.
    pub target: Option<u32>,
    /// The replica profile to make true now; none where nothing is to be changed.
    pub plan: Option<Counts>,
    pub session: Option<Session>,
    pub history: History,
    /// When to decide again if nothing happens before.
    pub wake_at: Option<Timestamp>,
    pub next_change: Option<NextChange>,
    /// What will be followed, as far as it is told ahead; empty where nothing is planned.
    pub outlook: Vec<Expected>,
}

impl Autoscaler {
    /// The count that is chosen at a moment, within the bounds.
    pub(crate) fn wanted(&self, at: Timestamp) -> Option<u32> {
        self.followed(at).map(|value| clamp(value.replicas, self.min, self.max).0)
    }

    /// The value that is followed at a moment, before bounds.
    pub(crate) fn followed(&self, at: Timestamp) -> Option<Value> {
        let readings = self.sources.iter().map(|source| (source.priority, read(source, at)));
        let values = readings.filter_map(|(priority, reading)| Some((priority, reading.value?)));
        choose(values, at)
    }
}

/// Brings a count into its bounds; the maximum holds where they contradict each other.
pub fn clamp(replicas: u32, min: u32, max: u32) -> (u32, Option<Limit>) {
    let (mut clamped, mut limit) = (replicas, None);
    if clamped < min {
        (clamped, limit) = (min, Some(Limit::TooFew));
    }
    if clamped > max {
        (clamped, limit) = (max, Some(Limit::TooMany));
    }
    (clamped, limit)
}

/// Decides one autoscaler at a moment.
pub fn decide(autoscaler: &Autoscaler, state: &State, now: Timestamp) -> Decision {
    let mut values = Vec::new();
    let (mut problems, mut wake_at) = (Vec::new(), None);
    for source in &autoscaler.sources {
        let reading = read(source, now);
        wake_at = earlier(wake_at, reading.wake_at);
        problems.extend(reading.problem.map(|why| Problem { provider: source.provider.clone(), why }));
        values.extend(reading.value.map(|value| (source.priority, value)));
    }
    let value = choose(values, now);
    let wanted = value.as_ref().map(|value| clamp(value.replicas, autoscaler.min, autoscaler.max));
    let mut decision = Decision {
        value,
        problems,
        limit: wanted.and_then(|(_, limit)| limit),
        target: wanted.map(|(replicas, _)| replicas),
        plan: None,
        session: state.session,
        history: state.history.clone(),
        wake_at,
        next_change: next_change(autoscaler, wanted.map(|(replicas, _)| replicas), now),
        outlook: Vec::new(),
    };
    // Without a value everything stays as it is, a change that is under way included.
    let target = match wanted {
        Some((replicas, _)) if !autoscaler.preview => Some(replicas),
        None if !autoscaler.preview => state.session.map(|session| session.to),
        _ => None,
    };
    if !autoscaler.preview {
        decision.outlook = outlook(autoscaler, wanted.map(|(replicas, _)| replicas), now);
    }
    if let Some(target) = target {
        plan(autoscaler, state, target, now, &mut decision);
    } else if autoscaler.preview {
        decision.session = None;
    }
    decision
}

fn plan(autoscaler: &Autoscaler, state: &State, wanted: u32, now: Timestamp, decision: &mut Decision) {
    let mut target = wanted;
    if let Some(planned) = state.planned {
        let goal = state.session.map_or(planned.online, |session| session.to);
        let allowed = autoscaler.behavior.allow(&mut decision.history, goal, target, now);
        decision.wake_at = earlier(decision.wake_at, allowed.wake_at);
        target = allowed.replicas;
        if autoscaler.down.disabled {
            target = target.max(planned.online);
        }
        if autoscaler.up.disabled {
            target = target.min(planned.online);
        }
        if let Some(held) = state.held.filter(|held| now < held.until) {
            decision.wake_at = earlier(decision.wake_at, Some(held.until));
            target = held.bounded(target);
            if held.stops(target, planned) && state.session.is_some() {
                decision.target = decision.target.map(|_| target);
                decision.plan = Some(planned);
                return;
            }
        }
    }
    let step =
        gray::step(target, state.planned, state.session.as_ref(), autoscaler.strategies, state.settled, now);
    decision.target = decision.target.map(|_| target);
    decision.plan = Some(step.plan);
    decision.session = step.session;
    decision.wake_at = earlier(decision.wake_at, step.wake_at);
}
