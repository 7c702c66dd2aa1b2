//! What became of the machines that were asked for.
//!
//! Owns the life of an order from its confirmation to its end: delivered, failed, or never come. Machines that will
//! not become nodes are given back by name, sizes that were never delivered are lowered once, and the pool that
//! failed is left alone for a while, so that the next choice falls on another.

use crate::back_off;
use crate::fleet::{Fleet, PoolAccount, order_unseen};
use crate::launches;
use crate::round::{Round, after};
use model::{
    Lower, Machine, MachineState, PoolId, Reason, Release, Removal, RemovalCause, RemovalPhase, ScaleUp,
    Step, Uid,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A machine that was given back and still is not going after this was not given back.
pub(crate) const RELEASE_BELIEVED: jiff::SignedDuration = jiff::SignedDuration::from_mins(15);
/// Code of a failure that the provider did not report: nothing came in time.
pub(crate) const TIMEOUT: &str = "Timeout";

pub(crate) fn settle(round: &mut Round<'_>, fleet: &mut Fleet) {
    forget_gone_pools(round, fleet);
    for (id, account) in &mut fleet.pools {
        if !account.fresh {
            continue;
        }
        if account.pool.direct().is_some() {
            launches::settle(round, id, account);
            ask_again(round, id, account);
            speak(round, id, account);
            continue;
        }
        confirm(round, id, account);
        note_failures(round, id, account);
        adopt_unborn(round, id, account);
        finish_or_expire(round, id, account);
        give_back(round, id, account);
        ask_again(round, id, account);
        speak(round, id, account);
    }
}

fn forget_gone_pools(round: &mut Round<'_>, fleet: &Fleet) {
    let cluster = round.cluster;
    let heard = |id: &PoolId| {
        let input = model::Input::Pools(Arc::from(id.provider()));
        cluster.input(&input) == Some(&model::InputState::Fresh)
    };
    round.ledger.scale_ups.retain(|id, _| fleet.pools.contains_key(id) || !heard(id));
    round.ledger.orphans.retain(|_, orphan| fleet.pools.contains_key(&orphan.pool) || !heard(&orphan.pool));
}

/// The pool shows the ordered size: from now on what it shows is the truth.
fn confirm(round: &mut Round<'_>, id: &PoolId, account: &PoolAccount) {
    if let Some(order) = round.ledger.scale_ups.get_mut(id)
        && !order.confirmed
        && !order.lowering
        && account.pool.target >= order.to
    {
        order.confirmed = true;
        order.ordered = true;
        order.asked = None;
        order.not_before = None;
    }
}

/// A failed or late machine is written down once, and its pool backs off.
fn note_failures(round: &mut Round<'_>, id: &PoolId, account: &PoolAccount) {
    let seen: Vec<Arc<Machine>> = account.failed.iter().chain(&account.late).map(Arc::clone).collect();
    round
        .ledger
        .orphans
        .retain(|machine, orphan| orphan.pool != *id || seen.iter().any(|m| m.id == *machine));
    for machine in seen {
        if round.ledger.orphans.contains_key(&machine.id) {
            continue;
        }
        let (code, message) = match &machine.state {
            MachineState::Failed { code, message } => (Arc::clone(code), Arc::clone(message)),
            _ => (Arc::from(TIMEOUT), Arc::from("the machine did not become a node in time")),
        };
        back_off::failed(round, id, &code, &message);
        let intent = round.new_intent("release");
        let orphan = Removal::begin(
            intent,
            Uid::from(""),
            id.clone(),
            machine.id.clone(),
            RemovalCause::NeverJoined,
            RemovalPhase::Releasing,
            round.now,
        );
        round.ledger.orphans.insert(machine.id.clone(), orphan);
    }
}

/// A size that nobody remembers ordering (a lost ledger, a person) gets its time limit, too.
fn adopt_unborn(round: &mut Round<'_>, id: &PoolId, account: &PoolAccount) {
    if account.unborn == 0 || round.ledger.scale_ups.contains_key(id) {
        return;
    }
    let limit = account.pool.options.max_provision_time.unwrap_or(round.policies.max_provision_time);
    let order = ScaleUp {
        intent: round.new_intent("adopt"),
        from: account.machines,
        to: account.target,
        begun_at: round.now,
        deadline: after(round.now, limit),
        ordered: true,
        confirmed: true,
        lowering: false,
        asked: None,
        not_before: None,
        serves: Vec::new(),
        claims: BTreeMap::new(),
        launches: Vec::new(),
    };
    round.ledger.scale_ups.insert(id.clone(), order);
}

fn finish_or_expire(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount) {
    let Some(order) = round.ledger.scale_ups.get(id) else { return };
    let missing = account.pool.target.saturating_sub(account.machines);
    if order.lowering {
        if missing == 0 || account.pool.target <= order.to {
            round.ledger.scale_ups.remove(id);
        } else {
            account.unborn = 0;
        }
        return;
    }
    if order.confirmed && missing == 0 && account.upcoming() == 0 {
        round.ledger.scale_ups.remove(id);
        return;
    }
    let (deadline, asked) = (order.deadline, order.asked.filter(|_| !order.ordered));
    if order.confirmed && missing == 0 {
        // Each machine that exists has its own time limit.
        return;
    }
    if !round.reached(deadline) || round.is_asking(asked) {
        return;
    }
    expire(round, id, account, missing);
}

/// The order's time is over and not all of it exists: no longer counted on, lowered once to what exists.
fn expire(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount, missing: u32) {
    back_off::failed(
        round,
        id,
        &Arc::from(TIMEOUT),
        &Arc::from("the machines asked for did not appear in time"),
    );
    account.unborn = 0;
    account.order_open = false;
    account.target = account.pool.target;
    let to = account.machines.max(account.pool.min);
    if missing == 0 || to >= account.pool.target {
        round.ledger.scale_ups.remove(id);
        return;
    }
    let intent = round.new_intent("lower");
    if let Some(order) = round.ledger.scale_ups.get_mut(id) {
        order.intent = intent;
        order.from = account.pool.target;
        order.to = to;
        order.lowering = true;
        order.asked = None;
        order.not_before = None;
    }
}

/// Gives machines back that never became nodes, as far as the minimum allows.
fn give_back(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount) {
    if account.pool.frozen.is_some() {
        return;
    }
    let machines: Vec<Arc<Machine>> = account.failed.iter().chain(&account.late).map(Arc::clone).collect();
    for machine in machines {
        let Some(mut orphan) = round.ledger.orphans.get(&machine.id).cloned() else { continue };
        // The order was answered as done, but on a view of the provider that was out of date: it is given again.
        let doubted = after(orphan.phase_since, RELEASE_BELIEVED);
        if orphan.released && machine.state != MachineState::Deleting && round.reached(doubted) {
            orphan.released = false;
            orphan.asked = None;
            orphan.phase_since = round.now;
            round.ledger.orphans.insert(machine.id.clone(), orphan.clone());
        }
        let counted = orphan.asked.is_some() || orphan.released;
        let forced = is_forced(round, &machine);
        if !counted && ((account.removable() == 0 && !forced) || order_unseen(round, id)) {
            continue;
        }
        let reason = Reason::MachineNeverJoined { machine: machine.id.clone() };
        round.verdicts.pools.insert(id.clone(), reason);
        if orphan.released {
            continue;
        }
        let Some(asked) = round.ask(orphan.asked, orphan.not_before) else { continue };
        if counted && !account.minimum_holds() && !forced {
            // The minimum was raised since it was asked for.
            if let Some(entry) = round.ledger.orphans.get_mut(&machine.id) {
                entry.asked = None;
            }
            account.removals_in_flight -= 1;
            account.removals_open -= 1;
            continue;
        }
        if let Some(entry) = round.ledger.orphans.get_mut(&machine.id) {
            entry.asked = Some(asked);
            entry.not_before = None;
        }
        if !counted {
            account.removals_in_flight += 1;
            account.removals_open += 1;
        }
        round.step(Step::Release(Release {
            intent: orphan.intent,
            pool: id.clone(),
            machine: machine.id.clone(),
            node: None,
            cause: RemovalCause::NeverJoined,
            min: if forced { 0 } else { account.pool.min },
        }));
    }
}

/// Whether a machine that will not become a node goes even where the pool is at its minimum, which the provider then
/// makes up for.
fn is_forced(round: &Round<'_>, machine: &Machine) -> bool {
    let draining = &round.policies.draining;
    match machine.state {
        MachineState::Failed { .. } => draining.force_delete_failed,
        _ => draining.force_delete_unregistered,
    }
}

/// Hands out an order or a lowering that nobody is working on: deferred, or asked for by a process that is gone.
fn ask_again(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount) {
    let Some(order) = round.ledger.scale_ups.get(id).cloned() else { return };
    if (order.ordered && !order.lowering) || account.pool.frozen.is_some() {
        return;
    }
    let Some(asked) = round.ask(order.asked, order.not_before) else { return };
    let out_of_bounds =
        if order.lowering { order.to < account.pool.min } else { order.to > account.pool.max };
    if out_of_bounds {
        // The bounds were changed since: the demand is looked at anew.
        round.ledger.scale_ups.remove(id);
        account.target = account.pool.target;
        account.unborn = account.target.saturating_sub(account.machines);
        account.order_open = false;
        return;
    }
    if let Some(entry) = round.ledger.scale_ups.get_mut(id) {
        entry.asked = Some(asked);
        entry.not_before = None;
    }
    round.step(if order.lowering {
        Step::Lower(Lower { intent: order.intent, pool: id.clone(), from: order.from, to: order.to })
    } else {
        Step::Buy(model::Buy {
            intent: order.intent,
            pool: id.clone(),
            from: order.from,
            to: order.to,
            max: account.pool.max,
            serves: order.serves.into(),
            launches: order.launches,
        })
    });
}

fn speak(round: &mut Round<'_>, id: &PoolId, account: &PoolAccount) {
    if let Some(order) = round.ledger.scale_ups.get(id).filter(|order| !order.lowering) {
        let reason =
            Reason::Growing { from: order.from, to: order.to, ready: account.ready, since: order.begun_at };
        round.verdicts.pools.entry(id.clone()).or_insert(reason);
    }
}
