//! What keeps nodes from ever going, and pools from ever growing.

use super::{Facts, Finding};
use api::annotations::{
    CAPI_CAPACITY_PREFIX, CAPI_MAX_SIZE, CAPI_MIN_SIZE, DO_NOT_DISRUPT, DO_NOT_EVICT, MIRROR, SAFE_TO_EVICT,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use std::collections::BTreeMap;

/// Objects named in one sentence; the rest is a number.
const MOST_NAMED: usize = 3;

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.budgets.iter().filter_map(never_allows).collect();
    if found.is_empty() {
        let text = format!("none of {} disruption budgets blocks every drain", facts.budgets.len());
        found.push(Finding::ok("budgets", text));
    }
    found.extend(pods_that_stay(&facts.pods));
    found.extend(facts.machine_deployments.iter().flat_map(pool));
    found
}

/// A budget that allows no disruption however well its pods are.
fn never_allows(budget: &PodDisruptionBudget) -> Option<Finding> {
    let (spec, status) = (budget.spec.as_ref()?, budget.status.as_ref()?);
    if status.expected_pods == 0 || status.disruptions_allowed > 0 {
        return None;
    }
    let key = format!("{}/{}", budget.namespace().unwrap_or_default(), budget.name_any());
    // With all pods healthy nothing more will ever be allowed.
    if status.desired_healthy >= status.expected_pods {
        let rule = match (&spec.max_unavailable, &spec.min_available) {
            (Some(most), _) => format!("maxUnavailable is {}", text(most)),
            (_, Some(least)) => format!("minAvailable is {}", text(least)),
            _ => "it has neither maxUnavailable nor minAvailable".to_owned(),
        };
        return Some(Finding::problem(
            "budgets",
            format!("budget {key} never allows an eviction: {rule} of {} pods", status.expected_pods),
            "set maxUnavailable to 1 or more, or run one replica more than minAvailable",
        ));
    }
    Some(Finding::warning(
        "budgets",
        format!(
            "budget {key} allows no eviction now: {} of {} pods are healthy, {} must be",
            status.current_healthy, status.expected_pods, status.desired_healthy
        ),
        "see why its pods are not ready",
    ))
}

fn text(value: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString) -> String {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match value {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// Pods that hold their node under the rules of the Cluster Autoscaler profile, by reason.
fn pods_that_stay(pods: &[Pod]) -> Vec<Finding> {
    let mut by_reason: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for pod in pods {
        if let Some(reason) = stays(pod) {
            let key = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            by_reason.entry(reason).or_default().push(key);
        }
    }
    let finding = |((why, fix), mut pods): ((&str, &str), Vec<String>)| {
        pods.sort();
        let more = pods.len().saturating_sub(MOST_NAMED);
        let mut named = pods.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join(", ");
        if more > 0 {
            named = format!("{named} and {more} more");
        }
        Finding::warning("pods", format!("{why}: {named}; their nodes are never removed"), fix)
    };
    by_reason.into_iter().map(finding).collect()
}

fn stays(pod: &Pod) -> Option<(&'static str, &'static str)> {
    let annotations = pod.annotations();
    let is = |key: &str, value: &str| annotations.get(key).is_some_and(|found| found == value);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let owners = pod.owner_references();
    let of_daemon_set = owners.iter().any(|owner| owner.kind == "DaemonSet");
    let on_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    if !on_node
        || matches!(phase, Some("Succeeded" | "Failed"))
        || of_daemon_set
        || annotations.contains_key(MIRROR)
    {
        return None;
    }
    if is(SAFE_TO_EVICT, "true") {
        return None;
    }
    if is(SAFE_TO_EVICT, "false") || is(DO_NOT_DISRUPT, "true") || is(DO_NOT_EVICT, "true") {
        return Some((
            "an annotation forbids the eviction of",
            "remove the annotation where the pod may move",
        ));
    }
    if !owners.iter().any(|owner| owner.controller == Some(true)) {
        return Some((
            "nothing would make them again",
            "give them an owner such as a Deployment, or annotate them safe-to-evict \"true\"",
        ));
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let local = volumes.iter().any(|volume| {
        volume.host_path.is_some()
            || volume.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory"))
    });
    local.then_some((
        "they keep data on their node",
        "--skip-nodes-with-local-storage=false, or annotate them safe-to-evict \"true\"",
    ))
}

/// A `MachineDeployment` that is a pool and cannot do what its bounds say.
fn pool(deployment: &DynamicObject) -> Vec<Finding> {
    let annotations = deployment.annotations();
    let key = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let (min, max) = (annotations.get(CAPI_MIN_SIZE), annotations.get(CAPI_MAX_SIZE));
    let (Some(min), Some(max)) = (min, max) else {
        let half = min.is_some() != max.is_some();
        let finding = || {
            Finding::problem(
                "pools",
                format!("machine deployment {key} has one of two size annotations and is no pool"),
                format!("set both {CAPI_MIN_SIZE} and {CAPI_MAX_SIZE}, or neither"),
            )
        };
        return half.then(finding).into_iter().collect();
    };
    let (Ok(min), Ok(max)) = (min.parse::<u32>(), max.parse::<u32>()) else {
        return vec![Finding::problem(
            "pools",
            format!("machine deployment {key}: sizes \"{min}\" and \"{max}\" are no whole numbers"),
            "write them as whole numbers in quotes",
        )];
    };
    if min > max {
        return vec![Finding::problem(
            "pools",
            format!("machine deployment {key}: minimum {min} is over maximum {max}"),
            "lower the minimum or raise the maximum",
        )];
    }
    let described = annotations.keys().any(|name| name.starts_with(CAPI_CAPACITY_PREFIX));
    if min == 0 && !described {
        return vec![Finding::warning(
            "pools",
            format!("machine deployment {key} may shrink to 0 and does not say what its machines look like"),
            format!(
                "add {CAPI_CAPACITY_PREFIX}cpu and …memory, or a minimum of 1: from zero it cannot grow again"
            ),
        )];
    }
    vec![Finding::ok("pools", format!("machine deployment {key}: {min} to {max}"))]
}
