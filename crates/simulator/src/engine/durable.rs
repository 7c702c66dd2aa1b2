//! Nothing is done that the stored ledger does not say: the intent of every act, read from the API server itself.
//!
//! Owns following the ledger as it is stored, and what each write of the controller must find in it. The decisions are
//! checked elsewhere; this looks at what reaches the outside world, whatever the process that sent it believed.

use api::annotations::INTENT;
use checker::{Rule, Violation};
use jiff::{SignedDuration, Timestamp};
use model::{Ledger, NodeName, PodKey, PoolId, RemovalPhase};
use sandbox::store::resource::{CONFIG_MAPS, NODES, SIMULATED_MACHINES, SIMULATED_POOLS};
use sandbox::store::{Change, ChangeKind, Object};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// An eviction that was handed out may reach the API server so long after its drain was given up: the controller
/// hears late that its ledger was stored, and one call may be in flight then.
const IN_FLIGHT: SignedDuration = SignedDuration::from_mins(2);

/// The ledger as it is stored, and the machines that could be lost to a number.
#[derive(Debug, Default)]
pub(super) struct Durable {
    head: Option<Arc<Object>>,
    /// What `head` says, once somebody has asked.
    ledger: Option<Arc<Ledger>>,
    /// Ledgers that were written over lately, the oldest first, and when.
    before: VecDeque<(Timestamp, Arc<Object>)>,
    /// The highest that was ever seen.
    epoch: u64,
    /// When a backup was put back last: its ledger has an old epoch, and knows nothing of what is under way.
    restored: Option<Timestamp>,
    /// Whether the next ledger is that of the backup.
    from_backup: bool,
    /// Machines by pool that are there and not on their way out.
    live: BTreeMap<String, BTreeSet<String>>,
}

impl Durable {
    /// One change of the store, in the store's order.
    pub(super) fn observe(&mut self, now: Timestamp, change: &Change) -> Vec<Violation> {
        let object = &change.object;
        let resource = object.resource();
        if resource == CONFIG_MAPS && object.name() == controller::LEDGER_CONFIG_MAP {
            return self.follow(now, change).into_iter().collect();
        }
        if resource == SIMULATED_MACHINES {
            self.machine(change);
        } else if resource == SIMULATED_POOLS {
            return self.pool(now, change);
        } else if resource == NODES {
            return self.node(now, change).into_iter().collect();
        }
        Vec::new()
    }

    fn follow(&mut self, now: Timestamp, change: &Change) -> Option<Violation> {
        self.ledger = None;
        let new = (change.kind != ChangeKind::Deleted).then(|| Arc::clone(&change.object));
        if let Some(old) = std::mem::replace(&mut self.head, new) {
            self.before.push_back((now, old));
        }
        let is_old = |(at, _): &(Timestamp, Arc<Object>)| now.duration_since(*at) > IN_FLIGHT;
        while self.before.front().is_some_and(is_old) {
            self.before.pop_front();
        }
        self.head.as_ref()?;
        let epoch = change.object.text("data.epoch").and_then(|text| text.parse().ok()).unwrap_or(0);
        let before = self.epoch;
        self.epoch = before.max(epoch);
        let from_backup = std::mem::take(&mut self.from_backup);
        (epoch < before && !from_backup).then(|| {
            let detail = format!("was written under epoch {epoch} after epoch {before} had begun");
            Violation::new(Rule::Fencing, controller::LEDGER_CONFIG_MAP, detail)
        })
    }

    /// The next ledger is a backup's.
    pub(super) fn restored(&mut self, now: Timestamp) {
        self.restored = Some(now);
        self.from_backup = true;
    }

    /// Whether what the stored ledger does not say was said by one that a backup has just replaced.
    fn said_before_restore(&self, now: Timestamp, said: impl Fn(&Ledger) -> bool) -> bool {
        let lately = self.restored.is_some_and(|at| now.duration_since(at) <= IN_FLIGHT);
        lately && self.before.iter().rev().filter_map(|(_, head)| read(head)).any(|ledger| said(&ledger))
    }

    /// The ledger that is stored; `None` where it is too large for one object, which no random scenario's is.
    fn ledger(&mut self) -> Option<Arc<Ledger>> {
        let Some(head) = &self.head else { return Some(Arc::default()) };
        if self.ledger.is_none() {
            self.ledger = Some(Arc::new(read(head)?));
        }
        self.ledger.clone()
    }

    fn machine(&mut self, change: &Change) {
        let object = &change.object;
        let Some(pool) = object.text("spec.pool") else { return };
        let gone = change.kind == ChangeKind::Deleted
            || object.is_terminating()
            || object.text("status.phase") == Some("Deleting");
        let machines = self.live.entry(pool.to_owned()).or_default();
        if gone {
            machines.remove(object.name());
        } else {
            machines.insert(object.name().to_owned());
        }
    }

