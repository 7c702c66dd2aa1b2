//! The Kubernetes resource metrics API (`metrics.k8s.io`): what pods use now.
//!
//! Owns reading pod metrics and sharing one list among the queries that come close together, so that thousands of
//! workloads cost a few lists a minute. It knows the present only; history is other sources' business.

mod elements;
mod reading;

use crate::fetch::{Ask, Server};
use crate::sample::{Latest, Omission, Point, Sample};
use crate::selector::selector_text;
use crate::{MetricSource, MetricsError, Objects, Query, Range, Resource, Series};
use calls::{CallLimits, Failure, FailureKind};
use clock::Clock;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use model::Labels;
use reading::{Answer, PodUsage, Snapshot};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A list of 50,000 pods takes some 25 MB.
const LARGEST_ANSWER: usize = 128 << 20;
/// Namespaces whose lists are kept; with as many in use, one list of the whole cluster is cheaper.
const MOST_LISTS: usize = 8;
/// How long the whole cluster's list is not asked for after it was refused.
const REFUSED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// How the API is asked.
#[derive(Clone, Copy, Debug)]
pub struct ResourceApiSettings {
    /// How long a list answers further queries: shorter than the time between two looks of anyone. Servers measure
    /// every 15 s or more seldom.
    pub shared_for: SignedDuration,
    /// Values older than this are not used.
    pub stale_after: SignedDuration,
    pub calls: CallLimits,
}

impl Default for ResourceApiSettings {
    fn default() -> Self {
        Self {
            shared_for: SignedDuration::from_secs(4),
            stale_after: SignedDuration::from_mins(5),
            calls: CallLimits { per_second: 20, rest: Duration::from_secs(10), ..CallLimits::default() },
        }
    }
}

/// The API of one cluster.
pub struct ResourceApi {
    server: Server,
    clock: Clock,
    settings: ResourceApiSettings,
    lists: Mutex<Lists>,
}

/// A namespace's list, or the whole cluster's.
type Scope = Option<Arc<str>>;
/// Whoever holds the lock asks; the others wait for the answer instead of asking too.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

#[derive(Default)]
struct Lists {
    /// With the time of last use.
    slots: BTreeMap<Scope, (Timestamp, Slot)>,
    cluster_refused: Option<Timestamp>,
}

struct Kept {
    at: Timestamp,
    list: Result<Arc<Snapshot>, Failure>,
}

impl ResourceApi {
    pub fn new(client: Client, clock: Clock, settings: ResourceApiSettings) -> Self {
        let server = Server::new(client, settings.calls, LARGEST_ANSWER);
        Self { server, clock, settings, lists: Mutex::default() }
    }

    async fn answer(&self, query: &Query) -> Result<Latest, MetricsError> {
        let (namespace, pods, resource, container) = match query {
            Query::PodResource { namespace, pods, resource } => (namespace, pods, *resource, None),
            Query::ContainerResource { namespace, pods, resource, container } => {
                (namespace, pods, *resource, Some(container))
            }
            _ => return Err(self.unsupported(query, "it knows CPU and memory of pods and containers only")),
        };
        let failed = |failure: Failure| unreachable(query, namespace, &failure);
        let picking = Picking { query, namespace, resource, container, settings: &self.settings };
        match pods {
            Objects::Named(names) => {
                let list = self.shared(namespace).await.map_err(failed)?;
                let of = list.namespace(namespace);
                picking
                    .pick(names.iter().map(|name| (name, of.and_then(|of| of.get(name)))), self.clock.now())
            }
            Objects::Selected(selector) => {
                let text = selector_text(selector);
                let list = self.list(Some(namespace), &text).await.map_err(failed)?;
                let of = list.namespace(namespace).into_iter().flatten();
                picking.pick(of.map(|(name, usage)| (name, Some(usage))), self.clock.now())
            }
        }
    }

    fn unsupported(&self, query: &Query, why: &str) -> MetricsError {
        MetricsError::Unsupported {
            query: Arc::from(query.to_string()),
            source_name: self.name(),
            why: Arc::from(format!("{why}; set --prometheus-address for others")),
        }
    }

    /// A list that is young enough, asked for once however many wait for it.
    async fn shared(&self, namespace: &Arc<str>) -> Result<Arc<Snapshot>, Failure> {
        let (scope, slot) = self.slot(namespace);
        let mut kept = slot.lock().await;
        let now = self.clock.now();
        let young = |kept: &&Kept| now.duration_since(kept.at) < self.settings.shared_for;
        if let Some(kept) = kept.as_ref().filter(young) {
            return kept.list.clone();
        }
        // The list that is replaced is let go first: two of a large cluster would be one too many.
        *kept = None;
        let list = self.list(scope.as_ref(), "").await.map(Arc::new);
        if scope.is_none() && list.as_ref().is_err_and(|failure| failure.kind == FailureKind::Denied) {
            self.lists().cluster_refused = Some(now);
            drop(kept);
            return self.list(Some(namespace), "").await.map(Arc::new);
        }
        *kept = Some(Kept { at: self.clock.now(), list: list.clone() });
        list
    }

