//! What there is: groups with their instances, activities, rules, types; and how it moves by itself with time.
//!
//! Owns the life of machines (made, in service, going), stock that runs out, and ESS's own tries for a desired
//! capacity. Nothing here has a timer: every look brings the world up to the present first.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How long ESS waits before it tries for a desired capacity again.
const RETRY: SignedDuration = SignedDuration::from_mins(2);
/// Activities that are kept.
const MOST_ACTIVITIES: usize = 10_000;

/// Everything that exists.
#[derive(Clone, Debug)]
pub struct World {
    pub region: String,
    pub groups: BTreeMap<String, Group>,
    pub types: Vec<Type>,
    pub activities: Vec<Activity>,
    pub rules: Vec<Rule>,
    /// How long a machine takes to be made, and to go.
    pub making: SignedDuration,
    pub removing: SignedDuration,
    /// How long before a new instance appears in lists.
    pub listed_after: SignedDuration,
    /// How long an instance that a lifecycle hook holds waits before it goes.
    pub hook_holds: SignedDuration,
    /// Machines that can still be made; `None` has no end.
    pub stock: Option<u32>,
    /// The next lists name each instance twice, or leave one of them out.
    pub list_twice: bool,
    pub list_without: Option<(String, u32)>,
    /// Machines that ESS chose to remove because a size was lowered: whoever names machines leaves this at 0.
    pub chosen_by_ess: u32,
    pub(super) tokens: BTreeMap<String, (String, String)>,
    made: u32,
}

/// A scaling group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub name: String,
    pub min: u32,
    pub max: u32,
    /// Where the group has one.
    pub desired: Option<u32>,
    pub inactive: bool,
    pub configuration: Configuration,
    pub tags: Vec<(String, String)>,
    pub instances: BTreeMap<String, Instance>,
}

/// What a group starts its machines from.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub id: String,
    pub types: Vec<String>,
    pub zone: String,
    pub disk_gib: u64,
    pub tags: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct Instance {
    pub state: &'static str,
    pub created: Timestamp,
    pub address: String,
    pub attached: bool,
    /// When its state changes by itself.
    pub(super) turns: Option<Timestamp>,
}

/// A type of machine.
#[derive(Clone, Debug, Default)]
pub struct Type {
    pub name: String,
    pub cpu: u64,
    pub memory_gib: f64,
    pub arm: bool,
    pub gpus: u64,
}

#[derive(Clone, Debug)]
pub struct Activity {
    pub id: String,
    pub group: String,
    pub status: &'static str,
    pub started: Timestamp,
    pub ended: Option<Timestamp>,
    pub error: Option<(String, String)>,
    pub created: Vec<String>,
    pub destroyed: Vec<String>,
    pub cause: String,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: String,
    pub group: String,
    pub name: String,
    pub adjustment_type: String,
    pub adjustment_value: i64,
}

impl Group {
    /// Instances that count, by the start of their state.
    pub(super) fn count(&self, state: &str) -> u32 {
        self.instances.values().filter(|instance| instance.state == state).count() as u32
    }

