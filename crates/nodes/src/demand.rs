//! Why nodes are wanted: pods that wait, and the replicas that their owners have not created yet.
//!
//! Owns which waiting pod counts and which is left out, each with its reason. What is left out because its time has
//! not come still keeps room: a node that it will be bound to is not to be bought for someone else or removed.

use crate::freshness::Freshness;
use crate::round::{Round, after};
use crate::supply::class_of;
use jiff::{SignedDuration, Timestamp};
use model::{Cohort, NodeName, Operator, Pod, PodNames, PodPhase, PodShape, Reason, Uid, WorkloadKey};
use packing::{ClassIx, Room, size_units};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pods of one class, and how many more their owners will create.
#[derive(Clone, Debug)]
pub(crate) struct DemandGroup {
    pub class: ClassIx,
    pub shape: Arc<PodShape>,
    /// Pods that a purchase may be made for, in key order: those that were refused, then those that are like them.
    pub pods: PodNames,
    /// Pods that only keep room.
    pub keeping_room: u32,
    pub missing: Vec<(WorkloadKey, u32)>,
}

impl DemandGroup {
    pub(crate) fn count(&self) -> u32 {
        let missing = self.missing.iter().fold(0u32, |sum, (_, count)| sum.saturating_add(*count));
        let pods = u32::try_from(self.pods.len()).unwrap_or(u32::MAX);
        pods.saturating_add(self.keeping_room).saturating_add(missing)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.keeping_room == 0 && self.missing.is_empty()
    }
}

pub(crate) struct Demand {
    /// Highest priority first, then largest, then by shape.
    pub groups: Vec<DemandGroup>,
    /// Pods whose rules are not modelled: a node that may suit one is kept.
    pub unmodelled: Vec<Arc<Pod>>,
    /// Pods that will run on one node that they or the scheduler have named.
    pub named: Vec<(Arc<Pod>, NodeName)>,
}

enum Class {
    /// The scheduler has not looked at it yet, but may have refused others like it.
    Awaits,
    /// Not waiting for a node at all.
    Ended,
    LeftOut(Reason),
    Unmodelled(Reason),
    Named(Reason, NodeName),
    KeepsRoom(Reason),
    Wants,
}

pub(crate) fn gather(round: &mut Round<'_>, fresh: &Freshness, room: &mut Room) -> Demand {
    let mut gathering = Gathering {
        groups: Groups::default(),
        demand: Demand { groups: Vec::new(), unmodelled: Vec::new(), named: Vec::new() },
        awaiting: BTreeMap::new(),
        owners: BTreeSet::new(),
        missing_left: round.policies.missing_replicas_limit,
    };
    let cluster = round.cluster;
    for cohort in cluster.waiting_cohorts() {
        let Some(pod) = cohort.pods().next() else { continue };
        if old_enough(round, pod, cohort) {
            let names = PodNames::from(Arc::clone(cohort.names()));
            gathering.take_in(round, fresh, room, pod, &names, cohort.pods());
        } else {
            for pod in cohort.pods() {
                let name = PodNames::one(pod.key.clone());
                gathering.take_in(round, fresh, room, pod, &name, std::iter::once(pod));
            }
        }
    }
    gathering.join_those_refused(round);
    gathering.in_order()
}

/// Whether the wait of all pods of a cohort is over, so that they are alike in this as well.
fn old_enough(round: &Round<'_>, pod: &Pod, cohort: &Cohort) -> bool {
    ripe_at(round, pod, cohort.youngest()) <= round.now
}

/// Clocks of a cluster are seldom further apart.
const TOLERATED_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// When a pod like this one that was made at `created` may be bought for.
fn ripe_at(round: &Round<'_>, pod: &Pod, created: Timestamp) -> Timestamp {
    let own = SignedDuration::from_secs(i64::from(pod.scale_up_delay_seconds.unwrap_or(0)));
    // Made far in our future: our clock is behind the API server's, and no pod must wait until it has caught up.
    if created > after(round.now, TOLERATED_SKEW) {
        return round.now;
    }
    after(created, own.max(round.policies.new_pod_scale_up_delay))
}

