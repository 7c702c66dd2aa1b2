//! An embedded cluster with MachineDeployments and address pools, and alerts for it.

#![allow(dead_code, reason = "each test file uses a part")]

use alerts::{ANNOTATION, Alert, Record, Scaler, Settings, platform};
use clock::Clock;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use sandbox::{Options, Sandbox};
use serde_json::{Value, json};

pub(crate) const NAMESPACE: &str = "cpaas-system";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) clock: Clock,
    pub(crate) client: Client,
}

fn resource(group: &str, kind: &str) -> ApiResource {
    let version = if group.is_empty() { "v1" } else { "v1beta1" };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

impl World {
    /// Two workload clusters with one MachineDeployment each, as in the document's transcript.
    pub(crate) async fn new() -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let sandbox = Sandbox::start(Options::new(clock, 7)).unwrap();
        let client = sandbox.client("test");
        let world = Self { sandbox, clock, client };
        world.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await;
        let documents = include_str!("../../../../tests/seeds/000-alert-triggered/platform.yaml");
        for document in yaml(documents).iter().filter(|document| {
            let name = document["metadata"]["name"].as_str().unwrap();
            name.starts_with("dcs")
        }) {
            world.apply(document.clone()).await;
        }
        for document in yaml(include_str!("../../../../tests/seeds/000-alert-triggered/clusters.yaml")) {
            world.apply(document).await;
        }
        world
    }

    pub(crate) async fn apply(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let kind = GroupVersionKind::try_from(&types).unwrap();
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    pub(crate) fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource(group, kind))
    }

    pub(crate) fn deployments(&self) -> Api<DynamicObject> {
        self.api("cluster.x-k8s.io", "MachineDeployment")
    }

    pub(crate) fn scaler(&self, client: Client, settings: Settings) -> Scaler {
        Scaler::new(client, NAMESPACE.to_owned(), settings, self.clock)
    }

    pub(crate) async fn replicas(&self, cluster: &str) -> u64 {
        let deployment = self.deployments().get(&format!("{cluster}-workers")).await.unwrap();
        deployment.data["spec"]["replicas"].as_u64().unwrap()
    }

    /// What the MachineDeployment of a cluster remembers.
    pub(crate) async fn record(&self, cluster: &str) -> Record {
        let deployment = self.deployments().get(&format!("{cluster}-workers")).await.unwrap();
        Record::read(deployment.metadata.annotations.unwrap_or_default().get(ANNOTATION)).unwrap()
    }

    /// The values of a ConfigMap, by cluster.
    pub(crate) async fn values(&self, name: &str) -> Value {
        match self.api("", "ConfigMap").get_opt(name).await.unwrap() {
            Some(map) => map.data["data"].clone(),
            None => Value::Null,
        }
    }

    /// The entries of a cluster's history.
    pub(crate) async fn history(&self, cluster: &str) -> Vec<Value> {
        let values = self.values("scale-history-config").await;
        values[cluster].as_str().map_or_else(Vec::new, |text| serde_json::from_str(text).unwrap())
    }

    pub(crate) async fn all_replicas(&self) -> Vec<u64> {
        let list = self.deployments().list(&ListParams::default()).await.unwrap();
        list.items.iter().map(|item| item.data["spec"]["replicas"].as_u64().unwrap()).collect()
    }
}

pub(crate) fn yaml(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .filter(|part| part.lines().any(|line| !line.starts_with('#') && !line.trim().is_empty()))
        .map(|part| serde_saphyr::from_str(part).unwrap())
        .collect()
}

/// The document's alert for a cluster, as it was rendered, with another fingerprint and beginning.
pub(crate) fn body(cluster: &str, fingerprint: &str, starts_at: &str) -> Value {
    let mut body: Value =
        serde_json::from_str(include_str!("../../../../tests/seeds/000-alert-triggered/alert.json")).unwrap();
    body["labels"]["alert_cluster"] = json!(cluster);
    body["fingerprint"] = json!(fingerprint);
    body["startsAt"] = json!(starts_at);
    body
}

pub(crate) fn alert(cluster: &str, fingerprint: &str, starts_at: &str) -> Alert {
    platform(body(cluster, fingerprint, starts_at).to_string().as_bytes()).unwrap()
}
