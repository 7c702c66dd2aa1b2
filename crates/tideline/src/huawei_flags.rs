//! The flags of Huawei Cloud, and the provider that they make.
//!
//! Owns where each setting comes from: flags first, then the environment. No key is printed.

use crate::error::CommandError;
use crate::group_flags::{GroupFlags, network};
use clap::Args;
use clock::Clock;
use clouds::Provider;
use clouds::calls::CallLimits;
use clouds::huawei::{DISCOVERY, Huawei, Settings, Source};
use std::sync::Arc;

#[derive(Args, Clone, Default)]
#[expect(clippy::struct_field_names, reason = "the names are the flags'")]
#[command(next_help_heading = "Huawei Cloud (--cloud-provider=huaweicloud)")]
pub(crate) struct HuaweiFlags {
    /// Id of the CCE cluster whose node pools are served
    #[arg(long, value_name = "ID")]
    huaweicloud_cluster: Option<String>,
    /// Region of the cluster [default: HUAWEICLOUD_SDK_REGION]
    #[arg(long, value_name = "REGION")]
    huaweicloud_region: Option<String>,
    /// Another address of an API: cce, ecs or metadata, such as cce=https://cce.example.com
    #[arg(long, value_name = "API=URL")]
    huaweicloud_endpoint: Vec<String>,
}

impl HuaweiFlags {
    /// A flag that was given and means nothing without the provider.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--huaweicloud-cluster", self.huaweicloud_cluster.is_some()),
            ("--huaweicloud-region", self.huaweicloud_region.is_some()),
            ("--huaweicloud-endpoint", !self.huaweicloud_endpoint.is_empty()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// The provider, ready to be asked.
    pub(crate) fn provider(
        &self,
        groups: &GroupFlags,
        limits: CallLimits,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, CommandError> {
        let environment = |name: &str| std::env::var(name).ok();
        let named = |name: &str| environment(name).unwrap_or_default().trim().to_owned();
        let region = self.huaweicloud_region.clone().unwrap_or_else(|| named("HUAWEICLOUD_SDK_REGION"));
        let cluster = self.huaweicloud_cluster.clone().unwrap_or_default();
        let mut settings = Settings::new(&region, &named("HUAWEICLOUD_SDK_PROJECT_ID"), &cluster);
        settings.pools = groups.named()?;
        for text in &groups.node_group_auto_discovery {
            if text != DISCOVERY {
                return Err(CommandError::Usage(format!(
                    "--node-group-auto-discovery \"{text}\": on Huawei Cloud write {DISCOVERY}, which serves every node \
                     pool whose elastic scaling is on"
                )));
            }
            settings.discover = true;
        }
        for text in &self.huaweicloud_endpoint {
            let wrong = |why| CommandError::Usage(format!("--huaweicloud-endpoint {why}"));
            settings.set_endpoint(text).map_err(wrong)?;
        }
        settings.limits = limits;
        let source = Source::from_environment(environment).map_err(CommandError::Usage)?;
        let transport = network()?;
        let (cluster, signed_with) = (settings.cluster.clone(), source.describe());
        let provider = Huawei::new(settings, source, &transport, clock).map_err(CommandError::Usage)?;
        tracing::info!(cluster, signed_with, "serving node pools of Huawei Cloud CCE");
        Ok(Arc::new(provider))
    }
}
