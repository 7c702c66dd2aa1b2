//! Machines of direct pools that cheaper ones replace: from the decision to the end, and not again.

#![expect(clippy::expect_used, reason = "a test that cannot go on should stop")]

use jiff::{SignedDuration, Timestamp};
use model::{
    Bytes, CapacityType, Change, Cluster, Consolidation, Decision, DirectMachine, DirectPool, DirectSpec,
    DisruptionBudget, DisruptionPolicy, Flavour, Input, InputState, InstanceType, Labels, Ledger, Machine,
    MachineId, MachineState, MicroUsdPerHour, MilliCpu, Node, NodeName, Offering, Pod, PodKey, PodPhase,
    PodShape, Policies, Pool, PoolId, PoolKind, PoolOptions, Profile, ProviderKind, Reason, RemovalCause,
    Resources, SafeToEvict, Share, Step, claimed_machine,
};
use std::sync::Arc;

const START: i64 = 1_000_000;

struct World {
    cluster: Cluster,
    ledger: Ledger,
    now: Timestamp,
}

fn amounts(cores: u64) -> Resources {
    Resources { cpu: MilliCpu(cores * 1000), memory: Bytes(cores << 32), pods: 100, ..Resources::default() }
}

fn kind(name: &str, cores: u64, price: u64) -> InstanceType {
    let offering = Offering {
        zone: "a".into(),
        capacity_type: CapacityType::OnDemand,
        price: MicroUsdPerHour(price),
        available: true,
        remaining: None,
    };
    InstanceType {
        name: name.into(),
        requirements: Vec::new(),
        capacity: amounts(cores),
        allocatable: amounts(cores),
        offerings: vec![offering],
    }
}

fn pool_id() -> PoolId {
    PoolId::from("simulated/direct")
}

impl World {
    /// Types of 6, 8 and 16 cores; machines go when nothing has happened on them for a minute.
    fn new(budgets: Vec<DisruptionBudget>) -> Self {
        Self::with(Consolidation::WhenEmptyOrUnderutilized, budgets)
    }

    fn with(consolidation: Consolidation, budgets: Vec<DisruptionBudget>) -> Self {
        let now = Timestamp::from_second(START).expect("a time");
        let mut cluster = Cluster::default();
        for input in [
            Input::Nodes,
            Input::Pods,
            Input::Workloads,
            Input::DaemonSets,
            Input::Pdbs,
            Input::Pools("simulated".into()),
        ] {
            cluster.apply(Change::Input(input, InputState::Fresh));
        }
        let spec = DirectSpec {
            catalogue: Arc::new(vec![
                kind("small", 6, 330_000),
                kind("large", 8, 400_000),
                kind("huge", 16, 700_000),
            ]),
            disruption: DisruptionPolicy {
                consolidation,
                after: Some(SignedDuration::from_mins(1)),
                budgets,
            },
            ..DirectSpec::default()
        };
        let pool = Pool {
            id: pool_id(),
            name: "direct".into(),
            provider: ProviderKind::Simulated,
            profile: Profile::Karpenter,
            min: 0,
            max: u32::MAX,
            target: 0,
            template: None,
            priority: 0,
            price: MicroUsdPerHour(0),
            options: PoolOptions::default(),
            frozen: None,
            kind: PoolKind::Direct(Arc::new(DirectPool::new(spec))),
        };
        cluster.apply(Change::Pool(pool_id(), Some(Arc::new(pool))));
        Self { cluster, ledger: Ledger::default(), now }
    }

    fn flavour(&self, name: &str) -> Arc<Flavour> {
        let pool = self.cluster.pools()[&pool_id()].direct().expect("direct").clone();
        let found = pool.flavours().iter().find(|f| f.instance_type.as_deref() == Some(name));
        Arc::new(found.expect("a type").clone())
    }

