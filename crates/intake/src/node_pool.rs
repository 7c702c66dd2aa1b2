//! `karpenter.sh/v1` NodePools as direct pools.
//!
//! Owns what of a NodePool decides which machines it may launch and which of them may go: requirements, labels, taints,
//! limits, weight and disruption. Node classes and status are the business of whoever serves such pools.

use crate::catalogue::requirement;
use crate::{IntakeError, node, quantity};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{
    Bytes, DirectPool, DirectSpec, DisruptionPolicy, InstanceType, Labels, MilliCpu, Pool, PoolId, PoolKind,
    PoolLimits, PoolOptions, PoolRequirement, Profile, ProviderKind, ResourceName, Taint,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The label by which a node names its NodePool.
const POOL_LABEL: &str = "karpenter.sh/nodepool";
/// Labels that a node of a NodePool ends up with; DaemonSets select on them.
const SETTLED_LABELS: [&str; 2] = ["karpenter.sh/registered", "karpenter.sh/initialized"];
const HIGHEST_WEIGHT: u64 = 100;
const MOST_MIN_VALUES: u64 = 50;

/// A NodePool as it was declared, before anybody knows which machine types there are.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePool {
    pub name: Arc<str>,
    pub weight: i32,
    requirements: Vec<PoolRequirement>,
    labels: Labels,
    taints: Vec<Taint>,
    startup_taints: Vec<Taint>,
    limits: PoolLimits,
    disruption: DisruptionPolicy,
}

impl NodePool {
    /// A pool of that name that wishes for nothing.
    pub fn plain(name: &str) -> Self {
        let mut labels = Labels::from([(Arc::from(POOL_LABEL), Arc::from(name))]);
        labels.extend(SETTLED_LABELS.iter().map(|key| (Arc::from(*key), Arc::from("true"))));
        Self {
            name: Arc::from(name),
            weight: 0,
            requirements: Vec::new(),
            labels,
            taints: Vec::new(),
            startup_taints: Vec::new(),
            limits: PoolLimits::default(),
            disruption: DisruptionPolicy::default(),
        }
    }

    /// The pool over a catalogue. `asked` holds the label values that pods name, by key.
    pub fn over(
        self,
        catalogue: Arc<Vec<InstanceType>>,
        asked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    ) -> Pool {
        let spec = DirectSpec {
            catalogue,
            requirements: self.requirements,
            labels: self.labels,
            taints: self.taints,
            startup_taints: self.startup_taints,
            limits: self.limits,
            disruption: self.disruption,
            asked,
        };
        let max = spec.limits.nodes.unwrap_or(u32::MAX);
        Pool {
            id: PoolId::from(format!("karpenter/{}", self.name)),
            name: self.name,
            // The catalogue stands in for a provider until such pools are served.
            provider: ProviderKind::Simulated,
            profile: Profile::Karpenter,
            min: 0,
            max,
            target: 0,
            template: None,
            priority: self.weight,
            price: model::MicroUsdPerHour::default(),
            options: PoolOptions::default(),
            frozen: None,
            kind: PoolKind::Direct(Arc::new(DirectPool::new(spec))),
        }
    }
}

/// Reads a NodePool. The error names the pool and the field.
pub fn node_pool(object: &Value) -> Result<NodePool, IntakeError> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    read(object, name).map_err(|error| error.of("NodePool", "", name))
}

