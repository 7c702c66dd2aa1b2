//! What was found to be wrong, by the name of the rule that it breaks.

use std::fmt;

/// A rule that must hold, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Each step's intent is durable before the step.
    IntentInLedger,
    /// A step fits the world that it was planned on: objects exist, identities match.
    Precondition,
    /// A pool is never taken over its maximum.
    Maximum,
    /// A pool is never taken under its minimum.
    Minimum,
    /// The cluster is never taken over its ceiling.
    Ceiling,
    /// Every purchase serves a named demand.
    NamedDemand,
    /// No demand is served twice.
    DoubleDemand,
    /// What is asked for as a whole is bought for as a whole.
    AllOrNothing,
    /// What is to come is bought for when it is time, within its bounds.
    AheadOfTime,
    /// A pool that must not be asked is not asked.
    PoolNotToBeAsked,
    /// A group is made smaller by naming machines; only capacity that never came is given up by number.
    LoweredByName,
    /// Nobody acts under an epoch that another has ended.
    Fencing,
    /// Nothing is evicted from a node that was not marked before.
    MarkedBeforeEvicted,
    /// Evictions stay within disruption budgets.
    DisruptionBudget,
    /// No voluntary cause touches a pod against its annotations or the drain rules.
    DrainRules,
    /// A node goes only when its pods have a place elsewhere.
    PlaceElsewhere,
    /// A machine is given back only when nothing that has to move is left on its node.
    EmptyBeforeRelease,
    /// Removals in flight stay within their limits.
    Parallelism,
    /// Taints and cordons of ours are finished or undone.
    LostMark,
    /// What was removed is not bought again on unchanged demand.
    Oscillation,
    /// Nothing is done to what is in dry run.
    DryRun,
    /// Where a plan puts a pod, every rule of scheduling holds.
    Placement,
    /// Every pod that a pool can take is placed in bounded time.
    Liveness,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub rule: Rule,
    /// The pool, node or pod that it is about.
    pub subject: String,
    pub detail: String,
}

impl Violation {
    pub fn new(rule: Rule, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self { rule, subject: subject.to_string(), detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}: {}", self.rule, self.subject, self.detail)
    }
}
