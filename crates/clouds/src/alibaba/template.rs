//! What a new node of a scaling group will look like, before there is one.
//!
//! Owns the reading of the scaling configuration, the instance types and the tags. Where several types are possible
//! the node described is the least of them in every respect, so that what fits it fits whichever comes.

use super::ess::{InstanceType, ScalingConfiguration, ScalingGroup};
use crate::tags::{set, taint};
use model::{Effect, Labels, NodeTemplate, ResourceName, Resources, Taint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tags that speak of the node. The first prefix of each pair is Cluster Autoscaler's on other clouds; the second is
/// ours and short, because the key of a scaling group's tag may have 64 characters only.
const LABEL: [&str; 2] = ["k8s.io/cluster-autoscaler/node-template/label/", "tideline.dev/label/"];
const TAINT: [&str; 2] = ["k8s.io/cluster-autoscaler/node-template/taint/", "tideline.dev/taint/"];
const RESOURCE: [&str; 2] = ["k8s.io/cluster-autoscaler/node-template/resources/", "tideline.dev/resource/"];

/// Pods of a node where no tag says otherwise, as the kubelet's default.
const PODS: u32 = 110;
/// Of the memory of a type, what firmware, kernel and system daemons leave. A promise of more would buy machines on
/// which the pods that they were bought for do not fit.
const MEMORY_LEFT: f64 = 0.925;
/// Of the system disk, what is left to pods beside the image and the file system's own needs.
const DISK_LEFT: f64 = 0.9;
const GPU: &str = "nvidia.com/gpu";
const GPU_NAME: &str = "aliyun.accelerator/nvidia_name";
const REGION: &str = "topology.kubernetes.io/region";
const GIB: f64 = (1u64 << 30) as f64;

/// The types that a configuration may start.
pub(super) fn types_of(configuration: &ScalingConfiguration) -> Vec<String> {
    let mut names: BTreeSet<&String> = configuration.instance_types.iter().collect();
    if !configuration.instance_type.is_empty() {
        names.insert(&configuration.instance_type);
    }
    names.into_iter().cloned().collect()
}

/// The node; `Err` names the tag or the type that is wrong, and the fix.
pub(super) fn template(
    group: &ScalingGroup,
    configuration: &ScalingConfiguration,
    types: &[InstanceType],
    region: &str,
) -> Result<NodeTemplate, String> {
    let wanted = types_of(configuration);
    let types: Vec<&InstanceType> =
        types.iter().filter(|found| wanted.contains(&found.instance_type_id)).collect();
    let Some(least) = least(&types, configuration) else {
        return Err(format!(
            "ECS describes none of the instance types {} of {}; is ecs:DescribeInstanceTypes granted?",
            wanted.join(", "),
            configuration.scaling_configuration_id
        ));
    };
    let mut node = NodeTemplate {
        labels: labels(configuration, &types, region),
        allocatable: least,
        ..NodeTemplate::default()
    };
    let configured = configuration.tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str()));
    let grouped = group.tags.iter().map(|tag| (tag.tag_key.as_str(), tag.tag_value.as_str()));
    for (key, value) in configured.clone().filter(|(key, value)| is_label(key, value)) {
        node.labels.insert(Arc::from(key), Arc::from(value));
    }
    let mut resources = BTreeMap::new();
    let mut taints: BTreeMap<(Arc<str>, Effect), Taint> = BTreeMap::new();
    // The group's tags come last: they can be changed while the configuration cannot, so they have the last word.
    for (key, value) in configured.chain(grouped) {
        if let Some(name) = after(key, &LABEL) {
            node.labels.insert(Arc::from(name), Arc::from(value));
        } else if let Some(name) = after(key, &TAINT) {
            let taint = taint(key, name, value)?;
            taints.insert((taint.key.clone(), taint.effect), taint);
        } else if let Some(name) = after(key, &RESOURCE) {
            resources.insert(name.to_owned(), (key, value));
        }
    }
    node.taints = taints.into_values().collect();
    for (name, (key, value)) in resources {
        set(&mut node.allocatable, &name, value).map_err(|why| {
            format!("tag {key} is \"{value}\": {why}; write a quantity such as 2, 500m or 16Gi")
        })?;
    }
    Ok(node)
}

fn after<'a>(key: &'a str, prefixes: &[&str; 2]) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| key.strip_prefix(prefix)).filter(|name| !name.is_empty())
}

/// Tags of the configuration become labels as they are, where they can be labels at all and mean nothing else.
fn is_label(key: &str, value: &str) -> bool {
    let fits =
        |text: &str| text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    let special = [LABEL, TAINT, RESOURCE].iter().flatten().any(|prefix| key.starts_with(prefix));
    !special && !name.is_empty() && key.matches('/').count() <= 1 && fits(name) && fits(value)
}

fn least(types: &[&InstanceType], configuration: &ScalingConfiguration) -> Option<Resources> {
    let least = |of: fn(&InstanceType) -> f64| types.iter().map(|found| of(found)).reduce(f64::min);
    let mut allocatable = Resources::default();
    allocatable.cpu.0 = (least(|found| found.cpu_core_count as f64)? * 1000.0) as u64;
    allocatable.memory.0 = (least(|found| found.memory_size)? * GIB * MEMORY_LEFT) as u64;
    allocatable.ephemeral_storage.0 = (configuration.system_disk_size as f64 * GIB * DISK_LEFT) as u64;
    allocatable.pods = PODS;
    let gpus = least(|found| found.gpu_amount as f64)? as u64;
    if gpus > 0 {
        allocatable.extended.insert(ResourceName::new(GPU), gpus);
    }
    Some(allocatable)
}

