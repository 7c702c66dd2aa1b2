//! What is to be looked at, and when.
//!
//! Owns the order of due times, so that neither the next one nor what is due now takes a walk through all of them.

use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Tasks with the moment at which each is due.
pub(crate) struct Due<T> {
    at: BTreeMap<T, Timestamp>,
    order: BTreeSet<(Timestamp, T)>,
}

impl<T: Ord + Clone> Due<T> {
    pub(crate) fn new() -> Self {
        Self { at: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Something may be done at a moment; what is due before stays so.
    pub(crate) fn at(&mut self, task: T, at: Timestamp) {
        match self.at.get(&task) {
            Some(known) if *known <= at => {}
            known => {
                if let Some(known) = known {
                    self.order.remove(&(*known, task.clone()));
                }
                self.order.insert((at, task.clone()));
                self.at.insert(task, at);
            }
        }
    }

    /// The first moment of a task that is not held up.
    pub(crate) fn next(&self, held: impl Fn(&T) -> bool) -> Option<Timestamp> {
        self.order.iter().find(|(_, task)| !held(task)).map(|(at, _)| *at)
    }

    /// Takes what is due and not held up, the longest due first.
    pub(crate) fn take(&mut self, now: Timestamp, most: usize, held: impl Fn(&T) -> bool) -> Vec<T> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now).filter(|(_, task)| !held(task));
        let taken: Vec<(Timestamp, T)> = due.take(most).cloned().collect();
        for entry in &taken {
            self.order.remove(entry);
            self.at.remove(&entry.1);
        }
        taken.into_iter().map(|(_, task)| task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_counts_and_what_is_held_up_waits() {
        let second = |s| Timestamp::from_second(s).unwrap();
        let mut due = Due::new();
        due.at("a", second(5));
        due.at("b", second(3));
        due.at("a", second(1));
        due.at("b", second(9));
        assert_eq!(due.next(|_| false), Some(second(1)));
        assert_eq!(due.next(|task| *task == "a"), Some(second(3)));
        assert_eq!(due.take(second(3), 10, |task| *task == "a"), ["b"]);
        assert_eq!(due.take(second(3), 10, |_| false), ["a"]);
        assert!(due.is_empty());
    }
}
