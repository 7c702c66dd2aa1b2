//! What is told of outlooks: what becomes of each in this round, and what came of the last ones.
//!
//! Owns the verdicts, and the comparison of what was told with what there was when its time had passed.

use super::expected::{MOST_OUTLOOKS, points_of};
use crate::freshness::Freshness;
use crate::round::{Round, after};
use model::{Came, Outlook, OutlookKey, OutlookMemory, OutlookVerdict, Reason};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Moments of one outlook of which is remembered what came.
const MOST_CAME: usize = 4;
/// Outlooks of which that is remembered: keeps the ledger small.
const MOST_REMEMBERED: usize = 200;

/// What a round says of outlooks; of several things the one that asks for the most attention.
#[derive(Default)]
pub(super) struct Told {
    said: BTreeMap<OutlookKey, Reason>,
    live: BTreeMap<OutlookKey, (Arc<model::WorkloadKey>, u32)>,
}

impl Told {
    pub(super) fn say(&mut self, outlook: &OutlookKey, reason: Reason) {
        match self.said.get_mut(outlook) {
            Some(known) if rank(known) >= rank(&reason) => {}
            Some(known) => *known = reason,
            None => drop(self.said.insert(outlook.clone(), reason)),
        }
    }

    /// Notes how many live, and compares what was told of a moment that has passed.
    pub(super) fn note(&mut self, round: &mut Round<'_>, outlook: &Outlook, live: u32) {
        self.live.insert(outlook.key.clone(), (Arc::new(outlook.target.clone()), live));
        let now = round.now;
        let patience = round.policies.ahead.patience;
        let full = round.ledger.ahead.outlooks.len() >= MOST_REMEMBERED;
        if full && !round.ledger.ahead.outlooks.contains_key(&outlook.key) {
            return;
        }
        let mut memory = round.ledger.ahead.outlooks.get(&outlook.key).cloned().unwrap_or_default();
        if let Some(next) = memory.next
            && after(next.due, patience) <= now
        {
            if memory.came.len() >= MOST_CAME {
                memory.came.remove(0);
            }
            memory.came.push(Came { due: next.due, told: next.replicas, came: live });
            memory.next = None;
        }
        // A moment that has come is kept until it can be judged; until then its number may still change.
        if memory.next.is_none_or(|next| next.due > now) {
            let points = points_of(outlook, now, patience);
            let next = points.iter().find(|point| point.at > now);
            memory.next = next.map(|point| model::Told { due: point.at, replicas: point.replicas });
        }
        if let Some(next) = memory.next {
            round.wake(after(next.due, patience));
        }
        if memory != OutlookMemory::default() {
            round.ledger.ahead.outlooks.insert(outlook.key.clone(), memory);
        }
    }

    pub(super) fn conclude(self, round: &mut Round<'_>) {
        for (key, reason) in self.said {
            let Some((target, live)) = self.live.get(&key) else { continue };
            let came = round.ledger.ahead.outlooks.get(&key).map(|memory| memory.came.clone());
            let verdict = OutlookVerdict {
                target: (**target).clone(),
                live: *live,
                reason,
                came: came.unwrap_or_default(),
            };
            round.verdicts.outlooks.insert(key, verdict);
        }
    }
}

fn rank(reason: &Reason) -> u8 {
    match reason {
        Reason::AheadRefused { .. } => 5,
        Reason::AheadOrdered { .. } => 4,
        Reason::AheadLater { .. } => 3,
        Reason::AheadReady { .. } => 2,
        Reason::AheadNotDue { .. } => 1,
        Reason::AheadNothingDue => 0,
        _ => 6,
    }
}

/// Forgets outlooks that are gone, and purchases whose time is over.
pub(super) fn forget(round: &mut Round<'_>, fresh: &Freshness) {
    let (now, patience) = (round.now, round.policies.ahead.patience);
    let memory = &mut round.ledger.ahead;
    memory.bought.retain(|_, bought| {
        bought.retain(|one| after(one.due, patience) > now);
        !bought.is_empty()
    });
    if fresh.outlooks {
        let known = round.cluster.outlooks();
        memory.outlooks.retain(|key, _| known.contains_key(key));
    }
    let ends: Vec<_> = memory.bought.values().flatten().map(|one| after(one.due, patience)).collect();
    for at in ends.into_iter().take(MOST_OUTLOOKS) {
        round.wake(at);
    }
}
