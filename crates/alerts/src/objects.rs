//! The cluster behind the decision: MachineDeployments, address pools, and the history's ConfigMap.
//!
//! Owns reading and writing them with the rights of the platform's role: no watch, no Lease, no event. What they
//! lead to is `decide`'s. Nothing is cached, so a delivery always sees what is there.

use crate::decide::{Addresses, Deployment};
use crate::reason::Reason;
use crate::record::{ANNOTATION, Record};
use clouds::ProviderError;
use clouds::cluster_api::annotations::{bounds, paused};
use clouds::objects::{Objects, is_deleting, number, spec_mut, text};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Time-out of each call.
const CALL: Duration = Duration::from_secs(8);
/// Versions of Cluster API's kinds, the one that most servers have first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1beta2"];
const CLUSTER_LABEL: &str = "cluster.x-k8s.io/cluster-name";
const INFRASTRUCTURE: &str = "infrastructure.cluster.x-k8s.io";
const TEMPLATE_KIND: &str = "DCSMachineTemplate";
/// The history, and where damaged values of it are kept.
const HISTORY: &str = "scale-history-config";
const DAMAGED: &str = "scale-history-config-damaged";
/// Damaged values kept; the oldest go first.
const MOST_DAMAGED: usize = 16;
/// Bytes of the history at which values of clusters other than the written one are no longer joined by more.
const LARGEST_HISTORY: usize = 900_000;

/// A MachineDeployment, and the whole object to write back.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) cluster: String,
    pub(crate) facts: Deployment,
    object: DynamicObject,
}

/// All reads and writes.
#[derive(Clone)]
pub(crate) struct ClusterObjects {
    client: Client,
    namespace: String,
    version: Arc<AtomicUsize>,
}