fn read(object: &Value, name: &str) -> Result<NodePool, IntakeError> {
    if object.get("apiVersion").and_then(Value::as_str) != Some("karpenter.sh/v1") {
        return Err(IntakeError::field(
            "apiVersion",
            "is not karpenter.sh/v1",
            "convert the manifest to karpenter.sh/v1",
        ));
    }
    let mut pool = NodePool::plain(name);
    let at = "spec.template";
    let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
    if let Some(labels) = map(template.pointer("/metadata/labels"), "spec.template.metadata.labels")? {
        for (key, value) in labels {
            let field = format!("spec.template.metadata.labels.{key}");
            let value = value
                .as_str()
                .ok_or_else(|| IntakeError::field(&field, "is not a text", "put the value in quotes"))?;
            if key == POOL_LABEL {
                return Err(IntakeError::field(&field, "is set by us", "leave it out"));
            }
            pool.labels.insert(Arc::from(key.as_str()), Arc::from(value));
        }
    }
    for (i, wish) in list(template, "/spec/requirements", at)?.iter().enumerate() {
        let under = |error: IntakeError| error.under(&format!("spec.template.spec.requirements[{i}]"));
        pool.requirements.push(wish_of(wish).map_err(under)?);
    }
    pool.taints = taints(template, "taints")?;
    pool.startup_taints = taints(template, "startupTaints")?;
    if let Some(limits) = map(object.pointer("/spec/limits"), "spec.limits")? {
        pool.limits = limits_of(limits).map_err(|error| error.under("spec.limits"))?;
    }
    if let Some(disruption) = object.pointer("/spec/disruption").filter(|value| !value.is_null()) {
        pool.disruption =
            crate::disruption::policy(disruption).map_err(|error| error.under("spec.disruption"))?;
    }
    if let Some(weight) = object.pointer("/spec/weight").filter(|value| !value.is_null()) {
        let weight =
            weight.as_u64().filter(|weight| (1..=HIGHEST_WEIGHT).contains(weight)).ok_or_else(|| {
                IntakeError::field(
                    "spec.weight",
                    format!("{weight} is no weight"),
                    "write 1 to 100, or leave it out",
                )
            })?;
        pool.weight = i32::try_from(weight).unwrap_or(0);
    }
    Ok(pool)
}

fn wish_of(value: &Value) -> Result<PoolRequirement, IntakeError> {
    let requirement = requirement(value)?;
    if &*requirement.key == POOL_LABEL {
        return Err(IntakeError::field("key", format!("{POOL_LABEL} is set by us"), "leave it out"));
    }
    let min_values = match value.get("minValues").filter(|value| !value.is_null()) {
        None => None,
        Some(count) => {
            let wrong = |problem: String, fix: &str| IntakeError::field("minValues", problem, fix);
            let number = count.as_u64().filter(|n| (1..=MOST_MIN_VALUES).contains(n)).ok_or_else(|| {
                wrong(format!("{count} is not from 1 to {MOST_MIN_VALUES}"), "write such a number")
            })?;
            if requirement.operator == model::Operator::In && (requirement.values.len() as u64) < number {
                return Err(wrong(
                    format!("{number} is more than the {} values of In", requirement.values.len()),
                    "list more values or ask for fewer",
                ));
            }
            u32::try_from(number).ok()
        }
    };
    Ok(PoolRequirement { requirement, min_values })
}

fn taints(template: &Value, field: &str) -> Result<Vec<Taint>, IntakeError> {
    let mut taints = Vec::new();
    for (i, value) in list(template, &format!("/spec/{field}"), "spec.template")?.iter().enumerate() {
        let under = |error: IntakeError| error.under(&format!("spec.template.spec.{field}[{i}]"));
        let raw: core::Taint =
            serde::Deserialize::deserialize(value).map_err(|error: serde_json::Error| {
                under(IntakeError::field("taint", error.to_string(), "write {key, value, effect}"))
            })?;
        taints.push(node::taint(&raw).map_err(under)?);
    }
    Ok(taints)
}

fn limits_of(list: &Map<String, Value>) -> Result<PoolLimits, IntakeError> {
    let mut limits = PoolLimits::default();
    for (name, value) in list {
        let Quantity(text) = match value {
            Value::String(text) => Quantity(text.clone()),
            other => Quantity(other.to_string()),
        };
        let under = |error: IntakeError| error.under(name);
        match name.as_str() {
            "nodes" => {
                limits.nodes =
                    Some(u32::try_from(quantity::whole(&text).map_err(under)?).unwrap_or(u32::MAX));
            }
            "cpu" => limits.cpu = Some(MilliCpu(quantity::milli(&text).map_err(under)?)),
            "memory" => limits.memory = Some(Bytes(quantity::whole(&text).map_err(under)?)),
            "ephemeral-storage" => {
                limits.ephemeral_storage = Some(Bytes(quantity::whole(&text).map_err(under)?));
            }
            _ => {
                limits.extended.insert(ResourceName::new(name), quantity::whole(&text).map_err(under)?);
            }
        }
    }
    Ok(limits)
}

