//! What a run amounts to: counts, waiting times, machine-hours and their course over time.
//!
//! Owns the bookkeeping, one change of the store at a time and with work in proportion to the change. It reads what
//! the API server holds and nothing of the controller's, so it cannot repeat the controller's mistakes.

mod series;

pub(crate) use series::{Series, Slice};

use crate::scenario::PoolSpec;
use jiff::Timestamp;
use model::{Node, Pod, PodPhase, Resources};
use sandbox::store::{Change, ChangeKind};
use std::collections::BTreeMap;

/// Course over time of what is plotted.
#[derive(Clone, Debug)]
struct Courses {
    requested: [Series; 3],
    allocatable: [Series; 3],
    pending: Series,
    price: Series,
}

/// A pool's part.
#[derive(Clone, Debug)]
pub(crate) struct PoolMeasure {
    pub(crate) name: String,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) price: f64,
    pub(crate) machines: u32,
    pub(crate) peak: u32,
    pub(crate) bought: u64,
    pub(crate) removed: u64,
    pub(crate) machine_millis: u64,
    since: u64,
    replicas: Option<i64>,
    nodes: Series,
}

#[derive(Clone, Debug)]
struct PodMeasure {
    created_at: Timestamp,
    daemon: bool,
    placed: bool,
    pending: bool,
    occupies: bool,
    requests: Resources,
}

/// The measurements of one run so far.
#[derive(Debug)]
pub(crate) struct Measure {
    start: Timestamp,
    pools: Vec<PoolMeasure>,
    pool_at: BTreeMap<String, usize>,
    pods: BTreeMap<String, PodMeasure>,
    nodes: BTreeMap<String, (Option<usize>, Resources)>,
    machines: BTreeMap<String, usize>,
    requested: Resources,
    allocatable: Resources,
    pending: u64,
    courses: Courses,
    pub(crate) pods_seen: u64,
    pub(crate) pods_placed: u64,
    pub(crate) pods_withdrawn: u64,
    pub(crate) pods_succeeded: u64,
    pub(crate) pending_peak: u64,
    pub(crate) nodes_peak: usize,
    pub(crate) scale_ups: u64,
    pub(crate) waits_millis: Vec<u64>,
}

/// What remains when a run is over.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plots {
    pub(crate) slice_millis: u64,
    /// Name and slices, in the order of the scenario.
    pub(crate) nodes: Vec<(String, Vec<Slice>)>,
    /// Cores, GiB, GPUs.
    pub(crate) requested: [Vec<Slice>; 3],
    pub(crate) allocatable: [Vec<Slice>; 3],
    pub(crate) pending: Vec<Slice>,
    pub(crate) price: Vec<Slice>,
}

impl Measure {
    pub(crate) fn new(start: Timestamp, millis: u64, pools: &[PoolSpec]) -> Self {
        let series = || Series::over(millis);
        let three = || [series(), series(), series()];
        let measures: Vec<PoolMeasure> = pools
            .iter()
            .map(|pool| PoolMeasure {
                name: pool.name.clone(),
                min: pool.min,
                max: pool.max,
                price: pool.price_per_hour_usd.unwrap_or(0.0),
                machines: 0,
                peak: 0,
                bought: 0,
                removed: 0,
                machine_millis: 0,
                since: 0,
                replicas: None,
                nodes: series(),
            })
            .collect();
        Self {
            start,
            pool_at: pools.iter().enumerate().map(|(at, pool)| (pool.name.clone(), at)).collect(),
            pools: measures,
            pods: BTreeMap::new(),
            nodes: BTreeMap::new(),
            machines: BTreeMap::new(),
            requested: Resources::default(),
            allocatable: Resources::default(),
            pending: 0,
            courses: Courses { requested: three(), allocatable: three(), pending: series(), price: series() },
            pods_seen: 0,
            pods_placed: 0,
            pods_withdrawn: 0,
            pods_succeeded: 0,
            pending_peak: 0,
            nodes_peak: 0,
            scale_ups: 0,
            waits_millis: Vec::new(),
        }
    }

    pub(crate) fn pools(&self) -> &[PoolMeasure] {
        &self.pools
    }

    fn millis(&self, now: Timestamp) -> u64 {
        u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(0)
    }

    /// Takes one change of the store into account, as of `now`.
    pub(crate) fn observe(&mut self, now: Timestamp, stored: &Change, change: &model::Change) {
        let at = self.millis(now);
        match change {
            model::Change::Pod(_, pod) => self.pod(now, at, stored.object.uid(), pod.as_deref()),
            model::Change::Node(name, node) => {
                let pool = stored.object.label(api::labels::POOL);
                self.node(at, name.as_str(), pool, node.as_deref());
            }
            model::Change::Pool(..) => self.pool(stored),
            model::Change::Machine(..) => self.machine(at, stored),
            _ => {}
        }
    }

    fn pod(&mut self, now: Timestamp, at: u64, uid: &str, pod: Option<&Pod>) {
        let before = self.pods.remove(uid);
        let Some(pod) = pod else {
            if let Some(before) = before {
                self.pod_gone(at, &before);
            }
            return;
        };
        let ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
        let mut after = before.clone().unwrap_or_else(|| PodMeasure {
            created_at: pod.created_at,
            daemon: pod.daemon || pod.mirror,
            placed: false,
            pending: false,
            occupies: false,
            requests: pod.shape.requests.clone(),
        });
        if before.is_none() && !after.daemon {
            self.pods_seen += 1;
        }
        if !after.placed && pod.node.is_some() {
            after.placed = true;
            if !after.daemon {
                self.pods_placed += 1;
                let waited = now.duration_since(after.created_at).as_millis();
                self.waits_millis.push(u64::try_from(waited).unwrap_or(0));
            }
        }
        if pod.phase == PodPhase::Succeeded && before.as_ref().is_some_and(|b| b.occupies) {
            self.pods_succeeded += 1;
        }
        let was_pending = before.as_ref().is_some_and(|b| b.pending);
        let occupied = before.is_some_and(|b| b.occupies);
        after.pending = !ended && pod.node.is_none() && !after.daemon;
        after.occupies = pod.occupies();
        self.set_pending(at, was_pending, after.pending);
        self.set_occupying(at, occupied, after.occupies, &after.requests);
        self.pods.insert(uid.to_owned(), after);
    }