    /// A machine whose node is ready, with pods of five cores.
    fn machine(&mut self, name: &str, flavour: Arc<Flavour>, pods: &[&str]) {
        let id = claimed_machine(name);
        let mut node = Node::promised(name, &flavour.template);
        node.labels.insert("kubernetes.io/hostname".into(), name.into());
        node.machine = Some(id.clone());
        node.created_at = self.now;
        let direct = DirectMachine { flavour, initialized_at: Some(self.now), ..DirectMachine::default() };
        let machine = Machine {
            id: id.clone(),
            pool: pool_id(),
            state: MachineState::Running,
            created_at: self.now,
            node: Some(node.name.clone()),
            aliases: Vec::new(),
            direct: Some(Arc::new(direct)),
        };
        self.cluster.apply(Change::Machine(id, Some(Arc::new(machine))));
        self.cluster.apply(Change::Node(node.name.clone(), Some(Arc::new(node))));
        self.count();
        for pod in pods {
            self.pod(pod, name);
        }
    }

    /// The pool's target is what it has.
    fn count(&mut self) {
        let mut pool = (*self.cluster.pools()[&pool_id()]).clone();
        pool.target = u32::try_from(self.cluster.machines().len()).expect("few");
        self.cluster.apply(Change::Pool(pool_id(), Some(Arc::new(pool))));
    }

    fn pod(&mut self, name: &str, node: &str) {
        let shape = PodShape { requests: Resources { pods: 1, ..amounts(5) }, ..PodShape::default() };
        let pod = Pod {
            key: PodKey::new("default", name),
            uid: name.into(),
            shape: Arc::new(shape),
            labels: Labels::new(),
            owner: None,
            created_at: self.now,
            phase: PodPhase::Running,
            ready: true,
            node: Some(NodeName::from(node)),
            nominated: None,
            unschedulable_since: None,
            gated: false,
            deletion_at: None,
            grace_seconds: 30,
            safe_to_evict: SafeToEvict::Yes,
            mirror: false,
            daemon: false,
            terminal: false,
            local_volumes: Vec::new(),
            scale_up_delay_seconds: None,
            consumes: None,
            evict_daemon: None,
            claims: None,
        };
        self.cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
    }

    fn gone(&mut self, name: &str) {
        self.cluster.apply(Change::Node(NodeName::from(name), None));
        let id: MachineId = claimed_machine(name);
        self.cluster.apply(Change::Machine(id, None));
        self.count();
    }

    fn round(&mut self) -> Decision {
        let decision = nodes::decide(&self.cluster, &Policies::default(), &self.ledger, self.now);
        let found =
            checker::check_plan(&self.cluster, &Policies::default(), &self.ledger, &decision, self.now);
        assert!(found.is_empty(), "{found:?}");
        self.ledger = decision.ledger.clone();
        decision
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("a time");
    }
}

fn bought(decision: &Decision) -> Vec<(String, usize)> {
    let buys = decision.plan.steps.iter().filter_map(|step| match step {
        Step::Buy(buy) => Some(&buy.launches),
        _ => None,
    });
    let one = |launch: &model::Launch| {
        (launch.flavour.instance_type.as_deref().unwrap_or("").to_owned(), launch.names.len())
    };
    buys.flatten().map(one).collect()
}

