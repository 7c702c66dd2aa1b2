//! The three orders on a node pool.
//!
//! Owns what is read before each call and what each answer means for the order. A size is sent only after a fresh read
//! and never under what that read showed; machines go by name only.

use super::Shared;
use super::cce::{CceNode, DEFAULT_GROUP, NodePool};
use super::reading::{groups_of, is_staying, node_of, placeholder_number, refused_by_pool, shortage};
use crate::calls::{Failure, FailureKind};
use crate::{OrderAnswer, ProviderError};
use jiff::SignedDuration;
use model::{Buy, Lower, PoolId, Release};

/// Wait while CCE is busy with another change.
const BUSY_WAIT: SignedDuration = SignedDuration::from_secs(15);

type Answer = Result<OrderAnswer, ProviderError>;

fn failed(attempted: &str, failure: &Failure) -> ProviderError {
    let attempted = attempted.to_owned();
    match failure.kind {
        FailureKind::Ill => ProviderError::Transient { attempted, source: failure.to_string().into() },
        FailureKind::Busy => ProviderError::Later { attempted, why: failure.to_string(), wait: BUSY_WAIT },
        FailureKind::Denied | FailureKind::Missing | FailureKind::Refused => {
            let (code, message) = (failure.code.to_string(), failure.message.to_string());
            ProviderError::Refused { attempted, code, message }
        }
    }
}

impl Shared {
    async fn fresh(&self, pool: &PoolId, attempted: &str) -> Result<Option<NodePool>, ProviderError> {
        let pools = self.cce.pools().await.map_err(|why| failed(attempted, &why))?;
        let id = super::uid_of(pool);
        Ok(pools.into_iter().find(|found| Some(found.metadata.uid.as_str()) == id))
    }

    /// The nodes of a pool that stay.
    async fn staying(&self, pool: &NodePool, attempted: &str) -> Result<Vec<CceNode>, ProviderError> {
        let nodes = self.cce.nodes().await.map_err(|why| failed(attempted, &why))?;
        let own = |node: &CceNode| node.pool() == Some(&*pool.metadata.uid) && is_staying(node);
        Ok(nodes.into_iter().filter(own).collect())
    }

    pub(super) async fn raise(&self, order: &Buy) -> Answer {
        let attempted = format!("raise {} to {}", order.pool, order.to);
        let Some(pool) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if pool.spec.initial_node_count >= order.to {
            return Ok(OrderAnswer::Done);
        }
        if let Some(why) = refused_by_pool(&pool) {
            return Ok(OrderAnswer::obsolete(why));
        }
        let groups = groups_of(&pool);
        let asked = self.cce.scale(&pool.metadata.uid, order.to, &groups).await;
        self.pace.nudge();
        asked.map_err(|why| failed(&attempted, &why))?;
        Ok(OrderAnswer::Done)
    }

    pub(super) async fn reduce(&self, order: &Lower) -> Answer {
        let attempted = format!("lower {} to {}", order.pool, order.to);
        let Some(pool) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let observed = pool.spec.initial_node_count;
        if observed <= order.to {
            return Ok(OrderAnswer::Done);
        }
        if observed > order.from {
            let why = format!("{} was raised to {observed} since {} was planned on", order.pool, order.from);
            return Ok(OrderAnswer::obsolete(why));
        }
        self.lower_to(&pool, order.to, &attempted).await
    }

    /// Lowers what a pool is asked for, never under the nodes that it has: CCE would choose which of them go.
    async fn lower_to(&self, pool: &NodePool, to: u32, attempted: &str) -> Answer {
        let name = &pool.metadata.name;
        if let Some(why) = refused_by_pool(pool) {
            return Ok(OrderAnswer::obsolete(why));
        }
        let there = self.staying(pool, attempted).await?.len().max(pool.status.current_node as usize);
        if there as u64 > u64::from(to) {
            return Ok(OrderAnswer::obsolete(format!("{name} has {there} nodes: only named ones may go")));
        }
        let asked = self.cce.scale(&pool.metadata.uid, to, &[DEFAULT_GROUP]).await;
        self.pace.nudge();
        asked.map_err(|why| failed(attempted, &why))?;
        Ok(OrderAnswer::Done)
    }

    pub(super) async fn give_back(&self, order: &Release) -> Answer {
        let attempted = format!("delete node {} of {}", node_of(&order.machine), order.pool);
        let Some(pool) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        if let Some(number) = placeholder_number(&order.machine) {
            return self.forget(&pool, number, &attempted).await;
        }
        let id = node_of(&order.machine);
        let staying = self.staying(&pool, &attempted).await?;
        if !staying.iter().any(|node| node.metadata.uid == id) {
            return Ok(OrderAnswer::Done);
        }
        if let Some(why) = refused_by_pool(&pool) {
            return Ok(OrderAnswer::obsolete(why));
        }
        if pool.spec.initial_node_count <= order.min {
            let (name, min) = (&pool.metadata.name, order.min);
            return Ok(OrderAnswer::obsolete(format!("{name} is at its minimum of {min}: {id} is kept")));
        }
        let asked = self.cce.delete(id).await;
        self.pace.nudge();
        match asked {
            Err(why) if why.kind == FailureKind::Missing => Ok(OrderAnswer::Done),
            Err(why) => Err(failed(&attempted, &why)),
            Ok(()) => Ok(OrderAnswer::Done),
        }
    }

    /// Takes back what was asked for and cannot be made: the nodes from this number on.
    async fn forget(&self, pool: &NodePool, number: u32, attempted: &str) -> Answer {
        let there = self.staying(pool, attempted).await?.len().max(pool.status.current_node as usize);
        let to = u32::try_from(there).unwrap_or(u32::MAX).saturating_add(number);
        if shortage(pool).is_none() || to >= pool.spec.initial_node_count {
            return Ok(OrderAnswer::Done);
        }
        self.lower_to(pool, to, attempted).await
    }
}
