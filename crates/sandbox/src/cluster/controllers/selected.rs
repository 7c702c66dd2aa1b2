//! Which pods the selectors of budgets and Services choose, kept as pods change.
//!
//! Owns membership and the little that budgets count of a member, so that one pod's change costs no look at the
//! others' JSON.

use super::objects::{controller_of, is_ready, selects};
use crate::store::resource::PODS;
use crate::store::{Change, ChangeKind, Object, Store};
use model::LabelSelector;
use std::collections::BTreeMap;

/// The owner that controls a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) kind: String,
    pub(super) name: String,
}

/// What is counted of a chosen pod.
pub(super) struct Member {
    pub(super) ready: bool,
    pub(super) terminating: bool,
    pub(super) owner: Option<Owner>,
}

impl Member {
    fn of(pod: &Object) -> Self {
        let owner = controller_of(pod).map(|(kind, name, uid)| Owner {
            uid: uid.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        });
        Self { ready: is_ready(pod), terminating: pod.is_terminating(), owner }
    }
}

pub(super) struct Selected {
    selector: LabelSelector,
    pub(super) members: BTreeMap<String, Member>,
}

/// The selectors of one kind of object, by namespace and name.
#[derive(Default)]
pub(super) struct Selectors(BTreeMap<String, BTreeMap<String, Selected>>);

impl Selectors {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Selected> {
        self.0.get(namespace)?.get(name)
    }

    /// The object's selector is now this, or it chooses nothing any more.
    pub(super) fn set(
        &mut self,
        store: &Store,
        namespace: &str,
        name: &str,
        selector: Option<LabelSelector>,
    ) {
        let of_namespace = self.0.entry(namespace.to_owned()).or_default();
        let Some(selector) = selector else {
            of_namespace.remove(name);
            return;
        };
        if of_namespace.get(name).is_some_and(|known| known.selector == selector) {
            return;
        }
        let members = store
            .list_in(PODS, namespace)
            .iter()
            .filter(|pod| selects(&selector, pod.labels()))
            .map(|pod| (pod.name().to_owned(), Member::of(pod)))
            .collect();
        of_namespace.insert(name.to_owned(), Selected { selector, members });
    }

    /// Takes a pod's change in; gives the names of the objects that choose it, or did.
    pub(super) fn pod_changed(&mut self, change: &Change) -> Vec<String> {
        let pod = &change.object;
        let Some(of_namespace) = self.0.get_mut(pod.namespace()) else { return Vec::new() };
        let mut concerned = Vec::new();
        for (name, selected) in of_namespace {
            let chosen = change.kind != ChangeKind::Deleted && selects(&selected.selector, pod.labels());
            let was = if chosen {
                selected.members.insert(pod.name().to_owned(), Member::of(pod)).is_some()
            } else {
                selected.members.remove(pod.name()).is_some()
            };
            if chosen || was {
                concerned.push(name.clone());
            }
        }
        concerned
    }
}
