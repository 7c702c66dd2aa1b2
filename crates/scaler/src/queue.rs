//! What is to be looked at, and when.
//!
//! Owns the order of work: the earliest first, one look at an object at a time, and waits that grow while looks fail.
//! The queue is bounded by the number of objects: each stands in it once.

use crate::cache::Key;
use calls::backoff::{Backoff, seed_for};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is to be looked at, one object but for the last. Pods come first: a gate without a condition keeps one from serving.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    Pod(Key),
    Profile(Key),
    Ihpa(Key),
    Portrait(Key),
    /// CronJobs of portraits that are gone.
    Orphans,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    due: BTreeMap<Job, Timestamp>,
    order: BTreeSet<(Timestamp, Job)>,
    running: BTreeSet<Job>,
    failing: BTreeMap<Job, Backoff>,
}

impl Queue {
    /// Looks at something at a moment, or earlier if that was planned already.
    pub(crate) fn add(&mut self, job: Job, at: Timestamp) {
        if let Some(known) = self.due.get(&job) {
            if *known <= at {
                return;
            }
            self.order.remove(&(*known, job.clone()));
        }
        self.order.insert((at, job.clone()));
        self.due.insert(job, at);
    }

    /// What is due now, taken out; nothing that is being looked at already.
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<Job> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now);
        let (at, job) = due.into_iter().find(|(_, job)| !self.running.contains(job))?.clone();
        self.order.remove(&(at, job.clone()));
        self.due.remove(&job);
        self.running.insert(job.clone());
        Some(job)
    }

    /// When something is due next; what is being looked at waits for its end.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.order.iter().find(|(_, job)| !self.running.contains(job)).map(|(at, _)| *at)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// A look ended well; the next is at `wake_at`, if nothing happens before.
    pub(crate) fn done(&mut self, job: Job, wake_at: Option<Timestamp>) {
        self.running.remove(&job);
        self.failing.remove(&job);
        if let Some(at) = wake_at {
            self.add(job, at);
        }
    }

    /// A look failed; another follows after a wait.
    pub(crate) fn failed(&mut self, job: Job, now: Timestamp) {
        self.running.remove(&job);
        let seed = seed_for(0, &format!("{job:?}"));
        let backoff =
            self.failing.entry(job.clone()).or_insert_with(|| Backoff::new(seed, FIRST_WAIT, LONGEST_WAIT));
        let wait = SignedDuration::try_from(backoff.wait()).unwrap_or(SignedDuration::from_secs(60));
        let at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.add(job, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_earliest_comes_first_and_nothing_twice_at_once() {
        let mut queue = Queue::default();
        let [a, b] = ["a", "b"].map(|name| Job::Ihpa(Key::new("n", name)));
        queue.add(a.clone(), at(10));
        queue.add(b.clone(), at(5));
        queue.add(a.clone(), at(3));
        queue.add(a.clone(), at(20));
        assert_eq!(queue.next(at(2)), None);
        assert_eq!(queue.next(at(6)), Some(a.clone()));
        queue.add(a.clone(), at(6));
        assert_eq!(queue.next(at(6)), Some(b.clone()));
        assert_eq!(queue.next(at(6)), None, "a is being looked at");
        assert_eq!((queue.running(), queue.next_at()), (2, None));
        queue.done(a.clone(), Some(at(100)));
        assert_eq!(queue.next(at(7)), Some(a.clone()), "what came meanwhile is not lost");
        queue.failed(b.clone(), at(7));
        assert!(queue.next_at().unwrap() > at(7));
    }
}
