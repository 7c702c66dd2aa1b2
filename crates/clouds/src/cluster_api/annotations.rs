//! What a `MachineDeployment` says of itself as a pool: bounds, template, options, and why it must rest.
//!
//! Owns the annotations' grammar. Each error names the annotation, what stands there, and the fix.

use crate::objects::number;
use crate::tags::{effect_of, percent};
use api::annotations::{
    CAPI_CAPACITY_PREFIX, CAPI_MAX_SIZE, CAPI_MIN_SIZE, CAPI_OPTIONS_PREFIX, CAPI_PAUSED,
};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use model::{Effect, NodeTemplate, PoolOptions, ResourceName, Resources, Taint};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

type Annotations = BTreeMap<String, String>;

/// Pods of a node where `maxPods` is absent, as the kubelet's default.
const DEFAULT_MAX_PODS: u32 = 110;
/// Extended resource of GPUs where `gpu-type` is absent.
const DEFAULT_GPU: &str = "nvidia.com/gpu";
/// Largest size that is believed; more is a typing error.
const MOST_MACHINES: u32 = 100_000;

/// The least and the most machines of a deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub min: u32,
    pub max: u32,
}

/// The size bounds. `None` where the deployment is no pool: not both annotations, or a maximum of zero.
pub fn bounds(annotations: &Annotations) -> Result<Option<Bounds>, String> {
    let (Some(min), Some(max)) = (annotations.get(CAPI_MIN_SIZE), annotations.get(CAPI_MAX_SIZE)) else {
        return Ok(None);
    };
    let (min, max) = (size(CAPI_MIN_SIZE, min)?, size(CAPI_MAX_SIZE, max)?);
    if min > max {
        return Err(format!(
            "annotation {CAPI_MIN_SIZE} is {min}, over the {max} of {CAPI_MAX_SIZE}; lower it to {max} or less"
        ));
    }
    Ok((max > 0).then_some(Bounds { min, max }))
}

fn size(name: &str, value: &str) -> Result<u32, String> {
    let size = value.trim().parse::<u32>().ok().filter(|size| *size <= MOST_MACHINES);
    size.ok_or_else(|| {
        format!("annotation {name} is \"{value}\"; write a whole number from 0 to {MOST_MACHINES}")
    })
}

/// Why the object's own word keeps us off it.
pub fn paused(object: &DynamicObject) -> Option<String> {
    if object.annotations().contains_key(CAPI_PAUSED) {
        return Some(format!("paused by annotation {CAPI_PAUSED}"));
    }
    (object.data.pointer("/spec/paused").and_then(Value::as_bool) == Some(true))
        .then(|| "paused by spec.paused".to_owned())
}

/// Whether machines of an older template are being replaced: their number must not be changed meanwhile.
pub(super) fn rolling_out(object: &DynamicObject) -> Option<String> {
    let replicas = number(object, "/status/replicas")?;
    let updated = number(object, "/status/updatedReplicas")?;
    (updated < replicas)
        .then(|| format!("rolling out: {updated} of {replicas} machines have the new template"))
}

/// The node that the annotations describe. `None` where neither cpu nor memory is given: then a live node shows it.
pub(super) fn template(object: &DynamicObject) -> Result<Option<NodeTemplate>, String> {
    let annotations = object.annotations();
    let get = |name: &str| annotations.get(&format!("{CAPI_CAPACITY_PREFIX}{name}")).map(String::as_str);
    if get("cpu").is_none() && get("memory").is_none() {
        return Ok(None);
    }
    let quantity = |name: &str, read: fn(&str) -> Result<u64, intake::IntakeError>| match get(name) {
        None => Ok(0),
        Some(value) => {
            read(value).map_err(|error| format!("annotation {CAPI_CAPACITY_PREFIX}{name}: {error}"))
        }
    };
    let mut allocatable = Resources::default();
    allocatable.cpu.0 = quantity("cpu", intake::quantity::milli)?;
    allocatable.memory.0 = quantity("memory", intake::quantity::whole)?;
    allocatable.ephemeral_storage.0 = quantity("ephemeral-disk", intake::quantity::whole)?;
    for (name, amount) in [("cpu", allocatable.cpu.0), ("memory", allocatable.memory.0)] {
        if amount == 0 {
            return Err(format!(
                "annotation {CAPI_CAPACITY_PREFIX}{name} is absent or zero; give cpu and memory"
            ));
        }
    }
    allocatable.pods = match get("maxPods") {
        None => DEFAULT_MAX_PODS,
        Some(value) => value.parse().map_err(|_| {
            format!(
                "annotation {CAPI_CAPACITY_PREFIX}maxPods is \"{value}\"; write a whole number such as 110"
            )
        })?,
    };
    let gpus = quantity("gpu-count", intake::quantity::whole)?;
    if gpus > 0 {
        let kind = get("gpu-type").unwrap_or(DEFAULT_GPU);
        allocatable.extended.insert(ResourceName::new(kind), gpus);
    }
    Ok(Some(NodeTemplate {
        labels: labels(object, get("labels").unwrap_or_default())?,
        taints: taints(object, get("taints").unwrap_or_default())?,
        allocatable,
        fittings: None,
    }))
}

