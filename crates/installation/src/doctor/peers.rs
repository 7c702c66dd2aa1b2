//! Others that act on the same things: two autoscalers on one cluster undo each other's work.

use super::{Facts, Finding};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// Programs that resize clusters or workloads, by what their images and commands are called, and what to do.
const PEERS: &[(&str, &str, &str)] = &[
    ("cluster-autoscaler", "Cluster Autoscaler", "nodes"),
    ("karpenter", "Karpenter", "nodes"),
    ("kapacity-manager", "Kapacity", "replicas"),
    ("kapacity/manager", "Kapacity", "replicas"),
    ("alert-triggered-autoscaler", "the alert-triggered autoscaler", "machine deployments"),
    ("cluster-proportional-autoscaler", "the cluster-proportional autoscaler", "replicas"),
    ("keda-operator", "KEDA", "replicas, by HPAs of its own"),
];

pub(super) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.deployments.iter().filter_map(running_peer).collect();
    if found.is_empty() {
        found.push(Finding::ok("autoscalers", "no other autoscaler runs here"));
    }
    found.extend(shared_targets(facts));
    found
}

fn running_peer(deployment: &Deployment) -> Option<Finding> {
    let spec = deployment.spec.as_ref()?;
    let replicas = spec.replicas.unwrap_or(1);
    let containers = &spec.template.spec.as_ref()?.containers;
    let words: Vec<&str> = containers
        .iter()
        .flat_map(|container| container.image.iter().chain(container.command.iter().flatten().take(1)))
        .map(String::as_str)
        .collect();
    // An image of ours that goes by a peer's command name is us.
    if words.iter().any(|word| word.contains("tideline")) || replicas == 0 {
        return None;
    }
    let (_, name, what) = PEERS.iter().find(|(part, ..)| words.iter().any(|word| word.contains(part)))?;
    let key = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    Some(Finding::problem(
        "autoscalers",
        format!("{name} runs as deployment {key} and changes {what}"),
        format!(
            "run Tideline with --dry-run beside it, or stop it: kubectl -n {} scale deployment {} --replicas=0",
            deployment.namespace().unwrap_or_default(),
            deployment.name_any()
        ),
    ))
}

/// Workloads that more than one object scales.
fn shared_targets(facts: &Facts) -> Vec<Finding> {
    let mut scalers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (target, scaler) in &facts.scalers {
        scalers.entry(target).or_default().push(scaler);
    }
    let shared = scalers.into_iter().filter(|(_, by)| by.len() > 1);
    shared
        .map(|(target, by)| {
            Finding::problem(
                "targets",
                format!("{target} is scaled by {}", by.join(" and by ")),
                "delete all but one, or point them at different workloads",
            )
        })
        .collect()
}
