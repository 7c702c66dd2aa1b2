//! `tideline controller`: keeps one cluster at the right size, from inside it or from outside.
//!
//! Owns the flags (Cluster Autoscaler's names) and their translation into the controller's settings; running is the
//! controller crate's business.

use super::{client, runtime};
use crate::admission_flags::AdmissionFlags;
use crate::ahead_flags::AheadFlags;
use crate::alert_flags::{self, AlertFlags};
use crate::alibaba_flags::AlibabaFlags;
use crate::capacity_flags::CapacityFlags;
use crate::configuration::Watched;
use crate::error::CommandError;
use crate::group_flags::GroupFlags;
use crate::huawei_flags::HuaweiFlags;
use crate::machine_flags::{Around, MachineFlags};
use crate::metrics_flags::MetricsFlags;
use crate::outside_expander::OutsideExpanderFlags;
use crate::page_flags::PageFlags;
use crate::policy_flags::PolicyFlags;
use crate::rule_flags::RuleFlags;
use crate::shell_flags::ShellFlags;
use crate::trace_flags::TraceFlags;
use crate::workload_flags::{WorkloadFlags, beside};
use crate::{duration, external_flags, logs, page, priorities};
use clock::Clock;
use clouds::Provider;
use clouds::calls::CallLimits;
use controller::{Config, Controller, JournalConfig, LeaderElection, LedgerPlace};
use jiff::SignedDuration;
use model::ProviderKind;
use scaler::Scaler;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

const DEFAULT_ADDRESS: &str = ":8085";

/// Keeps a cluster at the right size: adds nodes for pods that wait, removes nodes that nobody needs.
///
/// Takes Cluster Autoscaler's flags, and its place: it holds the Lease of the same name, so the two never act at
/// once. Called by the name `cluster-autoscaler`, the program is this command.
#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where nodes come from; may be given more than once [default: simulated and clusterapi]
    #[arg(long, value_enum, value_name = "PROVIDER")]
    cloud_provider: Vec<CloudProvider>,
    /// Configuration in YAML; its policies are read again whenever it changes, and flags go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Namespace of the ledger, the Lease and the status [default: kube-system]
    #[arg(long)]
    namespace: Option<String>,
    /// Address of probes, metrics and the page; empty opens no socket [default: :8085]
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<String>,
    /// Record every round in this directory, for `tideline replay`
    #[arg(long, value_name = "DIRECTORY")]
    journal_dir: Option<PathBuf>,
    /// Plan, explain and record everything, and do nothing: no Lease, no events, no change of any kind
    #[arg(long)]
    dry_run: bool,
    /// The same for one pool, by name or id, while the others are acted on; may be given more than once
    #[arg(long, value_name = "POOL")]
    dry_run_pool: Vec<String>,
    /// Let simulated machines stand for those of clouds that NodePools name: for trying manifests out
    #[arg(long)]
    simulate_clouds: bool,
    #[command(flatten)]
    election: Election,
    /// Keep the ledger in the status ConfigMap, the only one that a Cluster Autoscaler's role lets us write; so it is
    /// when the program is called cluster-autoscaler
    #[arg(long)]
    ledger_with_status: bool,
    /// How much is logged: 0 to 10 as in klog
    #[arg(short, long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
    /// Whose keys a line of the log has
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "json")]
    log_format: logs::LogFormat,
    #[command(flatten)]
    groups: GroupFlags,
    #[command(flatten)]
    alibaba: AlibabaFlags,
    #[command(flatten)]
    huawei: HuaweiFlags,
    #[command(flatten)]
    machines: MachineFlags,
    #[command(flatten)]
    shell: ShellFlags,
    #[command(flatten)]
    page: PageFlags,
    #[command(flatten)]
    trace: TraceFlags,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    ahead: AheadFlags,
    #[command(flatten)]
    capacity: CapacityFlags,
    #[command(flatten)]
    alerts: AlertFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    admission: AdmissionFlags,
    #[command(flatten)]
    workloads: WorkloadFlags,
    #[command(flatten)]
    outside_expander: OutsideExpanderFlags,
    #[command(flatten)]
    policies: PolicyFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CloudProvider {
    Simulated,
    #[value(name = "clusterapi")]
    ClusterApi,
    /// Alibaba Cloud's Auto Scaling (ESS)
    Alicloud,
    /// Auto Scaling groups of AWS; in builds with the feature aws, as shipped images are
    Aws,
    /// Node pools of Huawei Cloud's CCE
    Huaweicloud,
    /// A program that is asked by Cluster Autoscaler's externalgrpc protocol (--cloud-config)
    #[value(name = "externalgrpc")]
    ExternalGrpc,
    /// NodePools of Karpenter: single machines, claimed by NodeClaims
    Karpenter,
}

