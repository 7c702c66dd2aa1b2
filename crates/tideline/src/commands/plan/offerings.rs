//! A catalogue of machine types as pools that could grow.
//!
//! Owns the file's format. For now each type is one pool with the price of its cheapest available offering; to
//! choose among zones and capacity types is the packing engine's coming business.

use crate::error::CommandError;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{
    Labels, MicroUsdPerHour, NodeTemplate, Pool, PoolId, PoolOptions, Profile, ProviderKind, Requirement,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Machines that a catalogue's pool may grow to: no limit that a plan would meet.
const MOST_MACHINES: u32 = 100_000;

#[derive(Deserialize)]
struct InstanceType {
    name: String,
    allocatable: BTreeMap<String, Quantity>,
    #[serde(default)]
    requirements: Vec<Requirement>,
    offerings: Vec<Offering>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Offering {
    zone: String,
    capacity_type: String,
    price: f64,
    #[serde(default = "yes")]
    available: bool,
}

fn yes() -> bool {
    true
}

/// Reads a catalogue: a JSON list of machine types, gzip or not.
pub(super) fn read(path: &Path) -> Result<Vec<Pool>, CommandError> {
    let name = path.display().to_string();
    let mut file =
        std::fs::File::open(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })?;
    let text = intake::files::read_text(&name, &mut file)?;
    let types: Vec<InstanceType> = serde_json::from_str(&text).map_err(|error| {
        CommandError::Input(format!(
            "{name} is not a catalogue of machine types: {error}; see docs/plan.md for the format"
        ))
    })?;
    // A type that nobody sells now is no pool.
    types.iter().filter_map(|entry| pool(&name, entry).transpose()).collect()
}

fn pool(file: &str, entry: &InstanceType) -> Result<Option<Pool>, CommandError> {
    let wrong = |problem: String| CommandError::Input(format!("{file}: type {}: {problem}", entry.name));
    let prices = entry.offerings.iter().filter(|offering| offering.available);
    if let Some(bad) = prices.clone().find(|offering| !(offering.price.is_finite() && offering.price >= 0.0))
    {
        return Err(wrong(format!("the price {} is not a number of 0 or more", bad.price)));
    }
    let Some(cheapest) = prices.min_by(|a, b| a.price.total_cmp(&b.price)) else { return Ok(None) };
    let allocatable =
        intake::resources(&entry.allocatable).map_err(|error| wrong(format!("allocatable: {error}")))?;
    // Where a type may have several values of a label, the cheapest offering's stand for zone and capacity; of
    // other labels the first value does.
    let mut labels: Labels = entry
        .requirements
        .iter()
        .filter(|requirement| requirement.operator == model::Operator::In)
        .filter_map(|requirement| {
            Some((Arc::clone(&requirement.key), Arc::clone(requirement.values.first()?)))
        })
        .collect();
    labels.insert(api::labels::INSTANCE_TYPE.into(), entry.name.as_str().into());
    labels.insert(api::labels::ZONE.into(), cheapest.zone.as_str().into());
    labels.insert("karpenter.sh/capacity-type".into(), cheapest.capacity_type.as_str().into());
    // Linux pods are what is planned for; a type that also runs something else is started with Linux.
    if entry
        .requirements
        .iter()
        .any(|r| &*r.key == api::labels::OS && r.values.iter().any(|v| &**v == "linux"))
    {
        labels.insert(api::labels::OS.into(), "linux".into());
    }
    Ok(Some(Pool {
        id: PoolId::from(format!("simulated/{}", entry.name)),
        name: Arc::from(entry.name.as_str()),
        provider: ProviderKind::Simulated,
        profile: Profile::ClusterAutoscaler,
        min: 0,
        max: MOST_MACHINES,
        target: 0,
        template: Some(NodeTemplate { labels, taints: Vec::new(), allocatable, fittings: None }),
        priority: 0,
        price: MicroUsdPerHour((cheapest.price * 1_000_000.0).round() as u64),
        options: PoolOptions::default(),
        frozen: None,
        kind: model::PoolKind::default(),
    }))
}
