//! What a pod asks of its node together: containers, sidecars, init containers, pod-level requests, overhead, and
//! what a resize has not changed yet.
//!
//! While a pod is resized in place the scheduler keeps room for the most of what the spec asks, what the kubelet has
//! allocated and what it has configured; once the kubelet has refused the resize, the spec no longer counts.

use crate::{IntakeError, quantity, slim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{ResourceName, Resources};
use std::collections::BTreeMap;

type List = BTreeMap<String, Quantity>;

/// Whose word is taken for a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Spec,
    Allocated,
    Configured,
}

/// Effective requests of a pod; `status` is absent for a template.
pub(crate) fn requests(
    spec: &slim::PodSpec,
    status: Option<&slim::PodStatus>,
) -> Result<Resources, IntakeError> {
    let refused = status.is_some_and(resize_refused);
    let mut sum = Resources::default();
    if !refused {
        raise(&mut sum, &aggregate(spec, status, refused, View::Spec)?);
    }
    if let Some(status) = status.filter(|status| reports_resources(status)) {
        let configured = status.resources.as_ref().and_then(|r| r.requests.as_ref());
        // What the kubelet says of the whole pod replaces what it says of the containers.
        if let Some((allocated, configured)) = status.allocated_resources.as_ref().zip(configured) {
            raise(&mut sum, &read(allocated, "status.allocatedResources")?);
            raise(&mut sum, &read(configured, "status.resources.requests")?);
        } else {
            for view in [View::Allocated, View::Configured] {
                raise(&mut sum, &aggregate(spec, Some(status), refused, view)?);
            }
        }
    } else if refused {
        raise(&mut sum, &aggregate(spec, status, false, View::Spec)?);
    }
    pod_level(spec, status, refused, &mut sum)?;
    if let Some(overhead) = &spec.overhead {
        let own = quantity::resources(overhead).map_err(|error| error.under("spec.overhead"))?;
        sum.add(&own);
    }
    sum.pods = 1;
    Ok(sum)
}

fn resize_refused(status: &slim::PodStatus) -> bool {
    let pending = status.conditions.iter().flatten().find(|c| c.type_ == "PodResizePending");
    pending.is_some_and(|condition| condition.reason.as_deref() == Some("Infeasible"))
}

fn reports_resources(status: &slim::PodStatus) -> bool {
    let of_containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    status.allocated_resources.is_some()
        || status.resources.is_some()
        || of_containers.into_iter().any(|c| c.resources.is_some() || c.allocated_resources.is_some())
}

/// Containers and sidecars together, or the largest init container with the sidecars that started before it,
/// whichever is more.
fn aggregate(
    spec: &slim::PodSpec,
    status: Option<&slim::PodStatus>,
    refused: bool,
    view: View,
) -> Result<Resources, IntakeError> {
    let of = |container: &slim::Container, list: &str, i: usize| {
        let at = format!("spec.{list}[{i}]");
        container_requests(container, status, refused, view, &at)
    };
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        let own = of(container, "initContainers", i)?;
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            raise(&mut peak, &sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&own);
            raise(&mut peak, &with_sidecars);
        }
    }
    let mut sum = sidecars;
    for (i, container) in spec.containers.iter().enumerate() {
        sum.add(&of(container, "containers", i)?);
    }
    raise(&mut sum, &peak);
    Ok(sum)
}

fn container_requests(
    container: &slim::Container,
    status: Option<&slim::PodStatus>,
    refused: bool,
    view: View,
    at: &str,
) -> Result<Resources, IntakeError> {
    let reported = status
        .filter(|_| view != View::Spec && !container.name.is_empty())
        .and_then(|status| status_of(status, &container.name));
    if let Some(reported) = reported {
        let configured = reported.resources.as_ref().and_then(|r| r.requests.as_ref());
        let configured = configured.filter(|_| view == View::Configured);
        if let Some(list) = configured.or(reported.allocated_resources.as_ref()) {
            let place = format!("status of container \"{}\"", container.name);
            return read(list, &place);
        }
    }
    if refused {
        return Ok(Resources::default());
    }
    match &container.resources {
        Some(resources) => {
            read(&with_limits(resources, &BTreeMap::new()), &format!("{at}.resources.requests"))
        }
        None => Ok(Resources::default()),
    }
}

fn status_of<'s>(status: &'s slim::PodStatus, name: &str) -> Option<&'s slim::ContainerStatus> {
    status
        .container_statuses
        .iter()
        .flatten()
        .chain(status.init_container_statuses.iter().flatten())
        .find(|reported| reported.name == name)
}

/// Requests, and the limits where no request is made, unless `without` names them.
fn with_limits(resources: &slim::Requests, without: &List) -> List {
    let mut merged: List = resources.limits.clone().unwrap_or_default();
    merged.retain(|name, _| !without.contains_key(name));
    merged.extend(resources.requests.clone().unwrap_or_default());
    merged
}

fn read(list: &List, at: &str) -> Result<Resources, IntakeError> {
    let mut out = quantity::resources(list).map_err(|error| error.under(at))?;
    out.pods = 0;
    Ok(out)
}

