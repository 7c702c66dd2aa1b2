//! `tideline alert-triggered-autoscaler`: alerts by HTTP add machines, under the name and flags of the platform's scaler.
//!
//! Owns the flags and their translation into settings; everything else is the `alerts` crate's.

use super::{asked_to_end, client, runtime};
use crate::error::CommandError;
use crate::logs;
use ::alerts::trigger::{self, DEFAULT_INDICATORS};
use ::alerts::{
    ALERTMANAGER_PATH, CredentialFiles, LabelNames, PLATFORM_PATH, Scaler, Selector, Serving, Settings,
};
use clock::Clock;
use jiff::SignedDuration;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Adds a machine to a cluster's MachineDeployment when an alert says that its nodes are full.
///
/// Takes the place of the platform's alert-triggered scaler: same flags, path, body, role and history. Runs where
/// the MachineDeployments are. Called by the name `alert-triggered-autoscaler`, the program is this command.
#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster that has the MachineDeployments [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Least seconds between two scalings of one cluster
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    scale_interval: u32,
    /// Machines that one alert adds
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    scale_step: u32,
    /// Label by which one of a cluster's MachineDeployments is chosen
    #[arg(long, value_name = "KEY", requires = "machine_deployment_selector_value")]
    machine_deployment_selector_key: Option<String>,
    /// Value of that label
    #[arg(long, value_name = "VALUE", requires = "machine_deployment_selector_key")]
    machine_deployment_selector_value: Option<String>,
    /// More triggers, in YAML (docs/alerts.md)
    #[arg(long, value_name = "FILE")]
    triggers: Option<PathBuf>,
    /// Address of the webhook, probes and metrics
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ":8080")]
    address: String,
    /// Namespace of the history
    #[arg(long, env = "NAMESPACE", default_value = "cpaas-system")]
    namespace: String,
    /// Our name among replicas
    #[arg(long, env = "POD_NAME", default_value = "alert-triggered-autoscaler", hide = true)]
    pod_name: String,
    #[command(flatten)]
    guard: Guard,
    #[command(flatten)]
    labels: Labels,
    /// How much is logged: 0 to 10 as in klog
    #[arg(short, long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

/// Who may post, and how much.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Guarding the webhook")]
struct Guard {
    /// File with the token that every post must carry as `Authorization: Bearer`
    #[arg(long, value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// Certificate for HTTPS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// Authorities of clients' certificates, in PEM; each client must then have one
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    client_ca_file: Option<PathBuf>,
    /// Posts a second that are taken
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests_per_second: u32,
}

/// What the platform's alerts look like.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "The platform's alerts")]
struct Labels {
    /// Indicator whose alerts scale; may be given more than once [default: the four of a cluster's CPU and memory]
    #[arg(long, value_name = "INDICATOR")]
    indicator: Vec<String>,
    /// Name of the platform's own cluster, which alerts do not scale
    #[arg(long, value_name = "NAME", default_value = "global")]
    global_cluster: String,
    /// Label that names the cluster
    #[arg(long, value_name = "LABEL", default_value = "alert_cluster")]
    cluster_label: String,
    /// Label that says what kind of object the alert is about
    #[arg(long, value_name = "LABEL", default_value = "alert_involved_object_kind")]
    kind_label: String,
    /// Label that holds the indicator
    #[arg(long, value_name = "LABEL", default_value = "alert_indicator")]
    indicator_label: String,
    /// Label that names the rule
    #[arg(long, value_name = "LABEL", default_value = "alert_resource")]
    rule_label: String,
    /// Label that names the alert; may be given more than once, the first that is there counts
    #[arg(long, value_name = "LABEL", default_values = ["alert_name", "alertname"])]
    name_label: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start(arguments.verbosity);
    let settings = settings(arguments)?;
    let serving = Serving {
        address: address(&arguments.address)?,
        credentials: arguments.guard.files(),
        per_second: arguments.guard.requests_per_second,
        seed: u64::from(std::process::id()),
    };
    runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let scaler = Scaler::new(client, arguments.namespace.clone(), settings, Clock::system());
        let open = arguments.guard.is_open();
        let bound = |address: SocketAddr| {
            tracing::info!(%address, platform = PLATFORM_PATH, alertmanager = ALERTMANAGER_PATH, "alerts are taken");
            if open {
                tracing::warn!(
                    "anybody who reaches this address can add machines; see --bearer-token-file and --client-ca-file"
                );
            }
        };
        Box::pin(::alerts::serve(scaler, serving, bound, asked_to_end())).await?;
        tracing::info!("alerts are no longer taken");
        Ok(())
    })
}

fn settings(arguments: &Arguments) -> Result<Settings, CommandError> {
    let triggers = match &arguments.triggers {
        None => Vec::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| CommandError::Read { path: path.clone(), source })?;
            trigger::read(&path.display().to_string(), &text)?
        }
    };
    let Labels {
        indicator,
        global_cluster,
        cluster_label,
        kind_label,
        indicator_label,
        rule_label,
        name_label,
    } = arguments.labels.clone();
    let pair = (&arguments.machine_deployment_selector_key, &arguments.machine_deployment_selector_value);
    Ok(Settings {
        identity: arguments.pod_name.clone(),
        interval: SignedDuration::from_secs(i64::from(arguments.scale_interval)),
        step: arguments.scale_step,
        selector: match pair {
            (Some(key), Some(value)) => Some(Selector { key: key.clone(), value: value.clone() }),
            _ => None,
        },
        labels: LabelNames {
            cluster: cluster_label,
            kind: kind_label,
            indicator: indicator_label,
            rule: rule_label,
            alert: name_label,
        },
        indicators: if indicator.is_empty() {
            DEFAULT_INDICATORS.map(str::to_owned).to_vec()
        } else {
            indicator
        },
        global_cluster,
        triggers,
    })
}

impl Guard {
    fn files(&self) -> CredentialFiles {
        CredentialFiles {
            token: self.bearer_token_file.clone(),
            certificate: self.tls_cert_file.clone().zip(self.tls_key_file.clone()),
            client_authorities: self.client_ca_file.clone(),
        }
    }

    fn is_open(&self) -> bool {
        self.bearer_token_file.is_none() && self.client_ca_file.is_none()
    }
}

fn address(text: &str) -> Result<SocketAddr, CommandError> {
    super::controller::address("--address", text)?
        .ok_or_else(|| CommandError::Usage("--address is empty; write 127.0.0.1:8080 or :8080".into()))
}
