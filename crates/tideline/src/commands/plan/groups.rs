//! Group pools from flags: `--nodes=MIN:MAX:NAME`, with a template from `--node-template` or the catalogue.
//!
//! Owns the two flags' grammar. Such pools stand in for groups of a cloud that a plan has no access to: they begin
//! empty, and what they would deliver is what their template says.

use crate::error::CommandError;
use k8s_openapi::api::core::v1::Taint as RawTaint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{
    InstanceType, Labels, MicroUsdPerHour, NodeTemplate, Operator, Pool, PoolId, PoolKind, PoolOptions,
    Profile, ProviderKind,
};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// A template that does not say how many pods fit gets the kubelet's default.
const USUAL_PODS: u32 = 110;

/// `MIN:MAX:NAME`, as Cluster Autoscaler spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    min: u32,
    max: u32,
    name: String,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("\"{text}\": {what}; write MIN:MAX:NAME, such as 0:10:workers");
        let mut parts = text.splitn(3, ':');
        let mut number = |which: &str| {
            let part = parts.next().unwrap_or_default();
            part.parse::<u32>().map_err(|_| wrong(&format!("{which} \"{part}\" is not a number")))
        };
        let (min, max) = (number("the minimum")?, number("the maximum")?);
        let name = parts.next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(wrong("the name is missing"));
        }
        if min > max {
            return Err(wrong("the minimum is more than the maximum"));
        }
        Ok(Self { min, max, name })
    }
}

/// `NAME:cpu=4,memory=16Gi,…`: what a node of a group looks like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template {
    name: String,
    node: NodeTemplate,
    price: MicroUsdPerHour,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = "write NAME:cpu=4,memory=16Gi,pods=110, with label/KEY=VALUE, taint/KEY=VALUE:EFFECT and \
                     price=DOLLARS where needed";
        let wrong = |what: String| format!("\"{text}\": {what}; {usage}");
        let (name, entries) = text.split_once(':').ok_or_else(|| wrong("there is no colon".to_owned()))?;
        let mut template =
            Self { name: name.to_owned(), node: NodeTemplate::default(), price: MicroUsdPerHour::default() };
        let mut amounts = BTreeMap::new();
        for entry in entries.split(',') {
            let (key, value) =
                entry.split_once('=').ok_or_else(|| wrong(format!("\"{entry}\" has no value")))?;
            if let Some(label) = key.strip_prefix("label/") {
                template.node.labels.insert(label.into(), value.into());
            } else if let Some(taint) = key.strip_prefix("taint/") {
                let (value, effect) =
                    value.rsplit_once(':').ok_or_else(|| wrong(format!("\"{entry}\" has no effect")))?;
                let raw = RawTaint {
                    key: taint.to_owned(),
                    value: Some(value.to_owned()),
                    effect: effect.to_owned(),
                    ..RawTaint::default()
                };
                template.node.taints.push(intake::taint(&raw).map_err(|error| wrong(error.to_string()))?);
            } else if key == "price" {
                template.price = intake::micro_usd(value).map_err(|error| wrong(error.to_string()))?;
            } else if amounts.insert(key.to_owned(), Quantity(value.to_owned())).is_some() {
                return Err(wrong(format!("{key} is given twice")));
            }
        }
        template.node.allocatable = intake::resources(&amounts).map_err(|error| wrong(error.to_string()))?;
        let allocatable = &mut template.node.allocatable;
        if allocatable.cpu.0 == 0 || allocatable.memory.0 == 0 {
            return Err(wrong("cpu or memory is zero or missing".to_owned()));
        }
        if allocatable.pods == 0 {
            allocatable.pods = USUAL_PODS;
        }
        Ok(template)
    }
}

