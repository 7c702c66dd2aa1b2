//! What the spots of a room are: their nodes, dense amounts of what is free, and kinds of nodes.
//!
//! Owns the columns of resources, used host ports, and the answers of the lasting filters, asked once for each kind
//! of node (equal taints, cordon and labels in play) and each kind of need. Which pods are there is the room's.

use crate::intern::{Interner, hash_of};
use crate::{Ask, ClusterVolumes, NodeView, NodeVolumes, Vocabulary, first_lasting_rejection};
use model::{
    Bytes, Effect, HostPort, MilliCpu, Node, NodeSelectorTerm, PodShape, ResourceName, Resources, Taint,
};
use std::sync::Arc;

/// Columns that every problem has: cpu, memory, ephemeral storage, pods.
const FIXED: usize = 4;
/// Columns are added in steps, so that a row is a whole number of cache lines.
const STEP: usize = 8;
/// Larger amounts count as this much: a quadrillion of anything fits on no node, and sums stay within an i64.
const LARGEST_ASK: u64 = 1 << 50;
/// One less, so that what was cut never fits.
const LARGEST_OFFER: u64 = LARGEST_ASK - 1;

/// Rows of resource amounts of equal width.
#[derive(Clone, Debug)]
pub(super) struct Amounts {
    width: usize,
    cells: Vec<i64>,
}

impl Default for Amounts {
    fn default() -> Self {
        Self { width: STEP, cells: Vec::new() }
    }
}

impl Amounts {
    pub(super) fn row(&self, at: usize) -> &[i64] {
        &self.cells[at * self.width..(at + 1) * self.width]
    }

    fn row_mut(&mut self, at: usize) -> &mut [i64] {
        &mut self.cells[at * self.width..(at + 1) * self.width]
    }

    fn push(&mut self, row: &[i64]) {
        self.cells.extend_from_slice(row);
        self.cells.resize(self.cells.len() + self.width - row.len(), 0);
    }

    fn widen(&mut self, width: usize) {
        if width > self.width {
            let rows = self.cells.chunks(self.width);
            let widened =
                rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0, width - row.len())));
            self.cells = widened.collect();
            self.width = width;
        }
    }
}

/// How real a spot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// A node, with the host name that its labels say.
    Standing,
    /// A machine on its way: its host name is not known, and nobody else's.
    Promised,
}

/// What is asked of a node itself, whoever is on it.
#[derive(Clone, Debug)]
struct Need {
    shape: Arc<PodShape>,
    /// Nodes are asked one by one, not kind by kind.
    by_name: bool,
}

/// Nodes that no need tells apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    labels: Vec<(Arc<str>, Arc<str>)>,
    taints: Vec<Taint>,
    unschedulable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Unasked,
    Passes,
    Refuses,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sites {
    extended: Interner<ResourceName>,
    free: Amounts,
    requests: Amounts,
    nodes: Vec<Arc<Node>>,
    presence: Vec<Presence>,
    ports: Interner<HostPort>,
    /// Ports in use at each spot; one entry for each pod that uses it.
    used_ports: Vec<Vec<u32>>,
    kinds: Interner<Kind>,
    kind_of: Vec<u32>,
    /// Whether any node so far had a `PreferNoSchedule` taint.
    soft_taints: bool,
    needs: Interner<Need>,
    answers: Vec<Vec<Answer>>,
}

impl Sites {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// How much of each thing is numbered.
    pub(super) fn sizes(&self) -> [usize; 6] {
        let soft = usize::from(self.soft_taints);
        [self.extended.len(), self.ports.len(), self.kinds.len(), self.needs.len(), self.free.width, soft]
    }

    pub(super) fn has_soft_taints(&self) -> bool {
        self.soft_taints
    }

    pub(super) fn node(&self, spot: usize) -> &Arc<Node> {
        &self.nodes[spot]
    }

    pub(super) fn presence(&self, spot: usize) -> Presence {
        self.presence[spot]
    }

    pub(super) fn kind(&self, spot: usize) -> u32 {
        self.kind_of[spot]
    }

