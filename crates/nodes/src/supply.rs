//! What there is room on, in the order in which it is used: nodes that are ready, nodes that could stay after all,
//! machines on their way.
//!
//! Serves demand from the room of one round before anything is bought. Owns what of it is spoken for; what its spots are
//! is `ground`'s.

mod ground;

pub(crate) use ground::{Ground, SpotKind};

use crate::claims::fingerprint;
use crate::demand::{Demand, DemandGroup};
use crate::fleet::{Fleet, PoolAccount};
use crate::round::Round;
use ground::Survey;
use jiff::Timestamp;
use model::{Node, NodeTemplate, OutlookKey, Pod, PodNames, PoolId, Reason, Taint, Uid, WorkloadKey};
use packing::{Ask, ClassIx, NodeView, Placed, Room, SpotIx, Template, first_lasting_rejection, size_units};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The taint of a node that is on its way out.
pub(crate) const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// The soft taint of a node that is not needed.
pub(crate) const DELETION_CANDIDATE: &str = "DeletionCandidateOfClusterAutoscaler";

/// Taints that say what a node is at the moment, not what it is for: a node that gets ready loses them.
const PASSING_TAINTS: [&str; 9] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// A part of a demand group that found no room.
#[derive(Clone, Debug)]
pub(crate) struct Unmet {
    pub class: ClassIx,
    pub shape: Arc<model::PodShape>,
    pub pods: PodNames,
    pub missing: Vec<(WorkloadKey, u32)>,
}

/// Where pods of groups (by their place in the list) were put.
pub(crate) type Packing = Vec<(usize, Placed)>;

/// Puts up to so many pods of a group, by its place in the list, on some spots.
type Put<'p> = dyn FnMut(&mut Room, usize, u32, Range<usize>) + 'p;

pub(crate) struct Supply {
    pub room: Room,
    pub ground: Arc<Ground>,
    /// The ground would be otherwise at another time.
    pub awaits_the_clock: bool,
    /// Ready nodes that waiting pods are about to be bound to.
    pub awaited: BTreeSet<SpotIx>,
    /// Ready nodes that what is known to come needs, with who tells it and by when.
    pub foreseen: BTreeMap<SpotIx, (OutlookKey, Timestamp)>,
    /// Pods with a node of their own that were put there.
    pub named: BTreeMap<ClassIx, u32>,
    /// Waiting pods that may take room on nodes that stay, although it is not theirs that is in question.
    pub contending: BTreeMap<ClassIx, u32>,
    /// Waiting pods that nothing is known to suit.
    pub unmodelled: Vec<Arc<Pod>>,
    /// Pods that do not exist and have room, by whose headroom they are.
    headroom: BTreeMap<ClassIx, WorkloadKey>,
}

impl Deref for Supply {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.ground
    }
}

impl Supply {
    pub(crate) fn of(round: &mut Round<'_>, fleet: &Fleet) -> Self {
        let Survey { room, ground, awaits_the_clock } = Survey::of(round, fleet);
        Self { awaits_the_clock, ..Self::on(Arc::new(ground), room) }
    }

    /// A supply of which nothing has been used yet.
    pub(crate) fn on(ground: Arc<Ground>, room: Room) -> Self {
        Self {
            room,
            ground,
            awaits_the_clock: false,
            awaited: BTreeSet::new(),
            foreseen: BTreeMap::new(),
            named: BTreeMap::new(),
            contending: BTreeMap::new(),
            unmodelled: Vec::new(),
            headroom: BTreeMap::new(),
        }
    }

    /// Keeps room for pods that move on nodes that are there, first on those that have just come for their like.
    /// Answers how many of each group have a place.
    pub(crate) fn keep_here(&mut self, groups: &[DemandGroup]) -> Vec<u32> {
        let mut here = vec![0; groups.len()];
        for (at, placed) in self.pack_new(groups) {
            here[at] += placed.count;
        }
        for (group, here) in groups.iter().zip(&mut here) {
            let rest = group.count() - *here;
            let placed = self.room.place(group.class, rest, 0..self.ground.ready_end);
            *here += placed.iter().map(|placed| placed.count).sum::<u32>();
        }
        here
    }

