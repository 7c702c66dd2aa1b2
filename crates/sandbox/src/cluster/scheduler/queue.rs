//! Pods that wait for a node, in the order of priority and age, grouped by class.
//!
//! Owns which classes are worth a try: a class that fits nowhere is parked until something changes for it.

use super::picture::Kind;
use crate::cluster::controllers::objects::Key;
use jiff::Timestamp;
use packing::ClassIx;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

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
    classes: BTreeMap<ClassIx, Waiting>,
    /// The first ticket of each class that is not parked.
    heads: BTreeMap<Ticket, ClassIx>,
    place: BTreeMap<Key, (Ticket, Kind, ClassIx)>,
    /// Pods behind scheduling gates that were not yet told so.
    gated: BTreeSet<Key>,
}

impl Queue {
    pub(super) fn has_ready(&self) -> bool {
        !self.heads.is_empty() || !self.gated.is_empty()
    }

    pub(super) fn put_gated(&mut self, key: Key) {
        self.gated.insert(key);
    }

    pub(super) fn put(&mut self, ticket: Ticket, kind: Kind, class: ClassIx) {
        let waiting = self.classes.entry(class).or_default();
        let old_head = waiting.tickets.first().cloned();
        waiting.tickets.insert(ticket.clone());
        waiting.untold.insert(ticket.clone());
        // A newcomer of a parked class brings the class up once more: it has to be told, by the same look.
        waiting.parked = false;
        let head = waiting.tickets.first().cloned();
        self.place.insert(ticket.key.clone(), (ticket, kind, class));
        self.set_head(old_head.as_ref(), head, class);
    }

    fn set_head(&mut self, old: Option<&Ticket>, new: Option<Ticket>, class: ClassIx) {
        if let Some(old) = old {
            self.heads.remove(old);
        }
        if let Some(new) = new {
            self.heads.insert(new, class);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.gated.remove(key);
        let Some((ticket, _, class)) = self.place.remove(key) else { return };
        let Some(waiting) = self.classes.get_mut(&class) else { return };
        let was_head = waiting.tickets.first() == Some(&ticket);
        waiting.tickets.remove(&ticket);
        waiting.untold.remove(&ticket);
        let (parked, next) = (waiting.parked, waiting.tickets.first().cloned());
        if next.is_none() {
            self.classes.remove(&class);
        }
        if was_head {
            self.set_head(Some(&ticket), next.filter(|_| !parked), class);
        }
    }

    pub(super) fn take_gated(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.gated)
    }

    /// The pod whose turn it is; it stays in the queue until removed or parked.
    pub(super) fn next(&self) -> Option<(Ticket, Kind, ClassIx)> {
        let (ticket, _) = self.heads.first_key_value()?;
        self.place.get(&ticket.key).cloned()
    }

    /// The class fits nowhere: parks it. Gives the pods that are to be told: this one, and those never told before.
    pub(super) fn park(&mut self, ticket: &Ticket, class: ClassIx) -> BTreeSet<Ticket> {
        self.heads.remove(ticket);
        let Some(waiting) = self.classes.get_mut(&class) else { return BTreeSet::new() };
        waiting.parked = true;
        let mut told = std::mem::take(&mut waiting.untold);
        told.insert(ticket.clone());
        told
    }

    /// Brings back the parked classes that are worth another look.
    pub(super) fn bring_back(&mut self, mut worth: impl FnMut(ClassIx) -> bool) {
        for (class, waiting) in &mut self.classes {
            if waiting.parked && worth(*class) {
                waiting.parked = false;
                self.heads.extend(waiting.tickets.first().map(|ticket| (ticket.clone(), *class)));
            }
        }
    }

    /// Classes have new numbers: everything is sorted in again, and is worth another look.
    pub(super) fn renumber(&mut self, mut class_of: impl FnMut(&Kind) -> ClassIx) {
        self.classes.clear();
        self.heads.clear();
        for (ticket, kind, _) in std::mem::take(&mut self.place).into_values() {
            let class = class_of(&kind);
            self.put(ticket, kind, class);
        }
    }
}
