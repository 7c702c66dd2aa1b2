//! The same policies on the machines of the embedded cluster: its scheduler, its cloud, and the controller itself.
//!
//! Owns the translation: each minute a policy's replicas are written to a Deployment, and what it forecasts to the status
//! of an autoscaler, from where the controller learns of pods to come. What replicas serve is not asked here: what is
//! measured is how long their pods wait, and what machines cost.

use super::policy::{self, PolicyKind, Seen};
use super::{Comparison, whole};
use crate::engine::{Checks, Setup, run};
use crate::error::SimulatorError;
use crate::scenario::{BootSpec, PoolSpec, Scenario, TemplateSpec};
use crate::workload::{TimedWrite, UserWrite};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::ops::Range;

/// A pod that waited longer than this waited for a machine: the scheduler takes a second or two.
const NO_WAIT_MILLIS: u64 = 10_000;
/// Before the first tried minute: time in which the first replicas get their machines, which counts for nothing.
const WARM_UP_MINUTES: usize = 15;
const NAMESPACE: &str = "default";
const NAME: &str = "web";
/// What a machine has beside its replicas: nothing else runs on it.
const PODS: usize = 110;

/// What became of a policy's pods and machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnMachines {
    pub policy: PolicyKind,
    /// Whether known future replicas were planned for.
    pub joined: bool,
    pub pods: u64,
    /// Pods that waited for a machine, and for how long all together.
    pub waited: u64,
    pub waited_seconds: u64,
    pub longest_seconds: u64,
    pub machine_minutes: u64,
    pub machines_bought: u64,
    /// Invariants that were broken.
    pub violations: u64,
}

impl OnMachines {
    /// Pods that started without waiting for a machine, in per cent.
    pub fn at_once_percent(&self) -> f64 {
        100.0 * (1.0 - self.waited as f64 / self.pods.max(1) as f64)
    }
}

impl Comparison {
    /// Runs one policy's replicas over the tried part, or `days` of it, on machines: `joined` with what it forecasts
    /// known to the planner, else with a planner that follows pods.
    pub fn on_machines(
        &self,
        requests: &[f64],
        kind: PolicyKind,
        joined: bool,
        days: Option<usize>,
    ) -> Result<OnMachines, SimulatorError> {
        let mut tried = self.tried(requests)?;
        if let Some(days) = days {
            tried.end = tried.end.min(tried.start + days * 1_440);
        }
        let seconds = ((tried.len() + WARM_UP_MINUTES) as u64).saturating_mul(60);
        let first = self.first(requests, tried.start);
        let scenario = self.scenario(joined);
        let setup = Setup {
            scenario: &scenario,
            pools: &scenario.pools,
            writes: self.writes(requests, kind, joined, tried)?,
            trace: None,
            seconds,
            write_log: None,
            alter: None,
            checks: Checks::new(&scenario.policies, None),
            events: false,
        };
        let result = run(setup, &mut |_| {})?;
        if let Some(problem) = result.refused.first() {
            return Err(super::wrong(problem.clone()));
        }
        Ok(result.seen.with(|seen| {
            seen.measure.charge(result.end);
            // Those of the start are placed before any other: their machines are not there yet, whoever plans.
            let waits = seen.measure.waits_millis.get(first..).unwrap_or_default();
            let waited = waits.iter().filter(|wait| **wait > NO_WAIT_MILLIS);
            let machine_millis: u64 = seen.measure.pools().iter().map(|pool| pool.machine_millis).sum();
            OnMachines {
                policy: kind,
                joined,
                pods: waits.len() as u64,
                waited: waited.clone().count() as u64,
                waited_seconds: waited.sum::<u64>() / 1000,
                longest_seconds: waits.iter().copied().max().unwrap_or(0) / 1000,
                machine_minutes: machine_millis / 60_000,
                machines_bought: seen.measure.pools().iter().map(|pool| pool.bought).sum(),
                violations: seen.checks.violations,
            }
        }))
    }

