//! Objects of one kind as last seen.
//!
//! Owns bringing them in line with a watch, a full list included.

use clouds::watching::Seen;
use kube::{Resource, ResourceExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name of an object, behind its namespace where it has one.
pub(crate) fn key_of<K: Resource>(object: &K) -> String {
    match object.namespace() {
        Some(namespace) => format!("{namespace}/{}", object.name_any()),
        None => object.name_any(),
    }
}

pub(crate) struct Mirror<K> {
    objects: BTreeMap<String, Arc<K>>,
    listed: Option<BTreeSet<String>>,
    pub synced: bool,
}

impl<K: Resource> Mirror<K> {
    pub(crate) fn new() -> Self {
        Self { objects: BTreeMap::new(), listed: None, synced: false }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<K>> {
        self.objects.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    /// Takes news in; the names of what changed.
    pub(crate) fn take(&mut self, seen: Seen<K>) -> Vec<String> {
        match seen {
            Seen::Begin => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Seen::Object(object) => {
                let name = key_of(&object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(name.clone());
                }
                self.objects.insert(name.clone(), Arc::new(object));
                vec![name]
            }
            Seen::Gone(object) => {
                let name = key_of(&object);
                self.objects.remove(&name);
                vec![name]
            }
            Seen::Synced => {
                self.synced = true;
                let Some(listed) = self.listed.take() else { return Vec::new() };
                let gone: Vec<String> =
                    self.objects.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                for name in &gone {
                    self.objects.remove(name);
                }
                gone
            }
            Seen::Broken { missing_kind, .. } => {
                // A kind that the server does not know has no objects.
                self.synced |= missing_kind;
                Vec::new()
            }
        }
    }
}
