//! What to buy: one decision over all pools, zones and machine types, group pools and direct pools alike.
//!
//! Owns the market that a round sees and the reading of the optimiser's answer. A group takes part with one kind of
//! machine, a direct pool with all its flavours; what each counts as is `appraisal`'s. What is bought of groups becomes
//! an order in `growth`, machines of direct pools become one in `launches`.

use crate::appraisal::Appraisal;
use crate::binding;
use crate::ceiling::Ceiling;
use crate::fleet::{Fleet, PoolAccount};
use crate::growth::{self, Candidate};
use crate::launches::{self, Sales, Sold};
use crate::round::Round;
use crate::spreading;
use crate::supply::{self, Unmet};
use model::{
    DirectPool, Flavour, Labels, MinValuesPolicy, PodNames, PoolId, PoolLimits, PoolRejection, ResourceName,
    Resources,
};
use packing::solve::{Answer, Effort, Machine, Pool, Refusal, Rule, SolveError, solve};
use packing::{Make, Market, Question, Room, SpotIx};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often what volumes kept off the chosen machines is asked about once more.
const MOST_SOLVES: u32 = 8;

/// A pool in the market.
struct Stall {
    id: PoolId,
    /// Its place among the candidates; `None` for direct pools.
    candidate: Option<usize>,
}

/// What stays unserved, by group and pool.
pub(crate) type Refused = BTreeMap<(usize, PoolId), PoolRejection>;

/// Everything that may be bought in this round, with who sells it.
struct Fair {
    appraisal: Appraisal,
    stalls: Vec<Stall>,
    market: Market,
    /// For each make the flavour's place in its pool.
    flavours: Vec<u32>,
    ceiling: Ceiling,
    sales: BTreeMap<PoolId, Sales>,
}

/// Serves what is left from all pools that may grow. Returns why pools cannot serve the rest.
pub(crate) fn buy(
    round: &mut Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &mut [Candidate],
    unmet: &mut [Unmet],
    open: &BTreeMap<PoolId, Option<u32>>,
) -> (Refused, BTreeMap<PoolId, Sales>) {
    let mut fair = Fair::open(round, fleet, room, candidates, open);
    let effort = Effort { steps: round.policies.optimiser_steps, ..Effort::default() };
    for turn in 0..MOST_SOLVES {
        let groups = growth::groups_of(unmet);
        let question = room.question(&fair.market, &groups);
        let Ok(answer) = fair.answer(&question, effort) else {
            let stalls = || fair.stalls.iter().map(|stall| stall.id.clone());
            let all = (0..unmet.len()).flat_map(|group| stalls().map(move |pool| (group, pool)));
            let refused = all.map(|key| (key, PoolRejection::TooManyResources)).collect();
            return (refused, fair.sales);
        };
        let direct_only = fair.stalls.iter().all(|stall| stall.candidate.is_none());
        let order = if direct_only { bound_in(round, unmet) } else { Vec::new() };
        let settle = |question: &Question, answer| {
            if direct_only { binding::settle(question, &order, effort, answer) } else { answer }
        };
        let settled = settle(&question, answer);
        let answer = spreading::spread_out(room, &mut fair.market, &groups, settled, effort, settle);
        let kept_off = fair.carry_out(round, fleet, room, candidates, unmet, &answer);
        if turn == 0 && !kept_off && fair.appraisal.is_price() {
            round.growth.bound = model::MicroUsdPerHour(answer.bound);
        }
        if !kept_off || answer.machines.is_empty() || turn + 1 == MOST_SOLVES {
            return (fair.refused(room, unmet, &question, &answer), fair.sales);
        }
    }
    (Refused::new(), fair.sales)
}

/// Groups in the order in which the scheduler takes their pods: by priority, the oldest first.
fn bound_in(round: &Round<'_>, unmet: &[Unmet]) -> Vec<usize> {
    let age = |group: &Unmet| {
        let pod = group.pods.iter().next().and_then(|name| round.cluster.pods().get(name));
        // Replicas that do not exist yet come last.
        pod.map_or(jiff::Timestamp::MAX, |pod| pod.created_at)
    };
    let mut order: Vec<usize> = (0..unmet.len()).collect();
    order.sort_by_cached_key(|at| (Reverse(unmet[*at].shape.priority), age(&unmet[*at]), *at));
    order
}