    /// Replicas before the first tried minute.
    fn first(&self, requests: &[f64], minute: usize) -> usize {
        self.world.clamped(whole(requests[minute - 1] / self.wanted_load()))
    }

    fn scenario(&self, joined: bool) -> Scenario {
        let world = &self.world;
        let each = world.replicas_per_machine;
        let boot = u32::try_from(world.machine_start_up_minutes * 60).unwrap_or(u32::MAX);
        let allocatable =
            [("cpu", each.to_string()), ("memory", "64Gi".to_owned()), ("pods", PODS.max(each).to_string())];
        let mut policies = model::Policies::default();
        let minutes = |count: usize| SignedDuration::from_mins(count as i64);
        policies.unneeded_time = minutes(world.keep_empty_minutes);
        policies.delay_after_add = SignedDuration::ZERO;
        policies.ahead.enabled = joined;
        policies.ahead.unknown_lead = minutes(world.machine_start_up_minutes);
        policies.ahead.most_share_percent = 100;
        Scenario {
            name: "compare".to_owned(),
            seed: 1,
            start: jiff::Timestamp::from_second(1_767_571_200).unwrap_or_default(),
            duration: None,
            pools: vec![PoolSpec {
                name: "machines".to_owned(),
                min: 0,
                max: u32::try_from(world.most_replicas.div_ceil(each) + 1).unwrap_or(u32::MAX),
                template: TemplateSpec {
                    allocatable: allocatable.map(|(name, amount)| (name.to_owned(), amount)).into(),
                    ..TemplateSpec::default()
                },
                boot_seconds: BootSpec { min: boot, max: boot },
                price_per_hour_usd: None,
                priority: 0,
                provider: crate::scenario::ProviderSpec::default(),
            }],
            policies,
            faults: Vec::new(),
            workload: crate::scenario::WorkloadSpec::default(),
            trace: None,
        }
    }

    /// Each minute what the policy wants, and what it forecasts for when a machine that is ordered now is there.
    fn writes(
        &self,
        requests: &[f64],
        kind: PolicyKind,
        joined: bool,
        tried: Range<usize>,
    ) -> Result<Vec<TimedWrite>, SimulatorError> {
        let mut policy = policy::of(kind, self, requests, tried.start)?;
        let first = self.first(requests, tried.start);
        let count = |replicas: usize| u32::try_from(replicas).unwrap_or(u32::MAX);
        let mut replicas = first;
        let mut writes = vec![TimedWrite { second: 0, write: UserWrite::Create(deployment(first)) }];
        if joined {
            writes.push(TimedWrite {
                second: 0,
                write: UserWrite::Create(autoscaler(self.world.most_replicas)),
            });
        }
        let mut told = None;
        for minute in tried.clone() {
            let wish = policy.wish(&Seen { minute, requests, replicas });
            let second = ((minute - tried.start + WARM_UP_MINUTES) * 60) as u64;
            let wanted = self.world.clamped(wish.replicas);
            if wanted != replicas {
                let (namespace, name) = (NAMESPACE.to_owned(), NAME.to_owned());
                let write = UserWrite::Scale { namespace, name, replicas: count(wanted) };
                writes.push(TimedWrite { second, write });
            }
            replicas = wanted;
            let ahead = self.world.clamped(wish.ahead.max(wanted));
            // What is told holds until something else is; it is told anew before its time has passed.
            if joined && (told != Some(ahead) || ahead > replicas) {
                told = Some(ahead);
                let due = second + (self.world.machine_start_up_minutes * 60) as u64;
                let outlook = vec![(second, count(wanted)), (due, count(ahead))];
                let (namespace, name) = (NAMESPACE.to_owned(), NAME.to_owned());
                writes.push(TimedWrite { second, write: UserWrite::Tell { namespace, name, outlook } });
            }
        }
        Ok(writes)
    }
}

fn deployment(replicas: usize) -> Value {
    let labels = json!({"app": NAME});
    let container =
        json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

fn autoscaler(most: usize) -> Value {
    json!({
        "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "IntelligentHorizontalPodAutoscaler",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 1, "maxReplicas": most, "portraitProviders": [],
        },
    })
}
