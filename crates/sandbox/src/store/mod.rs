//! The objects of the embedded cluster and the one way to change them.
//!
//! Owns identity (uid, resourceVersion, generation, generated names), the rules of deletion, the change log and the
//! log of writes, so that HTTP clients and in-process controllers get the same. Leaves defaults and validation of
//! single kinds to `rules`, and HTTP to `api`.

mod boot;
mod delete;
mod error;
mod log;
mod metadata;
mod object;
mod record;
pub mod resource;
mod state;
mod write;

pub use delete::{DeleteOptions, Deleted, Propagation};
pub use error::{ApiError, Cause};
pub use log::{Change, ChangeKind, Subscription};
pub use object::Object;
pub use record::WriteRecord;
pub use resource::{Registry, ResourceInfo, ResourceName, ScalePaths};
pub use write::Part;

pub(crate) use error::MODIFIED;
pub(crate) use metadata::is_label_value;
pub(crate) use state::State;
pub(crate) use write::At;

use clock::Clock;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What a store is made with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Seeds uids and generated names.
    pub seed: u64,
    /// Most changes kept for watches; an older position is answered with 410.
    pub change_limit: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { seed: 0, change_limit: 16_384 }
    }
}

struct Inner {
    clock: Clock,
    state: Mutex<State>,
    any_change: Arc<Notify>,
}

/// A handle to the store: cheap to clone; every clone sees the same objects.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    actor: Arc<str>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store for {}", self.actor)
    }
}

impl Store {
    /// A store that holds what a fresh cluster has: the system namespaces, their service accounts, priority classes.
    pub fn new(clock: Clock, options: &StoreOptions) -> Self {
        let inner = Inner { clock, state: Mutex::new(State::new(options)), any_change: Arc::default() };
        let store = Self { inner: Arc::new(inner), actor: Arc::from("sandbox") };
        boot::fill(&store);
        store
    }

    /// The same store, with writes recorded under another name.
    #[must_use]
    pub fn acting_as(&self, actor: &str) -> Self {
        Self { inner: Arc::clone(&self.inner), actor: Arc::from(actor) }
    }

    pub fn actor(&self) -> &str {
        &self.actor
    }

    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held can only be one of a caller's closure; the state is consistent.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The revision of the latest change.
    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    /// What the server knows about a resource.
    pub fn info(&self, resource: ResourceName) -> Result<Arc<ResourceInfo>, ApiError> {
        self.state().info(resource)
    }

    /// All resources, built in and custom.
    pub fn resources(&self) -> Vec<Arc<ResourceInfo>> {
        self.state().registry.all().cloned().collect()
    }

    /// One object; `namespace` is empty for cluster-scoped resources.
    pub fn get(&self, resource: ResourceName, namespace: &str, name: &str) -> Result<Arc<Object>, ApiError> {
        self.state().get(resource, namespace, name).cloned()
    }

    /// One object, or none.
    pub fn find(&self, resource: ResourceName, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.state().find(resource, namespace, name).cloned()
    }

    /// All objects of a resource, ordered by namespace and name.
    pub fn list(&self, resource: ResourceName) -> Vec<Arc<Object>> {
        self.state().objects(resource, None).cloned().collect()
    }

    /// The objects of a resource in one namespace, ordered by name.
    pub fn list_in(&self, resource: ResourceName, namespace: &str) -> Vec<Arc<Object>> {
        self.state().objects(resource, Some(namespace)).cloned().collect()
    }

    pub fn count(&self, resource: ResourceName) -> usize {
        self.state().count(resource)
    }

    /// Creates an object; `namespace` may be given here or in its metadata.
    pub fn create(
        &self,
        resource: ResourceName,
        namespace: &str,
        object: Value,
    ) -> Result<Arc<Object>, ApiError> {
        self.create_with(resource, namespace, object, false)
    }

