//! The columns of pods, above all the one word for their state.

use super::{Sheet, age, list, name, text_or};
use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const SHEET: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Ready", 0),
        ("Status", 0),
        ("Restarts", 0),
        ("Age", 0),
        ("IP", 1),
        ("Node", 1),
        ("Nominated Node", 1),
        ("Readiness Gates", 1),
    ],
    cells,
};

fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let total = list(pod, "spec.containers").count();
    let ready = list(pod, "status.containerStatuses").filter(|s| s["ready"] == Value::Bool(true)).count();
    vec![
        name(pod),
        json!(format!("{ready}/{total}")),
        json!(status(pod)),
        json!(restarts(pod, now)),
        age::of(pod, now),
        text_or(pod, "status.podIP", "<none>"),
        text_or(pod, "spec.nodeName", "<none>"),
        text_or(pod, "status.nominatedNodeName", "<none>"),
        json!(gates(pod)),
    ]
}

fn restarts(pod: &Object, now: Timestamp) -> String {
    let count: i64 = list(pod, "status.containerStatuses").filter_map(|s| s["restartCount"].as_i64()).sum();
    let last = list(pod, "status.containerStatuses")
        .filter_map(|status| status["lastState"]["terminated"]["finishedAt"].as_str())
        .max();
    match last {
        Some(moment) if count > 0 => format!("{count} ({} ago)", age::since(Some(moment), now)),
        _ => count.to_string(),
    }
}

fn gates(pod: &Object) -> String {
    let all: Vec<&str> =
        list(pod, "spec.readinessGates").filter_map(|g| g["conditionType"].as_str()).collect();
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let met = |gate: &&&str| {
        list(pod, "status.conditions").any(|c| c["type"].as_str() == Some(**gate) && c["status"] == "True")
    };
    format!("{}/{}", all.iter().filter(met).count(), all.len())
}

/// The state as `kubectl get pods` words it.
fn status(pod: &Object) -> String {
    let phase = pod.text("status.phase").unwrap_or("Unknown");
    let mut reason = pod.text("status.reason").filter(|r| !r.is_empty()).unwrap_or(phase).to_owned();
    let gated = |c: &&Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if list(pod, "status.conditions").find(gated).is_some() {
        "SchedulingGated".clone_into(&mut reason);
    }
    let mut running = false;
    let statuses: Vec<&Value> = list(pod, "status.containerStatuses").collect();
    for status in statuses.into_iter().rev() {
        let state = &status["state"];
        let text = |state: &Value| state["reason"].as_str().filter(|r| !r.is_empty()).map(str::to_owned);
        if let Some(waiting) = text(&state["waiting"]) {
            reason = waiting;
        } else if let Some(ended) = text(&state["terminated"]) {
            reason = ended;
        } else if state["terminated"].is_object() {
            reason = format!("ExitCode:{}", state["terminated"]["exitCode"].as_i64().unwrap_or(0));
        } else if status["ready"] == Value::Bool(true) && state["running"].is_object() {
            running = true;
        }
    }
    if reason == "Completed" && running {
        let ready = list(pod, "status.conditions").any(|c| c["type"] == "Ready" && c["status"] == "True");
        if ready { "Running" } else { "NotReady" }.clone_into(&mut reason);
    }
    if pod.is_terminating() {
        if pod.text("status.reason") == Some("NodeLost") {
            return "Unknown".to_owned();
        }
        if !matches!(phase, "Succeeded" | "Failed") {
            return "Terminating".to_owned();
        }
    }
    reason
}
