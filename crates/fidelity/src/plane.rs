//! A real control plane that is asked where pods fit.
//!
//! Owns its start, the watch of its pods, and the questions: copies of a pod that the scheduler filters and never
//! binds. What is asked, and what our rules say to it, is the business of others.

use crate::error::Error;
use crate::extender::{Extender, QUESTION};
use crate::generate::{NAMESPACES, storage};
use crate::watched::{Seen, Watched};
use futures::future::{join_all, try_join_all};
use http::{Method, Request, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testbed::{ControlPlane, Options};

/// How often the scheduler is asked again whether it has heard of a change, and how long that may take.
const BARRIER_TRIES: usize = 200;

/// A control plane with our extender.
#[derive(Debug)]
pub(crate) struct Plane {
    // Dropped before the control plane that it watches.
    watched: Watched,
    client: ClientHolder,
    extender: Extender,
    control: ControlPlane,
    /// Number of the next question: names are never used twice.
    next: u64,
}

/// `kube::Client` says nothing of itself in `Debug`.
struct ClientHolder(Client);

impl std::fmt::Debug for ClientHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// What the real scheduler says of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The pod as the API server made it, defaults included.
    pub(crate) pod: Value,
    /// Nodes that passed every filter.
    pub(crate) passed: BTreeSet<String>,
    /// The reason of its `PodScheduled` condition.
    pub(crate) reason: String,
    /// The message of that condition.
    pub(crate) message: String,
}

/// What became of a request to the API server: the object, or why it was refused as invalid.
pub(crate) type Created = Result<Value, String>;

impl Plane {
    pub(crate) async fn start() -> Result<Self, Error> {
        let extender = Extender::start().await?;
        let options = Options {
            audit: false,
            controllers: false,
            // What these would add or forbid is drawn at random, or would need controllers.
            apiserver_flags: vec![
                "--disable-admission-plugins=TaintNodesByCondition,Priority,RuntimeClass,\
                 StorageObjectInUseProtection"
                    .to_owned(),
                "--event-ttl=5m".to_owned(),
            ],
            scheduler_settings: extender.scheduler_settings(),
            ..Options::default()
        };
        let control = ControlPlane::start(options).await?;
        let client = control.client();
        let watched = Watched::start(client.clone());
        let mut plane = Self { watched, client: ClientHolder(client), extender, control, next: 0 };
        for (name, labels) in NAMESPACES {
            let labels: serde_json::Map<String, Value> =
                labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
            let namespace = json!({"metadata": {"name": name, "labels": labels}});
            plane.create("/api/v1/namespaces", &namespace).await?.map_err(refused(name))?;
        }
        plane.until_nodes(0).await?;
        Ok(plane)
    }

    /// Removes every pod and node, and waits until the scheduler has forgotten them.
    pub(crate) async fn clear(&mut self) -> Result<(), Error> {
        let all = json!({"gracePeriodSeconds": 0});
        for (namespace, _) in NAMESPACES {
            self.call(Method::DELETE, &format!("/api/v1/namespaces/{namespace}/pods"), &all).await?;
        }
        self.unprotect_claims().await?;
        for path in [
            "/api/v1/nodes",
            "/api/v1/namespaces/alpha/persistentvolumeclaims",
            "/api/v1/persistentvolumes",
            "/apis/storage.k8s.io/v1/storageclasses",
            "/apis/storage.k8s.io/v1/csinodes",
            "/apis/resource.k8s.io/v1/namespaces/alpha/resourceclaims",
            "/apis/resource.k8s.io/v1/resourceslices",
            "/apis/resource.k8s.io/v1/deviceclasses",
        ] {
            self.call(Method::DELETE, path, &json!({})).await?;
        }
        self.until_nodes(0).await?;
        self.extender.forget();
        self.watched.forget();
        Ok(())
    }

    /// Claims that were given devices are kept by a finalizer, which a controller would take off.
    async fn unprotect_claims(&self) -> Result<(), Error> {
        let path = "/apis/resource.k8s.io/v1/namespaces/alpha/resourceclaims";
        let claims = self.call(Method::GET, path, &Value::Null).await?;
        let claims = claims["items"].as_array().map_or(&[][..], Vec::as_slice);
        let kept = |claim: &&Value| claim.pointer("/metadata/finalizers").is_some();
        for claim in claims.iter().filter(kept) {
            let path = format!("{path}/{}", text(claim, "/metadata/name"));
            self.call(Method::PATCH, &path, &json!({"metadata": {"finalizers": null}})).await?;
        }
        Ok(())
    }

