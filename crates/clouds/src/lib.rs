//! Where nodes come from: providers behind one trait.
//!
//! A provider reports pools and machines as changes of the model and carries out three orders, each idempotent.
//! It decides nothing: what to order is `nodes`' business, when and with which guard the controller's.

#[cfg(feature = "alibaba")]
pub mod alibaba;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cluster_api;
pub mod events;
#[cfg(feature = "external")]
pub mod expander;
#[cfg(feature = "external")]
pub mod external;
#[cfg(feature = "signed")]
pub mod hashing;
#[cfg(feature = "huawei")]
pub mod huawei;
#[cfg(feature = "network")]
pub mod keys;
pub mod objects;
#[cfg(feature = "polling")]
pub mod polling;
#[cfg(feature = "external")]
mod protobuf;
#[cfg(feature = "network")]
pub mod secret;
pub mod simulated;
mod tags;
#[cfg(feature = "network")]
pub mod transport;
pub mod watching;

/// Limits of calls and waits between attempts, under the name by which the providers know them.
pub use ::calls;
pub use ::calls::backoff;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use jiff::SignedDuration;
use model::{Buy, Change, Lower, ProviderKind, Release};
use std::sync::Arc;

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderAnswer {
    /// Taken, or found already taken.
    Done,
    /// The pool or machine is gone, or the order would break a rule of the contract (under minimum, under what
    /// exists): nothing was changed.
    Obsolete { why: Arc<str> },
}

impl OrderAnswer {
    fn obsolete(why: impl AsRef<str>) -> Self {
        Self::Obsolete { why: Arc::from(why.as_ref()) }
    }
}

/// A failed order, with what the caller needs to wait or to give up.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Worth another try after a wait (conflict, throttling, time-out, server error).
    #[error("{attempted}: {source}")]
    Transient { attempted: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The provider is well and asks to wait: another change of the same pool is under way.
    #[error("{attempted} has to wait: {why}")]
    Later { attempted: String, why: String, wait: SignedDuration },
    /// The provider refuses: sold out, quota, permission.
    #[error("{attempted} was refused with {code}: {message}")]
    Refused { attempted: String, code: String, message: String },
}

impl ProviderError {
    /// Whether what was asked for is not there: an object, or a kind that is not installed.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NotFound")
    }

    /// The same error for another order that failed with the first.
    #[must_use]
    pub fn again(&self) -> Self {
        match self {
            Self::Transient { attempted, source } => {
                Self::Transient { attempted: attempted.clone(), source: source.to_string().into() }
            }
            Self::Later { attempted, why, wait } => {
                Self::Later { attempted: attempted.clone(), why: why.clone(), wait: *wait }
            }
            Self::Refused { attempted, code, message } => {
                Self::Refused { attempted: attempted.clone(), code: code.clone(), message: message.clone() }
            }
        }
    }
}

/// One way of getting nodes.
pub trait Provider: Send + Sync {
    fn kind(&self) -> ProviderKind;

    /// The name under which the freshness of its pools is reported: `Change::Input(Input::Pools(name), …)`.
    fn name(&self) -> Arc<str>;

    /// Whether a pool is this provider's.
    fn owns(&self, pool: &model::PoolId) -> bool {
        pool.as_str().split_once('/').is_some_and(|(prefix, _)| *prefix == *self.name())
    }

    /// Pools and machines as they change: `Change::Pool`, `Change::Machine` and `Change::Input(Pools(name), …)`
    /// for freshness. Begins with everything that exists, then `Fresh`. Never ends; reconnects by itself with
    /// bounded, seeded back-off.
    fn watch(&self) -> BoxStream<'static, Change>;

    /// Raises a pool's target to `order.to`: reads just before, never sends less than is observed.
    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>>;

    /// Lowers a pool's target after a fresh read, never under the machines that exist.
    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>>;

    /// Terminates one named machine, lowering the target with it, never under the minimum.
    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>>;

    /// The same for several machines of one pool, with an answer for each. A provider whose changes take minutes, and
    /// run one at a time, takes them together.
    fn release_several<'a>(
        &'a self,
        orders: &'a [Release],
    ) -> BoxFuture<'a, Vec<Result<OrderAnswer, ProviderError>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(orders.len());
            for order in orders {
                answers.push(self.release(order).await);
            }
            answers
        })
    }

    /// Releases that are handed to `release_several` at once.
    fn most_releases_at_once(&self) -> usize {
        1
    }
}
