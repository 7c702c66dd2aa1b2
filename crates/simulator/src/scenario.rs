//! The scenario: what a simulation is made of, as its YAML file says it.
//!
//! Owns the format; every struct refuses fields that it does not know, so a slip of the pen is an error and not a
//! silently different experiment. What the values may be is checked in `check`, reading files is `input`'s.

mod check;
mod span;

pub(crate) use check::check_pools;
pub use check::{MOST_MACHINES, MOST_POOLS};
pub use span::Span;

use crate::SimulatorError;
use crate::input;
use jiff::Timestamp;
use model::Policies;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One simulation: a cluster's pools, its settings, what goes wrong, and what its users ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub name: String,
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Where virtual time begins.
    #[serde(default = "default_start")]
    pub start: Timestamp,
    /// How long it runs; with a trace this may be left out, then it runs until a day after the trace's last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolSpec>,
    /// Settings of the planner; what is left out is Cluster Autoscaler's default.
    #[serde(default)]
    pub policies: Policies,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultSpec>,
    #[serde(default)]
    pub workload: WorkloadSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSpec>,
}

fn default_seed() -> u64 {
    1
}

fn default_start() -> Timestamp {
    // A Monday, so that weekly waves begin with a week.
    Timestamp::from_second(1_767_571_200).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A pool of simulated machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolSpec {
    pub name: String,
    #[serde(default)]
    pub min: u32,
    pub max: u32,
    pub template: TemplateSpec,
    #[serde(default)]
    pub boot_seconds: BootSpec,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour_usd: Option<f64>,
    /// Higher is tried first.
    #[serde(default)]
    pub priority: i32,
    /// Only `simulated` in this version; named so that other providers can follow.
    #[serde(default)]
    pub provider: ProviderSpec,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProviderSpec {
    #[default]
    Simulated,
}

/// What a node of a pool looks like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateSpec {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<TaintSpec>,
    /// Resource name to Kubernetes quantity; `pods` is 110 where absent.
    pub allocatable: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaintSpec {
    pub key: String,
    #[serde(default)]
    pub value: String,
    pub effect: String,
}

/// Seconds from an order to a node that joins, drawn evenly for each machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSpec {
    pub min: u32,
    pub max: u32,
}

impl Default for BootSpec {
    fn default() -> Self {
        Self { min: 30, max: 60 }
    }
}

/// What goes wrong. The first nine are faults of the API server as the controller sees it, then one of its storage,
/// four of machines, one of users, the last three of the controller itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FaultKind {
    /// Answers take `delay` longer.
    Latency,
    /// 409 to writes.
    Conflict,
    /// 429 with Retry-After.
    Throttle,
    /// 500 or 503.
    ServerError,
    /// Watch connections end early.
    DroppedWatch,
    /// Watch events come `delay` late.
    LateWatch,
    /// Lists answer with a state that is some writes old.
    StaleList,
    /// A write happens, its answer is lost.
    LostResponse,
    /// Nothing gets through to the API server, and all watches break.
    ApiAway,
    /// The ledger is what it was some time ago: etcd was restored from a backup, the cloud was not.
    LedgerRestored,
    /// A machine boots and no node ever joins.
    NeverJoins,
    /// The cloud refuses to make a machine.
    MachineFails,
    /// A node goes NotReady for `lasts`.
    NotReady,
    /// A machine disappears with its node.
    Vanishes,
    /// A PodDisruptionBudget over everything in the namespace `default` that allows nothing, for `lasts`.
    Blockade,
    /// The controller cannot reach the API server for `lasts`; another one takes over meanwhile.
    ControllerCutOff,
    /// The controller dies before or after an outgoing write and starts again.
    ControllerKilled,
    /// The controller starts anew where the clock is wrong, ahead or behind, by at most `lasts`.
    ClockSkew,
}

impl FaultKind {
    pub const ALL: [Self; 18] = [
        Self::Latency,
        Self::Conflict,
        Self::Throttle,
        Self::ServerError,
        Self::DroppedWatch,
        Self::LateWatch,
        Self::StaleList,
        Self::LostResponse,
        Self::ApiAway,
        Self::LedgerRestored,
        Self::NeverJoins,
        Self::MachineFails,
        Self::NotReady,
        Self::Vanishes,
        Self::Blockade,
        Self::ControllerCutOff,
        Self::ControllerKilled,
        Self::ClockSkew,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Conflict => "conflict",
            Self::Throttle => "throttle",
            Self::ServerError => "serverError",
            Self::DroppedWatch => "droppedWatch",
            Self::LateWatch => "lateWatch",
            Self::StaleList => "staleList",
            Self::LostResponse => "lostResponse",
            Self::ApiAway => "apiAway",
            Self::LedgerRestored => "ledgerRestored",
            Self::NeverJoins => "neverJoins",
            Self::MachineFails => "machineFails",
            Self::NotReady => "notReady",
            Self::Vanishes => "vanishes",
            Self::Blockade => "blockade",
            Self::ControllerCutOff => "controllerCutOff",
            Self::ControllerKilled => "controllerKilled",
            Self::ClockSkew => "clockSkew",
        }
    }
}

