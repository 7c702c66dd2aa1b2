//! Carrying steps out in a test cluster, as a provider and an API server that never fail would.

use super::make::machine_id;
use super::{World, pool_id};
use crate::world::Attributes;
use jiff::SignedDuration;
use model::{
    Change, Machine, MachineState, NodeName, OutcomeKind, Pod, PodPhase, PoolId, Readiness, Step, claim_of,
};
use packing::{Room, SpotIx, Vocabulary};
use std::sync::Arc;

impl World {
    /// Does what the open steps say and answers them.
    pub(crate) fn obey(&mut self, which: impl Fn(&Step) -> bool) {
        let (chosen, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|step| which(step));
        self.open = open;
        for step in chosen {
            let kind = self.carry_out(&step);
            self.outcome(step, kind);
        }
    }

    fn carry_out(&mut self, step: &Step) -> OutcomeKind {
        match step {
            Step::Buy(buy) if self.cluster.pools()[&buy.pool].max < buy.to => return obsolete(),
            Step::Buy(buy) if !buy.launches.is_empty() => {
                self.set_target(&buy.pool, buy.to);
                self.launch(buy);
            }
            Step::Buy(buy) => self.grow(&buy.pool, buy.to),
            Step::Lower(lower) => self.set_target(&lower.pool, lower.to),
            Step::MarkNode(mark) => self.change_node(mark.node.as_str(), |node| {
                node.taints.extend(mark.taints.iter().cloned());
                node.annotations.insert("tideline.dev/intent".into(), mark.intent.as_str().into());
                if mark.cordon {
                    node.unschedulable = true;
                    node.annotations.insert("tideline.dev/cordoned".into(), "true".into());
                }
            }),
            Step::UndoNode(undo) => self.change_node(undo.node.as_str(), |node| {
                node.taints.retain(|taint| !undo.taints.contains(&taint.key));
                node.annotations.retain(|key, _| !key.starts_with("tideline.dev/"));
                node.unschedulable &= !undo.uncordon;
            }),
            Step::Evict(evict) => self.evict(&evict.pod),
            Step::Release(release) if !self.cluster.machines().contains_key(&release.machine) => {}
            Step::Release(release) => {
                let pool = &self.cluster.pools()[&release.pool];
                if pool.target <= pool.min.max(release.min) {
                    return obsolete();
                }
                let target = self.cluster.pools()[&release.pool].target - 1;
                self.set_target(&release.pool, target);
                self.cluster.apply(Change::Machine(release.machine.clone(), None));
                if let Some(node) = &release.node {
                    // A claim that is deleted is drained first, by those who keep claims.
                    if claim_of(&release.machine).is_some() {
                        let moved: Vec<_> = self.cluster.pods_on(node).map(|pod| pod.key.clone()).collect();
                        for pod in &moved {
                            self.evict(pod);
                        }
                    }
                    self.lose_node(node);
                }
            }
            Step::DeleteNode { node, .. } => self.lose_node(node),
            Step::SoftTaint(soft) => self.change_node(soft.node.as_str(), |node| {
                node.taints.retain(|taint| taint.key != soft.taint.key);
                if soft.put {
                    node.taints.push(soft.taint.clone());
                }
            }),
        }
        OutcomeKind::Done
    }

    fn set_target(&mut self, pool: &PoolId, target: u32) {
        let name = pool.as_str().strip_prefix("simulated/").unwrap().to_owned();
        self.change_pool(&name, |pool| pool.target = target);
    }

    /// The provider takes the order and begins to make machines.
    fn grow(&mut self, pool: &PoolId, to: u32) {
        let from = self.cluster.pools()[pool].target;
        self.set_target(pool, to.max(from));
        self.begin_machines(pool, to.saturating_sub(from));
    }

    /// The provider makes up for machines that were lost.
    #[allow(dead_code, reason = "scenarios tell it themselves")]
    pub(crate) fn make_up(&mut self, name: &str) {
        let pool = pool_id(name);
        let machines = self.cluster.machines_of(&pool).filter(|m| m.state != MachineState::Deleting).count();
        let missing = (self.cluster.pools()[&pool].target as usize).saturating_sub(machines);
        self.begin_machines(&pool, missing as u32);
    }