    /// Instances that are not going.
    pub fn staying(&self) -> u32 {
        self.instances.values().filter(|instance| !instance.state.starts_with("Removing")).count() as u32
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            region: "cn-hangzhou".to_owned(),
            groups: BTreeMap::new(),
            types: Vec::new(),
            activities: Vec::new(),
            rules: Vec::new(),
            making: SignedDuration::from_secs(40),
            removing: SignedDuration::from_secs(20),
            listed_after: SignedDuration::ZERO,
            hook_holds: SignedDuration::ZERO,
            stock: None,
            list_twice: false,
            list_without: None,
            chosen_by_ess: 0,
            tokens: BTreeMap::new(),
            made: 0,
        }
    }

    /// Takes an instance away as the cloud does when hardware fails: without an activity.
    pub fn vanish(&mut self, group: &str, instance: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.instances.remove(instance);
            if let Some(desired) = &mut group.desired {
                *desired = desired.saturating_sub(1);
            }
        }
    }

    pub(super) fn is_busy(&self, group: &str) -> bool {
        self.activities.iter().any(|activity| activity.group == group && activity.status == "InProgress")
    }

    /// Brings everything up to the present.
    pub(super) fn advance(&mut self, now: Timestamp) {
        for group in self.groups.values_mut() {
            for instance in group.instances.values_mut().filter(|one| one.turns.is_some_and(|at| at <= now)) {
                match instance.state {
                    "Pending" => (instance.state, instance.turns) = ("InService", None),
                    "Removing:Wait" => {
                        instance.state = "Removing";
                        instance.turns = instance.turns.map(|at| at + self.removing);
                    }
                    _ => {}
                }
            }
            group.instances.retain(|_, one| one.state != "Removing" || one.turns.is_none_or(|at| at > now));
        }
        let groups = &self.groups;
        for activity in self.activities.iter_mut().filter(|activity| activity.status == "InProgress") {
            let Some(group) = groups.get(&activity.group) else { continue };
            let made = activity
                .created
                .iter()
                .all(|id| group.instances.get(id).is_none_or(|one| one.state != "Pending"));
            let gone = activity.destroyed.iter().all(|id| !group.instances.contains_key(id));
            if made && gone {
                activity.status = if activity.error.is_some() { "Warning" } else { "Successful" };
                activity.ended = Some(now);
            }
        }
        self.try_again(now);
    }

    /// ESS goes on trying for a desired capacity that it has not reached.
    fn try_again(&mut self, now: Timestamp) {
        let short: Vec<(String, u32)> = self
            .groups
            .iter()
            .filter(|(_, group)| !group.inactive)
            .filter_map(|(id, group)| Some((id.clone(), group.desired?.checked_sub(group.staying())?)))
            .filter(|(id, missing)| *missing > 0 && !self.is_busy(id))
            .collect();
        for (id, missing) in short {
            let last = self.activities.iter().rev().find(|activity| activity.group == id);
            if last.and_then(|activity| activity.ended).is_none_or(|ended| now.duration_since(ended) >= RETRY)
            {
                self.grow(&id, missing, "The desired capacity is not reached", now);
            }
        }
    }

    /// Begins an activity that adds machines, as far as there is stock. Answers its id.
    pub(super) fn grow(&mut self, id: &str, count: u32, cause: &str, now: Timestamp) -> String {
        let possible = self.stock.map_or(count, |stock| stock.min(count));
        if let Some(stock) = &mut self.stock {
            *stock -= possible;
        }
        let mut created = Vec::new();
        for _ in 0..possible {
            self.made += 1;
            let name = format!("i-bp1{:06}", self.made);
            let instance = Instance {
                state: "Pending",
                created: now,
                address: format!("192.168.{}.{}", self.made / 200, self.made % 200 + 10),
                attached: false,
                turns: now.saturating_add(self.making).ok(),
            };
            if let Some(group) = self.groups.get_mut(id) {
                group.instances.insert(name.clone(), instance);
            }
            created.push(name);
        }
        let error = (possible < count).then(|| {
            let message = "The requested resource is sold out in the specified zone; try other types of resources or \
                           other regions and zones.";
            ("OperationDenied.NoStock".to_owned(), message.to_owned())
        });
        let status = if possible == 0 { "Failed" } else { "InProgress" };
        let ended = (possible == 0).then_some(now);
        self.note(Activity {
            id: String::new(),
            group: id.to_owned(),
            status,
            started: now,
            ended,
            error,
            created,
            destroyed: Vec::new(),
            cause: cause.to_owned(),
        })
    }

    /// Begins an activity that removes these machines. Answers its id.
    pub(super) fn shrink(&mut self, id: &str, names: &[String], cause: &str, now: Timestamp) -> String {
        let (holds, removing) = (self.hook_holds, self.removing);
        if let Some(group) = self.groups.get_mut(id) {
            for name in names {
                if let Some(instance) = group.instances.get_mut(name) {
                    let held = !holds.is_zero();
                    instance.state = if held { "Removing:Wait" } else { "Removing" };
                    instance.turns = now.saturating_add(if held { holds } else { removing }).ok();
                }
            }
        }
        self.note(Activity {
            id: String::new(),
            group: id.to_owned(),
            status: "InProgress",
            started: now,
            ended: None,
            error: None,
            created: Vec::new(),
            destroyed: names.to_vec(),
            cause: cause.to_owned(),
        })
    }

    fn note(&mut self, mut activity: Activity) -> String {
        activity.id = format!("asa-bp1{:05}", self.activities.len() + 1);
        let id = activity.id.clone();
        if self.activities.len() < MOST_ACTIVITIES {
            self.activities.push(activity);
        }
        id
    }
}
