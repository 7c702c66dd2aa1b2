//! Machine types of EC2 as far as planning needs them.
//!
//! Owns the reading of what EC2 says of a type, and the labels that its nodes have.

use aws_sdk_ec2::types::{GpuDeviceInfo, InstanceTypeInfo};
use std::collections::BTreeMap;

const GROUP: &str = "karpenter.k8s.aws";

/// Devices of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    pub(super) name: String,
    pub(super) manufacturer: String,
    pub(super) count: u64,
    /// Of each.
    pub(super) memory_mib: u64,
}

/// A machine type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) architecture: &'static str,
    pub(super) cores: u64,
    pub(super) memory_mib: u64,
    pub(super) hypervisor: String,
    pub(super) is_flexible: bool,
    pub(super) is_metal: bool,
    pub(super) sells_spot: bool,
    pub(super) sells_on_demand: bool,
    pub(super) manufacturer: String,
    pub(super) clock_mhz: Option<u64>,
    pub(super) encrypts_in_transit: bool,
    /// Gigabytes of disks of its own.
    pub(super) local_disk_gb: u64,
    pub(super) ebs_mbps: Option<u64>,
    pub(super) network_mbps: Option<u64>,
    /// On the first card.
    pub(super) interfaces: u64,
    pub(super) addresses_each: u64,
    pub(super) efas: u64,
    pub(super) gpu: Option<Devices>,
    /// Inferentia and Trainium, with their cores in all.
    pub(super) neuron: Option<(Devices, u64)>,
}

