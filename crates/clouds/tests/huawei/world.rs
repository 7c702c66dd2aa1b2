//! A CCE cluster with one node pool, the provider asking it in process, and what the provider has told so far.

use crate::in_process::InProcess;
use clock::Clock;
use clouds::huawei::{Huawei, Settings, Source, pool_id};
use clouds::keys::AccessKey;
use clouds::secret::Secret;
use clouds::transport::Transport;
use clouds::{OrderAnswer, Provider, ProviderError};
use doubles::huawei as double;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use model::{
    Buy, Change, Cluster, Input, InputState, Lower, MachineId, MachineState, Pool, Release, RemovalCause,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const POOL: &str = "np-blue";
const FLAVOR: &str = "c7.xlarge.2";

pub(crate) struct World {
    pub(crate) double: double::Huawei,
    pub(crate) provider: Huawei,
    pub(crate) cluster: Cluster,
    clock: Clock,
    changes: BoxStream<'static, Change>,
}

pub(crate) fn key() -> Source {
    let secret = Secret::new("testsecret");
    Source::Given(AccessKey { id: "TESTID".into(), secret, token: None })
}

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::new("cn-north-4", double::PROJECT, double::CLUSTER);
    settings.pools = vec!["0:10:blue".parse().unwrap()];
    settings
}

pub(crate) fn service(clock: Clock) -> double::Huawei {
    let double = double::Huawei::new(clock);
    let mut state = double.state();
    state.keys.push(double::Key {
        id: "TESTID".into(),
        secret: "testsecret".into(),
        token: None,
        ends: None,
    });
    state.world.flavors.insert(FLAVOR.into(), (4, 8));
    let pool = double::Pool {
        name: "blue".into(),
        flavor: FLAVOR.into(),
        labels: [("tier".into(), "web".into())].into(),
        taints: vec![("dedicated".into(), "db".into(), "NoSchedule".into())],
        ..double::Pool::default()
    };
    state.world.pools.insert(POOL.into(), pool);
    drop(state);
    double
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, settings(), key())
    }

    /// A world whose service was prepared before the provider first asks.
    pub(crate) fn with(
        prepare: impl FnOnce(&mut double::Service),
        settings: Settings,
        source: Source,
    ) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let double = service(clock);
        prepare(&mut double.state());
        Self::of(clock, double, settings, source)
    }

    fn of(clock: Clock, double: double::Huawei, settings: Settings, source: Source) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(InProcess(double.router()));
        let provider = Huawei::new(settings, source, &transport, clock).unwrap();
        let changes = provider.watch();
        Self { double, provider, cluster: Cluster::default(), clock, changes }
    }

    /// The same service, asked by a provider that remembers nothing.
    pub(crate) fn restarted(&self) -> Self {
        Self::of(self.clock, self.double.clone(), settings(), key())
    }

    /// Hears what the provider tells until it is so; fails after ten minutes of virtual time.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let end = tokio::time::Instant::now() + Duration::from_mins(10);
        while !is_so(&self.cluster) {
            let Ok(Some(change)) = tokio::time::timeout_at(end, self.changes.next()).await else {
                let (pools, machines) = (self.cluster.pools(), self.cluster.machines());
                panic!("{what} did not come; known: {pools:?} {machines:?}");
            };
            self.cluster.apply(change);
            // What is there already belongs to the same look.
            while let Some(Some(change)) = self.changes.next().now_or_never() {
                self.cluster.apply(change);
            }
        }
    }

    pub(crate) async fn until_fresh(&mut self) {
        self.until("freshness", |cluster| state(cluster) == Some(&InputState::Fresh)).await;
    }

    pub(crate) async fn until_running(&mut self, count: usize) {
        self.until("running machines", |cluster| {
            let machines = cluster.machines();
            machines.len() == count && machines.values().all(|one| one.state == MachineState::Running)
        })
        .await;
    }

    /// Lets time pass, hearing meanwhile.
    pub(crate) async fn pass(&mut self, span: Duration) {
        let end = tokio::time::Instant::now() + span;
        while let Ok(Some(change)) = tokio::time::timeout_at(end, self.changes.next()).await {
            self.cluster.apply(change);
        }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.cluster.pools()[&pool_id(POOL)]
    }

    pub(crate) fn machines(&self) -> Vec<MachineId> {
        self.cluster.machines().keys().cloned().collect()
    }

    pub(crate) async fn buy(&self, to: u32) -> Result<OrderAnswer, ProviderError> {
        let order = Buy {
            intent: "buy-1".into(),
            pool: pool_id(POOL),
            from: 0,
            to,
            max: 10,
            serves: model::Serves::default(),
            launches: Vec::new(),
        };
        self.provider.buy(&order).await
    }

    pub(crate) async fn lower(&self, from: u32, to: u32) -> Result<OrderAnswer, ProviderError> {
        self.provider.lower(&Lower { intent: "lower-1".into(), pool: pool_id(POOL), from, to }).await
    }

    pub(crate) async fn release(&self, machine: &MachineId, min: u32) -> Result<OrderAnswer, ProviderError> {
        let order = Release {
            intent: format!("release-{machine}").as_str().into(),
            pool: pool_id(POOL),
            machine: machine.clone(),
            node: None,
            cause: RemovalCause::Empty,
            min,
        };
        self.provider.release(&order).await
    }
}

pub(crate) fn state(cluster: &Cluster) -> Option<&InputState> {
    cluster.input(&Input::Pools(Arc::from("huaweicloud")))
}

pub(crate) fn is_obsolete(answer: &Result<OrderAnswer, ProviderError>, part: &str) -> bool {
    matches!(answer, Ok(OrderAnswer::Obsolete { why }) if why.contains(part))
}
