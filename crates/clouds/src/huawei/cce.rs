//! The requests to CCE (v3) and ECS (v1) that we make, with their answers as types.
//!
//! Owns paths, names of fields, pages and their bounds. What follows from an answer is the callers' business.

use super::client::{Asked, Client};
use crate::calls::{Failure, FailureKind};
use http::Method;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Nodes of one page, and pages read at most: more than any cluster of CCE may have.
const PAGE: usize = 1000;
const MOST_PAGES: usize = 20;
/// The group of a pool that has the pool's own flavour.
pub(super) const DEFAULT_GROUP: &str = "default";

/// Absent and `null` are the same.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

macro_rules! answers {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(rename_all = "camelCase", default)]
            pub(super) struct $name {
                $($(#[$meta])* #[serde(deserialize_with = "or_default")] pub(super) $field: $type,)*
            }
        )*
    };
}

answers! {
    NodePools { items: Vec<NodePool> }
    NodePool { metadata: Metadata, spec: PoolSpec, status: PoolStatus }
    Metadata { name: String, uid: String, annotations: BTreeMap<String, String>, creation_timestamp: String }
    PoolSpec {
        initial_node_count: u32,
        node_template: Template,
        autoscaling: Autoscaling,
        extension_scale_groups: Vec<ScaleGroup>,
    }
    Template {
        flavor: String,
        az: String,
        taints: Vec<GivenTaint>,
        k8s_tags: BTreeMap<String, String>,
        root_volume: Volume,
        extend_param: ExtendParam,
    }
    GivenTaint { key: String, value: String, effect: String }
    Volume { size: u64 }
    ExtendParam { max_pods: Option<u32> }
    Autoscaling {
        enable: bool,
        min_node_count: u32,
        max_node_count: u32,
        priority: i32,
        scale_down_cooldown_time: i64,
        scale_down_unneeded_time: Option<i64>,
        scale_down_utilization_threshold: Option<f64>,
    }
    ScaleGroup { metadata: Metadata, spec: ScaleGroupSpec }
    ScaleGroupSpec { flavor: String, az: String }
    PoolStatus { current_node: u32, phase: String, conditions: Vec<Condition> }
    Condition {
        #[serde(rename = "type")]
        kind: String,
        status: String,
        reason: String,
        message: String,
    }
    Nodes { items: Vec<CceNode>, page_info: PageInfo }
    PageInfo { next_marker: String }
    CceNode { metadata: Metadata, status: NodeStatus }
    NodeStatus {
        phase: String,
        server_id: String,
        #[serde(rename = "privateIP")]
        private_ip: String,
    }
    Flavors { flavors: Vec<Flavor> }
    Flavor { id: String, vcpus: String, ram: u64, os_extra_specs: BTreeMap<String, serde_json::Value> }
}

impl CceNode {
    /// The id of the pool that it belongs to.
    pub(super) fn pool(&self) -> Option<&str> {
        self.metadata.annotations.get("kubernetes.io/node-pool.id").map(String::as_str)
    }
}

pub(super) struct Cce {
    pub(super) client: Client,
    pub(super) cluster: String,
    /// Addresses of CCE, and of ECS.
    pub(super) endpoint: Arc<str>,
    pub(super) ecs: Arc<str>,
}

impl Cce {
    fn of_cluster(&self, method: Method, rest: &str, permission: &'static str) -> Asked {
        let path = format!("/api/v3/projects/{}/clusters/{}/{rest}", self.client.project, self.cluster);
        Asked {
            method,
            endpoint: self.endpoint.clone(),
            path,
            query: BTreeMap::new(),
            body: None,
            permission,
        }
    }

    pub(super) async fn pools(&self) -> Result<Vec<NodePool>, Failure> {
        let pools: NodePools =
            self.client.read(self.of_cluster(Method::GET, "nodepools", "cce:nodepool:list")).await?;
        Ok(pools.items)
    }

    /// All nodes of the cluster, whichever pool they belong to.
    pub(super) async fn nodes(&self) -> Result<Vec<CceNode>, Failure> {
        let mut nodes = Vec::new();
        let mut marker = String::new();
        for _ in 0..MOST_PAGES {
            let mut asked = self.of_cluster(Method::GET, "nodes", "cce:node:list");
            asked.query.insert("limit".into(), PAGE.to_string());
            if !marker.is_empty() {
                asked.query.insert("marker".into(), marker);
            }
            let page: Nodes = self.client.read(asked).await?;
            nodes.extend(page.items);
            marker = page.page_info.next_marker;
            if marker.is_empty() {
                return Ok(nodes);
            }
        }
        let message = format!("the cluster has more than {} nodes", MOST_PAGES * PAGE);
        Err(Failure::new(FailureKind::Refused, "TooMany", message))
    }

    /// Asks for a size of a pool, to be reached in these of its groups.
    pub(super) async fn scale(&self, pool: &str, to: u32, groups: &[&str]) -> Result<(), Failure> {
        let rest = format!("nodepools/{pool}/operation/scale");
        let mut asked = self.of_cluster(Method::POST, &rest, "cce:nodepool:update");
        let spec = json!({"desiredNodeCount": to, "scaleGroups": groups});
        asked.body = Some(json!({"kind": "NodePool", "apiVersion": "v3", "spec": spec}));
        self.client.order(asked).await
    }

    /// Deletes a node with its server; the pool's size goes down with it.
    pub(super) async fn delete(&self, node: &str) -> Result<(), Failure> {
        let rest = format!("nodes/{node}");
        self.client.order(self.of_cluster(Method::DELETE, &rest, "cce:node:delete")).await
    }

    /// The types of servers that the region sells.
    pub(super) async fn flavors(&self) -> Result<Vec<Flavor>, Failure> {
        let asked = Asked {
            method: Method::GET,
            endpoint: self.ecs.clone(),
            path: format!("/v1/{}/cloudservers/flavors", self.client.project),
            query: BTreeMap::new(),
            body: None,
            permission: "ecs:cloudServerFlavors:get",
        };
        let answer: Flavors = self.client.read(asked).await?;
        Ok(answer.flavors)
    }
}
