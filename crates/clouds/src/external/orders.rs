//! The three orders on a group.
//!
//! Owns what is read before each call. The protocol sends differences and takes no token, so an order that is sent
//! twice would count twice: orders of a group go one at a time, each after a fresh read, and after an answer that was
//! lost none goes out for as long as the lost one may still come into effect.

use super::connection::shown;
use super::protocol as wire;
use super::view::state_of;
use super::{Shared, group_of};
use crate::calls::{Failure, FailureKind};
use crate::{OrderAnswer, ProviderError};
use jiff::SignedDuration;
use model::{Buy, Lower, MachineState, NodeName, PoolId, Release};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Wait while the program asks for one.
const BUSY_WAIT: SignedDuration = SignedDuration::from_secs(10);
/// Time that reading a node from the cluster may take; without it the program is told less.
const NODE_READ: Duration = Duration::from_secs(3);

type Answer = Result<OrderAnswer, ProviderError>;

/// What a group looks like just before an order.
struct Fresh {
    name: String,
    min: u32,
    max: u32,
    target: u32,
    machines: Vec<wire::Instance>,
}

impl Fresh {
    /// Machines that count towards the size.
    fn staying(&self) -> usize {
        let staying = |machine: &&wire::Instance| state_of(machine.status.as_ref()) != MachineState::Deleting;
        self.machines.iter().filter(staying).count()
    }
}

fn failed(attempted: &str, failure: &Failure) -> ProviderError {
    let attempted = attempted.to_owned();
    match failure.kind {
        FailureKind::Ill => ProviderError::Transient { attempted, source: failure.to_string().into() },
        FailureKind::Busy => ProviderError::Later { attempted, why: failure.to_string(), wait: BUSY_WAIT },
        FailureKind::Denied | FailureKind::Missing | FailureKind::Refused => ProviderError::Refused {
            attempted,
            code: failure.code.to_string(),
            message: failure.message.to_string(),
        },
    }
}

fn gone(pool: &PoolId) -> OrderAnswer {
    OrderAnswer::obsolete(format!("pool {pool} is gone"))
}

/// A difference of sizes as the protocol carries it.
fn difference(larger: u32, smaller: u32) -> i32 {
    i32::try_from(larger.saturating_sub(smaller)).unwrap_or(i32::MAX)
}

impl Shared {
    fn turn(&self, group: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.state().turns.entry(group.to_owned()).or_default().clone()
    }

