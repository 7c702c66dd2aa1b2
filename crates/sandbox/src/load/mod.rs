//! What running pods use, by a model: requests reach pods, and a request costs CPU. Served as `metrics.k8s.io/v1beta1`.
//!
//! Annotations are the knob (see `docs/sandbox.md`): a rate on a Service or workload, a cost on pods. The rate is
//! shared evenly by the pods that are ready, so that a pod taken out of its Service goes quiet. The embedded API serves
//! it from its store; [`serve`] does so beside a real control plane, as an aggregated API.

mod page;
mod rate;
mod server;
mod usage;

pub(crate) use page::Counters;
pub use server::{LoadServerError, serve};

use crate::api::{ApiBody, Call, Selector, Target, render, reply};
use crate::store::resource::{
    DEPLOYMENTS, INGRESSES, NODE_METRICS, NODES, PODS, REPLICA_SETS, SERVICES, STATEFUL_SETS,
};
use crate::store::{ApiError, Object, ResourceName, Store};
use http::Response;
use serde_json::json;
use std::sync::Arc;

/// API group of the resource metrics.
pub const GROUP: &str = "metrics.k8s.io";
/// Kinds that a rate may be written on.
const LOADED: [ResourceName; 4] = [SERVICES, DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS];

/// The objects that an answer is computed from.
#[derive(Default)]
struct Picture {
    nodes: Vec<Arc<Object>>,
    pods: Vec<Arc<Object>>,
    loaded: Vec<Arc<Object>>,
    ingresses: Vec<Arc<Object>>,
}

/// Answers from the embedded cluster's own objects.
pub(crate) fn handle(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let of = |resource| match target.in_namespace() {
        Some(namespace) => store.list_in(resource, namespace),
        None => store.list(resource),
    };
    let mut picture = Picture { pods: of(PODS), ..Picture::default() };
    if target.info.name == NODE_METRICS {
        picture.nodes = store.list(NODES);
    }
    picture.loaded = LOADED.into_iter().flat_map(of).collect();
    answer(store, call, target, &picture)
}

/// The page for Prometheus from the embedded cluster's own objects.
pub(crate) fn page(store: &Store, counters: &Counters) -> Result<Response<ApiBody>, ApiError> {
    let picture = Picture {
        pods: store.list(PODS),
        loaded: LOADED.into_iter().flat_map(|resource| store.list(resource)).collect(),
        ingresses: store.list(INGRESSES),
        ..Picture::default()
    };
    Ok(reply::text(counters.page(&picture, store.clock().now())?))
}

fn answer(
    store: &Store,
    call: &Call,
    target: &Target,
    picture: &Picture,
) -> Result<Response<ApiBody>, ApiError> {
    if call.method != http::Method::GET || call.query.flag("watch") {
        return Err(ApiError::MethodNotAllowed);
    }
    let query = &call.query;
    let selector =
        Selector::parse(target.info.name, query.text("labelSelector"), query.text("fieldSelector"))?;
    let now = store.clock().now();
    let mut objects = if target.info.name == NODE_METRICS {
        usage::of_nodes(picture, now)?
    } else {
        usage::of_pods(picture, now)?
    };
    let Some(name) = &target.name else {
        objects.retain(|object| selector.matches(object));
        let meta = json!({"resourceVersion": store.revision().to_string()});
        return Ok(render(store, call, target, &objects, &meta));
    };
    let found = objects.iter().find(|object| object.name() == name);
    let found = found.ok_or_else(|| ApiError::not_found(target.info.name, name))?;
    Ok(reply::bytes(200, reply::JSON, call.view.object(target, found, now)))
}
