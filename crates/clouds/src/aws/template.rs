//! What a new node of an Auto Scaling group will look like, before there is one.
//!
//! Owns the joining of types, tags and what EKS says. Where several types are possible the node described is the
//! least of them in every respect, so that what fits it fits whichever comes.

use super::cloud::{Group, NodeGroup, TypeFacts};
use super::launch::Launches;
use super::reading::next_zone;
use crate::tags::{effect_of, percent, set, taint};
use intake::go_duration;
use model::{Effect, Labels, NodeTemplate, PoolOptions, ResourceName, Resources, Taint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const LABEL: &str = "k8s.io/cluster-autoscaler/node-template/label/";
const TAINT: &str = "k8s.io/cluster-autoscaler/node-template/taint/";
const RESOURCE: &str = "k8s.io/cluster-autoscaler/node-template/resources/";
const OPTION: &str = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/";

/// Pods of a node where nothing says otherwise, as the kubelet's default.
const PODS: u32 = 110;
/// Of the memory of a type, what hypervisor, kernel and firmware leave. A promise of more would buy machines on which
/// the pods that they were bought for do not fit.
const MEMORY_LEFT: f64 = 0.925;
/// Of the first disk, what is left to pods beside the image and the file system's own needs.
const DISK_LEFT: f64 = 0.9;
/// Gibibytes of the first disk where nothing says otherwise: the images of EKS start with it.
const DISK_GIB: u64 = 20;
const MIB: f64 = (1u64 << 20) as f64;
const GIB: f64 = (1u64 << 30) as f64;

const ACCELERATOR: &str = "k8s.amazonaws.com/accelerator";
const EBS_ZONE: &str = "topology.ebs.csi.aws.com/zone";
const ZONE_ID: &str = "topology.k8s.aws/zone-id";
const REGION: &str = "topology.kubernetes.io/region";
const NODE_GROUP: &str = "eks.amazonaws.com/nodegroup";
const CAPACITY_TYPE: &str = "eks.amazonaws.com/capacityType";

/// What a group says of its nodes, with a sentence for each tag that cannot be read and was left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Described {
    pub(super) template: Option<NodeTemplate>,
    pub(super) options: PoolOptions,
    pub(super) wrong_tags: Vec<String>,
}

/// Describes a node. There is no template where neither types nor tags give cpu and memory.
pub(super) fn describe(group: &Group, launches: &Launches, region: &str) -> Described {
    let mut described = Described::default();
    let mut node = NodeTemplate::default();
    let managed = group.tags.contains_key("eks:nodegroup-name");
    if let Some(least) = least(&launches.types, managed) {
        node.allocatable = least;
    }
    let node_group = launches.node_group.as_ref();
    let disk = launches.disk_gib.or(node_group.and_then(|found| found.disk_gib)).unwrap_or(DISK_GIB);
    node.allocatable.ephemeral_storage.0 = (disk as f64 * GIB * DISK_LEFT) as u64;
    if node.allocatable.pods == 0 {
        node.allocatable.pods = PODS;
    }
    node.labels = generic_labels(group, &launches.types, region);
    let mut taints = BTreeMap::new();
    for (key, value) in &group.tags {
        take_tag(key, value, &mut node, &mut taints, &mut described);
    }
    if let Some(name) = group.tags.get("eks:nodegroup-name") {
        node.labels.insert(NODE_GROUP.into(), Arc::from(name.as_str()));
    }
    if let Some(found) = node_group {
        take_node_group(found, &mut node, &mut taints);
    }
    node.taints = taints.into_values().collect();
    let enough = node.allocatable.cpu.0 > 0 && node.allocatable.memory.0 > 0;
    described.template = enough.then_some(node);
    described
}

type Taints = BTreeMap<(Arc<str>, Effect), Taint>;

