//! Groups of an external program as pools, by Cluster Autoscaler's `externalgrpc` protocol; and the simulated cloud
//! offered by the same protocol.
//!
//! Owns the settings and the joining of the parts: `ask` knows the calls, `view` reads, `orders` writes, `serve` is
//! the other end.

mod ask;
mod config;
pub(crate) mod connection;
mod facts;
mod orders;
pub mod protocol;
mod serve;
mod view;

pub use config::Configuration;
pub use connection::{Certificates, Server};
pub use serve::{ServeError, ServingTls, serve};

use crate::calls::CallLimits;
use crate::polling::{Pace, Poll};
use crate::{OrderAnswer, Provider, ProviderError};
use ask::Asked;
use clock::Clock;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use model::{Buy, Change, Lower, PoolId, PoolOptions, ProviderKind, Release};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Prefix of this provider's pool ids and its name as an input, as `--cloud-provider` names it.
pub const NAME: &str = "externalgrpc";
/// Calls begun in one second: the program is beside us and answers from what it knows.
const PER_SECOND: u32 = 100;

pub fn pool_id(group: &str) -> PoolId {
    PoolId::from(format!("{NAME}/{group}"))
}

fn group_of(pool: &PoolId) -> Option<&str> {
    pool.as_str().strip_prefix(NAME)?.strip_prefix('/').filter(|group| !group.is_empty())
}

/// The provider's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub limits: CallLimits,
    pub poll: Poll,
    /// How long groups may be unreadable before nothing is planned on what was read of them.
    pub stale_after: SignedDuration,
    /// The cluster's own settings, which the program is told as defaults.
    pub defaults: PoolOptions,
}

impl Settings {
    pub fn new(server: Server, limits: CallLimits) -> Self {
        Self {
            server,
            limits: CallLimits { per_second: PER_SECOND, ..limits },
            poll: Poll { at_rest: Duration::from_secs(15), ..Poll::default() },
            stale_after: SignedDuration::from_mins(2),
            defaults: PoolOptions::default(),
        }
    }
}

/// The provider.
#[derive(Clone)]
pub struct External {
    shared: Arc<Shared>,
}

impl External {
    /// `client` is asked for labels and annotations of nodes that go, which the protocol carries; without one they
    /// are left out. The error is one sentence that names what is wrong with the settings.
    pub fn new(settings: Settings, client: Option<Client>, clock: Clock) -> Result<Self, String> {
        let Settings { server, limits, poll, stale_after, defaults } = settings;
        let shared = Shared {
            address: server.address.clone(),
            asked: Asked::new(server, limits)?,
            nodes: client.map(Api::all),
            unanswered_wait: limits.timeout,
            pace: Pace::new(poll),
            stale_after,
            defaults,
            clock,
            state: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// What reading and ordering share.
struct Shared {
    address: String,
    asked: Asked,
    nodes: Option<Api<Node>>,
    /// How long a change may still come into effect after its answer was lost.
    unanswered_wait: Duration,
    pace: Pace,
    stale_after: SignedDuration,
    defaults: PoolOptions,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One order of a group at a time: sizes are sent as differences.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Groups whose last order got no answer, and until when it may still come into effect.
    unanswered: BTreeMap<String, Instant>,
    /// What was last said of each group, so that it is said once.
    said: BTreeMap<String, Arc<str>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_news(&self, group: &str, text: &Arc<str>) -> bool {
        self.state().said.insert(group.to_owned(), text.clone()).as_ref() != Some(text)
    }

    /// Drops what is remembered of a group that is gone.
    fn drop_group(&self, group: &str) {
        let mut state = self.state();
        state.turns.remove(group);
        state.unanswered.remove(group);
        state.said.remove(group);
    }
}

impl Provider for External {
    fn kind(&self) -> ProviderKind {
        ProviderKind::ExternalGrpc
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
