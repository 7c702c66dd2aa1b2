//! A region with one scaling group, the provider asking it in process, and what the provider has told so far.

use crate::in_process::InProcess;
use clock::Clock;
use clouds::alibaba::{AccessKey, Alibaba, Declared, Settings, Source, pool_id};
use clouds::secret::Secret;
use clouds::transport::Transport;
use clouds::{OrderAnswer, Provider, ProviderError};
use doubles::alibaba as double;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use model::{
    Buy, Change, Cluster, Input, InputState, Lower, Machine, MachineId, MachineState, Pool, Release,
    RemovalCause,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const GROUP: &str = "asg-bp1";
/// The custom policy of the document, whose second permission is the system policy.
pub(crate) const CUSTOM_POLICY: &[&str] = &[
    "ess:Describe*",
    "ess:CreateScalingRule",
    "ess:RemoveInstances",
    "ess:ExecuteScalingRule",
    "ess:ModifyScalingRule",
    "ess:DetachInstances",
    "ecs:DescribeInstanceTypes",
];
pub(crate) const FULL_ACCESS: &str = "ess:*";

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) double: double::Alibaba,
    pub(crate) provider: Alibaba,
    pub(crate) cluster: Cluster,
    changes: BoxStream<'static, Change>,
}

pub(crate) fn key() -> Source {
    let secret = Secret::new("testsecret");
    Source::Given(AccessKey { id: "testid".into(), secret, token: None })
}

pub(crate) fn settings() -> Settings {
    Settings::new("cn-hangzhou", vec![format!("0:10:{GROUP}").parse::<Declared>().unwrap()])
}

/// A group without a desired capacity, of one type, without machines.
pub(crate) fn group() -> double::Group {
    double::Group {
        name: "workers".into(),
        min: 0,
        max: 50,
        configuration: double::Configuration {
            id: "asc-bp1".into(),
            types: vec!["ecs.g7.2xlarge".into()],
            zone: "cn-hangzhou-h".into(),
            disk_gib: 100,
            tags: Vec::new(),
        },
        ..Default::default()
    }
}

pub(crate) fn service(clock: Clock) -> double::Alibaba {
    let double = double::Alibaba::new(clock);
    let mut state = double.state();
    state.keys.push(double::Key {
        id: "testid".into(),
        secret: "testsecret".into(),
        token: None,
        expires: None,
        principal: "autoscaler@example".into(),
    });
    state.world.groups.insert(GROUP.into(), group());
    state.world.types.push(double::Type {
        name: "ecs.g7.2xlarge".into(),
        cpu: 8,
        memory_gib: 32.0,
        ..Default::default()
    });
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

    pub(crate) fn of(clock: Clock, double: double::Alibaba, settings: Settings, source: Source) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(InProcess(double.router()));
        let provider = Alibaba::new(settings, source, &transport, clock).unwrap();
        let changes = provider.watch();
        Self { clock, double, provider, cluster: Cluster::default(), changes }
    }

    /// The same service, asked by a provider that remembers nothing.
    pub(crate) fn restarted(&self) -> Self {
        Self::of(self.clock, self.double.clone(), settings(), key())
    }

    /// Hears what the provider tells until it is so; fails after ten minutes of virtual time.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let heard = async {
            while !is_so(&self.cluster) {
                let change = self.changes.next().await.unwrap();
                self.cluster.apply(change);
                // What is there already belongs to the same look.
                while let Some(Some(change)) = self.changes.next().now_or_never() {
                    self.cluster.apply(change);
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_mins(10), heard).await.is_ok();
        assert!(
            heard,
            "{what} did not come; known: {:?} {:?}",
            self.cluster.pools(),
            self.cluster.machines()
        );
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
        &self.cluster.pools()[&pool_id(GROUP)]
    }

    pub(crate) fn machines(&self) -> Vec<&Arc<Machine>> {
        self.cluster.machines().values().collect()
    }

    pub(crate) async fn buy(&self, intent: &str, to: u32) -> Result<OrderAnswer, ProviderError> {
        let order = Buy {
            intent: intent.into(),
            pool: pool_id(GROUP),
            from: 0,
            to,
            max: 10,
            serves: model::Serves::default(),
            launches: Vec::new(),
        };
        self.provider.buy(&order).await
    }

    pub(crate) async fn lower(&self, intent: &str, from: u32, to: u32) -> Result<OrderAnswer, ProviderError> {
        self.provider.lower(&Lower { intent: intent.into(), pool: pool_id(GROUP), from, to }).await
    }

    pub(crate) async fn release(&self, machines: &[MachineId]) -> Vec<Result<OrderAnswer, ProviderError>> {
        let orders: Vec<Release> = machines.iter().map(release).collect();
        self.provider.release_several(&orders).await
    }
}

pub(crate) fn release(machine: &MachineId) -> Release {
    Release {
        intent: format!("release-{machine}").as_str().into(),
        pool: pool_id(GROUP),
        machine: machine.clone(),
        node: None,
        cause: RemovalCause::Empty,
        min: 0,
    }
}

pub(crate) fn state(cluster: &Cluster) -> Option<&InputState> {
    cluster.input(&Input::Pools(Arc::from("alicloud")))
}

pub(crate) fn is_obsolete(answer: &Result<OrderAnswer, ProviderError>, part: &str) -> bool {
    matches!(answer, Ok(OrderAnswer::Obsolete { why }) if why.contains(part))
}

/// Has answered that the order is to be given again later.
pub(crate) fn has_to_wait(answer: &Result<OrderAnswer, ProviderError>) -> bool {
    matches!(answer, Err(ProviderError::Later { .. }))
}