/// Requests of the pod as a whole replace what its containers ask for, for the resources that may be asked so. A
/// limit alone counts only where no container asks for the resource.
fn pod_level(
    spec: &slim::PodSpec,
    status: Option<&slim::PodStatus>,
    refused: bool,
    sum: &mut Resources,
) -> Result<(), IntakeError> {
    let Some(level) = &spec.resources else { return Ok(()) };
    let mut asked: List = BTreeMap::new();
    for resources in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let lists = resources.resources.iter().flat_map(|r| [&r.requests, &r.limits]);
        asked.extend(lists.flatten().flatten().map(|(name, amount)| (name.clone(), amount.clone())));
    }
    let mut list = with_limits(level, &asked);
    list.retain(|name, _| name == "cpu" || name == "memory" || name.starts_with("hugepages-"));
    let mut own = read(&list, "spec.resources.requests")?;
    let reported = status.and_then(|s| s.resources.as_ref()?.requests.as_ref());
    if let Some(reported) = reported {
        if refused {
            own = Resources::default();
        }
        raise(&mut own, &read(reported, "status.resources.requests")?);
        if let Some(allocated) = status.and_then(|s| s.allocated_resources.as_ref()) {
            raise(&mut own, &read(allocated, "status.allocatedResources")?);
        }
    }
    if list.contains_key("cpu") {
        sum.cpu = own.cpu;
    }
    if list.contains_key("memory") {
        sum.memory = own.memory;
    }
    for name in list.keys().filter(|name| name.starts_with("hugepages-")) {
        let name = ResourceName::new(name);
        match own.extended.get(&name) {
            Some(amount) => sum.extended.insert(name, *amount),
            None => sum.extended.remove(&name),
        };
    }
    Ok(())
}

fn raise(sum: &mut Resources, to: &Resources) {
    sum.cpu = sum.cpu.max(to.cpu);
    sum.memory = sum.memory.max(to.memory);
    sum.ephemeral_storage = sum.ephemeral_storage.max(to.ephemeral_storage);
    for (name, amount) in &to.extended {
        let own = sum.extended.entry(ResourceName::clone(name)).or_default();
        *own = (*own).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Bytes, MilliCpu};

    fn effective(yaml: &str) -> Result<Resources, IntakeError> {
        let pod: slim::Pod = serde_saphyr::from_str(yaml).unwrap();
        requests(&pod.spec, Some(&pod.status))
    }

    #[test]
    fn sidecars_init_containers_and_overhead_count() {
        let found = effective(
            r#"
spec:
  overhead: {cpu: 10m}
  initContainers:
  - {resources: {requests: {cpu: 50m, memory: 1Gi}}, restartPolicy: Always}
  - {resources: {requests: {cpu: "1"}}}
  containers:
  - {resources: {requests: {cpu: 300m, "nvidia.com/gpu": "2"}}}
  - {resources: {limits: {cpu: 200m}}}
"#,
        )
        .unwrap();
        assert_eq!((found.cpu, found.memory, found.pods), (MilliCpu(1060), Bytes(1 << 30), 1));
        assert_eq!(found.extended[&ResourceName::new("nvidia.com/gpu")], 2);
    }

    #[test]
    fn a_resize_counts_the_most_of_what_was_asked_allocated_and_configured() {
        let status = |extra: &str| {
            format!(
                "spec: {{containers: [{{name: a, resources: {{requests: {{cpu: 100m}}}}}}]}}\n\
                 status: {{containerStatuses: [{{name: a, allocatedResources: {{cpu: 300m}}, \
                 resources: {{requests: {{cpu: 200m}}}}}}]{extra}}}"
            )
        };
        assert_eq!(effective(&status("")).unwrap().cpu, MilliCpu(300));
        let shrunk = status("").replace("cpu: 100m", "cpu: 900m");
        assert_eq!(effective(&shrunk).unwrap().cpu, MilliCpu(900));
        let refused = ", conditions: [{type: PodResizePending, status: 'True', reason: Infeasible}]";
        let refused = status(refused).replace("cpu: 100m", "cpu: 900m");
        assert_eq!(effective(&refused).unwrap().cpu, MilliCpu(300));
    }

    #[test]
    fn requests_of_the_whole_pod_replace_those_of_its_containers() {
        let found = effective(
            r"
spec:
  resources: {requests: {cpu: 2, hugepages-2Mi: 4Mi}, limits: {memory: 3Gi, cpu: 4}}
  containers:
  - {resources: {requests: {cpu: 500m, ephemeral-storage: 1Gi}}}
",
        )
        .unwrap();
        assert_eq!((found.cpu, found.memory), (MilliCpu(2000), Bytes(3 << 30)));
        assert_eq!(found.ephemeral_storage, Bytes(1 << 30));
        assert_eq!(found.extended[&ResourceName::new("hugepages-2Mi")], 4 << 20);
        let limited = effective(
            "spec: {resources: {limits: {cpu: 4}}, containers: [{resources: {requests: {cpu: 1}}}]}",
        );
        assert_eq!(limited.unwrap().cpu, MilliCpu(1000), "a limit alone does not replace a request");
    }

    #[test]
    fn bad_amounts_name_their_field() {
        for (yaml, field) in [
            (
                "spec: {containers: [{resources: {requests: {cpu: -1}}}]}",
                "spec.containers[0].resources.requests.cpu",
            ),
            ("spec: {overhead: {cpu: x}}", "spec.overhead.cpu"),
            ("spec: {resources: {requests: {cpu: x}}}", "spec.resources.requests.cpu"),
        ] {
            let error = effective(yaml).unwrap_err().to_string();
            assert!(error.starts_with(field), "{yaml}: {error}");
        }
    }
}
