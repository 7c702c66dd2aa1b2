//! What doctor looks at, gathered from a cluster by reading and asking only.
//!
//! Owns the questions. Whatever cannot be read is noted and the rest goes on: a doctor with few rights still says what
//! it sees.

use crate::permissions::{PERMISSIONS, Permission, Place, Scope};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// Objects of one page, and pages read of one kind at most.
const PAGE: u32 = 500;
const MOST_PAGES: usize = 400;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the service account may do one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub what: String,
    pub allowed: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub version: (u32, u32),
    /// The server's clock minus ours.
    pub skew_seconds: Option<i64>,
    /// Whose rights were asked for.
    pub subject: String,
    pub access: Vec<Access>,
    pub deployments: Vec<Deployment>,
    pub pods: Vec<Pod>,
    pub budgets: Vec<PodDisruptionBudget>,
    pub machine_deployments: Vec<DynamicObject>,
    /// Target and scaler: `deployment default/web`, `HPA web`.
    pub scalers: Vec<(String, String)>,
    /// What could not be read, and why.
    pub unread: Vec<(String, String)>,
}

/// Looks at a cluster for an installation of this scope in this namespace. `now` is our clock's.
pub async fn gather(
    client: &Client,
    namespace: &str,
    scope: &Scope,
    now: impl Fn() -> Timestamp,
) -> Result<Facts, kube::Error> {
    let mut facts =
        Facts { subject: format!("system:serviceaccount:{namespace}:tideline"), ..Facts::default() };
    (facts.version, facts.skew_seconds) = version_and_clock(client, now).await?;
    facts.access = access(client, &facts.subject, namespace, scope, &mut facts.unread).await;
    let unread = &mut facts.unread;
    facts.deployments = list(Api::all(client.clone()), "deployments", unread).await;
    facts.pods = list(Api::all(client.clone()), "pods", unread).await;
    facts.budgets = list(Api::all(client.clone()), "disruption budgets", unread).await;
    let machines = kind("cluster.x-k8s.io", "v1beta1", "MachineDeployment", "machinedeployments");
    facts.machine_deployments =
        list(Api::all_with(client.clone(), &machines), "machine deployments", unread).await;
    let scalers = [
        ("HPA", kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")),
        (
            "IHPA",
            kind(
                "autoscaling.kapacitystack.io",
                "v1alpha1",
                "IntelligentHorizontalPodAutoscaler",
                "intelligenthorizontalpodautoscalers",
            ),
        ),
    ];
    for (short, resource) in scalers {
        let objects: Vec<DynamicObject> =
            list(Api::all_with(client.clone(), &resource), &resource.plural, unread).await;
        facts.scalers.extend(objects.iter().filter_map(|object| target(short, object)));
    }
    Ok(facts)
}

fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn target(short: &str, object: &DynamicObject) -> Option<(String, String)> {
    let reference = object.data.pointer("/spec/scaleTargetRef")?;
    let field = |name: &str| reference.get(name)?.as_str();
    let namespace = object.namespace().unwrap_or_default();
    let target = format!("{} {namespace}/{}", field("kind")?.to_lowercase(), field("name")?);
    Some((target, format!("{short} {}", object.name_any())))
}

/// Asks for the version by hand, because the answer's head also says what time it is.
async fn version_and_clock(
    client: &Client,
    now: impl Fn() -> Timestamp,
) -> Result<((u32, u32), Option<i64>), kube::Error> {
    let version = client.apiserver_version().await?;
    let digits =
        |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok();
    let mut skew = None;
    if let Some(request) = request
        && let Ok(answer) = client.send(request).await
        && let Some(date) = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok())
        && let Ok(theirs) = jiff::fmt::rfc2822::parse(date)
    {
        skew = Some(theirs.timestamp().duration_since(now()).as_secs());
    }
    Ok(((digits(&version.major), digits(&version.minor)), skew))
}

async fn access(
    client: &Client,
    subject: &str,
    namespace: &str,
    scope: &Scope,
    unread: &mut Vec<(String, String)>,
) -> Vec<Access> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut answers = Vec::new();
    for permission in PERMISSIONS.iter().filter(|row| scope.includes(row)) {
        for question in questions(permission, namespace) {
            let what = sentence(&question);
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(subject.to_owned()),
                    groups: Some(vec!["system:serviceaccounts".into(), "system:authenticated".into()]),
                    resource_attributes: Some(question),
                    ..Default::default()
                },
                ..Default::default()
            };
            match bounded(reviews.create(&PostParams::default(), &review)).await {
                Ok(answer) => {
                    let allowed = answer.status.is_some_and(|status| status.allowed);
                    answers.push(Access { what, allowed });
                }
                Err(error) => {
                    // One refusal is all of them.
                    unread.push((format!("the rights of {subject}"), error));
                    return Vec::new();
                }
            }
        }
    }
    answers
}

/// A row as single questions, one for each resource, verb and name.
fn questions(permission: &Permission, namespace: &str) -> Vec<ResourceAttributes> {
    let mut all = Vec::new();
    let names: Vec<Option<String>> = match permission.names {
        [] => vec![None],
        names => names.iter().map(|name| Some((*name).to_owned())).collect(),
    };
    for resource in permission.resources {
        let (resource, subresource) =
            resource.split_once('/').map_or((*resource, None), |(a, b)| (a, Some(b)));
        for verb in permission.verbs {
            for name in &names {
                all.push(ResourceAttributes {
                    group: Some(permission.group.to_owned()),
                    resource: Some(resource.to_owned()),
                    subresource: subresource.map(str::to_owned),
                    verb: Some((*verb).to_owned()),
                    name: name.clone(),
                    namespace: (permission.place == Place::OwnNamespace).then(|| namespace.to_owned()),
                    ..Default::default()
                });
            }
        }
    }
    all
}

fn sentence(question: &ResourceAttributes) -> String {
    let part = |text: &Option<String>, before: &str| {
        text.as_ref()
            .filter(|text| !text.is_empty())
            .map_or_else(String::new, |text| format!("{before}{text}"))
    };
    format!(
        "{} {}{}{}{}{}",
        question.verb.as_deref().unwrap_or_default(),
        question.resource.as_deref().unwrap_or_default(),
        part(&question.subresource, "/"),
        part(&question.group, "."),
        part(&question.name, " "),
        part(&question.namespace, " in ")
    )
}

async fn list<K>(api: Api<K>, what: &str, unread: &mut Vec<(String, String)>) -> Vec<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    for _ in 0..MOST_PAGES {
        match bounded(api.list(&params)).await {
            Ok(page) => {
                found.extend(page.items);
                params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if params.continue_token.is_none() {
                    return found;
                }
            }
            // A kind that is not installed has no objects.
            Err(why) if why.starts_with("404") => return found,
            Err(why) => {
                unread.push((what.to_owned(), why));
                return found;
            }
        }
    }
    unread.push((what.to_owned(), format!("more than {} of them", PAGE as usize * MOST_PAGES)));
    found
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => {
            Err(format!("{} {}: {}", status.code, status.reason, status.message))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}
