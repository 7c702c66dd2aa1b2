//! What was last read of the scaling groups, as changes of the model.
//!
//! Owns the asking (seldom at rest, often while something moves), what is kept between two askings and for how long,
//! and the joins: machines that could not be made stand as failed machines, a machine counts as gone only when two
//! whole lists in a row do not name it.

use super::ess::{InstanceType, ScalingActivity, ScalingConfiguration, ScalingGroup, ScalingInstance};
use super::reading::{
    aliases, capacity, created_at, is_running, is_staying, machine_id, moment, placeholder_id,
    refused_by_group, shortage, state_of,
};
use super::template::{template, types_of};
use super::{Declared, NAME, Shared, pool_id};
use crate::calls::Failure;
use crate::polling::Told;
use crate::watching::Freshness;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use model::{
    Change, Input, InputState, Machine, MachineState, MicroUsdPerHour, NodeTemplate, Pool, PoolOptions,
    Profile, ProviderKind,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Groups read at once.
const AT_ONCE: usize = 8;
/// How long what was read of a configuration counts: a group's next configuration has another id.
const CONFIGURATION_FRESH: Duration = Duration::from_mins(10);
/// How long the size of an order stands in for what the group does not show yet.
const ORDER_BELIEVED: Duration = Duration::from_mins(15);
/// Failed activities that are older say nothing of today.
const SHORTAGE_FRESH: jiff::SignedDuration = jiff::SignedDuration::from_mins(3);
/// Whole lists that must not name a machine before it counts as gone.
const MISSED: u8 = 2;

pub(super) struct View {
    shared: Arc<Shared>,
    changes: VecDeque<Change>,
    freshness: Freshness,
    groups: Vec<Group>,
    types: BTreeMap<String, InstanceType>,
    polled: Option<Instant>,
}

/// One declared group and what is known of it.
struct Group {
    declared: Declared,
    freshness: Freshness,
    /// Why it cannot be read, once that has lasted.
    unread: Option<Arc<str>>,
    seen: Option<ScalingGroup>,
    instances: BTreeMap<String, (ScalingInstance, u8)>,
    configuration: Option<(ScalingConfiguration, Instant)>,
    template: Result<Option<NodeTemplate>, String>,
    /// Machines that were asked for and not made.
    unborn: Vec<Machine>,
    moves: bool,
    target: u32,
    told: Told,
    complained: Arc<str>,
}

/// What one asking about one group brought.
#[derive(Default)]
struct Read {
    instances: Option<(BTreeMap<String, ScalingInstance>, bool)>,
    activities: Option<Vec<ScalingActivity>>,
    configuration: Option<ScalingConfiguration>,
    types: Vec<InstanceType>,
    failure: Option<Failure>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let grace = shared.stale_after;
        let groups = shared.pools.iter().map(|declared| Group {
            declared: declared.clone(),
            freshness: Freshness::of(1, grace),
            unread: None,
            seen: None,
            instances: BTreeMap::new(),
            configuration: None,
            template: Ok(None),
            unborn: Vec::new(),
            moves: false,
            target: 0,
            told: Told::default(),
            complained: Arc::from(""),
        });
        Self {
            groups: groups.collect(),
            changes: VecDeque::new(),
            freshness: Freshness::of(1, grace),
            types: BTreeMap::new(),
            polled: None,
            shared,
        }
    }

    /// The next change; waits, and asks again, as long as there is none.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            if let Some(polled) = self.polled {
                self.shared.pace.turn(polled, self.groups.iter().any(|group| group.moves)).await;
            }
            self.poll().await;
            self.polled = Some(Instant::now());
        }
    }

    async fn poll(&mut self) {
        let now = self.shared.clock.now();
        let ids: Vec<String> = self.groups.iter().map(|group| group.declared.group.clone()).collect();
        let found = match self.shared.ess.groups(&ids).await {
            Ok(found) => found,
            Err(failure) => {
                let why = Arc::from(format!("scaling groups in {}: {failure}", self.shared.ess.region));
                let state = self.freshness.broken(0, &why, now);
                self.tell_input(state);
                return;
            }
        };
        let (shared, types) = (&self.shared, &self.types);
        let readings: Vec<_> = self.groups.iter().map(|group| group.read(shared, types, &found)).collect();
        let readings: Vec<Read> = stream::iter(readings).buffered(AT_ONCE).collect().await;
        let now = self.shared.clock.now();
        for (group, read) in self.groups.iter_mut().zip(readings) {
            for found in &read.types {
                self.types.insert(found.instance_type_id.clone(), found.clone());
            }
            group.take(&self.shared, found.get(&group.declared.group), read, &self.types, now);
            group.tell(&self.shared, &mut self.changes);
        }
        let state = self.freshness.synced(0);
        self.tell_input(state);
    }

    fn tell_input(&mut self, state: Option<InputState>) {
        let input = || Input::Pools(Arc::from(NAME));
        self.changes.extend(state.map(|state| Change::Input(input(), state)));
    }
}

