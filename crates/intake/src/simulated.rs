//! Simulated pools and machines into the model.

use crate::pod::effect;
use crate::selector::labels;
use crate::{IntakeError, micro_usd, quantity};
use api::labels as names;
use api::simulated::{MachinePhase, SimulatedMachine, SimulatedPool, SimulatedPoolSpec};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use model::{
    Machine, MachineId, MachineState, NodeName, NodeTemplate, Pool, PoolId, PoolOptions, Profile,
    ProviderKind, Taint,
};
use std::sync::Arc;

/// Pods that a node takes where its template does not say.
const DEFAULT_PODS: u32 = 110;
/// A node is named after its pool, a dash and a number of up to ten digits, and its name is the value of a label too.
const LONGEST_NAME: usize = 63 - 11;

/// Reads a simulated pool. The error names the pool and the field.
pub fn simulated_pool(pool: &SimulatedPool) -> Result<Pool, IntakeError> {
    let name = pool.name_any();
    let at = |error: IntakeError| error.under("spec").of("SimulatedPool", "", &name);
    if name.len() > LONGEST_NAME {
        let problem = format!("the name has {} characters, too many for names of nodes", name.len());
        let error = IntakeError::field("name", problem, format!("use at most {LONGEST_NAME}"));
        return Err(error.under("metadata").of("SimulatedPool", "", &name));
    }
    let spec = &pool.spec;
    let (min, max, target) =
        (count("min", spec.min), count("max", spec.max), count("replicas", spec.replicas));
    let (min, max, target) = (min.map_err(at)?, max.map_err(at)?, target.map_err(at)?);
    if min > max {
        let problem = format!("min is {min} and max is {max}");
        return Err(at(IntakeError::field("min", problem, "set min to max or less")));
    }
    Ok(Pool {
        id: pool_id(&name),
        name: Arc::from(name.as_str()),
        provider: ProviderKind::Simulated,
        profile: Profile::ClusterAutoscaler,
        min,
        max,
        target,
        template: Some(template(&name, spec).map_err(at)?),
        priority: spec.priority,
        price: spec
            .price_per_hour_usd
            .as_deref()
            .map(micro_usd)
            .transpose()
            .map_err(|error| at(error.under("pricePerHourUsd")))?
            .unwrap_or_default(),
        options: options(spec),
        frozen: None,
        kind: model::PoolKind::default(),
    })
}

/// Reads a machine of a simulated pool.
pub fn simulated_machine(machine: &SimulatedMachine) -> Machine {
    let status = machine.status.clone().unwrap_or_default();
    let state = match status.phase {
        _ if machine.metadata.deletion_timestamp.is_some() => MachineState::Deleting,
        MachinePhase::Creating => MachineState::Creating,
        MachinePhase::Running => MachineState::Running,
        MachinePhase::Deleting => MachineState::Deleting,
        MachinePhase::Failed => MachineState::Failed {
            code: status.code.unwrap_or_else(|| "Unknown".into()).into(),
            message: status.message.unwrap_or_default().into(),
        },
    };
    Machine {
        id: MachineId::from(machine.spec.provider_id.as_str()),
        pool: pool_id(&machine.spec.pool),
        state,
        created_at: machine.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0),
        node: status.node_name.map(NodeName::from),
        aliases: Vec::new(),
        direct: None,
    }
}

fn pool_id(name: &str) -> PoolId {
    PoolId::from(format!("simulated/{name}"))
}

fn count(field: &str, value: i32) -> Result<u32, IntakeError> {
    u32::try_from(value)
        .map_err(|_| IntakeError::field(field, format!("{value} is negative"), "set it to 0 or more"))
}

fn template(name: &str, spec: &SimulatedPoolSpec) -> Result<NodeTemplate, IntakeError> {
    let mut allocatable = quantity::resources(&spec.template.allocatable)
        .map_err(|error| error.under("template.allocatable"))?;
    if allocatable.pods == 0 {
        allocatable.pods = DEFAULT_PODS;
    }
    if allocatable.cpu.0 == 0 || allocatable.memory.0 == 0 {
        return Err(IntakeError::field(
            "template.allocatable",
            "cpu or memory is zero or missing",
            "give both, such as {cpu: \"4\", memory: 16Gi}",
        ));
    }
    let taints = spec
        .template
        .taints
        .iter()
        .enumerate()
        .map(|(i, t)| {
            Ok(Taint {
                key: t.key.as_str().into(),
                value: t.value.as_str().into(),
                effect: effect(&t.effect).map_err(|error| error.under(&format!("template.taints[{i}]")))?,
            })
        })
        .collect::<Result<Vec<_>, IntakeError>>()?;
    let mut labels = labels(Some(&spec.template.labels));
    labels.insert(names::POOL.into(), name.into());
    labels.entry(names::OS.into()).or_insert_with(|| "linux".into());
    labels.entry(names::ARCH.into()).or_insert_with(|| "amd64".into());
    Ok(NodeTemplate { labels, taints, allocatable, fittings: None })
}

fn options(spec: &SimulatedPoolSpec) -> PoolOptions {
    let o = &spec.options;
    PoolOptions {
        utilization_threshold_percent: o.utilization_threshold_percent.and_then(|p| u32::try_from(p).ok()),
        unneeded_time: o.unneeded_seconds.map(SignedDuration::from_secs),
        unready_time: o.unready_seconds.map(SignedDuration::from_secs),
        max_provision_time: o.max_provision_seconds.map(SignedDuration::from_secs),
        ..PoolOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_pools_name_pool_and_field() {
        let read = |spec: &str| {
            let yaml = format!("metadata: {{name: a}}\nspec: {spec}");
            simulated_pool(&serde_saphyr::from_str::<SimulatedPool>(&yaml).unwrap())
        };
        let ok = "{min: 1, max: 3, template: {allocatable: {cpu: 4, memory: 8Gi}}}";
        let pool = read(ok).unwrap();
        assert_eq!((pool.min, pool.max, pool.id.as_str()), (1, 3, "simulated/a"));
        let error = read("{min: 4, max: 3, template: {allocatable: {cpu: 4, memory: 8Gi}}}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "SimulatedPool a: spec.min: min is 4 and max is 3; set min to max or less"
        );
        assert!(read("{min: -1, max: 3, template: {allocatable: {cpu: 4, memory: 8Gi}}}").is_err());
        assert!(read("{max: 3, template: {allocatable: {cpu: -4, memory: 8Gi}}}").is_err());
        let long = "a".repeat(LONGEST_NAME + 1);
        let pool = SimulatedPool::new(&long, SimulatedPoolSpec { max: 1, ..SimulatedPoolSpec::default() });
        let error = simulated_pool(&pool).unwrap_err().to_string();
        assert!(error.contains("metadata.name: the name has 53 characters"), "{error}");
    }
}