/// A tag that cannot be read is left out and named: the others go on, as they do in Cluster Autoscaler.
fn take_tag(key: &str, value: &str, node: &mut NodeTemplate, taints: &mut Taints, described: &mut Described) {
    let after = |prefix: &str| key.strip_prefix(prefix).filter(|name| !name.is_empty());
    let result = if let Some(name) = after(LABEL) {
        node.labels.insert(Arc::from(name), Arc::from(value));
        Ok(())
    } else if let Some(name) = after(TAINT) {
        taint(key, name, value).map(|taint| drop(taints.insert((taint.key.clone(), taint.effect), taint)))
    } else if let Some(name) = after(RESOURCE) {
        set(&mut node.allocatable, name, value).map_err(|why| {
            format!("tag {key} is \"{value}\": {why}; write a quantity such as 2, 500m or 16Gi")
        })
    } else if let Some(name) = after(OPTION) {
        option(&mut described.options, key, name, value)
    } else {
        Ok(())
    };
    if let Err(why) = result {
        described.wrong_tags.push(format!("{why}; the tag is left out"));
    }
}

/// Unknown keys are left: a newer Cluster Autoscaler may know them.
fn option(options: &mut PoolOptions, key: &str, name: &str, value: &str) -> Result<(), String> {
    let duration = || {
        let read = go_duration(value).ok().filter(|duration| !duration.is_negative());
        read.ok_or_else(|| format!("tag {key} is \"{value}\"; write a duration such as 10m"))
    };
    match name {
        "scaledownutilizationthreshold" => {
            let read = percent(value)
                .ok_or_else(|| format!("tag {key} is \"{value}\"; write a share from 0 to 1, such as 0.5"))?;
            options.utilization_threshold_percent = Some(read);
        }
        "scaledownunneededtime" => options.unneeded_time = Some(duration()?),
        "scaledownunreadytime" => options.unready_time = Some(duration()?),
        "maxnodeprovisiontime" => options.max_provision_time = Some(duration()?),
        _ => {}
    }
    Ok(())
}

fn take_node_group(found: &NodeGroup, node: &mut NodeTemplate, taints: &mut Taints) {
    for (key, value) in &found.labels {
        node.labels.insert(Arc::from(key.as_str()), Arc::from(value.as_str()));
    }
    if let Some(kind) = &found.capacity_type {
        node.labels.insert(CAPACITY_TYPE.into(), Arc::from(kind.as_str()));
    }
    for (key, value, effect) in &found.taints {
        let effect = match effect.as_str() {
            "NO_SCHEDULE" => "NoSchedule",
            "NO_EXECUTE" => "NoExecute",
            "PREFER_NO_SCHEDULE" => "PreferNoSchedule",
            other => other,
        };
        if let Some(effect) = effect_of(effect) {
            let taint = Taint { key: Arc::from(key.as_str()), value: Arc::from(value.as_str()), effect };
            taints.insert((taint.key.clone(), effect), taint);
        }
    }
}

fn least(types: &[TypeFacts], managed: bool) -> Option<Resources> {
    let mut least = Resources::default();
    let cores = types.iter().map(|found| found.cores).min()?;
    let memory = types.iter().map(|found| found.memory_mib).min()? as f64 * MIB * MEMORY_LEFT;
    least.pods = PODS;
    least.cpu.0 = cores * 1000;
    least.memory.0 = memory as u64;
    if managed {
        // What the images of EKS reserve for the kubelet and the system, by their published rule.
        let addresses = types.iter().filter_map(|found| found.pod_addresses).min();
        least.pods = addresses.map_or(PODS, |addresses| addresses.min(PODS));
        least.cpu.0 -= reserved_cpu(cores).min(least.cpu.0);
        let reserved = (255 + 11 * u64::from(least.pods) + 100) << 20;
        least.memory.0 = least.memory.0.saturating_sub(reserved);
    }
    let resources: BTreeSet<&str> = types.iter().flat_map(|found| found.devices.keys().copied()).collect();
    for resource in resources {
        let count = types.iter().map(|found| found.devices.get(resource).copied().unwrap_or(0)).min();
        if let Some(count) = count.filter(|count| *count > 0) {
            least.extended.insert(ResourceName::new(resource), count);
        }
    }
    Some(least)
}

/// Thousandths of a core: 6 % of the first, 1 % of the second, 0.5 % of two more, 0.25 % of the rest.
fn reserved_cpu(cores: u64) -> u64 {
    let steps = [(1, 60.0), (1, 10.0), (2, 5.0)];
    let mut left = cores;
    let mut reserved = 0.0;
    for (width, each) in steps {
        let here = left.min(width);
        reserved += here as f64 * each;
        left -= here;
    }
    (reserved + left as f64 * 2.5).ceil() as u64
}

