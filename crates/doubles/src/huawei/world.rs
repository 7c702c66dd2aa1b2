//! A CCE cluster: node pools that reach their size after a while, and nodes with their servers.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A node pool.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub name: String,
    /// The size that was asked for.
    pub desired: u32,
    /// Bounds and priority, where its elastic scaling is on.
    pub scaling: Option<(u32, u32, i32)>,
    pub flavor: String,
    pub labels: BTreeMap<String, String>,
    /// Key, value and effect.
    pub taints: Vec<(String, String, String)>,
    /// Servers that can still be made for it; without end where absent.
    pub stock: Option<u32>,
    /// The condition `Error`, with this message.
    pub error: Option<String>,
}

/// A node; its server's address follows from its number.
#[derive(Clone, Debug)]
pub struct Node {
    pub pool: String,
    pub number: u32,
    pub created: Timestamp,
    pub deleted: Option<Timestamp>,
    /// It could not be installed.
    pub failed: bool,
}

/// Everything that there is.
#[derive(Clone, Debug)]
pub struct World {
    pub pools: BTreeMap<String, Pool>,
    pub nodes: BTreeMap<String, Node>,
    /// Names of types with their cores and GiB.
    pub flavors: BTreeMap<String, (u32, u64)>,
    pub making: SignedDuration,
    pub removing: SignedDuration,
    /// How many of the next nodes cannot be installed.
    pub fails: u32,
    /// Nodes that lists leave out.
    pub hidden: Vec<String>,
    /// Nodes that CCE chose by itself when a size was lowered.
    pub chosen_by_cce: u32,
    made: u32,
}

impl Default for World {
    fn default() -> Self {
        Self {
            pools: BTreeMap::new(),
            nodes: BTreeMap::new(),
            flavors: BTreeMap::new(),
            making: SignedDuration::from_secs(60),
            removing: SignedDuration::from_secs(30),
            fails: 0,
            hidden: Vec::new(),
            chosen_by_cce: 0,
            made: 0,
        }
    }
}

impl World {
    /// What happens by itself until now.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let removing = self.removing;
        self.nodes.retain(|_, node| node.deleted.is_none_or(|at| now.duration_since(at) < removing));
        let ids: Vec<String> = self.pools.keys().cloned().collect();
        for id in ids {
            let mut there = self.staying(&id).len() as u32;
            while there > self.pools[&id].desired {
                if let Some(last) = self.staying(&id).pop() {
                    self.chosen_by_cce += 1;
                    self.end(&last, now);
                }
                there -= 1;
            }
            let Some(pool) = self.pools.get_mut(&id) else { continue };
            let wanted = pool.desired - there;
            let can = pool.stock.map_or(wanted, |stock| stock.min(wanted));
            pool.stock = pool.stock.map(|stock| stock - can);
            for _ in 0..can {
                self.made += 1;
                let number = self.made;
                let failed = self.fails > 0;
                self.fails = self.fails.saturating_sub(1);
                let node = Node { pool: id.clone(), number, created: now, deleted: None, failed };
                self.nodes.insert(format!("node-{number:04}"), node);
            }
        }
    }

    /// Nodes of a pool that are not being deleted, oldest first.
    pub fn staying(&self, pool: &str) -> Vec<String> {
        let own = self.nodes.iter().filter(|(_, node)| node.pool == pool && node.deleted.is_none());
        own.map(|(id, _)| id.clone()).collect()
    }

    fn end(&mut self, id: &str, now: Timestamp) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.deleted = Some(now);
        }
    }

    /// Deletes a node as its user asks; its pool is asked for one less.
    pub(super) fn delete(&mut self, id: &str, now: Timestamp) -> bool {
        let Some(node) = self.nodes.get(id) else { return false };
        if node.deleted.is_none() {
            if let Some(pool) = self.pools.get_mut(&node.pool) {
                pool.desired -= 1;
            }
            self.end(id, now);
        }
        true
    }

    pub(super) fn pool_json(&self, id: &str, now: Timestamp) -> Value {
        let pool = &self.pools[id];
        let staying = self.staying(id);
        let young = |id: &&String| now.duration_since(self.nodes[*id].created) < self.making;
        let creating = staying.iter().filter(young).count();
        let deleting = self.nodes.values().filter(|node| node.pool == id && node.deleted.is_some()).count();
        let mut conditions = Vec::new();
        let mut phase = "";
        if pool.stock == Some(0) && pool.desired as usize > staying.len() {
            phase = "SoldOut";
            let message = "the flavor is sold out in the zone";
            conditions.push(json!({"type": "Scalable", "status": "False", "reason": "ResourceInsufficient"}));
            conditions.push(json!({"type": "ResourceInsufficient", "status": "True", "message": message}));
        }
        if let Some(message) = &pool.error {
            phase = "Error";
            conditions.push(json!({"type": "Error", "status": "True", "message": message}));
        }
        let (min, max, priority) = pool.scaling.unwrap_or_default();
        let taint = |(key, value, effect): &(String, String, String)| json!({"key": key, "value": value, "effect": effect});
        let taints: Vec<Value> = pool.taints.iter().map(taint).collect();
        json!({
            "kind": "NodePool",
            "apiVersion": "v3",
            "metadata": {"name": pool.name, "uid": id},
            "spec": {
                "type": "vm",
                "initialNodeCount": pool.desired,
                "autoscaling": {
                    "enable": pool.scaling.is_some(), "minNodeCount": min, "maxNodeCount": max, "priority": priority,
                    "scaleDownCooldownTime": 10,
                },
                "nodeTemplate": {
                    "flavor": pool.flavor, "az": "cn-north-4a", "k8sTags": pool.labels, "taints": taints,
                    "rootVolume": {"size": 50, "volumetype": "SAS"}, "dataVolumes": [], "extendParam": {"maxPods": 60},
                },
                "extensionScaleGroups": null,
            },
            "status": {
                "currentNode": staying.len(), "creatingNode": creating, "deletingNode": deleting, "phase": phase,
                "conditions": conditions,
            },
        })
    }

    pub(super) fn node_json(&self, id: &str, now: Timestamp) -> Value {
        let node = &self.nodes[id];
        let whole = now.duration_since(node.created) >= self.making;
        let phase = match (node.deleted, whole, node.failed) {
            (Some(_), ..) => "Deleting",
            (None, false, _) => "Build",
            (None, true, true) => "Error",
            (None, true, false) => "Active",
        };
        let mut status = json!({"phase": phase});
        if whole && !node.failed {
            status["serverId"] = json!(format!("server-{}", node.number));
            status["privateIP"] = json!(format!("192.168.{}.{}", node.number / 250, node.number % 250 + 1));
        }
        json!({
            "kind": "Node",
            "apiVersion": "v3",
            "metadata": {
                "name": format!("{}-{}", self.pools[&node.pool].name, node.number),
                "uid": id,
                "annotations": {"kubernetes.io/node-pool.id": node.pool},
                "creationTimestamp": node.created.strftime("%Y-%m-%d %H:%M:%S%.6f +0000 UTC").to_string(),
            },
            "spec": {"flavor": self.pools[&node.pool].flavor, "az": "cn-north-4a"},
            "status": status,
        })
    }
}
