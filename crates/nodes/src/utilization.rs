//! How much of a node is asked for.
//!
//! Requests of allocatable, the larger share of cpu and memory; on a node with GPUs the share of those. Real usage is
//! not read.

use crate::fleet::PoolAccount;
use crate::pool_policy;
use crate::round::Round;
use crate::supply::class_of;
use model::{Node, Pod, Profile, Resources};
use packing::{ClassIx, Room};

/// Requested share of a node; unknown where it offers nothing to divide by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Utilization {
    Permille(u32),
    /// Allocatable is zero: nothing sensible can be said.
    Unknown,
}

impl Utilization {
    /// For ordering: what is unknown counts as full, because it is not to be removed.
    pub(crate) fn permille(self) -> u32 {
        match self {
            Self::Permille(permille) => permille,
            Self::Unknown => u32::MAX,
        }
    }
}

pub(crate) struct Load {
    /// The pods that hold room there, by class.
    pub pods: Vec<(ClassIx, u32)>,
    pub utilization: Utilization,
    /// Nothing but `DaemonSet` and mirror pods runs there.
    pub idle: bool,
}

/// Whether a pod counts on its node: bound, not ended, and not expendable.
pub(crate) fn counts(round: &Round<'_>, pod: &Pod) -> bool {
    pod.occupies() && pod.shape.priority >= round.policies.expendable_pods_priority_cutoff
}

/// Adds up the pods of a node, once.
pub(crate) fn load(round: &Round<'_>, node: &Node, room: &mut Room) -> Load {
    let policies = round.policies;
    let pool = round.cluster.pool_of(node);
    let strict = pool.is_some_and(|pool| pool_policy::profile(round, pool) == Profile::NodePolicy);
    let without_daemons = pool
        .and_then(|pool| pool.options.ignore_daemonsets_utilization)
        .unwrap_or(policies.ignore_daemonsets_utilization);
    let mut pods: Vec<(ClassIx, u32)> = Vec::new();
    let mut requested = Resources::default();
    let mut ignored = Resources::default();
    let mut idle = true;
    for pod in round.cluster.pods_on(&node.name).filter(|pod| counts(round, pod)) {
        let class = class_of(room, pod);
        match pods.iter_mut().find(|(known, _)| *known == class) {
            Some((_, count)) => *count += 1,
            None => pods.push((class, 1)),
        }
        idle &= pod.daemon || pod.mirror;
        let leave_out =
            (without_daemons && pod.daemon) || (policies.ignore_mirror_pods_utilization && pod.mirror);
        if leave_out { &mut ignored } else { &mut requested }.add(&pod.shape.requests);
    }
    let mut allocatable = node.allocatable.clone();
    allocatable.subtract(&ignored);
    Load { pods, utilization: share(&requested, &allocatable, &node.allocatable, strict), idle }
}

/// The part of a node, in per cent, at which it is no longer under-used.
pub(crate) fn threshold_percent(round: &Round<'_>, node: &Node, account: &PoolAccount) -> u32 {
    let (options, policies) = (&account.pool.options, round.policies);
    let by_gpu = gpu(&node.allocatable).is_some()
        && pool_policy::profile(round, &account.pool) == Profile::ClusterAutoscaler;
    if by_gpu {
        return options
            .gpu_utilization_threshold_percent
            .unwrap_or(policies.gpu_utilization_threshold_percent);
    }
    options.utilization_threshold_percent.unwrap_or(policies.utilization_threshold_percent)
}

fn gpu(whole: &Resources) -> Option<(&model::ResourceName, &u64)> {
    whole.extended.iter().find(|(name, n)| is_gpu(&name.0) && **n > 0)
}

/// `strict`: the rules of a cluster-wide policy, by which cpu and memory must both be *under* the threshold, whatever
/// else the node has.
fn share(requested: &Resources, of: &Resources, whole: &Resources, strict: bool) -> Utilization {
    if let Some((name, amount)) = gpu(whole).filter(|_| !strict) {
        return permille(requested.extended.get(name).copied().unwrap_or(0), *amount);
    }
    if whole.cpu.0 == 0 || whole.memory.0 == 0 {
        return Utilization::Unknown;
    }
    let permille = if strict { permille_and_one } else { permille };
    let cpu = permille(requested.cpu.0, of.cpu.0);
    let memory = permille(requested.memory.0, of.memory.0);
    if cpu.permille() >= memory.permille() { cpu } else { memory }
}

fn is_gpu(name: &str) -> bool {
    name.ends_with("/gpu")
}

/// The next whole one over the share: at most the threshold exactly where the share is under it.
fn permille_and_one(part: u64, of: u64) -> Utilization {
    if of == 0 {
        return permille(part, of);
    }
    let share = u128::from(part) * 1000 / u128::from(of) + 1;
    Utilization::Permille(u32::try_from(share).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
}

fn permille(part: u64, of: u64) -> Utilization {
    if of == 0 {
        return Utilization::Permille(if part == 0 { 0 } else { u32::MAX - 1 });
    }
    // Rounded up: a share just over the threshold is over it.
    let share = (u128::from(part) * 1000).div_ceil(u128::from(of));
    Utilization::Permille(u32::try_from(share).unwrap_or(u32::MAX - 1).min(u32::MAX - 1))
}
