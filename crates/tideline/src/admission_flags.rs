//! Flags of pods' readiness gates: who puts them in, and the webhook's address and certificate.
//!
//! Owns their translation; what the webhook does is crate `admission`'s.

use crate::commands::controller::address;
use crate::error::CommandError;
use admission::{Certificate, Webhook};
use clap::{Args, ValueEnum};
use clock::Clock;
use kube::Client;
use std::path::PathBuf;

const DEFAULT_ADDRESS: &str = ":9443";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ReadinessGates {
    /// Nobody; gates stay as they are
    #[default]
    Off,
    /// Pods bring the gate in their template; we open it
    Template,
    /// A webhook of ours puts it into pods with the label kapacitystack.io/inject-pod-readiness-gate=true
    Webhook,
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Readiness gates of pods")]
pub(crate) struct AdmissionFlags {
    /// Who gives pods the readiness gate kapacitystack.io/online, by which they can be cut off
    #[arg(long, value_enum, value_name = "BY", default_value_t)]
    readiness_gates: ReadinessGates,
    /// Where the webhook listens [default: :9443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    webhook_bind_address: Option<String>,
    /// The webhook's Service in our namespace, for which its certificate is made
    #[arg(long, value_name = "NAME", default_value = "tideline-webhook")]
    webhook_service: String,
    /// The MutatingWebhookConfiguration into which the certificate's authority is written
    #[arg(long, value_name = "NAME", default_value = "tideline-readiness-gate")]
    webhook_registration: String,
    /// Certificate of the webhook from a file, whose authority somebody else writes, instead of our own
    #[arg(long, value_name = "FILE", requires = "webhook_key")]
    webhook_certificate: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "webhook_certificate")]
    webhook_key: Option<PathBuf>,
}

impl AdmissionFlags {
    /// Starts what is asked for; it runs until the process ends.
    pub(crate) fn start(&self, client: &Client, namespace: &str, clock: Clock) -> Result<(), CommandError> {
        if self.readiness_gates == ReadinessGates::Off {
            return Ok(());
        }
        tokio::spawn(admission::open_gates(client.clone(), clock));
        if self.readiness_gates == ReadinessGates::Template {
            return Ok(());
        }
        let given = self.webhook_bind_address.as_deref().unwrap_or(DEFAULT_ADDRESS);
        let address = address("--webhook-bind-address", given)?.ok_or_else(|| {
            CommandError::Usage(
                "--webhook-bind-address is empty; give a port, or --readiness-gates=template".to_owned(),
            )
        })?;
        let webhook = Webhook { address, certificate: self.certificate(namespace) };
        let client = client.clone();
        tokio::spawn(async move {
            let bound = |address| tracing::info!(%address, "serving the webhook of readiness gates");
            if let Err(error) = webhook.serve(client, clock, bound).await {
                tracing::error!(%error, "pods are made without readiness gates");
            }
        });
        Ok(())
    }

    fn certificate(&self, namespace: &str) -> Certificate {
        if let (Some(certificates), Some(key)) = (&self.webhook_certificate, &self.webhook_key) {
            return Certificate::Files(tls::Files { certificates: certificates.clone(), key: key.clone() });
        }
        let service = &self.webhook_service;
        let names = [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ];
        Certificate::Own { names: names.into(), registration: self.webhook_registration.clone() }
    }
}