impl ClusterObjects {
    pub(crate) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, version: Arc::default() }
    }

    fn of_kind(&self, namespace: Option<&str>, group: &str, version: &str, kind: &'static str) -> Objects {
        let plural = format!("{}s", kind.to_lowercase());
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
        let api = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        Objects { api, kind, limit: CALL }
    }

    fn deployments(&self, namespace: Option<&str>) -> Objects {
        let version = VERSIONS[self.version.load(Ordering::Relaxed) % VERSIONS.len()];
        self.of_kind(namespace, "cluster.x-k8s.io", version, "MachineDeployment")
    }

    /// Every MachineDeployment that stays, in the order of namespace and name.
    pub(crate) async fn machine_deployments(&self) -> Result<Vec<Found>, ProviderError> {
        let mut objects = self.deployments(None).list("").await;
        if matches!(&objects, Err(ProviderError::Refused { code, .. }) if code == "NotFound") {
            // The server serves the kind in another version, or not at all.
            self.version.fetch_add(1, Ordering::Relaxed);
            objects = self.deployments(None).list("").await;
        }
        let mut found: Vec<Found> =
            objects?.into_iter().filter(|object| !is_deleting(object)).map(Found::of).collect();
        found.sort_by(|a, b| (&a.facts.namespace, &a.facts.name).cmp(&(&b.facts.namespace, &b.facts.name)));
        Ok(found)
    }

    /// Writes size and record in one update that carries the version that was read.
    pub(crate) async fn scale(&self, found: &Found, to: u32, record: &Record) -> Result<(), ProviderError> {
        let mut object = found.object.clone();
        object.annotations_mut().insert(ANNOTATION.to_owned(), record.write());
        if let Some(spec) = spec_mut(&mut object) {
            spec.insert("replicas".into(), json!(to));
        }
        self.deployments(Some(&found.facts.namespace)).put(&object).await
    }

    /// The free addresses for a MachineDeployment's machines.
    ///
    /// Read are `spec.template.spec.ipHostPoolRef.name` of the template and `spec.pool[].ip` of the pool. In use is
    /// one address for each machine of every MachineDeployment of the namespace whose template names the pool.
    pub(crate) async fn addresses(&self, target: &Found, all: &[Found]) -> Result<Addresses, ProviderError> {
        let Some(template) = target.template() else { return Ok(Addresses::Unlimited) };
        let namespace = target.facts.namespace.as_str();
        let version = target.template_version();
        let templates =
            self.of_kind(Some(namespace), INFRASTRUCTURE, version, TEMPLATE_KIND).list("").await?;
        let pools: BTreeMap<String, Option<String>> = templates
            .iter()
            .map(|template| {
                let pool = text(template, "/spec/template/spec/ipHostPoolRef/name").map(str::to_owned);
                (template.name_any(), pool)
            })
            .collect();
        let name = match pools.get(template) {
            Some(Some(pool)) => pool,
            Some(None) => return Ok(Addresses::Unlimited),
            None => {
                let (target, template) = (target.facts.title(), template.to_owned());
                return Ok(Addresses::Unknown(Reason::TemplateMissing { target, template }));
            }
        };
        let pool =
            self.of_kind(Some(namespace), INFRASTRUCTURE, version, "DCSIpHostnamePool").get(name).await?;
        let (template, pool_name) = (template.to_owned(), name.clone());
        let Some(pool) = pool else {
            return Ok(Addresses::Unknown(Reason::AddressPoolMissing { template, pool: pool_name }));
        };
        let Some(entries) = pool.data.pointer("/spec/pool").and_then(Value::as_array) else {
            return Ok(Addresses::Unknown(Reason::AddressPoolUnreadable { pool: pool_name }));
        };
        let total: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.get("ip")?.as_str()).collect();
        let shares = |found: &&Found| {
            let pool = found.template().and_then(|template| pools.get(template)?.as_ref());
            found.facts.namespace == namespace && pool == Some(&pool_name)
        };
        let used: u64 = all.iter().filter(shares).map(Found::machines).sum();
        let free = (total.len() as u64).saturating_sub(used);
        Ok(Addresses::Limited { pool: pool_name, free: u32::try_from(free).unwrap_or(u32::MAX) })
    }

    fn config_maps(&self) -> Objects {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "ConfigMap"), "configmaps");
        let api = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        Objects { api, kind: "ConfigMap", limit: CALL }
    }

    /// The history's ConfigMap as it is, or an empty one that is not there yet.
    pub(crate) async fn history(&self) -> Result<ValuesMap, ProviderError> {
        self.values(HISTORY).await
    }

    async fn values(&self, name: &str) -> Result<ValuesMap, ProviderError> {
        let found = self.config_maps().get(name).await?;
        let exists = found.is_some();
        let object = found.unwrap_or_else(|| {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
            DynamicObject::new(name, &resource).within(&self.namespace)
        });
        Ok(ValuesMap { object, exists })
    }

    /// Writes one value of the history, guarded by the version that was read.
    pub(crate) async fn write_history(
        &self,
        mut map: ValuesMap,
        cluster: &str,
        value: String,
    ) -> Result<(), ProviderError> {
        map.set(cluster, value);
        if map.bytes() > LARGEST_HISTORY {
            let (code, attempted) = ("TooLarge".to_owned(), format!("update ConfigMap {HISTORY}"));
            let message = format!("it would be over {LARGEST_HISTORY} bytes; remove clusters that are gone");
            return Err(ProviderError::Refused { attempted, code, message });
        }
        self.put(&map).await
    }

    /// Copies a damaged value to where it is kept for a person to look at; once, however often it is found.
    pub(crate) async fn keep_aside(
        &self,
        cluster: &str,
        value: &str,
        unix_seconds: i64,
    ) -> Result<(), ProviderError> {
        let mut kept = self.values(DAMAGED).await?;
        let prefix = format!("{cluster}.");
        if kept.data().is_some_and(|data| {
            data.iter().any(|(key, text)| key.starts_with(&prefix) && text.as_str() == Some(value))
        }) {
            return Ok(());
        }
        // The time is what follows the last dot; the key must not grow over its bound.
        let cluster = &cluster[..cluster.len().min(200)];
        kept.set(&format!("{cluster}.{unix_seconds}"), value.to_owned());
        kept.forget_oldest(MOST_DAMAGED, LARGEST_HISTORY);
        self.put(&kept).await
    }

    async fn put(&self, map: &ValuesMap) -> Result<(), ProviderError> {
        if map.exists {
            self.config_maps().put(&map.object).await
        } else {
            self.config_maps().create(&map.object).await
        }
    }
}

