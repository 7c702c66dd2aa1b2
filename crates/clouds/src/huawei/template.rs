//! What a new node of a pool will look like, before there is one.
//!
//! Owns the joining of the pool's own description with the types of servers. Where a pool has groups of several types
//! the node described is the least of them in every respect, so that what fits it fits whichever comes.

use super::cce::{Flavor, NodePool};
use crate::tags::effect_of;
use model::{Effect, Labels, NodeTemplate, ResourceName, Resources, Taint};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pods of a node where the pool does not say.
const PODS: u32 = 110;
const GIB: u64 = 1 << 30;
/// What system daemons and the kernel leave of the memory beside what the kubelet holds back.
const SYSTEM_MEMORY: u64 = GIB / 2;
/// Of the system disk, what is left to pods beside the image and the file system's own needs.
const DISK_LEFT_PERCENT: u64 = 80;
const REGION: &str = "topology.kubernetes.io/region";
const POOL: &str = "cce.cloud.com/cce-nodepool";
/// Where servers may be made in any zone.
const ANY_ZONE: &str = "random";

/// The types of servers that a pool may make.
pub(super) fn types_of(pool: &NodePool) -> BTreeSet<&str> {
    let own = [pool.spec.node_template.flavor.as_str()];
    let more = pool.spec.extension_scale_groups.iter().map(|group| group.spec.flavor.as_str());
    own.into_iter().chain(more).filter(|name| !name.is_empty()).collect()
}

/// The node; `Ok(None)` where no type of the pool is known, `Err` names the taint that is wrong.
pub(super) fn template(
    pool: &NodePool,
    known: &BTreeMap<String, Flavor>,
    region: &str,
) -> Result<Option<NodeTemplate>, String> {
    let types = types_of(pool);
    let found: Vec<&Flavor> = types.iter().filter_map(|name| known.get(*name)).collect();
    if found.is_empty() || found.len() < types.len() {
        return Ok(None);
    }
    let given = &pool.spec.node_template;
    let least = |of: fn(&Flavor) -> u64| found.iter().map(|flavor| of(flavor)).min().unwrap_or(0);
    let mut allocatable =
        Resources { pods: given.extend_param.max_pods.unwrap_or(PODS), ..Resources::default() };
    allocatable.cpu.0 = left_of_cpu(least(cores) * 1000);
    allocatable.memory.0 = left_of_memory(least(|flavor| flavor.ram) << 20);
    allocatable.ephemeral_storage.0 = given.root_volume.size * GIB / 100 * DISK_LEFT_PERCENT;
    let gpus = least(gpus);
    if gpus > 0 {
        allocatable.extended.insert(ResourceName::new("nvidia.com/gpu"), gpus);
    }
    let mut taints = Vec::new();
    for taint in &given.taints {
        let effect: Effect = effect_of(&taint.effect).ok_or_else(|| {
            format!(
                "taint {} of node pool {} has the effect \"{}\"; choose NoSchedule, PreferNoSchedule or NoExecute",
                taint.key, pool.metadata.name, taint.effect
            )
        })?;
        taints.push(Taint { key: Arc::from(&*taint.key), value: Arc::from(&*taint.value), effect });
    }
    Ok(Some(NodeTemplate { labels: labels(pool, &found, region), taints, allocatable, fittings: None }))
}

fn labels(pool: &NodePool, types: &[&Flavor], region: &str) -> Labels {
    let given = &pool.spec.node_template;
    let mut labels = Labels::new();
    let mut put = |key: &str, value: &str| labels.insert(Arc::from(key), Arc::from(value));
    put(api::labels::OS, "linux");
    put(REGION, region);
    put(POOL, &pool.metadata.name);
    // What differs between the types that may come is promised of none.
    let architectures: BTreeSet<&str> = types.iter().map(|flavor| architecture(flavor)).collect();
    if let (Some(one), 1) = (architectures.first(), architectures.len()) {
        put(api::labels::ARCH, one);
    }
    if let [one] = types {
        put(api::labels::INSTANCE_TYPE, &one.id);
    }
    let more = pool.spec.extension_scale_groups.iter().map(|group| group.spec.az.as_str());
    let zones: BTreeSet<&str> = [given.az.as_str()].into_iter().chain(more).collect();
    if let (Some(zone), 1) = (zones.first(), zones.len())
        && !matches!(*zone, "" | ANY_ZONE)
    {
        put(api::labels::ZONE, zone);
    }
    for (key, value) in &given.k8s_tags {
        put(key, value);
    }
    labels
}

fn cores(flavor: &Flavor) -> u64 {
    flavor.vcpus.parse().unwrap_or(0)
}

