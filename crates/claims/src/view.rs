//! What the planner is shown: a pool for each NodePool, a machine for each NodeClaim of one.
//!
//! Owns what was seen so far and which changes follow from each piece of news. A pool that cannot be used is shown
//! all the same, frozen with the reason: silence would look like absence.

use crate::classes::{Classes, Different};
use crate::guard::Guard;
use crate::orders;
use crate::overlays::Overlays;
use crate::shortages::Shortages;
use crate::simulated::offer_of_type;
use api::karpenter::{NODE_POOL, NodeClaim, NodeOverlay, NodePool};
use clouds::watching::{Freshness, Seen};
use jiff::Timestamp;
use kube::ResourceExt as _;
use model::{
    Change, DirectPool, DirectSpec, Input, InputState, Labels, Pool, PoolId, PoolKind, PoolLimits,
    PoolOptions, Profile, ProviderKind, claimed_machine,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Values of one label, and labels with a choice, that a pool's machines are offered with.
const MOST_VALUES: usize = 10;
const MOST_CHOICES: usize = 3;

pub(crate) fn pool_id(name: &str) -> PoolId {
    PoolId::from(format!("{}/{name}", crate::NAME))
}

/// A pool with what was worked out of it.
struct Shown {
    object: NodePool,
    direct: Arc<DirectPool>,
    pool: Pool,
}

pub(crate) struct View {
    pub freshness: Freshness,
    pub changes: VecDeque<Change>,
    classes: Arc<Mutex<Classes>>,
    shortages: Arc<Shortages>,
    guard: Guard,
    overlays: Overlays,
    pools: BTreeMap<String, Shown>,
    claims: BTreeMap<String, Arc<NodeClaim>>,
    live: BTreeMap<String, BTreeSet<String>>,
    listed_pools: Option<BTreeSet<String>>,
    listed_claims: Option<BTreeSet<String>>,
}

impl View {
    pub(crate) fn new(
        freshness: Freshness,
        classes: Arc<Mutex<Classes>>,
        shortages: Arc<Shortages>,
        guard: Guard,
    ) -> Self {
        Self {
            freshness,
            changes: VecDeque::new(),
            classes,
            shortages,
            guard,
            overlays: Overlays::new(),
            pools: BTreeMap::new(),
            claims: BTreeMap::new(),
            live: BTreeMap::new(),
            listed_pools: None,
            listed_claims: None,
        }
    }

    pub(crate) fn see_pool(&mut self, seen: Seen<NodePool>, now: Timestamp) {
        match seen {
            Seen::Begin => self.listed_pools = Some(BTreeSet::new()),
            Seen::Object(object) => {
                if let Some(listed) = &mut self.listed_pools {
                    listed.insert(object.name_any());
                }
                let different = self.lay_over(Some(&object));
                self.show(object, now);
                if different {
                    self.market_changed(now);
                }
            }
            Seen::Gone(object) => self.lose_pool(&object.name_any()),
            Seen::Synced => {
                if let Some(listed) = self.listed_pools.take() {
                    let gone = self.pools.keys().filter(|name| !listed.contains(*name));
                    for name in gone.cloned().collect::<Vec<_>>() {
                        self.lose_pool(&name);
                    }
                }
                self.synced(0);
            }
            Seen::Broken { why, missing_kind } => self.broken(0, &why, missing_kind, now),
        }
    }

    pub(crate) fn see_claim(&mut self, seen: Seen<NodeClaim>, now: Timestamp) {
        match seen {
            Seen::Begin => self.listed_claims = Some(BTreeSet::new()),
            Seen::Object(object) => {
                let name = object.name_any();
                if let Some(listed) = &mut self.listed_claims {
                    listed.insert(name.clone());
                }
                self.claims.insert(name.clone(), Arc::new(object));
                self.tell_claim(&name);
            }
            Seen::Gone(object) => self.lose_claim(&object.name_any()),
            Seen::Synced => {
                if let Some(listed) = self.listed_claims.take() {
                    let gone = self.claims.keys().filter(|name| !listed.contains(*name));
                    for name in gone.cloned().collect::<Vec<_>>() {
                        self.lose_claim(&name);
                    }
                }
                self.synced(1);
            }
            Seen::Broken { why, missing_kind } => self.broken(1, &why, missing_kind, now),
        }
    }

    pub(crate) fn see_overlay(&mut self, seen: Seen<NodeOverlay>, now: Timestamp) {
        let unknown = !self.overlays.synced();
        self.overlays.take(seen);
        if self.overlays.synced() && (self.lay_over(None) || unknown) {
            self.market_changed(now);
        }
    }

    /// Works out what overlays come to, with a pool that is about to be shown; whether it is different from before.
    fn lay_over(&mut self, new: Option<&NodePool>) -> bool {
        let classes = self.classes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.pools.values().map(|shown| &shown.object);
        self.overlays.refresh(known.chain(new), |reference| classes.of(reference))
    }

    /// Classes are different ones now.
    pub(crate) fn classes_changed(&mut self, different: &Different, now: Timestamp) {
        if self.lay_over(None) {
            return self.market_changed(now);
        }
        self.show_again(|pool| different.includes(&pool.object.spec.template.spec.node_class_ref), now);
    }

    /// What can be had is different from what was shown.
    pub(crate) fn market_changed(&mut self, now: Timestamp) {
        self.show_again(|_| true, now);
    }

    fn show_again(&mut self, which: impl Fn(&Shown) -> bool, now: Timestamp) {
        let objects: Vec<NodePool> =
            self.pools.values().filter(|pool| which(pool)).map(|pool| pool.object.clone()).collect();
        for object in objects {
            self.show(object, now);
        }
    }

    fn show(&mut self, object: NodePool, now: Timestamp) {
        let name = object.name_any();
        let (pool, direct) = self.read(&object, now);
        let another = self.pools.get(&name).is_none_or(|shown| shown.direct.spec() != direct.spec());
        self.pools.insert(name.clone(), Shown { object, direct, pool });
        self.tell_pool(&name);
        if another {
            let claims: Vec<String> = self
                .claims
                .iter()
                .filter(|(_, claim)| claim.labels().get(NODE_POOL) == Some(&name))
                .map(|(name, _)| name.clone())
                .collect();
            for claim in claims {
                self.tell_claim(&claim);
            }
        }
    }

    fn read(&self, object: &NodePool, now: Timestamp) -> (Pool, Arc<DirectPool>) {
        let name = object.name_any();
        let reference = &object.spec.template.spec.node_class_ref;
        let class = self.classes.lock().unwrap_or_else(PoisonError::into_inner).of(reference);
        let declared = serde_json::to_value(object)
            .map_err(|error| error.to_string())
            .and_then(|value| intake::node_pool(&value).map_err(|error| error.to_string()));
        let why = if let Some(held) = self.guard.holds_pool(object) {
            Some(held.message)
        } else if object.metadata.deletion_timestamp.is_some() {
            Some("it is being deleted".to_owned())
        } else if object.spec.replicas.is_some() {
            Some("it has a fixed number of machines".to_owned())
        } else if !self.overlays.synced() {
            Some("NodeOverlays have not been read yet: prices are not known".to_owned())
        } else {
            declared.as_ref().err().cloned().or_else(|| class.as_ref().err().map(|no| no.message.clone()))
        };
        let types = class.map(|class| self.overlays.class(&name, &class).types.clone()).unwrap_or_default();
        let mut pool = match declared {
            Ok(declared) => {
                let catalogue = Arc::new(self.without_shortages(&types, now));
                let asked = open_labels(object);
                declared.over(catalogue, asked)
            }
            Err(_) => unreadable(&name, object.spec.weight.unwrap_or(0)),
        };
        pool.provider = ProviderKind::Karpenter;
        pool.frozen = why.map(Arc::from);
        let direct =
            pool.direct().cloned().unwrap_or_else(|| Arc::new(DirectPool::new(DirectSpec::default())));
        (pool, direct)
    }

    fn without_shortages(&self, types: &[model::InstanceType], now: Timestamp) -> Vec<model::InstanceType> {
        let mut types = types.to_vec();
        for entry in &mut types {
            let gone: Vec<bool> = entry
                .offerings
                .iter()
                .map(|offering| self.shortages.holds(&offer_of_type(entry, offering), now))
                .collect();
            for (offering, gone) in entry.offerings.iter_mut().zip(gone) {
                offering.available &= !gone;
            }
        }
        types
    }

    fn lose_pool(&mut self, name: &str) {
        self.pools.remove(name);
        self.changes.push_back(Change::Pool(pool_id(name), None));
    }

    fn lose_claim(&mut self, name: &str) {
        let Some(claim) = self.claims.remove(name) else { return };
        self.changes.push_back(Change::Machine(claimed_machine(name), None));
        self.count(&claim, name, false);
    }

    fn tell_claim(&mut self, name: &str) {
        let Some(claim) = self.claims.get(name).cloned() else { return };
        let pool = claim.labels().get(NODE_POOL).and_then(|pool| self.pools.get(pool));
        let machine = orders::machine(&claim, pool.map(|pool| &*pool.direct));
        self.changes.push_back(Change::Machine(machine.id.clone(), Some(Arc::new(machine))));
        self.count(&claim, name, claim.metadata.deletion_timestamp.is_none());
    }

    /// A direct pool's size is the number of its claims.
    fn count(&mut self, claim: &NodeClaim, name: &str, alive: bool) {
        let Some(pool) = claim.labels().get(NODE_POOL).cloned() else { return };
        let live = self.live.entry(pool.clone()).or_default();
        let changed = if alive { live.insert(name.to_owned()) } else { live.remove(name) };
        if changed {
            self.tell_pool(&pool);
        }
    }

    fn tell_pool(&mut self, name: &str) {
        let Some(shown) = self.pools.get(name) else { return };
        let live = self.live.get(name).map_or(0, BTreeSet::len);
        let target = u32::try_from(live).unwrap_or(u32::MAX);
        let pool = Pool { target, ..shown.pool.clone() };
        self.changes.push_back(Change::Pool(pool.id.clone(), Some(Arc::new(pool))));
    }

    fn synced(&mut self, source: usize) {
        let state = self.freshness.synced(source);
        self.tell_input(state);
    }

    fn broken(&mut self, source: usize, why: &Arc<str>, missing_kind: bool, now: Timestamp) {
        let state = if missing_kind {
            self.freshness.absent(source, why, now)
        } else {
            self.freshness.broken(source, why, now)
        };
        self.tell_input(state);
    }

    fn tell_input(&mut self, state: Option<InputState>) {
        if let Some(state) = state {
            self.changes.push_back(Change::Input(Input::Pools(Arc::from(crate::NAME)), state));
        }
    }
}

/// Labels that a pool leaves open and pods may ask for: each value is offered.
fn open_labels(pool: &NodePool) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
    let open = pool.spec.template.spec.requirements.iter().filter(|r| {
        r.operator == api::karpenter::RequirementOperator::In && (2..=MOST_VALUES).contains(&r.values.len())
    });
    open.take(MOST_CHOICES)
        .map(|r| {
            (Arc::from(r.key.as_str()), r.values.iter().map(|value| Arc::from(value.as_str())).collect())
        })
        .collect()
}

fn unreadable(name: &str, priority: i32) -> Pool {
    Pool {
        id: pool_id(name),
        name: Arc::from(name),
        provider: ProviderKind::Karpenter,
        profile: Profile::Karpenter,
        min: 0,
        max: 0,
        target: 0,
        template: None,
        priority,
        price: model::MicroUsdPerHour::default(),
        options: PoolOptions::default(),
        frozen: None,
        kind: PoolKind::Direct(Arc::new(DirectPool::new(DirectSpec {
            labels: Labels::new(),
            limits: PoolLimits::default(),
            ..DirectSpec::default()
        }))),
    }
}