    /// Creates nodes and waits until the scheduler knows them. Gives them as the API server made them.
    pub(crate) async fn create_nodes(&mut self, nodes: &[Value]) -> Result<Vec<Value>, Error> {
        let mut created = Vec::new();
        for node in nodes {
            let name = text(node, "/metadata/name");
            created.push(self.create("/api/v1/nodes", node).await?.map_err(refused(&name))?);
        }
        self.until_nodes(nodes.len()).await?;
        Ok(created)
    }

    /// Creates classes, volumes, claims and CSI nodes. The scheduler hears of them a little later.
    pub(crate) async fn create_storage(&mut self, objects: &[Value]) -> Result<Vec<Value>, Error> {
        let mut created = Vec::new();
        for object in objects {
            let name = text(object, "/metadata/name");
            created.push(self.create(&storage::path(object), object).await?.map_err(refused(&name))?);
        }
        Ok(created)
    }

    /// What an object has become.
    pub(crate) async fn reread(&self, object: &Value) -> Result<Value, Error> {
        let path = format!("{}/{}", storage::path(object), text(object, "/metadata/name"));
        self.call(Method::GET, &path, &Value::Null).await
    }

    /// Asks until the scheduler counts so many nodes. What it heard of pods before is then known to it, too.
    async fn until_nodes(&mut self, count: usize) -> Result<(), Error> {
        let wanted = match count {
            0 => "no nodes available to schedule pods".to_owned(),
            n => format!("0/{n} nodes are available"),
        };
        let spec = json!({"containers": [{"name": "main", "image": "none"}]});
        let pod = json!({"metadata": {"namespace": "gamma"}, "spec": spec});
        let mut last = String::new();
        for _ in 0..BARRIER_TRIES {
            let answer = self.ask(std::slice::from_ref(&pod)).await?.pop();
            last = answer.and_then(Result::ok).map(|answer| answer.message).unwrap_or_default();
            if last.starts_with(&wanted) {
                return Ok(());
            }
        }
        Err(Error::Silence { what: format!("waiting for {wanted:?}"), seconds: 0, last })
    }

    /// Asks the scheduler about pods without binding them; each is gone afterwards. A pod that the API server finds
    /// invalid is refused in its words.
    pub(crate) async fn ask(&mut self, pods: &[Value]) -> Result<Vec<Result<Answer, String>>, Error> {
        let mut questions = Vec::new();
        for pod in pods {
            let mut pod = pod.clone();
            pod["metadata"]["name"] = json!(format!("question-{}", self.next));
            pod["metadata"]["annotations"][QUESTION] = json!("");
            self.next += 1;
            questions.push(pod);
        }
        let this = &*self;
        let answers = try_join_all(questions.iter().map(|question| this.ask_one(question))).await?;
        let gone = questions.iter().map(|question| this.delete_pod(question, 0));
        for outcome in join_all(gone).await {
            outcome?;
        }
        Ok(answers)
    }

    async fn ask_one(&self, question: &Value) -> Result<Result<Answer, String>, Error> {
        let pod = match self.create(&pods_of(question), question).await? {
            Ok(pod) => pod,
            Err(why) => return Ok(Err(why)),
        };
        let uid = text(&pod, "/metadata/uid");
        let seen = self.watched.wait(&uid, &text(&pod, "/metadata/name")).await?;
        let Seen::Refused { reason, message } = seen else {
            return Err(Error::BoundQuestion(text(&pod, "/metadata/name")));
        };
        Ok(Ok(Answer { passed: self.extender.passed(&uid), pod, reason, message }))
    }

