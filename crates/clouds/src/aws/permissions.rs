//! Permissions that may be missing: what is lost without each, said once, and asked for again after a while.
//!
//! Owns the memory of what was refused. Reading groups is not among these: without it nothing can be planned.

use super::failure::is_missing_permission;
use crate::calls::Failure;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a refused action is not asked for again: it may be granted by then.
const REFUSED_FOR: Duration = Duration::from_mins(10);

/// An action that we can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Optional {
    Activities,
    LaunchConfigurations,
    LaunchTemplates,
    InstanceTypes,
    Images,
    Requirements,
    NodeGroups,
}

impl Optional {
    /// What is lost without it.
    fn loss(self) -> &'static str {
        match self {
            Self::Activities => {
                "a shortage is noticed only when machines do not come in time, and machines count as made when first seen"
            }
            Self::LaunchConfigurations | Self::LaunchTemplates | Self::InstanceTypes => {
                "a group grows from zero only where tags give cpu and memory, or once a first node shows what a node is"
            }
            Self::Images | Self::Requirements => {
                "of groups with instance requirements only the least cpu and memory that they require is known"
            }
            Self::NodeGroups => "labels and taints of managed node groups are known from tags alone",
        }
    }
}

#[derive(Default)]
pub(super) struct Permissions {
    refused: Mutex<BTreeMap<Optional, Instant>>,
}

impl Permissions {
    /// Makes a call that may be refused. `None`: it was, now or lately.
    pub(super) async fn ask<T>(
        &self,
        optional: Optional,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Option<T>, Failure> {
        let refused = self.refused().get(&optional).copied();
        if refused.is_some_and(|at| at.elapsed() < REFUSED_FOR) {
            return Ok(None);
        }
        match call.await {
            Ok(answer) => {
                if self.refused().remove(&optional).is_some() {
                    tracing::info!(permission = ?optional, "granted by now");
                }
                Ok(Some(answer))
            }
            Err(why) if is_missing_permission(&why) => {
                if self.refused().insert(optional, Instant::now()).is_none() {
                    tracing::warn!(%why, without = optional.loss(), "going on without an optional permission");
                }
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    fn refused(&self) -> MutexGuard<'_, BTreeMap<Optional, Instant>> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::FailureKind;

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_is_asked_again_after_a_while() {
        let permissions = Permissions::default();
        let denied = || async { Err::<u8, _>(Failure::new(FailureKind::Denied, "AccessDenied", "no")) };
        let granted = || async { Ok(1) };
        assert_eq!(permissions.ask(Optional::Images, denied()).await, Ok(None));
        assert_eq!(permissions.ask(Optional::Images, granted()).await, Ok(None));
        assert_eq!(permissions.ask(Optional::NodeGroups, granted()).await, Ok(Some(1)));
        tokio::time::sleep(REFUSED_FOR).await;
        assert_eq!(permissions.ask(Optional::Images, granted()).await, Ok(Some(1)));
        let bad_key = async { Err::<u8, _>(Failure::new(FailureKind::Denied, "ExpiredToken", "no")) };
        assert!(permissions.ask(Optional::Images, bad_key).await.is_err());
    }
}
