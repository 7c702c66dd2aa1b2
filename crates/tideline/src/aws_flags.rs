//! The provider of AWS, as the flags and the environment describe it.
//!
//! Owns the way from flags to the provider's settings. Region, keys and endpoints are found by the SDK, in the places
//! where every program on AWS finds them.

use crate::error::CommandError;
use crate::group_flags::GroupFlags;
use clock::Clock;
use clouds::Provider;
use clouds::aws::{Aws, Declarations, Settings, from_environment};
use clouds::calls::CallLimits;
use std::sync::Arc;

/// The provider, ready to be asked.
pub(crate) async fn provider(
    flags: &GroupFlags,
    limits: CallLimits,
    clock: Clock,
) -> Result<Arc<dyn Provider>, CommandError> {
    let read = |text: &String| {
        let wrong = |why| CommandError::Usage(format!("--node-group-auto-discovery {why}"));
        text.parse().map_err(wrong)
    };
    let discovered: Result<_, _> = flags.node_group_auto_discovery.iter().map(read).collect();
    let declarations = Declarations { named: flags.named()?, discovered: discovered? };
    let (named, specs) = (declarations.named.len(), declarations.discovered.len());
    let settings = Settings { limits, ..Settings::new(declarations) };
    let config = from_environment().await;
    let region = config.region().map(ToString::to_string);
    tracing::info!(region, named, specs, "serving Auto Scaling groups of AWS");
    Ok(Arc::new(Aws::new(settings, &config, clock).map_err(CommandError::Usage)?))
}
