//! A small embedded cluster for the tests: one node, the document's workload, and the shell of workloads on it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, ReplicaProfile};
use clock::Clock;
use clouds::watching::WatchSettings;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Resource, ResourceExt as _};
use leadership::LeaderElection;
use metrics::resource_api::ResourceApiSettings;
use metrics::{MetricSource, ResourceApi};
use sandbox::{Options, Sandbox};
use scaler::{AlgorithmJobs, Config, Scaler};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

pub(crate) const GATE: &str = "kapacitystack.io/online";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Clock,
    pub(crate) client: Client,
    source: Option<Arc<dyn MetricSource>>,
    running: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl World {
    /// A cluster at a moment, with the workload of the document and the shell running.
    pub(crate) async fn at(moment: &str) -> Self {
        Self::with_source(moment, None).await
    }

    /// The same with metrics from somewhere else.
    pub(crate) async fn with_source(moment: &str, source: Option<Arc<dyn MetricSource>>) -> Self {
        let clock = Clock::starting_at(moment.parse().unwrap());
        let options = Options { cluster_api: false, ..Options::new(clock, 7) };
        let sandbox = Sandbox::start(options).unwrap();
        let client = sandbox.client("test");
        let mut world = Self { sandbox, clock, client, source, running: None };
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": "500"});
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "docker-desktop"},
            "status": {"capacity": room, "allocatable": room},
        });
        world.create(&ApiResource::erase::<Node>(&()), None, node).await;
        world.create_service("nginx").await;
        world.create_stateful_set("nginx", 1).await;
        world.start();
        world
    }

    async fn create(&self, resource: &ApiResource, namespace: Option<&str>, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// The same for a typed kind in the default namespace.
    pub(crate) async fn make<K: Resource<DynamicType = ()>>(&self, object: Value) {
        self.create(&ApiResource::erase::<K>(&()), Some("default"), object).await;
    }

    pub(crate) async fn create_service(&self, name: &str) {
        self.make::<Service>(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
        }))
        .await;
    }

    pub(crate) fn template(name: &str) -> Value {
        json!({
            "metadata": {"labels": {"app": name}},
            "spec": {
                "readinessGates": [{"conditionType": GATE}],
                "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}],
            },
        })
    }

    pub(crate) async fn create_stateful_set(&self, name: &str, replicas: u32) {
        self.make::<StatefulSet>(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name},
            "spec": {
                "serviceName": name, "replicas": replicas, "selector": {"matchLabels": {"app": name}},
                "podManagementPolicy": "Parallel", "template": Self::template(name),
            },
        }))
        .await;
    }

    /// Starts the shell; one that runs already must have been stopped.
    pub(crate) fn start(&mut self) {
        self.start_with(self.sandbox.client("scaler"));
    }

    /// The same through another client, such as one that meets faults.
    pub(crate) fn start_with(&mut self, client: Client) {
        assert!(self.running.is_none());
        let config = Config {
            leader_election: LeaderElection { enabled: false, ..LeaderElection::default() },
            watch: WatchSettings { timeout_seconds: 0, ..WatchSettings::default() },
            algorithm_jobs: AlgorithmJobs {
                namespace: Some("kapacity-system".into()),
                service_account: Some("kapacity-algorithm-job".into()),
                metrics_server: Some("kapacity-grpc-service:9090".into()),
                image: Some("example.com/tideline:1".into()),
            },
            ..Config::default()
        };
        let source = self.source.clone().unwrap_or_else(|| {
            Arc::new(ResourceApi::new(client.clone(), self.clock, ResourceApiSettings::default()))
        });
        let scaler = Scaler::new(client, self.clock, config, source).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async move {
                let _ = stopped.await;
            };
            scaler.run(shutdown).await.unwrap();
        });
        self.running = Some((stop, task));
    }

    /// Ends the shell where it stands.
    pub(crate) fn kill(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
        }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// An autoscaler of nginx from its spec without the target.
    pub(crate) async fn autoscale(&self, name: &str, spec: Value) {
        let mut spec = spec;
        if spec["scaleTargetRef"].is_null() {
            spec["scaleTargetRef"] = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "nginx"});
        }
        for (field, value) in [("minReplicas", 1), ("maxReplicas", 10)] {
            if spec[field].is_null() {
                spec[field] = json!(value);
            }
        }
        self.make::<Ihpa>(json!({
            "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "IntelligentHorizontalPodAutoscaler",
            "metadata": {"name": name}, "spec": spec,
        }))
        .await;
    }

    pub(crate) async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn ihpa(&self, name: &str) -> Ihpa {
        self.api().get(name).await.unwrap()
    }

    /// `status reason` of a condition, and its message.
    pub(crate) async fn condition(&self, name: &str, kind: &str) -> (String, String) {
        let status = self.ihpa(name).await.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|found| (format!("{} {}", found.status, found.reason), found.message)).unwrap_or_default()
    }

    pub(crate) async fn profile(&self, name: &str) -> Option<ReplicaProfile> {
        self.api().get_opt(name).await.unwrap()
    }

    pub(crate) async fn portraits(&self) -> Vec<HorizontalPortrait> {
        self.api().list(&ListParams::default()).await.unwrap().items
    }

    /// `reason message` of the events about autoscalers, in their order.
    pub(crate) async fn events(&self) -> Vec<String> {
        let mut events = self.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| {
            event.source.as_ref().is_some_and(|source| source.component.as_deref() == Some("ihpa_controller"))
        });
        events.sort_by_key(|event| (event.first_timestamp.as_ref().map(|time| time.0), event.name_any()));
        let told = |event: &Event| {
            format!("{} {}", event.reason.as_deref().unwrap_or(""), event.message.as_deref().unwrap_or(""))
        };
        events.iter().map(told).collect()
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        let mut pods = self.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Pods as `kubectl get po -L kapacitystack.io/pod-state` shows them: name, ready, state.
    pub(crate) async fn shown(&self) -> String {
        let pods = self.pods().await;
        let shown = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready =
                conditions.clone().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let state = pod.labels().get("kapacitystack.io/pod-state").map_or("", String::as_str);
            format!("{}{}{state}", pod.name_any(), if ready { "+" } else { "-" })
        };
        pods.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// Waits until something holds; the message says what was seen last.
    pub(crate) async fn until<F, T: Debug + PartialEq>(&self, seconds: u64, wanted: T, look: F)
    where
        F: AsyncFn(&Self) -> T,
    {
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        loop {
            let seen = look(self).await;
            if seen == wanted {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "after {seconds} s at {}: {seen:?} instead of {wanted:?}",
                self.clock.now()
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub(crate) async fn until_shown(&self, seconds: u64, wanted: &str) {
        self.until(seconds, wanted.to_owned(), Self::shown).await;
    }

    /// Lets everything that is due by now happen.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    /// Requests a minute that the Service of a workload gets.
    pub(crate) async fn load(&self, name: &str, requests_per_minute: u32) {
        let patch = json!({"metadata": {"annotations": {
            "tideline.dev/requests-per-minute": requests_per_minute.to_string(),
        }}});
        self.patch::<Service>(name, patch).await;
    }
}

pub(crate) fn gray(state: &str, percent: u32, interval: u32, observation: u32) -> Value {
    json!({"grayStrategy": {
        "grayState": state, "changeIntervalSeconds": interval, "changePercent": percent,
        "observationSeconds": observation,
    }})
}

pub(crate) fn reactive(metric: &Value) -> Value {
    json!({"type": "Dynamic", "priority": 1, "dynamic": {
        "portraitType": "Reactive", "metrics": [metric], "algorithm": {"type": "KubeHPA"},
    }})
}

pub(crate) fn cpu(percent: u32) -> Value {
    json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
    }})
}

