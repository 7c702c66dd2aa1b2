//! Flags of headroom that objects ask for, with Cluster Autoscaler's names.
//!
//! Owns their translation into the controller's settings.

use crate::policy_flags::switch;
use clap::Args;
use controller::Config;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Headroom (CapacityBuffer)")]
pub(crate) struct CapacityFlags {
    /// Work out how much room `CapacityBuffer`s come to, and say it in their status [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    capacity_buffer_controller_enabled: Option<bool>,
    /// Keep that room, and buy machines where it is short [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    capacity_buffer_pod_injection_enabled: Option<bool>,
}

impl CapacityFlags {
    /// Changes the settings that a flag was given for.
    pub(crate) fn apply(&self, config: &mut Config) {
        let set = |place: &mut bool, given: Option<bool>| *place = given.unwrap_or(*place);
        set(&mut config.capacity_buffers.controller, self.capacity_buffer_controller_enabled);
        set(&mut config.capacity_buffers.pod_injection, self.capacity_buffer_pod_injection_enabled);
    }
}
