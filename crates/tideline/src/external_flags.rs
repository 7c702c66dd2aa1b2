//! The provider of `--cloud-provider=externalgrpc`, as the flags and their file describe it.
//!
//! Owns the way from `--cloud-config` to the provider's settings.

use crate::error::CommandError;
use crate::group_flags::GroupFlags;
use clock::Clock;
use clouds::Provider;
use clouds::calls::CallLimits;
use clouds::external::{Configuration, External, Settings};
use controller::Config;
use kube::Client;
use model::{Policies, PoolOptions};
use std::sync::Arc;

/// The provider, ready to be asked.
pub(crate) fn provider(
    flags: &GroupFlags,
    config: &Config,
    limits: CallLimits,
    client: Client,
    clock: Clock,
) -> Result<Arc<dyn Provider>, CommandError> {
    let Some(path) = &flags.cloud_config else {
        return Err(CommandError::Usage(
            "--cloud-provider=externalgrpc needs --cloud-config=FILE, in YAML with `address: host:port` and, for \
             TLS, cert, key and cacert"
                .to_owned(),
        ));
    };
    let text =
        std::fs::read_to_string(path).map_err(|source| CommandError::Read { path: path.clone(), source })?;
    let wrong = |why: String| CommandError::Input(format!("{}: {why}", path.display()));
    let Configuration { server, timeout } = Configuration::read(&text).map_err(wrong)?;
    if timeout > limits.timeout {
        return Err(wrong(format!(
            "grpc_timeout is over calls.timeoutSeconds, {} s, for which the Lease is known to be ours; lower one or \
             raise the other",
            limits.timeout.as_secs()
        )));
    }
    if server.tls.is_none() {
        tracing::warn!(
            address = server.address,
            "the connection to the external program is plain: whoever is on its way can resize the cluster; give \
             cert, key and cacert"
        );
    }
    tracing::info!(address = server.address, "serving groups of an external program");
    let limits = CallLimits { timeout, ..limits };
    let settings = Settings { defaults: defaults(&config.policies), ..Settings::new(server, limits) };
    Ok(Arc::new(External::new(settings, Some(client), clock).map_err(wrong)?))
}

/// The cluster's settings that a group may have of its own.
fn defaults(policies: &Policies) -> PoolOptions {
    PoolOptions {
        utilization_threshold_percent: Some(policies.utilization_threshold_percent),
        gpu_utilization_threshold_percent: Some(policies.gpu_utilization_threshold_percent),
        ignore_daemonsets_utilization: Some(policies.ignore_daemonsets_utilization),
        unneeded_time: Some(policies.unneeded_time),
        unready_time: Some(policies.unready_time),
        max_provision_time: Some(policies.max_provision_time),
        max_startup_time: Some(policies.max_startup_time),
        cool_down: None,
    }
}
