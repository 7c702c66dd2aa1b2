//! Names as types, so that a pool's id is never passed where a node's name is meant.
//!
//! Owns the identifiers; what they identify is defined beside its own noun.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }
    };
}

name_type!(
    /// A pool, by the name its provider knows it by: `<provider>/<namespace>/<name>` or a cloud's group id.
    PoolId
);
name_type!(
    /// `metadata.name` of a Node.
    NodeName
);
name_type!(
    /// A machine as its provider names it; where a node exists this is what its provider id leads to.
    MachineId
);
name_type!(
    /// `metadata.name` of a `PersistentVolume`.
    VolumeName
);
name_type!(
    /// `metadata.uid` of any object.
    Uid
);
name_type!(
    /// One intended change of the outside world; stable across restarts and used as client token.
    IntentId
);

impl PoolId {
    /// The name of the provider that serves the pool: what stands before the first slash.
    pub fn provider(&self) -> &str {
        self.as_str().split_once('/').map_or(self.as_str(), |(provider, _)| provider)
    }
}

macro_rules! key_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash)]
        pub struct $name {
            pub namespace: Arc<str>,
            pub name: Arc<str>,
        }

        // By namespace, then by name; readers share the text of namespaces, so most need no second look.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.namespace, &other.namespace) {
                    return self.name.cmp(&other.name);
                }
                self.namespace.cmp(&other.namespace).then_with(|| self.name.cmp(&other.name))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
                Self { namespace: Arc::from(namespace.as_ref()), name: Arc::from(name.as_ref()) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"{}/{}\"", self.namespace, self.name)
            }
        }

        // Keys are map keys in the journal's JSON, so they are written as one string.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                let (namespace, name) = text
                    .split_once('/')
                    .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not namespace/name")))?;
                Ok(Self::new(namespace, name))
            }
        }
    };
}

key_type!(
    /// A pod by namespace and name.
    PodKey
);
key_type!(
    /// A `PodDisruptionBudget` by namespace and name.
    PdbKey
);
key_type!(
    /// A `DaemonSet` by namespace and name.
    DaemonSetKey
);

key_type!(
    /// A `PersistentVolumeClaim` by namespace and name.
    VolumeClaimKey
);

key_type!(
    /// Rules for nodes, one object of them, by namespace and name.
    RuleSetKey
);

/// A replicated workload (ReplicaSet, StatefulSet, Job, ReplicationController) by kind, namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    pub kind: Arc<str>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl WorkloadKey {
    pub fn new(kind: impl AsRef<str>, namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self {
            kind: Arc::from(kind.as_ref()),
            namespace: Arc::from(namespace.as_ref()),
            name: Arc::from(name.as_ref()),
        }
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Debug for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for WorkloadKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name)) => Ok(Self::new(kind, namespace, name)),
            _ => Err(serde::de::Error::custom(format!("\"{text}\" is not kind/namespace/name"))),
        }
    }
}
