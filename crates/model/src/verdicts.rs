//! Why everything is as it is after a round: one reason for each waiting pod, each node and each pool.
//!
//! Owns the verdicts. What is said of many pods at once is kept once, with all of their names; name by name it is told
//! when somebody asks.

use crate::{
    HeadroomVerdict, NodeName, OutlookKey, OutlookVerdict, PodKey, PodNames, PoolId, Reason, RuleSetKey,
    RuleSetVerdict, WorkloadKey,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[must_use = "an unread verdict helps nobody"]
pub struct Verdicts {
    /// Every pod that waits for a node.
    pub pods: PodVerdicts,
    pub nodes: NodeVerdicts,
    /// Pools that cannot or need not grow, where there is something to say.
    pub pools: BTreeMap<PoolId, Reason>,
    /// Of rules that ask for nodes, by their object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<RuleSetKey, RuleSetVerdict>,
    /// Of what is known ahead, by who tells it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outlooks: BTreeMap<OutlookKey, OutlookVerdict>,
    /// Of room for pods that do not exist, by the object that asks for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headroom: BTreeMap<WorkloadKey, HeadroomVerdict>,
    /// Of the round as a whole.
    pub round: Vec<Reason>,
}

/// Reasons of pods: a map by name that is drawn up when it is first looked at.
#[derive(Clone, Default)]
pub struct PodVerdicts {
    said: Vec<(PodNames, Reason)>,
    by_name: OnceLock<BTreeMap<PodKey, Reason>>,
}

impl PodVerdicts {
    /// Says one thing of some pods; what is said of a pod later replaces what was said before.
    pub fn say(&mut self, pods: PodNames, reason: Reason) {
        if !pods.is_empty() {
            self.by_name.take();
            self.said.push((pods, reason));
        }
    }
}

impl Deref for PodVerdicts {
    type Target = BTreeMap<PodKey, Reason>;

    fn deref(&self) -> &Self::Target {
        self.by_name.get_or_init(|| {
            let each = |(pods, reason): &(PodNames, Reason)| {
                let reason = reason.clone();
                pods.iter().map(move |pod| (pod.clone(), reason.clone())).collect::<Vec<_>>()
            };
            // Mostly in order already, which the map is built from in one go.
            self.said.iter().flat_map(each).collect()
        })
    }
}

impl<'v> IntoIterator for &'v PodVerdicts {
    type Item = (&'v PodKey, &'v Reason);
    type IntoIter = btree_map::Iter<'v, PodKey, Reason>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for PodVerdicts {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PodVerdicts {}

impl fmt::Debug for PodVerdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for PodVerdicts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PodVerdicts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: BTreeMap<PodKey, Reason> = BTreeMap::deserialize(deserializer)?;
        let said = map.into_iter().map(|(pod, reason)| (PodNames::one(pod), reason)).collect();
        Ok(Self { said, by_name: OnceLock::new() })
    }
}

/// Reasons of nodes: what is said of nodes of which nothing has changed is shared by the rounds that say it; the map by
/// name is drawn up when it is first looked at.
#[derive(Clone, Default)]
pub struct NodeVerdicts {
    settled: Option<Arc<BTreeMap<NodeName, Reason>>>,
    /// Goes before what is settled; `None` hides it.
    said: BTreeMap<NodeName, Option<Reason>>,
    by_name: OnceLock<BTreeMap<NodeName, Reason>>,
}

impl NodeVerdicts {
    /// Says one thing of a node, in the place of what was said before.
    pub fn insert(&mut self, node: NodeName, reason: Reason) {
        self.by_name.take();
        self.said.insert(node, Some(reason));
    }

    /// Says what is settled of many nodes, in the place of what was said of them before, but for those that `but` names:
    /// they keep what was said of them, if anything was.
    pub fn settle<'n>(
        &mut self,
        settled: Arc<BTreeMap<NodeName, Reason>>,
        but: impl IntoIterator<Item = &'n NodeName>,
    ) {
        self.by_name.take();
        let mut kept: Vec<(NodeName, Option<Reason>)> = Vec::new();
        for node in but.into_iter().filter(|node| settled.contains_key(*node)) {
            kept.push((node.clone(), self.said.remove(node).flatten()));
        }
        self.said.retain(|node, _| !settled.contains_key(node));
        self.said.extend(kept);
        self.settled = Some(settled);
    }
}

impl Deref for NodeVerdicts {
    type Target = BTreeMap<NodeName, Reason>;

    fn deref(&self) -> &Self::Target {
        self.by_name.get_or_init(|| {
            let mut all = self.settled.as_ref().map_or_else(BTreeMap::new, |settled| (**settled).clone());
            for (node, reason) in &self.said {
                match reason {
                    Some(reason) => all.insert(node.clone(), reason.clone()),
                    None => all.remove(node),
                };
            }
            all
        })
    }
}

impl<'v> IntoIterator for &'v NodeVerdicts {
    type Item = (&'v NodeName, &'v Reason);
    type IntoIter = btree_map::Iter<'v, NodeName, Reason>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for NodeVerdicts {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for NodeVerdicts {}

impl fmt::Debug for NodeVerdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Serialize for NodeVerdicts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NodeVerdicts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: BTreeMap<NodeName, Reason> = BTreeMap::deserialize(deserializer)?;
        let said = map.into_iter().map(|(node, reason)| (node, Some(reason))).collect();
        Ok(Self { said, ..Self::default() })
    }
}
