//! The users of the simulated cluster and the troubles of its machines, at their moments.
//!
//! Owns carrying out the timeline and drawing which node is hit when. Users write to the store itself: their writes
//! are the input of the experiment and must not be lost to its faults.

use super::names::Kinds;
use super::phases::HitLog;
use crate::random_source::{stream, wait_seconds};
use crate::scenario::{FaultKind, FaultSpec, ShapingSpec};
use crate::trace::{TracePod, pod_manifest};
use crate::workload::{TimedWrite, UserWrite};
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use sandbox::cluster::cloud::{FAULT, KUBELET};
use sandbox::store::resource::{DEPLOYMENTS, NAMESPACES, NODES, SIMULATED_MACHINES};
use sandbox::store::{ApiError, Part, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Pods of a trace and how they are written down.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) pods: Arc<Vec<TracePod>>,
    pub(super) namespace: String,
    pub(super) shaping: ShapingSpec,
}

/// Most refusals that are kept.
const MOST_REFUSED: usize = 100;

/// Carries out every write at its second; `refused` gets what the API did not take.
pub(super) async fn write_all(
    store: Store,
    start: Timestamp,
    writes: Vec<TimedWrite>,
    recorded: Option<Recorded>,
    refused: Arc<Mutex<Vec<String>>>,
) {
    let clock = store.clock();
    let kinds = Kinds::of_store(&store);
    let mut namespaces = BTreeSet::new();
    for TimedWrite { second, write } in writes {
        clock.sleep_until(moment(start, second)).await;
        let result = match write {
            UserWrite::Create(object) => create(&store, &kinds, &mut namespaces, object),
            UserWrite::Scale { namespace, name, replicas } => {
                let resource = Kinds::scaled(&store, &namespace, &name).unwrap_or(DEPLOYMENTS);
                store
                    .modify(resource, &namespace, &name, Part::Main, |object| {
                        object["spec"]["replicas"] = json!(replicas);
                        true
                    })
                    .map(drop)
                    .map_err(|error| error.to_string())
            }
            UserWrite::TracePod(at) => match recorded.as_ref().and_then(|r| Some((r, r.pods.get(at)?))) {
                Some((recorded, pod)) => {
                    let manifest = pod_manifest(pod, &recorded.namespace, &recorded.shaping);
                    create(&store, &kinds, &mut namespaces, manifest)
                }
                None => Ok(()),
            },
        };
        if let Err(problem) = result {
            let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() < MOST_REFUSED {
                refused.push(problem);
            }
        }
    }
}

fn create(
    store: &Store,
    kinds: &Kinds,
    namespaces: &mut BTreeSet<String>,
    object: Value,
) -> Result<(), String> {
    let (resource, namespaced) = kinds.of(&object)?;
    let namespace = if namespaced {
        object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned()
    } else {
        String::new()
    };
    if namespaced && namespaces.insert(namespace.clone()) {
        match store.create(NAMESPACES, "", json!({"metadata": {"name": namespace}})) {
            Err(error) if !error.is_already_exists() => return Err(error.to_string()),
            _ => {}
        }
    }
    store.create(resource, &namespace, object).map(drop).map_err(|error: ApiError| error.to_string())
}

pub(super) fn moment(start: Timestamp, second: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(second).unwrap_or(i64::MAX));
    start.saturating_add(seconds).unwrap_or(Timestamp::MAX)
}

/// When a fault may happen and what it draws from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) start: Timestamp,
    pub(super) seed: u64,
    /// The fault's place in the scenario.
    pub(super) place: usize,
    /// The run's end, in seconds from its start.
    pub(super) end: u64,
}

/// One fault of running machines, from its window's beginning to its end.
pub(super) async fn trouble(store: Store, window: Window, fault: FaultSpec, hits: HitLog) {
    let clock = store.clock();
    let start = window.start;
    let mut rng = stream(window.seed, &format!("trouble/{}", window.place));
    let until = fault.until.map_or(window.end, |until| until.seconds.min(window.end));
    let mut second = fault.from.seconds;
    loop {
        second += wait_seconds(&mut rng, fault.every.seconds);
        if second >= until {
            return;
        }
        clock.sleep_until(moment(start, second)).await;
        let Some(node) = some_node(&store, &mut rng, fault.pool.as_deref()) else { continue };
        hits.hit(fault.kind);
        if fault.kind == FaultKind::Vanishes {
            let _ = annotate(&store, true, &node, Some("vanishes-after:0"));
            continue;
        }
        let _ = annotate(&store, false, &node, Some("dead"));
        second += fault.lasts.seconds;
        clock.sleep_until(moment(start, second)).await;
        // The node may be gone by now; then there is nothing to heal.
        let _ = annotate(&store, false, &node, None);
    }
}

fn some_node(store: &Store, rng: &mut ChaCha8Rng, pool: Option<&str>) -> Option<String> {
    let nodes: Vec<String> = store
        .list(NODES)
        .iter()
        .filter(|node| {
            let label = node.label(api::labels::POOL);
            pool.map_or(label.is_some(), |pool| label == Some(pool)) && node.annotation(KUBELET).is_none()
        })
        .map(|node| node.name().to_owned())
        .collect();
    if nodes.is_empty() {
        return None;
    }
    let at = rng.random_range(0..nodes.len());
    nodes.into_iter().nth(at)
}

/// Sets or takes off the annotation that a simulated machine or kubelet obeys. Machine and node share a name.
fn annotate(store: &Store, machine: bool, name: &str, value: Option<&str>) -> Result<(), ApiError> {
    let (resource, key) = if machine { (SIMULATED_MACHINES, FAULT) } else { (NODES, KUBELET) };
    store
        .modify(resource, "", name, Part::Main, |object| {
            match value {
                Some(value) => object["metadata"]["annotations"][key] = json!(value),
                None => {
                    if let Some(map) = object["metadata"]["annotations"].as_object_mut() {
                        map.remove(key);
                    }
                }
            }
            true
        })
        .map(drop)
}
