//! How long a pool that failed to deliver is left alone.
//!
//! The first wait is the initial one; a failure after a wait has ended doubles it, up to the limit; a failure during
//! a wait starts the same wait again. It is forgotten when nothing failed for the reset time.

use crate::freshness::Freshness;
use crate::round::{Round, after};
use jiff::SignedDuration;
use model::{BackOff, PoolId};
use std::sync::Arc;

/// How long a pool rests whose order was refused as out of date: long enough for the watch to catch up.
const RECHECK: SignedDuration = SignedDuration::from_secs(10);

/// Notes that a pool failed to deliver.
pub(crate) fn failed(round: &mut Round<'_>, pool: &PoolId, code: &Arc<str>, message: &Arc<str>) {
    let now = round.now;
    let wait = match round.ledger.back_offs.get(pool) {
        Some(last) if last.wait.is_zero() => round.policies.initial_back_off,
        Some(last) if now < last.until => last.wait,
        Some(last) => last.wait.saturating_mul(2).min(round.policies.max_back_off),
        None => round.policies.initial_back_off,
    };
    note(round, pool, wait, wait, code, message);
}

/// Notes that an order was refused because the pool has changed since it was planned: a rest, not a failure.
pub(crate) fn out_of_date(round: &mut Round<'_>, pool: &PoolId, why: &Arc<str>) {
    if round.ledger.back_offs.get(pool).is_none_or(|last| last.until <= round.now) {
        let wait = round.ledger.back_offs.get(pool).map_or(SignedDuration::ZERO, |last| last.wait);
        note(round, pool, RECHECK, wait, &Arc::from("OutOfDate"), why);
    }
}

fn note(
    round: &mut Round<'_>,
    pool: &PoolId,
    rest: SignedDuration,
    wait: SignedDuration,
    code: &Arc<str>,
    message: &Arc<str>,
) {
    let entry = BackOff {
        until: after(round.now, rest),
        wait,
        failed_at: round.now,
        code: Arc::clone(code),
        message: Arc::clone(message),
    };
    round.wake(entry.until);
    round.ledger.back_offs.insert(pool.clone(), entry);
}

/// Forgets what is long past, and wakes the round when a wait ends.
pub(crate) fn review(round: &mut Round<'_>, fresh: &Freshness) {
    let (now, reset) = (round.now, round.policies.back_off_reset);
    let pools = round.cluster.pools();
    round.ledger.back_offs.retain(|pool, entry| {
        let exists = pools.contains_key(pool) || !fresh.provider_of(pool);
        exists && after(entry.failed_at.max(entry.until), reset) > now
    });
    let ends: Vec<_> = round.ledger.back_offs.values().map(|entry| entry.until).collect();
    for end in ends {
        round.wake(end);
    }
}

/// The back-off that a pool is in now.
pub(crate) fn of<'r>(round: &'r Round<'_>, pool: &PoolId) -> Option<&'r BackOff> {
    round.ledger.back_offs.get(pool).filter(|entry| entry.until > round.now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::Planted;
    use model::{Cluster, Ledger, Policies};

    /// C19: failures after each expiry, with an initial wait of 1 and a limit of 3 minutes.
    #[test]
    fn waits_double_up_to_the_limit() {
        let policies = Policies {
            initial_back_off: SignedDuration::from_mins(1),
            max_back_off: SignedDuration::from_mins(3),
            ..Policies::default()
        };
        let (cluster, pool) = (Cluster::default(), PoolId::from("simulated/a"));
        let mut ledger = Ledger::default();
        let mut now = jiff::Timestamp::UNIX_EPOCH;
        let mut waits = Vec::new();
        for _ in 0..4 {
            let mut round = Round::new(&cluster, &policies, &ledger, now, Planted::default());
            failed(&mut round, &pool, &"SoldOut".into(), &"".into());
            ledger = round.ledger;
            let entry = &ledger.back_offs[&pool];
            waits.push(entry.wait.as_mins());
            now = entry.until;
        }
        assert_eq!(waits, [1, 2, 3, 3]);

        let mut during = Round::new(&cluster, &policies, &ledger, now, Planted::default());
        failed(&mut during, &pool, &"SoldOut".into(), &"".into());
        let before = during.ledger.back_offs[&pool].clone();
        during.now = after(now, SignedDuration::from_secs(30));
        failed(&mut during, &pool, &"Quota".into(), &"".into());
        let entry = &during.ledger.back_offs[&pool];
        assert_eq!((entry.wait, &*entry.code), (before.wait, "Quota"));
        assert_eq!(entry.until, after(during.now, before.wait));
    }
}
