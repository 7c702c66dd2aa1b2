//! What pods can use of a machine: its memory as the system sees it, less what kubelet and system keep.
//!
//! Owns the reading of the class' kubelet settings, and the shares that apply where they say nothing.

use super::images::Family;
use super::rows::Row;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{Bytes, MilliCpu, ResourceName, Resources};
use serde_json::{Map, Value};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Pods where neither the class nor the network plug-in's addresses bound them.
const USUAL_PODS: u64 = 110;
/// Memory that arm64's firmware keeps.
const ARM_MIB: u64 = 64;
const EVICTION_MIB: u64 = 100;
const KEPT_DISK: u64 = GIB;
/// The disk of a class that names none, in gibibytes.
const USUAL_DISK_GIB: u64 = 20;

/// What the settings of the program say for all classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Thousandths of the memory that the hypervisor and firmware are taken to keep.
    pub(super) memory_overhead_permille: u64,
    pub(super) reserved_interfaces: u64,
}

/// What a class says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kubelet {
    max_pods: Option<u64>,
    pods_per_core: Option<u64>,
    kube_reserved: Option<Resources>,
    system_reserved: Resources,
    eviction_hard: Option<Map<String, Value>>,
}

impl Kubelet {
    /// Reads the class' field; the error names what cannot be read.
    pub(super) fn read(field: Option<&Map<String, Value>>) -> Result<Self, String> {
        let Some(field) = field else { return Ok(Self::default()) };
        let number = |key: &str| match field.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| format!("spec.kubelet.{key} is {value}; give a whole number")),
        };
        let amounts = |key: &str| match field.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let unreadable = |why: String| format!("spec.kubelet.{key}: {why}");
                let list =
                    serde_json::from_value(value.clone()).map_err(|why| unreadable(why.to_string()))?;
                intake::resources(&list).map(Some).map_err(|why| unreadable(why.to_string()))
            }
        };
        let eviction_hard = match field.get("evictionHard") {
            None | Some(Value::Null) => None,
            Some(Value::Object(list)) => Some(list.clone()),
            Some(other) => return Err(format!("spec.kubelet.evictionHard is {other}; give an object")),
        };
        Ok(Self {
            max_pods: number("maxPods")?,
            pods_per_core: number("podsPerCore")?.filter(|pods| *pods > 0),
            kube_reserved: amounts("kubeReserved")?,
            system_reserved: amounts("systemReserved")?.unwrap_or_default(),
            eviction_hard,
        })
    }

    /// Pods of a machine of a type.
    pub(super) fn pods(&self, row: &Row, family: Family, shares: Shares) -> u64 {
        let by_network = || match family {
            Family::Custom => USUAL_PODS,
            _ => row.pod_addresses(shares.reserved_interfaces),
        };
        let most = self.max_pods.unwrap_or_else(by_network);
        match self.pods_per_core {
            Some(each) if family != Family::Bottlerocket => most.min(each * row.cores),
            _ => most,
        }
    }

    /// What the kubelet starts to evict at: memory and disk.
    fn eviction(&self, memory: u64, disk: u64) -> (u64, u64) {
        let Some(list) = &self.eviction_hard else { return (EVICTION_MIB * MIB, disk / 10) };
        let read = |key: &str, of: u64, usual: u64| {
            let Some(text) = list.get(key).and_then(Value::as_str) else { return usual };
            match text.strip_suffix('%').map(str::parse::<f64>) {
                // A hundred percent means: never.
                Some(Ok(share)) if share >= 100.0 => 0,
                Some(Ok(share)) => (of as f64 * share.max(0.0) / 100.0) as u64,
                Some(Err(_)) => usual,
                None => bytes(text).unwrap_or(usual),
            }
        };
        (read("memory.available", memory, EVICTION_MIB * MIB), read("nodefs.available", disk, disk / 10))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let list = [("memory".to_owned(), Quantity(text.to_owned()))].into();
    intake::resources(&list).ok().map(|amounts| amounts.memory.0)
}

/// Bytes that the system of a machine sees of its memory, while no node of its type has told.
pub(super) fn guessed_memory(row: &Row, shares: Shares) -> u64 {
    let mib = row.memory_mib.saturating_sub(if row.architecture == "arm64" { ARM_MIB } else { 0 });
    let lost = (mib * shares.memory_overhead_permille).div_ceil(1000);
    mib.saturating_sub(lost) * MIB
}