    fn pod_gone(&mut self, at: u64, before: &PodMeasure) {
        if !before.placed && !before.daemon {
            self.pods_withdrawn += 1;
        }
        self.set_pending(at, before.pending, false);
        self.set_occupying(at, before.occupies, false, &before.requests);
    }

    fn set_pending(&mut self, at: u64, before: bool, after: bool) {
        if before != after {
            self.pending = if after { self.pending + 1 } else { self.pending.saturating_sub(1) };
            self.pending_peak = self.pending_peak.max(self.pending);
            self.courses.pending.set(at, self.pending as f64);
        }
    }

    fn set_occupying(&mut self, at: u64, before: bool, after: bool, requests: &Resources) {
        if before != after {
            if after {
                self.requested.add(requests);
            } else {
                self.requested.subtract(requests);
            }
            plot(&mut self.courses.requested, at, &self.requested);
        }
    }

    fn node(&mut self, at: u64, name: &str, pool: Option<&str>, node: Option<&Node>) {
        let before = self.nodes.remove(name);
        if let Some((_, resources)) = &before {
            self.allocatable.subtract(resources);
        }
        let mut pool_at = before.as_ref().and_then(|(pool, _)| *pool);
        let (existed, exists) = (before.is_some(), node.is_some());
        if let Some(node) = node {
            pool_at = pool.and_then(|name| self.pool_at.get(name).copied());
            self.allocatable.add(&node.allocatable);
            self.nodes.insert(name.to_owned(), (pool_at, node.allocatable.clone()));
            self.nodes_peak = self.nodes_peak.max(self.nodes.len());
        }
        if existed != exists
            && let Some(pool) = pool_at.and_then(|at| self.pools.get_mut(at))
        {
            let count = pool.nodes.value() + if exists { 1.0 } else { -1.0 };
            pool.nodes.set(at, count.max(0.0));
        }
        plot(&mut self.courses.allocatable, at, &self.allocatable);
    }

    fn pool(&mut self, change: &Change) {
        let Some(pool) = self.pool_at.get(change.object.name()).and_then(|at| self.pools.get_mut(*at)) else {
            return;
        };
        let replicas =
            change.object.at("spec.replicas").and_then(serde_json::Value::as_i64).unwrap_or_default();
        if let Some(before) = pool.replicas {
            let delta = replicas - before;
            if delta > 0 {
                self.scale_ups += 1;
                pool.bought += delta.unsigned_abs();
            } else {
                pool.removed += delta.unsigned_abs();
            }
        }
        pool.replicas = (change.kind != ChangeKind::Deleted).then_some(replicas);
    }

    fn machine(&mut self, at: u64, change: &Change) {
        let name = change.object.name();
        let known = self.machines.get(name).copied();
        let index = match (known, change.kind) {
            (Some(pool), ChangeKind::Deleted) => {
                self.machines.remove(name);
                pool
            }
            (None, ChangeKind::Added | ChangeKind::Modified) => {
                let Some(pool) = change.object.text("spec.pool").and_then(|p| self.pool_at.get(p).copied())
                else {
                    return;
                };
                self.machines.insert(name.to_owned(), pool);
                pool
            }
            _ => return,
        };
        let Some(pool) = self.pools.get_mut(index) else { return };
        pool.charge(at);
        pool.machines =
            if known.is_some() { pool.machines.saturating_sub(1) } else { pool.machines.saturating_add(1) };
        pool.peak = pool.peak.max(pool.machines);
        let price: f64 = self.pools.iter().map(|pool| f64::from(pool.machines) * pool.price).sum();
        self.courses.price.set(at, price);
    }

    /// Brings every running total up to `now`.
    pub(crate) fn charge(&mut self, now: Timestamp) {
        let at = self.millis(now);
        for pool in &mut self.pools {
            pool.charge(at);
        }
    }

    pub(crate) fn plots(&self, now: Timestamp) -> Plots {
        let at = self.millis(now);
        let finish = |series: &Series| series.clone().finish(at);
        Plots {
            slice_millis: self.courses.pending.slice_millis(),
            nodes: self.pools.iter().map(|pool| (pool.name.clone(), finish(&pool.nodes))).collect(),
            requested: self.courses.requested.each_ref().map(finish),
            allocatable: self.courses.allocatable.each_ref().map(finish),
            pending: finish(&self.courses.pending),
            price: finish(&self.courses.price),
        }
    }
}

impl PoolMeasure {
    fn charge(&mut self, at: u64) {
        self.machine_millis += u64::from(self.machines) * at.saturating_sub(self.since);
        self.since = at.max(self.since);
    }
}

fn plot(series: &mut [Series; 3], at: u64, sum: &Resources) {
    let gpus: u64 = sum
        .extended
        .iter()
        .filter(|(name, _)| name.0.ends_with("/gpu"))
        .fold(0, |all, (_, amount)| all.saturating_add(*amount));
    let values = [sum.cpu.0 as f64 / 1000.0, sum.memory.0 as f64 / f64::from(1 << 30), gpus as f64];
    for (series, value) in series.iter_mut().zip(values) {
        if (series.value() - value).abs() > f64::EPSILON {
            series.set(at, value);
        }
    }
}
