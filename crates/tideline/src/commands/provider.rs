//! `tideline provider serve`: the simulated cloud, offered by Cluster Autoscaler's externalgrpc protocol.
//!
//! Owns the flags; serving is the clouds crate's business.

use super::{asked_to_end, client, runtime};
use crate::error::CommandError;
use crate::logs;
use clock::Clock;
use clouds::external::{ServingTls, serve};
use std::path::PathBuf;

/// Offers simulated pools to other programs, by Cluster Autoscaler's externalgrpc protocol.
#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone)]
enum Command {
    Serve(Serve),
}

/// Serves the SimulatedPools of a cluster until it is ended.
///
/// `--cloud-provider=externalgrpc` of Cluster Autoscaler, or of this program, is the other end.
#[derive(clap::Args, Clone)]
struct Serve {
    /// Kubeconfig of the cluster that has the SimulatedPools [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8086")]
    address: String,
    /// Certificate of the server, in PEM; without it everything is sent in plain text
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Authorities of callers' certificates, in PEM; each caller must then have one
    #[arg(long, value_name = "FILE", requires = "cert")]
    cacert: Option<PathBuf>,
    /// How much is logged: 0 to 10 as in klog
    #[arg(short, long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let Command::Serve(arguments) = &arguments.command;
    logs::start(arguments.verbosity);
    let address = super::controller::address("--address", &arguments.address)?
        .ok_or_else(|| CommandError::Usage("--address is empty; write 127.0.0.1:8086 or :8086".to_owned()))?;
    let tls = arguments.cert.clone().zip(arguments.key.clone());
    let tls =
        tls.map(|(certificate, key)| ServingTls { certificate, key, clients: arguments.cacert.clone() });
    let guarded = tls.as_ref().is_some_and(|tls| tls.clients.is_some());
    if !guarded && !address.ip().is_loopback() {
        return Err(CommandError::Usage(format!(
            "whoever reaches {address} could resize the pools; add --cert, --key and --cacert, or serve on 127.0.0.1"
        )));
    }
    runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let bound = |address| tracing::info!(%address, guarded, "serving simulated pools");
        Ok(serve(client, Clock::system(), address, tls.as_ref(), bound, asked_to_end()).await?)
    })
}