    /// Creates an object from a Rust type.
    pub fn create_typed<T: Serialize>(
        &self,
        resource: ResourceName,
        namespace: &str,
        object: &T,
    ) -> Result<Arc<Object>, ApiError> {
        let object = serde_json::to_value(object).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        self.create(resource, namespace, object)
    }

    /// Creates an object, or with `dry_run` only says what would be.
    pub fn create_with(
        &self,
        resource: ResourceName,
        namespace: &str,
        object: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        self.writing(|state, at| state.create(at, resource, namespace, object, dry_run))
    }

    /// Replaces the given part of an object. A `metadata.resourceVersion` in `object` must be the present one; without
    /// it the update is unconditional.
    pub fn update(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        part: Part,
        object: Value,
    ) -> Result<Arc<Object>, ApiError> {
        self.update_with(resource, namespace, name, part, object, false)
    }

    /// As `update`, or with `dry_run` only says what would be.
    pub fn update_with(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        part: Part,
        object: Value,
        dry_run: bool,
    ) -> Result<Arc<Object>, ApiError> {
        self.writing(|state, at| state.update(at, resource, namespace, name, part, object, dry_run))
    }

    /// Replaces the status of an object; the rest of `object` is ignored but for a resourceVersion.
    pub fn update_status(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        object: Value,
    ) -> Result<Arc<Object>, ApiError> {
        self.update(resource, namespace, name, Part::Status, object)
    }

    /// Reads, changes and writes an object in one step. `change` returns whether to write at all.
    pub fn modify(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        part: Part,
        change: impl FnOnce(&mut Value) -> bool,
    ) -> Result<Arc<Object>, ApiError> {
        self.try_modify(resource, namespace, name, part, false, |value| Ok(change(value)))
    }

    /// As `modify`, with a change that may refuse.
    pub fn try_modify(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        part: Part,
        dry_run: bool,
        change: impl FnOnce(&mut Value) -> Result<bool, ApiError>,
    ) -> Result<Arc<Object>, ApiError> {
        self.writing(|state, at| {
            let old = Arc::clone(state.get(resource, namespace, name)?);
            let mut value = old.value().clone();
            if !change(&mut value)? {
                return Ok(old);
            }
            state.update(at, resource, namespace, name, part, value, dry_run)
        })
    }

    /// Deletes an object by the rules of grace periods and finalizers.
    pub fn delete(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        self.writing(|state, at| state.delete(at, resource, namespace, name, options))
    }

    /// All changes from now on, of all resources in one order.
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_from(self.revision())
    }

    /// All changes after `revision`.
    pub fn subscribe_from(&self, revision: u64) -> Subscription {
        Subscription::new(self.clone(), None, revision, Arc::clone(&self.inner.any_change))
    }

    /// The changes of one resource after `revision`.
    pub fn watch(&self, resource: ResourceName, revision: u64) -> Subscription {
        let notify = self.state().notify_of(resource);
        Subscription::new(self.clone(), Some(resource), revision, notify)
    }

    /// From now on writes each applied change as one line to `sink`. Two runs with one seed give the same lines.
    pub fn record_writes(&self, sink: Box<dyn Write + Send>) {
        self.state().record = Some(record::WriteLog::new(sink));
    }

    /// Stops the log of writes and flushes it; tells the first error that writing it met.
    pub fn stop_recording(&self) -> std::io::Result<()> {
        let taken = self.state().record.take();
        taken.map_or(Ok(()), record::WriteLog::finish)
    }

    /// Runs one write under the lock and wakes whoever waits for what it changed.
    pub(crate) fn writing<R>(&self, write: impl FnOnce(&mut State, &write::At<'_>) -> R) -> R {
        let at = write::At { now: self.inner.clock.now(), actor: &self.actor };
        let mut state = self.state();
        let before = state.revision;
        let result = write(&mut state, &at);
        let touched = std::mem::take(&mut state.touched);
        let changed = state.revision != before;
        drop(state);
        for notify in touched {
            notify.notify_waiters();
        }
        if changed {
            self.inner.any_change.notify_waiters();
        }
        result
    }
}

#[cfg(test)]
mod tests;
