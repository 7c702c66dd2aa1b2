//! What was last read of the groups, as changes of the model.
//!
//! Owns what is kept between two lookings, and what an answer that makes no sense means: the group is left alone with
//! the reason, and the others go on. A machine or a group counts as gone only when two answers in a row do not name it.

use super::connection::shown;
use super::facts::Facts;
use super::protocol as wire;
use super::protocol::instance_status::InstanceState;
use super::{NAME, Shared, pool_id};
use crate::calls::Failure;
use crate::polling::Told;
use crate::watching::Freshness;
use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;
use model::{Change, Input, InputState, Machine, MachineId, MachineState, Pool, Profile, ProviderKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::time::Instant;

/// Groups read at once.
const AT_ONCE: usize = 8;
/// Answers that must not name a machine, or a group, before it counts as gone.
const MISSED: u8 = 2;
/// Largest group that is believed, and longest id.
const LARGEST_GROUP: u32 = 100_000;
const LONGEST_ID: usize = 512;

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
    bounds: (u32, u32),
    target: u32,
    machines: BTreeMap<String, Seen>,
    facts: Facts,
    /// What is wrong with the answers about it now.
    trouble: Option<String>,
    missed: u8,
    moves: bool,
    told: Told,
}

struct Seen {
    state: MachineState,
    created_at: Timestamp,
    missed: u8,
}

/// What one looking at one group brought.
struct Read {
    sizes: Result<(u32, Vec<wire::Instance>), Failure>,
    /// `None` where what is known is fresh.
    facts: Option<Result<Facts, Failure>>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            changes: VecDeque::new(),
            freshness: Freshness::of(1, shared.stale_after),
            pools: BTreeMap::new(),
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
        let listed = match self.groups().await {
            Ok(listed) => listed,
            Err(failure) => {
                let why: Arc<str> = Arc::from(format!(
                    "groups of the external program at {} cannot be read: {failure}",
                    self.shared.address
                ));
                if self.shared.is_news("", &why) {
                    tracing::error!("{why}");
                }
                let state = self.freshness.broken(0, &why, self.shared.clock.now());
                self.tell_input(state);
                return;
            }
        };
        self.shared.is_news("", &Arc::from(""));
        self.take_groups(&listed);
        let shared = &self.shared;
        let present = |name: &String| listed.iter().any(|group| group.id == *name);
        let readings: Vec<_> = self
            .pools
            .iter()
            .filter(|(name, _)| present(name))
            .map(|(name, pool)| async move { (name.clone(), pool.read(shared, name).await) })
            .collect();
        let mut readings: BTreeMap<String, Read> = stream::iter(readings).buffered(AT_ONCE).collect().await;
        let now = shared.clock.now();
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (name, pool) in &mut self.pools {
            match readings.remove(name) {
                Some(read) => pool.take(read, name, &mut owners, now),
                None => pool.missed = pool.missed.saturating_add(1),
            }
            if pool.missed >= MISSED {
                gone.insert(name.clone());
            } else {
                pool.tell(shared, name, &mut self.changes);
            }
        }
        for name in &gone {
            if let Some(pool) = self.pools.remove(name) {
                pool.told.take_back(&mut self.changes);
            }
            self.shared.drop_group(name);
        }
        let state = self.freshness.synced(0);
        self.tell_input(state);
    }

    async fn groups(&self) -> Result<Vec<wire::NodeGroup>, Failure> {
        match self.shared.asked.refresh().await {
            Err(failure) if &*failure.code != "Unimplemented" => return Err(failure),
            _ => {}
        }
        self.shared.asked.groups().await
    }

    /// Bounds of every group that is listed; what makes no sense freezes the group.
    fn take_groups(&mut self, listed: &[wire::NodeGroup]) {
        let mut seen = BTreeSet::new();
        for group in listed {
            let known = !group.id.is_empty() && group.id.len() <= LONGEST_ID;
            if !known || group.id.contains(char::is_control) {
                let text: Arc<str> = Arc::from(format!(
                    "a group has the id \"{}\"; ids have 1 to {LONGEST_ID} printable letters",
                    shown(&group.id)
                ));
                if self.shared.is_news("\n", &text) {
                    tracing::warn!("{text}");
                }
                continue;
            }
            let pool = self.pools.entry(group.id.clone()).or_default();
            pool.missed = 0;
            pool.trouble = None;
            let count = |size: i32| u32::try_from(size).ok().filter(|size| *size <= LARGEST_GROUP);
            match (count(group.min_size), count(group.max_size)) {
                _ if !seen.insert(&group.id) => {
                    pool.trouble = Some(format!("the program lists {} twice; give each an id", group.id));
                }
                (Some(min), Some(max)) if min <= max => pool.bounds = (min, max),
                _ => {
                    pool.trouble = Some(format!(
                        "the program says that {} has {} to {} nodes; the minimum must be 0 or more, and not \
                         over the maximum",
                        group.id, group.min_size, group.max_size
                    ));
                }
            }
        }
    }

    fn tell_input(&mut self, state: Option<InputState>) {
        let input = || Input::Pools(Arc::from(NAME));
        self.changes.extend(state.map(|state| Change::Input(input(), state)));
    }
}

impl Watched {
    async fn read(&self, shared: &Shared, name: &str) -> Read {
        let sizes = async {
            // Machines first: a size that is raised in between shows machines to come, never machines too many.
            let machines = shared.asked.machines(name).await?;
            Ok((shared.asked.target(name).await?, machines))
        };
        let sizes = sizes.await;
        let facts =
            if self.facts.are_fresh() || sizes.is_err() { None } else { Some(shared.facts(name).await) };
        Read { sizes, facts }
    }

