//! Node classes: what a pool's reference leads to, whichever cloud serves it.
//!
//! Owns finding the cloud and the class of a reference. What a class says is its cloud's.

use crate::cloud::{Class, ClassTable, MachineCloud, NoClass};
use api::karpenter::{AWS_GROUP, NodeClassRef};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// The kind of AWS's classes.
pub(crate) const EC2_KIND: &str = "EC2NodeClass";

/// The clouds that are served, by their place in the list.
#[derive(Clone)]
pub(crate) struct Clouds(pub(crate) Vec<Arc<dyn MachineCloud>>);

impl Clouds {
    /// Which cloud serves a class.
    pub(crate) fn of(&self, key: &NodeClassRef) -> Option<(usize, &Arc<dyn MachineCloud>)> {
        let key = canonical(key);
        self.0.iter().enumerate().find(|(_, cloud)| {
            cloud.kinds().iter().any(|(group, kind)| *group == key.group && *kind == key.kind)
        })
    }
}

/// Which classes a piece of news is about.
pub(crate) enum Different {
    All,
    These(BTreeSet<NodeClassRef>),
}

impl Different {
    pub(crate) fn includes(&self, class: &NodeClassRef) -> bool {
        let class = &*canonical(class);
        match self {
            Self::All => true,
            Self::These(classes) => classes.contains(class),
        }
    }
}

/// All classes that are known.
pub(crate) struct Classes {
    clouds: Clouds,
    known: Vec<Option<Arc<ClassTable>>>,
}

impl Classes {
    pub(crate) fn new(clouds: Clouds) -> Self {
        let known = clouds.0.iter().map(|cloud| cloud.classes().borrow().clone()).collect();
        Self { clouds, known }
    }

    /// Takes in what a cloud says now; which classes may be different from before.
    pub(crate) fn refresh(&mut self, cloud: usize, now: Option<Arc<ClassTable>>) -> Different {
        let Some(known) = self.known.get_mut(cloud) else { return Different::These(BTreeSet::new()) };
        let before = std::mem::replace(known, now);
        match (before, known) {
            (None, None) => Different::These(BTreeSet::new()),
            (Some(old), Some(new)) => {
                let names = old.keys().chain(new.keys());
                Different::These(names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect())
            }
            // What does not exist is known only now.
            _ => Different::All,
        }
    }

    pub(crate) fn of(&self, key: &NodeClassRef) -> Result<Arc<Class>, NoClass> {
        let Some((cloud, _)) = self.clouds.of(key) else {
            let message = format!(
                "this program was not given a cloud that launches machines for {}s of group {}",
                key.kind, key.group
            );
            return Err(NoClass::lasting("NotServed", message));
        };
        let key = &*canonical(key);
        let Some(table) = &self.known[cloud] else {
            let message = format!("the cloud of {} {} has not answered yet", key.kind, key.name);
            return Err(NoClass::passing("NodeClassReadinessUnknown", message));
        };
        table.get(key).cloned().unwrap_or_else(|| {
            let message = format!("{} {} of group {} is not there", key.kind, key.name, key.group);
            Err(NoClass::lasting("NodeClassNotFound", message))
        })
    }
}

/// Every picture that a receiver is sent, the present one first.
pub(crate) fn pictures<T: Clone + Send + Sync + 'static>(
    receiver: watch::Receiver<T>,
) -> BoxStream<'static, T> {
    stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            receiver.changed().await.ok()?;
        }
        let picture = receiver.borrow_and_update().clone();
        Some((picture, (receiver, false)))
    })
    .boxed()
}

/// A class that a pool of ours refers to in our own group is the one of that name in its cloud's group: so a pool can be
/// ours while another Karpenter, which does not look at our group, acts on the rest.
pub(crate) fn canonical(key: &NodeClassRef) -> Cow<'_, NodeClassRef> {
    if key.group == api::GROUP && key.kind == EC2_KIND {
        Cow::Owned(reference(AWS_GROUP, EC2_KIND, &key.name))
    } else {
        Cow::Borrowed(key)
    }
}

pub(crate) fn reference(group: &str, kind: &str, name: &str) -> NodeClassRef {
    NodeClassRef { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

/// The label by which a node names its class: `<group>/<kind in small letters>`.
pub(crate) fn label_of(key: &NodeClassRef) -> String {
    format!("{}/{}", key.group, key.kind.to_lowercase())
}
