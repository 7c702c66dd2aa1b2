//! The flags of Alibaba Cloud, and the provider that they make.
//!
//! Owns where each setting comes from: flags first, then Cluster Autoscaler's cloud-config file, then the environment,
//! then the metadata service of the instance. No key is printed, and no error quotes the file.

use crate::error::CommandError;
use crate::group_flags::{GroupFlags, network};
use clap::Args;
use clock::Clock;
use clouds::Provider;
use clouds::alibaba::{AccessKey, Alibaba, Declared, Settings, Source, instance_region};
use clouds::calls::CallLimits;
use clouds::secret::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Alibaba Cloud (--cloud-provider=alicloud)")]
pub(crate) struct AlibabaFlags {
    /// Region of the scaling groups [default: REGION_ID, else that of the instance we run on]
    #[arg(long, value_name = "REGION")]
    alicloud_region: Option<String>,
    /// Another address of an API: ess, ecs, sts or metadata, such as ess=https://ess-vpc.cn-hangzhou.aliyuncs.com
    #[arg(long, value_name = "API=URL")]
    alicloud_endpoint: Vec<String>,
}

/// What a cloud-config file says.
#[derive(Default)]
struct CloudConfig {
    key: Option<AccessKey>,
    region: Option<String>,
}

impl AlibabaFlags {
    /// A flag that was given and means nothing without the provider.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--alicloud-region", self.alicloud_region.is_some()),
            ("--alicloud-endpoint", !self.alicloud_endpoint.is_empty()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// The provider, ready to be asked.
    pub(crate) async fn provider(
        &self,
        groups: &GroupFlags,
        limits: CallLimits,
        clock: Clock,
    ) -> Result<Arc<dyn Provider>, CommandError> {
        let declared: Vec<Declared> = groups.named()?;
        let environment = |name: &str| std::env::var(name).ok();
        let file = match &groups.cloud_config {
            None => CloudConfig::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| CommandError::Read { path: path.clone(), source })?;
                read_cloud_config(&text)
                    .map_err(|why| CommandError::Input(format!("{}: {why}", path.display())))?
            }
        };
        let source = match file.key {
            Some(key) => Source::Given(key),
            None => Source::from_environment(environment).map_err(CommandError::Usage)?,
        };
        let transport = network()?;
        let named = |name: &str| environment(name).filter(|region| !region.is_empty());
        let region = self.alicloud_region.clone().or(file.region);
        let region = region.or_else(|| named("REGION_ID")).or_else(|| named("ALIBABA_CLOUD_REGION_ID"));
        let mut settings = Settings::new(region.as_deref().unwrap_or("cn-hangzhou"), declared.clone());
        self.set_endpoints(&mut settings)?;
        if region.is_none() {
            let found = instance_region(&transport, &settings.endpoints.metadata, limits, clock).await;
            let found = found.map_err(|why| {
                CommandError::Usage(format!(
                    "no region is named, and the metadata service tells none ({why}); set REGION_ID or --alicloud-region"
                ))
            })?;
            settings = Settings::new(&found, declared);
            self.set_endpoints(&mut settings)?;
        }
        settings.limits = limits;
        tracing::info!(
            region = settings.region,
            groups = settings.pools.len(),
            signed_with = source.describe(),
            "serving scaling groups of Alibaba Cloud"
        );
        let provider = Alibaba::new(settings, source, &transport, clock).map_err(CommandError::Usage)?;
        Ok(Arc::new(provider))
    }

    fn set_endpoints(&self, settings: &mut Settings) -> Result<(), CommandError> {
        for text in &self.alicloud_endpoint {
            let wrong = |why| CommandError::Usage(format!("--alicloud-endpoint {why}"));
            settings.endpoints.set(text).map_err(wrong)?;
        }
        Ok(())
    }
}

/// Reads the file; an error names line or field and never quotes a value, because it may be a key.
fn read_cloud_config(text: &str) -> Result<CloudConfig, String> {
    let mut section = String::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.trim().to_ascii_lowercase().clone_into(&mut section);
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {} is neither [Global] nor name = value", number + 1));
        };
        if section == "global" {
            let value = value.trim().trim_matches('"').to_owned();
            values.insert(name.trim().to_ascii_lowercase(), value);
        }
    }
    let mut take = |name: &str| values.remove(name).filter(|value| !value.is_empty());
    let region = take("region-id");
    let key = match (take("access-key-id"), take("access-key-secret")) {
        (Some(id), Some(secret)) => Some(AccessKey { id, secret: Secret::new(secret), token: None }),
        (None, None) => None,
        (Some(_), None) => return Err("access-key-id is there and access-key-secret is not; add it".into()),
        (None, Some(_)) => return Err("access-key-secret is there and access-key-id is not; add it".into()),
    };
    Ok(CloudConfig { key, region })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloud_config_files_are_read_and_errors_quote_nothing() {
        let text =
            "; keys\n[Global]\naccess-key-id = \"id\"\naccess-key-secret=s3cret=\nregion-id = cn-beijing\n";
        let read = read_cloud_config(text).unwrap();
        assert_eq!(read.region.as_deref(), Some("cn-beijing"));
        assert!(read.key.is_some_and(|key| key.id == "id" && key.secret == Secret::new("s3cret=")));
        for (text, part) in
            [("[Global]\ns3cret", "line 2"), ("[Global]\naccess-key-secret=s3cret", "access-key-id is not")]
        {
            let why = read_cloud_config(text).err().unwrap();
            assert!(why.contains(part) && !why.contains("s3cret"), "{why}");
        }
        assert!(read_cloud_config("[Other]\naccess-key-id=x").unwrap().key.is_none());
    }
}