impl Found {
    fn of(object: DynamicObject) -> Self {
        let annotations = object.annotations();
        let cluster = text(&object, "/spec/clusterName")
            .or_else(|| object.labels().get(CLUSTER_LABEL).map(String::as_str))
            .unwrap_or_default()
            .to_owned();
        // Without a number the API's default holds.
        let replicas = number(&object, "/spec/replicas").unwrap_or(1);
        let facts = Deployment {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            labels: object.labels().clone(),
            replicas: u32::try_from(replicas).unwrap_or(0),
            max: max_of(annotations),
            paused: paused(&object),
            record: Record::read(annotations.get(ANNOTATION)),
        };
        Self { cluster, facts, object }
    }

    /// The name of the `DCSMachineTemplate` that makes its machines, where it is one.
    fn template(&self) -> Option<&str> {
        let reference = "/spec/template/spec/infrastructureRef";
        let kind = text(&self.object, &format!("{reference}/kind"))?;
        let name = text(&self.object, "/spec/template/spec/infrastructureRef/name")?;
        (kind == TEMPLATE_KIND).then_some(name)
    }

    fn template_version(&self) -> &str {
        let version = text(&self.object, "/spec/template/spec/infrastructureRef/apiVersion");
        version
            .and_then(|version| version.strip_prefix(INFRASTRUCTURE)?.strip_prefix('/'))
            .unwrap_or("v1beta1")
    }

    /// Machines that it has or is asked for: while machines are replaced, there are more than are asked for.
    fn machines(&self) -> u64 {
        let existing = number(&self.object, "/status/replicas").unwrap_or(0);
        u64::from(self.facts.replicas).max(u64::try_from(existing).unwrap_or(0))
    }
}

fn max_of(annotations: &BTreeMap<String, String>) -> Result<Option<u32>, String> {
    const MAX: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size";
    if let Some(bounds) = bounds(annotations)? {
        return Ok(Some(bounds.max));
    }
    // The maximum alone is no pool for the planner, and a limit all the same.
    annotations.get(MAX).map_or(Ok(None), |text| {
        let max = text.trim().parse::<u32>();
        max.map(Some).map_err(|_| format!("annotation {MAX} is \"{text}\"; write a whole number"))
    })
}

/// A ConfigMap's values, read to be written back.
#[derive(Clone, Debug)]
pub(crate) struct ValuesMap {
    object: DynamicObject,
    exists: bool,
}

impl ValuesMap {
    fn data(&self) -> Option<&serde_json::Map<String, Value>> {
        self.object.data.get("data")?.as_object()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.data()?.get(key)?.as_str()
    }

    fn set(&mut self, key: &str, value: String) {
        if !self.object.data.is_object() {
            self.object.data = json!({});
        }
        self.object.data["data"][key] = Value::String(value);
    }

    fn bytes(&self) -> usize {
        let length = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
        self.data().map_or(0, |data| data.iter().map(length).sum())
    }

    /// Drops the values with the oldest time in their key until so many, and so many bytes, are left.
    fn forget_oldest(&mut self, most: usize, bytes: usize) {
        while self.data().is_some_and(|data| data.len() > most || (self.bytes() > bytes && data.len() > 1)) {
            let time = |key: &str| key.rsplit('.').next().and_then(|text| text.parse::<i64>().ok());
            let keys = self.data().into_iter().flat_map(serde_json::Map::keys);
            let Some(oldest) = keys.min_by_key(|key| (time(key), (*key).clone())).cloned() else { return };
            if let Some(data) = self.object.data.get_mut("data").and_then(Value::as_object_mut) {
                data.remove(&oldest);
            }
        }
    }
}
