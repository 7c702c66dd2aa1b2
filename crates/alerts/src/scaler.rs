//! Carries out what alerts ask for: reads, decides, writes once, and keeps the history in step.
//!
//! Owns the order of the calls, which is what makes a kill at any of them harmless: size and record in one guarded
//! write, history after it, and every delivery repairs what an earlier one left undone. What is right to do is
//! `decide`'s.

use crate::alert::Alert;
use crate::decide::{Deployment, choose, decide, triage};
use crate::error::AlertsError;
use crate::history::History;
use crate::objects::{ClusterObjects, Found};
use crate::reason::Reason;
use crate::record::Scaling;
use crate::trigger::Settings;
use calls::backoff::Backoff;
use clock::Clock;
use clouds::ProviderError;
use kube::Client;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::{Mutex, Notify, Semaphore, watch};

/// Reads and writes of one delivery before it is given back to be delivered again.
const MOST_ATTEMPTS: u32 = 6;
/// Deliveries that may wait for their turn.
const MOST_WAITING: usize = 64;
/// Waits between attempts at the repair.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Machines were added.
    Scaled { cluster: String, target: String, from: u32, to: u32 },
    /// Rules of a planner ask for nodes; what becomes of that is the planner's to say.
    Demanded { rules: Vec<String> },
    /// Nothing was changed.
    Skipped(Reason),
}

/// Takes alerts, one at a time.
pub struct Scaler {
    objects: ClusterObjects,
    settings: Settings,
    clock: Clock,
    turn: Mutex<()>,
    waiting: Semaphore,
    /// A history that could not be written is written later.
    unrepaired: Notify,
    ready: watch::Sender<bool>,
}

impl Scaler {
    /// `namespace` is where the history is kept.
    pub fn new(client: Client, namespace: String, settings: Settings, clock: Clock) -> Self {
        Self {
            objects: ClusterObjects::new(client, namespace),
            settings,
            clock,
            turn: Mutex::default(),
            waiting: Semaphore::new(MOST_WAITING),
            unrepaired: Notify::new(),
            ready: watch::channel(false).0,
        }
    }

    /// Whether the cluster was read once.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Decides an alert and carries it out. An error means that nothing is known to have changed, and that another
    /// delivery of the same alert is safe and useful.
    pub async fn take(&self, alert: &Alert) -> Result<Verdict, AlertsError> {
        let demand = match triage(alert, &self.settings, self.clock.now()) {
            Ok(demand) => demand,
            Err(reason) => return Ok(Verdict::Skipped(reason)),
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| AlertsError::Busy)?;
        let _turn = self.turn.lock().await;
        let mut attempted: Option<Scaling> = None;
        for _ in 0..MOST_ATTEMPTS {
            let all = self.objects.machine_deployments().await?;
            let mine: Vec<&Found> = all.iter().filter(|found| found.cluster == demand.cluster).collect();
            let facts: Vec<Deployment> = mine.iter().map(|found| found.facts.clone()).collect();
            if let Some((scaling, target)) = attempted.as_ref().and_then(|own| written(own, &facts)) {
                // The answer to our write was lost, and the write was not.
                // Where it fails it is tried again in the background: the scaling stands.
                let _ = self.keep_history(&demand.cluster, &mine).await;
                return Ok(scaled(&demand.cluster, &target, &scaling));
            }
            let history = self.keep_history(&demand.cluster, &mine).await;
            let (at, target) = match choose(&demand, &facts) {
                Ok(chosen) => chosen,
                Err(reason) => return Ok(Verdict::Skipped(reason)),
            };
            let history = history?;
            let addresses = self.objects.addresses(mine[at], &all).await?;
            let decided =
                decide((&demand, alert), (&facts, target), (&addresses, &history), self.clock.now());
            let scaling = match decided {
                Ok(scaling) => scaling,
                Err(reason) => return Ok(Verdict::Skipped(reason)),
            };
            let mut record = target.record.clone().unwrap_or_default();
            record.push(scaling.clone());
            match self.objects.scale(mine[at], scaling.to, &record).await {
                Ok(()) => {
                    let mut written = mine[at].clone();
                    written.facts.record = Ok(record);
                    let others = mine.iter().enumerate().filter(|(other, _)| *other != at);
                    let mine: Vec<&Found> =
                        others.map(|(_, found)| *found).chain(std::iter::once(&written)).collect();
                    let _ = self.keep_history(&demand.cluster, &mine).await;
                    return Ok(scaled(&demand.cluster, &target.title(), &scaling));
                }
                Err(error @ ProviderError::Refused { .. }) => return Err(error.into()),
                // Somebody else wrote, or the answer was lost: what is true now is read again.
                Err(error) => tracing::info!(%error, "the MachineDeployment is read again"),
            }
            attempted = Some(scaling);
        }
        Err(AlertsError::Contended { target: format!("a MachineDeployment of {}", demand.cluster) })
    }