fn labels(configuration: &ScalingConfiguration, types: &[&InstanceType], region: &str) -> Labels {
    let mut labels = Labels::new();
    let mut put = |key: &str, value: &str| labels.insert(Arc::from(key), Arc::from(value));
    put(api::labels::OS, "linux");
    put(REGION, region);
    let one = |of: fn(&InstanceType) -> &str| {
        let all: BTreeSet<&str> = types.iter().map(|found| of(found)).collect();
        (all.len() == 1).then(|| all.into_iter().next().unwrap_or_default())
    };
    // What differs between the types that may come is promised of none.
    match one(|found| &found.cpu_architecture) {
        Some("ARM") => drop(put(api::labels::ARCH, "arm64")),
        Some(_) => drop(put(api::labels::ARCH, "amd64")),
        None => {}
    }
    if let Some(name) = one(|found| &found.instance_type_id) {
        put(api::labels::INSTANCE_TYPE, name);
    }
    if let Some(name) = one(|found| &found.gpu_spec).filter(|name| !name.is_empty()) {
        put(GPU_NAME, name);
    }
    if !configuration.zone_id.is_empty() {
        put(api::labels::ZONE, &configuration.zone_id);
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::super::ess::{ConfigurationTag, GroupTag};
    use super::*;

    fn kind(name: &str, cpu: u64, memory: f64, architecture: &str) -> InstanceType {
        InstanceType {
            instance_type_id: name.into(),
            cpu_core_count: cpu,
            memory_size: memory,
            cpu_architecture: architecture.into(),
            ..InstanceType::default()
        }
    }

    fn configuration(types: &[&str], tags: &[(&str, &str)]) -> ScalingConfiguration {
        let tag = |(key, value): &(&str, &str)| ConfigurationTag {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        ScalingConfiguration {
            scaling_configuration_id: "asc-1".into(),
            instance_types: types.iter().map(ToString::to_string).collect(),
            system_disk_size: 100,
            zone_id: "cn-hangzhou-h".into(),
            tags: tags.iter().map(tag).collect(),
            ..ScalingConfiguration::default()
        }
    }

    fn group(tags: &[(&str, &str)]) -> ScalingGroup {
        let tag = |(key, value): &(&str, &str)| GroupTag {
            tag_key: (*key).to_owned(),
            tag_value: (*value).to_owned(),
        };
        ScalingGroup { tags: tags.iter().map(tag).collect(), ..ScalingGroup::default() }
    }

    #[test]
    fn several_types_promise_the_least_of_each_and_no_label_that_differs() {
        let types = [kind("ecs.g7.2xlarge", 8, 32.0, "X86"), kind("ecs.g8y.4xlarge", 16, 16.0, "ARM")];
        let configuration = configuration(&["ecs.g7.2xlarge", "ecs.g8y.4xlarge"], &[("team", "web")]);
        let node = template(&group(&[]), &configuration, &types, "cn-hangzhou").unwrap();
        assert_eq!(node.allocatable.cpu.0, 8000);
        assert_eq!(node.allocatable.memory.0, (16.0 * GIB * MEMORY_LEFT) as u64);
        assert_eq!(node.allocatable.pods, 110);
        assert!(!node.labels.contains_key(api::labels::ARCH));
        assert!(!node.labels.contains_key(api::labels::INSTANCE_TYPE));
        assert_eq!(node.labels["team"], "web".into());
        assert_eq!(node.labels[api::labels::ZONE], "cn-hangzhou-h".into());
        assert!(!node.allocatable.extended.contains_key(&ResourceName::new(GPU)));
    }

    #[test]
    fn tags_set_labels_taints_and_resources_and_the_groups_win() {
        let types = [kind("ecs.g8y.large", 2, 8.0, "ARM")];
        let configuration = configuration(
            &["ecs.g8y.large"],
            &[
                ("k8s.io/cluster-autoscaler/node-template/label/tier", "old"),
                ("tideline.dev/taint/dedicated", "db:NoSchedule"),
                ("acs:some:mark", "x"),
            ],
        );
        let group = group(&[
            ("tideline.dev/label/tier", "new"),
            ("tideline.dev/resource/pods", "30"),
            ("tideline.dev/resource/example.com/disk", "4"),
            ("tideline.dev/label/topology.kubernetes.io/zone", "cn-hangzhou-k"),
        ]);
        let node = template(&group, &configuration, &types, "cn-hangzhou").unwrap();
        assert_eq!(node.labels["tier"], "new".into());
        assert_eq!(node.labels[api::labels::ARCH], "arm64".into());
        assert_eq!(node.labels[api::labels::ZONE], "cn-hangzhou-k".into());
        assert!(!node.labels.contains_key("acs:some:mark"));
        assert_eq!(node.taints[0].to_string(), "{dedicated: db}");
        assert_eq!(node.allocatable.pods, 30);
        assert_eq!(node.allocatable.extended[&ResourceName::new("example.com/disk")], 4);
    }

    #[test]
    fn wrong_tags_and_unknown_types_are_named() {
        let types = [kind("ecs.g7.large", 2, 8.0, "X86")];
        let read = |tags: &[(&str, &str)]| {
            template(&group(tags), &configuration(&["ecs.g7.large"], &[]), &types, "cn-hangzhou")
        };
        for tag in [("tideline.dev/taint/a", "b"), ("tideline.dev/resource/memory", "lots")] {
            let why = read(&[tag]).unwrap_err();
            assert!(why.contains(tag.0) && why.contains("write"), "{why}");
        }
        let why = template(&group(&[]), &configuration(&["ecs.none"], &[]), &types, "r").unwrap_err();
        assert!(why.contains("ecs.none"), "{why}");
    }
}
