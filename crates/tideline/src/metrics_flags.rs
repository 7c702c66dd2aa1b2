//! Flags of the metrics that workloads are scaled by: where they are from, and the gRPC service that passes them on.
//!
//! Owns their translation into a source; the names are Kapacity's where it has one. Asking the source is others'
//! business.

use crate::commands::controller::address;
use crate::duration;
use crate::error::CommandError;
use crate::policy_flags::switch;
use clap::{Args, ValueEnum};
use clock::Clock;
use jiff::SignedDuration;
use kube::Client;
use metrics::grpc::{Access, serve};
use metrics::prometheus::{ConfigurationPlace, Connection, Credentials};
use metrics::resource_api::{ResourceApi, ResourceApiSettings};
use metrics::{MetricSource, Prometheus, PrometheusSettings};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// The configuration's name and key in the namespace that we run in.
const CONFIG_MAP: &str = "kapacity-config";
const CONFIG_KEY: &str = "prometheus-metrics-config.yaml";
/// More than any token.
const LONGEST_TOKEN: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MetricProvider {
    Prometheus,
    /// The Kubernetes resource metrics API: CPU and memory of now, no history
    MetricsApi,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Metrics of workloads")]
pub(crate) struct MetricsFlags {
    /// Where metrics are from [default: prometheus where its address is given, else metrics-api]
    #[arg(long, value_enum, value_name = "PROVIDER")]
    metric_provider: Option<MetricProvider>,
    /// Address of Prometheus, as http://prometheus.monitoring:9090
    #[arg(long, value_name = "URL")]
    prometheus_address: Option<String>,
    /// Use our service account's token for Prometheus [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    prometheus_auth_incluster: Option<bool>,
    /// Use authority and user of this kubeconfig for Prometheus
    #[arg(long, value_name = "FILE")]
    prometheus_auth_config: Option<PathBuf>,
    /// Use the bearer token in this file for Prometheus; it is read again when it changes
    #[arg(long, value_name = "FILE")]
    prometheus_token_file: Option<PathBuf>,
    /// Authority of Prometheus' certificate, in PEM
    #[arg(long, value_name = "FILE")]
    prometheus_ca_file: Option<PathBuf>,
    /// Rules in Prometheus Adapter's form; read again when they change [default: key prometheus-metrics-config.yaml
    /// of ConfigMap kapacity-config in our namespace, else rules of our own]
    #[arg(long, value_name = "FILE")]
    prometheus_metrics_config: Option<PathBuf>,
    /// How often the series of the rules are listed [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    prometheus_metrics_relist_interval: Option<SignedDuration>,
    /// How far back series are looked for [default: the interval]
    #[arg(long, value_name = "DURATION", value_parser = duration::wait)]
    prometheus_metrics_max_age: Option<SignedDuration>,
    /// Serve metrics by gRPC on this address, as :9090; empty or 0 serves none [default: 0]
    #[arg(long, value_name = "ADDRESS:PORT")]
    grpc_server_bind_address: Option<String>,
    /// Certificate of that server, in PEM; renewed when the file changes
    #[arg(long, value_name = "FILE", requires = "grpc_server_key")]
    grpc_server_certificate: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "grpc_server_certificate")]
    grpc_server_key: Option<PathBuf>,
    /// Answer only those who send the token in this file
    #[arg(long, value_name = "FILE")]
    grpc_server_token_file: Option<PathBuf>,
}

