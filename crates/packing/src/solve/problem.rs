//! The numeric problem: what is to be placed, where it may go, and what new machines cost.
//!
//! Owns the input types and their meaning. Names are left behind: every thing is an index into one of the lists here.
//! The order of the lists is the last tie key of every choice, so callers sort them by name: then equal input in
//! another order gives the same answer.

use super::bits::BitSet;

/// A topology key of the problem. Key 0 is `kubernetes.io/hostname`: every node is a domain of its own.
pub const HOSTNAME: usize = 0;
/// In a list of domains: the node does not carry the label.
pub const NO_DOMAIN: u32 = u32::MAX;

/// Counts pods that a selector matches, by domain of one topology key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally {
    /// Index into [`Problem::keys`].
    pub key: usize,
    /// Nodes that count, by kind; `None` = all. (`nodeAffinityPolicy`, `nodeTaintsPolicy` of spread constraints.)
    pub kinds: Option<BitSet>,
    /// Offerings whose nodes will count; `None` = all.
    pub offerings: Option<BitSet>,
    /// Pods that exist and match, by domain (keys other than hostname).
    pub initial: Vec<u32>,
    /// Pods that exist and match, by node (hostname only), ascending.
    pub initial_nodes: Vec<(u32, u32)>,
    /// Domains where a pod that exists has anti-affinity against members of this tally.
    pub forbidden: Vec<u32>,
    /// Nodes where a pod that exists has such anti-affinity (hostname only), ascending.
    pub forbidden_nodes: Vec<u32>,
}

/// A hard topology rule of a class. The class counts in the rule's tally iff it is in its [`Class::counts_in`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Pods in the pod's domain may exceed those in the emptiest domain by at most `max_skew`.
    Spread { tally: usize, max_skew: u32, min_domains: u32 },
    /// Some pod of the tally must be in the domain; the first pod may found it if it matches itself.
    Affinity { tally: usize },
    /// No other pod of the tally may be in the domain. Holds both ways; host ports are such a rule on hostname.
    Anti { tally: usize },
}

impl Rule {
    pub fn tally(&self) -> usize {
        match *self {
            Self::Spread { tally, .. } | Self::Affinity { tally } | Self::Anti { tally } => tally,
        }
    }
}

/// A preference. For new machines it is kept like a rule until it would leave a pod out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Soft {
    /// Topology like a hard rule.
    Rule(Rule),
    /// Only these kinds of node and offerings.
    Only { kinds: BitSet, offerings: BitSet },
}

/// Pods that are alike in everything that placing looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Class {
    pub count: u32,
    /// By resource; the pod itself (1) is one of the resources.
    pub requests: Vec<u64>,
    /// Higher goes first when room is scarce.
    pub priority: i32,
    /// Offerings that its lasting filters accept.
    pub offerings: BitSet,
    /// Kinds of existing nodes that they accept.
    pub kinds: BitSet,
    /// Tallies whose selector matches these pods, ascending.
    pub counts_in: Vec<usize>,
    pub rules: Vec<Rule>,
    /// In the order in which they are given up, first to last.
    pub softs: Vec<Soft>,
}

/// One machine type in one zone at one price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offering {
    pub pool: usize,
    /// Numbers the machine type within the problem: equal types in other zones share it.
    pub machine_type: u32,
    /// What pods may use: allocatable less the DaemonSet pods that will run there.
    pub room: Vec<u64>,
    /// Micro-USD an hour.
    pub price: u64,
    pub available: bool,
    /// Domain for each key; the entry of hostname is not read.
    pub domains: Vec<u32>,
    /// What one such node takes of the pool's [`Pool::limits`].
    pub uses: Vec<u64>,
    /// Values for the pool's [`Pool::min_values`], by requirement.
    pub values: Vec<u32>,
}

/// Where new machines come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Higher is used first, whatever the price.
    pub priority: i32,
    /// Machines that may be added; `None` = any number.
    pub max_new: Option<u32>,
    /// What is left of each limited amount; an offering's `uses` has one entry for each.
    pub limits: Vec<u64>,
    /// For each requirement with a minimum of values: how many different values the fitting offerings must have.
    pub min_values: Vec<u32>,
    /// Whether a machine whose pods leave it less choice than that is not bought; else choice is kept where it can be.
    pub keeps_choice: bool,
    /// Whether the provider chooses among offerings: then a new machine lists those that would do as well.
    pub flexible: bool,
}

/// A node that exists or is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spot {
    /// Nodes of one kind are accepted or refused alike by lasting filters.
    pub kind: usize,
    pub free: Vec<u64>,
    /// Domain for each key; the entry of hostname is not read.
    pub domains: Vec<u32>,
}

/// Everything that one solve looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Width of all vectors of resources.
    pub resources: usize,
    /// For each topology key how many domains it has; the first is hostname.
    pub keys: Vec<usize>,
    pub tallies: Vec<Tally>,
    pub classes: Vec<Class>,
    pub pools: Vec<Pool>,
    pub offerings: Vec<Offering>,
    /// In the order in which they are to be filled.
    pub spots: Vec<Spot>,
    /// Machines that may be added in this round over all pools; `None` = any number.
    pub max_new: Option<u32>,
}
