//! Rules that ask for nodes by the clock and by a pool's allocation rate, and what became of each.
//!
//! Owns the nouns, and the reasons with their sentences. What a rule leads to is `nodes`' business.

use crate::{NodeName, PoolId, PoolRejection, RuleSetKey, Uid};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Rules for some pools, as one object holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSet {
    pub key: RuleSetKey,
    pub uid: Uid,
    /// Of the object's wishes, to say which of them a status is about.
    pub generation: i64,
    pub created_at: Timestamp,
    #[serde(default)]
    pub disabled: bool,
    /// What would be done is said and not done.
    #[serde(default)]
    pub dry_run: bool,
    /// Of the schedules; without one, the policies'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Arc<str>>,
    /// Pools by id or name.
    pub targets: Vec<Arc<str>>,
    pub rules: Vec<NodeRule>,
    /// When rules ran last by the word of the object's own status: what is left to know when the ledger is lost.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ran: BTreeMap<Arc<str>, Timestamp>,
    /// Why the object cannot be followed at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Arc<str>>,
}

/// One rule. Names are unique within a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRule {
    pub name: Arc<str>,
    #[serde(default)]
    pub disabled: bool,
    pub when: RuleTrigger,
}

/// When a rule acts, and what it does then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleTrigger {
    /// At the times of a schedule.
    Cron { schedule: Arc<str>, action: RuleAction },
    /// While requests are over (to add) or under (to remove) so many percent of what the pool offers; without a
    /// number, of a default.
    Rate { metric: RateMetric, threshold_percent: Option<u32>, action: RuleAction },
    /// When an alert with these labels comes, each alert once, and not sooner than so long after its last run.
    Alert { labels: BTreeMap<Arc<str>, Arc<str>>, interval: SignedDuration, action: RuleAction },
    /// From the times of one schedule until those of another at least so many nodes, else so many.
    Floor { start: Arc<str>, end: Arc<str>, nodes: u32, otherwise: u32 },
}

/// An alert that fires, as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertDemand {
    /// What its sender calls this set of labels.
    pub fingerprint: Arc<str>,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Since when it fires; where the sender does not know, when it was heard of.
    pub starts_at: Timestamp,
}

impl AlertDemand {
    /// Whether it has all of these labels.
    pub fn has(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// What is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RateMetric {
    Cpu,
    Memory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleAction {
    Add(RuleSize),
    /// Through the one path of removals, with all of its guards; so it may take fewer.
    Remove(RuleSize),
}

/// How many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleSize {
    Nodes(u32),
    /// Of the pool's present nodes, rounded up.
    Percent(u32),
    /// As few as bring the rate strictly under the threshold.
    Computed,
}

impl RuleSize {
    /// The number for a pool of `present` nodes; none where it takes the rate to tell.
    pub fn of(self, present: u32) -> Option<u32> {
        match self {
            Self::Nodes(nodes) => Some(nodes),
            Self::Percent(percent) => {
                let nodes = (u64::from(present) * u64::from(percent)).div_ceil(100);
                Some(u32::try_from(nodes).unwrap_or(u32::MAX))
            }
            Self::Computed => None,
        }
    }
}

/// A time of a schedule that has come for a pool and was not acted on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DueRun {
    pub at: Timestamp,
    /// After this it is given up; open while the pool is growing, which is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// It was ordered before and that order failed: a pool that shows this size took it all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<u32>,
}

/// Nodes of a pool that a rule lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Letting {
    pub nodes: u32,
    pub until: Timestamp,
}

/// What must be remembered of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleMemory {
    /// The schedule whose times are counted, and its zone; another one is counted from when it is first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Arc<str>>,
    /// Times of the schedule up to this one were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub due: BTreeMap<PoolId, DueRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How many nodes the last run was about.
    #[serde(skip_serializing_if = "is_zero")]
    pub last_nodes: u32,
    /// Times that nobody acted on, and the newest of them.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Timestamp>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub letting: BTreeMap<PoolId, Letting>,
    /// The alerts that were taken last, by fingerprint, with when each began.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alerts: BTreeMap<Arc<str>, Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a round says of an object's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RuleSetVerdict {
    pub generation: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Arc<str>>,
    pub disabled: bool,
    pub dry_run: bool,
    pub time_zone: Arc<str>,
    /// Targets that no pool answers to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_pools: Vec<Arc<str>>,
    pub rules: Vec<RuleVerdict>,
}