#[test]
fn three_machines_become_one_that_is_cheaper_and_it_is_over_then() {
    let mut world = World::new(Vec::new());
    let large = world.flavour("large");
    for (name, pod) in [("n-1", "a"), ("n-2", "b"), ("n-3", "c")] {
        world.machine(name, large.clone(), &[pod]);
    }
    let first = world.round();
    assert!(first.ledger.replacing.is_empty(), "not before the wait is over");
    world.pass(61);
    let new = world.round();
    assert!(new.ledger.replacing.is_empty(), "a third for each pod is not enough while they are new");
    let told = new.verdicts.nodes.get(&NodeName::from("n-1")).expect("a reason").to_string();
    assert!(told.contains("would save at most $0.5232/h of $1.2000/h for 3 pods moved, 0.43 of"), "{told}");
    assert!(told.contains("at least 0.50"), "{told}");
    world.pass(540);
    let chosen = world.round();
    assert_eq!(chosen.ledger.replacing.len(), 3, "{:?}", chosen.verdicts.nodes);
    assert!(chosen.ledger.replacing.values().all(|entry| entry.cause == RemovalCause::UnderUsed));
    assert!(chosen.ledger.removals.is_empty(), "replacements come first");

    world.pass(1);
    let ordered = world.round();
    assert_eq!(bought(&ordered), [("huge".to_owned(), 1)], "{:?}", ordered.verdicts.pods);
    assert!(ordered.ledger.removals.is_empty());

    world.pass(60);
    let huge = world.flavour("huge");
    let name = ordered.plan.steps.iter().find_map(|step| match step {
        Step::Buy(buy) => Some(buy.launches[0].names[0].to_string()),
        _ => None,
    });
    let name = name.expect("a claim's name");
    world.machine(&name, huge, &[]);
    let going = world.round();
    assert_eq!(going.ledger.removals.len(), 3, "{:?}", going.verdicts.nodes);
    assert!(going.ledger.replacing.is_empty());

    for (node, pod) in [("n-1", "a"), ("n-2", "b"), ("n-3", "c")] {
        world.gone(node);
        world.pod(pod, &name);
    }
    world.ledger = Ledger::default();
    let mut searched = None;
    for _ in 0..4 {
        world.pass(620);
        let after = world.round();
        assert!(searched.is_none() || after.ledger.searched == searched, "looked for once");
        searched = after.ledger.searched;
        assert!(after.ledger.replacing.is_empty() && after.ledger.removals.is_empty());
        assert!(after.plan.steps.is_empty(), "{:?}", after.plan.steps);
    }
    assert!(searched.is_some());
}

#[test]
fn a_budget_bounds_what_is_replaced_at_once() {
    let one = DisruptionBudget { nodes: Share::Count(1), window: None, reasons: None };
    let mut world = World::new(vec![one]);
    let large = world.flavour("large");
    for (name, pod) in [("n-1", "a"), ("n-2", "b"), ("n-3", "c")] {
        world.machine(name, large.clone(), &[pod]);
    }
    let _quiet = world.round();
    world.pass(601);
    assert_eq!(world.round().ledger.replacing.len(), 1);
    world.pass(1);
    assert_eq!(bought(&world.round()), [("small".to_owned(), 1)]);
}

#[test]
fn a_balanced_pool_asks_half_of_what_its_pods_cost() {
    let mut world = World::with(Consolidation::Balanced, Vec::new());
    let large = world.flavour("large");
    for (name, pod) in [("n-1", "a"), ("n-2", "b"), ("n-3", "c")] {
        world.machine(name, large.clone(), &[pod]);
    }
    let _quiet = world.round();
    world.pass(3600);
    let kept = world.round();
    assert!(kept.ledger.replacing.is_empty() && kept.ledger.removals.is_empty());
    let reason = &kept.verdicts.nodes[&NodeName::from("n-2")];
    let Reason::NotWorthMoving { saves } = reason else { panic!("{reason:?}") };
    assert_eq!((saves.score_permille, saves.least_permille), (436, 500));
    assert_eq!((saves.nodes, saves.pods, saves.saving.0), (3, 3, 523_248));
    world.pass(1);
    assert_eq!(&world.round().verdicts.nodes[&NodeName::from("n-2")], reason, "told without another search");
}

#[test]
fn what_is_emptied_together_has_room_together() {
    let mut world = World::new(Vec::new());
    let huge = world.flavour("huge");
    let small = world.flavour("small");
    for name in ["h-1", "h-2"] {
        world.machine(name, huge.clone(), &[&format!("{name}-pod")]);
    }
    for name in ["n-1", "n-2", "n-3", "n-4", "n-5"] {
        world.machine(name, small.clone(), &[&format!("{name}-pod")]);
    }
    let _quiet = world.round();
    world.pass(3600);
    let round = world.round();
    // The other huge one has ten cores left: room for the pods of two machines, and no more.
    let going: Vec<_> = round.ledger.removals.keys().map(ToString::to_string).collect();
    assert_eq!(going, ["h-1", "n-1"]);
}
