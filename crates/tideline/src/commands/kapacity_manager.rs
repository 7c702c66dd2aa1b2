//! `tideline kapacity-manager`: scales workloads only, under the name and flags of the program whose place it takes.
//!
//! Owns those flags, with a note for each that sets nothing here, and its two ports; scaling is crate `scaler`'s.

use super::controller::address;
use super::{asked_to_end, client, runtime};
use crate::admission_flags::AdmissionFlags;
use crate::error::CommandError;
use crate::logs;
use crate::metrics_flags::MetricsFlags;
use crate::policy_flags::switch;
use crate::workload_flags::WorkloadFlags;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use leadership::LeaderElection;
use scaler::Figures;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Scales workloads: IntelligentHorizontalPodAutoscaler, HorizontalPortrait, ReplicaProfile; no nodes.
///
/// Takes the place of Kapacity's manager: the same flags, Lease, configuration, gRPC service and events. Called by the
/// name `kapacity-manager`, the program is this command.
#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace that we run in: of the Lease and the metrics' configuration
    #[arg(long, env = "NAMESPACE", default_value = api::kapacity::NAMESPACE)]
    namespace: String,
    /// Act only while holding the Lease
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = switch)]
    leader_elect: bool,
    /// Address of metrics; empty or 0 opens no socket
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ":8080")]
    metrics_bind_address: String,
    /// Address of the probes /healthz and /readyz; empty or 0 opens no socket
    #[arg(long, value_name = "ADDRESS:PORT", default_value = ":8081")]
    health_probe_bind_address: String,
    #[command(flatten)]
    workloads: WorkloadFlags,
    #[command(flatten)]
    metrics: MetricsFlags,
    #[command(flatten)]
    admission: AdmissionFlags,
    #[command(flatten)]
    without_effect: WithoutEffect,
    /// How much is logged: 0 to 10 as in klog
    #[arg(short, long = "v", value_name = "LEVEL", default_value_t = 0)]
    verbosity: u8,
}

/// Flags of the peer's that set nothing here: taken, and named once at the start.
#[derive(clap::Args, Clone)]
struct WithoutEffect {
    #[arg(long, hide = true)]
    log_path: Option<String>,
    #[arg(long, hide = true)]
    log_file_max_age: Option<String>,
    #[arg(long, hide = true)]
    log_file_rotation_time: Option<String>,
    #[arg(long, hide = true)]
    kube_api_qps: Option<String>,
    #[arg(long, hide = true)]
    kube_api_burst: Option<String>,
    #[arg(long, hide = true)]
    object_label_selector: Option<String>,
    #[arg(long, hide = true)]
    object_field_selector: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    serve_admission_webhooks: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    zap_devel: Option<String>,
    #[arg(long, hide = true)]
    zap_encoder: Option<String>,
    #[arg(long, hide = true)]
    zap_log_level: Option<String>,
    #[arg(long, hide = true)]
    zap_stacktrace_level: Option<String>,
    #[arg(long, hide = true)]
    zap_time_encoding: Option<String>,
}

impl WithoutEffect {
    /// Refuses what would silently be another thing, and says what the rest is not needed for.
    fn note(&self) -> Result<(), CommandError> {
        for (flag, given) in [
            ("--object-label-selector", &self.object_label_selector),
            ("--object-field-selector", &self.object_field_selector),
        ] {
            if given.as_ref().is_some_and(|selector| !selector.is_empty()) {
                return Err(CommandError::Usage(format!(
                    "{flag} is not served: every object of the cluster is acted on; remove it"
                )));
            }
        }
        let logs = "logs go to standard error; use -v or RUST_LOG";
        let few = "requests are few: the watches carry the state";
        for (flag, given, why) in [
            ("--log-path", &self.log_path, logs),
            ("--log-file-max-age", &self.log_file_max_age, logs),
            ("--log-file-rotation-time", &self.log_file_rotation_time, logs),
            ("--zap-devel", &self.zap_devel, logs),
            ("--zap-encoder", &self.zap_encoder, logs),
            ("--zap-log-level", &self.zap_log_level, logs),
            ("--zap-stacktrace-level", &self.zap_stacktrace_level, logs),
            ("--zap-time-encoding", &self.zap_time_encoding, logs),
            ("--kube-api-qps", &self.kube_api_qps, few),
            ("--kube-api-burst", &self.kube_api_burst, few),
            ("--serve-admission-webhooks", &self.serve_admission_webhooks, "use --readiness-gates"),
        ] {
            if given.is_some() {
                tracing::info!(flag, why, "has no effect");
            }
        }
        Ok(())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    logs::start(arguments.verbosity);
    arguments.without_effect.note()?;
    let probes = listening("--health-probe-bind-address", &arguments.health_probe_bind_address)?;
    let figures = listening("--metrics-bind-address", &arguments.metrics_bind_address)?;
    runtime()?.block_on(async {
        let client = client(arguments.kubeconfig.as_deref()).await?;
        let clock = arguments.workloads.clock();
        let source = arguments.metrics.source(&client, &arguments.namespace, clock).await?;
        if arguments.metrics.serves() {
            arguments.metrics.serve(source.clone()).await?;
        }
        arguments.admission.start(&client, &arguments.namespace, clock)?;
        let election = LeaderElection { enabled: arguments.leader_elect, ..LeaderElection::default() };
        let scaler = arguments.workloads.scaler(client, &arguments.namespace, election, source)?;
        if let Some(address) = probes {
            serve(address, probe_routes(scaler.figures())).await?;
        }
        if let Some(address) = figures {
            serve(address, figure_routes(scaler.figures())).await?;
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "tideline kapacity-manager starts");
        Box::pin(scaler.run(asked_to_end())).await?;
        tracing::info!("tideline kapacity-manager ends");
        Ok(())
    })
}

fn listening(flag: &str, text: &str) -> Result<Option<SocketAddr>, CommandError> {
    if text == "0" { Ok(None) } else { address(flag, text) }
}

fn probe_routes(figures: Arc<Figures>) -> Router {
    let ready = move || {
        let ready = figures.is_ready();
        async move { if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not yet") } }
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/readyz", get(ready))
}

fn figure_routes(figures: Arc<Figures>) -> Router {
    let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Router::new().route("/metrics", get(move || async move { (kind, figures.text() + "# EOF\n") }))
}

async fn serve(address: SocketAddr, routes: Router) -> Result<(), CommandError> {
    let listener =
        TcpListener::bind(address).await.map_err(|source| CommandError::Listen { address, source })?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, %address, "no longer served");
        }
    });
    Ok(())
}