/// Somebody else's portrait, whose status a test fills in.
pub(crate) fn foreign(priority: i32) -> Value {
    json!({"type": "Dynamic", "priority": priority, "dynamic": {
        "portraitType": "Told", "externalGeneratorName": "test", "algorithm": {"type": "Told"},
    }})
}

async fn tell(world: &World, name: &str, data: Value) {
    let patch = json!({"status": {"portraitData": data}});
    let portraits: Api<HorizontalPortrait> = world.api();
    portraits.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

pub(crate) async fn tell_fixed(world: &World, name: &str, replicas: u32) {
    tell(world, name, json!({"type": "Static", "static": {"replicas": replicas}})).await;
}

/// `online/cutoff/standby` of the profile.
pub(crate) async fn planned(world: &World, name: &str) -> String {
    world.profile(name).await.map_or_else(String::new, |profile| {
        let spec = profile.spec;
        format!("{}/{}/{}", spec.online_replicas, spec.cutoff_replicas, spec.standby_replicas)
    })
}

/// A world whose workload stands at a number of replicas by a portrait that the test tells.
pub(crate) async fn standing(at: &str, replicas: u32, behavior: Value) -> World {
    let world = World::at(at).await;
    world.autoscale("told", json!({"portraitProviders": [foreign(1)], "behavior": behavior})).await;
    world.until(30, 1, async |world| world.portraits().await.len()).await;
    tell_fixed(&world, "told-told", replicas).await;
    let wanted: Vec<String> = (0..replicas).map(|ordinal| format!("nginx-{ordinal}+")).collect();
    world.until_shown(120, &wanted.join(" ")).await;
    world
}
