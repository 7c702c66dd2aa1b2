//! The resource metrics API beside a real control plane: an aggregated server on loopback.
//!
//! Owns its registration (an `APIService`, and a Service that names the loopback address) and its certificate. Test
//! equipment: whoever reaches the port is answered.

use super::{Counters, GROUP, LOADED, Picture, answer};
use crate::api::{Api, ApiBody, Call, Route, refusal, reply, route};
use crate::store::resource::{INGRESSES, NODE_METRICS, NODES, PODS};
use crate::store::{ApiError, Object, ResourceName, Store, StoreOptions};
use base64::Engine as _;
use clock::Clock;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

const SERVICE: &str = "simulated-metrics-server";
const NAMESPACE: &str = "kube-system";
const MANAGER: &str = "simulated-metrics-server";

/// Why the metrics of the load model are not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadServerError {
    #[error("the listener has no address: {0}")]
    Listener(std::io::Error),
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] tls::TlsError),
    #[error("cannot register {what}: {source}")]
    Register { what: &'static str, source: kube::Error },
}

/// A server whose objects are those of the cluster behind a client.
#[derive(Clone)]
struct LoadServer {
    /// Paths, discovery and forms of answers; its store stays empty.
    api: Api,
    client: Client,
    counters: Arc<Counters>,
}

/// Registers the API with the cluster and serves it until the listener fails or the future is dropped.
pub async fn serve(client: Client, clock: Clock, listener: TcpListener) -> Result<(), LoadServerError> {
    let address = listener.local_addr().map_err(LoadServerError::Listener)?;
    let issued = tls::issue(&[format!("{SERVICE}.{NAMESPACE}.svc")], clock.now())?;
    let settings = tls::server_config(
        SERVICE,
        issued.certificate_pem.as_bytes(),
        issued.key_pem.as_bytes(),
        &["http/1.1"],
    )?;
    let (held, settings) = watch::channel(settings);
    let mut connections = tls::incoming(listener, settings);
    register(&client, address, &issued.authority_pem).await?;
    let api = Api::new(Store::new(clock, &StoreOptions::default()));
    let server = LoadServer { api, client, counters: Arc::default() };
    while let Some(Ok(stream)) = connections.next().await {
        let server = server.clone();
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), server).await {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
    drop(held);
    Ok(())
}

async fn register(client: &Client, address: SocketAddr, authority: &str) -> Result<(), LoadServerError> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": address.ip().to_string()},
    });
    let registration = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1beta1.{GROUP}")},
        "spec": {
            "group": GROUP, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": address.port()},
            "caBundle": base64::engine::general_purpose::STANDARD.encode(authority),
        },
    });
    let resource = |group: &str, kind: &str, plural: &str| {
        let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    };
    let how = PatchParams::apply(MANAGER).force();
    let services = resource("", "Service", "services");
    let services: kube::Api<DynamicObject> = kube::Api::namespaced_with(client.clone(), NAMESPACE, &services);
    let registrations = resource("apiregistration.k8s.io", "APIService", "apiservices");
    let registrations: kube::Api<DynamicObject> = kube::Api::all_with(client.clone(), &registrations);
    let failed = |what| move |source| LoadServerError::Register { what, source };
    services.patch(SERVICE, &how, &Patch::Apply(&service)).await.map_err(failed("its Service"))?;
    let name = format!("v1beta1.{GROUP}");
    registrations.patch(&name, &how, &Patch::Apply(&registration)).await.map_err(failed("its APIService"))?;
    Ok(())
}

impl LoadServer {
    async fn respond(self, request: Request<Incoming>) -> Response<ApiBody> {
        let answered = match Api::read(request).await {
            Ok((call, path)) => self.answer(&call, &path).await,
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| refusal(&error))
    }

    async fn answer(&self, call: &Call, path: &str) -> Result<Response<ApiBody>, ApiError> {
        match route::parse(self.api.store(), path)? {
            Route::Resource(target) if target.group == GROUP => {
                let wants_nodes = target.info.name == NODE_METRICS;
                let picture = self.picture(target.in_namespace(), wants_nodes).await?;
                answer(self.api.store(), call, &target, &picture)
            }
            Route::Metrics => {
                let mut picture = self.picture(None, false).await?;
                picture.ingresses = self.list(INGRESSES, None).await?;
                let page = self.counters.page(&picture, self.api.store().clock().now())?;
                Ok(reply::text(page))
            }
            _ => self.api.handle(call, path),
        }
    }

    async fn picture(&self, namespace: Option<&str>, wants_nodes: bool) -> Result<Picture, ApiError> {
        let mut picture = Picture { pods: self.list(PODS, namespace).await?, ..Picture::default() };
        if wants_nodes {
            picture.nodes = self.list(NODES, None).await?;
        }
        for resource in LOADED {
            picture.loaded.extend(self.list(resource, namespace).await?);
        }
        Ok(picture)
    }

    async fn list(
        &self,
        resource: ResourceName,
        namespace: Option<&str>,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let root = if resource.group().is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}/v1", resource.group())
        };
        let scope = namespace.map_or_else(String::new, |namespace| format!("/namespaces/{namespace}"));
        let failed = |error: &dyn std::fmt::Display| ApiError::Unavailable {
            message: format!("cannot list {resource}: {error}"),
            retry_after_seconds: 1,
        };
        let request = Request::get(format!("{root}{scope}/{}", resource.plural()))
            .body(Vec::new())
            .map_err(|error| failed(&error))?;
        let list: Value = self.client.request(request).await.map_err(|error| failed(&error))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().map(|item| Arc::new(Object::new(resource, 0, item))).collect())
    }
}

impl Service<Request<Incoming>> for LoadServer {
    type Response = Response<ApiBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move { Ok(server.respond(request).await) })
    }
}
