//! What a node that is not needed still waits for.
//!
//! Owns the time that it must have been unneeded, the cool-downs of the cluster or of its pool, and the time for which
//! a pool's new nodes are left alone.

use crate::fleet::{FleetNode, PoolAccount};
use crate::round::{Round, after};
use jiff::{SignedDuration, Timestamp};
use model::{CoolDown, LastChanges, NodeName, PoolId, Reason};

/// Since when a node is unneeded, and when it may go.
pub(crate) fn times(
    round: &Round<'_>,
    name: &NodeName,
    unready_since: Option<Timestamp>,
    account: &PoolAccount,
) -> (Timestamp, Timestamp) {
    let (options, policies) = (&account.pool.options, round.policies);
    if let Some(since) = unready_since {
        return (since, after(since, options.unready_time.unwrap_or(policies.unready_time)));
    }
    let since = round.ledger.unneeded_since.get(name).copied().unwrap_or(round.now);
    (since, after(since, options.unneeded_time.unwrap_or(policies.unneeded_time)))
}

/// The wait that ends last of those that forbid removals from this pool now.
pub(crate) fn cool_down(round: &Round<'_>, pool: &PoolId) -> Option<(CoolDown, Timestamp)> {
    let (ledger, policies) = (&round.ledger, round.policies);
    let of_pool = ledger.last_changes.get(pool).cloned().unwrap_or_default();
    let whole = LastChanges {
        scale_up_at: ledger.last_scale_up_at,
        deletion_at: ledger.last_deletion_at,
        failure_at: ledger.last_failure_at,
    };
    let last = if policies.delay_type_local { of_pool } else { whole };
    [
        (CoolDown::AfterScaleUp, last.scale_up_at, policies.delay_after_add),
        (CoolDown::AfterDeletion, last.deletion_at, policies.delay_after_delete),
        (CoolDown::AfterFailure, last.failure_at, policies.delay_after_failure),
    ]
    .into_iter()
    .filter_map(|(which, at, wait)| at.map(|at| (which, after(at, wait))))
    .filter(|(_, until)| *until > round.now)
    .max_by_key(|(which, until)| (*until, *which))
}

/// Until when a node is too new for its pool to give it away.
pub(crate) fn too_new(round: &Round<'_>, node: &FleetNode, account: &PoolAccount) -> Option<Reason> {
    let wait = account.pool.options.cool_down.filter(|wait| *wait > SignedDuration::ZERO)?;
    let until = after(node.machine.as_ref()?.created_at, wait);
    (until > round.now).then_some(Reason::PoolCoolDown { until })
}

/// What happened to a pool lately, for waits that are the pool's own.
pub(crate) fn note(round: &mut Round<'_>, pool: &PoolId, change: impl FnOnce(&mut LastChanges)) {
    if round.policies.delay_type_local {
        change(round.ledger.last_changes.entry(pool.clone()).or_default());
    }
}

/// Forgets what no wait looks at any more.
pub(crate) fn forget(round: &mut Round<'_>) {
    let policies = round.policies;
    let longest = policies.delay_after_add.max(policies.delay_after_delete).max(policies.delay_after_failure);
    let (now, local) = (round.now, policies.delay_type_local);
    let recent = |at: Option<Timestamp>| at.is_some_and(|at| after(at, longest) > now);
    round.ledger.last_changes.retain(|_, last| {
        local && (recent(last.scale_up_at) || recent(last.deletion_at) || recent(last.failure_at))
    });
}
