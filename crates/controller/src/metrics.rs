//! What is counted and measured, under names of our own, and under Cluster Autoscaler's where that is wanted.
//!
//! Counters rise as things happen. Gauges over nodes and pods are computed when somebody asks, so that a cluster
//! that nobody watches costs nothing.

use crate::trace::Counts;
use crate::wording::{cause_word, outcome_word, verb};
use jiff::{SignedDuration, Timestamp};
use model::{
    Ceilings, Cluster, Input, InputState, Ledger, MachineState, Node, Outcome, OutcomeKind, Policies,
    PoolRejection, Reason, RemovalCause, Step, Verdicts,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// Prefix of Cluster Autoscaler's metrics, which become `tideline_` for us.
const PEER: &str = "cluster_autoscaler_";

const BYTES_PER_GIB: f64 = (1u64 << 30) as f64;

type Labels = Vec<(String, String)>;
type Float = Gauge<f64, AtomicU64>;

/// All metrics of one controller.
pub(crate) struct Metrics {
    registry: Registry,
    gauges: BTreeMap<&'static str, Family<Labels, Float>>,
    pub(crate) rounds: Family<Labels, Counter>,
    pub(crate) errors: Family<Labels, Counter>,
    pub(crate) poison: Counter,
    event_to_plan: Histogram,
    decide: Histogram,
    /// What a round's time goes to.
    parts: Family<Labels, Histogram, fn() -> Histogram>,
    /// The same under Cluster Autoscaler's name and label, where that is wanted.
    functions: Family<Labels, Histogram, fn() -> Histogram>,
    pod_wait: Histogram,
    steps: Family<Labels, Counter>,
    scaled_up: Counter,
    never_joined: Counter,
    scaled_down: Family<Labels, Counter>,
    failed_scale_ups: Family<Labels, Counter>,
    evicted: Family<Labels, Counter>,
}

/// Gauges: name, help.
const GAUGES: [(&str, &str); 23] = [
    ("cluster_autoscaler_cluster_safe_to_autoscale", "1 while every input is up to date"),
    ("cluster_autoscaler_nodes_count", "Nodes by state"),
    ("cluster_autoscaler_node_groups_count", "Pools by provider"),
    ("cluster_autoscaler_unschedulable_pods_count", "Pods that the scheduler finds no node for"),
    ("cluster_autoscaler_max_nodes_count", "Ceiling on all nodes of the cluster, 0 = none"),
    ("cluster_autoscaler_cluster_cpu_current_cores", "Allocatable cores of all nodes"),
    ("cluster_autoscaler_cluster_memory_current_bytes", "Allocatable memory of all nodes"),
    ("cluster_autoscaler_cpu_limits_cores", "Cores of the whole cluster, at least and at most"),
    ("cluster_autoscaler_memory_limits_bytes", "Memory of the whole cluster, at least and at most"),
    ("cluster_autoscaler_node_group_healthiness", "0 while too many nodes of a pool are not ready"),
    ("cluster_autoscaler_node_group_min_count", "Minimum of a pool"),
    ("cluster_autoscaler_node_group_max_count", "Maximum of a pool"),
    ("cluster_autoscaler_node_group_target_count", "Size that a pool's provider is asked for"),
    ("cluster_autoscaler_node_group_backoff_status", "1 while a pool is not asked after a failure"),
    ("cluster_autoscaler_last_activity", "Unix time of the last round, scale-up and deletion"),
    ("cluster_autoscaler_unneeded_nodes_count", "Nodes that may go once their time has come"),
    ("cluster_autoscaler_unremovable_nodes_count", "Nodes that are kept, by reason"),
    ("cluster_autoscaler_pending_node_deletions", "Removals under way"),
    ("cluster_autoscaler_scale_down_in_cooldown", "1 while removals wait after an earlier change"),
    ("tideline_input_fresh", "1 while an input is up to date"),
    ("tideline_leader", "1 while this replica leads"),
    ("tideline_steps_under_way", "Steps that the executor is at or has queued"),
    ("tideline_dropped_writes", "Events and status writes dropped because their queue was full"),
];

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 22))
}

