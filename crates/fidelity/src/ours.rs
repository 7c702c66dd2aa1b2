//! What our rules say of a pod in a situation, in the words of the real scheduler's condition.

use crate::error::Error;
use crate::extender::PASSES;
use crate::generate::NAMESPACES;
use crate::plane::text;
use crate::situation::Situation;
use intake::{files, slim};
use model::{Change, Cluster, Input, InputState, Labels, NodeName, PoolRejection};
use packing::{ClusterVolumes, FailedScheduling, Room, SpotIx, Vocabulary};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Our answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) passed: BTreeSet<String>,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Judges a pod by crate `packing`; `None` where it says itself that a rule is not modelled.
pub(crate) fn judge(situation: &Situation, pod: &Value) -> Result<Option<Judged>, Error> {
    let asked = read_pod(pod)?;
    if asked.gated {
        return Ok(Some(Judged {
            passed: BTreeSet::new(),
            reason: "SchedulingGated".to_owned(),
            message: "Scheduling is blocked due to non-empty scheduling gates".to_owned(),
        }));
    }
    let cluster = cluster(situation, &asked)?;
    if cluster.pods().values().any(|pod| !pod.shape.unmodelled.is_empty()) {
        return Ok(None);
    }
    // As the cluster knows it, with what its claims ask for.
    let asked = cluster.pods().get(&asked.key).map_or(asked.clone(), |known| (**known).clone());
    let mut room = room(situation, &cluster);
    let class = room.class(&asked.shape, &asked.key.namespace, &asked.labels);
    let mut passed = BTreeSet::new();
    let mut message = FailedScheduling::of(&asked.shape);
    for spot in (0..room.len()).map(SpotIx) {
        let name = room.node(spot).name.clone();
        let rejection = room.rejection(class, spot);
        // Packing asks in another way than the one that gives reasons; both must say the same.
        if (room.capacity(class, spot, 1) == 1) != rejection.is_none() {
            message.refused_because(&name, ["packing contradicts itself".to_owned()]);
            continue;
        }
        match rejection {
            None => {
                message.refused_because(&name, [PASSES.to_owned()]);
                passed.insert(name.as_str().to_owned());
            }
            // Releases up to 1.35 name the taint, as we do, since it helps; later ones do not.
            Some(PoolRejection::UntoleratedTaint { .. }) => {
                message.refused_because(&name, ["node(s) had untolerated taint(s)".to_owned()]);
            }
            Some(rejection) => message.refused_by(&name, &rejection),
        }
    }
    Ok(Some(Judged { passed, reason: "Unschedulable".to_owned(), message: message.to_string() }))
}

/// The situation in the model, with pods and nodes joined to their volumes.
fn cluster(situation: &Situation, asked: &model::Pod) -> Result<Cluster, Error> {
    let mut cluster = Cluster::default();
    for input in [Input::Volumes, Input::Attachments, Input::Devices] {
        cluster.apply(Change::Input(input, InputState::Fresh));
    }
    for object in &situation.storage {
        let what = || format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"));
        let read = files::Object { origin: what(), value: object.clone() };
        let change = intake::storage_change(&read);
        let change = change.map_err(|error| Error::Intake { what: what(), why: error.to_string() })?;
        if let Some(change) = change {
            cluster.apply(Change::Storage(change));
        }
    }
    for node in &situation.nodes {
        let node = read_node(node)?;
        cluster.apply(Change::Node(node.name.clone(), Some(Arc::new(node))));
    }
    for pod in situation.pods.iter().map(read_pod).chain([Ok(asked.clone())]) {
        let pod = pod?;
        cluster.apply(Change::Pod(pod.key.clone(), Some(Arc::new(pod))));
    }
    Ok(cluster)
}

fn room(situation: &Situation, cluster: &Cluster) -> Room {
    let vocabulary = Vocabulary::of(cluster.pods().values().map(|pod| &*pod.shape));
    let mut room = Room::new(vocabulary, &namespaces()).with_volumes(ClusterVolumes::of(cluster));
    let mut spots = BTreeMap::new();
    for name in situation.node_names() {
        if let Some(node) = cluster.nodes().get(&NodeName::new(&name)) {
            spots.insert(node.name.clone(), room.add(Arc::clone(node)));
        }
    }
    for pod in cluster.pods().values() {
        let Some(spot) = pod.node.as_ref().and_then(|node| spots.get(node)) else { continue };
        let class = if pod.deletion_at.is_some() {
            room.terminating_class(&pod.shape, &pod.key.namespace, &pod.labels)
        } else {
            room.class(&pod.shape, &pod.key.namespace, &pod.labels)
        };
        room.hold(class, *spot, 1);
    }
    room
}

/// The namespaces that every cluster has, as the API server labels them.
fn namespaces() -> BTreeMap<Arc<str>, Arc<Labels>> {
    NAMESPACES
        .iter()
        .map(|(name, labels)| {
            let own = ("kubernetes.io/metadata.name", *name);
            let labels = labels.iter().copied().chain([own]);
            let labels: Labels = labels.map(|(key, value)| (key.into(), value.into())).collect();
            (Arc::from(*name), Arc::new(labels))
        })
        .collect()
}

fn read_pod(pod: &Value) -> Result<model::Pod, Error> {
    let what = || format!("pod {}", text(pod, "/metadata/name"));
    let slim: slim::Pod = serde_json::from_value(pod.clone())
        .map_err(|error| Error::Intake { what: what(), why: error.to_string() })?;
    intake::pod(&slim).map_err(|error| Error::Intake { what: what(), why: error.to_string() })
}

fn read_node(node: &Value) -> Result<model::Node, Error> {
    let what = || format!("node {}", text(node, "/metadata/name"));
    let slim: slim::Node = serde_json::from_value(node.clone())
        .map_err(|error| Error::Intake { what: what(), why: error.to_string() })?;
    intake::node(&slim).map_err(|error| Error::Intake { what: what(), why: error.to_string() })
}
