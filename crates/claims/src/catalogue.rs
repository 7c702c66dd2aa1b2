//! The machine types that simulated classes sell, and the reading of those that a class lists itself.
//!
//! Owns the built-in list: the common families of EC2 with their sizes and about their prices, so that old manifests
//! find the types that they name. Real clouds bring their own lists.

use api::karpenter::{CAPACITY_TYPE, SimulatedInstanceType, SimulatedNodeClassSpec};
use api::labels;
use intake::IntakeError;
use model::{
    Bytes, CapacityType, InstanceType, MicroUsdPerHour, MilliCpu, Offering, Operator, Requirement, Resources,
};
use std::sync::Arc;

/// Pods that a type takes where it does not say.
const DEFAULT_PODS: u32 = 110;
/// Zones where a class names none.
pub(crate) const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

/// Name, category, generation, memory in GiB for each core, price of a core in millionths of a dollar an hour,
/// architecture, and the sizes that are sold.
type Family = (&'static str, &'static str, u32, u64, u64, &'static str, &'static [(&'static str, u64)]);

const COMMON: &[(&str, u64)] = &[
    ("large", 2),
    ("xlarge", 4),
    ("2xlarge", 8),
    ("4xlarge", 16),
    ("8xlarge", 32),
    ("12xlarge", 48),
    ("16xlarge", 64),
    ("24xlarge", 96),
];
const BURSTING: &[(&str, u64)] = &[("large", 2), ("xlarge", 4), ("2xlarge", 8)];

const FAMILIES: &[Family] = &[
    ("t3a", "t", 3, 4, 37_600, "amd64", BURSTING),
    ("t3", "t", 3, 4, 41_600, "amd64", BURSTING),
    ("c5", "c", 5, 2, 42_500, "amd64", COMMON),
    ("c6a", "c", 6, 2, 38_250, "amd64", COMMON),
    ("c7g", "c", 7, 2, 36_250, "arm64", COMMON),
    ("m5", "m", 5, 4, 48_000, "amd64", COMMON),
    ("m6a", "m", 6, 4, 43_200, "amd64", COMMON),
    ("m7g", "m", 7, 4, 40_800, "arm64", COMMON),
    ("r5", "r", 5, 8, 63_000, "amd64", COMMON),
    ("r6a", "r", 6, 8, 56_700, "amd64", COMMON),
];
/// Thousandths of the price that a spot machine costs: large ones are sought more.
fn spot_permille(cores: u64) -> u64 {
    match cores {
        0..=2 => 300,
        3..=4 => 340,
        5..=8 => 380,
        _ => 420,
    }
}

/// The types of a class.
pub(crate) fn of_class(spec: &SimulatedNodeClassSpec) -> Result<Vec<InstanceType>, IntakeError> {
    if spec.instance_types.is_empty() {
        let zones: Vec<&str> = spec.zones.iter().map(String::as_str).collect();
        return Ok(built_in(if zones.is_empty() { &ZONES } else { &zones }));
    }
    spec.instance_types
        .iter()
        .enumerate()
        .map(|(at, entry)| listed(entry).map_err(|error| error.under(&format!("spec.instanceTypes[{at}]"))))
        .collect()
}

/// The built-in types in some zones.
pub(crate) fn built_in(zones: &[&str]) -> Vec<InstanceType> {
    let one = |family: &Family, size: &str, cores: u64| built(family, size, cores, zones);
    FAMILIES
        .iter()
        .flat_map(|family| family.6.iter().map(move |(size, cores)| one(family, size, *cores)))
        .collect()
}

fn built(family: &Family, size: &str, cores: u64, zones: &[&str]) -> InstanceType {
    let (name, category, generation, gib_each, price_each, architecture, _) = *family;
    let pods = match cores {
        0..=2 => 35,
        3..=8 => 58,
        _ => 234,
    };
    let capacity = Resources {
        cpu: MilliCpu(cores * 1000),
        memory: Bytes((cores * gib_each) << 30),
        ephemeral_storage: Bytes(20 << 30),
        pods,
        extended: std::collections::BTreeMap::new(),
    };
    let price = cores * price_each;
    let offerings = zones.iter().flat_map(|zone| {
        let offer = |capacity_type, price| Offering {
            zone: Arc::from(*zone),
            capacity_type,
            price: MicroUsdPerHour(price),
            available: true,
            remaining: None,
        };
        [offer(CapacityType::OnDemand, price), offer(CapacityType::Spot, price * spot_permille(cores) / 1000)]
    });
    let label = |key: &str, value: &str| is(key, value);
    InstanceType {
        name: Arc::from(format!("{name}.{size}")),
        requirements: vec![
            label(labels::ARCH, architecture),
            label(labels::OS, "linux"),
            label("karpenter.k8s.aws/instance-category", category),
            label("karpenter.k8s.aws/instance-family", name),
            label("karpenter.k8s.aws/instance-generation", &generation.to_string()),
            label("karpenter.k8s.aws/instance-size", size),
            label("karpenter.k8s.aws/instance-cpu", &cores.to_string()),
            label("karpenter.k8s.aws/instance-memory", &(cores * gib_each * 1024).to_string()),
        ],
        allocatable: usable(&capacity),
        capacity,
        offerings: offerings.collect(),
    }
}

fn is(key: &str, value: &str) -> Requirement {
    Requirement { key: Arc::from(key), operator: Operator::In, values: vec![Arc::from(value)] }
}

/// What the system, the kubelet and its eviction threshold leave: a fourteenth of the memory for the machine itself,
/// then by the number of pods.
fn usable(capacity: &Resources) -> Resources {
    let memory = capacity.memory.0 - capacity.memory.0 * 75 / 1000;
    let kept = (u64::from(capacity.pods) * 11 + 255 + 100) << 20;
    let millis = capacity.cpu.0;
    let first = |from: u64, to: u64, permille: u64| millis.min(to).saturating_sub(from) * permille / 1000;
    let kept_cpu =
        first(0, 1000, 60) + first(1000, 2000, 10) + first(2000, 4000, 5) + millis.saturating_sub(4000) / 400;
    Resources {
        cpu: MilliCpu(millis - kept_cpu),
        memory: Bytes(memory.saturating_sub(kept)),
        ephemeral_storage: Bytes(17 << 30),
        pods: capacity.pods,
        extended: capacity.extended.clone(),
    }
}

fn listed(entry: &SimulatedInstanceType) -> Result<InstanceType, IntakeError> {
    let mut capacity = intake::resources(&entry.capacity).map_err(|error| error.under("capacity"))?;
    if capacity.pods == 0 {
        capacity.pods = DEFAULT_PODS;
    }
    if capacity.cpu.0 == 0 || capacity.memory.0 == 0 {
        let fix = "give both, such as {cpu: \"4\", memory: 16Gi}";
        return Err(IntakeError::field("capacity", "cpu or memory is zero or missing", fix));
    }
    let mut allocatable = if entry.allocatable.is_empty() {
        capacity.clone()
    } else {
        intake::resources(&entry.allocatable).map_err(|error| error.under("allocatable"))?
    };
    if allocatable.pods == 0 {
        allocatable.pods = capacity.pods;
    }
    let mut offerings = Vec::new();
    for (at, offering) in entry.offerings.iter().enumerate() {
        let under = |error: IntakeError| error.under(&format!("offerings[{at}]"));
        let capacity_type = CapacityType::named(&offering.capacity_type).ok_or_else(|| {
            let problem = format!("{} is no capacity type", offering.capacity_type);
            under(IntakeError::field(CAPACITY_TYPE, problem, "write on-demand, spot or reserved"))
        })?;
        offerings.push(Offering {
            zone: Arc::from(offering.zone.as_str()),
            capacity_type,
            price: intake::micro_usd(&offering.price_per_hour_usd)
                .map_err(|error| under(error.under("pricePerHourUsd")))?,
            available: offering.available,
            remaining: None,
        });
    }
    let mut requirements: Vec<Requirement> = entry.labels.iter().map(|(key, value)| is(key, value)).collect();
    for (key, value) in [(labels::ARCH, "amd64"), (labels::OS, "linux")] {
        if !entry.labels.contains_key(key) {
            requirements.push(is(key, value));
        }
    }
    Ok(InstanceType { name: Arc::from(entry.name.as_str()), requirements, capacity, allocatable, offerings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_has_what_old_manifests_name() {
        let types = built_in(&["cn-north-1a"]);
        let small = types.iter().find(|entry| &*entry.name == "t3a.large").unwrap();
        assert_eq!(small.capacity.cpu, MilliCpu(2000));
        assert_eq!(small.offerings.len(), 2);
        assert!(small.offerings[1].price < small.offerings[0].price);
        assert!(
            small.allocatable.memory < small.capacity.memory && small.allocatable.cpu < small.capacity.cpu
        );
        let names: std::collections::BTreeSet<_> = types.iter().map(|entry| &entry.name).collect();
        assert_eq!(names.len(), types.len());
    }
}