/// The names under which a metric is registered: ours, and Cluster Autoscaler's where it has one and it is wanted.
fn names(name: &str, peers: bool) -> Vec<String> {
    match name.strip_prefix(PEER) {
        Some(rest) if peers => vec![format!("tideline_{rest}"), name.to_owned()],
        Some(rest) => vec![format!("tideline_{rest}")],
        None => vec![name.to_owned()],
    }
}

/// Registers a metric under each of its names; all of them show the same values.
fn register<M>(registry: &mut Registry, peers: bool, name: &str, help: &str, metric: &M)
where
    M: prometheus_client::registry::Metric + Clone,
{
    for name in names(name, peers) {
        registry.register(name, help, metric.clone());
    }
}

impl Metrics {
    /// `peers`: metrics that Cluster Autoscaler has appear under its names, too.
    pub(crate) fn new(peers: bool, spans: Counts) -> Self {
        let mut registry = Registry::default();
        let gauges = GAUGES
            .iter()
            .map(|(name, help)| {
                let family = Family::<Labels, Float>::default();
                register(&mut registry, peers, name, help, &family);
                (*name, family)
            })
            .collect();
        let metrics = Self {
            registry: Registry::default(),
            gauges,
            rounds: Family::default(),
            errors: Family::default(),
            poison: Counter::default(),
            event_to_plan: latency(),
            decide: latency(),
            parts: Family::new_with_constructor(latency),
            functions: Family::new_with_constructor(latency),
            pod_wait: latency(),
            steps: Family::default(),
            scaled_up: Counter::default(),
            never_joined: Counter::default(),
            scaled_down: Family::default(),
            failed_scale_ups: Family::default(),
            evicted: Family::default(),
        };
        metrics.register(&mut registry, peers);
        registry.register("tideline_spans_sent", "Spans that a collector has taken", spans.sent);
        registry.register("tideline_spans_dropped", "Spans that no collector took in time", spans.dropped);
        Self { registry, ..metrics }
    }

    fn register(&self, r: &mut Registry, peers: bool) {
        r.register("tideline_rounds", "Rounds, by whether they were adopted", self.rounds.clone());
        r.register("tideline_poison_objects", "Objects that could not be read", self.poison.clone());
        let (event_to_plan, help) =
            (self.event_to_plan.clone(), "From the first change of a batch to its plan");
        r.register("tideline_event_to_plan_seconds", help, event_to_plan);
        r.register("tideline_decide_seconds", "Time that deciding takes", self.decide.clone());
        let help =
            "Parts of a round: wait for more news, decide, check, ledger (its write), tell (journal, events)";
        r.register("tideline_round_part_seconds", help, self.parts.clone());
        let (pod_wait, help) = (self.pod_wait.clone(), "From a pod's creation to its node");
        r.register("tideline_pod_pending_to_node_seconds", help, pod_wait);
        r.register("tideline_steps", "Steps that ended, by kind and outcome", self.steps.clone());
        register(r, peers, "cluster_autoscaler_errors", "Errors by type", &self.errors);
        register(r, peers, "cluster_autoscaler_scaled_up_nodes", "Nodes ordered", &self.scaled_up);
        if peers {
            let help = "Time that a round takes to be decided";
            r.register("cluster_autoscaler_function_duration_seconds", help, self.functions.clone());
        }
        let (name, help) = (
            "cluster_autoscaler_old_unregistered_nodes_removed_count",
            "Machines given back that never joined",
        );
        register(r, peers, name, help, &self.never_joined);
        let (name, help) = ("cluster_autoscaler_scaled_down_nodes", "Nodes removed, by reason");
        register(r, peers, name, help, &self.scaled_down);
        let (name, help) = ("cluster_autoscaler_failed_scale_ups", "Purchases that failed, by reason");
        register(r, peers, name, help, &self.failed_scale_ups);
        register(r, peers, "cluster_autoscaler_evicted_pods", "Evictions, by result", &self.evicted);
    }
}

