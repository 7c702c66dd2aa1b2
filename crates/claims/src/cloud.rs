//! The seam to a cloud that sells single machines: what it must tell, and what is asked of it.
//!
//! Owns the interface. To serve another cloud, implement [`MachineCloud`] and hand it in with [`crate::Settings`]:
//!
//! - It says which kinds of classes are its own (`kinds`), and watches and keeps the objects of these kinds itself, their
//!   status and finalizers included.
//! - It shows two pictures that are whole and replaced by new ones, so that nothing is lost where somebody looks late:
//!   its classes with their types, prices and readiness (`classes`), and its machines (`machines`). Both are `None` until
//!   the cloud has answered for the first time; until then nothing is launched and nothing counts as gone.
//! - `launch` is keyed by the claim's uid: asked for again it answers with the machine that is there, so a process that
//!   dies between the launch and the writing down of its answer launches nothing twice. The options are ranked, the most
//!   wanted first; a cloud that takes several at once is given all of them.
//! - `terminate` may be asked any number of times; it is true once the machine is gone, or never was.
//!
//! What is done with it is not the cloud's: when to launch, time limits, drains, shortages (a sold-out offering is kept
//! off the market for a while), machines whose claim is gone (terminated), claims whose machine is gone (deleted).

use api::karpenter::{NodeClassRef, NodeTaint};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use model::{Flavour, InstanceType, Resources};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// An offering: type, zone, capacity type.
pub type Offer = (Arc<str>, Arc<str>, Arc<str>);

/// What is known of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Types with what they hold and their offerings: zone, capacity type, price, and whether it is for sale at all.
    pub types: Arc<Vec<InstanceType>>,
    /// The image of new machines, where there is one for all.
    pub image: String,
    /// Changes when all machines of the class drift: claims note it at their launch. What makes single machines drift
    /// (an old image, a subnet that is no longer the class's) is told with the machine.
    pub hash: String,
    pub generation: i64,
    /// Of simulated machines only.
    pub simulated: SimulatedTerms,
}

/// How machines are simulated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulatedTerms {
    pub boot: api::simulated::BootTime,
    /// Launches of these fail as sold out.
    pub sold_out: Vec<(String, String, String)>,
}

/// Why a pool has no class to launch with: the reason and message of its condition `NodeClassReady`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoClass {
    pub reason: &'static str,
    pub message: String,
    /// It is expected to pass by itself, as a cloud that does not answer: launches wait. Otherwise they are given up, and
    /// their pods are planned for anew.
    pub passing: bool,
}

impl NoClass {
    /// Something that has to be changed by somebody.
    pub fn lasting(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passing: false }
    }

    /// Something that is waited for.
    pub fn passing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), passing: true }
    }
}

/// Every class of a cloud; one that is not in it does not exist.
pub type ClassTable = BTreeMap<NodeClassRef, Result<Arc<Class>, NoClass>>;

/// Every machine that a cloud has for claims.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineList {
    /// What was launched before this moment and is not listed is gone. A cloud whose lists lag behind its launches says
    /// a time before its last list by as much.
    pub as_of: Timestamp,
    /// By the uid of the claim.
    pub machines: BTreeMap<Arc<str>, Arc<CloudMachine>>,
}

/// A machine that a cloud has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudMachine {
    pub claim: Arc<str>,
    pub uid: Arc<str>,
    pub provider_id: String,
    pub created_at: Timestamp,
    /// What the cloud says is about to happen to it.
    pub notice: Option<Notice>,
    /// Why its class would make another one now: the condition's reason and message.
    pub drift: Option<(&'static str, String)>,
}

/// What a cloud says of a machine's future.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It will be taken soon (spot interruption, maintenance, stopped by somebody): the claim is deleted and drained at
    /// once. `short`: its offering is kept off the market for a while.
    Ends { reason: &'static str, message: String, short: bool },
    /// It might be taken (a recommendation to rebalance): replaced within budgets, the new machine first.
    AtRisk { reason: &'static str, message: String },
}

/// A launch that is wanted.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    pub claim: Arc<str>,
    pub uid: Arc<str>,
    /// The pool's name; claims that a user wrote have none.
    pub pool: Option<Arc<str>>,
    pub class_ref: NodeClassRef,
    pub class: Arc<Class>,
    /// What would do, the most wanted first: type, zone and capacity type are given.
    pub options: Vec<Flavour>,
    /// What the machine must hold at least.
    pub requests: Resources,
    /// Taints that the node joins with. To these comes `karpenter.sh/unregistered:NoExecute`, which keeps pods off until
    /// the node is registered.
    pub taints: Vec<NodeTaint>,
    pub labels: BTreeMap<String, String>,
    /// The prices that the options are ranked by are not the cloud's own: overlays have a word in them.
    pub overlaid: bool,
}

/// What was launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launched {
    /// As the node will say in `spec.providerID`.
    pub provider_id: String,
    pub instance_type: Arc<str>,
    pub zone: Arc<str>,
    pub capacity_type: Arc<str>,
    pub image: String,
}

/// A machine whose end is wanted.
#[derive(Clone, Debug)]
pub struct MachineKey {
    pub claim: Arc<str>,
    pub uid: Arc<str>,
    /// Where its launch was written down; otherwise it is found by the uid.
    pub provider_id: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// None of the options can be had now; these are kept off the market for a while.
    #[error("no machine can be had: {message}")]
    SoldOut { message: String, offers: Vec<Offer> },
    /// Refused for another reason: told in the claim's condition `Launched`, and tried again for five minutes.
    #[error("the launch was refused with {code}: {message}")]
    Refused { code: String, message: String },
    /// Nothing is known: to be asked again.
    #[error("the launch got no answer: {0}")]
    Unknown(String),
}

/// A condition of nodes that their machines are replaced for when it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    pub condition: &'static str,
    pub status: &'static str,
    /// How long it is put up with.
    pub after: SignedDuration,
}

/// One way of getting single machines.
pub trait MachineCloud: Send + Sync {
    /// Group and kind of the classes that it serves.
    fn kinds(&self) -> Vec<(&'static str, &'static str)>;

    /// All classes as they are known now. Kept current from when the cloud was made until all receivers are dropped.
    fn classes(&self) -> watch::Receiver<Option<Arc<ClassTable>>>;

    /// All machines as they are known now, kept current in the same way.
    fn machines(&self) -> watch::Receiver<Option<Arc<MachineList>>>;

    /// Launches one machine for a claim, or finds the one that was launched for it.
    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> BoxFuture<'a, Result<Launched, LaunchError>>;

    /// Asks for the end of the machine that was launched for a claim; true when it is gone.
    fn terminate<'a>(&'a self, machine: &'a MachineKey) -> BoxFuture<'a, Result<bool, LaunchError>>;

    /// The illnesses of nodes that a new machine helps against.
    fn repairs(&self) -> &'static [Repair] {
        &[]
    }
}
