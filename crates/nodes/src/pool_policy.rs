//! What the cluster's policy says of a pool, laid over what its provider says.
//!
//! Owns the narrowing of bounds, the order of settings (policy, then pool, then cluster) and whose rules a pool
//! follows.

use crate::round::Round;
use jiff::SignedDuration;
use model::{Pool, PoolId, PoolOptions, PoolPolicy, Profile};
use std::sync::Arc;

fn policy_of<'r>(round: &Round<'r>, pool: &Pool) -> Option<&'r PoolPolicy> {
    let pools = &round.policies.pools;
    pools.get(&pool.name).or_else(|| pools.get(pool.id.as_str()))
}

/// The pool as planning sees it.
pub(crate) fn laid_over(round: &Round<'_>, pool: &Arc<Pool>) -> Arc<Pool> {
    let Some(policy) = policy_of(round, pool) else { return Arc::clone(pool) };
    let mut seen = Pool::clone(pool);
    seen.max = pool.max.min(policy.max.unwrap_or(u32::MAX));
    // The provider's minimum holds whatever a policy says.
    seen.min = pool.min.max(policy.min.unwrap_or(0)).min(seen.max.max(pool.min));
    seen.priority = policy.priority.unwrap_or(pool.priority);
    seen.options = policy.options.or(&pool.options);
    Arc::new(seen)
}

fn options(round: &Round<'_>, pool: &PoolId) -> PoolOptions {
    let Some(pool) = round.cluster.pools().get(pool) else { return PoolOptions::default() };
    policy_of(round, pool).map_or_else(|| pool.options.clone(), |policy| policy.options.or(&pool.options))
}

/// How long a machine of this pool may take to become a node, and such a node to become ready.
pub(crate) fn startup_time(round: &Round<'_>, pool: Option<&PoolId>) -> SignedDuration {
    pool.and_then(|pool| options(round, pool).max_startup_time).unwrap_or(round.policies.max_startup_time)
}

/// Whose rules hold for a pool: its own profile's, or the cluster-wide policy's where one is in force.
pub(crate) fn profile(round: &Round<'_>, pool: &Pool) -> Profile {
    match (pool.profile, round.policies.profile) {
        (Profile::ClusterAutoscaler, Profile::NodePolicy) => Profile::NodePolicy,
        (own, _) => own,
    }
}