/// What one group alone would bring: machines, and how many of each group of demand they serve.
pub(crate) fn alone(
    round: &Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidate: &Candidate,
    unmet: &[Unmet],
    most: Option<u32>,
) -> Option<(u32, Vec<u32>)> {
    let open = BTreeMap::from([(candidate.id.clone(), most)]);
    let fair = Fair::open(round, fleet, room, std::slice::from_ref(candidate), &open);
    let question = room.question(&fair.market, &growth::groups_of(unmet));
    let effort = Effort { steps: round.policies.optimiser_steps, ..Effort::default() };
    let answer = fair.answer(&question, effort).ok()?;
    let mut served = vec![0; unmet.len()];
    for (group, count) in answer.machines.iter().flat_map(|machine| &machine.pods) {
        served[*group] += count;
    }
    (!answer.machines.is_empty()).then_some((answer.machines.len() as u32, served))
}

/// What one pool alone would bring for everything that waits.
pub(crate) struct Offer {
    pub machines: u32,
    pub price: model::MicroUsdPerHour,
    /// Pods that it would leave without a place.
    pub left: u32,
    /// Why it serves none at all.
    pub rejection: Option<PoolRejection>,
}

/// Asks one pool alone, with a first answer instead of a search; nothing is bought.
pub(crate) fn offer(
    round: &Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    (id, most): (&PoolId, Option<u32>),
) -> Option<Offer> {
    let open = BTreeMap::from([(id.clone(), most)]);
    let fair = Fair::open(round, fleet, room, candidates, &open);
    let question = room.question(&fair.market, &growth::groups_of(unmet));
    let answer = solve(&question.problem, Effort { steps: 0, ..Effort::default() }).ok()?;
    let price = answer.machines.iter().fold(0u64, |sum, machine| {
        sum.saturating_add(price_of(round, id, fair.flavours[machine.offering]).0)
    });
    let rejection = if answer.machines.is_empty() {
        fair.refused(room, unmet, &question, &answer).into_values().next()
    } else {
        None
    };
    Some(Offer {
        machines: answer.machines.len() as u32,
        price: model::MicroUsdPerHour(price),
        left: answer.unplaced.iter().map(|unplaced| unplaced.count).sum(),
        rejection,
    })
}

/// What direct pools among `open` sell, at prices, and who they are in the market's order; `None` where machines are
/// not compared by what they cost.
pub(crate) fn priced(
    round: &Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    open: &BTreeMap<PoolId, Option<u32>>,
) -> Option<(Vec<PoolId>, Market)> {
    let fair = Fair::open(round, fleet, room, &[], open);
    let sellers = fair.stalls.into_iter().map(|stall| stall.id).collect();
    (fair.appraisal.is_price() && !fair.market.makes.is_empty()).then_some((sellers, fair.market))
}

impl Fair {
    fn open(
        round: &Round<'_>,
        fleet: &Fleet,
        room: &mut Room,
        candidates: &[Candidate],
        open: &BTreeMap<PoolId, Option<u32>>,
    ) -> Self {
        let sellers = fleet.pools.iter().filter(|(id, _)| open.contains_key(*id));
        let sellers = sellers.map(|(_, account)| &*account.pool);
        let appraisal = Appraisal::of(&round.policies.choice, round.ledger.next_intent, sellers);
        let market = Market { ignores_wishes: !round.policies.respect_preferences, ..Market::default() };
        let mut fair = Self {
            appraisal,
            stalls: Vec::new(),
            market,
            flavours: Vec::new(),
            ceiling: fleet.ceiling,
            sales: BTreeMap::new(),
        };
        for (at, candidate) in candidates.iter().enumerate() {
            if let (Some(most), Some(account)) = (open.get(&candidate.id), fleet.pools.get(&candidate.id)) {
                fair.add_group(account, at, candidate, *most);
            }
        }
        for (id, account) in &fleet.pools {
            if let (Some(most), Some(direct)) = (open.get(id), account.pool.direct()) {
                fair.add_direct(round, account, direct, room, *most);
            }
        }
        let ceiling = round.policies.max_nodes_total;
        fair.market.max_new = (ceiling > 0).then(|| ceiling.saturating_sub(fleet.total_nodes()));
        fair
    }

