//! Cluster Autoscaler's flags that name groups of a cloud, whichever cloud it is.
//!
//! Owns which of them a provider may be given, and the refusal of those that no provider here takes.

use crate::error::CommandError;
use clap::Args;
use clouds::transport::{Network, Transport};
use model::ProviderKind;
use std::path::PathBuf;
use std::sync::Arc;

/// Clouds whose groups are named on the command line.
const CLOUDS: [ProviderKind; 3] = [ProviderKind::Alicloud, ProviderKind::Aws, ProviderKind::Huaweicloud];

/// How APIs of clouds are reached.
pub(crate) fn network() -> Result<Arc<dyn Transport>, CommandError> {
    let network = Network::new().map_err(|error| {
        CommandError::Input(format!(
            "no certificate authority of this machine can be read ({error}); install ca-certificates"
        ))
    })?;
    Ok(Arc::new(network))
}

#[derive(Args, Clone, Default)]
#[command(
    next_help_heading = "Groups of a cloud (--cloud-provider=alicloud, aws, huaweicloud or externalgrpc)"
)]
pub(crate) struct GroupFlags {
    /// A group with the size that it may have, such as 1:10:asg-bp18p2yfxow2dloq; once for each
    #[arg(long, value_name = "MIN:MAX:ID")]
    pub(crate) nodes: Vec<String>,
    /// AWS: every group with these tags, such as asg:tag=k8s.io/cluster-autoscaler/enabled,my-tag=value; groups that
    /// any of several such flags covers. Huawei Cloud: cce:autoscaling, every node pool whose elastic scaling is on
    #[arg(long, value_name = "asg:tag=KEY[=VALUE],…")]
    pub(crate) node_group_auto_discovery: Vec<String>,
    /// externalgrpc: file in YAML with address, cert, key, cacert and grpc_timeout. Alibaba Cloud: file with a section
    /// [Global]: access-key-id, access-key-secret, region-id [default: the environment]
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_config: Option<PathBuf>,
}

impl GroupFlags {
    /// Refuses flags that none of these providers takes, and groups that could be of either of two clouds.
    pub(crate) fn check(&self, providers: &[ProviderKind]) -> Result<(), CommandError> {
        let served = |cloud| providers.contains(&cloud);
        let given = [
            ("--nodes", !self.nodes.is_empty(), true),
            (
                "--node-group-auto-discovery",
                !self.node_group_auto_discovery.is_empty(),
                served(ProviderKind::Aws) || served(ProviderKind::Huaweicloud),
            ),
            (
                "--cloud-config",
                self.cloud_config.is_some(),
                served(ProviderKind::Alicloud) || served(ProviderKind::ExternalGrpc),
            ),
        ];
        let clouds = CLOUDS.iter().filter(|cloud| served(**cloud)).count();
        let external = served(ProviderKind::ExternalGrpc);
        let wrong = |(flag, given, taken): &(&str, bool, bool)| {
            *given && (!taken || clouds == 0 && !(external && *flag == "--cloud-config"))
        };
        if let Some((flag, ..)) = given.iter().find(|flag| wrong(flag)) {
            let names = match *flag {
                "--node-group-auto-discovery" => "--cloud-provider=aws or --cloud-provider=huaweicloud",
                "--cloud-config" => "--cloud-provider=externalgrpc or --cloud-provider=alicloud",
                _ => "--cloud-provider=alicloud, --cloud-provider=aws or --cloud-provider=huaweicloud",
            };
            return Err(CommandError::Usage(format!(
                "{flag} is for groups of a cloud; add {names}, or remove it (pools of Cluster API are declared by \
                 annotations, docs/controller.md)"
            )));
        }
        if clouds > 1 && !self.nodes.is_empty() {
            return Err(CommandError::Usage(
                "--nodes could be of any of several clouds; name one --cloud-provider of alicloud, aws and huaweicloud only"
                    .to_owned(),
            ));
        }
        if clouds > 1 && !self.node_group_auto_discovery.is_empty() && served(ProviderKind::Huaweicloud) {
            return Err(CommandError::Usage(
                "--node-group-auto-discovery could be of aws or of huaweicloud; name one cloud only"
                    .to_owned(),
            ));
        }
        if external && served(ProviderKind::Alicloud) && self.cloud_config.is_some() {
            return Err(CommandError::Usage(
                "--cloud-config could be of alicloud or of externalgrpc; give Alibaba Cloud's keys by the environment"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// The groups as one cloud reads them.
    pub(crate) fn named<T: std::str::FromStr<Err = String>>(&self) -> Result<Vec<T>, CommandError> {
        let read = |text: &String| text.parse().map_err(|why| CommandError::Usage(format!("--nodes {why}")));
        self.nodes.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_their_cloud_are_refused() {
        let nodes = GroupFlags { nodes: vec!["1:2:x".into()], ..GroupFlags::default() };
        let discovery =
            GroupFlags { node_group_auto_discovery: vec!["asg:tag=x".into()], ..GroupFlags::default() };
        let config = GroupFlags { cloud_config: Some("x".into()), ..GroupFlags::default() };
        assert!(nodes.check(&[ProviderKind::Aws]).is_ok());
        assert!(config.check(&[ProviderKind::ExternalGrpc]).is_ok());
        assert!(discovery.check(&[ProviderKind::Aws, ProviderKind::Simulated]).is_ok());
        for (flags, providers, part) in [
            (
                &nodes,
                vec![ProviderKind::ClusterApi],
                "add --cloud-provider=alicloud, --cloud-provider=aws or",
            ),
            (&discovery, vec![ProviderKind::Alicloud], "add --cloud-provider=aws"),
            (&nodes, vec![ProviderKind::Alicloud, ProviderKind::Aws], "name one --cloud-provider"),
            (&discovery, vec![ProviderKind::Huaweicloud, ProviderKind::Aws], "one cloud only"),
            (&nodes, vec![ProviderKind::ExternalGrpc], "add --cloud-provider=alicloud, "),
            (&config, vec![ProviderKind::Aws], "add --cloud-provider=externalgrpc or"),
            (&config, vec![ProviderKind::Alicloud, ProviderKind::ExternalGrpc], "by the environment"),
        ] {
            let why = flags.check(&providers).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
        }
    }
}
