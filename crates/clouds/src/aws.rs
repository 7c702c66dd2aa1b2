//! Auto Scaling groups of AWS as pools, their EC2 instances as machines, by the official SDK.
//!
//! Owns the settings and the joining of the parts: `cloud` knows the actions, `permissions` which of them may be
//! missing, `view` reads, `orders` writes, `launch` and `template` describe nodes that do not exist yet.

mod cloud;
mod declared;
mod failure;
mod launch;
mod orders;
mod permissions;
mod reading;
mod requirements;
mod template;
mod view;

pub use aws_config::SdkConfig;
pub use declared::{Declarations, Declared, Discovery};
pub use failure::failure;

use crate::calls::CallLimits;
use crate::polling::{Pace, Poll};
use crate::{OrderAnswer, Provider, ProviderError};
use clock::Clock;
use cloud::{Cloud, TypeFacts};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use jiff::{SignedDuration, Timestamp};
use model::{Buy, Change, Lower, MachineId, PoolId, ProviderKind, Release};
use permissions::Permissions;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prefix of this provider's pool ids and its name as an input, as `--cloud-provider` names it.
pub const NAME: &str = "aws";
/// Machines that never came and were given back, which are remembered.
const MOST_FORGOTTEN: usize = 10_000;

pub fn pool_id(group: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{group}"))
}

fn group_of(pool: &PoolId) -> Option<&str> {
    pool.as_str().strip_prefix(NAME)?.strip_prefix('/').filter(|group| !group.is_empty())
}

/// Region, keys and endpoints as every program on AWS finds them: environment, files, the role of the service account,
/// of the container or of the instance.
pub async fn from_environment() -> SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest()).load().await
}

/// The provider's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub declarations: Declarations,
    pub limits: CallLimits,
    pub poll: Poll,
    /// How long groups may be unreadable before nothing is planned on what was read of them.
    pub stale_after: SignedDuration,
}

impl Settings {
    pub fn new(declarations: Declarations) -> Self {
        Self {
            declarations,
            limits: CallLimits::default(),
            poll: Poll::default(),
            stale_after: SignedDuration::from_mins(2),
        }
    }
}

/// The provider.
#[derive(Clone)]
pub struct Aws {
    shared: Arc<Shared>,
}

impl Aws {
    /// Asks where and with the keys that `config` says. The SDK's own retries are off: ours have bounds and a breaker.
    pub fn new(settings: Settings, config: &SdkConfig, clock: Clock) -> Result<Self, String> {
        settings.declarations.validate()?;
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let Some(region) = region else {
            return Err("no region is named, and the metadata service tells none; set AWS_REGION".to_owned());
        };
        let Settings { declarations, limits, poll, stale_after } = settings;
        let retries = aws_config::retry::RetryConfig::disabled();
        let config = config.to_builder().retry_config(retries).build();
        let shared = Shared {
            cloud: Cloud::new(&config, limits),
            permissions: Permissions::default(),
            declarations,
            region,
            pace: Pace::new(poll),
            stale_after,
            clock,
            state: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// What reading and ordering share.
struct Shared {
    cloud: Cloud,
    permissions: Permissions,
    declarations: Declarations,
    region: String,
    pace: Pace,
    stale_after: SignedDuration,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When a size was last asked of each group: what failed before says nothing of it.
    ordered: BTreeMap<String, Timestamp>,
    forgotten: VecDeque<MachineId>,
    /// What was last said of each group, so that it is said once.
    said: BTreeMap<String, Arc<str>>,
    types: BTreeMap<String, TypeFacts>,
}

impl State {
    fn forget(&mut self, machine: MachineId) {
        if self.forgotten.len() >= MOST_FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(machine);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_forgotten(&self, machine: &MachineId) -> bool {
        self.state().forgotten.contains(machine)
    }

    fn is_news(&self, group: &str, text: &Arc<str>) -> bool {
        self.state().said.insert(group.to_owned(), text.clone()).as_ref() != Some(text)
    }
}

impl Provider for Aws {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    fn name(&self) -> Arc<str> {
        Arc::from(NAME)
    }

    fn watch(&self) -> BoxStream<'static, Change> {
        let view = view::View::new(self.shared.clone());
        stream::unfold(view, |mut view| async move {
            let change = view.next().await;
            Some((change, view))
        })
        .boxed()
    }

    fn buy<'a>(&'a self, order: &'a Buy) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.raise(order))
    }

    fn lower<'a>(&'a self, order: &'a Lower) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.reduce(order))
    }

    fn release<'a>(&'a self, order: &'a Release) -> BoxFuture<'a, Result<OrderAnswer, ProviderError>> {
        Box::pin(self.shared.give_back(order))
    }
}
