//! Pods that wait for a node, in the order of priority and age, grouped by shape.
//!
//! Owns which shapes are worth a try: a shape that fits nowhere is parked until a node becomes better for it.

use crate::cluster::controllers::objects::Key;
use jiff::Timestamp;
use model::PodShape;
use packing::{Ask, NodeView, first_rejection};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A pod's place in the queue: higher priority first, then older, then by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) priority: i32,
    pub(super) created_at: Timestamp,
    pub(super) key: Key,
}

impl Ord for Ticket {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .priority
            .cmp(&self.priority)
            .then(self.created_at.cmp(&other.created_at))
            .then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for Ticket {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
struct Waiting {
    tickets: BTreeSet<Ticket>,
    /// Those that were not yet told why they wait.
    untold: BTreeSet<Ticket>,
    parked: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    shapes: BTreeMap<Arc<PodShape>, Waiting>,
    /// The first ticket of each shape that is not parked.
    heads: BTreeMap<Ticket, Arc<PodShape>>,
    place: BTreeMap<Key, (Ticket, Arc<PodShape>)>,
    /// Pods behind scheduling gates that were not yet told so.
    gated: BTreeMap<Key, Ticket>,
}

impl Queue {
    pub(super) fn has_ready(&self) -> bool {
        !self.heads.is_empty() || !self.gated.is_empty()
    }

    pub(super) fn put(&mut self, ticket: Ticket, shape: &Arc<PodShape>, gated: bool) {
        if gated {
            self.gated.insert(ticket.key.clone(), ticket);
            return;
        }
        let shape = match self.shapes.get_key_value(shape) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::clone(shape),
        };
        let waiting = self.shapes.entry(Arc::clone(&shape)).or_default();
        let old_head = waiting.tickets.first().cloned();
        waiting.tickets.insert(ticket.clone());
        waiting.untold.insert(ticket.clone());
        // A newcomer of a parked shape brings the shape up once more: it has to be told, by the same look.
        waiting.parked = false;
        let head = waiting.tickets.first().cloned();
        self.place.insert(ticket.key.clone(), (ticket, Arc::clone(&shape)));
        self.set_head(old_head.as_ref(), head, &shape);
    }

    fn set_head(&mut self, old: Option<&Ticket>, new: Option<Ticket>, shape: &Arc<PodShape>) {
        if let Some(old) = old {
            self.heads.remove(old);
        }
        if let Some(new) = new {
            self.heads.insert(new, Arc::clone(shape));
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.gated.remove(key);
        let Some((ticket, shape)) = self.place.remove(key) else { return };
        let Some(waiting) = self.shapes.get_mut(&shape) else { return };
        let was_head = waiting.tickets.first() == Some(&ticket);
        waiting.tickets.remove(&ticket);
        waiting.untold.remove(&ticket);
        let (parked, next) = (waiting.parked, waiting.tickets.first().cloned());
        if next.is_none() {
            self.shapes.remove(&shape);
        }
        if was_head {
            self.set_head(Some(&ticket), next.filter(|_| !parked), &shape);
        }
    }

    pub(super) fn take_gated(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.gated).into_keys().collect()
    }

    /// The pod whose turn it is; it stays in the queue until removed or parked.
    pub(super) fn next(&self) -> Option<(Ticket, Arc<PodShape>)> {
        self.heads.first_key_value().map(|(ticket, shape)| (ticket.clone(), Arc::clone(shape)))
    }

    /// The shape fits nowhere: parks it. Gives the pods that are to be told: this one, and those never told before.
    pub(super) fn park(&mut self, ticket: &Ticket, shape: &Arc<PodShape>) -> Vec<Ticket> {
        self.heads.remove(ticket);
        let Some(waiting) = self.shapes.get_mut(shape) else { return Vec::new() };
        waiting.parked = true;
        let mut told = std::mem::take(&mut waiting.untold);
        told.insert(ticket.clone());
        told.into_iter().collect()
    }

    /// A node has come, has changed, or has more room: brings back the parked shapes that fit there now.
    pub(super) fn node_improved(&mut self, node: &NodeView) {
        let mut heads = Vec::new();
        for (shape, waiting) in &mut self.shapes {
            if waiting.parked && first_rejection(&Ask::of(shape), node).is_none() {
                waiting.parked = false;
                heads.extend(waiting.tickets.first().map(|ticket| (ticket.clone(), Arc::clone(shape))));
            }
        }
        self.heads.extend(heads);
    }
}