    /// Reads a group for an order; `None` where it is gone.
    async fn fresh(&self, pool: &PoolId, attempted: &str) -> Result<Option<Fresh>, ProviderError> {
        let Some(name) = group_of(pool) else { return Ok(None) };
        if let Some(until) = self.state().unanswered.get(name).copied() {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(ProviderError::Later {
                    attempted: attempted.to_owned(),
                    why: format!("the last order of {name} got no answer, and may still come into effect"),
                    wait: SignedDuration::try_from(left).unwrap_or(BUSY_WAIT),
                });
            }
        }
        let read = async {
            let groups = self.asked.groups().await?;
            let Some(group) = groups.into_iter().find(|group| group.id == name) else { return Ok(None) };
            let machines = self.asked.machines(name).await?;
            let target = self.asked.target(name).await?;
            let bounds = (u32::try_from(group.min_size), u32::try_from(group.max_size));
            let (Ok(min), Ok(max)) = bounds else {
                let message = format!("{name} has {} to {} nodes", group.min_size, group.max_size);
                return Err(Failure::new(FailureKind::Refused, "BadAnswer", message));
            };
            Ok(Some(Fresh { name: name.to_owned(), min, max, target, machines }))
        };
        read.await.map_err(|why| failed(attempted, &why))
    }

    /// Sends a change, and remembers one whose answer is lost.
    async fn send(
        &self,
        group: &str,
        attempted: &str,
        change: impl Future<Output = Result<(), Failure>>,
    ) -> Answer {
        let result = change.await;
        self.pace.nudge();
        let Err(failure) = result else { return Ok(OrderAnswer::Done) };
        if failure.kind == FailureKind::Ill {
            self.state().unanswered.insert(group.to_owned(), Instant::now() + self.unanswered_wait);
        }
        Err(failed(attempted, &failure))
    }

    pub(super) async fn raise(&self, order: &Buy) -> Answer {
        let attempted = format!("raise {} to {}", order.pool, order.to);
        let turn = self.turn(group_of(&order.pool).unwrap_or_default());
        let _turn = turn.lock().await;
        let Some(group) = self.fresh(&order.pool, &attempted).await? else { return Ok(gone(&order.pool)) };
        if group.target >= order.to {
            return Ok(OrderAnswer::Done);
        }
        if order.to > group.max {
            let why = format!("{} nodes are over the maximum of {} of {}", order.to, group.max, group.name);
            return Ok(OrderAnswer::obsolete(why));
        }
        let by = difference(order.to, group.target);
        self.send(&group.name, &attempted, self.asked.increase(&group.name, by)).await
    }

    pub(super) async fn reduce(&self, order: &Lower) -> Answer {
        let attempted = format!("lower {} to {}", order.pool, order.to);
        let turn = self.turn(group_of(&order.pool).unwrap_or_default());
        let _turn = turn.lock().await;
        let Some(group) = self.fresh(&order.pool, &attempted).await? else { return Ok(gone(&order.pool)) };
        let (name, target) = (&group.name, group.target);
        if target <= order.to {
            return Ok(OrderAnswer::Done);
        }
        if target > order.from {
            let why = format!("{} was raised to {target} since {} was planned on", order.pool, order.from);
            return Ok(OrderAnswer::obsolete(why));
        }
        if order.to < group.min {
            let why = format!("{} is under the minimum of {} of {name}", order.to, group.min);
            return Ok(OrderAnswer::obsolete(why));
        }
        let staying = group.staying();
        if staying as u64 > u64::from(order.to) {
            return Ok(OrderAnswer::obsolete(format!(
                "{name} has {staying} machines: only named ones may go"
            )));
        }
        let by = difference(target, order.to);
        self.send(name, &attempted, self.asked.decrease(name, by)).await
    }

    pub(super) async fn give_back(&self, order: &Release) -> Answer {
        let attempted = format!("delete {} of {}", order.machine, order.pool);
        let turn = self.turn(group_of(&order.pool).unwrap_or_default());
        let _turn = turn.lock().await;
        let Some(group) = self.fresh(&order.pool, &attempted).await? else { return Ok(gone(&order.pool)) };
        let machine = group.machines.iter().find(|machine| machine.id == order.machine.as_str());
        let Some(machine) = machine else { return Ok(OrderAnswer::Done) };
        if state_of(machine.status.as_ref()) == MachineState::Deleting {
            return Ok(OrderAnswer::Done);
        }
        let min = group.min.max(order.min);
        if group.target <= min {
            let why = format!("{} is at its minimum of {min}: {} is kept", group.name, order.machine);
            return Ok(OrderAnswer::obsolete(why));
        }
        let node = self.described(&machine.id, order.node.as_ref()).await;
        match self.send(&group.name, &attempted, self.asked.delete(&group.name, node)).await {
            // It went between the read and the call.
            Err(ProviderError::Refused { code, .. }) if code == "NotFound" => Ok(OrderAnswer::Done),
            answer => answer,
        }
    }

    /// A node as the program is told of it: with its labels and annotations where the cluster tells them in time.
    async fn described(&self, machine: &str, node: Option<&NodeName>) -> wire::ExternalGrpcNode {
        let name = node.map_or(machine, NodeName::as_str).to_owned();
        let plain = wire::ExternalGrpcNode {
            provider_id: machine.to_owned(),
            name,
            labels: HashMap::new(),
            annotations: HashMap::new(),
        };
        let (Some(nodes), Some(node)) = (&self.nodes, node) else { return plain };
        match crate::watching::within(NODE_READ, nodes.get_opt(node.as_str())).await {
            Ok(Some(object)) => wire::ExternalGrpcNode {
                labels: object.metadata.labels.unwrap_or_default().into_iter().collect(),
                annotations: object.metadata.annotations.unwrap_or_default().into_iter().collect(),
                ..plain
            },
            Ok(None) => plain,
            Err(error) => {
                let why = shown(&error.to_string());
                tracing::warn!(node = node.as_str(), why, "the node's labels are not told to the program");
                plain
            }
        }
    }
}
