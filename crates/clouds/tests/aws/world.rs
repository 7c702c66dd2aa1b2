//! An account with one group, the provider asking it over HTTP, and what the provider has told so far.

use aws_sdk_autoscaling::config::{Credentials, Region, SharedCredentialsProvider};
use clock::Clock;
use clouds::aws::{Aws, Declarations, SdkConfig, Settings, pool_id};
use clouds::calls::CallLimits;
use clouds::polling::Poll;
use clouds::{OrderAnswer, Provider as _, ProviderError};
use doubles::aws as double;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use model::{
    Buy, Change, Cluster, Input, InputState, Lower, Machine, MachineId, MachineState, Pool, Release,
    RemovalCause,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const GROUP: &str = "eks-workers";
/// Far over what a loaded machine needs for any one step.
const DEADLINE: Duration = Duration::from_mins(1);
/// The image of moto's own that is of x86-64.
pub(crate) const IMAGE: &str = "ami-0b301ce3ce347599c";

pub(crate) struct World {
    pub(crate) double: double::Aws,
    pub(crate) provider: Aws,
    pub(crate) cluster: Cluster,
    changes: BoxStream<'static, Change>,
}

pub(crate) fn named() -> Declarations {
    Declarations { named: vec![format!("0:10:{GROUP}").parse().unwrap()], discovered: Vec::new() }
}

fn provider(endpoint: &str, declarations: Declarations) -> Aws {
    let keys = Credentials::new("AKIA", "secret", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(Region::new("cn-north-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(keys))
        .build();
    let limits = CallLimits {
        timeout: Duration::from_secs(2),
        per_second: 1000,
        rest: Duration::from_millis(200),
        ..CallLimits::default()
    };
    let poll = Poll { at_rest: Duration::from_millis(100), moving: Duration::from_millis(50) };
    let stale_after = jiff::SignedDuration::from_millis(500);
    let settings = Settings { limits, poll, stale_after, ..Settings::new(declarations) };
    Aws::new(settings, &config, Clock::system()).unwrap()
}

impl World {
    /// A group of m5.large with so many machines; `None` where moto cannot be had.
    pub(crate) async fn new(desired: u32) -> Option<Self> {
        Self::with(desired, named(), async |_| {}).await
    }

    /// A world that was prepared before the provider first looks.
    pub(crate) async fn with(
        desired: u32,
        declarations: Declarations,
        prepare: impl AsyncFnOnce(&double::Aws),
    ) -> Option<Self> {
        let double = double::Aws::start(Path::new(env!("CARGO_TARGET_TMPDIR"))).await?;
        launch_template(&double, "workers", "m5.large").await;
        group(&double, GROUP, desired, &[]).await;
        prepare(&double).await;
        let provider = provider(double.endpoint(), declarations);
        let changes = provider.watch();
        Some(Self { double, provider, cluster: Cluster::default(), changes })
    }

    /// Another provider, which remembers nothing, on the same account.
    pub(crate) fn restart(&mut self, declarations: Declarations) {
        self.provider = provider(self.double.endpoint(), declarations);
        self.changes = self.provider.watch();
        self.cluster = Cluster::default();
    }

    /// Hears what the provider tells until it is so.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Cluster) -> bool) {
        let heard = async {
            while !is_so(&self.cluster) {
                self.cluster.apply(self.changes.next().await.unwrap());
                // What is there already belongs to the same look.
                while let Some(Some(change)) = self.changes.next().now_or_never() {
                    self.cluster.apply(change);
                }
            }
        };
        let heard = tokio::time::timeout(DEADLINE, heard).await.is_ok();
        let (pools, machines) = (self.cluster.pools(), self.cluster.machines());
        assert!(heard, "{what} did not come; known: {pools:?} {machines:?} {:?}", state(&self.cluster));
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

    /// Hears until the provider has looked so many times more.
    pub(crate) async fn looks(&mut self, times: usize) {
        let count = |world: &Self| world.double.door().count("autoscaling:DescribeAutoScalingGroups");
        let end = count(self) + times + 1;
        let listen = async {
            while count(self) < end {
                if let Ok(Some(change)) =
                    tokio::time::timeout(Duration::from_millis(20), self.changes.next()).await
                {
                    self.cluster.apply(change);
                }
            }
        };
        tokio::time::timeout(DEADLINE, listen).await.unwrap();
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        self.pool_of(GROUP)
    }

    pub(crate) fn pool_of(&self, group: &str) -> &Arc<Pool> {
        &self.cluster.pools()[&pool_id(group)]
    }

    pub(crate) fn machines(&self) -> Vec<&Arc<Machine>> {
        self.cluster.machines().values().collect()
    }

    pub(crate) async fn buy(&self, to: u32) -> Result<OrderAnswer, ProviderError> {
        let (intent, pool) = ("buy-1".into(), pool_id(GROUP));
        self.provider
            .buy(&Buy {
                intent,
                pool,
                from: 0,
                to,
                max: 10,
                serves: model::Serves::default(),
                launches: Vec::new(),
            })
            .await
    }

    pub(crate) async fn lower(&self, from: u32, to: u32) -> Result<OrderAnswer, ProviderError> {
        self.provider.lower(&Lower { intent: "lower-1".into(), pool: pool_id(GROUP), from, to }).await
    }

    pub(crate) async fn release(&self, machine: &MachineId) -> Result<OrderAnswer, ProviderError> {
        let order = Release {
            intent: format!("release-{machine}").as_str().into(),
            pool: pool_id(GROUP),
            machine: machine.clone(),
            node: None,
            cause: RemovalCause::Empty,
            min: 0,
        };
        self.provider.release(&order).await
    }

    pub(crate) fn count(&self, action: &str) -> usize {
        self.double.door().count(&format!("autoscaling:{action}"))
    }
}

pub(crate) async fn launch_template(double: &double::Aws, name: &str, kind: &str) {
    double
        .call(
            "ec2",
            "CreateLaunchTemplate",
            &[
                ("LaunchTemplateName", name),
                ("LaunchTemplateData.InstanceType", kind),
                ("LaunchTemplateData.ImageId", IMAGE),
                ("LaunchTemplateData.BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
                ("LaunchTemplateData.BlockDeviceMapping.1.Ebs.VolumeSize", "50"),
            ],
        )
        .await;
}

/// A group of the launch template `workers` with tags, in two zones.
pub(crate) async fn group(double: &double::Aws, name: &str, desired: u32, tags: &[(&str, &str)]) {
    let launch = [("LaunchTemplate.LaunchTemplateName", "workers"), ("LaunchTemplate.Version", "$Latest")];
    group_of(double, name, desired, tags, &launch).await;
}

pub(crate) async fn group_of(
    double: &double::Aws,
    name: &str,
    desired: u32,
    tags: &[(&str, &str)],
    launch: &[(&str, &str)],
) {
    let desired = desired.to_string();
    let mut parameters = vec![
        ("AutoScalingGroupName", name),
        ("MinSize", "0"),
        ("MaxSize", "8"),
        ("DesiredCapacity", &desired),
        ("AvailabilityZones.member.1", "cn-north-1a"),
        ("AvailabilityZones.member.2", "cn-north-1b"),
    ];
    parameters.extend(launch);
    let keys: Vec<[String; 2]> = (1..=tags.len())
        .map(|at| [format!("Tags.member.{at}.Key"), format!("Tags.member.{at}.Value")])
        .collect();
    for (names, (key, value)) in keys.iter().zip(tags) {
        parameters.extend([(names[0].as_str(), *key), (names[1].as_str(), *value)]);
    }
    double.call("autoscaling", "CreateAutoScalingGroup", &parameters).await;
}

pub(crate) fn state(cluster: &Cluster) -> Option<&InputState> {
    cluster.input(&Input::Pools(Arc::from("aws")))
}

pub(crate) fn is_obsolete(answer: &Result<OrderAnswer, ProviderError>, part: &str) -> bool {
    matches!(answer, Ok(OrderAnswer::Obsolete { why }) if why.contains(part))
}

pub(crate) fn is_done(answer: &Result<OrderAnswer, ProviderError>) -> bool {
    matches!(answer, Ok(OrderAnswer::Done))
}