/// One kind of trouble, in a window of the scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultSpec {
    pub kind: FaultKind,
    /// Window, counted from the scenario's start.
    #[serde(default)]
    pub from: Span,
    /// End of the window; the scenario's end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Span>,
    /// Share of the calls, connections or machines that are hit, in percent.
    #[serde(default = "default_percent")]
    pub percent: u32,
    /// Of `latency` and `lateWatch`.
    #[serde(default = "default_delay")]
    pub delay: Span,
    /// Of `notReady`, `blockade` and `controllerCutOff`; how wrong a clock may be.
    #[serde(default = "default_lasts")]
    pub lasts: Span,
    /// Mean time between two events of `notReady`, `vanishes`, `blockade`, `ledgerRestored`, and of the controller's own.
    #[serde(default = "default_every")]
    pub every: Span,
    /// Only machines of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Events lie in wait for something that the controller is busy with: random scenarios meet more that way.
    #[serde(skip)]
    pub aimed: bool,
}

fn default_percent() -> u32 {
    20
}

fn default_delay() -> Span {
    Span::seconds(2)
}

fn default_lasts() -> Span {
    Span::minutes(10)
}

fn default_every() -> Span {
    Span::hours(1)
}

/// What the users of the cluster ask for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<WaveSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bursts: Vec<BurstSpec>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobSpec>,
    /// Kubernetes objects that are created at the start, as they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<serde_json::Value>,
}

/// What one pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec {
    /// Resource name to Kubernetes quantity.
    pub requests: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod's manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
}

/// A Deployment whose replicas follow the day and the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaveSpec {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Replicas around which it swings.
    pub mean: u32,
    /// Replicas above and under the mean at the top and at the bottom of a day.
    #[serde(default)]
    pub daily_amplitude: u32,
    /// Replicas less on Saturday and Sunday.
    #[serde(default)]
    pub weekend_dip: u32,
    /// Hour of the day (UTC) of the top.
    #[serde(default = "default_peak_hour")]
    pub peak_hour: u32,
    /// Spread of the noise, in percent of the mean.
    #[serde(default)]
    pub noise_percent: u32,
    /// How often the replicas are set anew.
    #[serde(default = "default_step")]
    pub step: Span,
    /// Budget: this many may be unavailable at once; none where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
    pub pod: PodSpec,
}

/// A Deployment that stands at zero and now and then jumps up for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BurstSpec {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Mean time from one burst to the next.
    pub every: Span,
    pub lasts: Span,
    pub replicas: RangeSpec,
    pub pod: PodSpec,
}

/// Batch Jobs that come at random and end by themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    pub name: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Mean time from one Job to the next.
    pub every: Span,
    /// Pods of one Job, all at once.
    pub pods: RangeSpec,
    /// How long each pod runs.
    pub runs: SpanRange,
    pub pod: PodSpec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeSpec {
    pub min: u32,
    pub max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanRange {
    pub min: Span,
    pub max: Span,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn default_peak_hour() -> u32 {
    14
}

fn default_step() -> Span {
    Span::minutes(5)
}

/// A recorded workload, and how pools are made from a recorded list of nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceSpec {
    /// The pods, CSV, `.gz` or not, beside the scenario; `--trace` goes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PathBuf>,
    /// The nodes, likewise; `--nodes` goes before it. Pools are made of them: one for each machine shape and model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<PathBuf>,
    #[serde(default)]
    pub machines: ShapingSpec,
    #[serde(default = "default_namespace")]
    pub namespace: String,
}

/// How a pool is made from machines of one shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ShapingSpec {
    pub boot_seconds: BootSpec,
    /// Pods that one machine holds.
    pub pods_per_machine: u32,
    pub gpu_resource: String,
    /// Label that carries the GPU model; the trace's `gpu_spec` becomes an affinity on it.
    pub gpu_model_label: String,
    pub price: PriceSpec,
}

impl Default for ShapingSpec {
    fn default() -> Self {
        Self {
            boot_seconds: BootSpec { min: 60, max: 180 },
            pods_per_machine: 110,
            gpu_resource: "nvidia.com/gpu".to_owned(),
            gpu_model_label: "gpu.example.com/model".to_owned(),
            price: PriceSpec::default(),
        }
    }
}

/// US dollars an hour; a machine costs the sum of its parts. Cheaper pools are tried first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PriceSpec {
    pub cpu: f64,
    pub gib: f64,
    /// By GPU model; `gpu` for those not named.
    pub models: BTreeMap<String, f64>,
    pub gpu: f64,
}

impl Default for PriceSpec {
    fn default() -> Self {
        Self { cpu: 0.035, gib: 0.004, models: BTreeMap::new(), gpu: 1.0 }
    }
}

impl Scenario {
    /// Reads and checks a scenario file; paths inside it are taken from its folder.
    pub fn read(path: &Path) -> Result<Self, SimulatorError> {
        let text = input::read_text(path, input::MOST_SCENARIO_BYTES)?;
        let mut scenario = Self::parse(&path.display().to_string(), &text)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        if let Some(trace) = &mut scenario.trace {
            for file in [&mut trace.pods, &mut trace.nodes].into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        if scenario.name.is_empty() {
            scenario.name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        }
        Ok(scenario)
    }

    /// Parses and checks; `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, SimulatorError> {
        // Far above what a scenario needs, far under what a hostile one could cost.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! {
                max_events: 200_000,
                max_aliases: 100,
                max_anchors: 100,
                max_depth: 64,
                max_nodes: 100_000,
            },
        };
        let scenario: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|source| SimulatorError::Yaml { file: file.to_owned(), source: Box::new(source) })?;
        scenario.check(file)?;
        Ok(scenario)
    }
}
