//! What the keeper needs of a cloud: launch once, list, terminate.
//!
//! Owns the interface. A launch is keyed by the claim's uid: asked for again it answers with the machine that is
//! there, so a process that dies between the launch and the writing down of its answer launches nothing twice.

use futures::future::BoxFuture;
use model::Flavour;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A launch that is wanted.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    pub claim: Arc<str>,
    pub uid: Arc<str>,
    /// What would do, the most wanted first: type, zone and capacity type are given.
    pub options: Vec<Flavour>,
    /// Taints that the node joins with.
    pub taints: Vec<api::karpenter::NodeTaint>,
    pub labels: BTreeMap<String, String>,
    pub boot: api::simulated::BootTime,
    /// Offerings of which the class says that their launch fails.
    pub sold_out: Vec<(String, String, String)>,
    pub image: String,
}

/// A machine that a cloud has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    pub provider_id: String,
    pub instance_type: Arc<str>,
    pub zone: Arc<str>,
    pub capacity_type: Arc<str>,
    pub image: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// None of the options can be had now.
    #[error("no machine can be had: {message}")]
    SoldOut { message: String, offers: Vec<(Arc<str>, Arc<str>, Arc<str>)> },
    /// Refused for another reason.
    #[error("the launch was refused with {code}: {message}")]
    Refused { code: String, message: String },
    /// Nothing is known: to be asked again.
    #[error("the launch got no answer: {0}")]
    Unknown(String),
}

/// One way of getting single machines.
pub trait MachineCloud: Send + Sync {
    /// Launches one machine for a claim, or finds the one that was launched for it.
    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> BoxFuture<'a, Result<Launched, LaunchError>>;

    /// Asks for the end of the machine that was launched for a claim; true when it is gone.
    fn terminate<'a>(&'a self, claim: &'a str, uid: &'a str) -> BoxFuture<'a, Result<bool, LaunchError>>;
}
