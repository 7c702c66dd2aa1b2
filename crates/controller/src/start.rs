//! A controller before it starts, and how it is brought up and down: providers, journal, election, writer.
//!
//! Owns what goes into the loop and the order in which things begin and end around it; what happens in between is
//! `run`'s.

use crate::http::{self, Answering, Handle};
use crate::journal::{DirectorySink, Recorder, Sink};
use crate::planted::Planted;
#[cfg(feature = "planted-bugs")]
use crate::planted::PlantedBug;
use crate::run::Loop;
use crate::trace::{Counts, Exporting, Trace, TraceSettings};
use crate::writer::{Drain, Writer, remove_status};
use crate::{Config, ControllerError, capacity};
use clock::Clock;
use clouds::Provider;
use clouds::cluster_api::ClusterApi;
use clouds::simulated::Simulated;
use clouds::watching::{Pods, WatchSettings};
use futures::FutureExt as _;
use jiff::Timestamp;
use kube::Client;
use leadership::{Election, Fence};
use model::{Change, Cluster, Decision, Ledger, Policies, ProviderKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Time that steps under way are given at exit.
pub(crate) const GRACE_AT_EXIT: Duration = Duration::from_secs(10);
/// Time in which the last spans may still be sent.
const GRACE_OF_SPANS: Duration = Duration::from_secs(3);

/// A function that decides, as `nodes::decide` does.
pub type Decide = fn(&Cluster, &Policies, &Ledger, Timestamp) -> Decision;

/// One round, as hooks see it: after it was decided, and made durable if `adopted`, before it is acted on.
#[derive(Debug)]
pub struct Round<'a> {
    pub number: u64,
    pub now: Timestamp,
    pub cluster: &'a Cluster,
    pub policies: &'a Policies,
    pub ledger: &'a Ledger,
    pub decision: &'a Decision,
    /// What was heard since the round before.
    pub changes: &'a [Change],
    /// False where the decision was refused or could not be made durable: then nothing of it is acted on.
    pub adopted: bool,
}

pub type RoundHook = Box<dyn FnMut(&Round<'_>) + Send>;

/// A controller that has not started yet.
pub struct Controller {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    /// In the place of the loop's own planner, where a test plants one.
    pub(crate) decide: Option<Decide>,
    pub(crate) providers: Vec<Arc<dyn Provider>>,
    pub(crate) hooks: Vec<RoundHook>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) handle: Handle,
    pub(crate) answering: Answering,
    pub(crate) policies: Option<watch::Receiver<Policies>>,
    pub(crate) trace: Option<TraceSettings>,
    pub(crate) pods: Option<Pods>,
    pub(crate) planted: Planted,
}

impl Controller {
    pub fn new(client: Client, config: Config, clock: Clock) -> Result<Self, ControllerError> {
        config.validate()?;
        let config = without_traces(config);
        let settings = config.watch_settings();
        let mut kinds = config.providers.clone();
        kinds.sort_unstable();
        kinds.dedup();
        let provider = |kind| -> Option<Arc<dyn Provider>> {
            let orders = WatchSettings { call_timeout: config.call_timeout(), ..settings };
            match kind {
                ProviderKind::Simulated => Some(Arc::new(Simulated::new(client.clone(), clock, orders))),
                ProviderKind::ClusterApi => Some(Arc::new(ClusterApi::new(client.clone(), clock, orders))),
                // Needs more than the cluster's own API: see `with_provider`.
                ProviderKind::Alicloud
                | ProviderKind::Aws
                | ProviderKind::Huaweicloud
                | ProviderKind::ExternalGrpc
                | ProviderKind::Karpenter => None,
            }
        };
        let providers = kinds.into_iter().filter_map(provider).collect();
        let recorder = match &config.journal {
            Some(journal) => {
                let sink =
                    DirectorySink::new(&journal.directory, journal.segment_bytes, journal.total_bytes)?;
                Some(Recorder::new(Box::new(sink)))
            }
            None => None,
        };
        let (handle, answering) = http::pair(config.health.clone());
        Ok(Self {
            client,
            config,
            clock,
            decide: None,
            providers,
            hooks: Vec::new(),
            recorder,
            handle,
            answering,
            policies: None,
            trace: None,
            pods: None,
            planted: Planted::default(),
        })
    }

    /// Takes new policies while it runs: each one that arrives holds from the next round on, which it causes.
    #[must_use]
    pub fn with_policies(mut self, policies: watch::Receiver<Policies>) -> Self {
        self.policies = Some(policies);
        self
    }

    /// Asks the controller, once it runs, what it sees; also the state behind [`crate::router`].
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves the pools of a provider that needs more than the cluster's API, such as a cloud's keys.
    #[must_use]
    pub fn with_provider(mut self, provider: Arc<dyn Provider>) -> Self {
        self.providers.retain(|known| known.kind() != provider.kind());
        self.providers.push(provider);
        self
    }

