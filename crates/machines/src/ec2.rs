//! EC2 as a cloud of single machines, by the official SDK: EC2NodeClasses, and instances launched by fleets of one.
//!
//! Owns the settings, the joining of the parts and what they share. `compute` and `beside` know the actions; `resolve`
//! finds out what a class means, `market` what can be bought, `fleet` launches, `held` lists and ends, `queue` hears
//! of interruptions, `learned` hears how much memory nodes have, `written` keeps the classes' status.

mod beside;
mod boot;
mod compute;
mod fleet;
mod held;
mod images;
mod launch_template;
mod learned;
mod market;
mod prices;
mod queue;
mod resolve;
mod rows;
mod usable;
mod written;

pub use aws_config::Region;
pub use clouds::aws::SdkConfig;

use beside::{Beside, ClusterFacts};
use claims::cloud::{
    ClassTable, LaunchError, LaunchOrder, Launched, MachineCloud, MachineKey, MachineList, Notice, Repair,
};
use clock::Clock;
use clouds::calls::{CallLimits, Failure, FailureKind};
use clouds::watching::WatchSettings;
use compute::Compute;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use model::MicroUsdPerHour;
use resolve::Resolved;
use rows::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use usable::Shares;

/// Tags of what is launched.
const CLAIM_UID: &str = "tideline.dev/claim-uid";
const AT_RISK: &str = "tideline.dev/at-risk";
const NODE_CLAIM: &str = "karpenter.sh/nodeclaim";
const CLASS: &str = "karpenter.k8s.aws/ec2nodeclass";
const EKS_CLUSTER: &str = "eks:eks-cluster-name";
const KIND: &str = "EC2NodeClass";
const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);
/// The conditions of the kubelet, and those of the node monitoring agent.
const REPAIRS: &[Repair] = &[
    Repair { condition: "Ready", status: "False", after: HALF_AN_HOUR },
    Repair { condition: "Ready", status: "Unknown", after: HALF_AN_HOUR },
    Repair { condition: "AcceleratedHardwareReady", status: "False", after: SignedDuration::from_mins(10) },
    Repair { condition: "StorageReady", status: "False", after: HALF_AN_HOUR },
    Repair { condition: "NetworkingReady", status: "False", after: HALF_AN_HOUR },
    Repair { condition: "KernelReady", status: "False", after: HALF_AN_HOUR },
    Repair { condition: "ContainerRuntimeReady", status: "False", after: HALF_AN_HOUR },
];

/// How it is run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cluster: String,
    /// Found out from EKS where they are not given.
    pub endpoint: Option<String>,
    /// In base64.
    pub authority: Option<String>,
    /// No service but those with endpoints in the network is asked: prices come from the built-in table.
    pub isolated: bool,
    /// Thousandths of a machine's memory that hypervisor and firmware are taken to keep.
    pub memory_overhead_permille: u64,
    /// Network interfaces that are not used for pods.
    pub reserved_interfaces: u64,
    /// Name of the queue that is told of interruptions.
    pub queue: Option<String>,
    pub limits: CallLimits,
    pub watches: WatchSettings,
    pub pace: Pace,
}

/// How often is looked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub classes: Duration,
    pub machines_at_rest: Duration,
    pub machines_moving: Duration,
    pub types: Duration,
    pub spot_prices: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            classes: Duration::from_mins(1),
            machines_at_rest: Duration::from_secs(30),
            machines_moving: Duration::from_secs(3),
            types: Duration::from_hours(12),
            spot_prices: Duration::from_mins(15),
        }
    }
}

impl Settings {
    pub fn of(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            endpoint: None,
            authority: None,
            isolated: false,
            memory_overhead_permille: 75,
            reserved_interfaces: 0,
            queue: None,
            limits: CallLimits { per_second: 20, ..CallLimits::default() },
            watches: WatchSettings::default(),
            pace: Pace::default(),
        }
    }
}

