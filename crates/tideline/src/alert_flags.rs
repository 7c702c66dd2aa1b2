//! Alerts as a demand source of the controller: an endpoint for Alertmanager whose alerts rules wait for.
//!
//! Owns the flags, and the way of an alert from the endpoint to the planner. Bodies, limits and credentials are the
//! `alerts` crate's; what an alert leads to is decided by rules of type Alert (docs/node-rules.md).

use crate::commands::asked_to_end;
use crate::error::CommandError;
use alerts::{Alert, AlertsError, CredentialFiles, Reason, Serving, Status, Taken, Taker, Verdict};
use clap::Args;
use clock::Clock;
use controller::{AlertAnswer, Handle};
use jiff::Timestamp;
use model::AlertDemand;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Alerts (for node rules of type Alert)")]
pub(crate) struct AlertFlags {
    /// Take alerts on this address, as :9095, at /alertmanager; needs a token or clients' certificates
    /// [default: none are taken]
    #[arg(id = "alerts-address", long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Each post must carry this file's content as its bearer token
    #[arg(id = "alerts-bearer-token-file", long, value_name = "FILE", requires = "alerts-address")]
    bearer_token_file: Option<PathBuf>,
    /// Certificate for HTTPS, in PEM
    #[arg(id = "alerts-tls-cert-file", long, value_name = "FILE", requires = "alerts-tls-key-file")]
    tls_cert_file: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(id = "alerts-tls-key-file", long, value_name = "FILE", requires = "alerts-tls-cert-file")]
    tls_key_file: Option<PathBuf>,
    /// Authorities of clients' certificates, in PEM; each client must then have one
    #[arg(id = "alerts-client-ca-file", long, value_name = "FILE", requires = "alerts-tls-cert-file")]
    client_ca_file: Option<PathBuf>,
    /// Posts a second that are taken [default: 20]
    #[arg(id = "alerts-requests-per-second", long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests_per_second: Option<u32>,
}

impl AlertFlags {
    /// How alerts are served, where they are.
    pub(crate) fn serving(&self) -> Result<Option<Serving>, CommandError> {
        let Some(text) = &self.address else { return Ok(None) };
        if self.bearer_token_file.is_none() && self.client_ca_file.is_none() {
            return Err(CommandError::Usage(
                "--alerts-address lets whoever reaches it add nodes; add --alerts-bearer-token-file or \
                 --alerts-client-ca-file"
                    .to_owned(),
            ));
        }
        let whole = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.clone() };
        let address: SocketAddr = whole.parse().map_err(|_| {
            CommandError::Usage(format!(
                "--alerts-address \"{text}\" is no address; write :9095 or 127.0.0.1:9095"
            ))
        })?;
        Ok(Some(Serving {
            address,
            credentials: CredentialFiles {
                token: self.bearer_token_file.clone(),
                certificate: self.tls_cert_file.clone().zip(self.tls_key_file.clone()),
                client_authorities: self.client_ca_file.clone(),
            },
            per_second: self.requests_per_second.unwrap_or(20),
            seed: u64::from(std::process::id()),
        }))
    }
}

/// Serves alerts beside the controller until the program is asked to end.
pub(crate) async fn start(serving: Serving, handle: Handle, clock: Clock) -> Result<(), CommandError> {
    // Read once here: what is wrong with the files is said before anything starts.
    serving.credentials.read()?;
    let listener = tokio::net::TcpListener::bind(serving.address).await;
    drop(listener.map_err(|source| AlertsError::Listen { address: serving.address, source })?);
    let planner = Arc::new(Planner { handle, clock });
    tokio::spawn(async move {
        let bound = |address| tracing::info!(%address, "taking alerts at /alertmanager");
        if let Err(error) = alerts::serve_taker(planner, serving, bound, asked_to_end()).await {
            tracing::error!(%error, "alerts are not taken any more");
        }
    });
    Ok(())
}

/// Hands alerts to the planner.
struct Planner {
    handle: Handle,
    clock: Clock,
}

impl Planner {
    async fn tell(&self, alert: &Alert, now: Timestamp) -> Result<Verdict, AlertsError> {
        if alert.status == Status::Resolved {
            return Ok(Verdict::Skipped(Reason::Resolved));
        }
        if let Some(at) = alert.ends_at.filter(|at| *at <= now) {
            return Ok(Verdict::Skipped(Reason::Ended { at }));
        }
        let demand = AlertDemand {
            fingerprint: Arc::from(alert.fingerprint.as_str()),
            labels: alert
                .labels
                .iter()
                .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
                .collect(),
            starts_at: alert.starts_at.unwrap_or(now),
        };
        match self.handle.alert(demand).await {
            Some(AlertAnswer::Taken { rules }) => Ok(Verdict::Demanded { rules }),
            Some(AlertAnswer::NoRule) => Ok(Verdict::Skipped(Reason::NoRule)),
            Some(AlertAnswer::StandingBy) => Err(AlertsError::StandingBy),
            None => Err(AlertsError::Unanswered),
        }
    }
}

impl Taker for Planner {
    fn take<'a>(&'a self, alert: &'a Alert) -> Taken<'a> {
        Box::pin(self.tell(alert, self.clock.now()))
    }

    fn is_ready(&self) -> bool {
        self.handle.leads()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: AlertFlags,
    }

    fn serving(arguments: &[&str]) -> Result<Option<Serving>, String> {
        let line = Line::try_parse_from([&["x"], arguments].concat()).map_err(|error| error.to_string())?;
        line.flags.serving().map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_is_let_in_without_credentials() {
        assert!(serving(&[]).unwrap().is_none());
        let open = serving(&["--alerts-address=:9095"]).unwrap_err();
        assert!(open.contains("--alerts-bearer-token-file"), "{open}");
        let guarded = serving(&["--alerts-address=:9095", "--alerts-bearer-token-file=/t"]).unwrap().unwrap();
        assert_eq!((guarded.address.to_string().as_str(), guarded.per_second), ("0.0.0.0:9095", 20));
        let wrong = serving(&["--alerts-address=9095", "--alerts-bearer-token-file=/t"]).unwrap_err();
        assert!(wrong.contains("write :9095"), "{wrong}");
        assert!(serving(&["--alerts-bearer-token-file=/t"]).is_err());
    }
}