fn generic_labels(group: &Group, types: &[TypeFacts], region: &str) -> Labels {
    let mut labels = Labels::new();
    let mut put = |key: &str, value: &str| drop(labels.insert(Arc::from(key), Arc::from(value)));
    put(api::labels::OS, "linux");
    put("beta.kubernetes.io/os", "linux");
    put(REGION, region);
    if let Some((zone, id)) = next_zone(group) {
        put(api::labels::ZONE, zone);
        put(EBS_ZONE, zone);
        if let Some(id) = id {
            put(ZONE_ID, id);
        }
    }
    // What differs between the types that may come is promised of none.
    let architectures: BTreeSet<&str> =
        types.iter().flat_map(|found| found.architectures.iter().map(|name| architecture(name))).collect();
    let known = types.iter().all(|found| !found.architectures.is_empty());
    if let Some(one) = architectures.first().filter(|_| known && architectures.len() == 1) {
        put(api::labels::ARCH, one);
        put("beta.kubernetes.io/arch", one);
    }
    if let [one] = types
        && !one.name.is_empty()
    {
        put(api::labels::INSTANCE_TYPE, &one.name);
        put("beta.kubernetes.io/instance-type", &one.name);
    }
    let gpus: BTreeSet<Option<&str>> = types.iter().map(|found| found.gpu_name.as_deref()).collect();
    if let (1, Some(Some(gpu))) = (gpus.len(), gpus.first()) {
        put(ACCELERATOR, gpu);
    }
    labels
}

