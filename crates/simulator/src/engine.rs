//! One run: the embedded cluster, the controller, users and troubles on one thread and on virtual time.
//!
//! Owns putting them together, the supervisor that starts the controller again when it dies, and the end of the run.
//! Nothing in here opens a socket or reads a clock of the real world.

mod api_faults;
mod checks;
mod durable;
mod line;
mod names;
mod observer;
mod phases;
mod restored;
mod tap;
mod truth;
mod users;

pub use phases::{Hits, Phase};

pub(crate) use checks::Checks;
pub(crate) use observer::SharedSeen;

use crate::SimulatorError;
use crate::measure::Measure;
use crate::random_source::stream;
use crate::scenario::{FaultKind, FaultSpec, PoolSpec, Scenario};
use crate::trace::Trace;
use crate::workload::TimedWrite;
use clock::Clock;
use controller::{Config, Controller};
use jiff::{SignedDuration, Timestamp};
use line::{Cut, Life, Line};
use observer::observe;
use phases::HitLog;
use rand::Rng as _;
use sandbox::api::{Api, Census};
use sandbox::cluster::cloud::{MachineFault, MachineFaultRule as FaultRule};
use sandbox::fault::Faults;
use sandbox::store::Store;
use sandbox::store::resource::SIMULATED_POOLS;
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tap::Tap;
use tokio::task::JoinSet;
use tower::Layer as _;
use users::{Events, Recorded, Window, moment, trouble, write_all};

/// Calls of the progress callback in one run.
const PROGRESS_STEPS: u64 = 200;
/// Changes that the store keeps for watches: the observer and all watches read far more often than that.
const CHANGE_LIMIT: usize = 65_536;
/// How long a controller that was cut off may live on beside its successor.
const LONGEST_AFTERLIFE: Duration = Duration::from_mins(20);
/// From a death of the controller to its next start.
const RESTART_SECONDS: u64 = 10;

/// Changes a controller that is about to start: for tests that plant a mistake in it.
pub type Alter = fn(Controller) -> Controller;

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub simulated_seconds: u64,
    pub total_seconds: u64,
    pub pods_placed: u64,
}

/// Everything that a run is made of.
pub(crate) struct Setup<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) pools: &'a [PoolSpec],
    pub(crate) writes: Vec<TimedWrite>,
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) seconds: u64,
    pub(crate) write_log: Option<PathBuf>,
    /// Plants a mistake in each controller that is started.
    pub(crate) alter: Option<Alter>,
    pub(crate) checks: Checks,
    pub(crate) events: bool,
}

/// What a run leaves behind.
pub(crate) struct RunResult {
    pub(crate) seen: SharedSeen,
    pub(crate) end: Timestamp,
    pub(crate) hits: Hits,
    pub(crate) store: Store,
    /// Writes of users that the API refused.
    pub(crate) refused: Vec<String>,
    /// The kinds of calls that were made of the API.
    pub(crate) census: Census,
}

/// Runs to the end of virtual time.
pub(crate) fn run(
    setup: Setup<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<RunResult, SimulatorError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|source| setup_error("starting the runtime", &source))?;
    runtime.block_on(run_inside(setup, on_progress))
}

fn setup_error(attempted: &str, problem: &dyn std::fmt::Display) -> SimulatorError {
    SimulatorError::Setup { attempted: attempted.to_owned(), problem: problem.to_string() }
}