/// Every metric once, in Prometheus' text form, as one finds it before anything was counted. `peers`: under Cluster
/// Autoscaler's names, too.
pub fn all_metrics(peers: bool) -> String {
    let metrics = Metrics::new(peers, Counts::default());
    let none = Labels::new();
    for family in metrics.gauges.values() {
        family.get_or_create(&none).set(0.0);
    }
    // A family shows itself once something was counted.
    let counted =
        [&metrics.rounds, &metrics.errors, &metrics.steps, &metrics.scaled_down, &metrics.failed_scale_ups];
    for family in counted.into_iter().chain([&metrics.evicted]) {
        let _ = family.get_or_create(&none);
    }
    for family in [&metrics.functions, &metrics.parts] {
        let _ = family.get_or_create(&none);
    }
    let mut text = String::new();
    // Writing into a string has no way to fail.
    let _ = encode(&mut text, &metrics.registry);
    text
}

/// Limits on the whole cluster.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    max_nodes_total: u32,
    ceilings: Ceilings,
}

impl Limits {
    pub(crate) fn of(policies: &Policies) -> Self {
        Self { max_nodes_total: policies.max_nodes_total, ceilings: policies.ceilings.clone() }
    }
}

/// What the gauges are computed from.
pub(crate) struct Observed<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) verdicts: &'a Verdicts,
    pub(crate) ledger: Option<&'a Ledger>,
    pub(crate) limits: &'a Limits,
    pub(crate) now: Timestamp,
    pub(crate) last_round: Option<Timestamp>,
    pub(crate) steps_under_way: usize,
    pub(crate) dropped_writes: u64,
}

impl Metrics {
    pub(crate) fn note_round(
        &self,
        adopted: bool,
        waited: Option<SignedDuration>,
        decide: std::time::Duration,
    ) {
        self.rounds.get_or_create(&label("adopted", if adopted { "true" } else { "false" })).inc();
        if let Some(waited) = waited {
            self.event_to_plan.observe(waited.as_secs_f64() + decide.as_secs_f64());
        }
        self.decide.observe(decide.as_secs_f64());
        self.functions.get_or_create(&label("function", "main")).observe(decide.as_secs_f64());
    }

    /// What took how long, from the first change of a batch until its steps begin.
    pub(crate) fn note_parts(&self, parts: &[(&str, std::time::Duration)]) {
        for (part, took) in parts {
            self.parts.get_or_create(&label("part", part)).observe(took.as_secs_f64());
        }
    }

    pub(crate) fn note_pod_placed(&self, waited: SignedDuration) {
        self.pod_wait.observe(waited.as_secs_f64().max(0.0));
    }

    pub(crate) fn note_outcome(&self, outcome: &Outcome) {
        let word = outcome_word(&outcome.kind);
        let labels = vec![("step".into(), verb(&outcome.step).into()), ("outcome".into(), word.into())];
        self.steps.get_or_create(&labels).inc();
        match (&outcome.step, &outcome.kind) {
            (Step::Buy(order), OutcomeKind::Done) => {
                self.scaled_up.inc_by(u64::from(order.to.saturating_sub(order.from)));
            }
            (Step::Buy(_), OutcomeKind::Failed { code, .. }) => {
                self.failed_scale_ups.get_or_create(&label("reason", code)).inc();
            }
            (Step::Release(release), OutcomeKind::Done) => {
                if release.cause == RemovalCause::NeverJoined {
                    self.never_joined.inc();
                }
                self.scaled_down.get_or_create(&label("reason", cause_word(release.cause))).inc();
            }
            (Step::Evict(_), _) => {
                self.evicted.get_or_create(&label("eviction_result", word)).inc();
            }
            _ => {}
        }
    }

    pub(crate) fn note_error(&self, kind: &str) {
        self.errors.get_or_create(&label("type", kind)).inc();
    }

    /// The metrics as text, gauges computed now.
    pub(crate) fn text(&self, observed: &Observed<'_>) -> String {
        for family in self.gauges.values() {
            family.clear();
        }
        self.set_cluster(observed);
        self.set_pools(observed);
        self.set_verdicts(observed);
        let mut text = String::new();
        // Writing into a string has no way to fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    fn set(&self, name: &str, labels: &Labels, value: f64) {
        if let Some(family) = self.gauges.get(name) {
            family.get_or_create(labels).set(value);
        }
    }

