//! `tideline exit`: hands a cluster back, so that another autoscaler can take over.
//!
//! Owns the flags and what is printed; what is taken off the cluster is the controller crate's business.

use super::{client, print, runtime};
use crate::error::CommandError;
use clock::Clock;
use controller::{Config, LeaderElection};
use std::path::PathBuf;

/// Hands a cluster back: takes every mark of Tideline off it, and leaves sizes as they are.
///
/// Stop the controller first (scale its Deployment to 0): this command takes its Lease, and says who holds it where it
/// cannot. Taints, cordons, annotations and the ledger go, pods that are cut off come back online; custom resource definitions and your own objects stay. It can
/// be run again.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the ledger and the Lease
    #[arg(long, default_value = "kube-system")]
    namespace: String,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "cluster-autoscaler")]
    leader_elect_resource_name: String,
    /// Only print what would be taken off
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let mut config = Config { namespace: arguments.namespace.clone(), ..Config::default() };
    config.leader_election.name.clone_from(&arguments.leader_elect_resource_name);
    config.validate()?;
    let handed = runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let handed =
            Box::pin(controller::hand_back(&client, Clock::system(), &config, arguments.dry_run)).await;
        let mut handed = handed?;
        let workloads = scaler::Config {
            namespace: arguments.namespace.clone(),
            leader_election: LeaderElection {
                name: api::kapacity::LEASE.to_owned(),
                ..LeaderElection::default()
            },
            ..scaler::Config::default()
        };
        let also =
            Box::pin(scaler::hand_back(&client, Clock::system(), &workloads, arguments.dry_run)).await?;
        handed.done.extend(also.done);
        handed.left.extend(also.left);
        Ok::<_, CommandError>(handed)
    })?;
    let would = if arguments.dry_run { "would: " } else { "" };
    let mut text = String::new();
    for line in &handed.done {
        text = text + would + line + "\n";
    }
    if handed == controller::Handed::default() {
        text.push_str("nothing of Tideline is on this cluster\n");
    }
    print(&text)?;
    match handed.left.as_slice() {
        [] => Ok(()),
        left => {
            Err(CommandError::Input(format!("not everything could be put right:\n  {}", left.join("\n  "))))
        }
    }
}
