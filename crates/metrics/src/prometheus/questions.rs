//! What is asked of Prometheus for a query: PromQL, and how the answer is to be labelled.
//!
//! Owns that translation, which is the one of Kapacity; it asks nothing itself but the names behind a selector.

use super::answer::RawLabels;
use super::listing::{Listing, OfRule};
use super::promql::Matchers;
use super::rule::{ResourceRule, Rule, Rules};
use crate::sample::{Latest, Omission, Point};
use crate::selector::selector_text;
use crate::{GroupKind, Metric, MetricsError, Objects, Query, Resource, Workload};
use jiff::SignedDuration;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use model::Labels;
use std::sync::Arc;

/// Names in one query; more are asked for in several.
const NAMES_A_QUERY: usize = 500;
/// Objects that a selector may stand for.
const MOST_SELECTED: u32 = 10_000;

/// What to ask, and what to make of the answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) promql: Vec<String>,
    pub(super) window: Option<SignedDuration>,
    /// A resource's use, which cannot be under zero.
    use_of_resource: bool,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// As Prometheus labels it.
    AsIs,
    /// One value a named object: its label becomes `name`, beside the namespace.
    Named { label: String, name: &'static str, namespace: Option<Arc<str>>, names: Vec<Arc<str>> },
    /// One value for all: only the namespace is told.
    Whole { namespace: Arc<str> },
}

impl Question {
    pub(super) fn labelled(&self, raw: RawLabels) -> Labels {
        let namespace = |namespace: &Arc<str>| (Arc::from("namespace"), namespace.clone());
        match &self.shape {
            Shape::AsIs => raw,
            Shape::Named { label, name, namespace: of, .. } => {
                let value = raw.get(label.as_str()).cloned().unwrap_or_default();
                let named = (Arc::from(*name), value);
                of.iter().map(namespace).chain([named]).collect()
            }
            Shape::Whole { namespace: of } => [namespace(of)].into(),
        }
    }

    pub(super) fn sane(&self, point: Point) -> Point {
        if self.use_of_resource { Point { value: point.value.max(0.0), ..point } } else { point }
    }

    /// Says which of the named objects have no value.
    pub(super) fn note_absent(&self, latest: &mut Latest) {
        let Shape::Named { names, name, .. } = &self.shape else { return };
        let has: std::collections::BTreeSet<_> =
            latest.samples.iter().filter_map(|sample| sample.labels.get(*name)).cloned().collect();
        let absent = names.iter().filter(|name| !has.contains(*name));
        let omission = |name: &Arc<str>| Omission { what: name.clone(), why: "has no value".into() };
        latest.omitted.extend(absent.map(omission));
    }
}

pub(super) fn needs_listing(query: &Query) -> bool {
    matches!(query, Query::Object { .. } | Query::External { .. } | Query::WorkloadExternal { .. })
}

/// The names that a query is about; none where it is about no objects.
pub(super) async fn names(cluster: &Client, query: &Query) -> Result<Vec<Arc<str>>, MetricsError> {
    let pod = GroupKind { group: Arc::from(""), kind: Arc::from("Pod") };
    let (objects, namespace, kind) = match query {
        Query::PodResource { namespace, pods, .. } | Query::ContainerResource { namespace, pods, .. } => {
            (pods, Some(namespace), &pod)
        }
        Query::Object { kind, namespace, objects, .. } => (objects, namespace.as_ref(), kind),
        _ => return Ok(Vec::new()),
    };
    let selector = match objects {
        Objects::Named(names) => return Ok(names.clone()),
        Objects::Selected(selector) => selector_text(selector),
    };
    let failed = |why: String| MetricsError::Unreachable { query: query.to_string().into(), why: why.into() };
    let found = selected(cluster, kind, namespace, &selector).await.map_err(failed)?;
    if found.is_empty() {
        let why = format!("no {} matches the selector \"{selector}\"", kind.kind);
        return Err(MetricsError::Missing { query: query.to_string().into(), why: why.into() });
    }
    Ok(found)
}