    fn set_cluster(&self, observed: &Observed<'_>) {
        let cluster = observed.cluster;
        let none = Labels::new();
        let mut states: BTreeMap<&str, u32> = BTreeMap::new();
        let (mut cores, mut memory) = (0.0, 0.0);
        for node in cluster.nodes().values() {
            *states.entry(node_state(node, observed.ledger)).or_default() += 1;
            cores += node.allocatable.cpu.0 as f64 / 1000.0;
            memory += node.allocatable.memory.0 as f64;
        }
        let coming =
            |machine: &&std::sync::Arc<model::Machine>| matches!(machine.state, MachineState::Creating);
        let creating = cluster.machines().values().filter(coming).count() as u32;
        states.insert("longUnregistered", 0);
        states.insert("unregistered", creating);
        for (state, count) in states {
            self.set("cluster_autoscaler_nodes_count", &label("state", state), f64::from(count));
        }
        self.set("cluster_autoscaler_cluster_cpu_current_cores", &none, cores);
        self.set("cluster_autoscaler_cluster_memory_current_bytes", &none, memory);
        let unschedulable = cluster.waiting_pods().filter(|pod| pod.is_unschedulable()).count();
        let labels = label("type", "unschedulable");
        self.set("cluster_autoscaler_unschedulable_pods_count", &labels, unschedulable as f64);
        self.set("cluster_autoscaler_max_nodes_count", &none, f64::from(observed.limits.max_nodes_total));
        let Ceilings { cores, memory_gib } = &observed.limits.ceilings;
        for (name, bounds, unit) in [
            ("cluster_autoscaler_cpu_limits_cores", cores, 1.0),
            ("cluster_autoscaler_memory_limits_bytes", memory_gib, BYTES_PER_GIB),
        ] {
            self.set(name, &label("direction", "minimum"), bounds.min as f64 * unit);
            self.set(name, &label("direction", "maximum"), bounds.max as f64 * unit);
        }
        let mut safe = true;
        for (input, state) in cluster.inputs() {
            let fresh = *state == InputState::Fresh;
            safe &= fresh;
            self.set("tideline_input_fresh", &label("input", &input_name(input)), f64::from(u8::from(fresh)));
        }
        self.set("cluster_autoscaler_cluster_safe_to_autoscale", &none, f64::from(u8::from(safe)));
        self.set("tideline_leader", &none, f64::from(u8::from(observed.ledger.is_some())));
        self.set("tideline_steps_under_way", &none, observed.steps_under_way as f64);
        self.set("tideline_dropped_writes", &none, observed.dropped_writes as f64);
    }

    fn set_pools(&self, observed: &Observed<'_>) {
        let mut providers: BTreeMap<&str, u32> = BTreeMap::new();
        for pool in observed.cluster.pools().values() {
            *providers.entry(pool.id.provider()).or_default() += 1;
            let labels = label("node_group", &pool.name);
            self.set("cluster_autoscaler_node_group_min_count", &labels, f64::from(pool.min));
            self.set("cluster_autoscaler_node_group_max_count", &labels, f64::from(pool.max));
            self.set("cluster_autoscaler_node_group_target_count", &labels, f64::from(pool.target));
            let back_off = observed.ledger.and_then(|ledger| ledger.back_offs.get(&pool.id));
            let resting = back_off.is_some_and(|back_off| back_off.until > observed.now);
            let ill = matches!(
                observed.verdicts.pools.get(&pool.id),
                Some(Reason::PoolRejected { rejection: PoolRejection::NotHealthy { .. } })
            );
            self.set("cluster_autoscaler_node_group_healthiness", &labels, f64::from(u8::from(!ill)));
            let status = f64::from(u8::from(resting));
            self.set("cluster_autoscaler_node_group_backoff_status", &labels, status);
        }
        for (provider, count) in providers {
            let labels = label("node_group_type", provider);
            self.set("cluster_autoscaler_node_groups_count", &labels, f64::from(count));
        }
    }

