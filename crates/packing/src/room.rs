//! Free room on many nodes, with what is on them, tried on and taken back.
//!
//! Owns the spots (nodes, and machines on their way, in the order in which they are to be tried), which classes of
//! pods each holds, and an undo log, so that a trial costs what it touches. All that other pods decide (spread,
//! affinity) is kept as counts by domain and follows each pod that comes or goes. What a spot stands for is the
//! caller's: it adds them in its order and names ranges of them.

mod classes;
mod facts;
mod market;
mod sites;
mod start;
mod topology;
mod volumes;
mod wishes;

pub use market::{Distance, Make, Market, Question};
pub(crate) use topology::{Spread, Topology};

use crate::filters::inter_pod_affinity::{self, Terms};
use crate::filters::{Around, pod_topology_spread};
use crate::{Ask, ClusterVolumes, NodeView, Vocabulary, first_rejection};
use classes::Classes;
use model::{Labels, Node, PodShape, PoolRejection, Resources};
use sites::{Presence, Sites};
use start::Start;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use volumes::RoomVolumes;

/// A spot of one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpotIx(pub usize);

/// A class of interchangeable pods, known to one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassIx(pub(crate) u32);

/// A moment that the room can be taken back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "a mark is there to be returned to"]
pub struct Mark(usize);

/// Pods of one class that were put on one spot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub spot: SpotIx,
    pub count: u32,
}

#[derive(Clone, Debug, Default)]
struct Spot {
    /// Gone, with all that it holds.
    closed: bool,
    /// Takes no pods, and is there for all other purposes.
    barred: bool,
    held: Vec<(ClassIx, u32)>,
    /// What was placed here by this room, in order.
    received: Vec<(ClassIx, u32)>,
}

#[derive(Clone, Debug)]
enum Undo {
    Placed { spot: usize, class: ClassIx, count: u32 },
    TakenOff { spot: usize, class: ClassIx, count: u32 },
    Added,
    Closed(usize),
    Barred(usize),
    Cursor { class: ClassIx, old: usize },
}

/// What the room works out once for each class.
#[derive(Clone, Debug, Default)]
struct Facts {
    need: u32,
    ports: Box<[u32]>,
    spread: Vec<Spread>,
    terms: Terms,
    /// Counters of the class's own anti-affinity terms, which its pods raise.
    holds: Vec<u32>,
    /// Whether the room's vocabulary covers the shape; a class that it does not cover fits nowhere.
    covered: bool,
    /// The first spot that may still have room, for classes to which other pods are nothing but load.
    cursor: usize,
    /// Worked out when first asked for.
    wishes: Option<Arc<[wishes::Known]>>,
}

/// A picture of free room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    classes: Classes,
    sites: Sites,
    topology: Topology,
    volumes: RoomVolumes,
    facts: Vec<Facts>,
    spots: Vec<Spot>,
    log: Vec<Undo>,
    start: Option<Start>,
}

impl Room {
    /// An empty room for pods whose shapes name only the vocabulary's keys.
    pub fn new(vocabulary: Vocabulary, namespaces: &BTreeMap<Arc<str>, Arc<Labels>>) -> Self {
        Self { classes: Classes::new(vocabulary, namespaces), ..Self::default() }
    }

    /// The same room with the cluster's open volumes.
    #[must_use]
    pub fn with_volumes(self, volumes: ClusterVolumes) -> Self {
        Self { volumes: RoomVolumes::of(volumes), ..self }
    }

    /// The cluster's open volumes are others now; those that pods in this room were given are no longer among them.
    pub fn set_volumes(&mut self, volumes: ClusterVolumes) {
        self.note_lasting_change(0);
        self.volumes.renew(volumes);
    }

    /// Adds a node behind all other spots.
    pub fn add(&mut self, node: Arc<Node>) -> SpotIx {
        self.add_spot(node, Presence::Standing)
    }

    /// Adds a machine that is not there yet: it will have a host name of its own.
    pub fn add_promised(&mut self, node: Arc<Node>) -> SpotIx {
        self.add_spot(node, Presence::Promised)
    }

