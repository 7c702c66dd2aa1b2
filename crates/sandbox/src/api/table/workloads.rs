//! The columns of workloads.

use super::{Sheet, age, joined, list, name, number, text_or};
use crate::api::subresource::selector_text;
use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Containers, images and selector: the wide columns of all workloads.
fn wide(object: &Object, template: &str, selector: bool) -> Vec<Value> {
    let path = format!("{template}.spec.containers");
    let texts = |field: &str| -> Vec<String> {
        list(object, &path).filter_map(|c| c[field].as_str()).map(str::to_owned).collect()
    };
    let mut cells = vec![joined(&texts("name")), joined(&texts("image"))];
    if selector {
        let text = selector_text(object.at("spec.selector"));
        cells.push(json!(if text.is_empty() { "<none>".to_owned() } else { text }));
    }
    cells
}

fn row(mut cells: Vec<Value>, wide: Vec<Value>) -> Vec<Value> {
    cells.extend(wide);
    cells
}

pub(super) const DEPLOYMENTS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Ready", 0),
        ("Up-to-date", 0),
        ("Available", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ],
    cells: |d, now| {
        let ready = format!("{}/{}", number(d, "status.readyReplicas"), number(d, "spec.replicas"));
        let cells = vec![
            name(d),
            json!(ready),
            json!(number(d, "status.updatedReplicas")),
            json!(number(d, "status.availableReplicas")),
            age::of(d, now),
        ];
        row(cells, wide(d, "spec.template", true))
    },
};

pub(super) const REPLICA_SETS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Desired", 0),
        ("Current", 0),
        ("Ready", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ],
    cells: |set, now| {
        let numbers = ["spec.replicas", "status.replicas", "status.readyReplicas"];
        let mut cells = vec![name(set)];
        cells.extend(numbers.map(|path| json!(number(set, path))));
        cells.push(age::of(set, now));
        row(cells, wide(set, "spec.template", true))
    },
};

pub(super) const STATEFUL_SETS: Sheet = Sheet {
    columns: &[("Name", 0), ("Ready", 0), ("Age", 0), ("Containers", 1), ("Images", 1)],
    cells: |set, now| {
        let ready = format!("{}/{}", number(set, "status.readyReplicas"), number(set, "spec.replicas"));
        row(vec![name(set), json!(ready), age::of(set, now)], wide(set, "spec.template", false))
    },
};

pub(super) const DAEMON_SETS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Desired", 0),
        ("Current", 0),
        ("Ready", 0),
        ("Up-to-date", 0),
        ("Available", 0),
        ("Node Selector", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ],
    cells: |set, now| {
        let numbers = [
            "status.desiredNumberScheduled",
            "status.currentNumberScheduled",
            "status.numberReady",
            "status.updatedNumberScheduled",
            "status.numberAvailable",
        ];
        let mut cells = vec![name(set)];
        cells.extend(numbers.map(|path| json!(number(set, path))));
        let selector = set.at("spec.template.spec.nodeSelector").and_then(Value::as_object);
        let terms: Vec<String> = selector
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
            .collect();
        cells.extend([joined(&terms), age::of(set, now)]);
        row(cells, wide(set, "spec.template", true))
    },
};

fn job_status(job: &Object) -> &'static str {
    let has = |kind: &str| list(job, "status.conditions").any(|c| c["type"] == kind && c["status"] == "True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job.is_terminating() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn job_duration(job: &Object, now: Timestamp) -> String {
    let moment = |path: &str| job.text(path).and_then(|text| text.parse::<Timestamp>().ok());
    match (moment("status.startTime"), moment("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), None) => age::short(now.duration_since(start).as_secs()),
        (Some(start), Some(end)) => age::short(end.duration_since(start).as_secs()),
    }
}

pub(super) const JOBS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Status", 0),
        ("Completions", 0),
        ("Duration", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ],
    cells: |job, now| {
        let done = number(job, "status.succeeded");
        let completions = match job.at("spec.completions").and_then(Value::as_i64) {
            Some(wanted) => format!("{done}/{wanted}"),
            None if number(job, "spec.parallelism") > 1 => {
                format!("{done}/1 of {}", number(job, "spec.parallelism"))
            }
            None => format!("{done}/1"),
        };
        let cells = vec![
            name(job),
            json!(job_status(job)),
            json!(completions),
            json!(job_duration(job, now)),
            age::of(job, now),
        ];
        row(cells, wide(job, "spec.template", true))
    },
};

pub(super) const CRON_JOBS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Schedule", 0),
        ("Timezone", 0),
        ("Suspend", 0),
        ("Active", 0),
        ("Last Schedule", 0),
        ("Age", 0),
        ("Containers", 1),
        ("Images", 1),
        ("Selector", 1),
    ],
    cells: |job, now| {
        let suspended = job.at("spec.suspend") == Some(&Value::Bool(true));
        let last = match job.text("status.lastScheduleTime") {
            None => "<none>".to_owned(),
            moment => age::since(moment, now),
        };
        let cells = vec![
            name(job),
            text_or(job, "spec.schedule", "<none>"),
            text_or(job, "spec.timeZone", "<none>"),
            json!(if suspended { "True" } else { "False" }),
            json!(list(job, "status.active").count()),
            json!(last),
            age::of(job, now),
        ];
        let mut wide = wide(job, "spec.jobTemplate.spec.template", false);
        wide.push(json!("<none>"));
        row(cells, wide)
    },
};

pub(super) const AUTOSCALERS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Reference", 0),
        ("Targets", 0),
        ("MinPods", 0),
        ("MaxPods", 0),
        ("Replicas", 0),
        ("Age", 0),
    ],
    cells: |hpa, now| {
        let target =
            |field: &str| hpa.at("spec.scaleTargetRef").and_then(|t| t[field].as_str()).unwrap_or("");
        let metric = |spec: &Value| {
            let resource = &spec["resource"];
            let wanted = resource["target"]["averageUtilization"].as_i64();
            let name = resource["name"].as_str().unwrap_or("metric");
            wanted.map_or_else(|| format!("{name}: <unknown>"), |w| format!("{name}: <unknown>/{w}%"))
        };
        let targets: Vec<String> = list(hpa, "spec.metrics").map(metric).collect();
        vec![
            name(hpa),
            json!(format!("{}/{}", target("kind"), target("name"))),
            joined(&targets),
            json!(number(hpa, "spec.minReplicas").to_string()),
            json!(number(hpa, "spec.maxReplicas")),
            json!(number(hpa, "status.currentReplicas")),
            age::of(hpa, now),
        ]
    },
};
