//! The whole embedded cluster in one value: store, API, and everything that runs in it.
//!
//! Owns starting and stopping. Each component is a task on the caller's runtime; dropping the value ends them.

use crate::api::{Api, ServeError};
use crate::cluster::Delays;
use crate::cluster::capi::{self, CapiOptions};
use crate::cluster::cloud::{self, CloudOptions, MachineFaultRule};
use crate::cluster::controllers::{self, ControllerOptions};
use crate::cluster::kubelet::{self, KubeletOptions};
use crate::store::{ApiError, Store, StoreOptions, resource};
use clock::Clock;
use http::header::{HeaderValue, USER_AGENT};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// What an embedded cluster is made with.
#[derive(Clone, Debug)]
pub struct Options {
    pub clock: Clock,
    /// Seeds everything that is drawn: uids, generated names, boot times, faults.
    pub seed: u64,
    pub delays: Delays,
    pub controllers: ControllerOptions,
    /// Faults of machines, for the simulated cloud and the Cluster API imitation.
    pub faults: Vec<MachineFaultRule>,
    /// Whether the Cluster API imitation runs, with its CRDs.
    pub cluster_api: bool,
    /// Most changes kept for watches.
    pub change_limit: usize,
}

impl Options {
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self {
            clock,
            seed,
            delays: Delays::default(),
            controllers: ControllerOptions::default(),
            faults: Vec::new(),
            cluster_api: true,
            change_limit: StoreOptions::default().change_limit,
        }
    }
}

/// Why an embedded cluster cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the definition of {name} cannot be written as JSON: {source}")]
    Definition { name: String, source: serde_json::Error },
    #[error("a definition of Cluster API's cannot be read: {0}")]
    ClusterApi(String),
    #[error("the embedded API server refuses the definition of {name}: {source}")]
    Refused { name: String, source: ApiError },
}

/// A running embedded cluster.
#[derive(Debug)]
pub struct Sandbox {
    store: Store,
    api: Api,
    tasks: JoinSet<()>,
}

impl Sandbox {
    /// Makes the cluster and starts everything in it, on the present tokio runtime.
    pub fn start(options: Options) -> Result<Self, SandboxError> {
        let Options { clock, seed, delays, controllers, faults, cluster_api, change_limit } = options;
        let store = Store::new(clock, &StoreOptions { seed, change_limit });
        install_definitions(&store, cluster_api)?;
        let mut sandbox = Self { api: Api::new(store.clone()), store, tasks: JoinSet::new() };
        sandbox.tasks.spawn(controllers::run(sandbox.store.clone(), controllers));
        let kubelets = KubeletOptions { clock, delays: delays.clone(), renew_leases: None };
        sandbox.tasks.spawn(kubelet::run(sandbox.client("kubelet"), kubelets));
        let cloud = CloudOptions { clock, seed, delays: delays.clone(), faults: faults.clone() };
        sandbox.tasks.spawn(cloud::run(sandbox.client("simulated-cloud"), cloud));
        if cluster_api {
            let capi = CapiOptions { clock, seed, delays, faults };
            sandbox.tasks.spawn(capi::run(sandbox.client("capi-controller-manager"), capi));
        }
        Ok(sandbox)
    }

    /// A client in process; its writes are recorded under `actor`.
    pub fn client(&self, actor: &'static str) -> kube::Client {
        let agent = HeaderValue::from_static(actor);
        let service =
            self.api.service().map_request(move |mut request: http::Request<kube::client::Body>| {
                request.headers_mut().insert(USER_AGENT, agent.clone());
                request
            });
        kube::Client::new(service, "default")
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Serves the API over HTTP until the listener fails or the future is dropped.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), ServeError> {
        crate::api::serve(self.api.clone(), listener).await
    }

    /// Ends everything that runs; the store stays readable by those who hold it.
    pub fn stop(&mut self) {
        self.tasks.abort_all();
    }
}

/// The CRDs of the simulated cloud, and Cluster API's where its imitation runs.
pub(crate) fn install_definitions(store: &Store, cluster_api: bool) -> Result<(), SandboxError> {
    for crd in api::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let value = serde_json::to_value(&crd)
            .map_err(|source| SandboxError::Definition { name: name.clone(), source })?;
        create(store, name, value)?;
    }
    if !cluster_api {
        return Ok(());
    }
    for text in capi::CRDS {
        let value: serde_json::Value =
            serde_saphyr::from_str(text).map_err(|error| SandboxError::ClusterApi(error.to_string()))?;
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        create(store, name, value)?;
    }
    Ok(())
}

fn create(store: &Store, name: String, crd: serde_json::Value) -> Result<(), SandboxError> {
    match store.create(resource::CUSTOM_RESOURCE_DEFINITIONS, "", crd) {
        Ok(_) => Ok(()),
        Err(source) => Err(SandboxError::Refused { name, source }),
    }
}