fn text<'f>(flavor: &'f Flavor, key: &str) -> &'f str {
    flavor.os_extra_specs.get(key).and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn architecture(flavor: &Flavor) -> &'static str {
    if text(flavor, "ecs:instance_architecture") == "arm64" { "arm64" } else { "amd64" }
}

/// `V100:2` says that two are passed through.
fn gpus(flavor: &Flavor) -> u64 {
    let told = text(flavor, "pci_passthrough:alias");
    if !text(flavor, "ecs:performancetype").contains("gpu") {
        return 0;
    }
    told.rsplit_once(':').and_then(|(_, count)| count.parse().ok()).unwrap_or(0)
}

/// Steps of what the kubelet holds back: up to so much, so many thousandths of it.
type Steps = [(u64, u64); 5];

fn left(whole: u64, steps: &Steps) -> u64 {
    let (mut held, mut from) = (0, 0);
    for (upto, permille) in steps {
        let part = whole.min(*upto).saturating_sub(from);
        held += part / 1000 * permille;
        from = *upto;
    }
    whole.saturating_sub(held)
}

fn left_of_cpu(milli: u64) -> u64 {
    // In thousandths of a thousandth, so that small parts are not rounded away.
    left(milli * 1000, &[(1_000_000, 60), (2_000_000, 10), (4_000_000, 5), (u64::MAX, 3), (u64::MAX, 0)])
        / 1000
}

fn left_of_memory(bytes: u64) -> u64 {
    let steps = [(4 * GIB, 250), (8 * GIB, 200), (16 * GIB, 100), (128 * GIB, 60), (u64::MAX, 20)];
    left(bytes, &steps).saturating_sub(SYSTEM_MEMORY)
}

#[cfg(test)]
mod tests {
    use super::super::cce::{GivenTaint, ScaleGroup};
    use super::*;

    fn flavor(id: &str, vcpus: &str, gib: u64, architecture: &str) -> Flavor {
        let specs = [("ecs:instance_architecture".to_owned(), architecture.into())];
        Flavor { id: id.into(), vcpus: vcpus.into(), ram: gib << 10, os_extra_specs: specs.into() }
    }

    fn known() -> BTreeMap<String, Flavor> {
        let all = [flavor("c7.xlarge.2", "4", 8, "x86"), flavor("kc1.2xlarge.4", "8", 32, "arm64")];
        all.into_iter().map(|one| (one.id.clone(), one)).collect()
    }

    fn pool(effect: &str) -> NodePool {
        let mut pool = NodePool::default();
        pool.metadata.name = "blue".into();
        let given = &mut pool.spec.node_template;
        given.flavor = "c7.xlarge.2".into();
        given.az = "cn-north-4a".into();
        given.root_volume.size = 50;
        given.k8s_tags.insert("tier".into(), "web".into());
        given.taints.push(GivenTaint { key: "dedicated".into(), value: "db".into(), effect: effect.into() });
        pool
    }

    #[test]
    fn a_pool_describes_its_nodes() {
        let node = template(&pool("NoSchedule"), &known(), "cn-north-4").unwrap().unwrap();
        assert_eq!(node.allocatable.cpu.0, 3920);
        // 1 GiB of the first four, 0.8 of the next four, and half a GiB for the system.
        assert_eq!(node.allocatable.memory.0 * 100 / GIB, 570);
        assert_eq!(node.labels["tier"], "web".into());
        assert_eq!(node.labels[POOL], "blue".into());
        assert_eq!(node.labels[api::labels::ZONE], "cn-north-4a".into());
        assert_eq!(node.labels[api::labels::INSTANCE_TYPE], "c7.xlarge.2".into());
        assert_eq!(node.taints[0].to_string(), "{dedicated: db}");
        let why = template(&pool("Never"), &known(), "r").unwrap_err();
        assert!(why.contains("dedicated") && why.contains("choose NoSchedule"), "{why}");
    }

    #[test]
    fn several_types_promise_the_least_and_an_unknown_one_nothing() {
        let mut several = pool("NoSchedule");
        let mut more = ScaleGroup::default();
        more.spec.flavor = "kc1.2xlarge.4".into();
        more.spec.az = "cn-north-4b".into();
        several.spec.extension_scale_groups.push(more);
        let node = template(&several, &known(), "cn-north-4").unwrap().unwrap();
        assert_eq!(node.allocatable.cpu.0, 3920);
        for key in [api::labels::ARCH, api::labels::INSTANCE_TYPE, api::labels::ZONE] {
            assert!(!node.labels.contains_key(key), "{key}");
        }
        several.spec.extension_scale_groups[0].spec.flavor = "unknown".into();
        assert_eq!(template(&several, &known(), "cn-north-4"), Ok(None));
    }
}
