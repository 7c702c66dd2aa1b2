//! Karpenter's kinds, served: NodePools are pools of the planner, NodeClaims are its machines.
//!
//! Owns the provider that shows the planner what these objects say and writes the claims that it orders, and the
//! keeper that takes each claim from its launch to its end. Which machine is bought and which one goes is decided by
//! `nodes`; a cloud is behind [`cloud::MachineCloud`].

mod catalogue;
mod classes;
pub mod cloud;
mod conditions;
mod ending;
mod joining;
mod keeper;
mod launching;
pub mod legacy;
mod orders;
mod pool_status;
mod provider;
mod shortages;
mod simulated;
mod translation;
mod view;

pub use keeper::Keeper;
pub use provider::DirectPools;

use classes::Stand;
use clock::Clock;
use clouds::watching::WatchSettings;
use kube::Client;
use shortages::Shortages;
use std::sync::Arc;

/// Prefix of these pools' ids and the provider's name.
pub const NAME: &str = "karpenter";

/// How the two halves are run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub watches: WatchSettings,
    /// Classes of clouds that are not served are stood in for by simulated machines: for trying out.
    pub simulate_clouds: bool,
}

/// The provider for the planner and the keeper of claims, over one cluster.
pub fn start(client: &Client, clock: Clock, settings: &Settings) -> (Arc<DirectPools>, Keeper) {
    let shortages = Arc::new(Shortages::new());
    let stand = if settings.simulate_clouds { Stand::Simulated } else { Stand::None };
    let provider = DirectPools::new(client.clone(), clock, settings.watches, stand, shortages.clone());
    let keeper = Keeper::new(client.clone(), clock, settings.watches, stand, shortages);
    (Arc::new(provider), keeper)
}