    /// Wishes are kept where that costs nothing; where direct pools take part, also where it does.
    fn answer(&self, question: &Question, effort: Effort) -> Result<Answer, SolveError> {
        let wishing = solve(&question.problem, effort)?;
        let any = question.problem.classes.iter().any(|class| !class.softs.is_empty());
        if !any || self.stalls.iter().any(|stall| stall.candidate.is_none()) {
            return Ok(wishing);
        }
        let mut problem = question.problem.clone();
        for class in &mut problem.classes {
            class.softs.clear();
        }
        let plain = solve(&problem, effort)?;
        let left = |answer: &Answer| answer.unplaced.iter().map(|unplaced| unplaced.count).sum::<u32>();
        let worth = |answer: &Answer| (left(answer), answer.price);
        Ok(if worth(&plain) < worth(&wishing) { plain } else { wishing })
    }

    fn add_group(&mut self, account: &PoolAccount, at: usize, candidate: &Candidate, most: Option<u32>) {
        let pool = &account.pool;
        self.flavours.push(0);
        self.market.makes.push(Make {
            node: Arc::clone(&candidate.template.node),
            overhead: candidate.template.overhead.clone(),
            pool: self.stalls.len(),
            machine_type: 0,
            price: self.appraisal.of_group(pool, &candidate.template),
            uses: self.ceiling.uses(&candidate.template.node.allocatable),
            values: Vec::new(),
        });
        let priority = self.appraisal.tier(pool);
        self.market.pools.push(Pool {
            priority,
            max_new: most,
            limits: self.ceiling.rows(),
            ..Pool::default()
        });
        self.stalls.push(Stall { id: pool.id.clone(), candidate: Some(at) });
    }

    fn add_direct(
        &mut self,
        round: &Round<'_>,
        account: &PoolAccount,
        direct: &DirectPool,
        room: &mut Room,
        most: Option<u32>,
    ) {
        let pool = &account.pool;
        let limits = Limits::of(round, &pool.id, pool.name.as_ref(), &direct.spec().limits);
        let mut values = Values::of(direct);
        let mut types: BTreeMap<&Arc<str>, u32> = BTreeMap::new();
        for (at, (flavour, node)) in direct.flavours().iter().zip(direct.nodes()).enumerate() {
            let template = supply::promise(round, Arc::clone(node), room);
            let number = types.len() as u32;
            let machine_type =
                flavour.instance_type.as_ref().map_or(0, |name| *types.entry(name).or_insert(number));
            self.flavours.push(at as u32);
            let of_ceiling = self.ceiling.uses(&template.node.allocatable);
            self.market.makes.push(Make {
                node: template.node,
                overhead: template.overhead,
                pool: self.stalls.len(),
                machine_type,
                price: self.appraisal.of_flavour(flavour),
                uses: [limits.uses(flavour), of_ceiling].concat(),
                values: values.of_flavour(&flavour.template.labels),
            });
        }
        self.market.pools.push(Pool {
            priority: self.appraisal.tier(pool),
            max_new: most,
            limits: [limits.left, self.ceiling.rows()].concat(),
            min_values: values.least,
            keeps_choice: round.policies.choice.min_values == MinValuesPolicy::Strict,
            flexible: true,
        });
        self.stalls.push(Stall { id: pool.id.clone(), candidate: None });
    }