    fn begin_machines(&mut self, pool: &PoolId, count: u32) {
        for _ in 0..count {
            let number = self.next_machine();
            let name = format!("{}-new-{number}", pool.as_str().strip_prefix("simulated/").unwrap());
            let machine = Machine {
                id: machine_id(&name),
                pool: pool.clone(),
                state: MachineState::Creating,
                created_at: self.now,
                node: None,
                aliases: Vec::new(),
                direct: None,
            };
            self.cluster.apply(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
        }
    }

    /// Machines of a pool that are being made become ready nodes.
    pub(crate) fn join(&mut self, pool: &str, most: usize) {
        for claim in self.claims_begun(&pool_id(pool)).into_iter().take(most) {
            self.claim_joins(&claim, SignedDuration::ZERO);
        }
        let names: Vec<String> = self
            .cluster
            .machines_of(&pool_id(pool))
            .filter(|machine| machine.state == MachineState::Creating)
            .take(most)
            .filter_map(|machine| machine.id.as_str().strip_prefix("simulated://").map(str::to_owned))
            .collect();
        for name in names {
            let line = format!("pool={pool} age=0s extra");
            self.make_node(&name, &Attributes::of(line.split_whitespace()));
        }
    }

    /// The eviction takes the pod at once; its owner makes another.
    fn evict(&mut self, key: &model::PodKey) {
        let Some(pod) = self.cluster.pods().get(key).cloned() else { return };
        self.cluster.apply(Change::Pod(key.clone(), None));
        if pod.owner.is_some() {
            let birth = self.next_birth();
            let name = format!("{}-again-{birth}", pod.key.name);
            let again = Pod {
                key: model::PodKey::new(&*pod.key.namespace, &name),
                uid: format!("pod-{name}").into(),
                node: None,
                ready: false,
                phase: PodPhase::Pending,
                created_at: self.now,
                unschedulable_since: None,
                ..Pod::clone(&pod)
            };
            self.cluster.apply(Change::Pod(again.key.clone(), Some(Arc::new(again))));
        }
    }

    fn lose_node(&mut self, node: &NodeName) {
        self.cluster.apply(Change::Node(node.clone(), None));
        let lost: Vec<_> = self.cluster.pods_on(node).map(|pod| pod.key.clone()).collect();
        for key in lost {
            self.cluster.apply(Change::Pod(key, None));
        }
    }

    /// The scheduler binds every waiting pod that fits on a ready node, and refuses the others.
    pub(crate) fn schedule(&mut self) {
        let waiting: Vec<Arc<Pod>> = self
            .cluster
            .waiting_pods()
            .filter(|pod| !pod.gated && pod.shape.unmodelled.is_empty())
            .map(Arc::clone)
            .collect();
        let (mut room, names) = self.room();
        for pod in waiting {
            let class = room.class(&pod.shape, &pod.key.namespace, &pod.labels);
            let place = (0..room.len()).map(SpotIx).find(|spot| room.place_on(class, *spot));
            let place = place.map(|spot| names[spot.0].clone());
            let now = self.now;
            self.change_pod(&pod.key, |pod| match place {
                Some(node) => {
                    pod.node = Some(node);
                    pod.ready = true;
                    pod.phase = PodPhase::Running;
                    pod.unschedulable_since = None;
                }
                None => pod.unschedulable_since = Some(pod.unschedulable_since.unwrap_or(now)),
            });
        }
    }

    /// All nodes with what is on them, as the scheduler sees them.
    pub(crate) fn room(&self) -> (Room, Vec<NodeName>) {
        let vocabulary = Vocabulary::of(self.cluster.pods().values().map(|pod| &*pod.shape));
        let mut room = Room::new(vocabulary, self.cluster.namespaces());
        let mut names = Vec::new();
        for node in self.cluster.nodes().values() {
            let spot = room.add(Arc::clone(node));
            names.push(node.name.clone());
            for pod in self.cluster.pods_on(&node.name).filter(|pod| pod.occupies()) {
                let class = match pod.deletion_at {
                    Some(_) => room.terminating_class(&pod.shape, &pod.key.namespace, &pod.labels),
                    None => room.class(&pod.shape, &pod.key.namespace, &pod.labels),
                };
                room.hold(class, spot, 1);
            }
            if !matches!(node.readiness, Readiness::Ready { .. }) {
                room.bar(spot);
            }
        }
        (room, names)
    }
}

fn obsolete() -> OutcomeKind {
    OutcomeKind::Obsolete { why: "over a bound".into() }
}
