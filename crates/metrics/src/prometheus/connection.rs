//! How a Prometheus is reached: address, TLS, credentials.
//!
//! Owns turning settings into a client. A kubeconfig or the cluster's own service account may stand in for both, as
//! for Prometheus Adapter.

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Config, client::ClientBuilder};
use std::path::PathBuf;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(5);

/// Who we are to Prometheus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    #[default]
    None,
    /// The token of our own service account, and the cluster's authority.
    InCluster,
    /// Authority and user of a kubeconfig.
    Kubeconfig(PathBuf),
    /// A bearer token in a file, which is read again when it changes.
    TokenFile(PathBuf),
}

/// Where a Prometheus is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `http://prometheus.monitoring:9090`, with a path where it has one.
    pub address: String,
    pub credentials: Credentials,
    /// Authority of its certificate in PEM; else the credentials' or the system's.
    pub authority_file: Option<PathBuf>,
}

/// The error is one sentence that names the setting.
pub(super) async fn client(connection: &Connection) -> Result<Client, String> {
    let address: http::Uri = connection.address.parse().map_err(|error| {
        format!("--prometheus-address {}: {error}; write http://HOST:PORT", connection.address)
    })?;
    if !matches!(address.scheme_str(), Some("http" | "https")) {
        return Err(format!(
            "--prometheus-address {}: write http:// or https:// before it",
            connection.address
        ));
    }
    let mut config = match &connection.credentials {
        Credentials::None | Credentials::TokenFile(_) => Config::new(address.clone()),
        Credentials::InCluster => Config::incluster()
            .map_err(|error| format!("--prometheus-auth-incluster: we are not inside a cluster: {error}"))?,
        Credentials::Kubeconfig(path) => {
            let wrong = |error: &dyn std::fmt::Display| {
                format!("--prometheus-auth-config {}: {error}", path.display())
            };
            let file = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| wrong(&error))?
        }
    };
    config.cluster_url = address;
    config.connect_timeout = Some(CONNECT);
    // Tries are bounded and counted by us.
    config.default_retry = false;
    if let Credentials::TokenFile(path) = &connection.credentials {
        config.auth_info.token_file = Some(path.display().to_string());
    }
    if let Some(path) = &connection.authority_file {
        config.root_cert_file = Some(path.clone());
    }
    let built = ClientBuilder::try_from(config)
        .map_err(|error| format!("Prometheus at {}: {error}", connection.address))?;
    Ok(built.build())
}