/// What a round says of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleVerdict {
    pub name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<Timestamp>,
    /// How many nodes that was about.
    #[serde(default)]
    pub last_nodes: u32,
    /// The next times of its schedule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next_runs: Vec<Timestamp>,
    #[serde(default)]
    pub missed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_missed: Option<Timestamp>,
    /// Where the rule's threshold is no higher than the one under which nodes go: that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removal_threshold_percent: Option<u32>,
    /// Of each pool that it is about.
    pub pools: BTreeMap<PoolId, RuleReason>,
    /// Of the rule as a whole, where that is all there is to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RuleReason>,
}

impl RuleVerdict {
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            last_run: None,
            last_nodes: 0,
            next_runs: Vec::new(),
            missed: 0,
            last_missed: None,
            removal_threshold_percent: None,
            pools: BTreeMap::new(),
            reason: None,
        }
    }
}

/// What a rule did for a pool, or why it did nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[must_use]
pub enum RuleReason {
    /// So many, of so many that it asks for.
    Added {
        nodes: u32,
        wanted: u32,
    },
    /// So many nodes may go now, if their pods have a place elsewhere.
    Removing {
        nodes: u32,
    },
    /// The object is in dry run.
    WouldAdd {
        nodes: u32,
    },
    WouldRemove {
        nodes: u32,
    },
    Disabled,
    InvalidSchedule {
        why: Arc<str>,
    },
    /// The schedule's next time has not come.
    NotDue,
    /// No alert has come that it waits for, or it was taken before.
    NoAlert,
    /// The rate is not over the threshold (or not under it, for a rule that removes).
    NotFiring {
        rate_percent: u32,
        threshold_percent: u32,
    },
    /// The due time is kept until the pool has stopped growing.
    WaitsForPool {
        due: Timestamp,
    },
    /// The rate is over the threshold while the pool grows.
    Dropped {
        rate_percent: u32,
    },
    /// Pods that wait for nodes were served in this round.
    PodsFirst,
    /// Another rule adds more.
    LargerRule {
        rule: Arc<str>,
    },
    PoolEmpty,
    /// A node's accelerators are not there yet.
    DriverMissing {
        node: NodeName,
    },
    /// The pool offers nothing to divide by.
    NothingAllocatable,
    /// What each node carries of its own is over the threshold: no number of nodes helps.
    OutOfReach {
        threshold_percent: u32,
    },
    /// The pool cannot grow.
    Rejected {
        rejection: PoolRejection,
    },
    /// Its time passed while the pool could not grow, or nobody was there.
    Missed {
        at: Timestamp,
    },
    /// The pool has as many nodes as the rule asks for at this time.
    FloorHeld {
        nodes: u32,
    },
    /// The pool is on its way to as many nodes as the rule asks for.
    FloorAwaited {
        nodes: u32,
    },
    /// The rule asks for more than the pool may have, and holds it there.
    FloorOverMaximum {
        nodes: u32,
        max: u32,
    },
    /// The pool is at its minimum, or at what another rule holds.
    AtMinimum {
        min: u32,
    },
    /// Nodes of the pool are leaving already; one thing after the other.
    NodesLeaving {
        nodes: u32,
    },
    /// A pool that launches single machines takes no numbers.
    NotAGroup,
    /// Rules, pools or nodes are not up to date.
    NotFresh,
}

