//! Pools of a fixed number: as many claims as the pool says, whatever pods do.
//!
//! Owns which claims are made and which go. A machine that has drifted is replaced: the new one first, as many at once as the
//! pool's budgets for drift and its limit of nodes leave room for.

use crate::cloud::Class;
use crate::conditions::{DRIFTED, READY};
use crate::orders;
use crate::shared::{Next, Shared, StepError};
use api::karpenter::{NodeClaim, NodePool};
use clouds::watching::{code, within};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use kube::api::PostParams;
use model::{DisruptionPolicy, DisruptionReason, claim_name};
use std::sync::Arc;

/// Claims of a pool that one look makes or ends.
const MOST_AT_ONCE: usize = 50;
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// While budgets let nothing go.
const BUDGETS_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What is to be done now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Todo {
    make: usize,
    /// Names of claims that go.
    end: Vec<String>,
    /// Machines that have drifted wait for budgets.
    held: bool,
}

pub(crate) async fn keep(
    shared: &Shared,
    pool: &NodePool,
    class: Option<&Class>,
    claims: &[Arc<NodeClaim>],
    now: Timestamp,
) -> Result<Next, StepError> {
    let Some(replicas) = pool.spec.replicas else { return Ok(Next::Wait) };
    let wanted = usize::try_from(replicas).unwrap_or(0).min(node_limit(pool));
    let todo = todo(claims, wanted, node_limit(pool), allowed(pool, claims.len(), now));
    let live: Vec<&Arc<NodeClaim>> = claims.iter().filter(|claim| is_live(claim)).collect();
    for claim in live.iter().filter(|claim| todo.end.contains(&claim.name_any())) {
        shared.delete_claim(claim).await?;
    }
    let again = |wait| Ok(Next::At(now.saturating_add(wait).unwrap_or(now)));
    if todo.make > 0 {
        let Some(class) = class else { return Ok(Next::Wait) };
        for number in 0..todo.make.min(MOST_AT_ONCE) {
            make(shared, pool, class, &live, number).await?;
        }
        return again(LOOK_AGAIN);
    }
    if todo.held { again(BUDGETS_AGAIN) } else { Ok(Next::Wait) }
}

fn is_live(claim: &NodeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_none()
}

