//! The real scheduler's extender: hears which nodes pass all of its filters, and keeps questions from being bound.
//!
//! kube-scheduler asks an extender after its own filters, with the nodes that are left. For a pod that is a question
//! all are refused with [`PASSES`] as the reason, so that nothing is bound and the message counts them too; any other
//! pod is let through. An extender is asked for the victims of a preemption as well; questions never preempt.

use crate::error::Error;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The annotation that makes a pod a question.
pub(crate) const QUESTION: &str = "fidelity.tideline.dev/question";
/// Why a question is refused by a node that all filters let it on.
pub(crate) const PASSES: &str = "node(s) passed every filter";

/// What the scheduler asked, by the pod's UID. Emptied with each cluster.
type Heard = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// The extender, until dropped.
#[derive(Debug)]
pub(crate) struct Extender {
    heard: Heard,
    url: String,
    _serving: JoinSet<()>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterArgs {
    pod: Pod,
    #[serde(default)]
    node_names: Vec<String>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct FilterResult {
    node_names: Vec<String>,
    failed_and_unresolvable_nodes: BTreeMap<String, &'static str>,
}

impl Extender {
    pub(crate) async fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::Listen)?;
        let url = format!("http://{}", listener.local_addr().map_err(Error::Listen)?);
        let heard = Heard::default();
        let router = Router::new()
            .route("/filter", post(filter))
            .route("/preempt", post(preempt))
            .with_state(Arc::clone(&heard));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { heard, url, _serving: serving })
    }

    /// What kube-scheduler's configuration needs so that it asks this extender.
    pub(crate) fn scheduler_settings(&self) -> Map<String, Value> {
        let extender = json!({
            "urlPrefix": self.url,
            "filterVerb": "filter",
            "preemptVerb": "preempt",
            "nodeCacheCapable": true,
            "httpTimeout": "30s",
        });
        Map::from_iter([("extenders".to_owned(), json!([extender]))])
    }

    /// The nodes that passed every filter when the scheduler first looked at a pod.
    pub(crate) fn passed(&self, uid: &str) -> BTreeSet<String> {
        lock(&self.heard).get(uid).cloned().unwrap_or_default()
    }

    pub(crate) fn forget(&self) {
        lock(&self.heard).clear();
    }
}

fn lock(heard: &Heard) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn filter(State(heard): State<Heard>, Json(asked): Json<FilterArgs>) -> Json<FilterResult> {
    let metadata = asked.pod.metadata;
    // The first look counts: a later one may follow a change that was not asked about.
    lock(&heard).entry(metadata.uid).or_insert_with(|| asked.node_names.iter().cloned().collect());
    Json(if metadata.annotations.contains_key(QUESTION) {
        let refused = asked.node_names.into_iter().map(|name| (name, PASSES)).collect();
        FilterResult { node_names: Vec::new(), failed_and_unresolvable_nodes: refused }
    } else {
        FilterResult { node_names: asked.node_names, failed_and_unresolvable_nodes: BTreeMap::new() }
    })
}

async fn preempt() -> Json<Value> {
    Json(json!({"NodeNameToMetaVictims": {}}))
}
