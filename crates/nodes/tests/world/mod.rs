//! A cluster for tests: made in one line, decided on, and changed as the plan says.
//!
//! Owns a clock, a ledger and the steps that are not answered yet. What it does with steps is the simplest thing that
//! a provider and an API server could do.

mod direct;
mod make;
mod node_rules;
mod obey;
mod outlooks;

pub(crate) use make::Attributes;
pub(crate) use node_rules::rule_set_key;
#[allow(unused_imports, reason = "only scenarios take one away")]
pub(crate) use outlooks::outlook_key;

use jiff::{SignedDuration, Timestamp};
use model::{
    Change, Cluster, Decision, Input, InputState, Ledger, Outcome, OutcomeKind, Policies, PoolId, Step,
    WorkloadKey,
};
use std::sync::Arc;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) policies: Policies,
    pub(crate) ledger: Ledger,
    pub(crate) now: Timestamp,
    /// Steps that were handed out and not answered.
    pub(crate) open: Vec<Step>,
    /// Number of the next machine, for its name.
    machines: u32,
    births: u32,
    /// Keeps what has not changed from round to round; it must never show.
    planner: nodes::Planner,
}

/// The object that asks for headroom in tests: a buffer, or a request, whose name begins with `r`.
pub(crate) fn headroom_key(name: &str) -> WorkloadKey {
    if name.starts_with('r') {
        return model::request_key("default", name);
    }
    WorkloadKey::new("CapacityBuffer", "default", name)
}

pub(crate) fn pool_id(name: &str) -> PoolId {
    PoolId::from(format!("simulated/{name}"))
}

/// The first line by which what a planner decided is not what would have been decided without it.
fn differs(cold: &Decision, warm: &Decision) -> String {
    let (cold, warm) = (format!("{cold:#?}"), format!("{warm:#?}"));
    let line = cold.lines().zip(warm.lines()).find(|(cold, warm)| cold != warm);
    format!("kept from the round before, it decides otherwise: {line:?}")
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            policies: Policies::default(),
            ledger: Ledger { epoch: 1, ..Ledger::default() },
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            open: Vec::new(),
            machines: 0,
            births: 0,
            planner: nodes::Planner::default(),
        };
        for input in [
            Input::Nodes,
            Input::Pods,
            Input::Workloads,
            Input::DaemonSets,
            Input::Pdbs,
            Input::NodeRules,
            Input::Outlooks,
            Input::Headroom,
            Input::Pools("simulated".into()),
        ] {
            world.cluster.apply(Change::Input(input, InputState::Fresh));
        }
        world
    }

    pub(crate) fn ago(&self, wait: SignedDuration) -> Timestamp {
        self.now.checked_sub(wait).unwrap()
    }

    pub(crate) fn pass(&mut self, wait: SignedDuration) {
        self.now = self.now.checked_add(wait).unwrap();
    }

    /// Decides, checks the decision on its own, and takes over the ledger and the plan.
    pub(crate) fn round(&mut self) -> (Decision, Vec<String>) {
        let cold = nodes::decide(&self.cluster, &self.policies, &self.ledger, self.now);
        let decision = self.planner.decide(&self.cluster, &self.policies, &self.ledger, self.now);
        let warm_differs = (decision != cold).then(|| differs(&cold, &decision));
        let found = checker::check_plan(&self.cluster, &self.policies, &self.ledger, &decision, self.now);
        self.ledger = decision.ledger.clone();
        for step in &decision.plan.steps {
            if !self.open.contains(step) {
                self.open.push(step.clone());
            }
        }
        self.cluster.forget_outcomes();
        let again = self.planner.decide(&self.cluster, &self.policies, &self.ledger, self.now);
        let mut complaints: Vec<String> = found.iter().map(ToString::to_string).collect();
        complaints.extend(warm_differs);
        // A round that changed much looks again soon: what the change makes possible may wait for that.
        let soon = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        let last_word = decision.wake_at.is_none_or(|at| at > soon);
        if last_word && (!again.plan.steps.is_empty() || again.ledger != self.ledger) {
            let (old, new) = (format!("{:#?}", self.ledger), format!("{:#?}", again.ledger));
            let lines = old.lines().zip(new.lines()).filter(|(a, b)| a != b).take(5);
            let changed: Vec<String> = lines.map(|(a, b)| format!("{} / {}", a.trim(), b.trim())).collect();
            complaints.push(format!("decided again it plans more: {:?}; {changed:?}", again.plan.steps));
        }
        // A wake-up that the round itself made needless does no harm; one that is missed does. After a search for
        // cheaper machines, only a change is worth another: the wake-up for that is told by the round that it makes.
        let searched = self.ledger.searched.as_ref().is_some_and(|last| last.at == self.now);
        if last_word
            && !searched
            && again.wake_at.is_some_and(|at| decision.wake_at.is_none_or(|first| at < first))
        {
            complaints
                .push(format!("decided again it wakes at {:?}, not {:?}", again.wake_at, decision.wake_at));
        }
        (decision, complaints)
    }

    /// Answers the open steps that `which` names, all of them in one way.
    pub(crate) fn answer(&mut self, kind: &OutcomeKind, which: impl Fn(&Step) -> bool) {
        let (answered, open) = std::mem::take(&mut self.open).into_iter().partition(|step| which(step));
        self.open = open;
        for step in answered {
            self.outcome(step, kind.clone());
        }
    }

    fn outcome(&mut self, step: Step, kind: OutcomeKind) {
        self.cluster.apply(Change::Outcome(Arc::new(Outcome { at: self.now, step, kind })));
    }
}
