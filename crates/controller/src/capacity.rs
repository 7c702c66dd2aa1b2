//! Headroom that objects ask for: `CapacityBuffer`s and `ProvisioningRequest`s, joined with the pods that they are for.
//!
//! Owns what no single object says: how many pods of what kind a buffer comes to, and what is wrong where it comes to
//! none. Requests are `requests`'. Keeping the room is decided in `nodes`; what an object's status says is `status`'
//! and `outcome`'s.

mod outcome;
mod requests;
mod status;

pub(crate) use outcome::RequestStatuses;
pub(crate) use requests::{Requests, Terms};
pub(crate) use status::{BufferStatuses, StatusWrite};

use intake::{Buffer, BufferOf, IntakeError, PodKind};
use kube::Client;
use kube::core::{ApiResource, Object};
use model::{Change, Headroom, WorkloadKey};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects that are followed; more are left alone, the last by name.
const MOST_BUFFERS: usize = 1000;

/// Namespace and name.
pub(crate) type Name = (Arc<str>, Arc<str>);

type Pods = Result<Arc<PodKind>, IntakeError>;

/// News of one object; `None` where it is gone.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Buffer(Name, Option<Box<Object<Value, Value>>>),
    Request(Name, Option<Box<Object<Value, Value>>>),
    Template(Name, Option<Pods>),
    Workload(WorkloadKey, Option<Pods>),
}

/// What a buffer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) generation: i64,
    pub(crate) strategy: Option<String>,
    /// The `PodTemplate` that is followed, if it is one, and its generation.
    pub(crate) template: Option<(Arc<str>, i64)>,
    /// How many pods, or what is wrong.
    pub(crate) count: Result<u32, Arc<str>>,
}

struct Known {
    read: Result<Buffer, IntakeError>,
    generation: i64,
    /// The status as it was last seen.
    status: Value,
    resolved: Option<Resolved>,
}

/// The version of buffers that the server has; ours where it has none yet.
pub(crate) async fn served_buffers(client: &Client) -> ApiResource {
    served(client, ApiResource::erase::<api::capacity::CapacityBuffer>(&()), "v1alpha1").await
}

/// The version of requests that the server has; ours where it has none yet.
pub(crate) async fn served_requests(client: &Client) -> ApiResource {
    served(client, ApiResource::erase::<api::capacity::ProvisioningRequest>(&()), "v1beta1").await
}

async fn served(client: &Client, newest: ApiResource, older: &str) -> ApiResource {
    let Ok(groups) = client.list_api_groups().await else { return newest };
    let group = groups.groups.into_iter().find(|group| group.name == api::capacity::GROUP);
    let versions: Vec<String> =
        group.into_iter().flat_map(|group| group.versions).map(|known| known.version).collect();
    // Kinds of this group have versions of their own: one that the group has need not be this kind's.
    let has = async |version: &str| {
        let list = client.list_api_group_resources(&format!("{}/{version}", newest.group)).await;
        list.is_ok_and(|list| list.resources.iter().any(|resource| resource.name == newest.plural))
    };
    if !versions.iter().any(|version| version == older) || has(&newest.version).await {
        return newest;
    }
    let older = older.to_owned();
    let api_version = format!("{}/{older}", newest.group);
    if has(&older).await { ApiResource { version: older, api_version, ..newest } } else { newest }
}

/// Everything that was heard of headroom.
#[derive(Default)]
pub(crate) struct Capacity {
    buffers: BTreeMap<WorkloadKey, Known>,
    templates: BTreeMap<Name, Pods>,
    workloads: BTreeMap<WorkloadKey, Pods>,
    /// The version of buffers that is served; `None` where they are not followed.
    resource: Option<ApiResource>,
    /// Whether room is to be kept, and not only said how much it would be.
    injects: bool,
    requests: Requests,
}

impl Capacity {
    pub(crate) fn new(resource: Option<ApiResource>, injects: bool, requests: Requests) -> Self {
        Self { resource, injects, requests, ..Self::default() }
    }

