//! Faults between one client and the API: what a network, a busy server or a crash does to calls.
//!
//! Owns the plan, the seeded draws, the counts, and the hook that kills a client at its k-th call. Leaves the API
//! itself untouched: only the client behind the layer sees faults.

mod call;
mod layer;
mod plan;

pub use call::CallName;
pub use layer::{FaultService, FaultsLayer};
pub use plan::{Fault, FaultPlan, FaultRule};

use clock::Clock;
use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a client sees instead of an answer, or what is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    #[error("the connection broke before an answer came: {verb} {resource}")]
    Disconnected { verb: String, resource: String },
    /// The client was killed here; it must be dropped.
    #[error("this client was killed at its call {call}")]
    Killed { call: u64 },
    #[error("the fault plan's {field} makes no sense: {fix}")]
    Plan { field: String, fix: String },
}

/// Whether a killed client's last call was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillSide {
    /// The call is not sent.
    Before,
    /// The call is executed and its answer lost.
    After,
}

/// Where to kill a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillPoint {
    /// Which of its calls, from 1.
    pub call: u64,
    pub side: KillSide,
    /// Whether only writes are counted.
    pub only_writes: bool,
}

/// One injected fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    pub at: Timestamp,
    pub fault: &'static str,
    pub call: CallName,
}

/// How often a fault met a kind of call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultCount {
    pub fault: &'static str,
    pub verb: String,
    /// With `/subresource` where there is one.
    pub resource: String,
}

impl fmt::Display for FaultCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} met {} {}", self.fault, self.verb, self.resource)
    }
}

/// Injected faults that are remembered one by one; all are counted.
const MOST_REMEMBERED: usize = 4096;

struct Progress {
    draws: ChaCha8Rng,
    injected: Vec<u64>,
    counts: BTreeMap<FaultCount, u64>,
    remembered: Vec<Injected>,
    enabled: bool,
    calls: u64,
    writes: u64,
    kill: Option<KillPoint>,
    killed_at: Option<u64>,
}

struct Inner {
    plan: FaultPlan,
    clock: Clock,
    start: Timestamp,
    progress: Mutex<Progress>,
    killed: Notify,
}

/// The faults of one client. Clones share counts and draws.
#[derive(Clone)]
pub struct Faults(Arc<Inner>);

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} fault rules", self.0.plan.rules.len())
    }
}

impl Faults {
    /// Faults by a plan whose times count from now.
    pub fn new(plan: FaultPlan, seed: u64, clock: Clock) -> Result<Self, FaultError> {
        plan.check()?;
        let progress = Progress {
            draws: ChaCha8Rng::seed_from_u64(seed),
            injected: vec![0; plan.rules.len()],
            counts: BTreeMap::new(),
            remembered: Vec::new(),
            enabled: true,
            calls: 0,
            writes: 0,
            kill: None,
            killed_at: None,
        };
        let start = clock.now();
        Ok(Self(Arc::new(Inner {
            plan,
            clock,
            start,
            progress: Mutex::new(progress),
            killed: Notify::new(),
        })))
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tower layer to put between a client and the API.
    pub fn layer(&self) -> FaultsLayer {
        FaultsLayer::new(self.clone())
    }

    /// A client of the API behind these faults.
    pub fn client(&self, api: &crate::api::Api) -> kube::Client {
        kube::Client::new(tower::Layer::layer(&self.layer(), api.service()), "default")
    }

    /// Switches the rules on or off; the kill point stays armed.
    pub fn set_enabled(&self, enabled: bool) {
        self.progress().enabled = enabled;
    }

    /// Kills the client at a call counted from now: that call and all later ones fail.
    pub fn kill_at(&self, point: KillPoint) {
        let mut progress = self.progress();
        (progress.calls, progress.writes) = (0, 0);
        progress.kill = Some(point);
    }

    pub fn is_killed(&self) -> bool {
        self.progress().killed_at.is_some()
    }

    /// Waits until the client was killed.
    pub async fn killed(&self) {
        loop {
            let killed = self.0.killed.notified();
            if self.is_killed() {
                return;
            }
            killed.await;
        }
    }

    /// Lets calls pass again, for the next life of the client.
    pub fn revive(&self) {
        let mut progress = self.progress();
        (progress.kill, progress.killed_at) = (None, None);
        (progress.calls, progress.writes) = (0, 0);
    }

    /// Calls and writes since the start, the last revival or the last `kill_at`.
    pub fn calls(&self) -> (u64, u64) {
        let progress = self.progress();
        (progress.calls, progress.writes)
    }

    /// How often each fault met each kind of call.
    pub fn counts(&self) -> BTreeMap<FaultCount, u64> {
        self.progress().counts.clone()
    }

    /// The first faults one by one, with their times.
    pub fn injected(&self) -> Vec<Injected> {
        self.progress().remembered.clone()
    }

    /// Counts a call and says whether it is the client's last one, or comes after it.
    fn meets_kill(&self, call: &CallName) -> Option<(KillSide, u64)> {
        let mut progress = self.progress();
        if let Some(at) = progress.killed_at {
            return Some((KillSide::Before, at));
        }
        progress.calls += 1;
        progress.writes += u64::from(call.is_write());
        let point = progress.kill?;
        let count = if point.only_writes { progress.writes } else { progress.calls };
        if count < point.call || point.only_writes && !call.is_write() {
            return None;
        }
        progress.killed_at = Some(count);
        drop(progress);
        self.0.killed.notify_waiters();
        Some((point.side, count))
    }

    /// The faults that this call meets, in the order of the rules.
    fn draw(&self, call: &CallName) -> Vec<Fault> {
        let now = self.0.clock.now();
        let seconds = now.duration_since(self.0.start).as_secs().max(0) as u64;
        let mut progress = self.progress();
        if !progress.enabled {
            return Vec::new();
        }
        let mut met = Vec::new();
        for (index, rule) in self.0.plan.rules.iter().enumerate() {
            let timely =
                seconds >= rule.from_seconds && rule.until_seconds.is_none_or(|until| seconds < until);
            let spent = rule.most.is_some_and(|most| progress.injected[index] >= most);
            if !timely || spent || !rule.is_about(call) || !progress.draws.random_bool(rule.probability) {
                continue;
            }
            progress.injected[index] += 1;
            let fault = rule.fault.name();
            let key = FaultCount { fault, verb: call.verb.to_owned(), resource: call.resource.clone() };
            *progress.counts.entry(key).or_insert(0) += 1;
            if progress.remembered.len() < MOST_REMEMBERED {
                progress.remembered.push(Injected { at: now, fault, call: call.clone() });
            }
            met.push(rule.fault.clone());
        }
        met
    }

    fn milliseconds_up_to(&self, most: u64) -> u64 {
        self.progress().draws.random_range(0..=most)
    }
}

impl FaultRule {
    fn is_about(&self, call: &CallName) -> bool {
        self.fault.fits(call.verb)
            && (self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == call.verb))
            && (self.resources.is_empty() || self.resources.contains(&call.resource))
    }
}

#[cfg(test)]
mod tests;