struct Gathering<'c> {
    groups: Groups,
    demand: Demand,
    /// Pods that the scheduler has not looked at yet.
    awaiting: BTreeMap<ClassIx, PodNames>,
    /// Owners that were asked what they want and have not made.
    owners: BTreeSet<&'c Uid>,
    missing_left: u32,
}

impl<'c> Gathering<'c> {
    /// Pods that are all like `pod`.
    fn take_in(
        &mut self,
        round: &mut Round<'_>,
        fresh: &Freshness,
        room: &mut Room,
        pod: &'c Arc<Pod>,
        names: &PodNames,
        all: impl Iterator<Item = &'c Arc<Pod>>,
    ) {
        let reason = match classify(round, pod) {
            Class::Ended => return,
            Class::LeftOut(reason) => reason,
            Class::Unmodelled(reason) => {
                self.demand.unmodelled.extend(all.map(Arc::clone));
                reason
            }
            Class::Named(reason, node) => {
                self.demand.named.extend(all.map(|pod| (Arc::clone(pod), node.clone())));
                reason
            }
            Class::KeepsRoom(reason) => {
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                let group = self.groups.of(room, pod);
                group.keeping_room = group.keeping_room.saturating_add(count);
                reason
            }
            Class::Awaits => {
                let class = self.groups.of(room, pod).class;
                self.awaiting.entry(class).or_default().append(names.clone());
                return;
            }
            Class::Wants => {
                let group = self.groups.of(room, pod);
                group.pods.append(names.clone());
                let missing = fresh
                    .workloads
                    .then(|| missing_replicas(round, pod, &mut self.owners, self.missing_left))
                    .flatten();
                if let Some((key, count)) = missing {
                    self.missing_left -= count;
                    group.missing.push((key, count));
                }
                return;
            }
        };
        round.verdicts.pods.say(names.clone(), reason);
    }

    /// Where the scheduler has refused a pod, the next ones like it fare no better: they are bought for in the same round,
    /// so that one change of a workload is one purchase. Others keep room until they were looked at.
    fn join_those_refused(&mut self, round: &mut Round<'_>) {
        for (class, names) in std::mem::take(&mut self.awaiting) {
            let Some(group) = self.groups.places.get(&class).map(|at| &mut self.groups.all[*at]) else {
                continue;
            };
            if group.pods.is_empty() {
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                group.keeping_room = group.keeping_room.saturating_add(count);
                round.verdicts.pods.say(names, Reason::AwaitsScheduler);
            } else {
                group.pods.append(names);
            }
        }
    }

    /// Highest priority first, then largest; then by shape, so that the order is the input's and not that in which the
    /// room has met the classes.
    fn in_order(self) -> Demand {
        let mut demand = self.demand;
        demand.groups = self.groups.all;
        demand.groups.sort_by(|a, b| (&a.shape, a.class).cmp(&(&b.shape, b.class)));
        demand
            .groups
            .sort_by_key(|group| (Reverse(group.shape.priority), Reverse(size_units(&group.shape.requests))));
        demand
    }
}

/// Groups by class, in the order in which they are met.
#[derive(Default)]
struct Groups {
    all: Vec<DemandGroup>,
    places: BTreeMap<ClassIx, usize>,
    last: Option<usize>,
}

impl Groups {
    fn of(&mut self, room: &mut Room, pod: &Pod) -> &mut DemandGroup {
        let class = class_of(room, pod);
        // Pods of one owner come one after the other.
        let known = self.last.filter(|at| self.all[*at].class == class);
        let at = known.or_else(|| self.places.get(&class).copied()).unwrap_or_else(|| {
            self.all.push(DemandGroup {
                class,
                shape: Arc::clone(&pod.shape),
                pods: PodNames::default(),
                keeping_room: 0,
                missing: Vec::new(),
            });
            self.places.insert(class, self.all.len() - 1);
            self.all.len() - 1
        });
        self.last = Some(at);
        &mut self.all[at]
    }
}

