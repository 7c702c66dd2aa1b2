//! Pods into the model: effective requests, placement needs, and what protects them.

use crate::selector::{self, labels, node_selector};
use crate::{IntakeError, go_duration, placement, requests, slim, volumes};
use api::annotations;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{
    Effect, HostPort, Labels, LocalVolume, Owner, Pod, PodKey, PodPhase, PodShape, SafeToEvict, Toleration,
    TolerationOperator, Uid, UnmodelledRule,
};
use std::sync::Arc;

/// Reads a pod. The error names the pod and the field.
pub fn pod(pod: &slim::Pod) -> Result<Pod, IntakeError> {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let labels = labels(meta.labels.as_ref());
    let shape =
        shape(&pod.spec, Some(&pod.status), &labels).map_err(|error| error.of("Pod", namespace, name))?;
    let owner = controller_of(meta);
    let phase = phase(&pod.status);
    let daemon = owner.as_ref().is_some_and(|o| &*o.kind == "DaemonSet")
        || annotation(meta, annotations::DAEMONSET_POD) == Some("true");
    Ok(Pod {
        key: PodKey::new(namespace, name),
        uid: Uid::new(meta.uid.as_deref().unwrap_or_default()),
        shape: Arc::new(shape),
        labels,
        created_at: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        phase,
        ready: condition(&pod.status, "Ready").is_some_and(|c| c.status == "True"),
        node: pod.spec.node_name.as_deref().filter(|n| !n.is_empty()).map(Into::into),
        nominated: pod.status.nominated_node_name.as_deref().filter(|n| !n.is_empty()).map(Into::into),
        unschedulable_since: unschedulable_since(&pod.status, meta),
        gated: pod.spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()),
        deletion_at: meta.deletion_timestamp.as_ref().map(|t| t.0),
        grace_seconds: pod
            .spec
            .termination_grace_period_seconds
            .map_or(30, |s| u32::try_from(s.max(0)).unwrap_or(u32::MAX)),
        safe_to_evict: safe_to_evict(meta),
        mirror: annotation(meta, annotations::MIRROR).is_some(),
        daemon,
        terminal: is_terminal(&pod.spec, &pod.status, phase),
        local_volumes: local_volumes(&pod.spec, meta),
        claims: volumes::claims_of(name, &pod.spec, &pod.status),
        // An unreadable delay is left out, as the peer does: it may only lengthen the wait.
        scale_up_delay_seconds: annotation(meta, annotations::POD_SCALE_UP_DELAY)
            .and_then(|text| go_duration(text).ok())
            .and_then(|d| u32::try_from(d.as_secs()).ok()),
        consumes: [annotations::CONSUME_REQUEST, annotations::CONSUME_REQUEST_OLD]
            .into_iter()
            .find_map(|key| annotation(meta, key))
            .map(Into::into),
        evict_daemon: annotation(meta, annotations::ENABLE_DS_EVICTION)
            .filter(|_| daemon)
            .and_then(|value| value.parse().ok()),
        owner,
    })
}

/// The shape and the labels of the pods that a template makes, such as a `DaemonSet`'s.
pub fn shape_of_template(template: &slim::PodTemplate) -> Result<(PodShape, Labels), IntakeError> {
    let labels = labels(template.metadata.labels.as_ref());
    let shape = shape(&template.spec, None, &labels).map_err(|error| error.under("spec.template"))?;
    Ok((shape, labels))
}

fn shape(
    spec: &slim::PodSpec,
    status: Option<&slim::PodStatus>,
    labels: &Labels,
) -> Result<PodShape, IntakeError> {
    let requests = requests::requests(spec, status)?;
    shape_asking(spec, requests, labels).map_err(|error| error.under("spec"))
}