fn map<'v>(value: Option<&'v Value>, field: &str) -> Result<Option<&'v Map<String, Value>>, IntakeError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(IntakeError::field(field, "is not an object", "write {name: value}")),
    }
}

fn list<'v>(template: &'v Value, path: &str, at: &str) -> Result<&'v [Value], IntakeError> {
    match template.pointer(path) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => {
            let field = format!("{at}{}", path.replace('/', "."));
            Err(IntakeError::field(field, "is not a list", "write a list"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(spec: &str) -> Value {
        let text =
            format!("apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {{name: main}}\nspec: {spec}");
        serde_saphyr::from_str(&text).unwrap()
    }

    #[test]
    fn requirements_labels_taints_limits_and_weight_are_read() {
        let pool = node_pool(&value(
            "{weight: 10, limits: {cpu: 100, nodes: 5, nvidia.com/gpu: 2}, template: {metadata: {labels: {team: web}}, \
             spec: {requirements: [{key: kubernetes.io/arch, operator: In, values: [amd64, arm64], minValues: 2}], \
             taints: [{key: a, value: b, effect: NoSchedule}], startupTaints: [{key: s, effect: NoExecute}]}}}",
        ))
        .unwrap()
        .over(Arc::default(), BTreeMap::new());
        let spec = pool.direct().unwrap().spec();
        assert_eq!((pool.priority, pool.max, pool.id.as_str()), (10, 5, "karpenter/main"));
        assert_eq!(spec.requirements[0].min_values, Some(2));
        assert_eq!(spec.labels.get("team").map(AsRef::as_ref), Some("web"));
        assert_eq!(spec.labels.get(POOL_LABEL).map(AsRef::as_ref), Some("main"));
        assert_eq!((spec.taints.len(), spec.startup_taints.len()), (1, 1));
        assert_eq!(spec.limits.cpu, Some(MilliCpu(100_000)));
        assert_eq!(spec.limits.extended[&ResourceName::new("nvidia.com/gpu")], 2);
    }

    #[test]
    fn bad_pools_name_pool_field_and_fix() {
        let table: &[(&str, &[&str])] = &[
            ("{weight: 0}", &["NodePool main", "spec.weight", "1 to 100"]),
            ("{weight: 101}", &["spec.weight"]),
            ("{limits: {cpu: -1}}", &["spec.limits.cpu", "negative"]),
            ("{limits: 7}", &["spec.limits", "not an object"]),
            ("{template: {spec: {requirements: 3}}}", &["spec.template.spec.requirements", "not a list"]),
            (
                "{template: {spec: {requirements: [{key: a, operator: In, values: [x], minValues: 2}]}}}",
                &["spec.template.spec.requirements[0].minValues", "more than the 1 values"],
            ),
            (
                "{template: {spec: {requirements: [{key: a, operator: Exists, minValues: 51}]}}}",
                &["requirements[0].minValues", "1 to 50"],
            ),
            (
                "{template: {spec: {requirements: [{key: a, operator: Gt, values: [x]}]}}}",
                &["requirements[0].values", "one whole number"],
            ),
            ("{template: {spec: {taints: [{key: a, effect: Never}]}}}", &["taints[0].effect", "Never"]),
            (
                "{template: {metadata: {labels: {karpenter.sh/nodepool: x}}}}",
                &["labels.karpenter.sh/nodepool"],
            ),
        ];
        for (spec, parts) in table {
            let error = node_pool(&value(spec)).unwrap_err().to_string();
            for part in *parts {
                assert!(error.contains(part), "\"{part}\" is not in: {error}");
            }
        }
        let old: Value =
            serde_saphyr::from_str("apiVersion: karpenter.sh/v1beta1\nmetadata: {name: b}").unwrap();
        assert!(node_pool(&old).unwrap_err().to_string().contains("apiVersion"));
    }
}
