//! Creating and updating: what every kind goes through, whoever writes.
//!
//! Owns immutable metadata, optimistic locking, generations and the split of spec and status. Leaves kinds to `rules`
//! and removal to `delete`.

use super::error::{ApiError, Cause, MODIFIED};
use super::log::ChangeKind;
use super::metadata;
use super::object::Object;
use super::resource::{DEPLOYMENTS, NAMESPACES, NODES, ResourceInfo, ResourceName};
use super::state::State;
use crate::rules;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::sync::Arc;

/// When a write happens and who does it.
pub(crate) struct At<'a> {
    pub(crate) now: Timestamp,
    pub(crate) actor: &'a str,
}

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Metadata and spec; status stays.
    Main,
    /// Status only.
    Status,
    /// Everything at once: for in-process controllers, which would otherwise write twice.
    Whole,
}

/// Tries at a free generated name.
const NAME_TRIES: u32 = 8;

impl State {
    pub(crate) fn create(
        &mut self,
        at: &At<'_>,
        resource: ResourceName,
        namespace: &str,
        mut value: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        let info = self.info(resource)?;
        metadata::set_type(&info, &mut value)?;
        self.place(&info, namespace, &mut value)?;
        self.identify(at, &info, &mut value)?;
        if info.has_status
            && resource != NODES
            && let Some(object) = value.as_object_mut()
        {
            object.remove("status");
        }
        rules::on_create(self, at, &info, &mut value)?;
        let mut causes = Vec::new();
        metadata::validate(&info, &value, &mut causes);
        rules::validate(&info, &value, None, &mut causes);
        refuse(&info, &value, causes)?;
        let (namespace, name) = (metadata::text(&value, "namespace"), metadata::text(&value, "name"));
        if self.find(resource, namespace, name).is_some() {
            return Err(ApiError::AlreadyExists { resource, name: name.to_owned() });
        }
        if dry_run {
            return Ok(Arc::new(Object::new(resource, self.revision, value)));
        }
        let object = self.commit(at, "create", resource, ChangeKind::Added, value);
        rules::after_create(self, at, &object)?;
        Ok(object)
    }

    /// Settles the namespace of a new object and that it takes new objects.
    fn place(&self, info: &ResourceInfo, namespace: &str, value: &mut Value) -> Result<(), ApiError> {
        let meta = metadata::of(value)?;
        if !info.namespaced {
            meta.remove("namespace");
            return Ok(());
        }
        let given = meta.get("namespace").and_then(Value::as_str).unwrap_or("");
        let namespace = match (given, namespace) {
            ("", "") => "default",
            ("", path) => path,
            (given, path) if path.is_empty() || path == given => given,
            (given, path) => {
                return Err(ApiError::BadRequest(format!(
                    "the namespace of the provided object does not match the namespace sent on the request ({given}, {path})"
                )));
            }
        };
        let namespace = namespace.to_owned();
        let home = self.get(NAMESPACES, "", &namespace)?;
        if home.is_terminating() {
            let message = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(ApiError::Forbidden {
                resource: info.name,
                name: meta.get("name").and_then(Value::as_str).unwrap_or("").to_owned(),
                message,
                cause: Some("NamespaceTerminating"),
            });
        }
        meta.insert("namespace".to_owned(), Value::String(namespace));
        Ok(())
    }