    /// Puts the bought machines into the room, takes what they serve off the demand, and takes the machines off what
    /// may still be bought. Answers whether volumes, which the optimiser does not know, kept pods off their machines.
    fn carry_out(
        &mut self,
        round: &mut Round<'_>,
        fleet: &Fleet,
        room: &mut Room,
        candidates: &mut [Candidate],
        unmet: &mut [Unmet],
        answer: &Answer,
    ) -> bool {
        // By offering and group: one entry, however many machines.
        let mut served: Vec<(usize, usize, u32)> = Vec::new();
        let mut kept_off = false;
        for machine in &answer.machines {
            let make = &self.market.makes[machine.offering];
            // Each pool keeps to the cluster's ceilings by itself; together they may not.
            if !self.ceiling.allows(&make.node.allocatable) {
                kept_off = true;
                continue;
            }
            let before = room.mark();
            let spot = room.add_promised(Arc::clone(&make.node));
            for class in &make.overhead {
                room.hold(*class, spot, 1);
            }
            let mut taken = Vec::new();
            for (group, count) in &machine.pods {
                let class = unmet[*group].class;
                let fits = room.volume_capacity(class, spot, *count);
                kept_off |= fits < *count;
                if fits > 0 {
                    room.settle(class, spot, fits);
                    taken.push((*group, fits));
                    if self.stalls[make.pool].candidate.is_none() {
                        continue;
                    }
                    match served
                        .iter_mut()
                        .rev()
                        .take(machine.pods.len())
                        .find(|known| known.0 == machine.offering && known.1 == *group)
                    {
                        Some(known) => known.2 += fits,
                        None => served.push((machine.offering, *group, fits)),
                    }
                }
            }
            if taken.is_empty() {
                room.rollback(before);
            } else {
                if self.stalls[make.pool].candidate.is_none() {
                    self.launch(fleet, room, unmet, machine, &taken);
                }
                self.sold(machine.offering, candidates);
                let pool = self.stalls[self.market.makes[machine.offering].pool].id.clone();
                round.planned.push((spot, pool, self.flavours[machine.offering]));
            }
        }
        for (offering, group, count) in served {
            if let Some(at) = self.stalls[self.market.makes[offering].pool].candidate {
                growth::serve(&mut candidates[at], &mut unmet[group], count);
            }
        }
        kept_off
    }

    /// One machine fewer can be had.
    fn sold(&mut self, offering: usize, candidates: &mut [Candidate]) {
        let make = &self.market.makes[offering];
        self.ceiling.take(&make.node.allocatable, 1);
        let pool = &mut self.market.pools[make.pool];
        if let Some(at) = self.stalls[make.pool].candidate {
            candidates[at].bought += 1;
        }
        pool.max_new = pool.max_new.map(|most| most.saturating_sub(1));
        self.market.max_new = self.market.max_new.map(|most| most.saturating_sub(1));
        for (left, used) in pool.limits.iter_mut().zip(&make.uses) {
            *left = left.saturating_sub(*used);
        }
        let rows = self.ceiling.rows();
        for pool in &mut self.market.pools {
            let own = pool.limits.len() - rows.len();
            pool.limits[own..].copy_from_slice(&rows);
        }
    }

    /// Notes a machine of a direct pool, with the types that would do as well where it is to stand.
    fn launch(
        &mut self,
        fleet: &Fleet,
        room: &Room,
        unmet: &mut [Unmet],
        machine: &Machine,
        pods: &[(usize, u32)],
    ) {
        let make = &self.market.makes[machine.offering];
        let id = &self.stalls[make.pool].id;
        let Some(direct) = fleet.pools.get(id).and_then(|account| account.pool.direct()) else { return };
        let flavour_of = |offering: usize| direct.flavours().get(self.flavours[offering] as usize);
        let Some(flavour) = flavour_of(machine.offering) else { return };
        let mut types: Vec<Arc<str>> = flavour.instance_type.iter().cloned().collect();
        for option in machine.options.iter().filter_map(|option| flavour_of(*option)) {
            let alike = option.capacity_type == flavour.capacity_type && option.zone == flavour.zone;
            if let Some(name) = option.instance_type.as_ref().filter(|name| alike && !types.contains(name)) {
                types.push(Arc::clone(name));
            }
        }
        let mut overhead = model::Resources::default();
        for class in &make.overhead {
            overhead.add(&room.shape_of(*class).requests);
        }
        let sold = Sold { flavour, types, overhead };
        self.sales.entry(id.clone()).or_default().add(sold, unmet, pods);
    }

