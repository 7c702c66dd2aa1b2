//! From a recording to Kubernetes: a pool for each shape of machine, a manifest for each pod.
//!
//! Owns the shaping rules. Pods are bare and marked not safe to evict: a recorded run is never cut off by moving
//! it, so a machine is given back only when nothing is left on it.

use super::{MachineShape, TracePod};
use crate::scenario::{PoolSpec, PriceSpec, ProviderSpec, ShapingSpec, TemplateSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One pool for each shape of machine, as large at most as the recording's number of them.
pub fn pools_of(machines: &BTreeMap<MachineShape, u32>, shaping: &ShapingSpec) -> Vec<PoolSpec> {
    let mut priced: Vec<(f64, &MachineShape, u32)> =
        machines.iter().map(|(shape, count)| (price(shape, &shaping.price), shape, *count)).collect();
    priced.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let dearest = priced.len();
    let pool = |(rank, (price, shape, count)): (usize, (f64, &MachineShape, u32))| PoolSpec {
        name: pool_name(shape),
        min: 0,
        max: count,
        template: template(shape, shaping),
        boot_seconds: shaping.boot_seconds,
        price_per_hour_usd: Some(price),
        // The cheapest machine that fits is tried first, so pods without a GPU leave the GPUs alone.
        priority: i32::try_from(dearest - rank).unwrap_or(i32::MAX),
        provider: ProviderSpec::Simulated,
    };
    priced.into_iter().enumerate().map(pool).collect()
}

fn price(shape: &MachineShape, prices: &PriceSpec) -> f64 {
    let gpu = prices.models.get(&shape.model).copied().unwrap_or(prices.gpu);
    let total = shape.cpu_milli as f64 / 1000.0 * prices.cpu
        + shape.memory_mib as f64 / 1024.0 * prices.gib
        + shape.gpus as f64 * gpu;
    (total * 10_000.0).round() / 10_000.0
}

fn pool_name(shape: &MachineShape) -> String {
    let kind = if shape.gpus == 0 { "cpu".to_owned() } else { shape.model.to_ascii_lowercase() };
    let kind: String = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let gpus = if shape.gpus == 0 { String::new() } else { format!("-{}gpu", shape.gpus) };
    format!("{kind}-{}c-{}g{gpus}", shape.cpu_milli / 1000, shape.memory_mib / 1024)
}

fn template(shape: &MachineShape, shaping: &ShapingSpec) -> TemplateSpec {
    let mut allocatable = BTreeMap::from([
        ("cpu".to_owned(), format!("{}m", shape.cpu_milli)),
        ("memory".to_owned(), format!("{}Mi", shape.memory_mib)),
        ("pods".to_owned(), shaping.pods_per_machine.to_string()),
    ]);
    let mut labels = BTreeMap::new();
    if shape.gpus > 0 {
        allocatable.insert(shaping.gpu_resource.clone(), shape.gpus.to_string());
        labels.insert(shaping.gpu_model_label.clone(), shape.model.clone());
    }
    TemplateSpec { labels, taints: Vec::new(), allocatable }
}

/// The manifest of one recorded pod.
pub fn pod_manifest(pod: &TracePod, namespace: &str, shaping: &ShapingSpec) -> Value {
    let mut requests = serde_json::Map::new();
    requests.insert("cpu".to_owned(), json!(format!("{}m", pod.cpu_milli)));
    requests.insert("memory".to_owned(), json!(format!("{}Mi", pod.memory_mib)));
    if pod.gpus > 0 {
        requests.insert(shaping.gpu_resource.clone(), json!(pod.gpus.to_string()));
    }
    let mut annotations = serde_json::Map::new();
    annotations.insert(api::annotations::SAFE_TO_EVICT.to_owned(), json!("false"));
    if let Some(runs) = pod.runs {
        annotations.insert(api::annotations::RUN_SECONDS.to_owned(), json!(runs.to_string()));
    }
    let mut spec = json!({
        "restartPolicy": "Never",
        "containers": [{
            "name": "run",
            "image": "recorded",
            "resources": {"requests": requests.clone(), "limits": requests},
        }],
    });
    if !pod.gpu_models.is_empty() {
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{
                "key": shaping.gpu_model_label, "operator": "In", "values": pod.gpu_models,
            }]}],
        }}});
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": namespace, "annotations": annotations},
        "spec": spec,
    })
}
