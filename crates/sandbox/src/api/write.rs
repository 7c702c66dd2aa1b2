//! Create, update, patch and delete over HTTP.
//!
//! Owns options of writes and the choice of a patch's semantics. Leaves the rules of writing to the store.

use super::body::ApiBody;
use super::query::options_refused;
use super::route::Target;
use super::selector::Selector;
use super::service::Call;
use super::{apply, convert, json_patch, merge, reply, strategic, strict};
use crate::store::resource::{NAMESPACES, PODS};
use crate::store::{ApiError, Cause, DeleteOptions, Object, Part, Propagation, Store};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;

fn answer(store: &Store, call: &Call, target: &Target, code: u16, object: &Object) -> Response<ApiBody> {
    reply::bytes(code, reply::JSON, call.view.object(target, object, store.clock().now()))
}

/// The object that a client sent, in the form in which it is kept.
fn sent(call: &Call, target: &Target) -> Result<Value, ApiError> {
    let value = call.json()?;
    let given = value.get("apiVersion").and_then(Value::as_str).unwrap_or("");
    if !given.is_empty() && given != target.api_version() {
        return Err(ApiError::BadRequest(format!(
            "the API version in the data ({given}) does not match the expected API version ({})",
            target.api_version()
        )));
    }
    let value = convert::to_stored(target, value);
    if is_strict(call) {
        strict::check(target, &value)?;
    }
    Ok(value)
}

fn is_strict(call: &Call) -> bool {
    call.query.text("fieldValidation") == Some("Strict")
}

pub(crate) fn create(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let value = sent(call, target)?;
    let object = store.create_with(target.info.name, &target.namespace, value, call.query.dry_run()?)?;
    Ok(answer(store, call, target, 201, &object))
}

pub(crate) fn update(
    store: &Store,
    call: &Call,
    target: &Target,
    part: Part,
) -> Result<Response<ApiBody>, ApiError> {
    let value = sent(call, target)?;
    let dry_run = call.query.dry_run()?;
    if target.info.custom.is_some() && value["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty)
    {
        // Most built-in kinds may be replaced blindly, custom ones may not.
        let cause = Cause::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        let (kind, name) = (target.info.kind.clone(), target.name()?.to_owned());
        return Err(ApiError::Invalid { kind, name, causes: vec![cause] });
    }
    let object =
        store.update_with(target.info.name, &target.namespace, target.name()?, part, value, dry_run)?;
    Ok(answer(store, call, target, 200, &object))
}

/// The media types of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

pub(crate) fn patch_kind(call: &Call) -> Result<PatchKind, ApiError> {
    match call.content_type.split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        _ => Err(ApiError::UnsupportedMediaType(
            "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
        )),
    }
}