impl MetricsFlags {
    /// Where metrics are from. What follows its configuration runs until the process ends.
    pub(crate) async fn source(
        &self,
        client: &Client,
        namespace: &str,
        clock: Clock,
    ) -> Result<Arc<dyn MetricSource>, CommandError> {
        let given = self.metric_provider;
        let Some(address) = &self.prometheus_address else {
            return match (given, self.prometheus_flag()) {
                (Some(MetricProvider::Prometheus), _) => Err(CommandError::Usage(
                    "--metric-provider=prometheus needs --prometheus-address=http://HOST:PORT".to_owned(),
                )),
                (_, Some(flag)) => {
                    Err(CommandError::Usage(format!("{flag} needs --prometheus-address=http://HOST:PORT")))
                }
                _ => Ok(Arc::new(ResourceApi::new(client.clone(), clock, ResourceApiSettings::default()))),
            };
        };
        if given == Some(MetricProvider::MetricsApi) {
            return Err(CommandError::Usage(
                "--metric-provider=metrics-api and --prometheus-address exclude each other; remove one"
                    .to_owned(),
            ));
        }
        let mut settings = PrometheusSettings {
            connection: Connection {
                address: address.clone(),
                credentials: self.credentials()?,
                authority_file: self.prometheus_ca_file.clone(),
            },
            max_age: self.prometheus_metrics_max_age,
            ..PrometheusSettings::default()
        };
        if let Some(interval) = self.prometheus_metrics_relist_interval {
            settings.relist_interval = interval.max(SignedDuration::from_secs(1));
        }
        let source = Prometheus::new(&settings, client.clone(), clock).await.map_err(CommandError::Usage)?;
        let source = Arc::new(source);
        let place = match &self.prometheus_metrics_config {
            Some(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|source| CommandError::Read { path: path.clone(), source })?;
                // At the start a wrong file is refused; later the one before it stays.
                source
                    .configure(&text)
                    .map_err(|why| CommandError::Input(format!("{}: {why}", path.display())))?;
                ConfigurationPlace::File(path.clone())
            }
            None => ConfigurationPlace::ConfigMap {
                namespace: namespace.to_owned(),
                name: CONFIG_MAP.to_owned(),
                key: CONFIG_KEY.to_owned(),
            },
        };
        tokio::spawn(source.clone().follow(client.clone(), place, tell()));
        Ok(source)
    }

    fn prometheus_flag(&self) -> Option<&'static str> {
        let given = [
            (self.prometheus_auth_incluster == Some(true), "--prometheus-auth-incluster"),
            (self.prometheus_auth_config.is_some(), "--prometheus-auth-config"),
            (self.prometheus_token_file.is_some(), "--prometheus-token-file"),
            (self.prometheus_ca_file.is_some(), "--prometheus-ca-file"),
            (self.prometheus_metrics_config.is_some(), "--prometheus-metrics-config"),
        ];
        given.into_iter().find_map(|(given, flag)| given.then_some(flag))
    }

    fn credentials(&self) -> Result<Credentials, CommandError> {
        let given = [
            self.prometheus_auth_incluster.unwrap_or_default().then_some(Credentials::InCluster),
            self.prometheus_auth_config.clone().map(Credentials::Kubeconfig),
            self.prometheus_token_file.clone().map(Credentials::TokenFile),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(_), Some(_)) => Err(CommandError::Usage(
                "--prometheus-auth-incluster, --prometheus-auth-config and --prometheus-token-file exclude each \
                 other; give one"
                    .to_owned(),
            )),
            (one, _) => Ok(one.unwrap_or_default()),
        }
    }

    /// Whether metrics are to be passed on.
    pub(crate) fn serves(&self) -> bool {
        !matches!(self.grpc_server_bind_address.as_deref(), None | Some("" | "0"))
    }

    /// Serves a source until the process ends; returns once it listens.
    pub(crate) async fn serve(&self, source: Arc<dyn MetricSource>) -> Result<(), CommandError> {
        let given = self.grpc_server_bind_address.as_deref().unwrap_or_default();
        let Some(address) = address("--grpc-server-bind-address", given)? else { return Ok(()) };
        let tls = self.grpc_server_certificate.clone().zip(self.grpc_server_key.clone());
        let tls = tls.map(|(certificates, key)| tls::Files { certificates, key });
        let token = self.grpc_server_token_file.as_deref().map(read_token).transpose()?;
        if tls.is_none() || token.is_none() {
            tracing::warn!(
                "metrics of the whole cluster are served without {}, as Kapacity serves them; give \
                 --grpc-server-certificate, --grpc-server-key and --grpc-server-token-file, or let a NetworkPolicy guard it",
                if token.is_none() { "asking who asks" } else { "TLS" }
            );
        }
        let (told, bound) = oneshot::channel();
        let told = Arc::new(Mutex::new(Some(told)));
        let tell = move |outcome| {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner).take();
            told.is_some_and(|told| told.send(outcome).is_ok())
        };
        let listening = tell.clone();
        tokio::spawn(async move {
            let access = Access { tls, token };
            let bound = |address| {
                listening(Ok(address));
            };
            if let Err(error) = serve(address, source, access, bound, std::future::pending()).await {
                let error = error.to_string();
                if !tell(Err(error.clone())) {
                    tracing::error!(error, "metrics are no longer served");
                }
            }
        });
        match bound.await {
            Ok(Ok(address)) => {
                tracing::info!(%address, "serving metrics by gRPC");
                Ok(())
            }
            Ok(Err(why)) => Err(CommandError::Input(why)),
            Err(_) => Err(CommandError::Input("the metrics service ended before it listened".to_owned())),
        }
    }
}