    /// Gives a new object its name, uid and creation time.
    fn identify(&mut self, at: &At<'_>, info: &ResourceInfo, value: &mut Value) -> Result<(), ApiError> {
        let namespace = metadata::text(value, "namespace").to_owned();
        let meta = metadata::of(value)?;
        if meta.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
            let message = "resourceVersion should not be set on objects to be created".to_owned();
            return Err(ApiError::BadRequest(message));
        }
        for field in
            ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
        {
            meta.remove(field);
        }
        drop_nulls(meta);
        let named = meta.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
        if !named && let Some(base) = meta.get("generateName").and_then(Value::as_str) {
            let mut name = self.identities.name(base);
            for _ in 1..NAME_TRIES {
                if self.find(info.name, &namespace, &name).is_none() {
                    break;
                }
                name = self.identities.name(base);
            }
            meta.insert("name".to_owned(), Value::String(name));
        }
        meta.insert("uid".to_owned(), Value::String(self.identities.uid()));
        meta.insert("creationTimestamp".to_owned(), metadata::time(at.now));
        if info.counts_generations {
            meta.insert("generation".to_owned(), Value::from(1));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a key of three, and what to do there")]
    pub(crate) fn update(
        &mut self,
        at: &At<'_>,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        part: Part,
        mut value: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        let info = self.info(resource)?;
        metadata::set_type(&info, &mut value)?;
        same_name(&mut value, name)?;
        let old = Arc::clone(self.get(resource, namespace, name)?);
        same_identity(&old, &mut value)?;
        let mut value = merge_part(&info, &old, value, part);
        keep_metadata(&old, &mut value, part)?;
        rules::on_update(at, &info, &old, &mut value, part)?;
        count_generation(&info, &old, &mut value, part);
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            // Equal texts, so that a write that changes nothing is seen as one.
            meta.insert("resourceVersion".to_owned(), Value::String(old.revision().to_string()));
        }
        let finished = is_finished(&value);
        if value == *old.value() && !finished {
            return Ok(old);
        }
        let mut causes = Vec::new();
        if part != Part::Status {
            metadata::validate(&info, &value, &mut causes);
        }
        keeps_dying(&old, &value, &mut causes);
        rules::validate(&info, &value, Some((old.value(), part)), &mut causes);
        refuse(&info, &value, causes)?;
        if dry_run {
            return Ok(Arc::new(Object::new(resource, old.revision(), value)));
        }
        let verb = if part == Part::Status { "update-status" } else { "update" };
        if finished {
            let object = self.commit(at, verb, resource, ChangeKind::Deleted, value);
            self.after_removal(at, &object);
            return Ok(object);
        }
        let object = self.commit(at, verb, resource, ChangeKind::Modified, value);
        rules::after_update(self, &object)?;
        Ok(object)
    }
}

fn refuse(info: &ResourceInfo, value: &Value, causes: Vec<Cause>) -> Result<(), ApiError> {
    if causes.is_empty() {
        return Ok(());
    }
    let group = info.group();
    let kind = if group.is_empty() { info.kind.clone() } else { format!("{}.{group}", info.kind) };
    Err(ApiError::Invalid { kind, name: metadata::text(value, "name").to_owned(), causes })
}

/// Removes what JSON of Kubernetes leaves out: nulls and empty maps.
/// What is being deleted takes no further finalizers.
fn keeps_dying(old: &Object, value: &Value, causes: &mut Vec<Cause>) {
    if !old.is_terminating() {
        return;
    }
    let added = value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in added.filter(|name| !old.finalizers().any(|known| known == *name)) {
        let message = format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers [\"{name}\"]"
        );
        causes.push(Cause {
            reason: "FieldValueForbidden",
            field: "metadata.finalizers".to_owned(),
            message,
        });
    }
}

fn drop_nulls(map: &mut Map<String, Value>) {
    map.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|inner| !inner.is_empty()));
}

fn same_name(value: &mut Value, name: &str) -> Result<(), ApiError> {
    let given = metadata::of(value)?.get("name").and_then(Value::as_str).unwrap_or("");
    if given.is_empty() || given == name {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "the name of the object ({given}) does not match the name on the URL ({name})"
    )))
}

/// Checks that `value` is meant for `old`: its namespace, uid and resourceVersion.
fn same_identity(old: &Object, value: &mut Value) -> Result<(), ApiError> {
    let (resource, name) = (old.resource(), old.name());
    let given = metadata::of(value)?;
    let text = |field: &str| given.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(given) = text("namespace")
        && given != old.namespace()
        && !old.namespace().is_empty()
    {
        return Err(ApiError::BadRequest(format!(
            "the namespace of the object ({given}) does not match the namespace on the URL ({})",
            old.namespace()
        )));
    }
    if let Some(given) = text("uid")
        && given != old.uid()
    {
        let message =
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {}", old.uid());
        return Err(ApiError::conflict(resource, name, message));
    }
    match text("resourceVersion").map(str::parse::<u64>) {
        None => Ok(()),
        Some(Ok(given)) if given == old.revision() => Ok(()),
        Some(Ok(_)) => Err(ApiError::conflict(resource, name, MODIFIED)),
        Some(Err(_)) => Err(ApiError::BadRequest(format!(
            "metadata.resourceVersion of {resource} \"{name}\" is not a number: take it from a read object"
        ))),
    }
}

