//! What was last read of the Auto Scaling groups, as changes of the model.
//!
//! Owns what is kept between two lookings and the joins: groups that are named and groups that carry tags, machines
//! that could not be made, a machine or a discovered group that counts as gone only when two answers in a row do not
//! name it.

use super::cloud::{Activity, Group, Instance, Query};
use super::declared::Declared;
use super::launch::{Known, Launches};
use super::permissions::Optional;
use super::reading::{
    is_leaving, is_running, is_staying, launched, machine_id, next_zone, placeholder_id, refused_by_group,
    shortage, state_of,
};
use super::template::{Described, describe};
use super::{NAME, Shared, pool_id};
use crate::calls::Failure;
use crate::polling::Told;
use crate::watching::Freshness;
use futures::StreamExt as _;
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use model::{Change, Input, InputState, Machine, MachineState, MicroUsdPerHour, Pool, Profile, ProviderKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// Groups read at once.
const AT_ONCE: usize = 8;
/// Failed activities that are older say nothing of today.
const SHORTAGE_FRESH: SignedDuration = SignedDuration::from_mins(15);
/// Our clock and AWS's may differ by so much where an activity is compared with an order.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(30);
/// Answers that must not name a machine, or a discovered group, before it counts as gone.
const MISSED: u8 = 2;
/// Lookings that must show a shortage: between two of the group's own tries, in another zone, there is a moment's rest.
const SHORT: u8 = 2;

pub(super) struct View {
    shared: Arc<Shared>,
    changes: VecDeque<Change>,
    freshness: Freshness,
    pools: BTreeMap<String, Watched>,
    looked: Option<Instant>,
}

/// One group and what is known of it.
#[derive(Default)]
struct Watched {
    /// Its bounds, where it was named and not discovered.
    declared: Option<Declared>,
    seen: Option<Group>,
    missed: u8,
    instances: BTreeMap<String, Seen>,
    known: Option<Known>,
    described: Described,
    /// Machines that were asked for and not made.
    unborn: Vec<Machine>,
    /// The failed activity that was the newest, and in how many lookings.
    suspected: (String, u8),
    moves: bool,
    told: Told,
}

struct Seen {
    instance: Instance,
    missed: u8,
    created_at: Timestamp,
}

/// What one looking at one group brought.
#[derive(Default)]
struct Read {
    activities: Option<Vec<Activity>>,
    known: Option<Known>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let named = shared.declarations.named.iter().map(|declared| {
            let watched = Watched { declared: Some(declared.clone()), ..Watched::default() };
            (declared.group.clone(), watched)
        });
        Self {
            pools: named.collect(),
            changes: VecDeque::new(),
            freshness: Freshness::of(1, shared.stale_after),
            looked: None,
            shared,
        }
    }

    /// The next change; waits, and looks again, as long as there is none.
    pub(super) async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return change;
            }
            if let Some(looked) = self.looked {
                self.shared.pace.turn(looked, self.pools.values().any(|pool| pool.moves)).await;
            }
            self.look().await;
            self.looked = Some(Instant::now());
        }
    }

    async fn look(&mut self) {
        let mut found = match self.groups().await {
            Ok(found) => found,
            Err(failure) => {
                let why: Arc<str> = Arc::from(format!(
                    "Auto Scaling groups in {} cannot be read: {failure}",
                    self.shared.region
                ));
                if self.shared.is_news("", &why) {
                    tracing::error!("{why}");
                }
                let state = self.freshness.broken(0, &why, self.shared.clock.now());
                self.tell_input(state);
                return;
            }
        };
        for name in found.keys() {
            self.pools.entry(name.clone()).or_default();
        }
        let shared = &self.shared;
        let readings: Vec<_> =
            self.pools.iter().map(|(name, pool)| pool.read(shared, found.get(name))).collect();
        let readings: Vec<Read> = stream::iter(readings).buffered(AT_ONCE).collect().await;
        let now = shared.clock.now();
        let mut gone = BTreeSet::new();
        for ((name, pool), read) in self.pools.iter_mut().zip(readings) {
            pool.take(shared, found.remove(name), read, now);
            if pool.declared.is_none() && pool.missed >= MISSED {
                gone.insert(name.clone());
            } else {
                pool.tell(shared, name, &mut self.changes);
            }
        }
        for pool in gone.iter().filter_map(|name| self.pools.remove(name)) {
            pool.told.take_back(&mut self.changes);
        }
        let state = self.freshness.synced(0);
        self.tell_input(state);
    }

    /// Every group that was named or carries the tags of a spec, by its name.
    async fn groups(&self) -> Result<BTreeMap<String, Group>, Failure> {
        let declarations = &self.shared.declarations;
        let mut found = Vec::new();
        if !declarations.named.is_empty() {
            let names: Vec<String> = declarations.named.iter().map(|one| one.group.clone()).collect();
            found.extend(self.shared.cloud.groups(Query::Names(&names)).await?);
        }
        for spec in &declarations.discovered {
            let answered = self.shared.cloud.groups(Query::Tags(&spec.tags)).await?;
            // Filters on keys and on values are joined by AND, whatever order the answer has; it is checked all the
            // same, because a group that is not ours must never be changed.
            found.extend(answered.into_iter().filter(|group| spec.covers(&group.tags)));
        }
        Ok(found.into_iter().map(|group| (group.name.clone(), group)).collect())
    }

    fn tell_input(&mut self, state: Option<InputState>) {
        let input = || Input::Pools(Arc::from(NAME));
        self.changes.extend(state.map(|state| Change::Input(input(), state)));
    }
}