fn shape_asking(
    spec: &slim::PodSpec,
    requests: model::Resources,
    labels: &Labels,
) -> Result<PodShape, IntakeError> {
    let affinity = spec.affinity.as_ref();
    let required = affinity
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let mut host_ports = host_ports(spec);
    host_ports.sort();
    let mut tolerations = spec
        .tolerations
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, t)| toleration(t).map_err(|error| error.under(&format!("tolerations[{i}]"))))
        .collect::<Result<Vec<_>, _>>()?;
    tolerations.sort();
    let (spread, soft_spread) = placement::spread(spec, labels)?;
    let pods = |terms: Option<&slim::PodTerms>, field| placement::required_terms(terms, field, labels);
    Ok(PodShape {
        requests,
        node_selector: selector::labels(spec.node_selector.as_ref()),
        node_affinity: required.map(node_selector).transpose().map_err(|error| {
            error.under("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution")
        })?,
        tolerations,
        host_ports,
        spread,
        pod_affinity: pods(affinity.and_then(|a| a.pod_affinity.as_ref()), "podAffinity")?,
        pod_anti_affinity: pods(affinity.and_then(|a| a.pod_anti_affinity.as_ref()), "podAntiAffinity")?,
        preferences: placement::preferences(affinity, soft_spread, labels)?,
        priority: spec.priority.unwrap_or(0),
        volumes: volumes::needs_of(spec),
        unmodelled: unmodelled(spec),
    })
}

fn host_ports(spec: &slim::PodSpec) -> Vec<HostPort> {
    let host_network = spec.host_network.unwrap_or(false);
    // A sidecar keeps its ports open as long as the pod runs; other init containers end before.
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    sidecars
        .chain(&spec.containers)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|port| {
            let number = match port.host_port {
                Some(number) if number != 0 => number,
                _ if host_network => port.container_port,
                _ => return None,
            };
            Some(HostPort {
                port: u16::try_from(number).ok().filter(|n| *n != 0)?,
                protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
                address: port.host_ip.as_deref().unwrap_or_default().into(),
            })
        })
        .collect()
}

pub(crate) fn effect(text: &str) -> Result<Effect, IntakeError> {
    match text {
        "NoSchedule" => Ok(Effect::NoSchedule),
        "PreferNoSchedule" => Ok(Effect::PreferNoSchedule),
        "NoExecute" => Ok(Effect::NoExecute),
        other => Err(IntakeError::field(
            "effect",
            format!("\"{other}\" is unknown"),
            "use NoSchedule, PreferNoSchedule or NoExecute",
        )),
    }
}

fn toleration(toleration: &core::Toleration) -> Result<Toleration, IntakeError> {
    let operator = match toleration.operator.as_deref() {
        None | Some("" | "Equal") => TolerationOperator::Equal,
        Some("Exists") => TolerationOperator::Exists,
        Some(other) => {
            return Err(IntakeError::field(
                "operator",
                format!("\"{other}\" is unknown"),
                "use Equal or Exists",
            ));
        }
    };
    Ok(Toleration {
        key: toleration.key.as_deref().filter(|k| !k.is_empty()).map(Arc::from),
        operator,
        value: toleration.value.as_deref().unwrap_or_default().into(),
        effect: toleration.effect.as_deref().filter(|e| !e.is_empty()).map(effect).transpose()?,
    })
}

/// Required rules that packing does not model yet; preferences are left out, they never keep a pod from a node.
fn unmodelled(spec: &slim::PodSpec) -> Vec<UnmodelledRule> {
    let mut rules = Vec::new();
    if spec.volumes.iter().flatten().any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some()) {
        rules.push(UnmodelledRule::Volumes);
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        rules.push(UnmodelledRule::ResourceClaims);
    }
    rules
}

pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<Owner> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(|owner| Owner {
        kind: owner.kind.as_str().into(),
        name: owner.name.as_str().into(),
        uid: owner.uid.as_str().into(),
    })
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str)
}

fn condition<'a>(status: &'a slim::PodStatus, kind: &str) -> Option<&'a slim::Condition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn phase(status: &slim::PodStatus) -> PodPhase {
    match status.phase.as_deref() {
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        _ => PodPhase::Pending,
    }
}

