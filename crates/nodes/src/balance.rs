//! Pools whose machines are alike grow evenly.
//!
//! Owns which pools count as alike, the even sizes, and moving what was bought from one pool of such a set to another.
//! A machine is moved only where every pod that was planned on it would fit there as well, and none of them looks at
//! where other pods are: zones that matter to pods are the joint solve's.

use crate::claims::fingerprint;
use crate::fleet::Fleet;
use crate::growth::Candidate;
use crate::round::Round;
use crate::supply::take_missing;
use model::{Choice, NodeTemplate, PoolId, Resources};
use packing::{ClassIx, Room, SpotIx};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Labels that differ between pools that are alike: where a machine is and which pool it is of.
const IGNORED: [&str; 16] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/fluentd-ds-ready",
    "kops.k8s.io/instancegroup",
    "alpha.eksctl.io/instance-id",
    "alpha.eksctl.io/nodegroup-name",
    "eks.amazonaws.com/nodegroup",
    "k8s.amazonaws.com/eniConfig",
    "lifecycle",
    "topology.ebs.csi.aws.com/zone",
    "topology.k8s.aws/zone-id",
    "tideline.dev/pool",
    "cluster.x-k8s.io/deployment-name",
];

/// Whether machines of two pools count as alike.
pub(crate) fn alike(choice: &Choice, a: &NodeTemplate, b: &NodeTemplate) -> bool {
    if !choice.balancing_labels.is_empty() {
        return choice.balancing_labels.iter().all(|key| a.labels.get(key) == b.labels.get(key));
    }
    let ignored = |key: &str| {
        IGNORED.contains(&key) || choice.balancing_ignored_labels.iter().any(|known| **known == *key)
    };
    let of = |template: &NodeTemplate| -> Vec<(Arc<str>, Arc<str>)> {
        let kept = template.labels.iter().filter(|(key, _)| !ignored(key));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    of(a) == of(b) && close(choice, &a.allocatable, &b.allocatable)
}

fn close(choice: &Choice, a: &Resources, b: &Resources) -> bool {
    let within = |a: u64, b: u64, permille: u32| {
        u128::from(a.abs_diff(b)) * 1000 <= u128::from(a.max(b)) * u128::from(permille)
    };
    let tolerated = choice.allocatable_difference_permille;
    a.extended == b.extended
        && within(a.cpu.0, b.cpu.0, tolerated)
        && within(a.memory.0, b.memory.0, choice.memory_difference_permille)
        && within(a.ephemeral_storage.0, b.ephemeral_storage.0, tolerated)
        && within(u64::from(a.pods), u64::from(b.pods), tolerated)
}

/// One node after the other goes to the smallest pool that may still grow; the first of those that are equal.
/// What no pool may take is left out.
pub(crate) fn even(sizes: &[(u32, u32)], add: u32) -> Vec<u32> {
    let mut now: Vec<u32> = sizes.iter().map(|(size, _)| *size).collect();
    for _ in 0..add {
        let growing = (0..now.len()).filter(|at| now[*at] < sizes[*at].1);
        let Some(smallest) = growing.min_by_key(|at| now[*at]) else { break };
        now[smallest] += 1;
    }
    now
}

/// Spreads what was bought over pools that are alike.
pub(crate) fn spread(
    round: &mut Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &mut [Candidate],
    open: &BTreeMap<PoolId, Option<u32>>,
) {
    if !round.policies.choice.balance_similar {
        return;
    }
    let mut done = vec![false; candidates.len()];
    for first in 0..candidates.len() {
        if done[first] || candidates[first].bought == 0 {
            continue;
        }
        let set: Vec<usize> =
            (0..candidates.len()).filter(|at| is_like(round, fleet, candidates, first, *at, open)).collect();
        for at in &set {
            done[*at] = true;
        }
        if set.len() > 1 {
            balance(round, fleet, room, candidates, &set, open);
        }
    }
}

fn is_like(
    round: &Round<'_>,
    fleet: &Fleet,
    candidates: &[Candidate],
    first: usize,
    at: usize,
    open: &BTreeMap<PoolId, Option<u32>>,
) -> bool {
    let template = |at: usize| fleet.pools.get(&candidates[at].id)?.pool.template.as_ref();
    let may_grow = at == first || open.contains_key(&candidates[at].id);
    let same = |(a, b)| alike(&round.policies.choice, a, b);
    may_grow && template(first).zip(template(at)).is_some_and(same)
}

fn balance(
    round: &mut Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &mut [Candidate],
    set: &[usize],
    open: &BTreeMap<PoolId, Option<u32>>,
) {
    let sizes: Vec<(u32, u32)> = set
        .iter()
        .map(|at| {
            let id = &candidates[*at].id;
            let size = fleet.pools.get(id).map_or(0, |account| account.target);
            let most = open.get(id).copied().flatten().unwrap_or(u32::MAX);
            (size, size.saturating_add(most.max(candidates[*at].bought)))
        })
        .collect();
    let total = set.iter().map(|at| candidates[*at].bought).sum();
    let wanted: Vec<u32> =
        even(&sizes, total).iter().zip(&sizes).map(|(after, (before, _))| after - before).collect();
    for (to, want) in set.iter().zip(&wanted) {
        for (from, keep) in set.iter().zip(&wanted) {
            while candidates[*to].bought < *want && candidates[*from].bought > *keep {
                if !move_one(round, room, candidates, *from, *to) {
                    break;
                }
            }
        }
    }
    share_names(candidates, set);
}

/// Makes one planned machine of a pool one of another; false where none of them can be.
fn move_one(
    round: &mut Round<'_>,
    room: &mut Room,
    candidates: &mut [Candidate],
    from: usize,
    to: usize,
) -> bool {
    let (source, target) = (candidates[from].id.clone(), candidates[to].id.clone());
    let planned: Vec<(usize, SpotIx)> = (round.planned.iter().enumerate())
        .filter(|(_, (_, pool, _))| *pool == source)
        .map(|(at, (spot, _, _))| (at, *spot))
        .collect();
    for (at, spot) in planned {
        let pods: Vec<(ClassIx, u32)> = room.received(spot).to_vec();
        if !pods.iter().all(|(class, _)| suits(room, *class, &candidates[to])) {
            continue;
        }
        round.planned[at].1 = target;
        candidates[from].bought -= 1;
        candidates[to].bought += 1;
        for (class, count) in pods {
            let print = fingerprint(room.shape_of(class));
            take_claims(&mut candidates[from].claims, print, count);
            candidates[to].claims.push((print, count));
        }
        return true;
    }
    false
}

/// Whether pods of a class may as well be on a machine of this pool, wherever others are.
fn suits(room: &mut Room, class: ClassIx, candidate: &Candidate) -> bool {
    let shape = room.shape_of(class);
    if shape.depends_on_pods() || shape.volumes.is_some() {
        return false;
    }
    let mark = room.mark();
    let spot = room.add_promised(Arc::clone(&candidate.template.node));
    let fits = room.rejection(class, spot).is_none();
    room.rollback(mark);
    fits
}

fn take_claims(claims: &mut [(u64, u32)], print: u64, mut count: u32) {
    for (_, left) in claims.iter_mut().filter(|(known, _)| *known == print) {
        let taken = count.min(*left);
        *left -= taken;
        count -= taken;
    }
}

/// The demands of the whole set are named by its orders in proportion to their machines, each at least one.
fn share_names(candidates: &mut [Candidate], set: &[usize]) {
    let buying: Vec<usize> = set.iter().copied().filter(|at| candidates[*at].bought > 0).collect();
    let mut all = model::Serves::default();
    for at in set {
        let own = std::mem::take(&mut candidates[*at].serves);
        all.pods.append(own.pods);
        all.missing.extend(own.missing);
    }
    let mut machines: u32 = buying.iter().map(|at| candidates[*at].bought).sum();
    for at in buying {
        let bought = candidates[at].bought as usize;
        let pods = (all.pods.len() * bought).div_ceil((machines as usize).max(1));
        let replicas: u32 = all.missing.iter().map(|(_, count)| *count).sum();
        let missing = (u64::from(replicas) * bought as u64).div_ceil(u64::from(machines.max(1)));
        candidates[at].serves.pods = all.pods.take_first(pods);
        candidates[at].serves.missing = take_missing(&mut all.missing, missing as u32);
        machines -= candidates[at].bought;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Bytes, MilliCpu};

    /// B1 to B3, and B6 to B10: a pool over its maximum is left as it is.
    #[test]
    fn the_smallest_grow_first() {
        let four = [(1, 10), (3, 10), (5, 10), (5, 10)];
        assert_eq!(even(&four, 1), [2, 3, 5, 5]);
        assert_eq!(even(&four, 2), [3, 3, 5, 5]);
        assert_eq!(even(&four, 4), [4, 4, 5, 5]);
        let [ng1, ng2, ng3, ng4, ng5] = [(1, 1), (1, 3), (3, 10), (5, 7), (6, 3)];
        for (sizes, add, after) in [
            (vec![ng1], 1, vec![1]),
            (vec![ng1, ng2], 1, vec![1, 2]),
            (vec![ng1, ng2], 5, vec![1, 3]),
            (vec![ng2, ng3], 4, vec![3, 5]),
            (vec![ng2, ng3, ng4], 9, vec![3, 8, 7]),
            (vec![ng2, ng3, ng4], 900, vec![3, 10, 7]),
            (vec![ng2, ng5], 1, vec![2, 6]),
        ] {
            assert_eq!(even(&sizes, add), after, "{sizes:?} and {add}");
        }
    }

    fn template(memory: u64, labels: &[(&str, &str)]) -> NodeTemplate {
        let allocatable =
            Resources { cpu: MilliCpu(4000), memory: Bytes(memory), pods: 110, ..Resources::default() };
        let labels = labels.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect();
        NodeTemplate { labels, allocatable, ..NodeTemplate::default() }
    }

    /// B11 to B14.
    #[test]
    fn what_makes_pools_alike() {
        let plain = Choice::default();
        let base =
            template(100_000, &[("topology.kubernetes.io/zone", "a"), ("eks.amazonaws.com/nodegroup", "x")]);
        let zone =
            template(100_000, &[("topology.kubernetes.io/zone", "b"), ("eks.amazonaws.com/nodegroup", "y")]);
        assert!(alike(&plain, &base, &zone));
        assert!(alike(&plain, &template(100_000, &[]), &template(99_000, &[])));
        assert!(!alike(&plain, &template(100_000, &[]), &template(98_000, &[])));
        let (red, blue) = (template(1000, &[("team", "red")]), template(1000, &[("team", "blue")]));
        assert!(!alike(&plain, &red, &blue));
        let ignoring = Choice { balancing_ignored_labels: vec!["team".into()], ..Choice::default() };
        assert!(alike(&ignoring, &red, &blue));
        let only = Choice { balancing_labels: vec!["team".into()], ..Choice::default() };
        assert!(alike(&only, &red, &template(9000, &[("team", "red"), ("other", "z")])));
        assert!(!alike(&only, &red, &blue));
    }
}