    /// Takes news in, and answers what follows from it.
    pub(crate) fn hear(&mut self, told: Told) -> Vec<Change> {
        match told {
            Told::Buffer((namespace, name), None) => {
                let key = intake::buffer_key(&namespace, &name);
                self.buffers.remove(&key);
                return vec![Change::Headroom(key, None)];
            }
            Told::Buffer((namespace, name), Some(object)) => {
                let key = intake::buffer_key(&namespace, &name);
                if self.buffers.len() >= MOST_BUFFERS && !self.buffers.contains_key(&key) {
                    return Vec::new();
                }
                let known = Known {
                    read: intake::buffer(&object.metadata, &object.spec),
                    generation: object.metadata.generation.unwrap_or(0),
                    status: object.status.unwrap_or_default(),
                    resolved: None,
                };
                self.buffers.insert(key.clone(), known);
                return self.resolve(&key).into_iter().collect();
            }
            Told::Request(name, object) => return vec![self.requests.hear(&name, object, &self.templates)],
            Told::Template(name, pods) => {
                if !put(&mut self.templates, name, pods) {
                    return Vec::new();
                }
                let mut changes = self.requests.read_again(&self.templates);
                changes.extend(self.resolve_all());
                return changes;
            }
            Told::Workload(key, pods) => {
                if !put(&mut self.workloads, key, pods) {
                    return Vec::new();
                }
            }
        }
        self.resolve_all()
    }

    fn resolve_all(&mut self) -> Vec<Change> {
        let keys: Vec<WorkloadKey> = self.buffers.keys().cloned().collect();
        keys.iter().filter_map(|key| self.resolve(key)).collect()
    }

    /// Buffers with what each comes to, and the status that each has.
    fn resolved(&self) -> impl Iterator<Item = (&WorkloadKey, &Resolved, &Value)> {
        self.buffers.iter().filter_map(|(key, known)| Some((key, known.resolved.as_ref()?, &known.status)))
    }

    /// Works out what a buffer comes to; the change, where it is another than before.
    fn resolve(&mut self, key: &WorkloadKey) -> Option<Change> {
        let known = self.buffers.get(key)?;
        let (resolved, headroom) = self.work_out(known);
        let changed = known.resolved.as_ref() != Some(&resolved);
        let headroom = headroom.filter(|_| self.injects).map(Arc::new);
        self.buffers.get_mut(key)?.resolved = Some(resolved);
        // The pods may be others and as many as before: whether that is news, the cluster knows.
        (changed || headroom.is_some()).then(|| Change::Headroom(key.clone(), headroom))
    }

    fn work_out(&self, known: &Known) -> (Resolved, Option<Headroom>) {
        let refused = |why: &dyn ToString| Resolved {
            generation: known.generation,
            strategy: None,
            template: None,
            count: Err(Arc::from(why.to_string())),
        };
        let buffer = match &known.read {
            Ok(buffer) => buffer,
            Err(error) => return (refused(error), None),
        };
        let (pods, what) = match &buffer.of {
            BufferOf::Template(name) => {
                let name = (Arc::clone(&buffer.key.namespace), Arc::clone(name));
                (self.templates.get(&name), format!("PodTemplate {}", name.1))
            }
            BufferOf::Workload(key) => (self.workloads.get(key), format!("{} {}", key.kind, key.name)),
        };
        let pods = match pods {
            Some(Ok(pods)) => pods,
            Some(Err(error)) => return (refused(&format!("{what}: {error}")), None),
            None => {
                let why = format!("there is no {what} in namespace {}; create it", buffer.key.namespace);
                return (refused(&why), None);
            }
        };
        let template = match &buffer.of {
            BufferOf::Template(name) => Some((Arc::clone(name), pods.generation)),
            BufferOf::Workload(_) => None,
        };
        let count = buffer.count(pods).map_err(|error| Arc::from(error.to_string()));
        let headroom = count.as_ref().ok().filter(|count| **count > 0);
        let headroom = headroom.map(|count| buffer.headroom(pods, *count));
        let strategy = Some(buffer.strategy.clone());
        (Resolved { generation: known.generation, strategy, template, count }, headroom)
    }
}