    fn take(&mut self, read: Read, name: &str, owners: &mut BTreeMap<String, String>, now: Timestamp) {
        match read.facts {
            None => {}
            Some(Ok(facts)) => self.facts = facts,
            Some(Err(failure)) => self.facts.complaints = vec![failure.to_string()],
        }
        match read.sizes {
            Ok((target, _)) if target > LARGEST_GROUP => {
                self.trouble = Some(format!("the program says that {name} shall have {target} nodes"));
            }
            Ok((target, machines)) => {
                self.target = target;
                self.take_machines(&machines, name, owners, now);
            }
            // What was read before stays, and nothing is ordered on it.
            Err(failure) => self.trouble = Some(format!("{name} cannot be read: {failure}")),
        }
        let staying = self.staying();
        let changing = |seen: &Seen| seen.missed > 0 || seen.state != MachineState::Running;
        self.moves = self.target as usize != staying || self.machines.values().any(changing);
    }

    /// An instance that an answer leaves out may be back in the next: answers are not of one moment.
    fn take_machines(
        &mut self,
        machines: &[wire::Instance],
        name: &str,
        owners: &mut BTreeMap<String, String>,
        now: Timestamp,
    ) {
        let mut listed: BTreeMap<&str, &wire::Instance> = BTreeMap::new();
        for machine in machines {
            if machine.id.is_empty() || machine.id.len() > LONGEST_ID {
                self.trouble = Some(format!("the program lists a machine of {name} without an id"));
                continue;
            }
            let owner = owners.entry(machine.id.clone()).or_insert_with(|| name.to_owned());
            if owner != name {
                self.trouble = Some(format!("the program lists {} in {owner} and in {name}", machine.id));
                continue;
            }
            listed.insert(&machine.id, machine);
        }
        self.machines.retain(|id, seen| {
            if listed.contains_key(id.as_str()) {
                return true;
            }
            seen.missed = seen.missed.saturating_add(1);
            // One that was on its way out and is not listed any more has gone.
            seen.missed < MISSED && seen.state != MachineState::Deleting
        });
        for (id, machine) in listed {
            let state = state_of(machine.status.as_ref());
            let seen = self.machines.entry(id.to_owned());
            let seen = seen.or_insert_with(|| Seen { state: state.clone(), created_at: now, missed: 0 });
            (seen.state, seen.missed) = (state, 0);
        }
    }

    /// Machines that count towards the size that was asked for.
    fn staying(&self) -> usize {
        self.machines.values().filter(|seen| seen.state != MachineState::Deleting).count()
    }

    fn tell(&mut self, shared: &Shared, name: &str, changes: &mut VecDeque<Change>) {
        let frozen = self.trouble.clone().or_else(|| self.facts.frozen.clone());
        let complaints: Vec<String> =
            frozen.iter().cloned().chain(self.facts.complaints.iter().cloned()).collect();
        let text: Arc<str> = Arc::from(complaints.join("; "));
        if shared.is_news(name, &text) && !text.is_empty() {
            tracing::warn!(group = name, "{text}");
        }
        let pool = Pool {
            id: pool_id(name),
            name: Arc::from(name),
            provider: ProviderKind::ExternalGrpc,
            profile: Profile::ClusterAutoscaler,
            min: self.bounds.0,
            max: self.bounds.1,
            target: self.target,
            template: self.facts.template.clone(),
            priority: 0,
            price: self.facts.price,
            options: self.facts.options.clone(),
            frozen: frozen.map(Arc::from),
            kind: model::PoolKind::default(),
        };
        let machines = self.machines.iter().map(|(id, seen)| Machine {
            id: MachineId::from(id.as_str()),
            pool: pool_id(name),
            state: seen.state.clone(),
            created_at: seen.created_at,
            node: None,
            aliases: Vec::new(),
            direct: None,
        });
        let machines: Vec<Machine> = machines.collect();
        self.told.tell(pool, machines.into_iter(), changes);
    }
}

/// A machine's state; one of which the program says nothing runs.
pub(super) fn state_of(status: Option<&wire::InstanceStatus>) -> MachineState {
    let Some(status) = status else { return MachineState::Running };
    let error = status.error_info.as_ref().filter(|error| !error.error_code.is_empty());
    match (status.instance_state(), error) {
        (InstanceState::InstanceDeleting, _) => MachineState::Deleting,
        (InstanceState::InstanceCreating, Some(error)) => MachineState::Failed {
            code: Arc::from(shown(&error.error_code)),
            message: Arc::from(shown(&error.error_message)),
        },
        (InstanceState::InstanceCreating, None) => MachineState::Creating,
        (InstanceState::InstanceRunning | InstanceState::Unspecified, _) => MachineState::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_machines_are_sorted() {
        let state = |state: InstanceState, code: &str| {
            let error = wire::InstanceErrorInfo { error_code: code.into(), ..Default::default() };
            state_of(Some(&wire::InstanceStatus { instance_state: state.into(), error_info: Some(error) }))
        };
        assert_eq!(state_of(None), MachineState::Running);
        assert_eq!(state(InstanceState::Unspecified, ""), MachineState::Running);
        assert_eq!(state(InstanceState::InstanceRunning, "Odd"), MachineState::Running);
        assert_eq!(state(InstanceState::InstanceCreating, ""), MachineState::Creating);
        assert_eq!(state(InstanceState::InstanceDeleting, "Odd"), MachineState::Deleting);
        assert!(
            matches!(state(InstanceState::InstanceCreating, "SoldOut"), MachineState::Failed { code, .. } if &*code == "SoldOut")
        );
    }
}