async fn run_inside(
    setup: Setup<'_>,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<RunResult, SimulatorError> {
    let scenario = setup.scenario;
    let clock = Clock::starting_at(scenario.start);
    let sandbox = Sandbox::start(sandbox_options(scenario, clock, setup.events))
        .map_err(|error| setup_error("starting the embedded cluster", &error))?;
    let store = sandbox.store().clone();
    if let Some(path) = &setup.write_log {
        let file = std::fs::File::create(path)
            .map_err(|source| SimulatorError::Write { file: path.display().to_string(), source })?;
        store.record_writes(Box::new(std::io::BufWriter::new(file)));
    }
    let hits = HitLog::default();
    let measure = Measure::new(scenario.start, setup.seconds.saturating_mul(1000), setup.pools);
    let seen = SharedSeen::new(&store, measure, setup.checks, hits.clone(), setup.trace.is_some());
    let mut tasks = JoinSet::new();
    tasks.spawn(observe(store.clone(), seen.clone()));
    let users = store.acting_as("user");
    for pool in setup.pools {
        users
            .create(SIMULATED_POOLS, "", pool_object(pool))
            .map_err(|error| setup_error(&format!("creating pool {}", pool.name), &error))?;
    }
    let recorded = setup.trace.map(|trace| recorded(scenario, trace));
    let refused = Arc::new(Mutex::new(Vec::new()));
    tasks.spawn(write_all(users, scenario.start, setup.writes, recorded, Arc::clone(&refused)));
    spawn_troubles(&mut tasks, scenario, &store, setup.seconds, &hits, &seen);
    let supervisor = Supervisor {
        api: sandbox.api().clone(),
        scenario: scenario.clone(),
        seconds: setup.seconds,
        seen: seen.clone(),
        hits: hits.clone(),
        alter: setup.alter,
        events: setup.events,
        clock,
    };
    tasks.spawn(supervisor.run());
    for step in 1..=PROGRESS_STEPS {
        let second = setup.seconds * step / PROGRESS_STEPS;
        clock.sleep_until(moment(scenario.start, second)).await;
        let pods_placed = seen.with(|seen| seen.measure.pods_placed);
        on_progress(Progress { simulated_seconds: second, total_seconds: setup.seconds, pods_placed });
    }
    seen.sync();
    tasks.shutdown().await;
    let census = sandbox.api().census();
    drop(sandbox);
    store.stop_recording().map_err(|source| SimulatorError::Write {
        file: setup.write_log.map_or_else(String::new, |path| path.display().to_string()),
        source,
    })?;
    let refused = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(RunResult { seen, end: clock.now(), hits: hits.hits(), store, refused, census })
}

fn sandbox_options(scenario: &Scenario, clock: Clock, events: bool) -> Options {
    let mut options = Options::new(clock, scenario.seed);
    options.cluster_api = false;
    options.change_limit = CHANGE_LIMIT;
    options.controllers.events = events;
    options.delays.report_creating = false;
    options.faults = scenario.faults.iter().filter_map(|fault| machine_rule(scenario.start, fault)).collect();
    options
}

/// Faults of machines that are dealt out when a machine is made.
fn machine_rule(start: Timestamp, fault: &FaultSpec) -> Option<FaultRule> {
    let dealt = match fault.kind {
        FaultKind::NeverJoins => MachineFault::NeverJoins,
        FaultKind::MachineFails => MachineFault::Fails { code: "OutOfStock".into() },
        _ => return None,
    };
    Some(FaultRule {
        pool: fault.pool.clone(),
        from: Some(moment(start, fault.from.seconds)),
        until: fault.until.map(|until| moment(start, until.seconds)),
        per_mille: fault.percent * 10,
        fault: dealt,
    })
}

fn recorded(scenario: &Scenario, trace: &Trace) -> Recorded {
    let spec = scenario.trace.as_ref();
    Recorded {
        pods: Arc::new(trace.pods.clone()),
        namespace: spec.map_or_else(|| "default".to_owned(), |t| t.namespace.clone()),
        shaping: spec.map(|t| t.machines.clone()).unwrap_or_default(),
    }
}

fn spawn_troubles(
    tasks: &mut JoinSet<()>,
    scenario: &Scenario,
    store: &Store,
    end: u64,
    hits: &HitLog,
    seen: &SharedSeen,
) {
    for (place, fault) in scenario.faults.iter().enumerate() {
        let when = Window { start: scenario.start, seed: scenario.seed, place, end };
        if fault.kind == FaultKind::LedgerRestored {
            let (store, seen) = (store.acting_as("backup"), seen.clone());
            tasks.spawn(restored::now_and_then(store, when, fault.clone(), hits.clone(), seen));
        }
        if matches!(fault.kind, FaultKind::NotReady | FaultKind::Vanishes | FaultKind::Blockade) {
            let store = store.acting_as("trouble");
            tasks.spawn(trouble(store, when, fault.clone(), hits.clone()));
        }
    }
}

