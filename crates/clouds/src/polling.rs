//! Looking at a cloud again and again: seldom at rest, often while something moves, and telling only what is new.
//!
//! Owns the pace and the memory of what was told. What is asked for, and what it means, is the providers' business.

use model::{Change, Machine, MachineId, Pool};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long after an order we look often, whatever is seen.
const LOOK_AFTER_ORDER: Duration = Duration::from_mins(1);

/// How often the groups are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    pub at_rest: Duration,
    /// While machines come or go, or an order was just given.
    pub moving: Duration,
}

impl Default for Poll {
    fn default() -> Self {
        Self { at_rest: Duration::from_secs(30), moving: Duration::from_secs(3) }
    }
}

/// The pace of one provider, which its orders quicken.
pub(crate) struct Pace {
    poll: Poll,
    wake: Notify,
    last_order: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(poll: Poll) -> Self {
        Self { poll, wake: Notify::new(), last_order: Mutex::default() }
    }

    /// Has the groups looked at now.
    pub(crate) fn nudge(&self) {
        *self.last_order() = Some(Instant::now());
        self.wake.notify_one();
    }

    /// Waits until it is time to look again.
    pub(crate) async fn turn(&self, looked: Instant, moves: bool) {
        let ordered = self.last_order().is_some_and(|at| at.elapsed() < LOOK_AFTER_ORDER);
        let every = if moves || ordered { self.poll.moving } else { self.poll.at_rest };
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = tokio::time::sleep_until(looked + every) => {}
        }
    }

    fn last_order(&self) -> MutexGuard<'_, Option<Instant>> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.last_order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was told of one pool, so that it is told once.
#[derive(Default)]
pub(crate) struct Told {
    pool: Option<Pool>,
    machines: BTreeMap<MachineId, Machine>,
}

impl Told {
    /// Tells what is new since it was last told.
    pub(crate) fn tell(
        &mut self,
        pool: Pool,
        machines: impl Iterator<Item = Machine>,
        changes: &mut VecDeque<Change>,
    ) {
        if self.pool.as_ref() != Some(&pool) {
            changes.push_back(Change::Pool(pool.id.clone(), Some(Arc::new(pool.clone()))));
            self.pool = Some(pool);
        }
        let machines: BTreeMap<MachineId, Machine> =
            machines.map(|machine| (machine.id.clone(), machine)).collect();
        for id in self.machines.keys().filter(|id| !machines.contains_key(*id)) {
            changes.push_back(Change::Machine(id.clone(), None));
        }
        for (id, machine) in &machines {
            if self.machines.get(id) != Some(machine) {
                changes.push_back(Change::Machine(id.clone(), Some(Arc::new(machine.clone()))));
            }
        }
        self.machines = machines;
    }

    /// A machine as it was last told.
    #[cfg(feature = "huawei")]
    pub(crate) fn machine(&self, id: &MachineId) -> Option<&Machine> {
        self.machines.get(id)
    }

    /// Tells that a pool and all its machines are ours no more.
    #[cfg(any(feature = "aws", feature = "external", feature = "huawei"))]
    pub(crate) fn take_back(self, changes: &mut VecDeque<Change>) {
        changes.extend(self.machines.into_keys().map(|id| Change::Machine(id, None)));
        changes.extend(self.pool.map(|pool| Change::Pool(pool.id, None)));
    }
}
