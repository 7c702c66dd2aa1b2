//! Flags of headroom that objects ask for, with Cluster Autoscaler's names.
//!
//! Owns their translation into the controller's settings.

use crate::duration;
use crate::policy_flags::switch;
use clap::Args;
use controller::Config;
use jiff::SignedDuration;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Headroom (CapacityBuffer, ProvisioningRequest)")]
pub(crate) struct CapacityFlags {
    /// Work out how much room `CapacityBuffer`s come to, and say it in their status [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    capacity_buffer_controller_enabled: Option<bool>,
    /// Keep that room, and buy machines where it is short [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    capacity_buffer_pod_injection_enabled: Option<bool>,
    /// Serve `ProvisioningRequest`s: look for room, or buy it, all or nothing, and hold it for their pods [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    enable_provisioning_requests: Option<bool>,
    /// Wait before a `ProvisioningRequest` for which there was no room is tried again [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    provisioning_request_initial_backoff_time: Option<SignedDuration>,
    /// The longest of these waits [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    provisioning_request_max_backoff_time: Option<SignedDuration>,
    /// Serve only checks of capacity that name this instance in their parameter processorInstance
    #[arg(long, value_name = "NAME")]
    check_capacity_processor_instance: Option<String>,
}

impl CapacityFlags {
    /// Changes the settings that a flag was given for.
    pub(crate) fn apply(&self, config: &mut Config) {
        let set = |place: &mut bool, given: Option<bool>| *place = given.unwrap_or(*place);
        set(&mut config.capacity_buffers.controller, self.capacity_buffer_controller_enabled);
        set(&mut config.capacity_buffers.pod_injection, self.capacity_buffer_pod_injection_enabled);
        let requests = &mut config.provisioning_requests;
        set(&mut requests.enabled, self.enable_provisioning_requests);
        let seconds = |place: &mut u32, given: Option<SignedDuration>| {
            *place = given.and_then(|wait| u32::try_from(wait.as_secs()).ok()).unwrap_or(*place);
        };
        seconds(&mut requests.initial_back_off_seconds, self.provisioning_request_initial_backoff_time);
        seconds(&mut requests.max_back_off_seconds, self.provisioning_request_max_backoff_time);
        if let Some(instance) = &self.check_capacity_processor_instance {
            requests.instance.clone_from(instance);
        }
    }
}