/// The whole object that results when only `part` of `value` counts.
fn merge_part(info: &ResourceInfo, old: &Object, mut value: Value, part: Part) -> Value {
    match part {
        Part::Main if info.has_status => {
            if let Some(object) = value.as_object_mut() {
                match old.value().get("status") {
                    Some(status) => object.insert("status".to_owned(), status.clone()),
                    None => object.remove("status"),
                };
            }
            value
        }
        Part::Main | Part::Whole => value,
        Part::Status => {
            let status = value.get_mut("status").map(Value::take);
            // Built-in kinds take labels and annotations along with a status, custom resources only the status.
            let meta = if info.custom.is_none() { value.get_mut("metadata").map(Value::take) } else { None };
            let mut merged = old.value().clone();
            if let Some(object) = merged.as_object_mut() {
                match status {
                    Some(status) => object.insert("status".to_owned(), status),
                    None => object.remove("status"),
                };
                if let Some(meta) = meta {
                    object.insert("metadata".to_owned(), meta);
                }
            }
            merged
        }
    }
}

/// Fields of metadata that only the server writes.
const SERVER_FIELDS: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];

fn keep_metadata(old: &Object, value: &mut Value, part: Part) -> Result<(), ApiError> {
    let empty = Map::new();
    let before = old.metadata().unwrap_or(&empty);
    let meta = metadata::of(value)?;
    for field in SERVER_FIELDS {
        keep(field, before, meta);
    }
    if part == Part::Status {
        if old.resource() == DEPLOYMENTS {
            keep("labels", before, meta);
        }
        keep("ownerReferences", before, meta);
        keep("finalizers", before, meta);
    }
    meta.remove("selfLink");
    drop_nulls(meta);
    for field in ["finalizers", "ownerReferences"] {
        if meta.get(field).and_then(Value::as_array).is_some_and(Vec::is_empty) {
            meta.remove(field);
        }
    }
    for field in ["labels", "annotations"] {
        if meta.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
            meta.remove(field);
        }
    }
    Ok(())
}

fn keep(field: &str, before: &Map<String, Value>, meta: &mut Map<String, Value>) {
    match (before.get(field), meta.get(field)) {
        (Some(old), Some(new)) if old == new => {}
        (Some(old), _) => {
            meta.insert(field.to_owned(), old.clone());
        }
        (None, Some(_)) => {
            meta.remove(field);
        }
        (None, None) => {}
    }
}

/// Raises the generation when anything but metadata and status changed.
fn count_generation(info: &ResourceInfo, old: &Object, value: &mut Value, part: Part) {
    if !info.counts_generations || part == Part::Status {
        return;
    }
    let (Some(before), Some(after)) = (old.value().as_object(), value.as_object()) else { return };
    let counts =
        |field: &&String| field.as_str() != "metadata" && !(info.has_status && field.as_str() == "status");
    let same = before.keys().filter(counts).all(|field| before.get(field) == after.get(field))
        && after.keys().filter(counts).all(|field| before.contains_key(field));
    if !same {
        let generation = old.at("metadata.generation").and_then(Value::as_i64).unwrap_or(0);
        value["metadata"]["generation"] = Value::from(generation + 1);
    }
}

/// Whether deletion was asked for and nothing holds the object any more.
pub(super) fn is_finished(value: &Value) -> bool {
    let Some(meta) = value.get("metadata").and_then(Value::as_object) else { return false };
    let held = meta.get("finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    let graceful = meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) > 0;
    meta.contains_key("deletionTimestamp") && !held && !graceful
}