/// What a machine has, and what of it pods can use.
pub(super) fn amounts(
    row: &Row,
    kubelet: &Kubelet,
    family: Family,
    shares: Shares,
    memory: u64,
    disk_gib: Option<u64>,
) -> (Resources, Resources) {
    let pods = kubelet.pods(row, family, shares);
    let disk = disk_gib.unwrap_or(USUAL_DISK_GIB) * GIB;
    let mut capacity = Resources {
        cpu: MilliCpu(row.cores * 1000),
        memory: Bytes(memory),
        ephemeral_storage: Bytes(disk),
        pods: u32::try_from(pods).unwrap_or(u32::MAX),
        ..Resources::default()
    };
    let mut put = |name: &str, count: u64| {
        if count > 0 {
            capacity.extended.insert(ResourceName::new(name), count);
        }
    };
    if let Some(gpu) = &row.gpu {
        match gpu.manufacturer.as_str() {
            "nvidia" => put("nvidia.com/gpu", gpu.count),
            "amd" => put("amd.com/gpu", gpu.count),
            "habana" => put("habana.ai/gaudi", gpu.count),
            _ => {}
        }
    }
    if let Some((devices, cores)) = &row.neuron {
        put("aws.amazon.com/neuron", devices.count);
        put("aws.amazon.com/neuroncore", *cores);
    }
    put("vpc.amazonaws.com/efa", row.efas);
    // The images of EKS reckon with the network's pods, whatever the class allows.
    let reckoned = match family {
        Family::Al2 | Family::Al2023 => row.pod_addresses(shares.reserved_interfaces),
        Family::Bottlerocket | Family::Custom => pods,
    };
    let usual = Resources {
        cpu: MilliCpu(reserved_cpu(row.cores)),
        memory: Bytes((11 * reckoned + 255) * MIB),
        ephemeral_storage: Bytes(KEPT_DISK),
        ..Resources::default()
    };
    let kept = kubelet.kube_reserved.as_ref().map_or(usual.clone(), |given| over(given, &usual));
    let (evict_memory, evict_disk) = kubelet.eviction(memory, disk);
    let system = &kubelet.system_reserved;
    let allocatable = Resources {
        cpu: MilliCpu(capacity.cpu.0.saturating_sub(kept.cpu.0 + system.cpu.0)),
        memory: Bytes(memory.saturating_sub(kept.memory.0 + system.memory.0 + evict_memory)),
        ephemeral_storage: Bytes(
            disk.saturating_sub(kept.ephemeral_storage.0 + system.ephemeral_storage.0 + evict_disk),
        ),
        ..capacity.clone()
    };
    (capacity, allocatable)
}

/// Amounts that are given, and the usual ones for the rest.
fn over(given: &Resources, usual: &Resources) -> Resources {
    let pick = |given: u64, usual: u64| if given > 0 { given } else { usual };
    Resources {
        cpu: MilliCpu(pick(given.cpu.0, usual.cpu.0)),
        memory: Bytes(pick(given.memory.0, usual.memory.0)),
        ephemeral_storage: Bytes(pick(given.ephemeral_storage.0, usual.ephemeral_storage.0)),
        ..Resources::default()
    }
}

/// Thousandths of a core: 6 % of the first, 1 % of the second, 0.5 % of two more, 0.25 % of the rest.
fn reserved_cpu(cores: u64) -> u64 {
    let hundredths = 6000 * cores.min(1)
        + 1000 * cores.saturating_sub(1).min(1)
        + 500 * cores.saturating_sub(2).min(2)
        + 250 * cores.saturating_sub(4);
    hundredths.div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::plain;
    use super::*;
    use serde_json::json;

    const SHARES: Shares = Shares { memory_overhead_permille: 75, reserved_interfaces: 0 };

    fn kubelet(fields: &Value) -> Kubelet {
        Kubelet::read(fields.as_object()).unwrap()
    }

    #[test]
    fn the_usual_shares_are_kept() {
        let row = plain("m5.large", 2, 8192);
        let memory = guessed_memory(&row, SHARES);
        assert_eq!(memory, 7577 * MIB);
        let (capacity, allocatable) =
            amounts(&row, &Kubelet::default(), Family::Al2023, SHARES, memory, None);
        assert_eq!((capacity.pods, allocatable.cpu.0), (29, 1930));
        assert_eq!(allocatable.memory.0, (7577 - 11 * 29 - 255 - 100) * MIB);
        assert_eq!(allocatable.ephemeral_storage.0, 17 * GIB);
    }

    #[test]
    fn the_class_decides_where_it_says_something() {
        let row = plain("m5.large", 2, 8192);
        let given = kubelet(&json!({
            "maxPods": 60,
            "kubeReserved": {"cpu": "200m", "memory": "1Gi"},
            "systemReserved": {"memory": "100Mi"},
            "evictionHard": {"memory.available": "5%", "nodefs.available": "100%"},
        }));
        let (capacity, allocatable) = amounts(&row, &given, Family::Al2, SHARES, 8000 * MIB, Some(100));
        assert_eq!((capacity.pods, allocatable.cpu.0), (60, 1800));
        assert_eq!(allocatable.memory.0, (8000 - 1024 - 100 - 400) * MIB);
        assert_eq!(allocatable.ephemeral_storage.0, 99 * GIB);
        let few = kubelet(&json!({"podsPerCore": 4}));
        assert_eq!(few.pods(&row, Family::Al2, SHARES), 8);
        assert_eq!(few.pods(&row, Family::Bottlerocket, SHARES), 29);
        let wrong = json!({"maxPods": "many"});
        assert!(Kubelet::read(wrong.as_object()).unwrap_err().contains("spec.kubelet.maxPods"));
    }
}