async fn selected(
    cluster: &Client,
    kind: &GroupKind,
    namespace: Option<&Arc<str>>,
    selector: &str,
) -> Result<Vec<Arc<str>>, String> {
    let failed =
        |error: kube::Error| format!("could not list the {}s that the selector names: {error}", kind.kind);
    // The core group lists one version; most selectors are of pods.
    let resource = if kind.group.is_empty() {
        Some(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", &kind.kind)))
    } else {
        let served = kube::discovery::group(cluster, &kind.group).await.map_err(failed)?;
        served.recommended_kind(&kind.kind).map(|(resource, _)| resource)
    };
    let resource =
        resource.ok_or_else(|| format!("the cluster does not know {} of {}", kind.kind, kind.group))?;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(cluster.clone(), namespace, &resource),
        None => Api::all_with(cluster.clone(), &resource),
    };
    let list = api.list_metadata(&ListParams::default().labels(selector).limit(MOST_SELECTED)).await;
    let list = list.map_err(failed)?;
    if list.metadata.continue_.is_some_and(|more| !more.is_empty()) {
        return Err(format!("the selector names more than {MOST_SELECTED} objects; narrow it"));
    }
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name.map(Arc::from)).collect())
}

/// Translates a query. `names` are those of its objects.
pub(super) fn question(
    rules: &Rules,
    listing: &Listing,
    query: &Query,
    names: &[Arc<str>],
) -> Result<Question, MetricsError> {
    let told = |problem: Problem| problem.of(query);
    match query {
        Query::PodResource { namespace, resource, .. } => {
            of_pods(rules, *resource, namespace, names, None).map_err(told)
        }
        Query::ContainerResource { namespace, resource, container, .. } => {
            of_pods(rules, *resource, namespace, names, Some(container)).map_err(told)
        }
        Query::WorkloadResource { workload, resource, ready_pods_only } => {
            of_workload(rules, *resource, workload, None, *ready_pods_only).map_err(told)
        }
        Query::WorkloadContainerResource { workload, resource, container, ready_pods_only } => {
            of_workload(rules, *resource, workload, Some(container), *ready_pods_only).map_err(told)
        }
        Query::Object { kind, namespace, metric, .. } => {
            of_objects(rules, listing, kind, namespace.as_ref(), names, metric).map_err(told)
        }
        Query::External { namespace, metric } => {
            external(rules, listing, namespace.as_ref(), metric, None).map_err(told)
        }
        Query::WorkloadExternal { workload, metric } => {
            let pods = rules.pod_names(workload).map_err(|why| told(Problem::Invalid(why)))?;
            external(rules, listing, Some(&workload.namespace), metric, Some(&pods)).map_err(told)
        }
    }
}

/// Why a query has no translation.
enum Problem {
    Invalid(String),
    Unknown(String),
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self::Invalid(why)
    }
}

impl Problem {
    fn of(self, query: &Query) -> MetricsError {
        let query = Arc::from(query.to_string());
        match self {
            Self::Invalid(why) => MetricsError::Invalid { query, why: why.into() },
            Self::Unknown(why) => MetricsError::Unknown { query, why: why.into() },
        }
    }
}

fn rule_of(rules: &Rules, resource: Resource) -> &ResourceRule {
    match resource {
        Resource::Cpu => &rules.cpu,
        Resource::Memory => &rules.memory,
    }
}

fn of_pods(
    rules: &Rules,
    resource: Resource,
    namespace: &Arc<str>,
    names: &[Arc<str>],
    container: Option<&Arc<str>>,
) -> Result<Question, Problem> {
    let rule = rule_of(rules, resource);
    let (pod, in_namespace) = (rule.labels.pod()?, rule.labels.namespace()?);
    let mut promql = Vec::new();
    for names in names.chunks(NAMES_A_QUERY) {
        let mut matchers = Matchers::default();
        if let Some(container) = container {
            matchers.one_of(&rule.container_label, std::slice::from_ref(container));
        }
        matchers.one_of(&in_namespace, std::slice::from_ref(namespace));
        matchers.one_of(&pod, names);
        promql.push(rule.promql(&matchers, &pod, false)?);
    }
    let namespace = Some(namespace.clone());
    let shape = Shape::Named { label: pod, name: "pod", namespace, names: names.to_vec() };
    Ok(Question { promql, window: Some(rules.window), use_of_resource: true, shape })
}

