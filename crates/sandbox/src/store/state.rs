//! What the store's lock guards: tables of objects, the registry, the change log.
//!
//! Owns look-ups and the single place where a new version enters. Leaves the rules of writing to `write` and `delete`.

use super::StoreOptions;
use super::error::ApiError;
use super::log::{Change, ChangeKind, ChangeLog};
use super::metadata::Identities;
use super::object::Object;
use super::record::{WriteLog, WriteRecord};
use super::resource::{Registry, ResourceInfo, ResourceName};
use super::write::At;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Objects of one resource by namespace, then name.
#[derive(Default)]
struct Table {
    by_namespace: BTreeMap<String, BTreeMap<String, Arc<Object>>>,
    count: usize,
    notify: Arc<Notify>,
}

pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) registry: Registry,
    pub(crate) log: ChangeLog,
    pub(crate) identities: Identities,
    pub(crate) record: Option<WriteLog>,
    /// Whom to wake when the write under way ends.
    pub(crate) touched: Vec<Arc<Notify>>,
    /// Cluster addresses given to services so far.
    pub(crate) service_addresses: u32,
    tables: BTreeMap<ResourceName, Table>,
}

impl State {
    pub(crate) fn new(options: &StoreOptions) -> Self {
        Self {
            revision: 0,
            registry: Registry::built_in(),
            log: ChangeLog::new(options.change_limit),
            identities: Identities::new(options.seed),
            record: None,
            touched: Vec::new(),
            service_addresses: 0,
            tables: BTreeMap::new(),
        }
    }

    pub(crate) fn info(&self, resource: ResourceName) -> Result<Arc<ResourceInfo>, ApiError> {
        self.registry.get(resource).cloned().ok_or(ApiError::UnknownPath)
    }

    pub(crate) fn find(&self, resource: ResourceName, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.tables.get(&resource)?.by_namespace.get(namespace)?.get(name)
    }

    pub(crate) fn get(
        &self,
        resource: ResourceName,
        namespace: &str,
        name: &str,
    ) -> Result<&Arc<Object>, ApiError> {
        self.find(resource, namespace, name).ok_or_else(|| ApiError::not_found(resource, name))
    }

    /// Objects in order of namespace and name.
    pub(crate) fn objects(
        &self,
        resource: ResourceName,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = &Arc<Object>> + '_> {
        let Some(table) = self.tables.get(&resource) else { return Box::new(std::iter::empty()) };
        match namespace {
            None => Box::new(table.by_namespace.values().flat_map(BTreeMap::values)),
            Some(namespace) => {
                Box::new(table.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values))
            }
        }
    }

    /// The objects as they were at `revision`, as far as the change log reaches back.
    pub(crate) fn objects_at(
        &self,
        resource: ResourceName,
        namespace: Option<&str>,
        revision: u64,
    ) -> Result<Vec<Arc<Object>>, ApiError> {
        let mut undone = self.log.newest_first(resource, revision)?.peekable();
        if undone.peek().is_none() {
            return Ok(self.objects(resource, namespace).cloned().collect());
        }
        let key = |object: &Object| (object.namespace().to_owned(), object.name().to_owned());
        let mut then: BTreeMap<(String, String), Arc<Object>> =
            self.objects(resource, namespace).map(|object| (key(object), Arc::clone(object))).collect();
        for change in undone.filter(|c| namespace.is_none_or(|n| c.object.namespace() == n)) {
            match &change.previous {
                Some(previous) => then.insert(key(&change.object), Arc::clone(previous)),
                None => then.remove(&key(&change.object)),
            };
        }
        Ok(then.into_values().collect())
    }

    pub(crate) fn count(&self, resource: ResourceName) -> usize {
        self.tables.get(&resource).map_or(0, |table| table.count)
    }

    /// Resources that have an object in this namespace.
    pub(crate) fn resources_in(&self, namespace: &str) -> Vec<ResourceName> {
        let holds =
            |table: &Table| table.by_namespace.get(namespace).is_some_and(|objects| !objects.is_empty());
        self.tables.iter().filter(|(_, table)| holds(table)).map(|(resource, _)| *resource).collect()
    }

    pub(crate) fn notify_of(&mut self, resource: ResourceName) -> Arc<Notify> {
        Arc::clone(&self.tables.entry(resource).or_default().notify)
    }

    /// Makes `value` the next version of its object: the only place where the revision grows.
    pub(crate) fn commit(
        &mut self,
        at: &At<'_>,
        verb: &'static str,
        resource: ResourceName,
        kind: ChangeKind,
        mut value: Value,
    ) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        let object = Arc::new(Object::new(resource, self.revision, value));
        let table = self.tables.entry(resource).or_default();
        let row = table.by_namespace.entry(object.namespace().to_owned()).or_default();
        let previous = if kind == ChangeKind::Deleted {
            let removed = row.remove(object.name());
            if row.is_empty() {
                table.by_namespace.remove(object.namespace());
            }
            removed
        } else {
            row.insert(object.name().to_owned(), Arc::clone(&object))
        };
        match kind {
            ChangeKind::Added => table.count += 1,
            ChangeKind::Deleted => table.count = table.count.saturating_sub(1),
            ChangeKind::Modified => {}
        }
        if !self.touched.iter().any(|known| Arc::ptr_eq(known, &table.notify)) {
            self.touched.push(Arc::clone(&table.notify));
        }
        if let Some(record) = &mut self.record {
            record.write(&WriteRecord::of(at, verb, &object));
        }
        let change = Change { revision: self.revision, kind, object: Arc::clone(&object), previous };
        self.log.push(change);
        object
    }
}