/// Whether a value of `--cloud-provider` is served.
pub(crate) fn serves(provider: &str) -> bool {
    <CloudProvider as clap::ValueEnum>::from_str(provider, false).is_ok()
}

/// Leader election: one of several replicas acts.
#[derive(clap::Args, Clone)]
#[expect(clippy::struct_field_names, reason = "the names are the flags', which are Cluster Autoscaler's")]
#[command(next_help_heading = "Leader election")]
struct Election {
    /// Act only while holding the Lease [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: Option<bool>,
    /// Name of the Lease [default: cluster-autoscaler]
    #[arg(long, value_name = "NAME")]
    leader_elect_resource_name: Option<String>,
    /// How long others wait before they take over [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_lease_duration: Option<SignedDuration>,
    /// How long renewing is tried before the lead is given up [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_renew_deadline: Option<SignedDuration>,
    /// Pause between tries [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    leader_elect_retry_period: Option<SignedDuration>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start_as(arguments.log_format, arguments.verbosity);
    let file = arguments.config.as_deref().map(Watched::read).transpose()?;
    let config = configured(arguments, file.as_ref().map(Watched::text))?;
    arguments.groups.check(&config.providers)?;
    check_clouds(arguments, &config.providers)?;
    let address = match (&arguments.address, config.listen) {
        (Some(text), _) => address("--address", text)?,
        (None, Some(address)) => Some(address),
        (None, None) => address("--address", DEFAULT_ADDRESS)?,
    };
    let alerts = arguments.alerts.serving()?;
    // Served below together with the page, so the controller opens no socket of its own.
    let without_socket = Config { listen: None, ..config.clone() };
    runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let clock = Clock::system();
        tokio::spawn(clock.follow_system());
        let scales = arguments.workloads.enabled() && !config.policies.dry_run;
        let mut scaler = None;
        if arguments.metrics.serves() || scales {
            let source = arguments.metrics.source(&client, &config.namespace, clock).await?;
            if arguments.metrics.serves() {
                arguments.metrics.serve(source.clone()).await?;
            }
            if scales {
                let (client, election) = (client.clone(), config.leader_election.clone());
                scaler = Some(arguments.workloads.scaler(client, &config.namespace, election, source)?);
            }
        }
        if !config.policies.dry_run {
            arguments.admission.start(&client, &config.namespace, clock)?;
        }
        let mut controller = Controller::new(client.clone(), without_socket, clock)?;
        if let Some(workloads) = scaler.take() {
            let [for_workloads, for_nodes] = clouds::watching::pods(&client, config.watch_settings());
            scaler = Some(workloads.with_pods(for_workloads));
            controller = controller.with_pods(for_nodes);
        }
        // No call of the cloud's may outlast the time for which the Lease is known to be ours.
        let timeout = Duration::from_secs(u64::from(config.calls.timeout_seconds));
        let limits = CallLimits { timeout, seed: config.seed, ..CallLimits::default() };
        controller = Box::pin(with_clouds(controller, arguments, &config, &client, limits, clock)).await?;
        let (told, policies) = watch::channel(config.policies.clone());
        controller = controller.with_policies(policies);
        let identity = leadership::identity(&config.leader_election.identity, clock);
        if let Some(trace) = arguments.trace.settings(&identity)? {
            controller = controller.with_trace(trace);
        }
        let outside = &arguments.outside_expander;
        if let Some(hook) = outside.start(&config.policies, limits, clock, told.clone())? {
            controller = controller.with_hook(hook);
        }
        let serving = client.clone();
        tokio::spawn(priorities::follow(client, config.namespace.clone(), told.clone()));
        if let Some(file) = file {
            let (arguments, running) = (arguments.clone(), config);
            tokio::spawn(file.follow(running, told, move |text| configured(&arguments, Some(text))));
        }
        if let Some(figures) = scaler.as_ref().map(Scaler::figures) {
            page::show_workloads(&controller.handle(), figures);
        }
        if let Some(serving) = alerts {
            alert_flags::start(serving, controller.handle(), clock).await?;
        }
        if let Some(address) = address {
            arguments.page.serve(address, controller.handle(), &serving).await?;
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "tideline controller starts");
        beside(scaler, controller).await?;
        tracing::info!("tideline controller ends");
        Ok(())
    })
}