impl Watched {
    /// Asks what has to be asked of this group now. What fails here is said once, and the group goes on without.
    async fn read(&self, shared: &Shared, found: Option<&Group>) -> Read {
        let mut read = Read::default();
        let Some(group) = found else { return read };
        let staying = group.instances.iter().filter(|instance| is_staying(instance)).count();
        let unknown = group.instances.iter().any(|instance| !self.instances.contains_key(&instance.id));
        let result: Result<(), Failure> = async {
            if self.known.as_ref().is_none_or(|known| !known.holds_for(group)) {
                read.known = Some(shared.find_out(group).await?);
            }
            if unknown || u64::from(group.desired) > staying as u64 || !self.unborn.is_empty() {
                let asked =
                    shared.permissions.ask(Optional::Activities, shared.cloud.activities(&group.name));
                read.activities = asked.await?;
            }
            Ok(())
        }
        .await;
        if let Err(failure) = result {
            let told: Arc<str> = Arc::from(failure.to_string());
            if shared.is_news(&group.name, &told) {
                tracing::warn!(group = group.name, %failure, "not all of the group can be read");
            }
        }
        read
    }

    fn take(&mut self, shared: &Shared, found: Option<Group>, read: Read, now: Timestamp) {
        let Some(group) = found else {
            self.missed = self.missed.saturating_add(1);
            // A discovered group that one answer leaves out is as it was.
            if self.missed >= MISSED || self.declared.is_some() {
                self.seen = None;
                self.moves = false;
            }
            return;
        };
        self.missed = 0;
        if let Some(known) = read.known {
            self.known = Some(known);
        }
        self.take_instances(&group, read.activities.as_deref(), now);
        let unknown = Launches::default();
        let launches = self.known.as_ref().map_or(&unknown, |known| &known.launches);
        self.described = describe(&group, launches, &shared.region);
        let staying = group.instances.iter().filter(|instance| is_staying(instance)).count() as u32;
        let missing = group.desired.saturating_sub(staying);
        match read.activities {
            _ if missing == 0 => {
                self.unborn.clear();
                self.suspected = (String::new(), 0);
            }
            Some(activities) => self.take_activities(shared, &group, &activities, missing, now),
            None => {}
        }
        let changing = |seen: &Seen| {
            let state = state_of(&seen.instance);
            seen.missed > 0 || matches!(state, Some(MachineState::Creating | MachineState::Deleting))
        };
        self.moves =
            group.desired != staying || self.instances.values().any(changing) || !self.unborn.is_empty();
        self.seen = Some(group);
    }

    /// An instance that an answer leaves out may be back in the next: answers are not of one moment.
    fn take_instances(&mut self, group: &Group, activities: Option<&[Activity]>, now: Timestamp) {
        let mut listed: BTreeMap<&str, &Instance> =
            group.instances.iter().map(|instance| (instance.id.as_str(), instance)).collect();
        for (id, seen) in &mut self.instances {
            match listed.remove(id.as_str()) {
                Some(instance) => {
                    seen.instance = instance.clone();
                    seen.missed = 0;
                }
                None => seen.missed = seen.missed.saturating_add(1),
            }
        }
        // One that was on its way out and is not listed any more has gone.
        self.instances
            .retain(|_, seen| seen.missed < MISSED && (seen.missed == 0 || !is_leaving(&seen.instance)));
        for (id, instance) in listed {
            let created_at = created_at(id, group, activities, now);
            self.instances.insert(id.to_owned(), Seen { instance: instance.clone(), missed: 0, created_at });
        }
    }