    /// Brings a cluster's history up to what its MachineDeployments remember, and returns it. What fails is tried
    /// again in the background: the scaling itself stands.
    async fn keep_history(&self, cluster: &str, mine: &[&Found]) -> Result<History, AlertsError> {
        let kept = self.repaired(cluster, mine).await;
        if let Err(error) = &kept {
            tracing::warn!(cluster, %error, "the history is not up to date and will be repaired");
            self.unrepaired.notify_one();
        }
        Ok(kept?)
    }

    async fn repaired(&self, cluster: &str, mine: &[&Found]) -> Result<History, ProviderError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let map = self.objects.history().await?;
            let text = map.get(cluster);
            let (mut history, damage) = match History::read(text) {
                Ok(history) => (history, None),
                Err(problem) => (History::default(), text.map(|text| (text.to_owned(), problem))),
            };
            if let Some((text, problem)) = &damage {
                tracing::error!(cluster, problem, "the history is damaged; it is kept aside and begun anew");
                self.objects.keep_aside(cluster, text, self.clock.now().as_second()).await?;
            }
            let records = mine.iter().filter_map(|found| found.facts.record.as_ref().ok());
            let missing = history.repair(records.flat_map(|record| &record.scalings));
            if !missing && damage.is_none() {
                return Ok(history);
            }
            match self.objects.write_history(map, cluster, history.write()).await {
                Ok(()) => return Ok(history),
                Err(error @ ProviderError::Transient { .. }) if attempt < MOST_ATTEMPTS => {
                    tracing::info!(%error, "the history is read again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Repairs every cluster's history: once at the start, then whenever one could not be written. Never ends.
    pub async fn keep_repaired(&self, seed: u64) {
        let mut waits = Backoff::new(seed, FIRST_WAIT, LONGEST_WAIT);
        loop {
            match self.repair_all().await {
                Ok(()) => {
                    waits.reset();
                    self.ready.send_replace(true);
                    self.unrepaired.notified().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the histories are not checked yet");
                }
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    async fn repair_all(&self) -> Result<(), AlertsError> {
        let _turn = self.turn.lock().await;
        let all = self.objects.machine_deployments().await?;
        let has_record =
            |found: &&Found| found.facts.record.as_ref().is_ok_and(|record| !record.scalings.is_empty());
        let clusters: BTreeSet<&str> =
            all.iter().filter(has_record).map(|found| found.cluster.as_str()).collect();
        for cluster in clusters {
            let mine: Vec<&Found> = all.iter().filter(|found| found.cluster == cluster).collect();
            self.repaired(cluster, &mine).await?;
        }
        Ok(())
    }
}

/// Our own scaling, where it was written after all.
fn written(own: &Scaling, deployments: &[Deployment]) -> Option<(Scaling, String)> {
    deployments.iter().find_map(|deployment| {
        let record = deployment.record.as_ref().ok()?;
        record.scalings.contains(own).then(|| (own.clone(), deployment.title()))
    })
}

fn scaled(cluster: &str, target: &str, scaling: &Scaling) -> Verdict {
    Verdict::Scaled {
        cluster: cluster.to_owned(),
        target: target.to_owned(),
        from: scaling.from,
        to: scaling.to,
    }
}
