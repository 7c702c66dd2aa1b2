//! `tideline controller`: keeps one cluster at the right size, from inside it or from outside.
//!
//! Owns the flags (Cluster Autoscaler's names) and their translation into the controller's settings; running is the
//! controller crate's business.

use super::{asked_to_end, client, runtime};
use crate::error::CommandError;
use crate::policy_flags::PolicyFlags;
use crate::{duration, logs, page};
use clock::Clock;
use controller::{Config, Controller, Handle, JournalConfig};
use jiff::SignedDuration;
use model::ProviderKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// Keeps a cluster at the right size: adds nodes for pods that wait, removes nodes that nobody needs.
///
/// Takes Cluster Autoscaler's flags, and its place: it holds the Lease of the same name, so the two never act at
/// once. Called by the name `cluster-autoscaler`, the program is this command.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where nodes come from; may be given more than once [default: both]
    #[arg(long, value_enum, value_name = "PROVIDER")]
    cloud_provider: Vec<CloudProvider>,
    /// Namespace of the ledger, the Lease and the status
    #[arg(long, default_value = "kube-system")]
    namespace: String,
    /// Address of probes, metrics and the page; empty opens no socket
    #[arg(long, default_value = ":8085", value_name = "ADDRESS:PORT")]
    address: String,
    /// Record every round in this directory, for `tideline replay`
    #[arg(long, value_name = "DIRECTORY")]
    journal_dir: Option<PathBuf>,
    #[command(flatten)]
    election: Election,
    /// How much is logged: 0 to 10 as in klog
    #[arg(short, long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
    #[command(flatten)]
    policies: PolicyFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CloudProvider {
    Simulated,
    #[value(name = "clusterapi")]
    ClusterApi,
}

/// Leader election: one of several replicas acts.
#[derive(clap::Args)]
#[expect(clippy::struct_field_names, reason = "the names are the flags', which are Cluster Autoscaler's")]
#[command(next_help_heading = "Leader election")]
struct Election {
    /// Act only while holding the Lease
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    leader_elect: bool,
    /// Name of the Lease
    #[arg(long, default_value = "cluster-autoscaler", value_name = "NAME")]
    leader_elect_resource_name: String,
    /// How long others wait before they take over
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_lease_duration: SignedDuration,
    /// How long renewing is tried before the lead is given up
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_renew_deadline: SignedDuration,
    /// Pause between tries
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_retry_period: SignedDuration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start(arguments.verbosity);
    let address = address(&arguments.address)?;
    let config = config(arguments);
    config.validate()?;
    runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let controller = Controller::new(client, config, Clock::system())?;
        if let Some(address) = address {
            serve(address, controller.handle()).await?;
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "tideline controller starts");
        controller.run(asked_to_end()).await?;
        tracing::info!("tideline controller ends");
        Ok(())
    })
}

fn config(arguments: &Arguments) -> Config {
    let mut config = Config { namespace: arguments.namespace.clone(), ..Config::default() };
    arguments.policies.apply(&mut config.policies);
    if !arguments.cloud_provider.is_empty() {
        config.providers = arguments
            .cloud_provider
            .iter()
            .map(|provider| match provider {
                CloudProvider::Simulated => ProviderKind::Simulated,
                CloudProvider::ClusterApi => ProviderKind::ClusterApi,
            })
            .collect();
    }
    config.journal = arguments.journal_dir.as_ref().map(|directory| JournalConfig::at(directory.clone()));
    let seconds = |duration: SignedDuration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let election = &arguments.election;
    config.leader_election.enabled = election.leader_elect;
    config.leader_election.name.clone_from(&election.leader_elect_resource_name);
    config.leader_election.lease_seconds = seconds(election.leader_elect_lease_duration);
    config.leader_election.renew_deadline_seconds = seconds(election.leader_elect_renew_deadline);
    config.leader_election.retry_seconds = seconds(election.leader_elect_retry_period);
    config
}

/// `:8085` is every address, as Go's servers read it.
fn address(text: &str) -> Result<Option<SocketAddr>, CommandError> {
    if text.is_empty() {
        return Ok(None);
    }
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map(Some).map_err(|_| {
        CommandError::Usage(format!(
            "--address {text} is not an address with a port; write 127.0.0.1:8085 or :8085"
        ))
    })
}

async fn serve(address: SocketAddr, handle: Handle) -> Result<(), CommandError> {
    let listener =
        TcpListener::bind(address).await.map_err(|source| CommandError::Listen { address, source })?;
    tracing::info!(%address, "serving probes, metrics and the page");
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, page::router(handle)).await {
            tracing::error!(%error, "probes, metrics and the page are no longer served");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        assert_eq!(address(":8085").unwrap().unwrap().to_string(), "0.0.0.0:8085");
        assert_eq!(address("127.0.0.1:1").unwrap().unwrap().port(), 1);
        assert!(address("").unwrap().is_none());
        assert!(address("8085").unwrap_err().to_string().contains(":8085"));
    }
}