    fn add_spot(&mut self, node: Arc<Node>, presence: Presence) -> SpotIx {
        self.sites.add(node, presence, self.classes.vocabulary());
        self.topology.add_spot(&self.sites);
        self.spots.push(Spot::default());
        self.log.push(Undo::Added);
        SpotIx(self.spots.len() - 1)
    }

    pub fn len(&self) -> usize {
        self.spots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub fn node(&self, spot: SpotIx) -> &Arc<Node> {
        self.sites.node(spot.0)
    }

    /// What is left at a spot.
    pub fn free(&self, spot: SpotIx) -> Resources {
        self.sites.free(spot.0)
    }

    /// The node with what is left on it, as the filters see it.
    pub fn view(&self, spot: SpotIx) -> NodeView {
        self.sites.view(spot.0, self.volumes.here(spot.0))
    }

    /// The cluster's open volumes, less those that pods in this room have been given.
    pub fn volumes(&self) -> &ClusterVolumes {
        self.volumes.everywhere()
    }

    /// Whether the room can tell where pods of this shape may go; if not, it was made with too small a vocabulary.
    pub fn covers(&self, shape: &PodShape) -> bool {
        self.classes.vocabulary().covers(shape)
    }

    /// The room's own name for pods of this shape, namespace and labels.
    pub fn class(&mut self, shape: &Arc<PodShape>, namespace: &Arc<str>, labels: &Labels) -> ClassIx {
        self.class_of(shape, namespace, labels, false)
    }

    /// The same for pods that are being deleted: spread constraints do not count them.
    pub fn terminating_class(
        &mut self,
        shape: &Arc<PodShape>,
        namespace: &Arc<str>,
        labels: &Labels,
    ) -> ClassIx {
        self.class_of(shape, namespace, labels, true)
    }

    fn class_of(
        &mut self,
        shape: &Arc<PodShape>,
        namespace: &Arc<str>,
        labels: &Labels,
        gone: bool,
    ) -> ClassIx {
        let (number, new) = self.classes.class(shape, namespace, labels, gone);
        if new {
            let facts = self.work_out(number);
            self.facts.push(facts);
        }
        ClassIx(number)
    }

    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    pub fn shape_of(&self, class: ClassIx) -> &Arc<PodShape> {
        self.classes.shape(class.0)
    }

    pub fn namespace_of(&self, class: ClassIx) -> &Arc<str> {
        self.classes.namespace(class.0)
    }

    /// What makes a class, whenever the room met it: shape, namespace, labels in play, and whether its pods are going.
    pub(crate) fn content_of(&self, class: ClassIx) -> (Arc<PodShape>, Arc<str>, Labels, bool) {
        let key = self.classes.key(class.0);
        let shape = Arc::clone(self.shape_of(class));
        (shape, Arc::clone(self.namespace_of(class)), self.classes.labels_of_set(key.set), key.terminating)
    }

    /// Takes all spots away; what the room has learnt of classes stays.
    pub(crate) fn clear(&mut self) {
        self.rollback(Mark(0));
    }

    /// Whether pods of the class can be kept from a spot by other pods, not only by what those use up.
    pub fn heeds_pods(&self, class: ClassIx) -> bool {
        let groups = self.classes.groups_of(self.classes.key(class.0).set);
        self.shape_of(class).depends_on_pods()
            || groups.iter().any(|group| !self.topology.repelling_of(*group).is_empty())
            || self.shape_of(class).volumes.as_ref().is_some_and(|needs| needs.are_scarce())
    }

    pub fn mark(&self) -> Mark {
        Mark(self.log.len())
    }

    /// Takes back everything since `mark`, but for what was held or released.
    pub fn rollback(&mut self, mark: Mark) {
        while self.log.len() > mark.0 {
            match self.log.pop() {
                Some(Undo::Placed { spot, class, count }) => {
                    self.spots[spot].received.pop();
                    self.remove(class, spot, count);
                }
                Some(Undo::TakenOff { spot, class, count }) => self.receive(class, SpotIx(spot), count),
                Some(Undo::Added) => self.remove_last_spot(),
                Some(Undo::Closed(spot)) => {
                    self.spots[spot].closed = false;
                    self.topology.count_node(spot, true);
                    self.count_held(spot, 1);
                }
                Some(Undo::Barred(spot)) => self.spots[spot].barred = false,
                Some(Undo::Cursor { class, old }) => self.facts[class.0 as usize].cursor = old,
                None => return,
            }
        }
    }

    fn remove_last_spot(&mut self) {
        let Some(last) = self.spots.len().checked_sub(1) else { return };
        if !self.spots[last].closed {
            self.count_held(last, -1);
            self.topology.count_node(last, false);
        }
        self.topology.remove_last_spot();
        self.volumes.remove_spot(last);
        self.sites.remove_last();
        self.spots.pop();
    }

    /// The spot is gone, with all that it holds: nothing fits there, and nobody sees the pods that were there.
    pub fn close(&mut self, spot: SpotIx) {
        if !self.spots[spot.0].closed {
            self.count_held(spot.0, -1);
            self.topology.count_node(spot.0, false);
            self.spots[spot.0].closed = true;
            self.log.push(Undo::Closed(spot.0));
        }
    }

    pub fn is_closed(&self, spot: SpotIx) -> bool {
        self.spots[spot.0].closed
    }

    /// The spot takes no more pods; what is there stays and counts.
    pub fn bar(&mut self, spot: SpotIx) {
        if !self.spots[spot.0].barred {
            self.spots[spot.0].barred = true;
            self.log.push(Undo::Barred(spot.0));
        }
    }

    /// Whether a spot takes no pods, be it gone or barred.
    pub fn is_shut(&self, spot: SpotIx) -> bool {
        self.spots[spot.0].closed || self.spots[spot.0].barred
    }

    /// All pods at a spot, by class.
    pub fn held(&self, spot: SpotIx) -> &[(ClassIx, u32)] {
        &self.spots[spot.0].held
    }

    /// What this room has placed on a spot.
    pub fn received(&self, spot: SpotIx) -> &[(ClassIx, u32)] {
        &self.spots[spot.0].received
    }

    /// Notes pods that are there, whether or not they fit. Not undone by a rollback.
    pub fn hold(&mut self, class: ClassIx, spot: SpotIx, count: u32) {
        self.note_lasting_change(spot.0);
        self.receive(class, spot, count);
    }

    fn receive(&mut self, class: ClassIx, spot: SpotIx, count: u32) {
        let held = &mut self.spots[spot.0].held;
        match held.iter_mut().find(|(known, _)| *known == class) {
            Some((_, pods)) => *pods += count,
            None => held.push((class, count)),
        }
        self.sites.take(class.0 as usize, spot.0, i64::from(count));
        let facts = &self.facts[class.0 as usize];
        if !facts.ports.is_empty() {
            self.sites.use_ports(&facts.ports, spot.0, count);
        }
        if let Some(needs) = &self.classes.shape(class.0).volumes {
            self.volumes.hold(needs, class.0, spot.0, self.sites.node(spot.0), count);
        }
        if !self.spots[spot.0].closed {
            self.count(class, spot.0, i64::from(count));
        }
    }

    /// Notes that pods which were there are gone; at most as many as there are. Not undone by a rollback, so not
    /// for between a mark and its rollback.
    pub fn release(&mut self, class: ClassIx, spot: SpotIx, count: u32) -> u32 {
        self.note_lasting_change(spot.0);
        let gone = self.remove(class, spot.0, count);
        if gone > 0 && !self.spots[spot.0].closed {
            for facts in &mut self.facts {
                facts.cursor = facts.cursor.min(spot.0);
            }
        }
        gone
    }

    fn remove(&mut self, class: ClassIx, spot: usize, count: u32) -> u32 {
        let held = &mut self.spots[spot].held;
        let Some(at) = held.iter().position(|(known, _)| *known == class) else { return 0 };
        let count = count.min(held[at].1);
        held[at].1 -= count;
        if held[at].1 == 0 {
            held.swap_remove(at);
        }
        self.sites.take(class.0 as usize, spot, -i64::from(count));
        let facts = &self.facts[class.0 as usize];
        if !facts.ports.is_empty() {
            self.sites.free_ports(&facts.ports, spot, count);
        }
        if let Some(needs) = &self.classes.shape(class.0).volumes {
            self.volumes.remove(needs, class.0, spot, count);
        }
        if !self.spots[spot].closed {
            self.count(class, spot, -i64::from(count));
        }
        count
    }

    /// Takes pods off a spot, at most as many as there are; a rollback puts them back.
    pub fn take_off(&mut self, class: ClassIx, spot: SpotIx, count: u32) -> u32 {
        // Pods that are put back come behind those that stayed.
        self.note_lasting_change(spot.0);
        let taken = self.remove(class, spot.0, count);
        if taken > 0 {
            if !self.spots[spot.0].closed {
                self.reopen(spot.0);
            }
            self.log.push(Undo::TakenOff { spot: spot.0, class, count: taken });
        }
        taken
    }

    /// A spot has room again: it is looked at again by all that had passed it.
    fn reopen(&mut self, spot: usize) {
        for (class, facts) in self.facts.iter_mut().enumerate() {
            if facts.cursor > spot {
                self.log.push(Undo::Cursor { class: ClassIx(class as u32), old: facts.cursor });
                facts.cursor = spot;
            }
        }
    }

    fn count_held(&mut self, spot: usize, sign: i64) {
        let held = std::mem::take(&mut self.spots[spot].held);
        for (class, count) in &held {
            self.count(*class, spot, sign * i64::from(*count));
        }
        self.spots[spot].held = held;
    }

    fn count(&mut self, class: ClassIx, spot: usize, count: i64) {
        let key = self.classes.key(class.0);
        self.topology.count_pods(&self.classes, key.set, key.terminating, spot, count);
        for counter in &self.facts[class.0 as usize].holds {
            self.topology.bump(*counter, spot, count);
        }
        if let Some(needs) = &self.classes.shape(class.0).volumes {
            self.volumes.count(needs, count);
        }
    }

    /// Places up to `count` pods of a class, filling the spots of `within` in order, as far as rules allow.
    ///
    /// Returns where they went; their sum is less than `count` where the room is too small.
    pub fn place(&mut self, class: ClassIx, count: u32, within: Range<usize>) -> Vec<Placed> {
        let within = within.start..within.end.min(self.spots.len());
        if !self.heeds_pods(class) {
            return self.fill(class, count, within);
        }
        let mut placed: Vec<Placed> = Vec::new();
        let facts = &self.facts[class.0 as usize];
        // A pod placed late can make room for others earlier: it lifts the emptiest domain, or starts a series.
        let again = !facts.spread.is_empty() || !facts.terms.affinity.is_empty();
        let mut left = count;
        loop {
            let before = left;
            for at in within.clone() {
                if left == 0 {
                    return placed;
                }
                let take = self.times(class, at, left);
                if take > 0 {
                    self.put(class, at, take);
                    left -= take;
                    match placed.last_mut().filter(|last| last.spot.0 == at) {
                        Some(last) => last.count += take,
                        None => placed.push(Placed { spot: SpotIx(at), count: take }),
                    }
                }
            }
            if !again || left == before {
                return placed;
            }
        }
    }

    fn fill(&mut self, class: ClassIx, count: u32, within: Range<usize>) -> Vec<Placed> {
        let mut placed = Vec::new();
        let mut left = count;
        let cursor = self.facts[class.0 as usize].cursor;
        let mut full_up_to = cursor;
        for at in within.start.max(cursor)..within.end {
            if left == 0 {
                break;
            }
            // One more than is left tells whether the spot is full then.
            let fits = self.times(class, at, left.saturating_add(1));
            let take = fits.min(left);
            if take > 0 {
                self.put(class, at, take);
                placed.push(Placed { spot: SpotIx(at), count: take });
                left -= take;
            }
            if take == fits && full_up_to == at {
                full_up_to = at + 1;
            }
        }
        if full_up_to != cursor {
            self.log.push(Undo::Cursor { class, old: cursor });
            self.facts[class.0 as usize].cursor = full_up_to;
        }
        placed
    }

    /// Puts pods where a finished placement has them, whatever fits in this moment.
    pub fn settle(&mut self, class: ClassIx, spot: SpotIx, count: u32) {
        self.put(class, spot.0, count);
    }

    /// Places one pod on one named spot, if it fits there.
    pub fn place_on(&mut self, class: ClassIx, spot: SpotIx) -> bool {
        let fits = self.times(class, spot.0, 1) > 0;
        if fits {
            self.put(class, spot.0, 1);
        }
        fits
    }

    /// How many pods of a class, up to `most`, find their volumes at a spot, whatever else keeps them from it.
    pub fn volume_capacity(&self, class: ClassIx, spot: SpotIx, most: u32) -> u32 {
        let needs = self.classes.shape(class.0).volumes.as_ref();
        needs.map_or(most, |needs| self.volumes.times(needs, spot.0, self.sites.node(spot.0), most))
    }

    /// How many pods of a class, up to `most`, a spot takes while nothing else changes.
    pub fn capacity(&mut self, class: ClassIx, spot: SpotIx, most: u32) -> u32 {
        self.times(class, spot.0, most)
    }

    fn put(&mut self, class: ClassIx, spot: usize, count: u32) {
        if self.classes.shape(class.0).volumes.is_some() {
            // Which open volume is given back first is not kept.
            self.note_lasting_change(spot);
        }
        self.receive(class, SpotIx(spot), count);
        self.spots[spot].received.push((class, count));
        self.log.push(Undo::Placed { spot, class, count });
    }

    /// Resources are asked first: they refuse most often.
    fn times(&mut self, class: ClassIx, at: usize, most: u32) -> u32 {
        let facts = &self.facts[class.0 as usize];
        let spot = &self.spots[at];
        if spot.closed || spot.barred || !facts.covered {
            return 0;
        }
        let mut times = self.sites.times(class.0 as usize, at, most);
        if times == 0 || !self.sites.admits(facts.need, at, self.volumes.everywhere()) {
            return 0;
        }
        if !facts.ports.is_empty() {
            if self.sites.ports_collide(&facts.ports, at) {
                return 0;
            }
            times = times.min(1);
        }
        if let Some(needs) = &self.classes.shape(class.0).volumes {
            times = self.volumes.times(needs, at, self.sites.node(at), times);
            if times == 0 {
                return 0;
            }
        }
        let groups = self.classes.groups_of(self.classes.key(class.0).set);
        pod_topology_spread::times(&self.topology, &facts.spread, at, times)
            .and_then(|times| inter_pod_affinity::times(&self.topology, &facts.terms, groups, at, times))
            .unwrap_or(0)
    }

    /// Why a spot takes no pod of a class, as kube-scheduler puts it; `None` where it fits, or the spot is shut.
    pub fn rejection(&self, class: ClassIx, spot: SpotIx) -> Option<PoolRejection> {
        let ask = Ask {
            shape: self.shape_of(class),
            node_name: None,
            around: Some(Around { room: self, class, spot }),
            volumes: Some(self.volumes.everywhere()),
        };
        first_rejection(&ask, &self.view(spot))
    }

    pub(crate) fn spread_rejection(&self, class: ClassIx, spot: SpotIx) -> Option<PoolRejection> {
        let facts = &self.facts[class.0 as usize];
        pod_topology_spread::times(&self.topology, &facts.spread, spot.0, 1).err()
    }

    pub(crate) fn affinity_rejection(&self, class: ClassIx, spot: SpotIx) -> Option<PoolRejection> {
        let facts = &self.facts[class.0 as usize];
        let groups = self.classes.groups_of(self.classes.key(class.0).set);
        inter_pod_affinity::times(&self.topology, &facts.terms, groups, spot.0, 1).err()
    }
}

#[cfg(test)]
mod tests;