/// Logs what is wrong with a configuration once, and once when it is right again.
fn tell() -> impl Fn(Option<String>) + Send {
    let last: Mutex<Option<String>> = Mutex::default();
    move |problem| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        match (&problem, &*last) {
            (Some(problem), before) if before.as_ref() != Some(problem) => {
                tracing::warn!(problem, "the metrics configuration before it stays in use");
            }
            (None, Some(_)) => tracing::info!("the metrics configuration is in use again"),
            _ => {}
        }
        *last = problem;
    }
}

fn read_token(path: &Path) -> Result<Arc<str>, CommandError> {
    let failed = |source| CommandError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, LONGEST_TOKEN), &mut text)
        .map_err(failed)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(CommandError::Input(format!("{} is empty; write the token into it", path.display())));
    }
    Ok(Arc::from(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        metrics: MetricsFlags,
    }

    fn flags(line: &[&str]) -> MetricsFlags {
        Flags::try_parse_from(std::iter::once(&"tideline").chain(line)).unwrap().metrics
    }

    #[tokio::test]
    async fn flags_that_do_not_go_together_are_refused_with_the_fix() {
        let store = sandbox::store::Store::new(Clock::system(), &sandbox::store::StoreOptions::default());
        let client = sandbox::api::Api::new(store).client();
        let table = [
            (&["--metric-provider=prometheus"][..], "--prometheus-address=http"),
            (&["--prometheus-token-file=x"], "needs --prometheus-address"),
            (&["--prometheus-address=http://p", "--metric-provider=metrics-api"], "remove one"),
            (&["--prometheus-address=p:9090"], "http://"),
            (
                &[
                    "--prometheus-address=http://p",
                    "--prometheus-auth-incluster",
                    "--prometheus-token-file=x",
                ],
                "give one",
            ),
            (&["--prometheus-address=http://p", "--prometheus-metrics-config=/none"], "/none"),
        ];
        for (line, expected) in table {
            let refused = flags(line).source(&client, "here", Clock::system()).await.err();
            let message = refused.map_or_else(String::new, |error| error.to_string());
            assert!(message.contains(expected), "{line:?}: {message}");
        }
        assert_eq!(
            flags(&[]).source(&client, "here", Clock::system()).await.unwrap().name(),
            "the resource metrics API"
        );
        assert!(Flags::try_parse_from(["tideline", "--grpc-server-key=x"]).is_err());
    }

    #[test]
    fn nothing_is_served_unless_asked_for() {
        for (line, serves) in [
            (&[][..], false),
            (&["--grpc-server-bind-address=0"], false),
            (&["--grpc-server-bind-address=:9090"], true),
        ] {
            assert_eq!(flags(line).serves(), serves, "{line:?}");
        }
    }
}
