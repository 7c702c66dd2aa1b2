//! Rounds decided one after the other, with what has not changed kept from one to the next.
//!
//! Owns when something may be kept: what follows from nodes, bound pods, machines and pools alone, while nothing is on
//! its way, going or failing, so that no clock is asked. Then a pod more costs what it needs and not a walk over all
//! nodes. What is kept is the result of the same functions on the same input, so a decision never depends on it.

use crate::fleet::Fleet;
use crate::freshness::Freshness;
use crate::planted::Planted;
use crate::round::Round;
use crate::supply::{Ground, Supply};
use crate::{decide, rehearsal};
use jiff::Timestamp;
use model::{Cluster, Decision, Ledger, Policies, Standing};
use packing::Room;
use std::sync::Arc;

/// Decides rounds, equal to [`crate::decide`] byte for byte.
#[derive(Default)]
pub struct Planner(Memory);

impl Planner {
    /// Decides one round; what stands is looked at again only where it has changed since the round before.
    pub fn decide(
        &mut self,
        cluster: &Cluster,
        policies: &Policies,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Decision {
        if rehearsal::is_of_pools(cluster, policies) {
            // Two rounds on two clusters: neither is the next one's.
            return crate::decide(cluster, policies, ledger, now);
        }
        self.0.keeps = true;
        rehearsal::apply(cluster, policies, ledger, now, &mut |cluster, ledger| {
            decide::run(Round::new(cluster, policies, ledger, now, Planted::default()), &mut self.0)
        })
    }
}

/// What one round leaves to the next.
#[derive(Default)]
pub(crate) struct Memory {
    /// Off for a single decision, which nothing follows.
    keeps: bool,
    kept: Option<Kept>,
    /// The fleet of this round as it was surveyed.
    surveyed: Option<Fleet>,
}

struct Kept {
    standing: Standing,
    policies: Policies,
    fleet: Fleet,
    ground: Arc<Ground>,
    /// The room as it was surveyed.
    untouched: Room,
    /// The same, used and taken back, where that is certain: it saves the copy.
    again: Option<Room>,
}

impl Memory {
    /// The fleet of this round.
    pub(crate) fn fleet(&mut self, round: &mut Round<'_>, fresh: &Freshness) -> Fleet {
        let same = |kept: &Kept| {
            kept.standing.is(round.cluster.standing()) && kept.policies == *round.policies && rests(round)
        };
        if let Some(kept) = self.kept.as_ref().filter(|kept| same(kept)) {
            return kept.fleet.clone();
        }
        self.kept = None;
        let fleet = Fleet::survey(round, fresh);
        self.surveyed = self.keeps.then(|| fleet.clone());
        fleet
    }

    /// The supply of this round, whose fleet [`Memory::fleet`] gave.
    pub(crate) fn supply(&mut self, round: &mut Round<'_>, fleet: &Fleet) -> Supply {
        let rests = rests(round);
        if let Some(kept) = self.kept.as_mut().filter(|_| rests) {
            let room = kept.again.take().unwrap_or_else(|| kept.untouched.clone());
            return Supply::on(Arc::clone(&kept.ground), room);
        }
        self.kept = None;
        let mut supply = Supply::of(round, fleet);
        let surveyed = self.surveyed.take().filter(|fleet| rests && fleet.rests());
        if let Some(fleet) = surveyed.filter(|_| !supply.awaits_the_clock) {
            supply.room.begin_here();
            self.kept = Some(Kept {
                standing: round.cluster.standing().clone(),
                policies: round.policies.clone(),
                fleet,
                ground: Arc::clone(&supply.ground),
                untouched: supply.room.clone(),
                again: None,
            });
        }
        supply
    }

    /// Takes a round's supply back when the round is over.
    pub(crate) fn take_back(&mut self, mut supply: Supply) {
        if let Some(kept) = &mut self.kept {
            kept.again = supply.room.start_again().then_some(supply.room);
        }
    }
}

/// Whether nothing that changes with time bears on what nodes and pools are.
fn rests(round: &Round<'_>) -> bool {
    let ledger = &round.ledger;
    let none_open = ledger.scale_ups.is_empty()
        && ledger.removals.is_empty()
        && ledger.orphans.is_empty()
        && ledger.back_offs.is_empty();
    let no_rules = ledger.rules.is_empty() && round.cluster.rule_sets().is_empty();
    none_open && no_rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Change, Input, InputState, Labels, Node, NodeName, NodeTemplate, Pod, PodKey, Resources};

    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        for input in [Input::Nodes, Input::Pods, Input::Workloads, Input::DaemonSets, Input::Pdbs] {
            cluster.apply(Change::Input(input, InputState::Fresh));
        }
        for name in ["a", "b"] {
            let allocatable = Resources { cpu: model::MilliCpu(1000), pods: 9, ..Resources::default() };
            let template = NodeTemplate { labels: Labels::new(), allocatable, ..NodeTemplate::default() };
            cluster.apply(Change::Node(NodeName::new(name), Some(Arc::new(Node::promised(name, &template)))));
        }
        cluster
    }

    fn put(cluster: &mut Cluster, name: &str, node: Option<&str>) {
        let key = PodKey::new("default", name);
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "key": key, "uid": name, "node": node, "createdAt": "2026-01-01T00:00:00Z",
            "unschedulableSince": "2026-01-01T00:00:00Z",
            "shape": { "requests": { "cpu": 100, "pods": 1 } },
        }))
        .unwrap();
        cluster.apply(Change::Pod(key, Some(Arc::new(pod))));
    }

    /// What the figure of one pod more rests on.
    #[test]
    fn a_pod_that_waits_is_decided_about_on_what_was_kept() {
        let (mut planner, mut cluster) = (Planner::default(), cluster());
        let (policies, ledger, now) = (Policies::default(), Ledger::default(), Timestamp::MAX);
        let mut decide = |cluster: &Cluster| {
            let warm = planner.decide(cluster, &policies, &ledger, now);
            assert_eq!(warm, crate::decide(cluster, &policies, &ledger, now));
            let kept = planner.0.kept.as_ref().unwrap();
            (Arc::clone(&kept.ground), kept.again.is_some())
        };
        put(&mut cluster, "there", Some("a"));
        let (first, in_place) = decide(&cluster);
        assert!(in_place);
        put(&mut cluster, "waits", None);
        let (second, in_place) = decide(&cluster);
        assert!(Arc::ptr_eq(&first, &second) && in_place, "nothing that stands has changed");
        put(&mut cluster, "waits", Some("b"));
        assert!(!Arc::ptr_eq(&first, &decide(&cluster).0), "what stands has changed");
    }
}
