//! Deleting: preconditions, grace periods of pods, finalizers, propagation, namespaces with their content.
//!
//! Owns when an object is gone. Leaves collecting dependants to the garbage collector among the controllers, which
//! acts on the finalizers `foregroundDeletion` and `orphan` set here.

use super::error::{ApiError, MODIFIED};
use super::log::ChangeKind;
use super::metadata;
use super::object::Object;
use super::resource::{NAMESPACES, PODS, ResourceName};
use super::state::State;
use super::write::{At, is_finished};
use crate::rules;
use jiff::ToSpan;
use serde_json::Value;
use std::sync::Arc;

/// What becomes of objects that name the deleted one as owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Counts for pods only; other kinds go at once.
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

/// What a deletion came to.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The last version when gone, else the version that is marked for deletion.
    pub object: Arc<Object>,
    pub gone: bool,
}

impl State {
    pub(crate) fn delete(
        &mut self,
        at: &At<'_>,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let old = Arc::clone(self.get(resource, namespace, name)?);
        check(&old, options)?;
        let grace = grace_seconds(&old, options);
        let mut value = old.value().clone();
        mark(at, &old, &mut value, grace, options)?;
        let gone = is_finished(&value) && !(resource == NAMESPACES && self.holds_content(name));
        if options.dry_run {
            return Ok(Deleted { object: Arc::new(Object::new(resource, old.revision(), value)), gone });
        }
        if gone {
            let object = self.commit(at, "delete", resource, ChangeKind::Deleted, value);
            self.after_removal(at, &object);
            return Ok(Deleted { object, gone });
        }
        if value == *old.value() {
            return Ok(Deleted { object: old, gone });
        }
        let object = self.commit(at, "delete", resource, ChangeKind::Modified, value);
        if resource == NAMESPACES {
            self.empty_namespace(at, name)?;
        }
        Ok(Deleted { object, gone })
    }

    fn holds_content(&self, namespace: &str) -> bool {
        !self.resources_in(namespace).is_empty()
    }

    /// Asks for the deletion of all that a terminating namespace holds.
    fn empty_namespace(&mut self, at: &At<'_>, namespace: &str) -> Result<(), ApiError> {
        for resource in self.resources_in(namespace) {
            let names: Vec<String> =
                self.objects(resource, Some(namespace)).map(|object| object.name().to_owned()).collect();
            for name in names {
                match self.delete(at, resource, namespace, &name, &DeleteOptions::default()) {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What follows from an object being gone: a terminating namespace that it left empty goes too.
    pub(super) fn after_removal(&mut self, at: &At<'_>, object: &Arc<Object>) {
        rules::after_delete(self, at, object);
        let namespace = object.namespace().to_owned();
        if namespace.is_empty() || self.holds_content(&namespace) {
            return;
        }
        let Some(home) = self.find(NAMESPACES, "", &namespace).cloned() else { return };
        if is_finished(home.value()) {
            self.commit(at, "delete", NAMESPACES, ChangeKind::Deleted, home.value().clone());
        }
    }
}

fn check(old: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let (resource, name) = (old.resource(), old.name());
    if let Some(uid) = &options.uid
        && uid != old.uid()
    {
        let message = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            old.uid()
        );
        return Err(ApiError::conflict(resource, name, message));
    }
    if let Some(version) = &options.resource_version
        && *version != old.revision().to_string()
    {
        return Err(ApiError::conflict(resource, name, MODIFIED));
    }
    Ok(())
}

/// The grace period that counts: only a pod on a node that still runs has one.
fn grace_seconds(old: &Object, options: &DeleteOptions) -> i64 {
    if old.resource() != PODS || old.text("spec.nodeName").unwrap_or("").is_empty() {
        return 0;
    }
    if matches!(old.text("status.phase"), Some("Succeeded" | "Failed")) {
        return 0;
    }
    let own = old.at("spec.terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    // A negative period means at once, as in Kubernetes.
    options.grace_period_seconds.unwrap_or(own).max(0)
}

fn mark(
    at: &At<'_>,
    old: &Object,
    value: &mut Value,
    grace: i64,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let meta = metadata::of(value)?;
    let pending = old.at("metadata.deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if !old.is_terminating() || grace < pending {
        // A second deletion may only shorten the time that is left.
        let at = at.now.checked_add(grace.seconds()).unwrap_or(at.now);
        meta.insert("deletionTimestamp".to_owned(), metadata::time(at));
        meta.insert("deletionGracePeriodSeconds".to_owned(), Value::from(grace));
        if !old.is_terminating()
            && let Some(generation) = old.at("metadata.generation").and_then(Value::as_i64)
        {
            meta.insert("generation".to_owned(), Value::from(generation + 1));
        }
    }
    let finalizer = match options.propagation {
        Some(Propagation::Foreground) => Some("foregroundDeletion"),
        Some(Propagation::Orphan) => Some("orphan"),
        Some(Propagation::Background) | None => None,
    };
    if let Some(finalizer) = finalizer {
        let list = meta.entry("finalizers").or_insert_with(|| Value::Array(Vec::new()));
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|known| known.as_str() == Some(finalizer))
        {
            list.push(Value::String(finalizer.to_owned()));
        }
    }
    if old.resource() == NAMESPACES {
        value["status"]["phase"] = Value::String("Terminating".to_owned());
    }
    Ok(())
}
