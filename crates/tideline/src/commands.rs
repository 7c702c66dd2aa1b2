//! The commands, one file each.

pub(crate) mod alert_triggered_autoscaler;
pub(crate) mod algorithm;
pub(crate) mod command_reference;
pub(crate) mod compare;
pub(crate) mod controller;
pub(crate) mod crds;
pub(crate) mod doctor;
pub(crate) mod exit;
pub(crate) mod explain;
pub(crate) mod forecast;
pub(crate) mod import;
pub(crate) mod kapacity_manager;
pub(crate) mod manifests;
pub(crate) mod plan;
pub(crate) mod provider;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod samples;
pub(crate) mod sandbox;
pub(crate) mod shell;
pub(crate) mod simulate;
pub(crate) mod status;

use crate::error::CommandError;
use std::io::Write as _;
use std::path::Path;

/// Writes a command's answer to standard output.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)
}

/// Writes a file, making its folder where that is missing.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|source| CommandError::Write { path: folder.to_owned(), source })?;
    }
    std::fs::write(path, text).map_err(|source| CommandError::Write { path: path.to_owned(), source })
}

/// The runtime of commands that talk to a server.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CommandError::Runtime)
}

/// A client for the cluster of a kubeconfig; without one, for `KUBECONFIG`'s, then for the cluster around us.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> Result<kube::Client, CommandError> {
    // A second call finds it installed, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = match kubeconfig {
        None => {
            kube::Config::infer().await.map_err(|error| CommandError::NoCluster { why: error.to_string() })?
        }
        Some(path) => {
            let wrong = |error: kube::config::KubeconfigError| {
                CommandError::Input(format!("kubeconfig {}: {error}; check the file", path.display()))
            };
            let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(wrong)?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
    };
    // The client's own retries would hide a budget's 429 and its Retry-After, and outlast our time-outs.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|source| CommandError::Api {
        attempted: "set up the client".into(),
        source: Box::new(source),
    })
}

/// Resolves when the user or the system asks us to end.
pub(crate) async fn asked_to_end() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard; Ctrl-C still can");
            let _ = tokio::signal::ctrl_c().await;
            return;
        }
    };
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        // Where Ctrl-C cannot be heard either, only a kill ends us, which the ledger is made for.
        Ok(()) = tokio::signal::ctrl_c() => {}
        else => std::future::pending().await,
    }
}