    /// Tells a collector of decisions and what became of them.
    #[must_use]
    pub fn with_trace(mut self, settings: TraceSettings) -> Self {
        self.trace = Some(settings);
        self
    }

    /// Takes pods from a watch that is held for several.
    #[must_use]
    pub fn with_pods(mut self, pods: Pods) -> Self {
        self.pods = Some(pods);
        self
    }

    /// Records rounds into another sink than the configured directory.
    #[must_use]
    pub fn with_journal(mut self, sink: Box<dyn Sink>) -> Self {
        self.recorder = Some(Recorder::new(sink));
        self
    }

    /// Calls `hook` after each round.
    #[must_use]
    pub fn with_hook(mut self, hook: RoundHook) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Decides with another function: for tests that plant a mistake.
    #[must_use]
    pub fn with_decide(mut self, decide: Decide) -> Self {
        self.decide = Some(decide);
        self
    }

    /// Acts with a mistake of the shell.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn with_planted(mut self, bug: PlantedBug) -> Self {
        self.planted = Planted::with(bug);
        self
    }

    /// Runs until `shutdown` resolves, or until it cannot go on safely.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ControllerError> {
        let served = |kind| self.providers.iter().any(|provider| provider.kind() == kind);
        if let Some(kind) = self.config.providers.iter().find(|kind| !served(**kind)) {
            return Err(ControllerError::Config {
                field: "providers".to_owned(),
                problem: format!("{kind:?} is listed and was not given its settings; use with_provider"),
            });
        }
        let election = self.config.leader_election.enabled.then(|| {
            let identity = leadership::identity(&self.config.leader_election.identity, self.clock);
            Election::start(
                &self.client,
                self.clock,
                &self.config.namespace,
                &self.config.leader_election,
                identity,
            )
        });
        let fence = election.as_ref().map_or_else(Fence::open, |election| election.fence.clone());
        let leading = election.as_ref().map(|election| election.state.clone());
        let (ended, end) = oneshot::channel::<()>();
        if let Some(address) = self.config.listen {
            let handle = self.handle.clone();
            http::serve(address, handle, end.map(drop)).await?;
        }
        let (writer, queue) = Writer::pair();
        let drain = Drain {
            client: self.client.clone(),
            namespace: self.config.namespace.clone(),
            status_map: self.config.status.config_map.clone(),
            limit: self.config.call_timeout(),
            fence: fence.clone(),
        };
        let drain = tokio::spawn(drain.run(queue));
        let (client, config) = (self.client.clone(), self.config.clone());
        // On the heap: whoever holds our future shall not have to carry the whole loop's.
        let follows = self.config.capacity_buffers.enabled();
        let buffers = if follows { Some(capacity::served_buffers(&client).await) } else { None };
        let requests = config.provisioning_requests.terms(&client).await;
        let counts = Counts::default();
        let (trace, exporting) = traced(self.trace.take(), &counts);
        let reporting = Reporting { writer, trace, counts };
        let begun = Loop::new(self, fence.clone(), reporting, buffers, requests);
        let result = Box::pin(begun.run(shutdown, leading)).await;
        // Asked to end because somebody else leads, we leave what is said of the cluster to them.
        let leads = fence.allows(config.call_timeout());
        fence.close();
        // What is queued is still written, for a bounded time.
        let _ = tokio::time::timeout(GRACE_AT_EXIT, drain).await;
        if let Some(exporting) = exporting {
            let _ = tokio::time::timeout(GRACE_OF_SPANS, exporting).await;
        }
        // One that lies beside the ledger was taken away by the loop: it alone may write that object.
        if leads && result.is_ok() && config.status.enabled && !config.shares_status() {
            remove_status(&client, &config.namespace, &config.status.config_map, config.call_timeout()).await;
        }
        if let Some(election) = election {
            election.release().await;
        }
        drop(ended);
        result
    }
}

/// What the reporter speaks through.
pub(crate) struct Reporting {
    pub(crate) writer: Writer,
    pub(crate) trace: Option<Trace>,
    pub(crate) counts: Counts,
}

fn traced(settings: Option<TraceSettings>, counts: &Counts) -> (Option<Trace>, Option<Exporting>) {
    let Some(settings) = settings else { return (None, None) };
    let instance = settings.instance().to_owned();
    let (queue, exporting) = settings.start(counts.clone());
    (Some(Trace::new(queue, instance)), Some(exporting))
}

/// A dry run leaves nothing in the cluster: it takes no Lease, so that it can run beside whoever acts, and writes
/// neither events nor status.
fn without_traces(mut config: Config) -> Config {
    if config.policies.dry_run {
        config.leader_election.enabled = false;
        config.status.enabled = false;
        config.events = false;
    }
    config
}
