//! Which machines a cloud had none of lately.
//!
//! Owns the memory of sold-out offerings: a launch that fails keeps its type in its zone off the market for a while,
//! longer each time it fails again soon after.

use crate::cloud::Offer;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The first wait, and the longest.
const FIRST_WAIT: SignedDuration = SignedDuration::from_mins(3);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(48);
/// Without a failure for so long after a wait, the next one is the first again.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// Offerings that are remembered; beyond that, those that end first are forgotten.
const MOST: usize = 20_000;

#[derive(Clone, Copy, Debug)]
struct Shortage {
    until: Timestamp,
    wait: SignedDuration,
}

/// Shared by the keeper, who finds out, and the provider, who tells the planner.
#[derive(Debug)]
pub(crate) struct Shortages {
    known: Mutex<BTreeMap<Offer, Shortage>>,
    changed: watch::Sender<u64>,
}

impl Shortages {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Notes that an offering could not be had.
    pub(crate) fn note(&self, offer: Offer, now: Timestamp) {
        let after = |at: Timestamp, wait| at.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let mut known = self.lock();
        let wait = match known.get(&offer) {
            Some(old) if now < after(old.until, FORGOTTEN_AFTER) => (old.wait + old.wait).min(LONGEST_WAIT),
            _ => FIRST_WAIT,
        };
        if known.len() >= MOST {
            let first =
                known.iter().min_by_key(|(_, shortage)| shortage.until).map(|(offer, _)| offer.clone());
            first.map(|offer| known.remove(&offer));
        }
        known.insert(offer, Shortage { until: after(now, wait), wait });
        drop(known);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn holds(&self, offer: &Offer, now: Timestamp) -> bool {
        self.lock().get(offer).is_some_and(|shortage| now < shortage.until)
    }

    /// When the first of those that hold now ends.
    pub(crate) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.lock().values().map(|shortage| shortage.until).filter(|until| *until > now).min()
    }

    /// Wakes whoever shows the market when something was noted.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Offer, Shortage>> {
        // Whoever died while holding it had finished its one insertion or not begun it.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_while_failures_follow_each_other() {
        let shortages = Shortages::new();
        let offer: Offer = ("a".into(), "z".into(), "spot".into());
        let at = |minutes: i64| Timestamp::from_second(minutes * 60).unwrap();
        shortages.note(offer.clone(), at(0));
        assert!(shortages.holds(&offer, at(2)) && !shortages.holds(&offer, at(3)));
        shortages.note(offer.clone(), at(4));
        assert!(shortages.holds(&offer, at(9)) && !shortages.holds(&offer, at(10)));
        assert_eq!(shortages.next_end(at(5)), Some(at(10)));
        shortages.note(offer.clone(), at(100));
        assert!(!shortages.holds(&offer, at(103)), "long ago is forgotten");
    }
}