/// Whether this process may write and act.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// The cloud.
#[derive(Clone)]
pub struct Ec2 {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    region: String,
    client: kube::Client,
    clock: Clock,
    leads: Leads,
    compute: Compute,
    beside: Beside,
    table: watch::Sender<Option<Arc<ClassTable>>>,
    list: watch::Sender<Option<Arc<MachineList>>>,
    /// Has the machines listed now.
    look: Notify,
    /// Has the classes looked at again.
    resolve: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: Vec<Arc<Row>>,
    places: BTreeSet<(String, String)>,
    on_demand: BTreeMap<String, MicroUsdPerHour>,
    spot: BTreeMap<(String, String), MicroUsdPerHour>,
    cluster: ClusterFacts,
    /// How much memory nodes of each class have.
    learned: BTreeMap<String, learned::Learned>,
    /// What each class means, by name.
    resolved: BTreeMap<String, Arc<Resolved>>,
    /// Machines by the uid of their claim, with what was last seen of each.
    held: BTreeMap<String, held::Seen>,
    /// Launches whose answer is not known, by the uid of their claim.
    unanswered: BTreeSet<String>,
    /// Machines that are about to be taken, by the id of the instance.
    ending: BTreeMap<String, Notice>,
    /// Launch templates that were used, with the moment.
    templates: BTreeMap<String, Timestamp>,
    /// Subnets without a free address, until when.
    full: BTreeMap<String, Timestamp>,
    parameters: BTreeMap<String, (Option<String>, Timestamp)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn shares(&self) -> Shares {
        Shares {
            memory_overhead_permille: self.settings.memory_overhead_permille,
            reserved_interfaces: self.settings.reserved_interfaces,
        }
    }

    fn is_wanted(&self) -> bool {
        self.table.receiver_count() > 0 || self.list.receiver_count() > 0
    }
}

impl Ec2 {
    /// Begins to look, until nobody wants to know any more. The SDK's own retries are off: ours have bounds and a
    /// breaker.
    pub fn start(
        settings: Settings,
        config: &SdkConfig,
        client: kube::Client,
        clock: Clock,
        leads: Leads,
    ) -> Result<Self, String> {
        let region = config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let Some(region) = region else {
            return Err("no region is named, and the metadata service tells none; set AWS_REGION".to_owned());
        };
        let config = config.to_builder().retry_config(aws_config::retry::RetryConfig::disabled()).build();
        let queue = settings.queue.clone();
        let shared = Arc::new(Shared {
            compute: Compute::new(&config, settings.limits),
            beside: Beside::new(&config, settings.limits),
            settings,
            region,
            client,
            clock,
            leads,
            table: watch::Sender::new(None),
            list: watch::Sender::new(None),
            look: Notify::new(),
            resolve: Notify::new(),
            state: Mutex::default(),
        });
        // Held until whoever is given the cloud has taken receivers of its own.
        let held = (shared.table.subscribe(), shared.list.subscribe());
        tokio::spawn(market::follow(shared.clone()));
        tokio::spawn(resolve::follow(shared.clone()));
        tokio::spawn(held::follow(shared.clone()));
        tokio::spawn(learned::follow(shared.clone()));
        if let Some(name) = queue {
            tokio::spawn(queue::follow(shared.clone(), aws_sdk_sqs::Client::new(&config), name));
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            drop(held);
        });
        Ok(Self { shared })
    }
}

/// A call that brought nothing, for whoever asked for a machine.
#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn unanswered(failure: Failure) -> LaunchError {
    match failure.kind {
        FailureKind::Denied | FailureKind::Refused | FailureKind::Missing => {
            LaunchError::Refused { code: failure.code.to_string(), message: failure.message.to_string() }
        }
        FailureKind::Ill | FailureKind::Busy => LaunchError::Unknown(failure.to_string()),
    }
}

impl MachineCloud for Ec2 {
    fn kinds(&self) -> Vec<(&'static str, &'static str)> {
        vec![(api::karpenter::AWS_GROUP, KIND)]
    }

    fn classes(&self) -> watch::Receiver<Option<Arc<ClassTable>>> {
        self.shared.table.subscribe()
    }

    fn machines(&self) -> watch::Receiver<Option<Arc<MachineList>>> {
        self.shared.list.subscribe()
    }

    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> BoxFuture<'a, Result<Launched, LaunchError>> {
        Box::pin(fleet::launch(&self.shared, order))
    }

    fn terminate<'a>(&'a self, machine: &'a MachineKey) -> BoxFuture<'a, Result<bool, LaunchError>> {
        Box::pin(held::terminate(&self.shared, machine))
    }

    fn repairs(&self) -> &'static [Repair] {
        REPAIRS
    }
}