fn pool_object(pool: &PoolSpec) -> Value {
    json!({
        "apiVersion": "tideline.dev/v1alpha1",
        "kind": "SimulatedPool",
        "metadata": {"name": pool.name},
        "spec": {
            "min": pool.min,
            "max": pool.max,
            "replicas": pool.min,
            "template": {
                "labels": pool.template.labels,
                "taints": pool.template.taints,
                "allocatable": pool.template.allocatable,
            },
            "boot": {"minSeconds": pool.boot_seconds.min, "maxSeconds": pool.boot_seconds.max},
            "priority": pool.priority,
            "pricePerHourUsd": format!("{:.6}", pool.price_per_hour_usd.unwrap_or(0.0)),
        },
    })
}

/// Keeps the controller running, and kills it where the scenario says so.
struct Supervisor {
    api: Api,
    scenario: Scenario,
    seconds: u64,
    seen: SharedSeen,
    hits: HitLog,
    alter: Option<Alter>,
    events: bool,
    clock: Clock,
}

impl Supervisor {
    async fn run(self) {
        let lives = Arc::new(Mutex::new(Life::default()));
        let mut killers = JoinSet::new();
        let wrong = Wrong::default();
        for (place, fault) in self.scenario.faults.iter().enumerate() {
            let window =
                Window { start: self.scenario.start, seed: self.scenario.seed, place, end: self.seconds };
            let (fault, lives) = (fault.clone(), Arc::clone(&lives));
            match fault.kind {
                FaultKind::ControllerKilled => {
                    killers.spawn(kill_now_and_then(self.clock, window, fault, lives, self.hits.clone()));
                }
                FaultKind::ControllerCutOff => {
                    killers.spawn(cut_off_now_and_then(self.clock, window, fault, lives, self.hits.clone()));
                }
                FaultKind::ClockSkew => {
                    let wrong = Arc::clone(&wrong);
                    let skewed =
                        restart_elsewhere(self.clock, window, fault, lives, self.hits.clone(), wrong);
                    killers.spawn(skewed);
                }
                FaultKind::DroppedWatch
                | FaultKind::LateWatch
                | FaultKind::StaleList
                | FaultKind::ApiAway => {
                    killers.spawn(drop_watches(self.clock, window, fault, lives, self.hits.clone()));
                }
                _ => {}
            }
        }
        let plan = api_faults::plan(&self.scenario.faults, self.seconds);
        // The plan was made from a checked scenario; if it were refused all the same, no fault is better than none.
        let faults = Faults::new(plan, self.scenario.seed, self.clock).ok();
        let mut superseded = JoinSet::new();
        loop {
            let life = Life::default();
            *lives.lock().unwrap_or_else(PoisonError::into_inner) = life.clone();
            let mut incarnation = JoinSet::new();
            let off = *wrong.lock().unwrap_or_else(PoisonError::into_inner);
            incarnation.spawn(self.controller(&life, faults.as_ref(), self.clock.ahead_by(off)));
            tokio::select! {
                biased;
                () = life.ended() => self.hits.hit(FaultKind::ControllerKilled),
                lasts = life.cut_off() => {
                    superseded.spawn(come_back(life.clone(), incarnation, lasts));
                    tokio::time::sleep(Duration::from_secs(RESTART_SECONDS)).await;
                    continue;
                }
                // It gave up by itself, as it does when the ledger was written by another: it is started again.
                _ = incarnation.join_next() => {}
            }
            incarnation.shutdown().await;
            tokio::time::sleep(Duration::from_secs(RESTART_SECONDS)).await;
        }
    }