/// Refuses flags of a cloud that is not served.
fn check_clouds(arguments: &Arguments, providers: &[ProviderKind]) -> Result<(), CommandError> {
    let serves = |kind| providers.contains(&kind);
    for (given, served, cloud) in [
        (arguments.alibaba.given(), serves(ProviderKind::Alicloud), "alicloud"),
        (arguments.huawei.given(), serves(ProviderKind::Huaweicloud), "huaweicloud"),
    ] {
        if let Some(flag) = given.filter(|_| !served) {
            return Err(CommandError::Usage(format!(
                "{flag} is for groups of one cloud; add --cloud-provider={cloud}, or remove it \
                 (pools of Cluster API are declared by annotations, docs/controller.md)"
            )));
        }
    }
    Ok(())
}

/// The controller with every provider that needs more than the cluster's own API.
async fn with_clouds(
    mut controller: Controller,
    arguments: &Arguments,
    config: &Config,
    client: &kube::Client,
    limits: CallLimits,
    clock: Clock,
) -> Result<Controller, CommandError> {
    let serves = |kind| config.providers.contains(&kind);
    if serves(ProviderKind::Alicloud) {
        let provider = arguments.alibaba.provider(&arguments.groups, limits, clock).await?;
        controller = controller.with_provider(provider);
    }
    if serves(ProviderKind::Huaweicloud) {
        controller = controller.with_provider(arguments.huawei.provider(&arguments.groups, limits, clock)?);
    }
    if serves(ProviderKind::Aws) {
        controller = controller.with_provider(aws(&arguments.groups, limits, clock).await?);
    }
    if serves(ProviderKind::Karpenter) {
        let (handle, acts) = (controller.handle(), !config.policies.dry_run);
        // Known once the keeper is there; until then nothing is written.
        let alone = Arc::new(OnceLock::<Box<dyn Fn() -> bool + Send + Sync>>::new());
        let asked = alone.clone();
        let around = Around {
            client: client.clone(),
            clock,
            limits,
            watches: config.watch_settings(),
            leads: Arc::new(move || acts && handle.leads() && asked.get().is_some_and(|alone| alone())),
        };
        let settings = claims::Settings {
            watches: config.watch_settings(),
            simulate_clouds: arguments.simulate_clouds,
            heeds_others: !config.policies.dry_run,
            repairs: arguments.machines.gates()?.node_repair,
            clouds: arguments.machines.clouds(around).await?,
        };
        let (direct, keeper) = claims::start(client, clock, &settings);
        let _ = alone.set(Box::new(keeper.alone()));
        controller = controller.with_provider(direct);
        let handle = controller.handle();
        if !config.policies.dry_run {
            tokio::spawn(keeper.run(move || handle.leads()));
        }
    }
    if serves(ProviderKind::ExternalGrpc) {
        let provider = external_flags::provider(&arguments.groups, config, limits, client.clone(), clock)?;
        controller = controller.with_provider(provider);
    }
    Ok(controller)
}

