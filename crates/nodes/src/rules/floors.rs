//! Floors by schedule: at least so many nodes within a window, and so many outside of it.
//!
//! Owns what the floors hold at a moment, which raises the pools' minimum before anything is removed, and the orders
//! that bring a pool up to it. When a window closes, what is not needed leaves as any unneeded node does.

use super::{SetView, order, sets};
use crate::fleet::{Fleet, PoolAccount};
use crate::freshness::Freshness;
use crate::round::Round;
use cron::{Window, WindowState};
use jiff::tz::TimeZone;
use model::{RuleReason, RuleTrigger};
use sets::Trigger;

/// How many nodes the floors of a pool hold now; zero where none does.
pub(crate) fn floor_of(round: &mut Round<'_>, account: &PoolAccount) -> u32 {
    let mut floor = 0;
    for set in round.cluster.rule_sets().values() {
        let followed = !set.disabled && !set.dry_run && set.problem.is_none();
        if !followed || !set.targets.iter().any(|target| sets::is_named(account, target)) {
            continue;
        }
        let zone = sets::zone_name(round, set);
        let Ok(zone) = cron::time_zone(&zone, &TimeZone::UTC) else { continue };
        for rule in set.rules.iter().filter(|rule| !rule.disabled) {
            if let RuleTrigger::Floor { start, end, nodes, otherwise } = &rule.when
                && let Ok(window) = sets::window(start, end, &zone)
            {
                floor = floor.max(wanted(round, &window, *nodes, *otherwise));
            }
        }
    }
    floor
}

fn wanted(round: &mut Round<'_>, window: &Window, nodes: u32, otherwise: u32) -> u32 {
    match window.at(round.now) {
        WindowState::Open { until } => {
            round.wake(until);
            nodes
        }
        WindowState::Closed { opens } => {
            if let Some(opens) = opens {
                round.wake(opens);
            }
            otherwise
        }
        WindowState::Endless => otherwise,
    }
}

/// Brings pools up to their floors.
pub(super) fn hold(round: &mut Round<'_>, fleet: &mut Fleet, fresh: &Freshness, sets: &mut [SetView]) {
    for view in sets {
        for rule in view.rules.iter_mut().filter(|rule| rule.active) {
            let Trigger::Floor { window, nodes, otherwise } = &rule.trigger else { continue };
            let asked = wanted(round, window, *nodes, *otherwise);
            for id in &view.pools {
                let Some(account) = fleet.pools.get(id) else { continue };
                let max = account.pool.max;
                let (target, nodes) = (account.target, asked.min(max));
                let open = round.ledger.scale_ups.get(id).is_some_and(|order| order.lowering);
                let reason = if account.pool.direct().is_some() {
                    RuleReason::NotAGroup
                } else if target >= nodes && account.ready < nodes {
                    RuleReason::FloorAwaited { nodes }
                } else if target >= nodes && asked > max {
                    RuleReason::FloorOverMaximum { nodes: asked, max }
                } else if target >= nodes {
                    RuleReason::FloorHeld { nodes }
                } else if view.set.dry_run {
                    RuleReason::WouldAdd { nodes: nodes - target }
                } else if account.order_open || account.giving_back || open {
                    RuleReason::FloorAwaited { nodes }
                } else {
                    order(round, fleet, fresh, id, (&view.set.key, &rule.name), nodes - target)
                };
                let (key, name, now) = (&view.set.key, &rule.name, round.now);
                if let RuleReason::Added { nodes, .. } = &reason {
                    let memory = sets::memory(round, key, name);
                    (memory.last_run, memory.last_nodes) = (Some(now), *nodes);
                }
                rule.verdict.pools.insert(id.clone(), reason);
            }
        }
    }
}
