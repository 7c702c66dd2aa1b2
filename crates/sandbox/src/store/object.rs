//! One version of one object: its JSON value, its bytes, and what it was decoded into, each made at most once.
//!
//! Owns the caches. Leaves identity and versions to the store.

use super::error::ApiError;
use super::resource::ResourceName;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// An immutable version of an object.
pub struct Object {
    resource: ResourceName,
    revision: u64,
    value: Value,
    bytes: OnceLock<Bytes>,
    /// Decoded forms, one for each Rust type that was asked for: one or two in practice.
    typed: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Object {
    pub(crate) fn new(resource: ResourceName, revision: u64, value: Value) -> Self {
        Self { resource, revision, value, bytes: OnceLock::new(), typed: Mutex::new(Vec::new()) }
    }

    pub fn resource(&self) -> ResourceName {
        self.resource
    }

    /// `metadata.resourceVersion` as a number.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn value(&self) -> &Value {
        &self.value
    }

    pub fn metadata(&self) -> Option<&Map<String, Value>> {
        self.value.get("metadata").and_then(Value::as_object)
    }

    fn metadata_text(&self, field: &str) -> &str {
        self.value.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
    }

    /// Empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.metadata_text("namespace")
    }

    pub fn name(&self) -> &str {
        self.metadata_text("name")
    }

    pub fn uid(&self) -> &str {
        self.metadata_text("uid")
    }

    pub fn labels(&self) -> Option<&Map<String, Value>> {
        self.metadata()?.get("labels")?.as_object()
    }

    /// The value of a label, or none.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key)?.as_str()
    }

    /// The value of an annotation, or none.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata()?.get("annotations")?.get(key)?.as_str()
    }

    /// Whether deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.metadata().is_some_and(|m| m.contains_key("deletionTimestamp"))
    }

    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        let list = self.metadata().and_then(|m| m.get("finalizers")).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The value at a dotted path, as `spec.nodeName`.
    pub fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.value, |value, step| value.get(step))
    }

    /// The text at a dotted path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// The object as JSON; serialised once for all readers and watchers.
    pub fn bytes(&self) -> Bytes {
        self.bytes.get_or_init(|| Bytes::from(self.value.to_string())).clone()
    }

    /// The object as `T`, decoded once and shared.
    pub fn typed<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<T>, ApiError> {
        {
            let typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = typed.iter().find_map(|any| Arc::clone(any).downcast::<T>().ok()) {
                return Ok(known);
            }
        }
        let decoded = T::deserialize(&self.value).map_err(|source| ApiError::Undecodable {
            resource: self.resource,
            name: self.name().to_owned(),
            into: std::any::type_name::<T>(),
            source,
        })?;
        let decoded = Arc::new(decoded);
        self.typed.lock().unwrap_or_else(PoisonError::into_inner).push(decoded.clone());
        Ok(decoded)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} at {}", self.resource, self.namespace(), self.name(), self.revision)
    }
}