    /// The same on machines that are coming.
    pub(crate) fn keep_coming(&mut self, round: &Round<'_>, groups: &[DemandGroup]) -> Vec<u32> {
        let mut coming = vec![0; groups.len()];
        for (at, placed) in self.pack_coming(round, groups) {
            coming[at] += placed.count;
        }
        coming
    }

    /// Puts pods where they were bought for; several machines of one kind take them in their order.
    fn fill_reserved(&mut self, groups: &[DemandGroup], within: &Range<usize>, put: &mut Put<'_>) {
        let mut by_shape: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, group) in groups.iter().enumerate().filter(|(_, group)| !group.is_empty()) {
            by_shape.entry(fingerprint(&group.shape)).or_default().push(at);
        }
        let ground = Arc::clone(&self.ground);
        for (spot, serves) in ground.reserved.iter().filter(|(spot, _)| within.contains(&spot.0)) {
            for (shape, count) in serves {
                let mut left = *count;
                for at in by_shape.get(shape).into_iter().flatten() {
                    let before = self.room.received(*spot).iter().map(|(_, count)| count).sum::<u32>();
                    put(&mut self.room, *at, left, spot.0..spot.0 + 1);
                    let after = self.room.received(*spot).iter().map(|(_, count)| count).sum::<u32>();
                    left = left.saturating_sub(after.saturating_sub(before));
                }
            }
        }
    }

    /// Serves what can be served without buying, and returns the rest.
    ///
    /// First what there is, by priority; then each pool's machines on their way for the pods that they were bought
    /// for; then what room is left on those.
    pub(crate) fn serve(&mut self, round: &mut Round<'_>, demand: Demand) -> Vec<Unmet> {
        for (pod, node) in &demand.named {
            if let Some(spot) = self.spot(node) {
                let class = class_of(&mut self.room, pod);
                // Where it does not fit yet, the scheduler is still making room.
                if self.room.place_on(class, spot) {
                    *self.named.entry(class).or_default() += 1;
                }
                *self.contending.entry(class).or_default() += 1;
                if !pod.daemon {
                    self.awaited.insert(spot);
                }
            }
        }
        for pod in &demand.unmodelled {
            let class = class_of(&mut self.room, pod);
            *self.contending.entry(class).or_default() += 1;
        }
        self.unmodelled = demand.unmodelled;
        let mut groups = demand.groups;
        let standing = 0..self.standing_end;
        for (at, placed) in self.pack_new(&groups) {
            self.take(round, &mut groups[at], placed);
        }
        for group in &mut groups {
            self.place(round, group, standing.clone());
        }
        for (at, placed) in self.pack_coming(round, &groups) {
            self.take(round, &mut groups[at], placed);
        }
        for group in groups.iter().filter(|group| !group.is_empty()) {
            *self.contending.entry(group.class).or_default() += group.count();
        }
        groups
            .into_iter()
            .map(|group| Unmet {
                class: group.class,
                shape: group.shape,
                pods: group.pods,
                missing: group.missing,
            })
            .filter(|unmet| !unmet.pods.is_empty() || !unmet.missing.is_empty())
            .collect()
    }

    /// Places what fits of pods that do not exist: on nodes that are there, then on machines that are coming.
    pub(crate) fn keep(&mut self, round: &Round<'_>, groups: &[DemandGroup]) -> Packing {
        let mut groups = groups.to_vec();
        let mut kept = self.pack_new(&groups);
        for (at, place) in &kept {
            take_missing(&mut groups[*at].missing, place.count);
        }
        for (at, group) in groups.iter_mut().enumerate().filter(|(_, group)| !group.is_empty()) {
            for place in self.room.place(group.class, group.count(), 0..self.ground.standing_end) {
                take_missing(&mut group.missing, place.count);
                kept.push((at, place));
            }
        }
        kept.extend(self.pack_coming(round, &groups));
        kept
    }

    /// Notes whose a kept place is. True where it is on a node that is there, which then stays.
    pub(crate) fn hold(
        &mut self,
        round: &mut Round<'_>,
        of: &WorkloadKey,
        class: ClassIx,
        place: &Placed,
    ) -> bool {
        self.keep_marked(round, place.spot);
        self.headroom.insert(class, of.clone());
        place.spot.0 < self.standing_end
    }

    /// Whose headroom pods of a class are, if they are any.
    pub(crate) fn headroom_of(&self, class: ClassIx) -> Option<&WorkloadKey> {
        self.headroom.get(&class)
    }

    /// What is kept on a node for pods that do not exist.
    pub(crate) fn headroom_on(&self, spot: SpotIx) -> Vec<(ClassIx, u32)> {
        let received = self.room.received(spot).iter();
        received.filter(|(class, _)| self.headroom.contains_key(class)).copied().collect()
    }

    /// Finds other places for the headroom of a node that is closed; answers whose has none.
    pub(crate) fn rehouse(&mut self, spot: SpotIx) -> Option<WorkloadKey> {
        let homeless = self.headroom_on(spot).into_iter().find(|(class, count)| {
            let placed = self.room.place(*class, *count, 0..self.ground.ready_end);
            placed.iter().map(|placed| placed.count).sum::<u32>() < *count
        });
        homeless.and_then(|(class, _)| self.headroom_of(class).cloned())
    }

    /// Nodes that have just come first take what they were bought for: the scheduler is about to bind it.
    fn pack_new(&mut self, groups: &[DemandGroup]) -> Packing {
        let within = 0..self.ready_end;
        let mut left: Vec<u32> = groups.iter().map(DemandGroup::count).collect();
        let mut found = Vec::new();
        self.fill_reserved(groups, &within, &mut |room, at, most, spots| {
            if most.min(left[at]) > 0 {
                for placed in room.place(groups[at].class, most.min(left[at]), spots) {
                    left[at] -= placed.count;
                    found.push((at, placed));
                }
            }
        });
        found
    }

    /// Packs what is left on the machines on their way: in the order of need, or where that leaves something out that
    /// another order would not (they were bought for the largest pods first), in that one.
    fn pack_coming(&mut self, round: &Round<'_>, groups: &[DemandGroup]) -> Packing {
        let coming = self.standing_end..self.coming_end;
        if coming.is_empty() || groups.iter().all(DemandGroup::is_empty) {
            return Vec::new();
        }
        let claims: Vec<Vec<(PoolId, u32)>> = groups.iter().map(|group| claims_of(round, group)).collect();
        let none = vec![Vec::new(); groups.len()];
        let by_need: Vec<usize> = (0..groups.len()).collect();
        let (mut by_size, mut by_cpu) = (by_need.clone(), by_need.clone());
        let asks = |at: &usize| &groups[*at].shape.requests;
        by_size.sort_by_key(|at| Reverse(size_units(asks(at))));
        by_cpu.sort_by_key(|at| Reverse((asks(at).cpu, asks(at).memory, size_units(asks(at)))));
        let mut best: Option<(Vec<u32>, Packing)> = None;
        for (order, claims, honest) in [
            (&by_need, &claims, true),
            (&by_size, &claims, true),
            (&by_cpu, &claims, true),
            // What was bought for others is given away only where nobody is left out by it.
            (&by_size, &none, false),
            (&by_cpu, &none, false),
        ] {
            let mark = self.room.mark();
            let placed = self.pack_in_order(groups, order, claims, honest, &coming);
            self.room.rollback(mark);
            let left = left_out(groups, &placed);
            let better = best.as_ref().is_none_or(|(least, _)| {
                let nobody_worse = || left.iter().zip(least).all(|(new, old)| new <= old);
                size_of(groups, &left) < size_of(groups, least) && (honest || nobody_worse())
            });
            if better {
                best = Some((left, placed));
            }
            if best.as_ref().is_some_and(|(left, _)| left.iter().all(|left| *left == 0)) {
                break;
            }
        }
        let placed = best.map(|(_, placed)| placed).unwrap_or_default();
        for (at, place) in &placed {
            for _ in 0..place.count {
                let _fits = self.room.place_on(groups[*at].class, place.spot);
            }
        }
        placed
    }

    /// Each pool's machines first for the pods that they were bought for, then what room is left on any.
    fn pack_in_order(
        &mut self,
        groups: &[DemandGroup],
        order: &[usize],
        claims: &[Vec<(PoolId, u32)>],
        honest: bool,
        coming: &Range<usize>,
    ) -> Packing {
        let mut found = Vec::new();
        let mut left: Vec<u32> = groups.iter().map(DemandGroup::count).collect();
        let mut put = |room: &mut Room, at: usize, most: u32, spots: Range<usize>| {
            if most.min(left[at]) > 0 {
                for placed in room.place(groups[at].class, most.min(left[at]), spots) {
                    left[at] -= placed.count;
                    found.push((at, placed));
                }
            }
        };
        if honest {
            self.fill_reserved(groups, coming, &mut put);
        }
        for at in order {
            for (pool, count) in &claims[*at] {
                if let Some(spots) = self.of_pool.get(pool).cloned() {
                    put(&mut self.room, *at, *count, spots);
                }
            }
        }
        for at in order {
            put(&mut self.room, *at, u32::MAX, coming.clone());
        }
        found
    }

    /// Places what fits of a group and takes it off it.
    fn place(&mut self, round: &mut Round<'_>, group: &mut DemandGroup, spots: Range<usize>) {
        if group.is_empty() || spots.is_empty() {
            return;
        }
        let placed = if round.policies.respect_preferences {
            self.room.place_wishing(group.class, group.count(), spots)
        } else {
            self.room.place(group.class, group.count(), spots)
        };
        for placed in placed {
            self.take(round, group, placed);
        }
    }

    /// Takes pods that were placed off their group, and says where they are to run.
    fn take(&mut self, round: &mut Round<'_>, group: &mut DemandGroup, place: Placed) {
        if place.spot.0 < self.ready_end {
            self.awaited.insert(place.spot);
        } else {
            *self.contending.entry(group.class).or_default() += place.count;
        }
        self.keep_marked(round, place.spot);
        let named = group.pods.take_first(place.count as usize);
        let mut left = place.count - named.len() as u32;
        round.verdicts.pods.say(named, self.placed_reason(place.spot));
        let keeping = group.keeping_room.min(left);
        group.keeping_room -= keeping;
        left -= keeping;
        take_missing(&mut group.missing, left);
    }

    fn placed_reason(&self, spot: SpotIx) -> Reason {
        match &self.kinds[spot.0] {
            SpotKind::Ready(node) | SpotKind::Marked(node) => Reason::FitsOn { node: node.clone() },
            SpotKind::OnItsWay(pool) => Reason::WaitsForMachine { pool: pool.clone() },
        }
    }

    /// A node that was marked for removal is wanted after all.
    fn keep_marked(&self, round: &mut Round<'_>, spot: SpotIx) {
        if let SpotKind::Marked(node) = &self.kinds[spot.0] {
            crate::drains::undo(round, node);
        }
    }

    /// Whether a waiting pod whose rules are not modelled might be bound to this node.
    pub(crate) fn may_suit_unmodelled(&self, spot: SpotIx) -> bool {
        if self.unmodelled.is_empty() {
            return false;
        }
        let view = self.room.view(spot);
        self.unmodelled.iter().any(|pod| {
            pod.shape.requests.fits(view.free())
                && first_lasting_rejection(&Ask::of(&pod.shape), &view).is_none()
        })
    }
}

