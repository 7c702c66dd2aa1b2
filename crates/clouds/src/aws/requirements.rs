//! Requirements on instance types, as groups and launch templates state them, in the form in which they are asked.
//!
//! Owns the copying of one structure of the SDK into another that has the same fields.

use aws_sdk_autoscaling::types as scaling_types;
use aws_sdk_ec2::types as ec2_types;
use aws_sdk_ec2::types::InstanceRequirementsRequest;

/// A range, bound by bound.
macro_rules! range {
    ($range:expr, $to:ident) => {
        $range.as_ref().map(|range| ec2_types::$to::builder().set_min(range.min).set_max(range.max).build())
    };
}

/// A list of names that are known on both sides.
macro_rules! names {
    ($list:expr) => {
        $list.as_ref().map(|list| list.iter().map(|name| name.as_str().into()).collect())
    };
}

macro_rules! asked {
    ($from:expr) => {{
        let from = $from;
        InstanceRequirementsRequest::builder()
            .set_v_cpu_count(range!(from.v_cpu_count, VCpuCountRangeRequest))
            .set_memory_mib(range!(from.memory_mib, MemoryMiBRequest))
            .set_cpu_manufacturers(names!(from.cpu_manufacturers))
            .set_memory_gib_per_v_cpu(range!(from.memory_gib_per_v_cpu, MemoryGiBPerVCpuRequest))
            .set_excluded_instance_types(from.excluded_instance_types.clone())
            .set_instance_generations(names!(from.instance_generations))
            .set_spot_max_price_percentage_over_lowest_price(from.spot_max_price_percentage_over_lowest_price)
            .set_max_spot_price_as_percentage_of_optimal_on_demand_price(
                from.max_spot_price_as_percentage_of_optimal_on_demand_price,
            )
            .set_on_demand_max_price_percentage_over_lowest_price(
                from.on_demand_max_price_percentage_over_lowest_price,
            )
            .set_bare_metal(from.bare_metal.as_ref().map(|wish| wish.as_str().into()))
            .set_burstable_performance(from.burstable_performance.as_ref().map(|wish| wish.as_str().into()))
            .set_require_hibernate_support(from.require_hibernate_support)
            .set_network_interface_count(range!(from.network_interface_count, NetworkInterfaceCountRequest))
            .set_local_storage(from.local_storage.as_ref().map(|wish| wish.as_str().into()))
            .set_local_storage_types(names!(from.local_storage_types))
            .set_total_local_storage_gb(range!(from.total_local_storage_gb, TotalLocalStorageGbRequest))
            .set_baseline_ebs_bandwidth_mbps(range!(
                from.baseline_ebs_bandwidth_mbps,
                BaselineEbsBandwidthMbpsRequest
            ))
            .set_accelerator_types(names!(from.accelerator_types))
            .set_accelerator_count(range!(from.accelerator_count, AcceleratorCountRequest))
            .set_accelerator_manufacturers(names!(from.accelerator_manufacturers))
            .set_accelerator_names(names!(from.accelerator_names))
            .set_accelerator_total_memory_mib(range!(
                from.accelerator_total_memory_mib,
                AcceleratorTotalMemoryMiBRequest
            ))
            .set_network_bandwidth_gbps(range!(from.network_bandwidth_gbps, NetworkBandwidthGbpsRequest))
            .set_allowed_instance_types(from.allowed_instance_types.clone())
            .build()
    }};
}

/// As an override of a group states them.
pub(super) fn of_scaling(from: &scaling_types::InstanceRequirements) -> InstanceRequirementsRequest {
    asked!(from)
}

/// As a launch template states them.
pub(super) fn of_compute(from: &ec2_types::InstanceRequirements) -> InstanceRequirementsRequest {
    asked!(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_names_are_carried_over() {
        let given = scaling_types::InstanceRequirements::builder()
            .v_cpu_count(scaling_types::VCpuCountRequest::builder().min(2).max(8).build())
            .memory_mib(scaling_types::MemoryMiBRequest::builder().min(4096).build())
            .cpu_manufacturers(scaling_types::CpuManufacturer::Intel)
            .burstable_performance(scaling_types::BurstablePerformance::Excluded)
            .excluded_instance_types("m5.*")
            .build();
        let asked = of_scaling(&given);
        let cores = asked.v_cpu_count.unwrap();
        assert_eq!((cores.min, cores.max), (Some(2), Some(8)));
        assert_eq!(asked.memory_mib.unwrap().min, Some(4096));
        assert_eq!(asked.cpu_manufacturers.unwrap(), [ec2_types::CpuManufacturer::Intel]);
        assert_eq!(asked.burstable_performance, Some(ec2_types::BurstablePerformance::Excluded));
        assert_eq!(asked.excluded_instance_types.unwrap(), ["m5.*"]);
    }
}