impl Group {
    /// Asks what has to be asked of this group now.
    async fn read(
        &self,
        shared: &Shared,
        types: &BTreeMap<String, InstanceType>,
        found: &BTreeMap<String, ScalingGroup>,
    ) -> Read {
        let id = self.declared.group.as_str();
        let mut read = Read::default();
        let Some(group) = found.get(id) else { return read };
        let result: Result<(), Failure> = async {
            let (instances, whole) = shared.ess.instances(id).await?;
            let staying = instances.values().filter(|instance| is_staying(instance)).count();
            let short = u64::from(capacity(group)) > staying as u64;
            if short || self.moves || shared.ordered(id).is_some() {
                read.activities = Some(shared.ess.activities(id).await?);
            }
            read.instances = Some((instances, whole));
            Ok(())
        }
        .await;
        read.failure = result.err();
        // A node can be had without its description: what fails here is said, and the group goes on.
        if let Err(failure) = self.read_template(shared, types, group, &mut read).await {
            let told: Arc<str> = Arc::from(failure.to_string());
            if shared.is_news(id, &told) {
                tracing::warn!(group = id, %failure, "no new node can be described from the scaling configuration");
            }
        }
        read
    }

    async fn read_template(
        &self,
        shared: &Shared,
        types: &BTreeMap<String, InstanceType>,
        group: &ScalingGroup,
        read: &mut Read,
    ) -> Result<(), Failure> {
        let id = group.active_scaling_configuration_id.as_str();
        let current = self
            .configuration
            .as_ref()
            .filter(|(known, at)| known.scaling_configuration_id == id && at.elapsed() < CONFIGURATION_FRESH);
        if id.is_empty() {
            return Ok(());
        }
        if current.is_none() {
            read.configuration = shared.ess.configuration(&self.declared.group, id).await?;
        }
        let Some(configuration) = read.configuration.as_ref().or(current.map(|(known, _)| known)) else {
            return Ok(());
        };
        let unknown: Vec<String> =
            types_of(configuration).into_iter().filter(|name| !types.contains_key(name)).collect();
        // A type's description never changes, so it is asked for once; one that is missing is asked for again only
        // with the configuration.
        if !unknown.is_empty() && read.configuration.is_some() {
            read.types = shared.ess.instance_types(&unknown).await?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        shared: &Shared,
        found: Option<&ScalingGroup>,
        read: Read,
        types: &BTreeMap<String, InstanceType>,
        now: Timestamp,
    ) {
        self.note_freshness(read.failure.as_ref(), now);
        let Some(group) = found else {
            self.seen = None;
            self.moves = false;
            return;
        };
        if let Some((instances, whole)) = read.instances {
            self.take_instances(instances, whole);
        }
        if let Some(configuration) = read.configuration {
            self.configuration = Some((configuration, Instant::now()));
        }
        self.template = self.describe(group, types, &shared.ess.region);
        let staying = self.instances.values().filter(|(instance, _)| is_staying(instance)).count() as u32;
        self.target = capacity(group);
        if let Some(activities) = read.activities {
            self.take_activities(shared, group, &activities, staying, now);
        }
        let changing = |(instance, missed): &(ScalingInstance, u8)| {
            let state = state_of(instance);
            *missed > 0 || matches!(state, Some(MachineState::Creating | MachineState::Deleting))
        };
        self.moves =
            self.target != staying || self.instances.values().any(changing) || !self.unborn.is_empty();
        self.seen = Some(group.clone());
    }

    fn note_freshness(&mut self, failure: Option<&Failure>, now: Timestamp) {
        let state = match failure {
            None => self.freshness.synced(0),
            Some(failure) => self.freshness.broken(0, &Arc::from(failure.to_string()), now),
        };
        match state {
            Some(InputState::Fresh) => self.unread = None,
            Some(InputState::Stale { why, .. }) => self.unread = Some(why),
            None => {}
        }
    }

    /// An instance that a list leaves out may be back in the next: lists and pages are not of one moment.
    fn take_instances(&mut self, mut listed: BTreeMap<String, ScalingInstance>, whole: bool) {
        for (name, (known, missed)) in &mut self.instances {
            match listed.remove(name) {
                Some(instance) => {
                    *known = instance;
                    *missed = 0;
                }
                None if whole => *missed = missed.saturating_add(1),
                None => {}
            }
        }
        // One that was on its way out and is not listed any more has gone.
        self.instances.retain(|_, (known, missed)| {
            *missed < MISSED && (*missed == 0 || !known.lifecycle_state.starts_with("Removing"))
        });
        self.instances.extend(listed.into_iter().map(|(name, instance)| (name, (instance, 0))));
    }

    fn describe(
        &self,
        group: &ScalingGroup,
        types: &BTreeMap<String, InstanceType>,
        region: &str,
    ) -> Result<Option<NodeTemplate>, String> {
        let Some((configuration, _)) = &self.configuration else { return Ok(None) };
        let wanted: Vec<InstanceType> =
            types_of(configuration).iter().filter_map(|name| types.get(name).cloned()).collect();
        if wanted.is_empty() {
            // Without the types a live node shows what a node is; the reason was logged where they were read.
            return Ok(None);
        }
        template(group, configuration, &wanted, region).map(Some)
    }

    /// Sizes that are on their way, and machines that could not be made, by the group's activities.
    fn take_activities(
        &mut self,
        shared: &Shared,
        group: &ScalingGroup,
        activities: &[ScalingActivity],
        staying: u32,
        now: Timestamp,
    ) {
        let region = &shared.ess.region;
        let runs = activities.iter().any(is_running);
        let ordered =
            shared.ordered(&group.scaling_group_id).filter(|order| order.at.elapsed() < ORDER_BELIEVED);
        let ours = ordered.as_ref().and_then(|order| {
            activities.iter().find(|activity| activity.scaling_activity_id == order.activity)
        });
        let fresh = |activity: &&ScalingActivity| {
            let ended = moment(&activity.end_time).or_else(|| moment(&activity.start_time));
            ended.is_none_or(|ended| now.duration_since(ended) < SHORTAGE_FRESH)
        };
        let (blamed, missing) = if group.enable_desired_capacity {
            // ESS goes on trying for the desired capacity: its newest activity tells how that goes.
            let newest = activities.first().filter(|_| !runs).filter(fresh);
            (newest, capacity(group).saturating_sub(staying))
        } else {
            let missing = match (&ordered, ours) {
                (Some(order), Some(activity)) if !is_running(activity) => {
                    let wanted = order.to.saturating_sub(order.from);
                    wanted.saturating_sub(activity.created_capacity)
                }
                (Some(order), _) => {
                    // Not shown yet, or under way: what was ordered is what the group is asked for.
                    self.target = self.target.max(order.to);
                    0
                }
                (None, _) => 0,
            };
            (ours.filter(fresh), missing)
        };
        self.unborn.clear();
        let pool = pool_id(&group.scaling_group_id);
        if let Some(activity) = blamed
            && let Some((code, message)) = shortage(activity)
        {
            let created_at = moment(&activity.start_time).unwrap_or(now);
            for number in 0..missing {
                let id = placeholder_id(region, &activity.scaling_activity_id, number);
                if shared.is_forgotten(&id) {
                    continue;
                }
                let state = MachineState::Failed { code: code.clone(), message: message.clone() };
                let (pool, aliases) = (pool.clone(), Vec::new());
                self.unborn.push(Machine { id, pool, state, created_at, node: None, aliases, direct: None });
            }
        }
        if !group.enable_desired_capacity {
            self.target = self.target.max(staying + self.unborn.len() as u32);
        }
        let over = ours.is_some_and(|activity| !is_running(activity)) || ordered.is_none();
        if over && self.unborn.is_empty() {
            shared.forget_order(&group.scaling_group_id);
        }
    }

    /// Tells what is new since it was last told.
    fn tell(&mut self, shared: &Shared, changes: &mut VecDeque<Change>) {
        let pool = self.pool(shared);
        if let Some(why) = pool.frozen.as_ref().filter(|why| **why != self.complained) {
            tracing::warn!(group = self.declared.group, %why, "the group is left as it is");
            self.complained = why.clone();
        }
        let machines = self.instances.values().filter_map(|(instance, _)| self.machine(shared, instance));
        let machines: Vec<Machine> = machines.chain(self.unborn.iter().cloned()).collect();
        self.told.tell(pool, machines.into_iter(), changes);
    }

    fn machine(&self, shared: &Shared, instance: &ScalingInstance) -> Option<Machine> {
        Some(Machine {
            id: machine_id(&shared.ess.region, &instance.instance_id),
            pool: pool_id(&self.declared.group),
            state: state_of(instance)?,
            created_at: created_at(instance),
            node: None,
            aliases: aliases(instance),
            direct: None,
        })
    }

    fn pool(&self, shared: &Shared) -> Pool {
        let Declared { min, max, group: id } = &self.declared;
        let (mut frozen, mut bounds) = (None, (*min, *max));
        match &self.seen {
            None => {
                frozen = Some(format!(
                    "there is no scaling group {id} in {}; check --nodes and the region",
                    shared.ess.region
                ));
            }
            Some(group) => {
                // ESS refuses what is outside its own bounds, some of it silently: the narrower ones are true.
                bounds = (bounds.0.max(group.min_size), bounds.1.min(group.max_size));
                if bounds.0 > bounds.1 {
                    frozen = Some(format!(
                        "--nodes={min}:{max}:{id} and the group's own bounds of {} to {} have nothing in common; \
                         change one of them",
                        group.min_size, group.max_size
                    ));
                    bounds = (*min, *max);
                }
                frozen = frozen.or_else(|| refused_by_group(group));
            }
        }
        if let Err(why) = &self.template {
            frozen = Some(why.clone());
        }
        if let Some(why) = &self.unread {
            frozen = Some(format!("{id} cannot be read: {why}"));
        }
        let name = self.seen.as_ref().map(|group| group.scaling_group_name.as_str()).unwrap_or_default();
        Pool {
            id: pool_id(id),
            name: Arc::from(if name.is_empty() { id } else { name }),
            provider: ProviderKind::Alicloud,
            profile: Profile::ClusterAutoscaler,
            min: bounds.0,
            max: bounds.1,
            target: self.target,
            template: self.template.clone().unwrap_or_default(),
            priority: 0,
            price: MicroUsdPerHour::default(),
            options: PoolOptions::default(),
            frozen: frozen.map(Arc::from),
            kind: model::PoolKind::default(),
        }
    }
}