/// Applies a patch that is not an apply to `value`, which has the form that the client speaks.
pub(crate) fn patched(
    kind: PatchKind,
    custom: bool,
    value: &mut Value,
    patch: Value,
) -> Result<(), ApiError> {
    match kind {
        PatchKind::Json => json_patch::apply(value, patch),
        PatchKind::Merge | PatchKind::Apply => {
            merge::apply(value, patch);
            Ok(())
        }
        PatchKind::Strategic if custom => Err(ApiError::UnsupportedMediaType(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        PatchKind::Strategic => strategic::apply(value, patch),
    }
}

pub(crate) fn patch(
    store: &Store,
    call: &Call,
    target: &Target,
    part: Part,
) -> Result<Response<ApiBody>, ApiError> {
    let (resource, name) = (target.info.name, target.name()?);
    let (kind, dry_run) = (patch_kind(call)?, call.query.dry_run()?);
    let body = call.json()?;
    if kind == PatchKind::Apply {
        return server_side_apply(store, call, target, part, body);
    }
    let custom = target.info.custom.is_some();
    let kind_name = target.info.kind.clone();
    let object = store.try_modify(resource, &target.namespace, name, part, dry_run, |value| {
        let mut asked = convert::to_asked(target, value.take());
        let uid = asked["metadata"]["uid"].clone();
        // A resourceVersion in the patch is a precondition; the one read is not. A JSON patch may test the one read.
        if kind != PatchKind::Json {
            asked["metadata"]["resourceVersion"].take();
        }
        patched(kind, custom, &mut asked, body)?;
        if asked["metadata"]["uid"] != uid {
            let cause = Cause::invalid("metadata.uid", &asked["metadata"]["uid"], "field is immutable");
            return Err(ApiError::Invalid { kind: kind_name, name: name.to_owned(), causes: vec![cause] });
        }
        *value = convert::to_stored(target, asked);
        if is_strict(call) {
            strict::check(target, value)?;
        }
        Ok(true)
    })?;
    Ok(answer(store, call, target, 200, &object))
}

fn server_side_apply(
    store: &Store,
    call: &Call,
    target: &Target,
    part: Part,
    config: Value,
) -> Result<Response<ApiBody>, ApiError> {
    let (resource, name) = (target.info.name, target.name()?);
    let dry_run = call.query.dry_run()?;
    let Some(manager) = call.query.text("fieldManager") else {
        let message = "Required value: is required for apply patch".to_owned();
        return Err(options_refused("fieldManager", "FieldValueRequired", message));
    };
    let config = convert::to_stored(target, config);
    if is_strict(call) {
        strict::check(target, &config)?;
    }
    let request = apply::Request {
        manager,
        force: call.query.flag("force"),
        subresource: target.subresource.as_deref(),
        schema: target.info.custom.as_deref(),
        resource,
        now: store.clock().now(),
    };
    if store.find(resource, &target.namespace, name).is_none() {
        if part == Part::Status {
            return Err(ApiError::not_found(resource, name));
        }
        let mut value = config.clone();
        value["metadata"]["name"] = json!(name);
        request.record(&mut value, &config);
        let object = store.create_with(resource, &target.namespace, value, dry_run)?;
        return Ok(answer(store, call, target, 201, &object));
    }
    let object = store.try_modify(resource, &target.namespace, name, part, dry_run, |value| {
        request.apply(value, &config)?;
        Ok(true)
    })?;
    Ok(answer(store, call, target, 200, &object))
}

/// Options of a deletion out of a `DeleteOptions` body.
pub(crate) fn delete_options(value: &Value) -> Result<DeleteOptions, ApiError> {
    let propagation = match value.get("propagationPolicy").and_then(Value::as_str) {
        None if value.get("orphanDependents") == Some(&Value::Bool(true)) => Some(Propagation::Orphan),
        None => None,
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            let message = format!("\"{other}\" is not Background, Foreground or Orphan");
            return Err(options_refused("propagationPolicy", "FieldValueNotSupported", message));
        }
    };
    let precondition = |field: &str| value.get("preconditions")?.get(field)?.as_str().map(str::to_owned);
    let dry_run = value.get("dryRun").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    Ok(DeleteOptions {
        grace_period_seconds: value.get("gracePeriodSeconds").and_then(Value::as_i64),
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        propagation,
        dry_run,
    })
}

fn options_of(call: &Call) -> Result<DeleteOptions, ApiError> {
    let body = if call.body.trim_ascii().is_empty() { json!({}) } else { call.json()? };
    let mut options = delete_options(&body)?;
    if let Some(policy) = call.query.text("propagationPolicy") {
        options.propagation = delete_options(&json!({"propagationPolicy": policy}))?.propagation;
    }
    if let Some(seconds) = call.query.number("gracePeriodSeconds")? {
        options.grace_period_seconds = i64::try_from(seconds).ok();
    }
    options.dry_run |= call.query.dry_run()?;
    Ok(options)
}

pub(crate) fn delete(store: &Store, call: &Call, target: &Target) -> Result<Response<ApiBody>, ApiError> {
    let options = options_of(call)?;
    let (resource, name) = (target.info.name, target.name()?);
    let deleted = store.delete(resource, &target.namespace, name, &options)?;
    if deleted.gone && !matches!(resource, PODS | NAMESPACES) {
        let details = json!({
            "name": name, "group": target.group, "kind": target.info.plural(), "uid": deleted.object.uid(),
        });
        return Ok(reply::json(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
        ));
    }
    Ok(answer(store, call, target, 200, &deleted.object))
}

pub(crate) fn delete_collection(
    store: &Store,
    call: &Call,
    target: &Target,
) -> Result<Response<ApiBody>, ApiError> {
    let options = options_of(call)?;
    let query = &call.query;
    let resource = target.info.name;
    if target.info.namespaced && target.namespace.is_empty() {
        return Err(ApiError::MethodNotAllowed);
    }
    let selector = Selector::parse(resource, query.text("labelSelector"), query.text("fieldSelector"))?;
    let selected: Vec<Arc<Object>> =
        store.list_in(resource, &target.namespace).into_iter().filter(|o| selector.matches(o)).collect();
    let mut items = Vec::with_capacity(selected.len());
    for object in selected {
        match store.delete(resource, object.namespace(), object.name(), &options) {
            Ok(deleted) => items.push(convert::to_asked(target, deleted.object.value().clone())),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let meta = json!({"resourceVersion": store.revision().to_string()});
    let list = json!({
        "kind": target.info.list_kind(), "apiVersion": target.api_version(), "metadata": meta, "items": items,
    });
    Ok(reply::json(200, &list))
}
