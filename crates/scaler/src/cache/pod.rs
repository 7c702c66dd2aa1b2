//! A pod as far as scaling goes.
//!
//! Owns reading it: its state, its gate, what it asks for, and the mark that has it deleted first.

use super::{Key, Owner};
use crate::shared::Shared;
use api::kapacity::{ONLINE, POD_STATE};
use intake::slim;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::Labels;
use std::sync::Arc;
use workloads::reactive::{ContainerRequest, PodView, Readiness};
use workloads::{Phase, Pod, PodState};

/// Which pods a ReplicaSet's controller deletes first: lower goes before higher.
pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The cost that marks pods which are to go. The lowest that Kubernetes takes.
pub(crate) const MARK: &str = "-2147483648";
/// What the cost was before we set it; empty where there was none.
pub(crate) const OWN_COST: &str = "tideline.dev/deletion-cost-before";

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct PodRecord {
    pub(crate) key: Key,
    pub(crate) uid: Arc<str>,
    pub(crate) version: u64,
    /// Keys and values, each ended by a zero: they are looked at seldom, and maps of them would be most of a record.
    labels: Box<str>,
    pub(crate) owner: Option<Owner>,
    pub(crate) deleting: bool,
    /// Succeeded or failed.
    pub(crate) ended: bool,
    failed: bool,
    pub(crate) phase: Phase,
    pub(crate) node: Option<Arc<str>>,
    readiness: Option<Readiness>,
    started: Option<Timestamp>,
    created: Timestamp,
    restarts: u32,
    pub(crate) state: PodState,
    pub(crate) serving: Option<bool>,
    pub(crate) gated: bool,
    cost: i32,
    pub(crate) marked: bool,
    /// The user's own deletion cost, to be put back.
    pub(crate) own_cost: Option<Arc<str>>,
    requests: Box<[ContainerRequest]>,
}

impl PodRecord {
    pub(crate) fn read(pod: &slim::Pod, key: Key, shared: &mut Shared) -> Self {
        let metadata = &pod.metadata;
        let condition =
            |kind: &str| pod.status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
        let readiness = condition("Ready").map(|ready| Readiness {
            ready: ready.status == "True",
            since: ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        });
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
        let (marked, own_cost) = match annotation(OWN_COST) {
            Some(before) => (annotation(DELETION_COST).is_some_and(|cost| cost == MARK), Some(before)),
            None => (false, annotation(DELETION_COST)),
        };
        let own_cost = own_cost.filter(|cost| !cost.is_empty());
        let phase = pod.status.phase.as_deref();
        let restarts = pod
            .status
            .container_statuses
            .iter()
            .flatten()
            .map(|container| container.restart_count)
            .sum::<i32>();
        Self {
            key,
            uid: Arc::from(metadata.uid.as_deref().unwrap_or_default()),
            version: metadata
                .resource_version
                .as_deref()
                .and_then(|text| text.parse().ok())
                .unwrap_or(u64::MAX),
            labels: packed(metadata),
            owner: Owner::of(metadata).map(|owner| owner.kept_in(shared)),
            deleting: metadata.deletion_timestamp.is_some(),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            failed: phase == Some("Failed"),
            phase: match phase {
                Some("Running") => Phase::Running,
                Some("Unknown") => Phase::Unknown,
                _ => Phase::Pending,
            },
            node: pod.spec.node_name.as_deref().map(|name| shared.text(name)),
            readiness,
            started: pod.status.start_time.as_ref().map(|time| time.0),
            created: metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            restarts: u32::try_from(restarts).unwrap_or(0),
            state: state(metadata),
            serving: condition(ONLINE).map(|online| online.status == "True"),
            gated: pod.spec.readiness_gates.iter().flatten().any(|gate| gate.condition_type == ONLINE),
            cost: own_cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
            marked,
            own_cost: own_cost.map(|cost| Arc::from(cost.as_str())),
            requests: requests(&pod.spec, shared),
        }
    }

    pub(crate) fn labels(&self) -> Labels {
        let mut texts = self.labels.split_terminator('\0').map(Arc::from);
        std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect()
    }

    /// Whether it exists for scaling: neither ended nor on its way out.
    pub(crate) fn is_active(&self) -> bool {
        !self.ended && !self.deleting
    }

    /// Something of ours keeps it out of traffic, or would have it deleted first.
    pub(crate) fn is_touched(&self) -> bool {
        self.state != PodState::Online || self.serving == Some(false) || self.marked
    }

    /// As the choice of pods sees it. Where pods go by their numbers no mark is needed, and it counts as there.
    pub(crate) fn to_pod(&self, by_number: bool) -> Pod {
        let ready = self.readiness.filter(|readiness| readiness.ready);
        Pod {
            name: self.key.name.clone(),
            phase: self.phase,
            node: self.node.clone(),
            ready: ready.is_some(),
            ready_since: ready.map(|readiness| readiness.since),
            restarts: self.restarts,
            created: self.created,
            state: self.state,
            serving: self.serving,
            gated: self.gated,
            cost: self.cost,
            marked: if by_number { self.state != PodState::Online } else { self.marked },
        }
    }

    /// As the HPA's algorithm sees it.
    pub(crate) fn to_view(&self) -> PodView {
        PodView {
            name: self.key.name.clone(),
            deleted: self.deleting,
            failed: self.failed,
            pending: self.phase == Phase::Pending && !self.ended,
            running: self.phase == Phase::Running,
            started: self.started,
            readiness: self.readiness,
            requests: self.requests.to_vec(),
        }
    }
}

/// The state that a label says; a text that nobody knows is online.
fn state(metadata: &ObjectMeta) -> PodState {
    match metadata.labels.as_ref().and_then(|labels| labels.get(POD_STATE)).map(String::as_str) {
        Some("Cutoff") => PodState::Cutoff,
        Some("Standby") => PodState::Standby,
        _ => PodState::Online,
    }
}

/// Labels as one text; none of theirs holds a zero.
fn packed(metadata: &ObjectMeta) -> Box<str> {
    let mut text = String::new();
    for part in metadata.labels.iter().flatten().flat_map(|(key, value)| [key, value]) {
        text.push_str(part);
        text.push('\0');
    }
    text.into_boxed_str()
}

fn requests(spec: &slim::PodSpec, shared: &mut Shared) -> Box<[ContainerRequest]> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let asked = |container: &slim::Container, resource: &str| {
        let quantity = container.resources.as_ref()?.requests.as_ref()?.get(resource)?;
        intake::quantity::milli(&quantity.0).ok().and_then(|milli| i64::try_from(milli).ok())
    };
    spec.containers
        .iter()
        .chain(sidecars)
        .map(|container| ContainerRequest {
            name: shared.text(&container.name),
            cpu: asked(container, "cpu"),
            memory: asked(container, "memory"),
        })
        .collect()
}