    fn refused(&self, room: &mut Room, unmet: &[Unmet], question: &Question, answer: &Answer) -> Refused {
        let mut refused = Refused::new();
        for unplaced in &answer.unplaced {
            let class = unmet[unplaced.class].class;
            for (pool, refusal) in &unplaced.refusals.pools {
                let stall = &self.stalls[*pool];
                let rejection = match refusal {
                    Refusal::Incompatible => self.incompatible(room, *pool, class),
                    Refusal::Unavailable => PoolRejection::NothingAvailable,
                    Refusal::TooSmall { resource } => PoolRejection::Insufficient {
                        resources: question.resources.get(*resource).cloned().into_iter().collect(),
                    },
                    // Which of the limits it was, the pool's account tells.
                    Refusal::MaxReached => continue,
                    // Groups have no limits but the cluster's.
                    Refusal::LimitReached if stall.candidate.is_some() => PoolRejection::ResourceCeiling,
                    Refusal::LimitReached => PoolRejection::LimitReached,
                    Refusal::TooLittleChoice => PoolRejection::TooLittleChoice,
                    Refusal::Topology { rule } => {
                        match question.problem.classes[unplaced.class].rules.get(*rule) {
                            Some(Rule::Affinity { .. }) => PoolRejection::PodAffinityMismatch,
                            Some(Rule::Anti { .. }) => PoolRejection::PodAntiAffinityMismatch,
                            Some(Rule::Spread { .. }) | None => PoolRejection::SpreadMismatch,
                        }
                    }
                };
                refused.insert((unplaced.class, stall.id.clone()), rejection);
            }
        }
        refused
    }

    /// What the first of a pool's machines would say to a pod that none of them takes.
    fn incompatible(&self, room: &mut Room, pool: usize, class: packing::ClassIx) -> PoolRejection {
        let Some(make) = self.market.makes.iter().find(|make| make.pool == pool) else {
            return PoolRejection::NothingAvailable;
        };
        let mark = room.mark();
        let spot: SpotIx = room.add_promised(Arc::clone(&make.node));
        let rejection = room.rejection(class, spot).unwrap_or(PoolRejection::AffinityMismatch);
        room.rollback(mark);
        rejection
    }
}

/// A direct pool's limits as numbers.
struct Limits {
    declared: PoolLimits,
    names: Vec<ResourceName>,
    left: Vec<u64>,
}

impl Limits {
    /// What is left after the pool's nodes, which carry its name as a label.
    fn of(round: &Round<'_>, id: &PoolId, pool: &str, limits: &PoolLimits) -> Self {
        let mut used = Resources::default();
        let mut nodes = 0;
        let ours = |labels: &Labels| labels.get("karpenter.sh/nodepool").is_some_and(|name| **name == *pool);
        let alone = |node: &&Arc<model::Node>| {
            ours(&node.labels)
                && round.cluster.machine_of(node).is_none_or(|machine| machine.direct.is_none())
        };
        for node in round.cluster.nodes().values().filter(alone) {
            used.add(&node.allocatable);
            nodes += 1;
        }
        // A claim counts from the moment it is ordered.
        let machines = round.cluster.machines_of(id).filter_map(|machine| machine.direct.as_ref());
        let ordered = round.ledger.scale_ups.get(id).map(|order| launches::unseen(round, order));
        let ordered = ordered.iter().flatten().map(|(launch, _)| &launch.flavour);
        for flavour in machines.map(|direct| &direct.flavour).chain(ordered) {
            used.add(&flavour.capacity);
            nodes += 1;
        }
        let names: Vec<ResourceName> = limits.extended.keys().cloned().collect();
        let mut this = Self { declared: limits.clone(), names, left: Vec::new() };
        let most = this.row(
            limits.nodes.map_or(0, u64::from),
            limits.cpu.map_or(0, |l| l.0),
            limits.memory.map_or(0, |l| l.0),
            limits.ephemeral_storage.map_or(0, |l| l.0),
            |name| limits.extended.get(name).copied().unwrap_or(0),
        );
        let taken = this.of_resources(nodes, &used);
        this.left = most.iter().zip(taken).map(|(most, taken)| most.saturating_sub(taken)).collect();
        this
    }

