//! Node classes: what a pool's reference leads to.
//!
//! Owns finding the class of a reference and what it says: its types, whether it is ready, and a mark that changes
//! with everything that makes its machines drift.

use crate::catalogue;
use api::karpenter::{AWS_GROUP, Ec2NodeClass, NodeClassRef, SimulatedNodeClass};
use api::simulated::BootTime;
use kube::ResourceExt as _;
use model::InstanceType;
use std::collections::BTreeMap;
use std::sync::Arc;

/// On a class: the zones that its stand-in sells in.
const ZONES: &str = "tideline.dev/zones";

/// What stands in for clouds that are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    None,
    Simulated,
}

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Class {
    pub types: Arc<Vec<InstanceType>>,
    pub boot: BootTime,
    pub image: String,
    /// Changes when its machines drift.
    pub hash: String,
    pub generation: i64,
    /// Launches of these fail as sold out: type, zone, capacity type.
    pub sold_out: Vec<(String, String, String)>,
}

/// Why a pool has no class to launch with: a condition's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoClass {
    pub reason: &'static str,
    pub message: String,
}

/// All classes that are known.
#[derive(Debug)]
pub(crate) struct Classes {
    stand: Stand,
    known: BTreeMap<NodeClassRef, Result<Arc<Class>, NoClass>>,
}

impl Classes {
    pub(crate) fn new(stand: Stand) -> Self {
        Self { stand, known: BTreeMap::new() }
    }

    pub(crate) fn put_simulated(&mut self, object: &SimulatedNodeClass) -> NodeClassRef {
        let key = reference(api::GROUP, "SimulatedNodeClass", &object.name_any());
        let class = if object.metadata.deletion_timestamp.is_some() {
            Err(terminating(&key))
        } else {
            catalogue::of_class(&object.spec)
                .map(|types| {
                    let sold_out = object.spec.instance_types.iter().flat_map(|entry| {
                        let gone = entry.offerings.iter().filter(|offering| offering.sold_out);
                        gone.map(|o| (entry.name.clone(), o.zone.clone(), o.capacity_type.clone()))
                    });
                    Arc::new(Class {
                        sold_out: sold_out.collect(),
                        types: Arc::new(types),
                        boot: object.spec.boot.clone(),
                        image: object.spec.image.clone(),
                        hash: crate::orders::hash_of(&object.spec.image),
                        generation: object.metadata.generation.unwrap_or(0),
                    })
                })
                .map_err(|error| NoClass { reason: "ValidationFailed", message: error.to_string() })
        };
        self.known.insert(key.clone(), class);
        key
    }

    pub(crate) fn put_ec2(&mut self, object: &Ec2NodeClass) -> NodeClassRef {
        let key = reference(AWS_GROUP, "EC2NodeClass", &object.name_any());
        let class = match self.stand {
            _ if object.metadata.deletion_timestamp.is_some() => Err(terminating(&key)),
            Stand::None => Err(NoClass {
                reason: "NotServed",
                message: "this program was not given a cloud that launches machines for EC2NodeClasses"
                    .to_owned(),
            }),
            Stand::Simulated => {
                let zones = object.annotations().get(ZONES).map_or("", String::as_str);
                let zones: Vec<&str> = zones.split(',').map(str::trim).filter(|z| !z.is_empty()).collect();
                let zones: &[&str] = if zones.is_empty() { &catalogue::ZONES } else { &zones };
                Ok(Arc::new(Class {
                    types: Arc::new(catalogue::built_in(zones)),
                    boot: BootTime::default(),
                    image: "simulated".to_owned(),
                    hash: crate::orders::hash_of(&object.spec),
                    generation: object.metadata.generation.unwrap_or(0),
                    sold_out: Vec::new(),
                }))
            }
        };
        self.known.insert(key.clone(), class);
        key
    }

    pub(crate) fn forget(&mut self, group: &str, kind: &str, name: &str) {
        self.known.remove(&reference(group, kind, name));
    }

    pub(crate) fn of(&self, key: &NodeClassRef) -> Result<Arc<Class>, NoClass> {
        self.known.get(key).cloned().unwrap_or_else(|| {
            let message = format!("{} {} of group {} is not there", key.kind, key.name, key.group);
            Err(NoClass { reason: "NodeClassNotFound", message })
        })
    }
}

pub(crate) fn reference(group: &str, kind: &str, name: &str) -> NodeClassRef {
    NodeClassRef { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn terminating(key: &NodeClassRef) -> NoClass {
    NoClass { reason: "NodeClassTerminating", message: format!("{} {} is being deleted", key.kind, key.name) }
}

/// The label by which a node names its class: `<group>/<kind in small letters>`.
pub(crate) fn label_of(key: &NodeClassRef) -> String {
    format!("{}/{}", key.group, key.kind.to_lowercase())
}