fn of_workload(
    rules: &Rules,
    resource: Resource,
    workload: &Workload,
    container: Option<&Arc<str>>,
    ready_pods_only: bool,
) -> Result<Question, Problem> {
    let rule = rule_of(rules, resource);
    let (pod, in_namespace) = (rule.labels.pod()?, rule.labels.namespace()?);
    let mut matchers = Matchers::default();
    matchers.pattern(&pod, &rules.pod_names(workload)?);
    if let Some(container) = container {
        matchers.one_of(&rule.container_label, std::slice::from_ref(container));
    }
    matchers.one_of(&in_namespace, std::slice::from_ref(&workload.namespace));
    let promql = vec![rule.promql(&matchers, &in_namespace, ready_pods_only)?];
    let shape = Shape::Whole { namespace: workload.namespace.clone() };
    Ok(Question { promql, window: Some(rules.window), use_of_resource: true, shape })
}

fn of_objects(
    rules: &Rules,
    listing: &Listing,
    kind: &GroupKind,
    namespace: Option<&Arc<str>>,
    names: &[Arc<str>],
    metric: &Metric,
) -> Result<Question, Problem> {
    let mut unfit = None;
    for (rule, of) in rules.objects.iter().zip(&listing.objects) {
        let label = match rule.labels.of(kind) {
            Ok(label) => label,
            Err(why) => {
                unfit = of.find(&metric.name, &[]).map(|_| why).or(unfit);
                continue;
            }
        };
        let namespace = namespace.filter(|_| rule.labels.namespaced);
        let in_namespace = namespace.map(|_| rule.labels.namespace()).transpose()?;
        let needed: Vec<&str> = [&label].into_iter().chain(&in_namespace).map(String::as_str).collect();
        let Some(found) = of.find(&metric.name, &needed) else {
            if of.find(&metric.name, &[]).is_some() {
                unfit =
                    Some(format!("{}: its series lack one of the labels {}", rule.field, needed.join(", ")));
            }
            continue;
        };
        let mut promql = Vec::new();
        for names in names.chunks(NAMES_A_QUERY) {
            let mut matchers = Matchers::default();
            matchers.selected(&metric.selector)?;
            if let Some((label, namespace)) = in_namespace.as_ref().zip(namespace) {
                matchers.one_of(label, std::slice::from_ref(namespace));
            }
            matchers.one_of(&label, names);
            promql.push(rule.promql(&found.series, &matchers, &label));
        }
        let name = if &*kind.kind == "Pod" { "pod" } else { "name" };
        let shape = Shape::Named { label, name, namespace: namespace.cloned(), names: names.to_vec() };
        return Ok(Question { promql, window: None, use_of_resource: false, shape });
    }
    Err(unknown("rules", &rules.objects, &listing.objects, unfit))
}

fn external(
    rules: &Rules,
    listing: &Listing,
    namespace: Option<&Arc<str>>,
    metric: &Metric,
    pods: Option<&str>,
) -> Result<Question, Problem> {
    for (rule, of) in rules.external.iter().zip(&listing.external) {
        let Some(found) = of.find(&metric.name, &[]) else { continue };
        let mut matchers = Matchers::default();
        if let Some(pods) = pods {
            // A rule for external metrics need not name the label of pods.
            matchers.pattern(&rule.labels.pod().unwrap_or_else(|_| "pod".to_owned()), pods);
        }
        matchers.selected(&metric.selector)?;
        if let Some(namespace) = namespace.filter(|_| rule.labels.namespaced) {
            matchers.one_of(&rule.labels.namespace()?, std::slice::from_ref(namespace));
        }
        let promql = vec![rule.promql(&found.series, &matchers, "")];
        return Ok(Question { promql, window: None, use_of_resource: false, shape: Shape::AsIs });
    }
    Err(unknown("externalRules", &rules.external, &listing.external, None))
}

/// No rule yields the metric: why not, as far as it is known.
fn unknown(field: &str, rules: &[Rule], listing: &[OfRule], unfit: Option<String>) -> Problem {
    if let Some(why) = unfit {
        return Problem::Unknown(why);
    }
    let failed = rules.iter().zip(listing).find_map(|(rule, of)| {
        of.failure.as_ref().map(|failure| format!("; {} could not be listed: {failure}", rule.field))
    });
    Problem::Unknown(format!(
        "no such metric: none of {field} in the metrics configuration yields it{}",
        failed.unwrap_or_else(|| "; add a rule, or see whether Prometheus has its series".to_owned())
    ))
}