    fn controller(
        &self,
        life: &Life,
        faults: Option<&Faults>,
        clock: Clock,
    ) -> impl Future<Output = ()> + Send + use<> {
        let seen = Some(self.seen.clone());
        let server = Tap::new(self.api.service(), self.seen.clone());
        let client = match faults {
            Some(faults) => {
                kube::Client::new(Line::new(faults.layer().layer(server), life.clone(), seen), "default")
            }
            None => kube::Client::new(Line::new(server, life.clone(), seen), "default"),
        };
        let mut config = Config::for_simulation(self.scenario.policies.clone(), self.scenario.seed);
        config.events = self.events;
        let (seen, hits, faults) = (self.seen.clone(), self.hits.clone(), faults.cloned());
        let watched = life.clone();
        let hook = move |round: &controller::Round<'_>| {
            // What another leads by now is seen by what it does, not by what it thinks.
            if watched.is_superseded() {
                return;
            }
            hits.enter(&round.decision.ledger, faults.as_ref());
            seen.hear_round(round);
        };
        let alter = self.alter;
        async move {
            let Ok(controller) = Controller::new(client, config, clock) else { return };
            let controller = controller.with_hook(Box::new(hook));
            let controller = match alter {
                Some(alter) => alter(controller),
                None => controller,
            };
            if let Err(error) = controller.run(std::future::pending()).await {
                tracing::debug!(%error, "the simulated controller ended");
            }
        }
    }
}

/// Breaks all open watches: for faults of watches again and again, for what only new watches and lists meet at both
/// ends of the window.
async fn drop_watches(clock: Clock, window: Window, fault: FaultSpec, lives: Arc<Mutex<Life>>, hits: HitLog) {
    let mut rng = stream(window.seed, &format!("watches/{}", window.place));
    let present = || lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut events = Events::new(clock, window, &fault, &hits);
    clock.sleep_until(moment(window.start, events.second)).await;
    loop {
        hits.hit(fault.kind);
        present().drop_watches();
        if !events.next(&mut rng).await {
            break;
        }
    }
    clock.sleep_until(moment(window.start, events.until())).await;
    present().drop_watches();
}

/// Arms the cut for one of the writes to come, at random moments of the window; nothing is left armed after it.
async fn kill_now_and_then(
    clock: Clock,
    window: Window,
    fault: FaultSpec,
    lives: Arc<Mutex<Life>>,
    hits: HitLog,
) {
    let mut rng = stream(window.seed, &format!("kill/{}", window.place));
    let present = || lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut events = Events::new(clock, window, &fault, &hits);
    while events.next(&mut rng).await {
        let cut = if rng.random_bool(0.5) { Cut::Before } else { Cut::After };
        present().arm(rng.random_range(1..=12), cut);
    }
    clock.sleep_until(moment(window.start, events.until())).await;
    present().disarm();
}

/// Cuts the controller off from the API server at random moments of the window.
async fn cut_off_now_and_then(
    clock: Clock,
    window: Window,
    fault: FaultSpec,
    lives: Arc<Mutex<Life>>,
    hits: HitLog,
) {
    let mut rng = stream(window.seed, &format!("cut off/{}", window.place));
    let mut events = Events::new(clock, window, &fault, &hits);
    while events.next(&mut rng).await {
        hits.hit(fault.kind);
        let life = lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
        life.hold(Duration::from_secs(fault.lasts.seconds));
        events.second += fault.lasts.seconds;
    }
}

/// How wrong the clock is of the controller that starts next.
type Wrong = Arc<Mutex<SignedDuration>>;

/// Ends the controller at random moments of the window; its successors read a clock that is wrong until the window's
/// end, when one more restart puts it right.
async fn restart_elsewhere(
    clock: Clock,
    window: Window,
    fault: FaultSpec,
    lives: Arc<Mutex<Life>>,
    hits: HitLog,
    wrong: Wrong,
) {
    let mut rng = stream(window.seed, &format!("clock/{}", window.place));
    let present = || lives.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let set = |seconds: i64| {
        *wrong.lock().unwrap_or_else(PoisonError::into_inner) = SignedDuration::from_secs(seconds);
    };
    let mut events = Events::new(clock, window, &fault, &hits);
    let most = i64::try_from(fault.lasts.seconds).unwrap_or(i64::MAX);
    while events.next(&mut rng).await {
        hits.hit(fault.kind);
        set(rng.random_range(-most..=most));
        present().end();
    }
    clock.sleep_until(moment(window.start, events.until())).await;
    set(0);
    present().end();
}

/// A controller that was cut off and has a successor by now: its line holds again after a time, and it has to find
/// out by itself.
async fn come_back(life: Life, incarnation: JoinSet<()>, lasts: Duration) {
    tokio::time::sleep(lasts).await;
    life.release();
    tokio::time::sleep(LONGEST_AFTERLIFE).await;
    life.end();
    drop(incarnation);
}
