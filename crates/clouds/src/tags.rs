//! What tags of a group say of its nodes, in the form that Cluster Autoscaler gave them.
//!
//! Owns the reading of one taint, one resource and one option; which tags there are is the providers' business.

use model::Effect;
#[cfg(feature = "polling")]
use model::{Resources, Taint};

#[cfg(feature = "polling")]
/// The taint that a tag declares as `value:Effect`.
pub(crate) fn taint(tag: &str, key: &str, value: &str) -> Result<Taint, String> {
    use std::sync::Arc;
    let read = || {
        let (value, effect) = value.rsplit_once(':')?;
        Some(Taint { key: Arc::from(key), value: Arc::from(value.trim()), effect: effect_of(effect.trim())? })
    };
    read().ok_or_else(|| {
        format!("tag {tag} is \"{value}\"; write value:NoSchedule (or PreferNoSchedule, NoExecute)")
    })
}

/// An effect by its name in Kubernetes.
pub(crate) fn effect_of(name: &str) -> Option<Effect> {
    match name {
        "NoSchedule" => Some(Effect::NoSchedule),
        "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
        "NoExecute" => Some(Effect::NoExecute),
        _ => None,
    }
}

#[cfg(feature = "polling")]
/// Sets one resource of a node to a quantity.
pub(crate) fn set(allocatable: &mut Resources, name: &str, value: &str) -> Result<(), String> {
    use intake::quantity;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use model::ResourceName;
    use std::collections::BTreeMap;
    let one = BTreeMap::from([(name.to_owned(), Quantity(value.to_owned()))]);
    let given = quantity::resources(&one).map_err(|error| error.to_string())?;
    match name {
        "cpu" => allocatable.cpu = given.cpu,
        "memory" => allocatable.memory = given.memory,
        "ephemeral-storage" => allocatable.ephemeral_storage = given.ephemeral_storage,
        "pods" => allocatable.pods = given.pods,
        _ => {
            allocatable.extended.remove(&ResourceName::new(name));
            allocatable.extended.extend(given.extended);
        }
    }
    Ok(())
}

/// A share from 0 to 1 in per cent.
pub(crate) fn percent(value: &str) -> Option<u32> {
    let share: f64 = value.trim().parse().ok()?;
    (0.0..=1.0).contains(&share).then(|| (share * 100.0).round() as u32)
}