    /// Machines that cannot be made, by the group's newest activity: the group itself goes on trying.
    fn take_activities(
        &mut self,
        shared: &Shared,
        group: &Group,
        activities: &[Activity],
        missing: u32,
        now: Timestamp,
    ) {
        let ordered = shared.state().ordered.get(&group.name).copied();
        let launches = || activities.iter().filter(|one| one.description.starts_with("Launching"));
        let since = |activity: &&Activity| {
            let ended = activity.ended.or(activity.started);
            let fresh = ended.is_none_or(|ended| now.duration_since(ended) < SHORTAGE_FRESH);
            let of_order = activity.started.zip(ordered).is_none_or(|(started, ordered)| {
                started.saturating_add(CLOCKS_DIFFER).is_ok_and(|started| started >= ordered)
            });
            fresh && of_order
        };
        let runs = launches().any(is_running);
        let newest = launches().next().filter(|_| !runs).filter(since);
        let Some((activity, (code, message))) =
            newest.and_then(|activity| Some((activity, shortage(activity)?)))
        else {
            self.unborn.clear();
            self.suspected = (String::new(), 0);
            return;
        };
        if self.suspected.0 == activity.id || self.suspected.1 > 0 {
            self.suspected.1 = self.suspected.1.saturating_add(1);
        } else {
            self.suspected.1 = 1;
        }
        self.suspected.0.clone_from(&activity.id);
        self.unborn.clear();
        if self.suspected.1 < SHORT {
            return;
        }
        let zone = next_zone(group).map_or("", |(zone, _)| zone);
        let created_at = activity.started.unwrap_or(now);
        for number in 0..missing {
            let id = placeholder_id(zone, &group.name, &activity.id, number);
            if shared.is_forgotten(&id) {
                continue;
            }
            let state = MachineState::Failed { code: code.clone(), message: message.clone() };
            let (pool, aliases) = (pool_id(&group.name), Vec::new());
            self.unborn.push(Machine { id, pool, state, created_at, node: None, aliases, direct: None });
        }
    }

    fn tell(&mut self, shared: &Shared, name: &str, changes: &mut VecDeque<Change>) {
        let pool = self.pool(shared, name);
        let complaints = pool.frozen.iter().map(ToString::to_string);
        let complaints: Vec<String> = complaints.chain(self.described.wrong_tags.iter().cloned()).collect();
        if !complaints.is_empty() {
            let text: Arc<str> = Arc::from(complaints.join("; "));
            if shared.is_news(&format!("{name}\n"), &text) {
                tracing::warn!(group = name, "{text}");
            }
        }
        let machines: Vec<Machine> = self
            .instances
            .values()
            .filter_map(|seen| machine(name, seen))
            .chain(self.unborn.iter().cloned())
            .collect();
        self.told.tell(pool, machines.into_iter(), changes);
    }

    fn pool(&self, shared: &Shared, name: &str) -> Pool {
        let mut frozen = None;
        let own = self.seen.as_ref().map(|group| (group.min, group.max));
        let declared = self.declared.as_ref().map(|declared| (declared.min, declared.max));
        let bounds = match (own, declared) {
            (None, declared) => {
                frozen = Some(format!(
                    "there is no Auto Scaling group {name} in {}; check --nodes and AWS_REGION",
                    shared.region
                ));
                declared.unwrap_or_default()
            }
            (Some(own), None) => own,
            // AWS refuses what is outside of its own bounds: the narrower ones are true.
            (Some(own), Some(declared)) => {
                let both = (own.0.max(declared.0), own.1.min(declared.1));
                if both.0 > both.1 {
                    frozen = Some(format!(
                        "--nodes={}:{}:{name} and the group's own bounds of {} to {} have nothing in common; \
                         change one of them",
                        declared.0, declared.1, own.0, own.1
                    ));
                }
                if both.0 > both.1 { declared } else { both }
            }
        };
        let frozen = frozen.or_else(|| self.seen.as_ref().and_then(refused_by_group));
        Pool {
            id: pool_id(name),
            name: Arc::from(name),
            provider: ProviderKind::Aws,
            profile: Profile::ClusterAutoscaler,
            min: bounds.0,
            max: bounds.1,
            target: self.seen.as_ref().map_or(0, |group| group.desired),
            template: self.described.template.clone(),
            priority: 0,
            price: MicroUsdPerHour::default(),
            options: self.described.options.clone(),
            frozen: frozen.map(Arc::from),
            kind: model::PoolKind::default(),
        }
    }
}

fn machine(group: &str, seen: &Seen) -> Option<Machine> {
    Some(Machine {
        id: machine_id(&seen.instance.zone, &seen.instance.id),
        pool: pool_id(group),
        state: state_of(&seen.instance)?,
        created_at: seen.created_at,
        node: None,
        aliases: Vec::new(),
        direct: None,
    })
}

/// When an instance was begun, by the activity that launched it. One that is older than all activities that are kept
/// is as old as its group; where none may be read, it begins when it is first seen.
fn created_at(id: &str, group: &Group, activities: Option<&[Activity]>, now: Timestamp) -> Timestamp {
    let Some(activities) = activities else { return now };
    let launched = activities.iter().find(|activity| launched(activity) == Some(id));
    launched.and_then(|activity| activity.started).or(group.created).unwrap_or(now)
}
