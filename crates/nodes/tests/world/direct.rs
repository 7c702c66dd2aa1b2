//! Direct pools for tests: their types in one line, their machines by the names that the plan gave them.

use super::{Attributes, World, pool_id};
use jiff::SignedDuration;
use model::{
    Buy, Bytes, CapacityType, Change, Consolidation, DirectMachine, DirectPool, DirectSpec, DisruptionPolicy,
    Flavour, InstanceType, Launch, Machine, MachineState, MicroUsdPerHour, MilliCpu, Node, Offering, Pool,
    PoolId, PoolKind, PoolOptions, Profile, ProviderKind, Resources, claim_of, claimed_machine,
};
use std::sync::Arc;

/// `large=64000:512Gi-in-bytes:4030000`: a type with its cpu, memory and price.
fn kind(name: &str, numbers: &str) -> InstanceType {
    let numbers: Vec<u64> = numbers.split(':').map(|number| number.parse().unwrap()).collect();
    let amounts =
        Resources { cpu: MilliCpu(numbers[0]), memory: Bytes(numbers[1]), pods: 110, ..Resources::default() };
    let offering = Offering {
        zone: "a".into(),
        capacity_type: CapacityType::OnDemand,
        price: MicroUsdPerHour(numbers[2]),
        available: true,
        remaining: None,
    };
    InstanceType {
        name: name.into(),
        requirements: Vec::new(),
        capacity: amounts.clone(),
        allocatable: amounts,
        offerings: vec![offering],
    }
}

impl World {
    /// A pool that buys machines of types one by one; said again, it has other types and the same machines.
    #[allow(dead_code, reason = "only scenarios name direct pools")]
    pub(crate) fn make_direct_pool(&mut self, name: &str, a: &Attributes<'_>) {
        let catalogue = a.prefixed("type:").map(|(name, numbers)| kind(name, numbers)).collect();
        let disruption = DisruptionPolicy {
            consolidation: Consolidation::WhenEmptyOrUnderutilized,
            after: Some(a.time("after").unwrap_or(SignedDuration::from_mins(1))),
            budgets: Vec::new(),
        };
        let spec = DirectSpec { catalogue: Arc::new(catalogue), disruption, ..DirectSpec::default() };
        let id = pool_id(name);
        let pool = Pool {
            id: id.clone(),
            name: name.into(),
            provider: ProviderKind::Simulated,
            profile: Profile::Karpenter,
            min: 0,
            max: u32::MAX,
            target: self.cluster.pools().get(&id).map_or(0, |known| known.target),
            template: None,
            priority: 0,
            price: MicroUsdPerHour(0),
            options: PoolOptions::default(),
            frozen: None,
            kind: PoolKind::Direct(Arc::new(DirectPool::new(spec))),
        };
        self.cluster.apply(Change::Pool(id, Some(Arc::new(pool))));
    }

    /// A node of a direct pool that has stood for a day.
    pub(crate) fn make_direct_node(&mut self, name: &str, pool: &PoolId, a: &Attributes<'_>) {
        let direct = self.cluster.pools()[pool].direct().expect("a direct pool").clone();
        let wanted = a.get("type").expect("type=");
        let found = direct.flavours().iter().find(|one| one.instance_type.as_deref() == Some(wanted));
        let flavour = Arc::new(found.expect("a type of the pool").clone());
        self.begin_claim(name, pool, &flavour);
        self.change_pool(pool.as_str().trim_start_matches("simulated/"), |pool| pool.target += 1);
        let age = a.time("age").unwrap_or(SignedDuration::from_hours(24));
        self.claim_joins(name, age);
    }

    /// Begins the machines that a purchase names.
    pub(crate) fn launch(&mut self, buy: &Buy) {
        for Launch { names, flavour, .. } in &buy.launches {
            for name in names {
                self.begin_claim(name, &buy.pool, flavour);
            }
        }
    }

    fn begin_claim(&mut self, name: &str, pool: &PoolId, flavour: &Arc<Flavour>) {
        let direct = DirectMachine { flavour: flavour.clone(), ..DirectMachine::default() };
        let machine = Machine {
            id: claimed_machine(name),
            pool: pool.clone(),
            state: MachineState::Creating,
            created_at: self.now,
            node: None,
            aliases: Vec::new(),
            direct: Some(Arc::new(direct)),
        };
        self.cluster.apply(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
    }

    /// A machine that was begun under this name becomes a ready node, so long ago.
    pub(crate) fn claim_joins(&mut self, name: &str, age: SignedDuration) {
        let id = claimed_machine(name);
        let mut machine = Machine::clone(&self.cluster.machines()[&id]);
        let mut direct = DirectMachine::clone(machine.direct.as_deref().expect("a direct machine"));
        let mut node = Node::promised(name, &direct.flavour.template);
        node.labels.insert("kubernetes.io/hostname".into(), name.into());
        node.machine = Some(id.clone());
        node.created_at = self.ago(age);
        node.readiness = model::Readiness::Ready { since: node.created_at };
        direct.initialized_at = Some(node.created_at);
        machine.created_at = node.created_at;
        machine.state = MachineState::Running;
        machine.node = Some(node.name.clone());
        machine.direct = Some(Arc::new(direct));
        self.cluster.apply(Change::Machine(id, Some(Arc::new(machine))));
        self.cluster.apply(Change::Node(node.name.clone(), Some(Arc::new(node))));
    }

    /// The claims of a pool whose machines are being made.
    pub(crate) fn claims_begun(&self, pool: &PoolId) -> Vec<String> {
        let begun = self.cluster.machines_of(pool).filter(|one| one.state == MachineState::Creating);
        begun.filter_map(|machine| claim_of(&machine.id).map(str::to_owned)).collect()
    }
}
