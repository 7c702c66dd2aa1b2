//! Where a command looks at a controller: through a kubeconfig, at an address, or in a journal.
//!
//! Owns the way to the leading controller: its Lease names the pod, and the API server passes the question on. Nothing
//! but reading is asked for.

use crate::commands::{client, runtime};
use crate::error::CommandError;
use controller::journal::{self, Reached};
use controller::{Explanation, StateView, Subject, explain};
use jiff::Timestamp;
use kube::Client;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The controller's port where its manifests are ours.
const PORT: u16 = 8085;

#[derive(clap::Args)]
pub(crate) struct Source {
    /// Kubeconfig of the cluster [default: KUBECONFIG, else the cluster around us]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Namespace that the controller runs in
    #[arg(long, default_value = "kube-system")]
    controller_namespace: String,
    /// Name of the controller's Lease
    #[arg(long, default_value = "cluster-autoscaler")]
    leader_elect_resource_name: String,
    /// Address of a controller, such as http://127.0.0.1:8085, instead of the way through the cluster
    #[arg(long, value_name = "URL", conflicts_with_all = ["kubeconfig", "journal"])]
    controller: Option<String>,
    /// A journal's directory or one of its files: what was known then, without a cluster
    #[arg(long, value_name = "JOURNAL", conflicts_with = "kubeconfig")]
    journal: Option<PathBuf>,
    /// The moment of the journal, such as 2026-05-04T09:30:00Z [default: its end]
    #[arg(long, value_name = "TIME", requires = "journal")]
    at: Option<Timestamp>,
}

/// A way to ask that is found once and used again.
pub(crate) struct Asking {
    client: Client,
    /// Put before every path.
    prefix: String,
}

impl Source {
    pub(crate) fn is_journal(&self) -> bool {
        self.journal.is_some()
    }

    fn reached(&self) -> Result<Option<Reached>, CommandError> {
        let Some(path) = &self.journal else { return Ok(None) };
        Ok(Some(journal::moment(path, self.at, nodes::decide)?))
    }

    /// Pools, nodes, waiting pods, decisions.
    pub(crate) fn state(&self) -> Result<StateView, CommandError> {
        if let Some(reached) = self.reached()? {
            return Ok(reached.state());
        }
        runtime()?.block_on(async { self.asking().await?.state().await })
    }

    pub(crate) fn explanation(&self, subject: &Subject) -> Result<Explanation, CommandError> {
        let unknown = || CommandError::Input(format!("nothing is known of {subject}; see `tideline status`"));
        if let Some(mut reached) = self.reached()? {
            return explain(reached.moment(), subject).ok_or_else(unknown);
        }
        runtime()?.block_on(async {
            let asking = self.asking().await?;
            let path = format!("/api/v1/explain?of={}", encoded(&subject.to_string()));
            match asking.get(&path).await {
                Err(CommandError::Api { source, .. }) if says_unknown(&source) => Err(unknown()),
                answer => answer,
            }
        })
    }

    /// Finds the leading controller.
    pub(crate) async fn asking(&self) -> Result<Asking, CommandError> {
        if let Some(url) = &self.controller {
            let wrong = |why: String| {
                CommandError::Usage(format!(
                    "--controller {url}: {why}; write an address such as http://127.0.0.1:{PORT}"
                ))
            };
            let uri: http::Uri =
                url.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
            if uri.scheme().is_none() || uri.authority().is_none() {
                return Err(wrong("it is no full address".to_owned()));
            }
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let client = Client::try_from(kube::Config::new(uri)).map_err(api("set up the client"))?;
            return Ok(Asking { client, prefix: String::new() });
        }
        let client = client(self.kubeconfig.as_deref()).await?;
        let namespace = &self.controller_namespace;
        let mut ways = Vec::new();
        if let Some(pod) = self.leader(&client).await? {
            ways.push(format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy"));
        }
        ways.push(format!("/api/v1/namespaces/{namespace}/services/tideline:http/proxy"));
        // The sandbox serves the cluster and its controller at one address.
        ways.push(String::new());
        let mut refused = None;
        for prefix in ways {
            let asking = Asking { client: client.clone(), prefix };
            match asking.text("/api/v1/state").await {
                Ok(_) => return Ok(asking),
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        let why = refused.map_or_else(String::new, |error| format!(": {error}"));
        Err(CommandError::Input(format!(
            "no controller answers in namespace {namespace}{why}; see that it runs there, that you may get pods/proxy, or \
             give --controller URL after `kubectl port-forward`"
        )))
    }

    /// The pod that holds the Lease, where there is one.
    async fn leader(&self, client: &Client) -> Result<Option<String>, CommandError> {
        use k8s_openapi::api::coordination::v1::Lease;
        let leases: kube::Api<Lease> = kube::Api::namespaced(client.clone(), &self.controller_namespace);
        let lease = bounded(leases.get_opt(&self.leader_elect_resource_name)).await;
        let lease = match lease {
            Ok(lease) => lease,
            // Whoever may not read Leases can still go by the Service.
            Err(kube::Error::Api(status)) if status.code == 403 => None,
            Err(error) => return Err(api("read the controller's Lease")(error)),
        };
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
        Ok(holder
            .and_then(|holder| holder.split('_').next().map(str::to_owned))
            .filter(|pod| !pod.is_empty()))
    }
}

impl Asking {
    pub(crate) async fn state(&self) -> Result<StateView, CommandError> {
        self.get("/api/v1/state").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let text = self.text(path).await.map_err(api("ask the controller"))?;
        serde_json::from_str(&text).map_err(|error| {
            CommandError::Input(format!(
                "the controller's answer to {path} cannot be read ({error}); use a tideline of its version"
            ))
        })
    }

    async fn text(&self, path: &str) -> kube::Result<String> {
        let request = http::Request::get(format!("{}{path}", self.prefix)).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        bounded(self.client.request_text(request)).await
    }
}

fn api(attempted: &str) -> impl FnOnce(kube::Error) -> CommandError {
    let attempted = attempted.to_owned();
    move |source| CommandError::Api { attempted, source: Box::new(source) }
}

fn says_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
    }
}

/// Percent-encoded, as a query asks for it.
fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_a_query() {
        assert_eq!(encoded("pod default/web-1"), "pod%20default/web-1");
        assert_eq!(encoded("node a&b=ü"), "node%20a%26b%3D%C3%BC");
    }
}
