//! What a case works in: a client, a namespace of its own, and the requests that cases are written with.
//!
//! Owns paths and the sending of requests. Leaves what answers must be to the cases.

use crate::answer::Answer;
use crate::stream::WatchStream;
use futures::stream::StreamExt as _;
use http::{Request, header};
use http_body_util::BodyExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::client::Body;
use kube::{Api, Client, Resource};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
const JSON: &str = "application/json";
/// Longest wait for something that a controller does.
const PATIENCE: Duration = Duration::from_secs(20);

/// The surroundings of one case.
#[derive(Clone)]
pub struct World {
    pub client: Client,
    /// A namespace that exists and that no other case uses.
    pub ns: String,
    /// A name that no other case uses, for cluster-scoped objects.
    pub unique: String,
    /// A resourceVersion so old that the server has forgotten what followed it.
    pub forgotten: String,
}

impl World {
    /// Path of a core resource in the case's namespace: `pods/a/status`.
    pub(crate) fn core(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.ns)
    }

    /// Path of a resource of a group in the case's namespace: `apps/v1`, `deployments/a`.
    pub(crate) fn group(&self, group_version: &str, rest: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{rest}", self.ns)
    }

    pub(crate) fn apps(&self, rest: &str) -> String {
        self.group("apps/v1", rest)
    }

    /// A typed client for the case's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.ns)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[(header::CONTENT_TYPE, JSON)], body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[(header::CONTENT_TYPE, JSON)], body).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, body: Value) -> Answer {
        self.send("PATCH", path, &[(header::CONTENT_TYPE, kind)], &body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], &Value::Null).await
    }

    /// Deletes with `DeleteOptions`.
    pub(crate) async fn delete_with(&self, path: &str, mut options: Value) -> Answer {
        options["kind"] = json!("DeleteOptions");
        options["apiVersion"] = json!("v1");
        self.send("DELETE", path, &[(header::CONTENT_TYPE, JSON)], &options).await
    }

    /// Asks for a Table, as kubectl does.
    pub(crate) async fn table(&self, path: &str) -> Answer {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        self.send("GET", path, &[(header::ACCEPT, accept)], &Value::Null).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: &Value,
    ) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let asked = format!("{method} {path}");
        let response = self.client.send(request.body(Body::from(bytes)).unwrap()).await;
        let (parts, body) = response.unwrap_or_else(|error| panic!("{asked}: {error}")).into_parts();
        let bytes = body.collect().await.unwrap_or_else(|error| panic!("{asked}: {error}")).to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { asked, code: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Opens a watch; `query` holds what follows `watch=true&`.
    pub(crate) async fn watch(&self, path: &str, query: &str) -> WatchStream {
        let uri = format!("{path}?watch=true&{query}");
        let request = Request::get(&uri).body(Body::empty()).unwrap();
        let asked = format!("GET {uri}");
        let response = self.client.send(request).await.unwrap_or_else(|error| panic!("{asked}: {error}"));
        let (parts, body) = response.into_parts();
        if parts.status.as_u16() != 200 {
            let bytes = body.collect().await.unwrap().to_bytes();
            panic!("{asked}: {} {}", parts.status, String::from_utf8_lossy(&bytes));
        }
        let chunks =
            body.into_data_stream().map(|chunk| chunk.map_err(|error| kube::Error::Service(error.into())));
        WatchStream::new(asked, chunks.boxed())
    }

    /// Reads an object until it is as wanted; for what controllers do.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{path} is still {}: {}",
                answer.code,
                answer.body
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The resourceVersion of an object or a list.
pub(crate) fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_else(|| panic!("no resourceVersion in {object}"))
        .to_owned()
}

pub(crate) fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_else(|| panic!("no uid in {object}")).to_owned()
}

pub(crate) fn generation(object: &Value) -> i64 {
    object["metadata"]["generation"].as_i64().unwrap_or_else(|| panic!("no generation in {object}"))
}

/// The names in a list, in its order.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no items in {list}"));
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}