fn count(number: Option<i32>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn small(text: &str) -> String {
    text.to_lowercase().replace(' ', "-")
}

/// `None` for what no node is made of.
pub(super) fn row(found: InstanceTypeInfo) -> Option<Row> {
    let name = found.instance_type?.as_str().to_owned();
    let processor = found.processor_info?;
    let architectures = processor.supported_architectures.unwrap_or_default();
    let runs = |wanted: &str| architectures.iter().any(|one| one.as_str() == wanted);
    let architecture = match (runs("x86_64"), runs("arm64")) {
        (true, _) => "amd64",
        (false, true) => "arm64",
        (false, false) => return None,
    };
    let network = found.network_info;
    let cards = network.as_ref().and_then(|network| network.network_cards.clone()).unwrap_or_default();
    let default_card = network.as_ref().and_then(|network| network.default_network_card_index).unwrap_or(0);
    let card = cards.iter().find(|card| card.network_card_index == Some(default_card));
    let baseline: f64 = cards.iter().filter_map(|card| card.baseline_bandwidth_in_gbps).sum();
    let classes = found.supported_usage_classes.unwrap_or_default();
    let sells = |class: &str| classes.is_empty() || classes.iter().any(|one| one.as_str() == class);
    let neurons = found.neuron_info.and_then(|info| info.neuron_devices).unwrap_or_default();
    let neuron = neurons.into_iter().next().map(|device| {
        let devices = Devices {
            name: small(&device.name.unwrap_or_default()),
            manufacturer: "aws".to_owned(),
            count: count(device.count),
            memory_mib: 0,
        };
        let cores = device.core_info.map_or(0, |cores| count(cores.count)) * devices.count;
        (devices, cores)
    });
    let gpus = found.gpu_info.and_then(|info| info.gpus).unwrap_or_default();
    Some(Row {
        is_flexible: name.split('.').next().is_some_and(|family| family.ends_with("-flex")),
        name,
        architecture,
        cores: u64::try_from(found.v_cpu_info?.default_v_cpus?).ok()?,
        memory_mib: u64::try_from(found.memory_info?.size_in_mib?).ok()?,
        hypervisor: found.hypervisor.map(|one| one.as_str().to_owned()).unwrap_or_default(),
        is_metal: found.bare_metal.unwrap_or(false),
        sells_spot: sells("spot"),
        sells_on_demand: sells("on-demand"),
        manufacturer: small(&processor.manufacturer.unwrap_or_default()),
        clock_mhz: processor.sustained_clock_speed_in_ghz.map(|ghz| (ghz * 1000.0).round() as u64),
        encrypts_in_transit: network
            .as_ref()
            .and_then(|network| network.encryption_in_transit_supported)
            .unwrap_or(false),
        local_disk_gb: found
            .instance_storage_info
            .filter(|storage| {
                storage.nvme_support.as_ref().is_some_and(|nvme| nvme.as_str() != "unsupported")
            })
            .and_then(|storage| u64::try_from(storage.total_size_in_gb?).ok())
            .unwrap_or(0),
        ebs_mbps: found
            .ebs_info
            .and_then(|ebs| ebs.ebs_optimized_info)
            .map(|info| count(info.maximum_bandwidth_in_mbps)),
        network_mbps: (baseline > 0.0).then_some((baseline * 1000.0) as u64),
        interfaces: card
            .and_then(|card| card.maximum_network_interfaces)
            .or(network.as_ref().and_then(|network| network.maximum_network_interfaces))
            .map_or(0, |number| count(Some(number))),
        addresses_each: count(network.as_ref().and_then(|network| network.ipv4_addresses_per_interface)),
        efas: network.and_then(|network| network.efa_info).map_or(0, |efa| count(efa.maximum_efa_interfaces)),
        gpu: gpus.into_iter().next().map(gpu),
        neuron,
    })
}

fn gpu(found: GpuDeviceInfo) -> Devices {
    Devices {
        name: small(&found.name.unwrap_or_default()),
        manufacturer: small(&found.manufacturer.unwrap_or_default()),
        count: count(found.count),
        memory_mib: found.memory_info.map_or(0, |memory| count(memory.size_in_mib)),
    }
}

impl Row {
    /// Addresses that the VPC's plug-in has for pods.
    pub(super) fn pod_addresses(&self, reserved_interfaces: u64) -> u64 {
        let usable = self.interfaces.saturating_sub(reserved_interfaces);
        usable * self.addresses_each.saturating_sub(1) + 2
    }

    /// What its nodes are labelled with.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                labels.insert(format!("{GROUP}/instance-{key}"), value);
            }
        };
        let (family, size) = self.name.split_once('.').unwrap_or((&self.name, ""));
        let category: String = family.chars().take_while(char::is_ascii_alphabetic).collect();
        let generation: String = family
            .chars()
            .skip_while(|letter| !letter.is_ascii_digit())
            .take_while(char::is_ascii_digit)
            .collect();
        // u-6tb1, hpc7g: letters before the first digit.
        put("category", category);
        put("family", family.to_owned());
        put("generation", generation);
        put("size", size.to_owned());
        put("cpu", self.cores.to_string());
        put("memory", self.memory_mib.to_string());
        put("hypervisor", self.hypervisor.clone());
        put("encryption-in-transit-supported", self.encrypts_in_transit.to_string());
        put("cpu-manufacturer", self.manufacturer.clone());
        put("capability-flex", self.is_flexible.to_string());
        put("cpu-sustained-clock-speed-mhz", text(self.clock_mhz));
        put("ebs-bandwidth", text(self.ebs_mbps));
        put("network-bandwidth", text(self.network_mbps));
        put("local-nvme", text(Some(self.local_disk_gb).filter(|size| *size > 0)));
        if let Some(gpu) = &self.gpu {
            put("gpu-name", gpu.name.clone());
            put("gpu-manufacturer", gpu.manufacturer.clone());
            put("gpu-count", gpu.count.to_string());
            put("gpu-memory", gpu.memory_mib.to_string());
        }
        if let Some((devices, _)) = &self.neuron {
            put("accelerator-name", devices.name.clone());
            put("accelerator-manufacturer", devices.manufacturer.clone());
            put("accelerator-count", devices.count.to_string());
        }
        put("tenancy", "default".to_owned());
        labels
    }
}

fn text(number: Option<u64>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plain(name: &str, cores: u64, memory_mib: u64) -> Row {
        Row {
            name: name.to_owned(),
            architecture: "amd64",
            cores,
            memory_mib,
            sells_spot: true,
            sells_on_demand: true,
            interfaces: 3,
            addresses_each: 10,
            ..Row::default()
        }
    }

    #[test]
    fn names_are_taken_apart() {
        let labels = plain("m7i-flex.2xlarge", 8, 32 << 10).labels();
        let label = |key: &str| labels.get(&format!("{GROUP}/instance-{key}")).map(String::as_str);
        assert_eq!(label("category"), Some("m"));
        assert_eq!((label("family"), label("generation")), (Some("m7i-flex"), Some("7")));
        assert_eq!((label("size"), label("memory")), (Some("2xlarge"), Some("32768")));
        assert_eq!(label("gpu-name"), None);
        assert_eq!(plain("m5.large", 2, 8192).pod_addresses(0), 29);
        assert_eq!(plain("m5.large", 2, 8192).pod_addresses(1), 20);
    }
}
