//! What a path names: a resource, an object, a subresource, or one of the server's own pages.
//!
//! Owns the grammar of paths. Leaves verbs to the handlers.

use super::query::decode;
use crate::store::{ApiError, ResourceInfo, Store};
use std::sync::Arc;

/// A resource path taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) info: Arc<ResourceInfo>,
    /// Group and version as asked for; they may differ from those that objects are kept in.
    pub(crate) group: String,
    pub(crate) version: String,
    /// Empty for cluster-scoped resources and for all namespaces.
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
}

impl Target {
    /// `apiVersion` as asked for.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether objects are kept in the form that was asked for.
    pub(crate) fn is_stored_form(&self) -> bool {
        self.group == self.info.group() && self.version == self.info.storage_version()
    }

    /// The namespace to look in, or all.
    pub(crate) fn in_namespace(&self) -> Option<&str> {
        (!self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    pub(crate) fn name(&self) -> Result<&str, ApiError> {
        self.name.as_deref().ok_or(ApiError::MethodNotAllowed)
    }
}

/// What a path names.
#[derive(Debug)]
pub(crate) enum Route {
    Resource(Box<Target>),
    /// `/api` (empty) or `/apis`.
    Groups {
        core: bool,
    },
    Group(String),
    GroupVersion {
        group: String,
        version: String,
    },
    Version,
    Health,
    /// What pods use, for Prometheus.
    Metrics,
    OpenApiRoot,
    OpenApi {
        group: String,
        version: String,
    },
    Root,
}

pub(crate) fn parse(store: &Store, path: &str) -> Result<Route, ApiError> {
    let mut segments: Vec<String> =
        path.split('/').filter(|s| !s.is_empty()).map(|s| decode(s, false)).collect();
    let first = if segments.is_empty() { String::new() } else { segments.remove(0) };
    let mut rest = segments.into_iter();
    match first.as_str() {
        "" => Ok(Route::Root),
        "version" => Ok(Route::Version),
        // Not /metrics, where the controller shows its own beside this API.
        "load" if rest.as_slice() == ["metrics"] => Ok(Route::Metrics),
        "healthz" | "readyz" | "livez" => Ok(Route::Health),
        "openapi" => open_api(&rest.collect::<Vec<_>>()),
        "api" => match rest.next() {
            None => Ok(Route::Groups { core: true }),
            Some(version) => resource(store, String::new(), version, &rest.collect::<Vec<_>>()),
        },
        "apis" => match (rest.next(), rest.next()) {
            (None, _) => Ok(Route::Groups { core: false }),
            (Some(group), None) => Ok(Route::Group(group)),
            (Some(group), Some(version)) => resource(store, group, version, &rest.collect::<Vec<_>>()),
        },
        _ => Err(ApiError::UnknownPath),
    }
}

fn open_api(rest: &[String]) -> Result<Route, ApiError> {
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match rest.as_slice() {
        ["v3"] => Ok(Route::OpenApiRoot),
        ["v3", "api", version] => Ok(Route::OpenApi { group: String::new(), version: (*version).to_owned() }),
        ["v3", "apis", group, version] => {
            Ok(Route::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() })
        }
        _ => Err(ApiError::UnknownPath),
    }
}

fn resource(store: &Store, group: String, version: String, rest: &[String]) -> Result<Route, ApiError> {
    let (namespace, rest) = match rest {
        [] => return Ok(Route::GroupVersion { group, version }),
        // `/namespaces/x/status` is a subresource of the namespace itself.
        [plural, namespace, next, ..]
            if plural == "namespaces" && !matches!(next.as_str(), "status" | "finalize") =>
        {
            (namespace.clone(), &rest[2..])
        }
        _ => (String::new(), rest),
    };
    let [plural, rest @ ..] = rest else { return Err(ApiError::UnknownPath) };
    if rest.len() > 2 {
        return Err(ApiError::UnknownPath);
    }
    let info =
        store.state().registry.served(&group, &version, plural).cloned().ok_or(ApiError::UnknownPath)?;
    if !info.namespaced && !namespace.is_empty() {
        return Err(ApiError::UnknownPath);
    }
    let name = rest.first().cloned();
    if info.namespaced && namespace.is_empty() && name.is_some() {
        return Err(ApiError::UnknownPath);
    }
    let subresource = rest.get(1).cloned();
    Ok(Route::Resource(Box::new(Target { info, group, version, namespace, name, subresource })))
}
