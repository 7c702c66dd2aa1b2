//! The three orders on an Auto Scaling group.
//!
//! Owns what is read before each call and what each answer means for the order. A desired capacity is absolute, sent
//! only after a fresh read and never under what that read showed; machines go by name only. The API takes no client
//! token, so every order is one that may be repeated: a size that is reached, a machine that is gone, is done.

use super::Shared;
use super::cloud::{Group, Query};
use super::permissions::Optional;
use super::reading::{
    instance_of, is_leaving, is_placeholder, is_running, is_staying, launched, refused_by_group,
};
use crate::calls::{Failure, FailureKind};
use crate::{OrderAnswer, ProviderError};
use jiff::SignedDuration;
use model::{Buy, Lower, PoolId, Release};

/// Wait while another activity of the group is in the way.
const ACTIVITY_WAIT: SignedDuration = SignedDuration::from_secs(10);

type Answer = Result<OrderAnswer, ProviderError>;

fn failed(attempted: &str, failure: &Failure) -> ProviderError {
    let attempted = attempted.to_owned();
    match failure.kind {
        FailureKind::Ill => ProviderError::Transient { attempted, source: failure.to_string().into() },
        FailureKind::Busy => {
            ProviderError::Later { attempted, why: failure.to_string(), wait: ACTIVITY_WAIT }
        }
        FailureKind::Denied | FailureKind::Missing | FailureKind::Refused => ProviderError::Refused {
            attempted,
            code: failure.code.to_string(),
            message: failure.message.to_string(),
        },
    }
}

impl Shared {
    async fn fresh(&self, pool: &PoolId, attempted: &str) -> Result<Option<Group>, ProviderError> {
        let Some(name) = super::group_of(pool) else { return Ok(None) };
        let names = [name.to_owned()];
        let found = self.cloud.groups(Query::Names(&names)).await.map_err(|why| failed(attempted, &why))?;
        Ok(found.into_iter().find(|group| group.name == name))
    }

    pub(super) async fn raise(&self, order: &Buy) -> Answer {
        let attempted = format!("raise {} to {}", order.pool, order.to);
        let Some(group) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if group.desired >= order.to {
            return Ok(OrderAnswer::Done);
        }
        if let Some(why) = refused_by_group(&group) {
            return Ok(OrderAnswer::obsolete(why));
        }
        if order.to > group.max {
            let why = format!(
                "{} machines are over the maximum of {} of {} in Auto Scaling",
                order.to, group.max, group.name
            );
            return Ok(OrderAnswer::obsolete(why));
        }
        // Noted before the call: an answer may be lost, and what fails from here on is of this order.
        self.state().ordered.insert(group.name.clone(), self.clock.now());
        self.cloud.set_desired(&group.name, order.to).await.map_err(|why| failed(&attempted, &why))?;
        self.pace.nudge();
        Ok(OrderAnswer::Done)
    }

    pub(super) async fn reduce(&self, order: &Lower) -> Answer {
        let attempted = format!("lower {} to {}", order.pool, order.to);
        let Some(group) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if group.desired <= order.to {
            return Ok(OrderAnswer::Done);
        }
        if group.desired > order.from {
            let why =
                format!("{} was raised to {} since {} was planned on", order.pool, group.desired, order.from);
            return Ok(OrderAnswer::obsolete(why));
        }
        self.lower_to(&group, order.to, &attempted).await
    }

    /// Lowers what a group is asked for, never under the machines that it has or is about to have.
    async fn lower_to(&self, group: &Group, to: u32, attempted: &str) -> Answer {
        let name = &group.name;
        if let Some(why) = refused_by_group(group) {
            return Ok(OrderAnswer::obsolete(why));
        }
        if to < group.min {
            return Ok(OrderAnswer::obsolete(format!(
                "{to} is under the minimum of {} of {name}",
                group.min
            )));
        }
        let activities = self.permissions.ask(Optional::Activities, self.cloud.activities(name));
        let activities = activities.await.map_err(|why| failed(attempted, &why))?.unwrap_or_default();
        let staying = group.instances.iter().filter(|instance| is_staying(instance)).count();
        let listed = |id: &str| group.instances.iter().any(|instance| instance.id == id);
        // A machine that is being made may not be listed yet.
        let coming = activities
            .iter()
            .filter(|activity| is_running(activity))
            .filter(|activity| {
                activity.description.starts_with("Launching") && !launched(activity).is_some_and(listed)
            })
            .count();
        if (staying + coming) as u64 > u64::from(to) {
            let why =
                format!("{name} has {staying} machines and {coming} on their way: only named ones may go");
            return Ok(OrderAnswer::obsolete(why));
        }
        self.cloud.set_desired(name, to).await.map_err(|why| failed(attempted, &why))?;
        self.pace.nudge();
        Ok(OrderAnswer::Done)
    }

    pub(super) async fn give_back(&self, order: &Release) -> Answer {
        let attempted = format!("terminate {} in {}", order.machine, order.pool);
        let Some(group) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if is_placeholder(&order.machine) {
            return self.forget(&group, order, &attempted).await;
        }
        let Some(id) = instance_of(&order.machine) else {
            return Ok(OrderAnswer::obsolete(format!("{} is no instance of AWS", order.machine)));
        };
        let Some(instance) = group.instances.iter().find(|instance| instance.id == id) else {
            return Ok(OrderAnswer::Done);
        };
        if is_leaving(instance) {
            return Ok(OrderAnswer::Done);
        }
        if !is_staying(instance) {
            let why =
                format!("{id} is {} in {}; take it back into service first", instance.state, group.name);
            return Ok(OrderAnswer::obsolete(why));
        }
        if let Some(why) = refused_by_group(&group) {
            return Ok(OrderAnswer::obsolete(why));
        }
        let min = group.min.max(order.min);
        if group.desired <= min {
            return Ok(OrderAnswer::obsolete(format!(
                "{} is at its minimum of {min}: {id} is kept",
                group.name
            )));
        }
        match self.cloud.terminate(id).await {
            Ok(()) => {
                self.pace.nudge();
                Ok(OrderAnswer::Done)
            }
            // It went between the read and the call.
            Err(why) if why.kind == FailureKind::Missing => Ok(OrderAnswer::Done),
            Err(why) => Err(failed(&attempted, &why)),
        }
    }

    /// Takes back what was asked for and never came: the group goes on trying for it otherwise.
    async fn forget(&self, group: &Group, order: &Release, attempted: &str) -> Answer {
        let staying = group.instances.iter().filter(|instance| is_staying(instance)).count();
        let answer = if u64::from(group.desired) > staying as u64 {
            let to = (group.desired - 1).max(group.min);
            if to == group.desired { OrderAnswer::Done } else { self.lower_to(group, to, attempted).await? }
        } else {
            OrderAnswer::Done
        };
        if answer == OrderAnswer::Done {
            self.state().forget(order.machine.clone());
            self.pace.nudge();
        }
        Ok(answer)
    }
}