    /// Creates a pod and waits until the scheduler has bound it or said why not.
    pub(crate) async fn schedule(&self, pod: &Value) -> Result<Result<(Value, Seen), String>, Error> {
        let pod = match self.create(&pods_of(pod), pod).await? {
            Ok(pod) => pod,
            Err(why) => return Ok(Err(why)),
        };
        let seen = self.watched.wait(&text(&pod, "/metadata/uid"), &text(&pod, "/metadata/name")).await?;
        Ok(Ok((pod, seen)))
    }

    /// Creates a pod that is bound already, if the API server takes it.
    pub(crate) async fn plant(&self, pod: &Value) -> Result<Created, Error> {
        self.create(&pods_of(pod), pod).await
    }

    /// Asks a bound pod to end; nobody ends it, so it stays. Gives the pod with its deletion timestamp.
    pub(crate) async fn terminate(&self, pod: &Value) -> Result<Value, Error> {
        let path = format!("{}/{}", pods_of(pod), text(pod, "/metadata/name"));
        self.call(Method::DELETE, &path, &json!({"gracePeriodSeconds": 3600})).await
    }

    /// Says of a bound pod that it has done its work.
    pub(crate) async fn complete(&self, pod: &Value) -> Result<(), Error> {
        let path = format!("{}/{}/status", pods_of(pod), text(pod, "/metadata/name"));
        self.call(Method::PATCH, &path, &json!({"status": {"phase": "Succeeded"}})).await.map(|_| ())
    }

    /// Says of every container of a bound pod what it actually has, as a kubelet that is behind with a resize does.
    pub(crate) async fn resize(&self, pod: &Value, actual: &Value) -> Result<Created, Error> {
        let status = |container: &Value| {
            json!({
                "name": container["name"], "image": "none", "imageID": "", "ready": false, "restartCount": 0,
                "allocatedResources": actual, "resources": {"requests": actual},
            })
        };
        let containers = pod["spec"]["containers"].as_array().map_or(&[][..], Vec::as_slice);
        let statuses: Vec<Value> = containers.iter().map(status).collect();
        let path = format!("{}/{}/status", pods_of(pod), text(pod, "/metadata/name"));
        self.call_valid(Method::PATCH, &path, &json!({"status": {"containerStatuses": statuses}})).await
    }

    /// Changes a node and gives it as it is then.
    pub(crate) async fn patch_node(&self, node: &Value, patch: &Value) -> Result<Value, Error> {
        let name = text(node, "/metadata/name");
        self.call(Method::PATCH, &format!("/api/v1/nodes/{name}"), patch).await
    }

    pub(crate) async fn delete_pod(&self, pod: &Value, grace_seconds: u32) -> Result<(), Error> {
        let path = format!("{}/{}", pods_of(pod), text(pod, "/metadata/name"));
        match self.call(Method::DELETE, &path, &json!({"gracePeriodSeconds": grace_seconds})).await {
            Err(Error::Kube { source, .. }) if status(&source) == Some(StatusCode::NOT_FOUND) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn create(&self, path: &str, object: &Value) -> Result<Created, Error> {
        self.call_valid(Method::POST, path, object).await
    }

    async fn call_valid(&self, method: Method, path: &str, object: &Value) -> Result<Created, Error> {
        match self.call(method, path, object).await {
            Ok(created) => Ok(Ok(created)),
            Err(Error::Kube { source, .. }) if status(&source) == Some(StatusCode::UNPROCESSABLE_ENTITY) => {
                Ok(Err(words(&source)))
            }
            Err(error) => Err(error),
        }
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value, Error> {
        let what = format!("{method} {path}");
        let content =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content)
            .body(body.to_string().into_bytes())
            .map_err(|error| Error::kube(what.clone())(kube::Error::HttpError(error)))?;
        self.client.0.request(request).await.map_err(Error::kube(what))
    }

    /// The ends of the components' logs, for a failing run to print.
    pub(crate) fn log_tails(&self) -> String {
        self.control.log_tails()
    }
}

fn status(error: &kube::Error) -> Option<StatusCode> {
    match error {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

fn refused(what: &str) -> impl FnOnce(String) -> Error {
    let what = what.to_owned();
    move |why| Error::Refused { what, why }
}

fn pods_of(pod: &Value) -> String {
    format!("/api/v1/namespaces/{}/pods", text(pod, "/metadata/namespace"))
}

/// A text of an object, empty where it has none.
pub(crate) fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}