fn unschedulable_since(status: &slim::PodStatus, meta: &ObjectMeta) -> Option<Timestamp> {
    let scheduled = condition(status, "PodScheduled")?;
    if scheduled.status != "False" || scheduled.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    scheduled.last_transition_time.as_ref().or(meta.creation_timestamp.as_ref()).map(|t| t.0)
}

fn safe_to_evict(meta: &ObjectMeta) -> SafeToEvict {
    // A protection of any heritage protects, whatever else is said.
    let forbidden = [annotations::DO_NOT_DISRUPT, annotations::DO_NOT_EVICT];
    if forbidden.iter().any(|key| annotation(meta, key) == Some("true")) {
        return SafeToEvict::No;
    }
    match annotation(meta, annotations::SAFE_TO_EVICT) {
        Some("true") => SafeToEvict::Yes,
        Some("false") => SafeToEvict::No,
        Some("on-completion") => SafeToEvict::OnCompletion,
        _ => SafeToEvict::Unset,
    }
}

fn is_terminal(spec: &slim::PodSpec, status: &slim::PodStatus, phase: PodPhase) -> bool {
    let evicted = status.reason.as_deref() == Some("Evicted") && phase == PodPhase::Failed;
    evicted
        || match spec.restart_policy.as_deref() {
            Some("Never") => matches!(phase, PodPhase::Succeeded | PodPhase::Failed),
            Some("OnFailure") => phase == PodPhase::Succeeded,
            _ => false,
        }
}

fn local_volumes(spec: &slim::PodSpec, meta: &ObjectMeta) -> Vec<LocalVolume> {
    let exempt: Vec<&str> = annotation(meta, annotations::SAFE_TO_EVICT_LOCAL_VOLUMES)
        .map(|list| list.split(',').map(str::trim).collect())
        .unwrap_or_default();
    spec.volumes
        .iter()
        .flatten()
        .filter(|v| {
            v.host_path.is_some()
                || v.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory"))
        })
        .map(|v| LocalVolume { name: v.name.as_str().into(), exempt: exempt.contains(&v.name.as_str()) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Pod, IntakeError> {
        pod(&serde_saphyr::from_str::<slim::Pod>(yaml).unwrap())
    }

    #[test]
    fn protections_of_every_heritage_are_read() {
        let read_annotation = |key: &str, value: &str| {
            read(&format!("metadata: {{name: p, annotations: {{\"{key}\": \"{value}\"}}}}"))
                .unwrap()
                .safe_to_evict
        };
        assert_eq!(
            read_annotation("cluster-autoscaler.kubernetes.io/safe-to-evict", "true"),
            SafeToEvict::Yes
        );
        assert_eq!(
            read_annotation("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
            SafeToEvict::No
        );
        assert_eq!(read_annotation("karpenter.sh/do-not-disrupt", "true"), SafeToEvict::No);
    }

    #[test]
    fn rules_that_are_not_modelled_are_named() {
        let pod = read(
            r"
metadata: {name: p}
spec:
  resourceClaims: [{name: gpu}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: x}}, {name: e, emptyDir: {}}]
",
        )
        .unwrap();
        assert_eq!(pod.shape.unmodelled, [UnmodelledRule::Volumes, UnmodelledRule::ResourceClaims]);
        assert_eq!(pod.local_volumes.len(), 1);
    }

    #[test]
    fn host_ports_are_those_of_containers_that_stay() {
        let pod = read(
            r"
metadata: {name: p}
spec:
  initContainers:
  - {ports: [{containerPort: 1, hostPort: 1}]}
  - {ports: [{containerPort: 2, hostPort: 2}], restartPolicy: Always}
  containers: [{ports: [{containerPort: 3, hostPort: 3}, {containerPort: 4}]}]
",
        )
        .unwrap();
        assert_eq!(pod.shape.host_ports.iter().map(|port| port.port).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_bad_quantity_names_pod_and_field() {
        let error = read(
            "metadata: {name: p, namespace: d}\nspec: {containers: [{resources: {requests: {cpu: -1}}}]}",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Pod d/p: spec.containers[0].resources.requests.cpu.quantity: \"-1\" is negative; \
             write a number such as 500m, 2, 1.5Gi"
        );
    }
}