/// Which pools' open orders were made for pods of this shape, and for how many.
fn claims_of(round: &Round<'_>, group: &DemandGroup) -> Vec<(PoolId, u32)> {
    if group.is_empty() || round.ledger.scale_ups.is_empty() {
        return Vec::new();
    }
    let fingerprint = fingerprint(&group.shape);
    let orders = round.ledger.scale_ups.iter();
    orders
        .filter_map(|(id, order)| order.claims.get(&fingerprint).map(|count| (id.clone(), *count)))
        .collect()
}

/// How many of each group have no place.
fn left_out(groups: &[DemandGroup], placed: &[(usize, Placed)]) -> Vec<u32> {
    let mut left: Vec<u32> = groups.iter().map(DemandGroup::count).collect();
    for (at, place) in placed {
        left[*at] -= place.count;
    }
    left
}

fn size_of(groups: &[DemandGroup], left: &[u32]) -> u64 {
    let one = |group: &DemandGroup| size_units(&group.shape.requests).saturating_add(1);
    let sizes = groups.iter().zip(left).map(|(group, n)| one(group).saturating_mul(u64::from(*n)));
    sizes.fold(0, u64::saturating_add)
}

/// Takes up to `count` of the missing replicas, the first workloads first.
pub(crate) fn take_missing(missing: &mut Vec<(WorkloadKey, u32)>, mut count: u32) -> Vec<(WorkloadKey, u32)> {
    let mut taken = Vec::new();
    while count > 0
        && let Some((key, n)) = missing.first_mut()
    {
        let take = count.min(*n);
        taken.push((key.clone(), take));
        *n -= take;
        count -= take;
        if *n == 0 {
            missing.remove(0);
        }
    }
    taken
}