    pub(super) fn add(&mut self, node: Arc<Node>, presence: Presence, vocabulary: &Vocabulary) {
        let offer = self.dense(&node.allocatable, LARGEST_OFFER);
        self.free.push(&offer);
        self.used_ports.push(Vec::new());
        let labels = vocabulary.of_nodes.iter().filter_map(|key| {
            node.labels.get_key_value(key).map(|(key, value)| (Arc::clone(key), Arc::clone(value)))
        });
        let kind =
            Kind { labels: labels.collect(), taints: node.taints.clone(), unschedulable: node.unschedulable };
        self.soft_taints |= kind.taints.iter().any(|taint| taint.effect == Effect::PreferNoSchedule);
        let hash = hash_of(&kind);
        let number =
            self.kinds.find(hash, |known| *known == kind).unwrap_or_else(|| self.kinds.push(hash, kind));
        self.kind_of.push(number);
        self.presence.push(presence);
        self.nodes.push(node);
    }

    /// Takes the last spot away again.
    pub(super) fn remove_last(&mut self) {
        self.nodes.pop();
        self.presence.pop();
        self.kind_of.pop();
        self.used_ports.pop();
        let rows = self.free.cells.len() / self.free.width;
        self.free.cells.truncate((rows - 1) * self.free.width);
    }

    fn dense(&mut self, amounts: &Resources, largest: u64) -> Vec<i64> {
        let mut row = vec![
            amounts.cpu.0.min(largest) as i64,
            amounts.memory.0.min(largest) as i64,
            amounts.ephemeral_storage.0.min(largest) as i64,
            i64::from(amounts.pods),
        ];
        for (name, amount) in &amounts.extended {
            let (number, _) = self.extended.intern(name, || name.clone());
            let column = FIXED + number as usize;
            if column >= row.len() {
                row.resize(column + 1, 0);
            }
            row[column] = (*amount).min(largest) as i64;
        }
        let width = (FIXED + self.extended.len()).div_ceil(STEP) * STEP;
        self.free.widen(width);
        self.requests.widen(width);
        row
    }

    /// How many columns of resources there are.
    pub(super) fn columns(&self) -> usize {
        FIXED + self.extended.len()
    }

    /// What a class asks for of one resource.
    pub(super) fn ask(&self, class: u32, column: usize) -> u64 {
        self.requests.row(class as usize)[column].max(0) as u64
    }

    /// What is left of one resource at a spot.
    pub(super) fn offer(&self, spot: usize, column: usize) -> u64 {
        self.free.row(spot)[column].max(0) as u64
    }

    /// The name of a column's resource.
    pub(super) fn column_name(&self, column: usize) -> ResourceName {
        match column {
            0 => ResourceName::new("cpu"),
            1 => ResourceName::new("memory"),
            2 => ResourceName::new("ephemeral-storage"),
            3 => ResourceName::new("pods"),
            _ => self.extended.items().get(column - FIXED).cloned().unwrap_or_else(|| ResourceName::new("")),
        }
    }

    /// Keeps the requests of the next class.
    pub(super) fn add_requests(&mut self, requests: &Resources) {
        let row = self.dense(requests, LARGEST_ASK);
        self.requests.push(&row);
    }

    /// The numbers of a shape's host ports.
    pub(super) fn port_numbers(&mut self, shape: &PodShape) -> Box<[u32]> {
        shape.host_ports.iter().map(|port| self.ports.intern(port, || port.clone()).0).collect()
    }

    /// The number of what a shape asks of a node itself.
    pub(super) fn need(&mut self, shape: &Arc<PodShape>) -> u32 {
        let hash = hash_of(&(&shape.node_selector, &shape.node_affinity, &shape.tolerations, &shape.volumes));
        let same = |known: &Need| {
            let known = &known.shape;
            known.node_selector == shape.node_selector
                && known.node_affinity == shape.node_affinity
                && known.tolerations == shape.tolerations
                && known.volumes == shape.volumes
        };
        if let Some(known) = self.needs.find(hash, same) {
            return known;
        }
        let by_name = |term: &NodeSelectorTerm| !term.match_fields.is_empty();
        // Volumes ask for what a node is fitted with, which its kind does not tell.
        let by_name = shape.volumes.is_some() || shape.node_affinity.iter().flatten().any(by_name);
        self.answers.push(Vec::new());
        self.needs.push(hash, Need { shape: Arc::clone(shape), by_name })
    }

