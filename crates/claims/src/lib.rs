//! Karpenter's kinds, served: NodePools are pools of the planner, NodeClaims are its machines.
//!
//! Owns the provider that shows the planner what these objects say and writes the claims that it orders, and the
//! keeper that takes each claim from its launch to its end. Which machine is bought and which one goes is decided by
//! `nodes`; a cloud is behind [`cloud::MachineCloud`].

pub mod beta;
mod catalogue;
mod classes;
pub mod cloud;
mod conditions;
mod due;
mod ending;
mod fixed;
mod guard;
mod joining;
mod keeper;
mod launching;
pub mod legacy;
mod mirror;
mod orders;
mod overlays;
mod pool_status;
mod provider;
mod repair;
mod seen;
mod shared;
mod shortages;
mod simulated;
mod translation;
mod view;

pub use keeper::Keeper;
pub use provider::DirectPools;

use classes::Clouds;
use clock::Clock;
use cloud::MachineCloud;
use clouds::events::Recorder;
use clouds::watching::WatchSettings;
use guard::Guard;
use kube::Client;
use shortages::Shortages;
use simulated::SimulatedCloud;
use std::sync::Arc;

/// Prefix of these pools' ids and the provider's name.
pub const NAME: &str = "karpenter";

/// How the two halves are run.
#[derive(Clone)]
pub struct Settings {
    pub watches: WatchSettings,
    /// Classes of clouds that are not served are stood in for by simulated machines: for trying out.
    pub simulate_clouds: bool,
    /// Pools are left to another Karpenter while one runs. A dry run need not heed it.
    pub heeds_others: bool,
    /// Machines whose node is ill for as long as their cloud puts up with are replaced.
    pub repairs: bool,
    /// Clouds besides the simulated one. They come first: a kind of class that one of them serves is not stood in for.
    pub clouds: Vec<Arc<dyn MachineCloud>>,
}

/// What both halves look at.
#[derive(Clone)]
struct Parts {
    clouds: Clouds,
    shortages: Arc<Shortages>,
    guard: Guard,
    repairs: bool,
}

/// The provider for the planner and the keeper of claims, over one cluster. To be called where tasks can be started.
pub fn start(client: &Client, clock: Clock, settings: &Settings) -> (Arc<DirectPools>, Keeper) {
    let shortages = Arc::new(Shortages::new());
    let simulated = SimulatedCloud::start(client, clock, settings.watches, settings.simulate_clouds);
    let mut all = settings.clouds.clone();
    all.push(Arc::new(simulated));
    let clouds = Clouds(all);
    let guard =
        if settings.heeds_others { Guard::start(client, clock, settings.watches) } else { Guard::none() };
    let parts = Parts { clouds, shortages, guard, repairs: settings.repairs };
    let provider = DirectPools::new(client.clone(), clock, settings.watches, parts.clone());
    let recorder = Recorder::start(Some(client.clone()), clock, settings.watches.call_timeout);
    let keeper = Keeper::new(client.clone(), clock, settings.watches, parts, recorder);
    (Arc::new(provider), keeper)
}