#[cfg(feature = "aws")]
async fn aws(
    groups: &GroupFlags,
    limits: CallLimits,
    clock: Clock,
) -> Result<Arc<dyn Provider>, CommandError> {
    crate::aws_flags::provider(groups, limits, clock).await
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "takes the place of a function that waits")]
async fn aws(_: &GroupFlags, _: CallLimits, _: Clock) -> Result<Arc<dyn Provider>, CommandError> {
    Err(CommandError::Usage(
        "this build has no provider for AWS; use the image, or build with `cargo build --release --features aws`"
            .to_owned(),
    ))
}

/// The settings: defaults, changed by the file (its name and text), changed by the flags.
pub(crate) fn configured(arguments: &Arguments, file: Option<(&str, &str)>) -> Result<Config, CommandError> {
    let mut config = match file {
        Some((name, text)) => controller::config_file::read(name, text)?,
        None => Config::default(),
    };
    arguments.shell.apply(&mut config);
    arguments.capacity.apply(&mut config);
    let zone = std::env::var("TZ").ok();
    arguments.rules.apply(&mut config.policies, zone.as_deref());
    arguments.ahead.apply(&mut config.policies);
    arguments.policies.apply(&mut config.policies);
    config.policies.dry_run |= arguments.dry_run;
    config.policies.dry_run_pools.extend(arguments.dry_run_pool.iter().cloned());
    if let Some(namespace) = &arguments.namespace {
        config.namespace.clone_from(namespace);
    }
    if !arguments.cloud_provider.is_empty() {
        config.providers = arguments
            .cloud_provider
            .iter()
            .map(|provider| match provider {
                CloudProvider::Simulated => ProviderKind::Simulated,
                CloudProvider::ClusterApi => ProviderKind::ClusterApi,
                CloudProvider::Alicloud => ProviderKind::Alicloud,
                CloudProvider::Aws => ProviderKind::Aws,
                CloudProvider::Huaweicloud => ProviderKind::Huaweicloud,
                CloudProvider::ExternalGrpc => ProviderKind::ExternalGrpc,
                CloudProvider::Karpenter => ProviderKind::Karpenter,
            })
            .collect();
    }
    if let Some(directory) = &arguments.journal_dir {
        config.journal = Some(JournalConfig::at(directory.clone()));
    }
    if arguments.ledger_with_status {
        config.ledger = LedgerPlace::WithStatus;
    }
    arguments.election.apply(&mut config.leader_election);
    config.validate()?;
    arguments.outside_expander.check(&config.policies)?;
    Ok(config)
}

impl Election {
    fn apply(&self, election: &mut LeaderElection) {
        let set = |seconds: &mut u32, wait: Option<SignedDuration>| {
            if let Some(wait) = wait {
                *seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
            }
        };
        election.enabled = self.leader_elect.unwrap_or(election.enabled);
        if let Some(name) = &self.leader_elect_resource_name {
            election.name.clone_from(name);
        }
        set(&mut election.lease_seconds, self.leader_elect_lease_duration);
        set(&mut election.renew_deadline_seconds, self.leader_elect_renew_deadline);
        set(&mut election.retry_seconds, self.leader_elect_retry_period);
    }
}

/// `:8085` is every address, as Go's servers read it.
pub(crate) fn address(flag: &str, text: &str) -> Result<Option<SocketAddr>, CommandError> {
    if text.is_empty() {
        return Ok(None);
    }
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map(Some).map_err(|_| {
        CommandError::Usage(format!(
            "{flag} {text} is not an address with a port; write 127.0.0.1:8085 or :8085"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        assert_eq!(address("--address", ":8085").unwrap().unwrap().to_string(), "0.0.0.0:8085");
        assert_eq!(address("--address", "127.0.0.1:1").unwrap().unwrap().port(), 1);
        assert!(address("--address", "").unwrap().is_none());
        assert!(address("--address", "8085").unwrap_err().to_string().contains(":8085"));
    }
}
