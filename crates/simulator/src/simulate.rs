//! From a scenario to a report: the entry of `tideline simulate`.
//!
//! Owns what the command line may change about a scenario and the reading of its trace.

use crate::SimulatorError;
use crate::engine::{Alter, Checks, Progress, RunResult, Setup, run};
use crate::measure::Measure;
use crate::report::{Findings, Report, Unplaced};
use crate::scenario::{PoolSpec, Scenario, check_pools};
use crate::trace::{Trace, pools_of};
use crate::workload::timeline;
use jiff::Timestamp;
use model::PodKey;
use sandbox::store::resource::PODS;
use std::path::PathBuf;

/// After a trace's last event: time for the last pods to wait, run and go, and for the machines to be given back.
const TAIL_SECONDS: u64 = 6 * 3600;

/// What the command line adds to a scenario.
pub struct Options<'a> {
    /// Pods of a trace; goes before the scenario's own.
    pub trace: Option<PathBuf>,
    /// Nodes of a trace; goes before the scenario's own.
    pub nodes: Option<PathBuf>,
    pub seed: Option<u64>,
    /// Every applied write of the API, one line each.
    pub write_log: Option<PathBuf>,
    /// Changes the controller before it starts: for tests.
    pub alter: Option<Alter>,
    /// Called a few hundred times in a run, at equal steps of virtual time.
    pub on_progress: Box<dyn FnMut(Progress) + 'a>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            trace: None,
            nodes: None,
            seed: None,
            write_log: None,
            alter: None,
            on_progress: Box::new(|_| {}),
        }
    }
}

/// Runs a scenario to its end. Equal scenarios, traces and seeds give equal reports.
pub fn simulate(scenario: &Scenario, mut options: Options<'_>) -> Result<Report, SimulatorError> {
    let mut scenario = scenario.clone();
    if let Some(seed) = options.seed {
        scenario.seed = seed;
    }
    scenario.check(&scenario.name)?;
    let trace = read_trace(&scenario, &options)?;
    let pools = all_pools(&scenario, trace.as_ref())?;
    let seconds = match (scenario.duration, &trace) {
        (Some(duration), _) => duration.seconds,
        (None, Some(trace)) => trace.last_second + TAIL_SECONDS,
        (None, None) => {
            return Err(field(&scenario, "duration", "missing: write how long to simulate, such as 7d"));
        }
    };
    let setup = Setup {
        scenario: &scenario,
        pools: &pools,
        writes: timeline(&scenario, trace.as_ref(), seconds),
        trace: trace.as_ref(),
        seconds,
        write_log: options.write_log.clone(),
        alter: options.alter,
        checks: Checks::new(&scenario.policies, None),
        events: false,
    };
    let result = run(setup, &mut options.on_progress)?;
    if let Some(problem) = result.refused.first() {
        return Err(field(&scenario, "workload", problem));
    }
    let shared_gpus = trace.map_or(0, |trace| trace.pods.iter().filter(|pod| pod.shares_gpu).count() as u64);
    Ok(report(&scenario, &result, shared_gpus))
}

fn field(scenario: &Scenario, field: &str, problem: &str) -> SimulatorError {
    SimulatorError::Field {
        file: scenario.name.clone(),
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn read_trace(scenario: &Scenario, options: &Options<'_>) -> Result<Option<Trace>, SimulatorError> {
    let spec = scenario.trace.as_ref();
    let pods = options.trace.as_ref().or_else(|| spec.and_then(|spec| spec.pods.as_ref()));
    let nodes = options.nodes.as_ref().or_else(|| spec.and_then(|spec| spec.nodes.as_ref()));
    match (pods, nodes) {
        (Some(pods), nodes) => Trace::read(pods, nodes.map(PathBuf::as_path)).map(Some),
        (None, None) if spec.is_none() => Ok(None),
        (None, None) => Err(field(scenario, "trace.pods", "no file: name it here or with --trace FILE")),
        (None, Some(_)) => Err(field(scenario, "trace.pods", "nodes but no pods: add --trace FILE")),
    }
}

/// The scenario's own pools and those made from the trace's machines.
fn all_pools(scenario: &Scenario, trace: Option<&Trace>) -> Result<Vec<PoolSpec>, SimulatorError> {
    let mut pools = scenario.pools.clone();
    if let Some(trace) = trace {
        let shaping = scenario.trace.as_ref().map(|spec| spec.machines.clone()).unwrap_or_default();
        pools.extend(pools_of(&trace.machines, &shaping));
    }
    if pools.is_empty() {
        return Err(field(
            scenario,
            "pools",
            "none: declare at least one, or give a trace's nodes with --nodes",
        ));
    }
    check_pools(&pools).map_err(|(name, problem)| field(scenario, &name, &problem))?;
    Ok(pools)
}

/// Turns what a run left behind into its report.
pub(crate) fn report(scenario: &Scenario, result: &RunResult, shared_gpus: u64) -> Report {
    let unplaced = unplaced(result);
    let empty = Measure::new(Timestamp::UNIX_EPOCH, 1000, &[]);
    let (measure, violations, listed) = result.seen.with(|seen| {
        let measure = std::mem::replace(&mut seen.measure, empty);
        (measure, seen.checks.violations, seen.checks.listed.clone())
    });
    let findings = Findings { violations, listed, unplaced, shared_gpus };
    Report::new(scenario, result.end, measure, findings)
}

/// Pods that wait for a node at the end, each with its reason.
pub(crate) fn unplaced(result: &RunResult) -> Vec<Unplaced> {
    let waiting = result.store.list(PODS).into_iter().filter(|pod| {
        pod.text("spec.nodeName").is_none_or(str::is_empty)
            && !matches!(pod.text("status.phase"), Some("Succeeded" | "Failed"))
    });
    waiting
        .map(|pod| {
            let key = PodKey::new(pod.namespace(), pod.name());
            let verdict = result.seen.with(|seen| seen.verdicts.get(&key).map(ToString::to_string));
            // Without a verdict no round has seen the pod: what the scheduler wrote is all there is to say.
            let reason = verdict.unwrap_or_else(|| scheduler_message(pod.value()));
            Unplaced { pod: key.to_string(), reason }
        })
        .collect()
}

fn scheduler_message(pod: &serde_json::Value) -> String {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PodScheduled")
        .and_then(|condition| condition["message"].as_str())
        .unwrap_or("the run ended before anyone looked at it")
        .to_owned()
}
