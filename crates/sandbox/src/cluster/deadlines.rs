//! A queue of moments at which something is due, one moment for each key.
//!
//! Owns the order (by time, then key: equal moments must not depend on insertion); waiting is the caller's loop.

use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    due: BTreeSet<(Timestamp, K)>,
    by_key: BTreeMap<K, Timestamp>,
}

impl<K: Ord + Clone> Deadlines<K> {
    pub(crate) fn new() -> Self {
        Self { due: BTreeSet::new(), by_key: BTreeMap::new() }
    }

    /// Sets the one moment of `key`, forgetting an earlier one.
    pub(crate) fn set(&mut self, key: K, at: Timestamp) {
        self.clear(&key);
        self.by_key.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// Like [`Self::set`], but keeps an earlier moment that is already set.
    pub(crate) fn set_earliest(&mut self, key: K, at: Timestamp) {
        if self.by_key.get(&key).is_none_or(|old| at < *old) {
            self.set(key, at);
        }
    }

    pub(crate) fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.due.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

/// Sleeps until `at`; for ever where nothing is due.
pub(crate) async fn sleep_until(clock: Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// `at + delay`, stopping at the end of time.
pub(crate) fn after(at: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    at.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_a_key_in_order_of_time_then_key() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let mut queue = Deadlines::new();
        queue.set("b", at(5));
        queue.set("a", at(5));
        queue.set("c", at(1));
        queue.set("c", at(9));
        queue.set_earliest("c", at(20));
        assert_eq!(queue.next(), Some(at(5)));
        assert_eq!(queue.pop_due(at(5)), Some("a"));
        assert_eq!(queue.pop_due(at(5)), Some("b"));
        assert_eq!(queue.pop_due(at(8)), None);
        assert_eq!(queue.pop_due(at(9)), Some("c"));
        assert_eq!(queue.next(), None);
    }
}