/// Whether a map says something else than before.
fn put<K: Ord>(map: &mut BTreeMap<K, Pods>, key: K, pods: Option<Pods>) -> bool {
    match pods {
        Some(pods) => {
            let same = map.get(&key) == Some(&pods);
            map.insert(key, pods);
            !same
        }
        None => map.remove(&key).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn name(text: &str) -> Name {
        (Arc::from("d"), Arc::from(text))
    }

    pub(super) fn buffer(spec: &Value) -> Told {
        let object = json!({
            "apiVersion": "autoscaling.x-k8s.io/v1beta1", "kind": "CapacityBuffer",
            "metadata": {"name": "b", "namespace": "d", "generation": 1}, "spec": spec,
        });
        Told::Buffer(name("b"), Some(Box::new(serde_json::from_value(object).unwrap())))
    }

    #[expect(clippy::unnecessary_wraps, reason = "as news are told")]
    pub(super) fn pods(cpu: &str, replicas: Option<i32>) -> Option<Pods> {
        let template =
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}});
        Some(intake::pod_kind(&serde_json::from_value(template).unwrap(), replicas, Some(1)).map(Arc::new))
    }

    fn counts(changes: &[Change]) -> Vec<Option<(u32, u64)>> {
        let of = |change: &Change| match change {
            Change::Headroom(_, headroom) => {
                headroom.as_ref().map(|headroom| (headroom.count(), headroom.parts[0].shape.requests.cpu.0))
            }
            _ => None,
        };
        changes.iter().map(of).collect()
    }

    #[test]
    fn a_buffer_follows_what_it_names() {
        let mut all = Capacity::new(None, true, Requests::default());
        let spec = json!({"podTemplateRef": {"name": "t"}, "replicas": 3});
        assert_eq!(counts(&all.hear(buffer(&spec))), [None], "there is no template yet");
        assert!(all.resolved().next().unwrap().1.count.as_ref().unwrap_err().contains("create it"));
        assert_eq!(counts(&all.hear(Told::Template(name("t"), pods("500m", None)))), [Some((3, 500))]);
        assert!(all.hear(Told::Template(name("t"), pods("500m", None))).is_empty());
        assert_eq!(counts(&all.hear(Told::Template(name("t"), pods("250m", None)))), [Some((3, 250))]);
        assert_eq!(counts(&all.hear(Told::Template(name("t"), None))), [None]);

        let spec =
            json!({"scalableRef": {"apiGroup": "apps", "kind": "Deployment", "name": "w"}, "percentage": 50});
        all.hear(buffer(&spec));
        let key = WorkloadKey::new("Deployment", "d", "w");
        assert_eq!(counts(&all.hear(Told::Workload(key.clone(), pods("1", Some(4))))), [Some((2, 1000))]);
        assert_eq!(counts(&all.hear(Told::Workload(key, pods("1", Some(0))))), [None]);
        assert_eq!(all.resolved().next().unwrap().1.count, Ok(0));
        assert_eq!(counts(&all.hear(Told::Buffer(name("b"), None))), [None]);
        assert!(all.resolved().next().is_none());
    }

    #[test]
    fn without_injection_it_is_only_said_how_much_it_would_be() {
        let mut all = Capacity::new(None, false, Requests::default());
        all.hear(Told::Template(name("t"), pods("500m", None)));
        assert_eq!(
            counts(&all.hear(buffer(&json!({"podTemplateRef": {"name": "t"}, "replicas": 3})))),
            [None]
        );
        assert_eq!(all.resolved().next().unwrap().1.count, Ok(3));
    }
}