    /// A pool grows by an intent, and shrinks by names or by giving up what never came.
    fn pool(&mut self, now: Timestamp, change: &Change) -> Vec<Violation> {
        let mut found = Vec::new();
        let (object, Some(before)) = (&change.object, &change.previous) else { return found };
        if change.kind == ChangeKind::Deleted {
            return found;
        }
        let size = |object: &Object| object.at("spec.replicas").and_then(Value::as_u64).unwrap_or(0);
        let (from, to) = (size(before), size(object));
        let named = terminated(object);
        let new_names: Vec<&str> = named.difference(&terminated(before)).copied().collect();
        if from == to && new_names.is_empty() {
            return found;
        }
        let name = object.name();
        if to < from {
            let staying = self.live.get(name).map_or(0, |live| {
                live.iter().filter(|machine| !named.contains(machine.as_str())).count() as u64
            });
            if staying > to {
                let detail = format!("went from {from} to {to} with {staying} machines that nobody named");
                found.push(Violation::new(Rule::LoweredByName, name, detail));
            }
        }
        let Some(ledger) = self.ledger() else { return found };
        let id = PoolId::from(format!("simulated/{name}"));
        let orders =
            |ledger: &Ledger| ledger.scale_ups.get(&id).is_some_and(|order| u64::from(order.to) >= to);
        if to > from && !orders(&ledger) && !self.said_before_restore(now, orders) {
            let intent = ledger.scale_ups.get(&id).map_or(0, |scale_up| scale_up.to);
            let detail = format!("was raised from {from} to {to}; the stored ledger's intent says {intent}");
            found.push(Violation::new(Rule::IntentInLedger, name, detail));
        }
        let releases = |ledger: &Ledger, machine: &str| {
            let all = ledger.removals.values().chain(ledger.orphans.values());
            all.filter(|removal| removal.phase == RemovalPhase::Releasing)
                .any(|removal| removal.machine.as_str().rsplit('/').next() == Some(machine))
        };
        for machine in new_names {
            let said = |ledger: &Ledger| releases(ledger, machine);
            if said(&ledger) || self.said_before_restore(now, said) {
                continue;
            }
            let detail = "is given back without an intent in the stored ledger";
            found.push(Violation::new(Rule::IntentInLedger, machine, detail));
        }
        found
    }

    /// A node is marked by the intent that its removal has in the ledger.
    fn node(&mut self, now: Timestamp, change: &Change) -> Option<Violation> {
        let object = &change.object;
        let intent = object.annotation(INTENT).filter(|_| change.kind != ChangeKind::Deleted)?;
        let before = change.previous.as_ref().and_then(|node| node.annotation(INTENT));
        if before == Some(intent) {
            return None;
        }
        let ledger = self.ledger()?;
        let node = NodeName::new(object.name());
        let marks = |ledger: &Ledger| {
            ledger.removals.get(&node).is_some_and(|removal| removal.intent.as_str() == intent)
        };
        let known = marks(&ledger) || self.said_before_restore(now, marks);
        (!known).then(|| {
            let detail = format!("is marked for {intent}, which the stored ledger does not hold");
            Violation::new(Rule::IntentInLedger, object.name(), detail)
        })
    }

    /// A pod is evicted from a node that the ledger drains, or drained when the eviction was handed out.
    pub(super) fn evicted(&mut self, now: Timestamp, node: &NodeName, pod: &PodKey) -> Option<Violation> {
        let drains = |ledger: &Ledger| {
            ledger.removals.get(node).is_some_and(|removal| {
                removal.phase == RemovalPhase::Draining && removal.evictions.contains_key(pod)
            })
        };
        let lately = |(at, head): &(Timestamp, Arc<Object>)| {
            now.duration_since(*at) <= IN_FLIGHT && read(head).is_none_or(|ledger| drains(&ledger))
        };
        let known = drains(&*self.ledger()?) || self.before.iter().rev().any(lately);
        (!known).then(|| {
            let detail = format!("is evicted from {node}, which the stored ledger does not drain of it");
            Violation::new(Rule::IntentInLedger, pod, detail)
        })
    }
}

fn read(head: &Object) -> Option<Ledger> {
    let data = head.value().get("data")?;
    if data.get("rest").is_some() {
        return None;
    }
    serde_json::from_str(data.get("ledger.json")?.as_str()?).ok()
}

fn terminated(pool: &Object) -> BTreeSet<&str> {
    let names = pool.at("spec.terminate").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}