impl RuleReason {
    /// The reason as a word, for machines and for the troubleshooting table.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Added { .. } => "Added",
            Self::Removing { .. } => "Removing",
            Self::WouldAdd { .. } => "WouldAdd",
            Self::WouldRemove { .. } => "WouldRemove",
            Self::Disabled => "Disabled",
            Self::InvalidSchedule { .. } => "InvalidSchedule",
            Self::NotDue => "NotDue",
            Self::NoAlert => "NoAlert",
            Self::NotFiring { .. } => "NotFiring",
            Self::WaitsForPool { .. } => "WaitsForPool",
            Self::Dropped { .. } => "Dropped",
            Self::PodsFirst => "PodsFirst",
            Self::LargerRule { .. } => "LargerRule",
            Self::PoolEmpty => "PoolEmpty",
            Self::DriverMissing { .. } => "DriverMissing",
            Self::NothingAllocatable => "NothingAllocatable",
            Self::OutOfReach { .. } => "OutOfReach",
            Self::Rejected { rejection } => match rejection {
                PoolRejection::MaxSizeReached { .. } => "MaxSizeReached",
                PoolRejection::NodeCeiling { .. } => "NodeCeiling",
                PoolRejection::ResourceCeiling => "ResourceCeiling",
                PoolRejection::BackOff { .. } => "BackOff",
                PoolRejection::NotHealthy { .. } => "NotHealthy",
                PoolRejection::Frozen { .. } => "Frozen",
                PoolRejection::ProviderStale => "ProviderStale",
                PoolRejection::NoTemplate => "NoTemplate",
                _ => "Rejected",
            },
            Self::Missed { .. } => "Missed",
            Self::FloorHeld { .. } => "FloorHeld",
            Self::FloorAwaited { .. } => "FloorAwaited",
            Self::FloorOverMaximum { .. } => "FloorOverMaximum",
            Self::AtMinimum { .. } => "AtMinimum",
            Self::NodesLeaving { .. } => "NodesLeaving",
            Self::NotAGroup => "NotAGroup",
            Self::NotFresh => "NotFresh",
        }
    }
}

impl fmt::Display for RuleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { nodes, wanted } if nodes < wanted => {
                write!(f, "{nodes} of {wanted} node(s) added: more are not allowed now")
            }
            Self::Added { nodes, .. } => write!(f, "{nodes} node(s) added"),
            Self::Removing { nodes } => {
                write!(f, "{nodes} node(s) may go now, if their pods have a place elsewhere")
            }
            Self::WouldAdd { nodes } => write!(f, "dry run: {nodes} node(s) would be added"),
            Self::WouldRemove { nodes } => write!(f, "dry run: {nodes} node(s) would be let go"),
            Self::Disabled => f.write_str("it is switched off"),
            Self::InvalidSchedule { why } => f.write_str(why),
            Self::NotDue => f.write_str("its next time has not come"),
            Self::NoAlert => f.write_str("no new alert that it waits for has come"),
            Self::NotFiring { rate_percent, threshold_percent } => {
                write!(
                    f,
                    "the allocation rate is {rate_percent} %, which does not pass {threshold_percent} %"
                )
            }
            Self::WaitsForPool { due } => {
                write!(f, "its time {due} has come; it is kept until the pool has stopped growing")
            }
            Self::Dropped { rate_percent } => write!(
                f,
                "the allocation rate of {rate_percent} % was met while the pool is growing, which drops it; it is \
                 measured anew when the pool has grown"
            ),
            Self::PodsFirst => {
                f.write_str("pods that wait for nodes were served first; it is its turn next round")
            }
            Self::LargerRule { rule } => write!(f, "rule {rule} adds more to the same pool"),
            Self::PoolEmpty => f.write_str("the pool has no node, so it has no allocation rate"),
            Self::DriverMissing { node } => {
                write!(f, "node {node} does not show its accelerators yet: the driver is not installed")
            }
            Self::NothingAllocatable => f.write_str("the pool's nodes offer nothing to divide by"),
            Self::OutOfReach { threshold_percent } => write!(
                f,
                "DaemonSets alone take {threshold_percent} % of a new node or more: no number of nodes brings the \
                 rate under that"
            ),
            Self::Rejected { rejection } => write!(f, "{rejection}"),
            Self::Missed { at } => {
                write!(
                    f,
                    "its time {at} passed without the pool being able to grow, or while nobody was there"
                )
            }
            Self::FloorHeld { nodes } => write!(f, "the pool is held at {nodes} node(s) or more"),
            Self::FloorAwaited { nodes } => write!(f, "the pool is growing to {nodes} node(s)"),
            Self::FloorOverMaximum { nodes, max } => {
                write!(f, "{nodes} node(s) are asked for; the pool is held at its maximum of {max}")
            }
            Self::AtMinimum { min } => write!(f, "the pool is at its minimum of {min}"),
            Self::NodesLeaving { nodes } => write!(f, "{nodes} node(s) of the pool are leaving already"),
            Self::NotAGroup => f.write_str("the pool launches single machines and takes no number of nodes"),
            Self::NotFresh => {
                f.write_str("what is known of the rules, the pool or its nodes is not up to date")
            }
        }
    }
}