    fn set_verdicts(&self, observed: &Observed<'_>) {
        let none = Labels::new();
        let mut kept: BTreeMap<&'static str, u32> = BTreeMap::new();
        let (mut unneeded, mut cooling) = (0_u32, false);
        for reason in observed.verdicts.nodes.values() {
            match reason {
                Reason::Unneeded { .. } => unneeded += 1,
                Reason::InCoolDown { .. } => {
                    unneeded += 1;
                    cooling = true;
                }
                other => *kept.entry(kept_because(other)).or_default() += 1,
            }
        }
        for (reason, count) in kept {
            let labels = label("reason", reason);
            self.set("cluster_autoscaler_unremovable_nodes_count", &labels, f64::from(count));
        }
        self.set("cluster_autoscaler_unneeded_nodes_count", &none, f64::from(unneeded));
        self.set("cluster_autoscaler_scale_down_in_cooldown", &none, f64::from(u8::from(cooling)));
        let activity = |name: &str, at: Option<Timestamp>| {
            let at = at.map_or(0.0, |at| at.as_second() as f64);
            self.set("cluster_autoscaler_last_activity", &label("activity", name), at);
        };
        activity("main", observed.last_round);
        activity("scaleUp", observed.ledger.and_then(|ledger| ledger.last_scale_up_at));
        activity("scaleDown", observed.ledger.and_then(|ledger| ledger.last_deletion_at));
        let removals = observed.ledger.map_or(0, |ledger| ledger.removals.len());
        self.set("cluster_autoscaler_pending_node_deletions", &none, removals as f64);
    }
}

fn label(name: &str, value: &str) -> Labels {
    vec![(name.to_owned(), value.to_owned())]
}

fn input_name(input: &Input) -> String {
    match input {
        Input::Nodes => "nodes".into(),
        Input::Pods => "pods".into(),
        Input::Workloads => "workloads".into(),
        Input::DaemonSets => "daemonsets".into(),
        Input::Pdbs => "poddisruptionbudgets".into(),
        Input::Namespaces => "namespaces".into(),
        Input::NodeRules => "noderules".into(),
        Input::Outlooks => "outlooks".into(),
        Input::Headroom => "headroom".into(),
        Input::Volumes => "volumes".into(),
        Input::Attachments => "attachments".into(),
        Input::Devices => "devices".into(),
        Input::Pools(provider) => format!("pools/{provider}"),
    }
}

fn node_state(node: &Node, ledger: Option<&Ledger>) -> &'static str {
    if node.deleting || ledger.is_some_and(|ledger| ledger.removals.contains_key(&node.name)) {
        "beingDeleted"
    } else if node.is_ready() {
        "ready"
    } else {
        "unready"
    }
}

/// A short name of why a node is kept.
fn kept_because(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotAutoscaled => "NotAutoscaled",
        Reason::InUse { .. } => "NotUnderutilized",
        Reason::NoPlaceFor { .. } | Reason::PlaceNotAssured { .. } => "NoPlaceToMovePods",
        Reason::BlockedBy { .. } => "BlockedByPod",
        // The first of them, in the order in which Cluster Autoscaler asks.
        Reason::KeptBy { reasons } => reasons.first().map_or("Other", kept_because),
        Reason::UnreadyKept => "ScaleDownUnreadyDisabled",
        Reason::ClusterMinimum { .. } => "MinimalResourceLimitExceeded",
        Reason::PoolCoolDown { .. } | Reason::InCoolDown { .. } | Reason::Unneeded { .. } => {
            "NotUnneededLongEnough"
        }
        Reason::ScaleDownDisabledAnnotation => "ScaleDownDisabledAnnotation",
        Reason::ScaleDownDisabled => "ScaleDownDisabled",
        Reason::AtMinimum { .. } => "NodeGroupMinSizeReached",
        Reason::RemovalLimit { .. } => "RemovalLimit",
        Reason::RecentlyUnremovable { .. } => "RecentlyUnremovable",
        Reason::BeingRemoved { .. } => "CurrentlyBeingDeleted",
        Reason::StartingUp { .. } => "StartingUp",
        Reason::NotReadyYetTolerated { .. } => "NotUnreadyLongEnough",
        Reason::MachineUnknown => "MachineUnknown",
        Reason::Suspended { .. }
        | Reason::TooManyUnready { .. }
        | Reason::ZoneUnready { .. }
        | Reason::PoolUnready { .. } => "TooManyUnready",
        Reason::PodsAreWaiting => "PodsAreWaiting",
        Reason::HoldsHeadroom { .. } => "HoldsHeadroom",
        Reason::NotWorthMoving { .. } => "NotWorthMoving",
        Reason::InputNotFresh { .. } => "InputNotFresh",
        _ => "Other",
    }
}
