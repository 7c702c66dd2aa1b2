//! How many nodes of a direct pool may be disturbed now, by reason.
//!
//! Owns the reading of disruption budgets: which are open at a moment, what the strictest of them leaves, and when that
//! changes. A budget that cannot be read allows nothing.

use crate::round::after;
use cron::{Dialect, Schedule};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::{DisruptionBudget, DisruptionPolicy, DisruptionReason, Share};

/// Nodes that may be on their way out at once for a reason; `None` where no budget is open.
pub fn allowed(
    policy: &DisruptionPolicy,
    reason: DisruptionReason,
    total: u32,
    now: Timestamp,
) -> Option<u32> {
    let concerns =
        |budget: &&DisruptionBudget| budget.reasons.as_ref().is_none_or(|reasons| reasons.contains(&reason));
    policy.budgets.iter().filter(concerns).filter_map(|budget| of_budget(budget, total, now)).min()
}

fn of_budget(budget: &DisruptionBudget, total: u32, now: Timestamp) -> Option<u32> {
    let nodes = match budget.nodes {
        Share::Count(count) => count,
        Share::Percent(percent) => (u64::from(total) * u64::from(percent)).div_ceil(100) as u32,
    };
    match is_open(budget, now) {
        Some(true) => Some(nodes),
        Some(false) => None,
        // It cannot be read: nothing is let through.
        None => Some(0),
    }
}

fn schedule(budget: &DisruptionBudget) -> Option<Schedule> {
    let window = budget.window.as_ref()?;
    let zone = cron::time_zone(&window.time_zone, &TimeZone::UTC).ok()?;
    Schedule::parse(&window.schedule, &Dialect::KUBERNETES, &zone).ok()
}

fn is_open(budget: &DisruptionBudget, now: Timestamp) -> Option<bool> {
    let Some(window) = &budget.window else { return Some(true) };
    let schedule = schedule(budget)?;
    Some(schedule.last_until(now).is_some_and(|opened| after(opened, window.duration) > now))
}

/// When a window opens or closes next.
pub(crate) fn next_change(policy: &DisruptionPolicy, now: Timestamp) -> Option<Timestamp> {
    let change = |budget: &DisruptionBudget| {
        let window = budget.window.as_ref()?;
        let schedule = schedule(budget)?;
        let closes = schedule.last_until(now).map(|opened| after(opened, window.duration));
        closes.into_iter().chain(schedule.next_after(now)).filter(|at| *at > now).min()
    };
    policy.budgets.iter().filter_map(change).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use model::BudgetWindow;
    use std::sync::Arc;

    fn budget(nodes: Share, reasons: Option<&[DisruptionReason]>) -> DisruptionBudget {
        DisruptionBudget { nodes, window: None, reasons: reasons.map(<[_]>::to_vec) }
    }

    fn windowed(schedule: &str, hours: i64, zone: &str) -> DisruptionPolicy {
        let window = BudgetWindow {
            schedule: Arc::from(schedule),
            time_zone: Arc::from(zone),
            duration: SignedDuration::from_hours(hours),
        };
        let budget = DisruptionBudget { nodes: Share::Count(1), window: Some(window), reasons: None };
        DisruptionPolicy { budgets: vec![budget], ..DisruptionPolicy::default() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_strictest_open_budget_counts_for_each_reason() {
        use DisruptionReason::{Drifted, Empty, Underutilized};
        let now = Timestamp::UNIX_EPOCH;
        let mut policy = DisruptionPolicy {
            budgets: vec![
                budget(Share::Count(10), None),
                budget(Share::Count(100), None),
                budget(Share::Percent(100), None),
            ],
            ..DisruptionPolicy::default()
        };
        assert_eq!(allowed(&policy, Empty, 100, now), Some(10));
        policy.budgets.push(budget(Share::Count(15), Some(&[Drifted, Underutilized])));
        policy.budgets.push(budget(Share::Count(5), Some(&[Drifted])));
        assert_eq!(allowed(&policy, Empty, 100, now), Some(10));
        assert_eq!(allowed(&policy, Drifted, 100, now), Some(5));
        assert_eq!(allowed(&policy, Underutilized, 100, now), Some(10));
        policy.budgets.push(budget(Share::Count(4), Some(&[Empty])));
        assert_eq!(allowed(&policy, Empty, 100, now), Some(4));
        let tenth = DisruptionPolicy {
            budgets: vec![budget(Share::Percent(10), None)],
            ..DisruptionPolicy::default()
        };
        assert_eq!(allowed(&tenth, Empty, 1, now), Some(1), "rounded up");
        assert_eq!(allowed(&DisruptionPolicy::default(), Empty, 1, now), None);
    }

    #[test]
    fn windows_open_and_close_in_their_zone() {
        let reason = DisruptionReason::Empty;
        let table = [
            ("@yearly", 24, "", "2000-01-01T12:00:00Z", Some(1)),
            ("@daily", 48, "", "2000-06-15T12:00:00Z", Some(1)),
            ("30 6 * * SUN", 6, "", "2000-01-02T00:00:00Z", None),
            ("0 9 * * *", 8, "Asia/Shanghai", "2024-05-01T02:00:00Z", Some(1)),
            ("0 9 * * *", 8, "Asia/Shanghai", "2024-05-01T10:00:00Z", None),
            // What cannot be read lets nothing through.
            ("0 0 * * tue-mon", 1, "", "2000-01-02T00:00:00Z", Some(0)),
            ("0 9 * * *", 8, "Nowhere/Else", "2024-05-01T10:00:00Z", Some(0)),
        ];
        for (schedule, hours, zone, moment, expected) in table {
            let policy = windowed(schedule, hours, zone);
            assert_eq!(allowed(&policy, reason, 10, at(moment)), expected, "{schedule} at {moment}");
        }
        let policy = windowed("0 9 * * *", 8, "");
        assert_eq!(next_change(&policy, at("2024-05-01T10:00:00Z")), Some(at("2024-05-01T17:00:00Z")));
        assert_eq!(next_change(&policy, at("2024-05-01T18:00:00Z")), Some(at("2024-05-02T09:00:00Z")));
    }
}