/// The pools of the flags. A group without a template takes the catalogue's machine type of its name.
pub(super) fn pools(
    groups: &[Group],
    templates: &[Template],
    catalogue: &[InstanceType],
) -> Result<Vec<Pool>, CommandError> {
    if let Some(idle) = templates.iter().find(|t| groups.iter().all(|group| group.name != t.name)) {
        return Err(CommandError::Usage(format!(
            "--node-template names {}, which no --nodes does; give --nodes=MIN:MAX:{0} too",
            idle.name
        )));
    }
    let mut pools: Vec<Pool> = Vec::new();
    for group in groups {
        let mut given = templates.iter().filter(|template| template.name == group.name);
        let template = given.next().cloned().or_else(|| of_type(catalogue, &group.name));
        let Some(template) = template else {
            return Err(CommandError::Usage(format!(
                "group {} has no template; give --node-template={0}:cpu=4,memory=16Gi, or name a machine type of \
                 --offerings",
                group.name
            )));
        };
        if given.next().is_some() || pools.iter().any(|pool| *pool.name == *group.name) {
            let twice = format!("group {} is given twice; leave one of them out", group.name);
            return Err(CommandError::Usage(twice));
        }
        pools.push(pool(group, template));
    }
    Ok(pools)
}

fn of_type(catalogue: &[InstanceType], name: &str) -> Option<Template> {
    let entry = catalogue.iter().find(|entry| *entry.name == *name)?;
    let cheapest = entry.offerings.iter().filter(|o| o.available).min_by_key(|o| o.price)?;
    let mut labels: Labels = entry
        .requirements
        .iter()
        .filter(|requirement| requirement.operator == Operator::In && requirement.values.len() == 1)
        .map(|requirement| (requirement.key.clone(), requirement.values[0].clone()))
        .collect();
    labels.insert(api::labels::INSTANCE_TYPE.into(), entry.name.clone());
    labels.insert(api::labels::ZONE.into(), cheapest.zone.clone());
    labels.insert("karpenter.sh/capacity-type".into(), cheapest.capacity_type.as_str().into());
    let node = NodeTemplate {
        labels,
        taints: Vec::new(),
        allocatable: entry.allocatable.clone(),
        ..NodeTemplate::default()
    };
    Some(Template { name: name.to_owned(), node, price: cheapest.price })
}

fn pool(group: &Group, template: Template) -> Pool {
    let mut node = template.node;
    node.labels.entry(api::labels::OS.into()).or_insert_with(|| "linux".into());
    node.labels.entry(api::labels::ARCH.into()).or_insert_with(|| "amd64".into());
    Pool {
        id: PoolId::from(format!("simulated/{}", group.name)),
        name: Arc::from(group.name.as_str()),
        provider: ProviderKind::Simulated,
        profile: Profile::ClusterAutoscaler,
        min: group.min,
        max: group.max,
        target: 0,
        template: Some(node),
        priority: 0,
        price: template.price,
        options: PoolOptions::default(),
        frozen: None,
        kind: PoolKind::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_templates_are_read() {
        let group: Group = "1:20:web:a".parse().unwrap();
        assert_eq!((group.min, group.max, group.name.as_str()), (1, 20, "web:a"));
        let text = "web:cpu=4,memory=16Gi,nvidia.com/gpu=1,price=0.5,label/a/b=c=d,taint/k=v:NoSchedule";
        let template: Template = text.parse().unwrap();
        assert_eq!(template.node.allocatable.pods, USUAL_PODS);
        assert_eq!(template.node.labels.get("a/b").map(AsRef::as_ref), Some("c=d"));
        assert_eq!(template.node.taints[0].to_string(), "{k: v}");
        assert_eq!(template.price, MicroUsdPerHour(500_000));
    }

    #[test]
    fn bad_flags_say_what_to_write() {
        for (text, part) in [
            ("1:2", "name is missing"),
            ("x:2:a", "minimum \"x\""),
            ("1:-2:a", "maximum \"-2\""),
            ("3:2:a", "more than the maximum"),
            ("1:99999999999:a", "maximum"),
        ] {
            let error = text.parse::<Group>().unwrap_err();
            assert!(error.contains(part) && error.contains("MIN:MAX:NAME"), "{error}");
        }
        for (text, part) in [
            ("web", "no colon"),
            ("web:cpu", "\"cpu\" has no value"),
            ("web:cpu=4", "memory is zero or missing"),
            ("web:cpu=-4,memory=1Gi", "negative"),
            ("web:cpu=4,cpu=5,memory=1Gi", "cpu is given twice"),
            ("web:cpu=4,memory=1Gi,taint/a=b", "no effect"),
            ("web:cpu=4,memory=1Gi,taint/a=b:Never", "Never"),
        ] {
            let error = text.parse::<Template>().unwrap_err();
            assert!(error.contains(part) && error.contains("write NAME:"), "{error}");
        }
    }
}