    /// Whether a node may run a pod of this need at all.
    pub(super) fn admits(&mut self, need: u32, spot: usize, volumes: &ClusterVolumes) -> bool {
        let asked = &self.needs.items()[need as usize];
        if asked.by_name {
            return self.passes(&asked.shape, spot, volumes);
        }
        let kind = self.kind_of[spot] as usize;
        let known = self.answers[need as usize].get(kind).copied().unwrap_or(Answer::Unasked);
        match known {
            Answer::Passes => true,
            Answer::Refuses => false,
            Answer::Unasked => {
                let passes = self.passes(&asked.shape, spot, volumes);
                let answers = &mut self.answers[need as usize];
                if answers.len() <= kind {
                    answers.resize(self.kinds.len(), Answer::Unasked);
                }
                answers[kind] = if passes { Answer::Passes } else { Answer::Refuses };
                passes
            }
        }
    }

    pub(super) fn passes(&self, shape: &PodShape, spot: usize, volumes: &ClusterVolumes) -> bool {
        let view = NodeView::new(Arc::clone(&self.nodes[spot]));
        first_lasting_rejection(&Ask { volumes: Some(volumes), ..Ask::of(shape) }, &view).is_none()
    }

    /// How many pods with these requests, up to `most`, there is room for.
    pub(super) fn times(&self, class: usize, spot: usize, most: u32) -> u32 {
        let (ask, free) = (self.requests.row(class), self.free.row(spot));
        let mut times = i64::from(most);
        for (ask, free) in ask.iter().zip(free) {
            if *ask > 0 {
                if *free < *ask {
                    return 0;
                }
                if times > 1 {
                    times = times.min(*free / *ask);
                }
            }
        }
        times as u32
    }

    /// Takes room for `count` pods, or gives it back where `count` is negative; fits or not.
    pub(super) fn take(&mut self, class: usize, spot: usize, count: i64) {
        let (ask, free) = (self.requests.row(class), self.free.row_mut(spot));
        for (ask, free) in ask.iter().zip(free) {
            *free -= *ask * count;
        }
    }

    pub(super) fn ports_collide(&self, ports: &[u32], spot: usize) -> bool {
        let port = |number: &u32| &self.ports.items()[*number as usize];
        ports
            .iter()
            .any(|asked| self.used_ports[spot].iter().any(|used| port(asked).conflicts_with(port(used))))
    }

    pub(super) fn use_ports(&mut self, ports: &[u32], spot: usize, count: u32) {
        for _ in 0..count {
            self.used_ports[spot].extend_from_slice(ports);
        }
    }

    pub(super) fn free_ports(&mut self, ports: &[u32], spot: usize, count: u32) {
        for port in ports.iter().cycle().take(ports.len() * count as usize) {
            if let Some(at) = self.used_ports[spot].iter().rposition(|used| used == port) {
                self.used_ports[spot].swap_remove(at);
            }
        }
    }

    /// What is left at a spot; nothing where more is used than there is.
    pub(super) fn free(&self, spot: usize) -> Resources {
        let row = self.free.row(spot);
        let left = |column: usize| row[column].max(0) as u64;
        let extended = self.extended.items().iter().enumerate();
        Resources {
            cpu: MilliCpu(left(0)),
            memory: Bytes(left(1)),
            ephemeral_storage: Bytes(left(2)),
            pods: u32::try_from(left(3)).unwrap_or(u32::MAX),
            extended: extended
                .filter(|(_, name)| self.nodes[spot].allocatable.extended.contains_key(*name))
                .map(|(at, name)| (name.clone(), left(FIXED + at)))
                .collect(),
        }
    }

    /// The node with what is left on it, as the filters see it.
    pub(super) fn view(&self, spot: usize, volumes: NodeVolumes) -> NodeView {
        let ports = self.used_ports[spot].iter().map(|port| self.ports.items()[*port as usize].clone());
        NodeView::with(Arc::clone(&self.nodes[spot]), self.free(spot), ports.collect(), volumes)
    }
}