    fn row(
        &self,
        nodes: u64,
        cpu: u64,
        memory: u64,
        disk: u64,
        other: impl Fn(&ResourceName) -> u64,
    ) -> Vec<u64> {
        let limits = &self.declared;
        let mut row = Vec::new();
        row.extend(limits.nodes.map(|_| nodes));
        row.extend(limits.cpu.map(|_| cpu));
        row.extend(limits.memory.map(|_| memory));
        row.extend(limits.ephemeral_storage.map(|_| disk));
        row.extend(self.names.iter().map(other));
        row
    }

    fn of_resources(&self, nodes: u64, amounts: &Resources) -> Vec<u64> {
        let (cpu, memory, disk) = (amounts.cpu.0, amounts.memory.0, amounts.ephemeral_storage.0);
        self.row(nodes, cpu, memory, disk, |name| amounts.extended.get(name).copied().unwrap_or(0))
    }

    fn uses(&self, flavour: &Flavour) -> Vec<u64> {
        self.of_resources(1, &flavour.capacity)
    }
}

/// Values of the labels of which a pool wants to keep a choice, as numbers.
struct Values {
    keys: Vec<Arc<str>>,
    least: Vec<u32>,
    numbers: BTreeMap<Arc<str>, u32>,
}

impl Values {
    fn of(direct: &DirectPool) -> Self {
        let wishes = direct.spec().requirements.iter();
        let wishes = wishes.filter_map(|wish| Some((wish.requirement.key.clone(), wish.min_values?)));
        let mut strictest: BTreeMap<Arc<str>, u32> = BTreeMap::new();
        for (key, least) in wishes {
            let entry = strictest.entry(key).or_default();
            *entry = (*entry).max(least);
        }
        let (keys, least) = strictest.into_iter().unzip();
        Self { keys, least, numbers: BTreeMap::new() }
    }

    fn of_flavour(&mut self, labels: &Labels) -> Vec<u32> {
        let numbers = &mut self.numbers;
        let mut number = |key: &Arc<str>| {
            let next = numbers.len() as u32;
            labels.get(key).map_or(u32::MAX, |value| *numbers.entry(value.clone()).or_insert(next))
        };
        self.keys.iter().map(&mut number).collect()
    }
}

/// Names the pods of the planned machines, in the order in which they wait.
pub(crate) fn name_pods(
    round: &mut Round<'_>,
    room: &Room,
    mut waiting: BTreeMap<packing::ClassIx, PodNames>,
) {
    for (spot, pool, flavour) in std::mem::take(&mut round.planned) {
        let mut pods = PodNames::default();
        for (class, count) in room.received(spot) {
            if let Some(queue) = waiting.get_mut(class) {
                pods.append(queue.take_first(*count as usize));
            }
        }
        let price = price_of(round, &pool, flavour);
        round.growth.machines.push(model::NewMachine { pool, flavour, price, pods });
    }
}

/// What one machine of a flavour of a pool costs.
pub(crate) fn price_of(round: &Round<'_>, pool: &PoolId, flavour: u32) -> model::MicroUsdPerHour {
    let Some(pool) = round.cluster.pools().get(pool) else { return model::MicroUsdPerHour::default() };
    match pool.direct() {
        Some(direct) => direct.flavours().get(flavour as usize).map(|f| f.price).unwrap_or_default(),
        None => pool.price,
    }
}
