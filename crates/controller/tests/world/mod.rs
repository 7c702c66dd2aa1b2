//! A small embedded cluster for the controller's tests: one pool of four-core machines, one Deployment.

#![allow(dead_code, reason = "each test file uses a part")]

use api::simulated::SimulatedPool;
use clock::Clock;
use controller::{Config, Controller};
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use model::{Policies, ProviderKind};
use sandbox::{Options, Sandbox};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the pool of a world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machines {
    Simulated,
    ClusterApi,
}

/// The log of writes, of which the creations of machines are counted.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) struct World {
    machines: Machines,
    log: Log,
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Clock,
    pub(crate) client: Client,
}

/// Waits short enough that a drain fits into a few virtual minutes.
pub(crate) fn policies() -> Policies {
    Policies {
        unneeded_time: SignedDuration::from_secs(60),
        delay_after_add: SignedDuration::from_secs(30),
        ..Default::default()
    }
}

pub(crate) fn config() -> Config {
    Config::for_simulation(policies(), 7)
}

impl World {
    /// A cluster with one pool of four-core machines, none of them there yet.
    pub(crate) async fn new(machines: Machines) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let cluster_api = machines == Machines::ClusterApi;
        let sandbox = Sandbox::start(Options { cluster_api, ..Options::new(clock, 7) }).unwrap();
        let client = sandbox.client("test");
        let log = Log::default();
        sandbox.store().record_writes(Box::new(log.clone()));
        let world = Self { machines, log, sandbox, clock, client };
        match machines {
            Machines::Simulated => world.create_pool().await,
            Machines::ClusterApi => world.create_machine_deployment().await,
        }
        world
    }

    async fn create_pool(&self) {
        let pool = serde_json::from_value(json!({
            "apiVersion": "tideline.dev/v1alpha1", "kind": "SimulatedPool", "metadata": {"name": "small"},
            "spec": {"min": 0, "max": 6, "boot": {"minSeconds": 10, "maxSeconds": 10},
                     "template": {"allocatable": {"cpu": "4", "memory": "16Gi"}}},
        }));
        self.pools().create(&PostParams::default(), &pool.unwrap()).await.unwrap();
    }

    async fn create_machine_deployment(&self) {
        let capacity = |name: &str| format!("capacity.cluster-autoscaler.kubernetes.io/{name}");
        let size = |name: &str| format!("cluster.x-k8s.io/cluster-api-autoscaler-node-group-{name}-size");
        let annotations = json!({
            size("min"): "0", size("max"): "6", capacity("cpu"): "4", capacity("memory"): "16Gi",
        });
        let deployment: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "cluster.x-k8s.io/v1beta1", "kind": "MachineDeployment",
            "metadata": {"name": "md", "namespace": "default", "annotations": annotations},
            "spec": {
                "clusterName": "c", "replicas": 0, "selector": {"matchLabels": {}},
                "template": {"spec": {"clusterName": "c", "bootstrap": {}, "infrastructureRef": {}}},
            },
        }))
        .unwrap();
        self.machine_deployments().create(&PostParams::default(), &deployment).await.unwrap();
    }

    /// Machines ever made, by the log of writes.
    /// What one client changed.
    pub(crate) fn writes_of(&self, actor: &str) -> Vec<String> {
        let log = self.log.0.lock().unwrap();
        let of_actor = |line: &&str| line.split_whitespace().any(|word| word == actor);
        String::from_utf8_lossy(&log).lines().filter(of_actor).map(str::to_owned).collect()
    }

    pub(crate) fn machines_made(&self) -> usize {
        let kind = match self.machines {
            Machines::Simulated => " create simulatedmachines.",
            Machines::ClusterApi => " create machines.",
        };
        let log = self.log.0.lock().unwrap();
        String::from_utf8_lossy(&log).lines().filter(|line| line.contains(kind)).count()
    }

    /// The size that the pool is asked for.
    async fn wanted(&self) -> usize {
        match self.machines {
            Machines::Simulated => self.pools().get("small").await.unwrap().spec.replicas as usize,
            Machines::ClusterApi => {
                let deployment = self.machine_deployments().get("md").await.unwrap();
                deployment.data["spec"]["replicas"].as_u64().unwrap() as usize
            }
        }
    }

    pub(crate) fn machine_deployments(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("cluster.x-k8s.io", "v1beta1", "MachineDeployment");
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk(&kind))
    }

    /// A Deployment of one-core pods, and a budget that lets one go at a time.
    pub(crate) async fn populate(&self, replicas: u32) {
        let labels = json!({"app": "web"});
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}});
        let deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }));
        self.deployments().create(&PostParams::default(), &deployment.unwrap()).await.unwrap();
        let budget = serde_json::from_value(json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        }));
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), "default");
        budgets.create(&PostParams::default(), &budget.unwrap()).await.unwrap();
    }

    pub(crate) fn pools(&self) -> Api<SimulatedPool> {
        Api::all(self.client.clone())
    }

    pub(crate) fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn scale(&self, replicas: u32) {
        let patch = json!({"spec": {"replicas": replicas}});
        self.deployments().patch("web", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        Api::<Pod>::namespaced(self.client.clone(), "default")
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    pub(crate) async fn nodes(&self) -> Vec<Node> {
        Api::<Node>::all(self.client.clone()).list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) fn controller(&self, client: Client, config: Config) -> Controller {
        self.controller_at(client, config, self.clock)
    }

    /// A controller that reads another clock than the cluster's.
    pub(crate) fn controller_at(&self, client: Client, config: Config, clock: Clock) -> Controller {
        let provider = match self.machines {
            Machines::Simulated => ProviderKind::Simulated,
            Machines::ClusterApi => ProviderKind::ClusterApi,
        };
        Controller::new(client, Config { providers: vec![provider], ..config }, clock).unwrap()
    }

    /// So many running pods on so many nodes, nothing on its way, no mark of ours on any node.
    pub(crate) async fn is_settled(&self, pods: usize, nodes: usize) -> Result<(), String> {
        let found = self.pods().await;
        let running = found.iter().filter(|pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
                && pod.metadata.deletion_timestamp.is_none()
        });
        let running = running.count();
        if running != pods || found.len() != pods {
            return Err(format!("{running} of {} pods run, wanted {pods}", found.len()));
        }
        let found = self.nodes().await;
        if found.len() != nodes {
            return Err(format!("{} nodes, wanted {nodes}", found.len()));
        }
        for node in &found {
            let spec = node.spec.clone().unwrap_or_default();
            if spec.taints.as_ref().is_some_and(|taints| !taints.is_empty())
                || spec.unschedulable == Some(true)
            {
                return Err(format!("node {:?} is marked: {:?}", node.metadata.name, spec.taints));
            }
            if node
                .metadata
                .annotations
                .as_ref()
                .is_some_and(|all| all.contains_key(api::annotations::INTENT))
            {
                return Err(format!("node {:?} carries our intent", node.metadata.name));
            }
        }
        let wanted = self.wanted().await;
        if wanted != nodes {
            return Err(format!("the pool wants {wanted}, not {nodes}"));
        }
        Ok(())
    }

    /// Waits in virtual time until it is settled; fails with what is missing.
    pub(crate) async fn settle(&self, pods: usize, nodes: usize, limit: Duration) {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let Err(why) = self.is_settled(pods, nodes).await else { return };
            assert!(tokio::time::Instant::now() < end, "not settled within {limit:?}: {why}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until so many pods exist and run, whatever the nodes do.
    pub(crate) async fn settle_pods(&self, pods: usize) {
        let end = tokio::time::Instant::now() + Duration::from_mins(10);
        while self.pods().await.len() != pods {
            assert!(tokio::time::Instant::now() < end, "not {pods} pods in time");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
