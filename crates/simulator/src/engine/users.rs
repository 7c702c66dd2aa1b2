//! The users of the simulated cluster and the troubles of its machines, at their moments.
//!
//! Owns carrying out the timeline and drawing which node is hit when. Users write to the store itself: their writes
//! are the input of the experiment and must not be lost to its faults.

use super::names::Kinds;
use super::phases::{HitLog, Phase};
use crate::random_source::{stream, wait_seconds};
use crate::scenario::{FaultKind, FaultSpec, ShapingSpec};
use crate::trace::{TracePod, pod_manifest};
use crate::workload::{TimedWrite, UserWrite};
use api::annotations::INTENT;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use sandbox::cluster::cloud::{FAULT, KUBELET};
use sandbox::store::resource::{DEPLOYMENTS, NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, SIMULATED_MACHINES};
use sandbox::store::{ApiError, DeleteOptions, Part, ResourceName, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Autoscalers with portraits, which tell of pods to come.
const AUTOSCALERS: (&str, &str) = ("autoscaling.kapacitystack.io", "intelligenthorizontalpodautoscalers");

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
            UserWrite::Tell { namespace, name, outlook } => tell(&store, start, &namespace, &name, &outlook),
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

fn tell(
    store: &Store,
    start: Timestamp,
    namespace: &str,
    name: &str,
    outlook: &[(u64, u32)],
) -> Result<(), String> {
    let point = |(second, replicas): &(u64, u32)| json!({"time": moment(start, *second).to_string(), "replicas": replicas, "provider": "Dynamic-Predictive"});
    let points: Vec<Value> = outlook.iter().map(point).collect();
    let told = store.modify(
        ResourceName::new(AUTOSCALERS.0, AUTOSCALERS.1),
        namespace,
        name,
        Part::Status,
        |object| {
            object["status"]["outlook"] = json!(points);
            true
        },
    );
    told.map(drop).map_err(|error| error.to_string())
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

/// What events lie in wait for: phases that are short, and met by chance too seldom.
const AIMS: [Phase; 6] =
    [Phase::Marking, Phase::Draining, Phase::Draining, Phase::Undoing, Phase::Undoing, Phase::Releasing];
/// What a budget has to meet to make a drain fail.
const AIMS_OF_BUDGETS: [Phase; 2] = [Phase::Marking, Phase::Draining];
/// How long an event lies in wait before it comes all the same.
const LONGEST_WAIT_SECONDS: u64 = 8 * 3600;

/// The moments of one fault's events.
pub(super) struct Events<'a> {
    pub(super) clock: Clock,
    pub(super) window: Window,
    pub(super) fault: &'a FaultSpec,
    pub(super) hits: &'a HitLog,
    /// The second of the last event.
    pub(super) second: u64,
}

impl<'a> Events<'a> {
    pub(super) fn new(clock: Clock, window: Window, fault: &'a FaultSpec, hits: &'a HitLog) -> Self {
        Self { clock, window, fault, hits, second: fault.from.seconds }
    }

    pub(super) fn until(&self) -> u64 {
        self.fault.until.map_or(self.window.end, |until| until.seconds.min(self.window.end))
    }

    /// Waits for the next event; false at the window's end.
    pub(super) async fn next(&mut self, rng: &mut ChaCha8Rng) -> bool {
        self.second += wait_seconds(rng, self.fault.every.seconds);
        if self.second >= self.until() {
            return false;
        }
        self.clock.sleep_until(moment(self.window.start, self.second)).await;
        if self.fault.aimed && rng.random_bool(0.8) {
            let aims = if self.fault.kind == FaultKind::Blockade { &AIMS_OF_BUDGETS[..] } else { &AIMS[..] };
            let aim = aims[rng.random_range(0..aims.len())];
            let end = self.until().min(self.second + LONGEST_WAIT_SECONDS);
            let late = self.clock.sleep_until(moment(self.window.start, end));
            tokio::select! {
                biased;
                () = self.hits.meet(aim) => {}
                () = late => {}
            }
            let passed = self.clock.now().duration_since(self.window.start).as_secs();
            self.second = u64::try_from(passed).unwrap_or(self.second);
        }
        self.second < self.until()
    }
}

/// One fault of running machines or of users, from its window's beginning to its end.
pub(super) async fn trouble(store: Store, window: Window, fault: FaultSpec, hits: HitLog) {
    let clock = store.clock();
    let start = window.start;
    let mut rng = stream(window.seed, &format!("trouble/{}", window.place));
    let mut events = Events::new(clock, window, &fault, &hits);
    while events.next(&mut rng).await {
        if fault.kind == FaultKind::Blockade {
            hits.hit(fault.kind);
            let name = format!("blockade-{}", window.place);
            let _ = store.create(POD_DISRUPTION_BUDGETS, "default", blockade(&name));
            events.second += fault.lasts.seconds;
            clock.sleep_until(moment(start, events.second)).await;
            let _ = store.delete(POD_DISRUPTION_BUDGETS, "default", &name, &DeleteOptions::default());
            continue;
        }
        let marked_first = fault.aimed && rng.random_bool(0.7);
        let Some(node) = some_node(&store, &mut rng, fault.pool.as_deref(), marked_first) else { continue };
        hits.hit(fault.kind);
        if fault.kind == FaultKind::Vanishes {
            let _ = annotate(&store, true, &node, Some("vanishes-after:0"));
            continue;
        }
        let _ = annotate(&store, false, &node, Some("dead"));
        events.second += fault.lasts.seconds;
        clock.sleep_until(moment(start, events.second)).await;
        // The node may be gone by now; then there is nothing to heal.
        let _ = annotate(&store, false, &node, None);
    }
}

fn blockade(name: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"maxUnavailable": 0, "selector": {}},
    })
}

/// A node that is well; one of those that the controller has marked, where there are any and they are wanted first.
fn some_node(store: &Store, rng: &mut ChaCha8Rng, pool: Option<&str>, marked_first: bool) -> Option<String> {
    let (marked, others): (Vec<_>, Vec<_>) = store
        .list(NODES)
        .iter()
        .filter(|node| {
            let label = node.label(api::labels::POOL);
            pool.map_or(label.is_some(), |pool| label == Some(pool)) && node.annotation(KUBELET).is_none()
        })
        .map(|node| (node.name().to_owned(), node.annotation(INTENT).is_some()))
        .partition(|(_, marked)| *marked);
    let nodes = if marked_first && !marked.is_empty() { marked } else { [marked, others].concat() };
    if nodes.is_empty() {
        return None;
    }
    let at = rng.random_range(0..nodes.len());
    nodes.into_iter().nth(at).map(|(name, _)| name)
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