/// Labels of a new node: those of the Machine template that Cluster API hands on to nodes, then the annotation's.
fn labels(object: &DynamicObject, annotation: &str) -> Result<model::Labels, String> {
    let mut labels = model::Labels::new();
    labels.insert(api::labels::OS.into(), "linux".into());
    labels.insert(api::labels::ARCH.into(), "amd64".into());
    let template = object.data.pointer("/spec/template/metadata/labels").and_then(Value::as_object);
    for (key, value) in template.into_iter().flatten().filter(|(key, _)| reaches_nodes(key)) {
        labels.insert(Arc::from(key.as_str()), Arc::from(value.as_str().unwrap_or_default()));
    }
    for part in annotation.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            format!(
                "annotation {CAPI_CAPACITY_PREFIX}labels: \"{part}\" has no \"=\"; write key=value,key=value"
            )
        })?;
        labels.insert(Arc::from(key.trim()), Arc::from(value.trim()));
    }
    Ok(labels)
}

/// Cluster API hands on only the labels of the domains that it manages.
fn reaches_nodes(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["node-role.kubernetes.io", "node-restriction.kubernetes.io", "node.cluster.x-k8s.io"]
        .iter()
        .any(|managed| domain == *managed || domain.ends_with(&format!(".{managed}")))
}

/// Taints of a new node: the Machine template's, then the annotation's, which win by key and effect.
fn taints(object: &DynamicObject, annotation: &str) -> Result<Vec<Taint>, String> {
    let mut taints: BTreeMap<(Arc<str>, Effect), Taint> = BTreeMap::new();
    let mut put = |taint: Taint| taints.insert((taint.key.clone(), taint.effect), taint);
    for taint in
        object.data.pointer("/spec/template/spec/taints").and_then(Value::as_array).into_iter().flatten()
    {
        let field = |name: &str| taint.get(name).and_then(Value::as_str).unwrap_or_default();
        let effect = effect_of(field("effect"))
            .ok_or_else(|| format!("spec.template.spec.taints: effect \"{}\" is unknown", field("effect")))?;
        put(Taint { key: field("key").into(), value: field("value").into(), effect });
    }
    for part in annotation.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let read = part.rsplit_once(':').and_then(|(pair, name)| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some(Taint {
                key: key.trim().into(),
                value: value.trim().into(),
                effect: effect_of(name.trim())?,
            })
        });
        put(read.ok_or_else(|| {
            format!(
                "annotation {CAPI_CAPACITY_PREFIX}taints: \"{part}\" is no taint; write key=value:NoSchedule \
                 (or PreferNoSchedule, NoExecute)"
            )
        })?);
    }
    Ok(taints.into_values().collect())
}