fn is_passing(round: &Round<'_>, taint: &Taint) -> bool {
    PASSING_TAINTS.contains(&&*taint.key)
        || &*taint.key == DELETION_CANDIDATE
        || round.policies.taints.is_passing(&taint.key)
}

/// The room's name for pods like this one.
pub(crate) fn class_of(room: &mut Room, pod: &Pod) -> ClassIx {
    if pod.deletion_at.is_some() {
        return room.terminating_class(&pod.shape, &pod.key.namespace, &pod.labels);
    }
    room.class(&pod.shape, &pod.key.namespace, &pod.labels)
}

/// What a new node of a pool will offer to pods: its template, with the DaemonSet pods that will run there.
pub(crate) fn template(round: &Round<'_>, account: &PoolAccount, room: &mut Room) -> Option<Template> {
    let template = account.pool.template.as_ref()?;
    Some(template_of(round, &account.pool.id, template, room))
}

fn template_of(round: &Round<'_>, pool: &PoolId, template: &NodeTemplate, room: &mut Room) -> Template {
    promise(round, Arc::new(Node::promised(&format!("{pool}-new"), template)), room)
}

/// A node that a pool can make, as it will be when it takes pods.
pub(crate) fn promise(round: &Round<'_>, mut node: Arc<Node>, room: &mut Room) -> Template {
    if node.taints.iter().any(|taint| is_passing(round, taint)) {
        let mut plain = Node::clone(&node);
        plain.taints.retain(|taint| !is_passing(round, taint));
        node = Arc::new(plain);
    }
    let overhead = daemons(round, &node, &BTreeSet::new(), room);
    Template { node, overhead }
}

/// The DaemonSets that will run a pod on a node and have none there.
fn daemons(round: &Round<'_>, node: &Arc<Node>, present: &BTreeSet<&Uid>, room: &mut Room) -> Vec<ClassIx> {
    if round.cluster.daemon_sets().is_empty() {
        return Vec::new();
    }
    let view = NodeView::new(Arc::clone(node));
    let sets = round.cluster.daemon_sets().values();
    let runs = sets.filter(|set| {
        !present.contains(&set.uid) && first_lasting_rejection(&Ask::of(&set.shape), &view).is_none()
    });
    runs.map(|set| room.class(&set.shape, &set.key.namespace, &set.labels)).collect()
}
