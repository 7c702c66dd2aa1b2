//! Stabilisation windows and rate policies, as in `behavior` of autoscaling/v2; where none is set nothing is limited.
//!
//! Owns the arithmetic and the history that it needs. The history is the caller's to keep: after a restart it starts
//! with the present count, so nothing goes down earlier than it would have.

use jiff::{SignedDuration, Timestamp};
use std::collections::VecDeque;

/// Recommendations that are kept: an hour's window at one every four seconds, equal neighbours counting once.
const MOST_RECOMMENDATIONS: usize = 1024;
/// Changes that are kept: more than one every two seconds over the longest period is never allowed to matter.
const MOST_CHANGES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAmount {
    Pods(u32),
    Percent(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub amount: PolicyAmount,
    pub period: SignedDuration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The policy that allows most.
    #[default]
    Max,
    Min,
    /// No change in this direction.
    Disabled,
}

/// What limits one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub stabilization: SignedDuration,
    pub policies: Vec<Policy>,
    pub select: Select,
}

impl Rules {
    fn is_empty(&self) -> bool {
        self.stabilization.is_zero() && self.policies.is_empty() && self.select != Select::Disabled
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behavior {
    pub up: Rules,
    pub down: Rules,
}

/// What was recommended and changed lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    recommendations: VecDeque<(Timestamp, u32)>,
    /// Positive for replicas added.
    changes: VecDeque<(Timestamp, i64)>,
}

/// What is allowed of a recommendation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) replicas: u32,
    /// When more may be allowed.
    pub(crate) wake_at: Option<Timestamp>,
}

impl Behavior {
    /// Limits `desired`, given that `current` was decided before, and notes both.
    pub(crate) fn allow(&self, history: &mut History, current: u32, desired: u32, now: Timestamp) -> Allowed {
        if self.up.is_empty() && self.down.is_empty() {
            *history = History::default();
            return Allowed { replicas: desired, wake_at: None };
        }
        let steady = self.stabilized(history, current, desired, now);
        let replicas = self.within_rate(history, current, steady, now);
        history.note(current, desired, replicas, now);
        let wake_at = (replicas != desired).then(|| self.next_look(history, now)).flatten();
        Allowed { replicas, wake_at }
    }

    fn stabilized(&self, history: &mut History, current: u32, desired: u32, now: Timestamp) -> u32 {
        if history.recommendations.is_empty() {
            history.recommendations.push_back((now, current));
        }
        let within = |window: SignedDuration| {
            history.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window)
        };
        let lowest = within(self.up.stabilization).map(|(_, count)| *count).fold(desired, u32::min);
        let highest = within(self.down.stabilization).map(|(_, count)| *count).fold(desired, u32::max);
        current.max(lowest).min(highest)
    }

    fn within_rate(&self, history: &History, current: u32, desired: u32, now: Timestamp) -> u32 {
        if desired > current {
            let limit = self.up.limit(history, current, now, |start, policy| match policy.amount {
                PolicyAmount::Pods(pods) => start + i64::from(pods),
                // Rounded up: else a small workload could never grow.
                PolicyAmount::Percent(percent) => (start * (100 + i64::from(percent)) + 99) / 100,
            });
            return desired.min(limit.map_or(desired, |limit| limit.1.max(current)));
        }
        if desired < current {
            let limit = self.down.limit(history, current, now, |start, policy| match policy.amount {
                PolicyAmount::Pods(pods) => start - i64::from(pods),
                PolicyAmount::Percent(percent) => start * (100 - i64::from(percent.min(100))) / 100,
            });
            return desired.max(limit.map_or(desired, |limit| limit.0.min(current)));
        }
        desired
    }

    /// The first moment at which something that limits is forgotten.
    fn next_look(&self, history: &History, now: Timestamp) -> Option<Timestamp> {
        let windows = [self.up.stabilization, self.down.stabilization];
        let periods = self.up.policies.iter().chain(&self.down.policies).map(|policy| policy.period);
        let of = |times: Vec<Timestamp>, waits: Vec<SignedDuration>| {
            times.into_iter().flat_map(move |at| {
                waits.clone().into_iter().filter_map(move |wait| at.checked_add(wait).ok())
            })
        };
        let recommended = history.recommendations.iter().map(|(at, _)| *at).collect();
        let changed = history.changes.iter().map(|(at, _)| *at).collect();
        of(recommended, windows.to_vec()).chain(of(changed, periods.collect())).filter(|at| *at > now).min()
    }
}

impl Rules {
    /// The lowest and the highest count that the policies allow together: whichever is asked of the caller's
    /// direction. None where nothing limits.
    fn limit(
        &self,
        history: &History,
        current: u32,
        now: Timestamp,
        proposed: impl Fn(i64, &Policy) -> i64,
    ) -> Option<(u32, u32)> {
        if self.select == Select::Disabled {
            return Some((current, current));
        }
        let proposals = self.policies.iter().map(|policy| {
            let start = i64::from(current) - history.changed_within(policy.period, now);
            u32::try_from(proposed(start, policy).max(0)).unwrap_or(u32::MAX)
        });
        let (lowest, highest) = (proposals.clone().min()?, proposals.max()?);
        // Most change: the lowest going down, the highest going up. Least change: the other way round.
        Some(if self.select == Select::Max { (lowest, highest) } else { (highest, lowest) })
    }
}

impl History {
    fn changed_within(&self, period: SignedDuration, now: Timestamp) -> i64 {
        self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period).map(|(_, change)| change).sum()
    }

    fn note(&mut self, current: u32, desired: u32, replicas: u32, now: Timestamp) {
        match self.recommendations.back_mut() {
            // The first of all stays where it is: it says what was there when we came.
            Some((at, count)) if *count == desired => *at = now,
            _ => self.recommendations.push_back((now, desired)),
        }
        if replicas != current {
            self.changes.push_back((now, i64::from(replicas) - i64::from(current)));
        }
        while self.recommendations.len() > MOST_RECOMMENDATIONS {
            self.recommendations.pop_front();
        }
        while self.changes.len() > MOST_CHANGES {
            self.changes.pop_front();
        }
    }
}