/// Settings that the annotations override. Unknown keys are left: a newer peer may know them.
pub(super) fn options(annotations: &Annotations) -> Result<PoolOptions, String> {
    let get = |key: &str| annotations.get(&format!("{CAPI_OPTIONS_PREFIX}{key}"));
    let duration = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => intake::go_duration(value)
            .ok()
            .filter(|duration| !duration.is_negative())
            .map(Some)
            .ok_or_else(|| {
                format!("annotation {CAPI_OPTIONS_PREFIX}{key} is \"{value}\"; write a duration such as 10m")
            }),
    };
    let share = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => percent(value).map(Some).ok_or_else(|| {
            format!(
                "annotation {CAPI_OPTIONS_PREFIX}{key} is \"{value}\"; write a share from 0 to 1, such as 0.5"
            )
        }),
    };
    let switch = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => value.trim().parse().map(Some).map_err(|_| {
            format!("annotation {CAPI_OPTIONS_PREFIX}{key} is \"{value}\"; write true or false")
        }),
    };
    Ok(PoolOptions {
        utilization_threshold_percent: share("scaledownutilizationthreshold")?,
        gpu_utilization_threshold_percent: share("scaledowngpuutilizationthreshold")?,
        ignore_daemonsets_utilization: switch("ignoredaemonsetsutilization")?,
        unneeded_time: duration("scaledownunneededtime")?,
        unready_time: duration("scaledownunreadytime")?,
        max_provision_time: duration("maxnodeprovisiontime")?,
        max_startup_time: duration("maxnodestartuptime")?,
        cool_down: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(annotations: &Value) -> DynamicObject {
        serde_json::from_value(json!({"metadata": {"name": "md", "annotations": annotations}})).unwrap()
    }

    #[test]
    fn bounds_are_both_or_none_and_errors_name_the_annotation() {
        let read = |min: &str, max: &str| {
            bounds(deployment(&json!({CAPI_MIN_SIZE: min, CAPI_MAX_SIZE: max})).annotations())
        };
        assert_eq!(read("1", "3"), Ok(Some(Bounds { min: 1, max: 3 })));
        assert_eq!(read("0", "0"), Ok(None));
        for (min, max) in [("-1", "3"), ("4", "3"), ("x", "3"), ("1", "99999999999")] {
            let why = read(min, max).unwrap_err();
            assert!(why.contains("autoscaler-node-group-m"), "{why}");
        }
        assert_eq!(bounds(deployment(&json!({CAPI_MIN_SIZE: "1"})).annotations()), Ok(None));
    }

    #[test]
    fn a_template_reads_every_capacity_annotation() {
        let at = |name: &str| format!("{CAPI_CAPACITY_PREFIX}{name}");
        let object = deployment(&json!({
            at("cpu"): "4", at("memory"): "16Gi", at("ephemeral-disk"): "100Gi", at("maxPods"): "30",
            at("gpu-type"): "amd.com/gpu", at("gpu-count"): "2", at("labels"): "zone=a,tier=x",
            at("taints"): "dedicated=db:NoSchedule,spot:NoExecute",
        }));
        let template = template(&object).unwrap().unwrap();
        assert_eq!(template.allocatable.cpu.0, 4000);
        assert_eq!(template.allocatable.pods, 30);
        assert_eq!(template.allocatable.extended[&ResourceName::new("amd.com/gpu")], 2);
        assert_eq!(template.labels["tier"], "x".into());
        assert_eq!(template.taints.len(), 2);
    }

    #[test]
    fn malformed_templates_name_the_annotation_and_the_fix() {
        let at = |name: &str| format!("{CAPI_CAPACITY_PREFIX}{name}");
        let good = json!({at("cpu"): "4", at("memory"): "16Gi"});
        for (name, value) in [
            ("cpu", "-4"),
            ("memory", "lots"),
            ("maxPods", "1.5"),
            ("labels", "a"),
            ("taints", "a=b:Sometimes"),
        ] {
            let mut annotations = good.clone();
            annotations[at(name)] = json!(value);
            let why = template(&deployment(&annotations)).unwrap_err();
            assert!(why.contains(&at(name)), "{why}");
        }
        assert_eq!(template(&deployment(&json!({}))), Ok(None));
    }

    #[test]
    fn options_are_read_and_checked() {
        let at = |name: &str| format!("{CAPI_OPTIONS_PREFIX}{name}");
        let read = |annotations| options(deployment(&annotations).annotations());
        let options =
            read(json!({at("scaledownutilizationthreshold"): "0.35", at("scaledownunneededtime"): "5m"}))
                .unwrap();
        assert_eq!(options.utilization_threshold_percent, Some(35));
        assert_eq!(options.unneeded_time, Some(jiff::SignedDuration::from_mins(5)));
        assert!(read(json!({at("scaledownutilizationthreshold"): "35"})).is_err());
        assert!(read(json!({at("maxnodeprovisiontime"): "-5m"})).is_err());
    }

    #[test]
    fn pauses_and_roll_outs_are_seen() {
        let object: DynamicObject = serde_json::from_value(json!({
            "metadata": {"name": "md"}, "spec": {"paused": true}, "status": {"replicas": 3, "updatedReplicas": 1}
        }))
        .unwrap();
        assert!(paused(&object).is_some());
        assert!(rolling_out(&object).is_some_and(|why| why.contains("1 of 3")));
    }
}
