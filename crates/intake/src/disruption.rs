//! `spec.disruption` of NodePools.
//!
//! Owns the reading of consolidation and budgets. What is wrong is said with its field; a schedule is read here once,
//! so that a pool whose budget cannot be read says so, while deciding lets nothing through in any case.

use crate::{IntakeError, duration};
use jiff::SignedDuration;
use model::{BudgetWindow, Consolidation, DisruptionBudget, DisruptionPolicy, DisruptionReason, Share};
use serde_json::Value;
use std::sync::Arc;

/// Budgets of one pool.
const MOST_BUDGETS: usize = 50;

pub(crate) fn policy(value: &Value) -> Result<DisruptionPolicy, IntakeError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let consolidation = match text("consolidationPolicy") {
        Some("WhenEmpty") => Consolidation::WhenEmpty,
        Some("Balanced") => Consolidation::Balanced,
        None | Some("WhenEmptyOrUnderutilized") => Consolidation::WhenEmptyOrUnderutilized,
        Some(other) => {
            let problem = format!("{other} is unknown");
            let fix = "write WhenEmpty, WhenEmptyOrUnderutilized or Balanced";
            return Err(IntakeError::field("consolidationPolicy", problem, fix));
        }
    };
    let after = match text("consolidateAfter") {
        None => Some(SignedDuration::ZERO),
        Some("Never") => None,
        Some(wait) => Some(duration::go_duration(wait).map_err(|error| error.under("consolidateAfter"))?),
    };
    let budgets = match value.get("budgets").and_then(Value::as_array) {
        None => vec![DisruptionBudget { nodes: Share::Percent(10), window: None, reasons: None }],
        Some(list) => list
            .iter()
            .take(MOST_BUDGETS)
            .enumerate()
            .map(|(at, entry)| budget(entry).map_err(|error| error.under(&format!("budgets[{at}]"))))
            .collect::<Result<_, _>>()?,
    };
    Ok(DisruptionPolicy { consolidation, after, budgets })
}

fn budget(value: &Value) -> Result<DisruptionBudget, IntakeError> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let nodes = share(text("nodes").unwrap_or("10%"))?;
    let window = match (text("schedule"), text("duration")) {
        (None, None) => None,
        (Some(schedule), Some(open)) => Some(BudgetWindow {
            schedule: Arc::from(schedule),
            time_zone: Arc::from(text("timeZone").unwrap_or_default()),
            duration: duration::go_duration(open).map_err(|error| error.under("duration"))?,
        }),
        _ => {
            let fix = "give both or none";
            return Err(IntakeError::field("schedule", "schedule and duration belong together", fix));
        }
    };
    let reasons = match value.get("reasons").and_then(Value::as_array) {
        None => None,
        Some(list) => Some(list.iter().map(reason).collect::<Result<_, _>>()?),
    };
    Ok(DisruptionBudget { nodes, window, reasons })
}

fn share(text: &str) -> Result<Share, IntakeError> {
    let wrong = || IntakeError::field("nodes", format!("{text} is no share"), "write such as 10% or 5");
    match text.strip_suffix('%') {
        Some(percent) => {
            percent.parse().ok().filter(|percent| *percent <= 100).map(Share::Percent).ok_or_else(wrong)
        }
        None => text.parse().map(Share::Count).map_err(|_| wrong()),
    }
}

fn reason(value: &Value) -> Result<DisruptionReason, IntakeError> {
    match value.as_str() {
        Some("Empty") => Ok(DisruptionReason::Empty),
        Some("Underutilized") => Ok(DisruptionReason::Underutilized),
        Some("Drifted") => Ok(DisruptionReason::Drifted),
        Some("Expired") => Ok(DisruptionReason::Expired),
        _ => {
            let fix = "use Empty, Underutilized, Drifted or Expired";
            Err(IntakeError::field("reasons", format!("{value} is unknown"), fix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_read_and_what_is_wrong_is_named() {
        let read = policy(&json!({
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": "30s",
            "budgets": [{"nodes": "0", "schedule": "0 9 * * *", "duration": "8h", "timeZone": "Asia/Shanghai"},
                        {"nodes": "20%", "reasons": ["Empty"]}],
        }))
        .unwrap();
        assert_eq!(read.after, Some(SignedDuration::from_secs(30)));
        assert_eq!(read.budgets[1].nodes, Share::Percent(20));
        assert_eq!(read.budgets[0].window.as_ref().unwrap().duration, SignedDuration::from_hours(8));
        assert_eq!(policy(&json!({"consolidateAfter": "Never"})).unwrap().after, None);
        let plain = policy(&json!({})).unwrap();
        assert_eq!((plain.budgets[0].nodes, plain.after), (Share::Percent(10), Some(SignedDuration::ZERO)));
        for (wrong, named) in [
            (json!({"consolidationPolicy": "WhenUnderutilized"}), "consolidationPolicy"),
            (json!({"budgets": [{"nodes": "1000%"}]}), "budgets[0].nodes"),
            (json!({"budgets": [{"nodes": "-1"}]}), "budgets[0].nodes"),
            (json!({"budgets": [{"schedule": "@daily"}]}), "budgets[0].schedule"),
            (json!({"budgets": [{"reasons": ["expired"]}]}), "budgets[0].reasons"),
        ] {
            let error = policy(&wrong).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