fn classify(round: &mut Round<'_>, pod: &Pod) -> Class {
    if matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed) || pod.deletion_at.is_some() || pod.mirror
    {
        return Class::Ended;
    }
    if pod.gated {
        return Class::LeftOut(Reason::Gated);
    }
    let named = only_node(&pod.shape);
    if pod.daemon {
        return match named {
            Some(node) => Class::Named(Reason::DaemonPod, node),
            None => Class::LeftOut(Reason::DaemonPod),
        };
    }
    let (priority, cutoff) = (pod.shape.priority, round.policies.expendable_pods_priority_cutoff);
    if priority < cutoff {
        return Class::LeftOut(Reason::Expendable { priority, cutoff });
    }
    if let Some(node) = pod.nominated.as_ref().filter(|node| round.cluster.nodes().contains_key(*node)) {
        return Class::Named(Reason::Nominated { node: node.clone() }, node.clone());
    }
    if let Some(rule) = pod.shape.unmodelled.first() {
        return Class::Unmodelled(Reason::PodNotModelled { rule: *rule });
    }
    if let Some(why) = pod.shape.volumes.as_ref().and_then(|needs| needs.refused.clone()) {
        return Class::LeftOut(Reason::VolumesRefused { why });
    }
    if let Some(node) = named {
        return Class::Named(Reason::BoundToNamedNode, node);
    }
    if let Some(name) = &pod.consumes {
        let of = model::request_key(&pod.key.namespace, name);
        // A request that is still open stands for its pods; of one that has been granted they are the rest.
        let open = round.cluster.headroom().get(&of).is_some_and(|request| request.purpose.is_whole());
        let reason = Reason::ConsumesRequest { of };
        return if open { Class::LeftOut(reason) } else { Class::KeepsRoom(reason) };
    }
    let until = ripe_at(round, pod, pod.created_at);
    if pod.unschedulable_since.is_none() {
        return if until <= round.now { Class::Awaits } else { Class::KeepsRoom(Reason::AwaitsScheduler) };
    }
    if !round.reached(until) {
        return Class::KeepsRoom(Reason::TooYoung { until });
    }
    Class::Wants
}

/// The one node that a shape's affinity allows by name, if it allows only one.
fn only_node(shape: &PodShape) -> Option<NodeName> {
    let terms = shape.node_affinity.as_ref()?;
    let mut names = terms.iter().map(|term| {
        term.match_fields
            .iter()
            .find(|field| field.operator == Operator::In && field.values.len() == 1)
            .map(|field| NodeName::new(&field.values[0]))
    });
    let first = names.next()??;
    names.all(|name| name.as_ref() == Some(&first)).then_some(first)
}

/// What the owner of a pending pod wants and has not created, asked once for each owner.
fn missing_replicas<'p>(
    round: &Round<'_>,
    pod: &'p Pod,
    owners: &mut BTreeSet<&'p Uid>,
    limit: u32,
) -> Option<(WorkloadKey, u32)> {
    let owner = pod.owner.as_ref()?;
    // Each replica of a StatefulSet has volumes of its own: where those are, the next one's are unknown.
    if pod.shape.volumes.as_ref().is_some_and(|needs| !needs.bound.is_empty())
        && &*owner.kind == "StatefulSet"
    {
        return None;
    }
    owners.insert(&owner.uid).then_some(())?;
    let key = WorkloadKey::new(&owner.kind, &pod.key.namespace, &owner.name);
    let workload = round.cluster.workloads().get(&key)?;
    if workload.blocked || workload.uid != owner.uid {
        return None;
    }
    let missing = workload.desired.saturating_sub(round.cluster.live_pods_of(&owner.uid)).min(limit);
    (missing > 0).then_some((key, missing))
}