    /// The list to ask for a namespace's pods.
    fn slot(&self, namespace: &Arc<str>) -> (Scope, Slot) {
        let now = self.clock.now();
        let mut lists = self.lists();
        let keep = self.settings.shared_for * 12;
        lists.slots.retain(|_, (used, _)| now.duration_since(*used) < keep);
        let refused = lists.cluster_refused.is_some_and(|at| now.duration_since(at) < REFUSED_FOR);
        let mut scope = Some(namespace.clone());
        if refused {
            lists.slots.remove(&None);
        } else if lists.slots.contains_key(&None)
            || !lists.slots.contains_key(&scope) && lists.slots.len() >= MOST_LISTS
        {
            // From here on the cluster's list serves all, until nobody has asked for a while.
            scope = None;
            lists.slots.retain(|scope, _| scope.is_none());
        }
        let slot = lists.slots.entry(scope.clone()).or_default();
        slot.0 = now;
        (scope, slot.1.clone())
    }

    async fn list(&self, namespace: Option<&Arc<str>>, selector: &str) -> Result<Snapshot, Failure> {
        let mut path = match namespace {
            Some(namespace) => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"),
            None => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
        };
        if !selector.is_empty() {
            path = format!("{path}?{}", crate::fetch::form(&[("labelSelector", selector)]));
        }
        self.server.read_parts::<Answer>(&Ask { path, form: None }).await?.whole()
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        // A poisoned lock means that a task died between plain assignments: the values are still whole.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSource for ResourceApi {
    fn name(&self) -> &'static str {
        "the resource metrics API"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        Box::pin(self.answer(query))
    }

    fn history<'a>(
        &'a self,
        query: &'a Query,
        _range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        Box::pin(async move { Err(self.unsupported(query, "it keeps no history")) })
    }
}

fn unreachable(query: &Query, namespace: &str, failure: &Failure) -> MetricsError {
    let fix = match failure.kind {
        FailureKind::Missing => "; is metrics-server installed?".to_owned(),
        FailureKind::Denied => {
            format!("; allow \"list\" of pods in API group metrics.k8s.io, namespace {namespace}")
        }
        _ => String::new(),
    };
    MetricsError::Unreachable {
        query: Arc::from(query.to_string()),
        why: Arc::from(format!("the resource metrics API: {failure}{fix}")),
    }
}

/// Picks one value out of each pod's use.
struct Picking<'a> {
    query: &'a Query,
    namespace: &'a Arc<str>,
    resource: Resource,
    container: Option<&'a Arc<str>>,
    settings: &'a ResourceApiSettings,
}

impl Picking<'_> {
    fn pick<'u>(
        &self,
        pods: impl Iterator<Item = (&'u Arc<str>, Option<&'u PodUsage>)>,
        now: Timestamp,
    ) -> Result<Latest, MetricsError> {
        let (mut latest, mut youngest) = (Latest::default(), None::<SignedDuration>);
        for (name, usage) in pods {
            let omit = |why: String| Omission { what: name.clone(), why: Arc::from(why) };
            let Some(usage) = usage else {
                latest.omitted.push(omit("has no metrics".to_owned()));
                continue;
            };
            let Some(value) = self.value(usage) else {
                latest.omitted.push(omit(self.lacking()));
                continue;
            };
            let age = now.duration_since(usage.at);
            if age > self.settings.stale_after {
                youngest = Some(youngest.map_or(age, |youngest| youngest.min(age)));
                latest.omitted.push(omit(format!("has a newest value that is {} s old", age.as_secs())));
                continue;
            }
            let labels: Labels =
                [("namespace", self.namespace), ("pod", name)].map(|(k, v)| (Arc::from(k), v.clone())).into();
            let point = Point { at: usage.at, value };
            latest.samples.push(Sample { labels, point, window: usage.window });
        }
        latest.samples.sort_by(|a, b| a.labels.cmp(&b.labels));
        if latest.samples.is_empty() { Err(self.nothing(&latest.omitted, youngest)) } else { Ok(latest) }
    }

    /// All containers together, or the one asked for; `None` where any of them has no value.
    fn value(&self, usage: &PodUsage) -> Option<f64> {
        let of = |container: &reading::ContainerUsage| match self.resource {
            Resource::Cpu => container.cpu_cores,
            Resource::Memory => container.memory_bytes,
        };
        match self.container {
            Some(name) => of(usage.containers.iter().find(|container| container.name == *name)?),
            None if usage.containers.is_empty() => None,
            None => usage.containers.iter().map(of).sum(),
        }
    }

    fn lacking(&self) -> String {
        match self.container {
            Some(name) => format!("has no value of {} for container {name}", self.resource.name()),
            None => format!("has a container without a value of {}", self.resource.name()),
        }
    }

    fn nothing(&self, omitted: &[Omission], youngest: Option<SignedDuration>) -> MetricsError {
        let query = Arc::from(self.query.to_string());
        if let Some(age) = youngest {
            let limit = self.settings.stale_after;
            return MetricsError::Stale { query, age, limit, fix: Arc::from("is metrics-server well?") };
        }
        let why = match omitted {
            [] => "no pods have metrics".to_owned(),
            [one] => format!("{} {}", one.what, one.why),
            [first, rest @ ..] => format!("{} {}, and {} more pods", first.what, first.why, rest.len()),
        };
        MetricsError::Missing { query, why: Arc::from(why) }
    }
}
