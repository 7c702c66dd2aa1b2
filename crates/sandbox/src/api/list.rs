//! Reading one object or many: selectors, pages, older states.
//!
//! Owns continue tokens. Leaves watches to `watch` and forms to `view`.

use super::body::ApiBody;
use super::query::options_refused;
use super::reply;
use super::route::Target;
use super::selector::Selector;
use super::service::Call;
use super::view::{self, View};
use super::{table, watch};
use crate::store::{ApiError, Object, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn get(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let name = target.name()?;
    let object = match call.stale {
        None => store.get(target.info.name, &target.namespace, name)?,
        Some(stale) => {
            let (objects, _) = snapshot(store, target, Some(Asked::Back(stale.revisions)))?;
            let found = objects.into_iter().find(|object| object.name() == name);
            found.ok_or_else(|| ApiError::not_found(target.info.name, name))?
        }
    };
    Ok(reply::bytes(200, reply::JSON, call.view.object(target, &object, store.clock().now())))
}

/// Which state a list is to show.
#[derive(Clone, Copy)]
enum Asked {
    Exactly(u64),
    Back(u64),
}

/// Where the next page starts, and the revision that all pages name.
struct Continue {
    revision: u64,
    after: (String, String),
}

impl Continue {
    fn token(&self) -> String {
        URL_SAFE_NO_PAD
            .encode(json!({"rv": self.revision, "ns": self.after.0, "name": self.after.1}).to_string())
    }

    fn parse(token: &str) -> Result<Self, ApiError> {
        let wrong = || ApiError::BadRequest("continue key is not valid: list from the start".to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let text = |field: &str| value[field].as_str().map(str::to_owned).ok_or_else(wrong);
        Ok(Self { revision: value["rv"].as_u64().ok_or_else(wrong)?, after: (text("ns")?, text("name")?) })
    }
}

/// The objects to list in their order, and the revision of that state.
fn snapshot(
    store: &Store,
    target: &Target,
    asked: Option<Asked>,
) -> Result<(Vec<Arc<Object>>, u64), ApiError> {
    let state = store.state();
    let revision = match asked {
        None => state.revision,
        Some(Asked::Exactly(revision)) => revision,
        Some(Asked::Back(revisions)) => {
            state.log.reaches_back_to(target.info.name).max(state.revision.saturating_sub(revisions))
        }
    };
    if revision > state.revision {
        return Err(too_large(revision, state.revision));
    }
    Ok((state.objects_at(target.info.name, target.in_namespace(), revision)?, revision))
}

fn too_large(asked: u64, current: u64) -> ApiError {
    ApiError::Timeout(format!("Too large resource version: {asked}, current: {current}"))
}

pub(crate) fn list(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let query = &call.query;
    let selector =
        Selector::parse(target.info.name, query.text("labelSelector"), query.text("fieldSelector"))?;
    if query.flag("watch") {
        return watch::start(store, call, target, selector);
    }
    let limit = query.number("limit")?.unwrap_or(0) as usize;
    let from = query.text("continue").map(Continue::parse).transpose()?;
    let version = query.number("resourceVersion")?.unwrap_or(0);
    if query.flag("sendInitialEvents") {
        let message = "sendInitialEvents is forbidden for list".to_owned();
        return Err(options_refused("sendInitialEvents", "FieldValueForbidden", message));
    }
    let matching = query.text("resourceVersionMatch");
    if matching.is_some() && query.text("resourceVersion").is_none() {
        let message = "resourceVersionMatch is forbidden unless resourceVersion is provided".to_owned();
        return Err(options_refused("resourceVersionMatch", "FieldValueForbidden", message));
    }
    let exact = matching == Some("Exact");
    if version > store.revision() {
        return Err(too_large(version, store.revision()));
    }
    let asked = match (&from, call.stale) {
        (Some(from), _) => Some(Asked::Exactly(from.revision)),
        (None, _) if exact => Some(Asked::Exactly(version)),
        (None, Some(stale)) => Some(Asked::Back(stale.revisions)),
        (None, None) => None,
    };
    let (mut objects, revision) = match (selector.only_name(), asked) {
        (Some(name), None) if !target.namespace.is_empty() || !target.info.namespaced => {
            let found = store.find(target.info.name, &target.namespace, name);
            (found.into_iter().collect(), store.revision())
        }
        _ => snapshot(store, target, asked)?,
    };
    if let Some(from) = &from {
        let after = (from.after.0.as_str(), from.after.1.as_str());
        objects.retain(|object| (object.namespace(), object.name()) > after);
    }
    if !selector.is_empty() {
        objects.retain(|object| selector.matches(object));
    }
    let mut meta = json!({"resourceVersion": revision.to_string()});
    if limit > 0 && objects.len() > limit {
        let left = objects.len() - limit;
        objects.truncate(limit);
        if let Some(last) = objects.last() {
            let after = (last.namespace().to_owned(), last.name().to_owned());
            meta["continue"] = Value::String(Continue { revision, after }.token());
            if selector.is_empty() {
                meta["remainingItemCount"] = Value::from(left);
            }
        }
    }
    Ok(render(store, call, target, &objects, &meta))
}

pub(crate) fn render(
    store: &Store,
    call: &Call,
    target: &Target,
    objects: &[Arc<Object>],
    meta: &Value,
) -> Response<ApiBody> {
    let now = store.clock().now();
    if let View::Table(include) = call.view {
        let rows: Vec<&Object> = objects.iter().map(AsRef::as_ref).collect();
        return reply::json(200, &table::of(target, &rows, include, now, meta));
    }
    let items: Vec<bytes::Bytes> =
        objects.iter().map(|object| call.view.object(target, object, now)).collect();
    let head = view::list_head(target, call.view, meta);
    let mut body =
        Vec::with_capacity(head.len() + items.iter().map(|item| item.len() + 1).sum::<usize>() + 2);
    body.extend_from_slice(head.as_bytes());
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(item);
    }
    body.extend_from_slice(b"]}");
    reply::bytes(200, reply::JSON, body)
}
