//! The flags of clouds that launch single machines for NodePools, by Karpenter's names.
//!
//! Owns the way from flags and environment to the clouds that claims are given. Without a cluster's name, and in
//! builds without the feature `aws`, no machine of EC2 is launched, and its classes say so.

use crate::error::CommandError;
use crate::policy_flags::switch;
use claims::cloud::MachineCloud;
use clap::Args;
use std::sync::Arc;

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Single machines of AWS (--cloud-provider=karpenter)")]
pub(crate) struct MachineFlags {
    /// Name of the cluster, with which everything that is launched is tagged; with it EC2NodeClasses are served
    #[arg(long, value_name = "NAME", env = "CLUSTER_NAME", hide_env_values = true)]
    pub(crate) cluster_name: Option<String>,
    /// Address of the API server that machines join [default: as EKS says]
    #[arg(long, value_name = "URL", env = "CLUSTER_ENDPOINT", hide_env_values = true)]
    cluster_endpoint: Option<String>,
    /// Certificate authority of the API server, in base64 [default: as EKS says]
    #[arg(long, value_name = "BASE64", env = "CLUSTER_CA_BUNDLE", hide_env_values = true)]
    cluster_ca_bundle: Option<String>,
    /// Queue of SQS that is told of interruptions
    #[arg(long, value_name = "NAME", env = "INTERRUPTION_QUEUE", hide_env_values = true)]
    interruption_queue: Option<String>,
    /// Share of a machine's memory that hypervisor and firmware are taken to keep [default: 0.075]
    #[arg(long, value_name = "SHARE", env = "VM_MEMORY_OVERHEAD_PERCENT", hide_env_values = true)]
    vm_memory_overhead_percent: Option<String>,
    /// Network interfaces of a machine that are not used for pods [default: 0]
    #[arg(long, value_name = "COUNT", env = "RESERVED_ENIS", hide_env_values = true)]
    reserved_enis: Option<u64>,
    /// The price list is not asked for: the network has no way to it
    #[arg(long, env = "ISOLATED_VPC", hide_env_values = true)]
    isolated_vpc: bool,
    /// Gates of Karpenter, `NodeRepair=true,...`: NodeRepair has machines replaced whose node is ill; of the others each is
    /// open, or there is nothing behind it
    #[arg(long, value_name = "NAME=BOOL,...", env = "FEATURE_GATES", hide_env_values = true)]
    feature_gates: Option<String>,
    /// Region [default: AWS_REGION, else that of the instance we run on]
    #[arg(long, value_name = "REGION")]
    aws_region: Option<String>,
}

/// The gates that open something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gates {
    pub(crate) node_repair: bool,
}

/// What a cloud of machines is made with.
#[cfg_attr(not(feature = "aws"), expect(dead_code, reason = "read in builds with AWS's SDK"))]
pub(crate) struct Around {
    pub(crate) client: kube::Client,
    pub(crate) clock: clock::Clock,
    pub(crate) limits: clouds::calls::CallLimits,
    pub(crate) watches: clouds::watching::WatchSettings,
    /// Whether this process may write and act.
    pub(crate) leads: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl MachineFlags {
    /// The share in thousandths.
    fn overhead(&self) -> Result<u64, CommandError> {
        let Some(text) = &self.vm_memory_overhead_percent else { return Ok(75) };
        let read = text.parse::<f64>().ok().filter(|share| (0.0..1.0).contains(share));
        read.map(|share| (share * 1000.0).round() as u64).ok_or_else(|| {
            let problem = format!("--vm-memory-overhead-percent {text} is no share; write one such as 0.075");
            CommandError::Usage(problem)
        })
    }

    /// What the gates say; names that are not known here are Karpenter's or Cluster Autoscaler's, and are not looked at.
    pub(crate) fn gates(&self) -> Result<Gates, CommandError> {
        let mut gates = Gates::default();
        let text = self.feature_gates.as_deref().unwrap_or_default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let open =
                entry.split_once('=').and_then(|(name, open)| Some((name.trim(), switch(open.trim()).ok()?)));
            match open {
                Some(("NodeRepair", open)) => gates.node_repair = open,
                Some((name, open)) => tracing::info!(name, open, "this gate changes nothing here"),
                None => {
                    let problem = format!(
                        "--feature-gates has {entry:?}; write NAME=true or NAME=false, with commas between"
                    );
                    return Err(CommandError::Usage(problem));
                }
            }
        }
        Ok(gates)
    }

    #[cfg(feature = "aws")]
    pub(crate) async fn clouds(&self, around: Around) -> Result<Vec<Arc<dyn MachineCloud>>, CommandError> {
        use clouds::aws::from_environment;
        use machines::ec2::{Ec2, Region, Settings};
        let overhead = self.overhead()?;
        let Some(cluster) = self.cluster_name.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut config = from_environment().await;
        if let Some(region) = &self.aws_region {
            config = config.into_builder().region(Region::new(region.clone())).build();
        }
        let usual = Settings::of(cluster);
        let limits = clouds::calls::CallLimits { per_second: usual.limits.per_second, ..around.limits };
        let settings = Settings {
            endpoint: self.cluster_endpoint.clone().filter(|text| !text.is_empty()),
            authority: self.cluster_ca_bundle.clone().filter(|text| !text.is_empty()),
            isolated: self.isolated_vpc,
            memory_overhead_permille: overhead,
            reserved_interfaces: self.reserved_enis.unwrap_or(0),
            queue: self.interruption_queue.clone().filter(|name| !name.is_empty()),
            limits,
            watches: around.watches,
            ..usual
        };
        let region = config.region().map(ToString::to_string);
        tracing::info!(region, cluster, queue = settings.queue, "launching machines of EC2");
        let cloud = Ec2::start(settings, &config, around.client, around.clock, around.leads)
            .map_err(CommandError::Usage)?;
        Ok(vec![Arc::new(cloud)])
    }

    #[cfg(not(feature = "aws"))]
    #[expect(clippy::unused_async, reason = "takes the place of a function that waits")]
    pub(crate) async fn clouds(&self, around: Around) -> Result<Vec<Arc<dyn MachineCloud>>, CommandError> {
        self.overhead()?;
        drop(around);
        if let Some(cluster) = &self.cluster_name {
            tracing::warn!(cluster, "this build launches no machines of EC2: it lacks the feature aws");
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_and_nonsense_is_refused() {
        let of = |text: &str| {
            let flags = MachineFlags { feature_gates: Some(text.to_owned()), ..MachineFlags::default() };
            flags.gates().ok().map(|gates| gates.node_repair)
        };
        assert_eq!(
            (of(""), of("NodeRepair=true"), of("NodeRepair=false")),
            (Some(false), Some(true), Some(false))
        );
        assert_eq!(of("StaticCapacity=true, NodeRepair=True"), Some(true));
        assert_eq!((of("NodeRepair"), of("NodeRepair=yes")), (None, None));
    }

    #[test]
    fn the_share_of_memory_is_read_and_nonsense_is_refused() {
        let of = |text: &str| {
            let flags =
                MachineFlags { vm_memory_overhead_percent: Some(text.to_owned()), ..MachineFlags::default() };
            flags.overhead().ok()
        };
        assert_eq!((of("0.075"), of("0"), of("0.2")), (Some(75), Some(0), Some(200)));
        assert_eq!((of("7.5"), of("much"), of("-1")), (None, None, None));
    }
}
