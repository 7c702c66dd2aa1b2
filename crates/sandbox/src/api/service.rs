//! The API as a tower service: takes a request apart, finds its handler, answers refusals with a `Status`.
//!
//! Owns verbs and the reading of bodies. Leaves each verb to its module.

use super::body::ApiBody;
use super::census::{CallShape, Census};
use super::query::Query;
use super::reply;
use super::route::{self, Route, Target};
use super::view::View;
use super::{discovery, list, openapi, protobuf, subresource, write};
use crate::load;
use crate::store::{ApiError, Store};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// Largest body taken, as in Kubernetes.
const LARGEST_BODY: usize = 3 * 1024 * 1024;

/// The API over one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    pub(super) store: Store,
    census: Arc<Mutex<Census>>,
    counters: Arc<load::Counters>,
}

/// One request as handlers see it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) query: Query,
    pub(crate) view: View,
    pub(crate) accept: String,
    pub(crate) content_type: String,
    pub(crate) actor: String,
    pub(crate) body: Bytes,
    /// Set by the fault layer: answer reads as of an earlier revision.
    pub(crate) stale: Option<StaleRead>,
}

/// A request extension that makes a list or get answer from an older state, as a lagging API server would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleRead {
    /// How many revisions to go back, as far as the change log reaches.
    pub revisions: u64,
}

impl Api {
    pub fn new(store: Store) -> Self {
        Self { store, census: Arc::default(), counters: Arc::default() }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The tower service: `http::Request<B> -> http::Response<ApiBody>` for any body, never an error.
    #[must_use]
    pub fn service(&self) -> Self {
        self.clone()
    }

    /// A client that talks to this API in process, without a socket.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// The kinds of calls made so far.
    pub fn census(&self) -> Census {
        self.census.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn respond<B>(self, request: Request<B>) -> Response<ApiBody>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answered = Self::read(request).await.and_then(|(call, path)| self.handle(&call, &path));
        answered.unwrap_or_else(|error| reply::refusal(&error))
    }

    /// A request as handlers see it, and its path.
    pub(crate) async fn read<B>(request: Request<B>) -> Result<(Call, String), ApiError>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let query = Query::parse(parts.uri.query().unwrap_or(""));
        let accept = header(header::ACCEPT);
        let agent = header(header::USER_AGENT);
        let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|error| {
            ApiError::BadRequest(format!(
                "the body cannot be read (at most {LARGEST_BODY} bytes are taken): {error}"
            ))
        })?;
        let call = Call {
            view: View::parse(&accept, query.text("includeObject")),
            query,
            accept,
            content_type: header(header::CONTENT_TYPE),
            actor: actor_of(&agent),
            body: body.to_bytes(),
            method: parts.method,
            stale: parts.extensions.get::<StaleRead>().copied(),
        };
        Ok((call, parts.uri.path().to_owned()))
    }

    pub(crate) fn handle(&self, call: &Call, path: &str) -> Result<Response<ApiBody>, ApiError> {
        if let Some(answer) = subresource::review(call, path) {
            return answer;
        }
        match route::parse(&self.store, path)? {
            Route::Resource(target) => {
                self.count(call, &target);
                self.resource(call, &target)
            }
            Route::Metrics => load::page(&self.store, &self.counters),
            Route::Health => Ok(reply::text("ok")),
            Route::Version => Ok(reply::json(200, &discovery::version())),
            Route::Root => Ok(reply::json(200, &discovery::root())),
            Route::Groups { core } => Ok(discovery::groups(&self.store, core, &call.accept)),
            Route::Group(group) => discovery::group(&self.store, &group),
            Route::GroupVersion { group, version } => discovery::resources(&self.store, &group, &version),
            Route::OpenApiRoot => Ok(reply::json(200, &openapi::root(&self.store))),
            Route::OpenApi { group, version } => openapi::document(&self.store, &group, &version),
        }
    }

    fn resource(&self, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
        let store = self.store.acting_as(&call.actor);
        if target.group == load::GROUP {
            return load::handle(&store, call, target);
        }
        if target.subresource.is_some() {
            return subresource::handle(&store, call, target);
        }
        match (call.method.as_str(), target.name.is_some()) {
            ("GET", true) if !call.query.flag("watch") => list::get(&store, call, target),
            ("GET", _) => list::list(&store, call, target),
            ("POST", false) => write::create(&store, call, target),
            ("PUT", true) => write::update(&store, call, target, crate::store::Part::Main),
            ("PATCH", true) => write::patch(&store, call, target, crate::store::Part::Main),
            ("DELETE", true) => write::delete(&store, call, target),
            ("DELETE", false) => write::delete_collection(&store, call, target),
            _ => Err(ApiError::MethodNotAllowed),
        }
    }

    fn count(&self, call: &Call, target: &Target) {
        let verb = match (call.method.as_str(), target.name.is_some()) {
            ("GET", _) if call.query.flag("watch") => "watch",
            ("GET", true) => "get",
            ("GET", false) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "delete",
            ("DELETE", false) => "deletecollection",
            _ => return,
        };
        let fields = call.query.text("fieldSelector").unwrap_or("");
        let fields: Vec<&str> =
            fields.split(',').filter_map(|t| t.split(['=', '!']).next()).filter(|t| !t.is_empty()).collect();
        let shape = CallShape {
            verb: verb.to_owned(),
            resource: target.info.name.to_string(),
            subresource: target.subresource.clone().unwrap_or_default(),
            patch_type: if verb == "patch" { call.content_type.clone() } else { String::new() },
            label_selector: call.query.text("labelSelector").is_some(),
            field_selector: fields.join(","),
            actor: call.actor.clone(),
        };
        self.census.lock().unwrap_or_else(PoisonError::into_inner).count(shape);
    }
}

/// The first token of a user agent, as `kubectl`.
fn actor_of(agent: &str) -> String {
    let token = agent.split(['/', ' ']).next().unwrap_or("");
    if token.is_empty() { "unnamed".to_owned() } else { token.to_owned() }
}

impl Call {
    /// The body as JSON; YAML where it says so.
    pub(crate) fn json(&self) -> Result<Value, ApiError> {
        if protobuf::is_protobuf(&self.body) {
            return protobuf::read(&self.body);
        }
        let readable = ["json", "yaml", "*/*"].iter().any(|form| self.content_type.contains(form));
        if !readable && !self.content_type.is_empty() {
            return Err(ApiError::UnsupportedMediaType("application/json, application/yaml"));
        }
        if self.content_type.contains("yaml") && !self.body.trim_ascii_start().starts_with(b"{") {
            let text = std::str::from_utf8(&self.body)
                .map_err(|e| ApiError::BadRequest(format!("the body is not UTF-8: {e}")))?;
            return serde_saphyr::from_str(text)
                .map_err(|e| ApiError::BadRequest(format!("the body is not YAML: {e}")));
        }
        serde_json::from_slice(&self.body)
            .map_err(|e| ApiError::BadRequest(format!("the object provided is unrecognized: {e}")))
    }
}

impl<B> tower::Service<Request<B>> for Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Display,
{
    type Response = Response<ApiBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.respond(request).await) })
    }
}