/// Kubernetes' name of an architecture.
fn architecture(name: &str) -> &str {
    match name {
        // Types that can do 32 bits too boot the 64 bit image of a node.
        "x86_64" | "i386" | "x86_64_mac" => "amd64",
        "arm64" | "arm64_mac" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn kind(name: &str, cores: u64, gib: u64, architecture: &str) -> TypeFacts {
        TypeFacts {
            name: name.into(),
            cores,
            memory_mib: gib << 10,
            architectures: vec![architecture.into()],
            pod_addresses: Some(29),
            ..TypeFacts::default()
        }
    }

    fn group(tags: &[(&str, &str)]) -> Group {
        Group {
            name: "workers".into(),
            min: 0,
            max: 5,
            desired: 0,
            zones: vec![("eu-west-1b".into(), Some("euw1-az2".into()))],
            instances: Vec::new(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            suspended: BTreeSet::new(),
            status: String::new(),
            unit: String::new(),
            created: None,
            launch: None,
        }
    }

    fn tagged(prefix: &str, tags: &[(&str, &str)]) -> Described {
        let tags: Vec<(String, &str)> =
            tags.iter().map(|(key, value)| (format!("{prefix}{key}"), *value)).collect();
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let launches = Launches { types: vec![kind("m5.large", 2, 8, "x86_64")], ..Launches::default() };
        describe(&group(&tags), &launches, "eu-west-1")
    }

    #[test]
    fn several_types_promise_the_least_of_each_and_no_label_that_differs() {
        let types = vec![kind("m5.2xlarge", 8, 32, "x86_64"), kind("c7g.4xlarge", 16, 16, "arm64")];
        let launches = Launches { types, ..Launches::default() };
        let node = describe(&group(&[]), &launches, "eu-west-1").template.unwrap();
        assert_eq!(node.allocatable.cpu.0, 8000);
        assert_eq!(node.allocatable.memory.0, (16.0 * GIB * MEMORY_LEFT) as u64);
        assert_eq!(node.allocatable.pods, 110);
        assert!(!node.labels.contains_key(api::labels::ARCH));
        assert!(!node.labels.contains_key(api::labels::INSTANCE_TYPE));
        assert_eq!(node.labels[api::labels::ZONE], "eu-west-1b".into());
        assert_eq!(node.labels[ZONE_ID], "euw1-az2".into());
    }

    #[test]
    fn label_tags_meet_the_labels_of_the_node_group_which_wins() {
        let node_group = NodeGroup {
            labels: [("tier".to_owned(), "eks".to_owned())].into(),
            taints: vec![("dedicated".into(), "databases".into(), "NO_SCHEDULE".into())],
            capacity_type: Some("SPOT".into()),
            disk_gib: Some(50),
        };
        let launches = Launches {
            types: vec![kind("m5.large", 2, 8, "x86_64")],
            disk_gib: None,
            node_group: Some(node_group),
        };
        let tags = [
            (&*format!("{LABEL}tier"), "asg"),
            (&*format!("{LABEL}foo"), "bar"),
            ("eks:nodegroup-name", "ng"),
        ];
        let node = describe(&group(&tags), &launches, "eu-west-1").template.unwrap();
        assert_eq!((&*node.labels["tier"], &*node.labels["foo"]), ("eks", "bar"));
        assert_eq!((&*node.labels[NODE_GROUP], &*node.labels[CAPACITY_TYPE]), ("ng", "SPOT"));
        assert_eq!(node.taints.len(), 1);
        assert_eq!(node.taints[0].to_string(), "{dedicated: databases}");
        assert_eq!((node.allocatable.cpu.0, node.allocatable.pods), (1930, 29));
        assert_eq!(node.allocatable.ephemeral_storage.0, (50.0 * GIB * DISK_LEFT) as u64);
    }

    #[test]
    fn three_of_five_taint_tags_can_be_read() {
        let described = tagged(
            TAINT,
            &[
                ("dedicated", "foo:NoSchedule"),
                ("group", "bar:NoExecute"),
                ("app", "fizz:PreferNoSchedule"),
                ("blank", ""),
                ("nosplit", "some_value"),
            ],
        );
        assert_eq!(described.template.unwrap().taints.len(), 3);
        assert_eq!(described.wrong_tags.len(), 2);
        assert!(described.wrong_tags[0].contains("write value:NoSchedule"));
    }

    #[test]
    fn resource_tags_change_what_the_type_has() {
        let described = tagged(
            RESOURCE,
            &[
                ("cpu", "100m"),
                ("memory", "100M"),
                ("ephemeral-storage", "20G"),
                ("example.com/custom", "5"),
                ("example.com/bad", "GG"),
            ],
        );
        let allocatable = described.template.unwrap().allocatable;
        assert_eq!((allocatable.cpu.0, allocatable.memory.0), (100, 100_000_000));
        assert_eq!(allocatable.ephemeral_storage.0, 20_000_000_000);
        assert_eq!(allocatable.extended, [(ResourceName::new("example.com/custom"), 5)].into());
        assert_eq!(described.wrong_tags.len(), 1);
    }

    #[test]
    fn options_are_read_and_wrong_ones_keep_the_default() {
        let good = tagged(
            OPTION,
            &[
                ("scaledownutilizationthreshold", "0.42"),
                ("scaledownunneededtime", "1h"),
                ("scaledownunreadytime", "25m"),
                ("unknown", "x"),
            ],
        );
        assert_eq!(good.options.utilization_threshold_percent, Some(42));
        assert_eq!(good.options.unneeded_time, Some(SignedDuration::from_hours(1)));
        assert_eq!(good.options.unready_time, Some(SignedDuration::from_mins(25)));
        let wrong =
            tagged(OPTION, &[("scaledownutilizationthreshold", "42"), ("scaledownunneededtime", "soon")]);
        assert_eq!((wrong.options, wrong.wrong_tags.len()), (PoolOptions::default(), 2));
    }

    #[test]
    fn tags_alone_may_describe_a_node_and_nothing_describes_none() {
        let cpu = format!("{RESOURCE}cpu");
        let memory = format!("{RESOURCE}memory");
        let tags = [(&*cpu, "4"), (&*memory, "16Gi")];
        let node = describe(&group(&tags), &Launches::default(), "eu-west-1").template.unwrap();
        assert_eq!((node.allocatable.cpu.0, node.allocatable.pods), (4000, 110));
        assert_eq!(describe(&group(&tags[..1]), &Launches::default(), "eu-west-1").template, None);
    }

    #[test]
    fn reserves_follow_the_published_rule() {
        for (cores, reserved) in [(1, 60), (2, 70), (4, 80), (8, 90), (96, 310)] {
            assert_eq!(reserved_cpu(cores), reserved);
        }
    }
}