fn is_true(claim: &NodeClaim, condition: &str) -> bool {
    let conditions = claim.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

/// How many machines may be on their way out for their drift; those that go already are counted in.
fn allowed(pool: &NodePool, total: usize, now: Timestamp) -> usize {
    let read = serde_json::to_value(pool).ok().and_then(|value| intake::node_pool(&value).ok());
    let Some(pool) = read.map(|pool| pool.over(Arc::default(), std::collections::BTreeMap::new())) else {
        return 0;
    };
    let plain = DisruptionPolicy::default();
    let policy = pool.direct().map_or(&plain, |direct| &direct.spec().disruption);
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    let most = nodes::disruptions_allowed(policy, DisruptionReason::Drifted, total, now);
    most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

fn todo(claims: &[Arc<NodeClaim>], wanted: usize, limit: usize, allowed: usize) -> Todo {
    let live: Vec<&Arc<NodeClaim>> = claims.iter().filter(|claim| is_live(claim)).collect();
    let drifted = live.iter().filter(|claim| is_true(claim, DRIFTED)).count();
    let going = claims.len() - live.len();
    let extra = drifted.min(allowed.saturating_sub(going)).min(limit.saturating_sub(wanted));
    let most = wanted.saturating_add(extra);
    if live.len() < most {
        return Todo { make: most - live.len(), ..Todo::default() };
    }
    let ready = live.iter().filter(|claim| is_true(claim, READY)).count();
    // What is too much by number; then what has drifted, as far as others are ready in its place.
    let surplus = live.len() - most;
    let replaced = ready.saturating_sub(wanted).min(drifted).min(live.len() - wanted);
    let mut order = live;
    order.sort_by_key(|claim| {
        let launched = claim.status.as_ref().is_some_and(|status| status.provider_id.is_some());
        let created = claim.creation_timestamp().map(|time| time.0);
        (launched, !is_true(claim, DRIFTED), std::cmp::Reverse(created), claim.name_any())
    });
    let names = |claims: &mut dyn Iterator<Item = &&Arc<NodeClaim>>| -> Vec<String> {
        claims.map(|claim| claim.name_any()).collect()
    };
    let end = if surplus > 0 {
        names(&mut order.iter().take(surplus.min(MOST_AT_ONCE)))
    } else {
        names(&mut order.iter().filter(|claim| is_true(claim, DRIFTED)).take(replaced.min(MOST_AT_ONCE)))
    };
    Todo { make: 0, end, held: drifted > 0 && extra == 0 }
}

fn node_limit(pool: &NodePool) -> usize {
    let limit = pool.spec.limits.as_ref().and_then(|limits| limits.get("nodes"));
    limit
        .and_then(|text| intake::quantity::whole(&text.0).ok())
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX)
}

/// The claim's name follows from those that exist, so that a look that is repeated before its claim is seen writes
/// the same one.
async fn make(
    shared: &Shared,
    pool: &NodePool,
    class: &Class,
    live: &[&Arc<NodeClaim>],
    number: usize,
) -> Result<(), StepError> {
    let names: Vec<String> = live.iter().map(|claim| claim.name_any()).collect();
    let seed = orders::hash_of(&(pool.uid(), names, number));
    let seed = u64::from_str_radix(&seed, 16).unwrap_or(0);
    let claim = orders::bare(pool, class, &claim_name(&pool.name_any(), seed));
    match within(shared.limit, shared.claims.create(&PostParams::default(), &claim)).await {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(409) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Claims in letters; number wanted, limit, budget; how many are made, and which end.
    type Row<'a> = (&'a str, (usize, usize, usize), usize, &'a [&'a str]);

    /// Letters: `r` ready, `d` ready and drifted, `n` not launched, `s` starting, `x` going.
    fn claims(letters: &str) -> Vec<Arc<NodeClaim>> {
        let one = |(number, letter): (usize, char)| {
            let is = |kind: &str| {
                json!({"type": kind, "status": "True", "reason": kind, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"})
            };
            let conditions: Vec<Value> = match letter {
                'r' | 'x' => vec![is(READY)],
                'd' => vec![is(READY), is(DRIFTED)],
                _ => Vec::new(),
            };
            let mut status = json!({"conditions": conditions});
            if letter != 'n' {
                status["providerID"] = json!("p");
            }
            let mut metadata = json!({"name": format!("{letter}{number}"),
                "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z")});
            if letter == 'x' {
                metadata["deletionTimestamp"] = json!("2026-01-01T01:00:00Z");
            }
            let class = json!({"group": "g", "kind": "k", "name": "n"});
            Arc::new(
                serde_json::from_value(json!({"apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
                "metadata": metadata, "spec": {"requirements": [], "nodeClassRef": class}, "status": status}))
                .unwrap(),
            )
        };
        letters.chars().enumerate().map(one).collect()
    }

    #[test]
    fn the_number_is_kept_and_the_drifted_are_replaced_one_after_the_other() {
        let free = usize::MAX;
        let table: [Row<'_>; 14] = [
            ("", (3, free, free), 3, &[]),
            ("rr", (3, free, free), 1, &[]),
            ("rrr", (3, free, free), 0, &[]),
            ("rrrnr", (3, free, free), 0, &["n3", "r4"]),
            ("rdrr", (3, 3, free), 0, &["d1"]),
            // Replacements first, as many as budgets and limit let be.
            ("ddd", (3, free, 1), 1, &[]),
            ("ddd", (3, free, 2), 2, &[]),
            ("ddd", (3, 4, free), 1, &[]),
            ("ddd", (3, 3, free), 0, &[]),
            ("ddds", (3, free, 1), 0, &[]),
            ("dddr", (3, free, 1), 0, &["d2"]),
            // The one that goes counts against the budget.
            ("ddxr", (3, free, 1), 0, &[]),
            ("ddr", (3, free, 1), 1, &[]),
            // None is replaced while the pool is too large.
            ("ddddd", (3, 3, 1), 0, &["d4", "d3"]),
        ];
        for (letters, (wanted, limit, allowed), make, end) in table {
            let found = todo(&claims(letters), wanted, limit, allowed);
            assert_eq!(
                (found.make, found.end),
                (make, end.iter().map(ToString::to_string).collect()),
                "{letters}"
            );
        }
        assert!(todo(&claims("ddd"), 3, 9, 0).held);
        assert!(!todo(&claims("rrr"), 3, 9, 0).held);
    }
}
