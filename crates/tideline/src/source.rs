//! Where a command looks at a controller: through a kubeconfig, at an address, or in a journal.
//!
//! Owns the way to the leading controller: its Lease names the pod, and the API server passes the question on. Nothing
//! but reading is asked for.

use crate::commands::{client, runtime};
use crate::error::CommandError;
use controller::journal::{self, Reached};
use controller::{Explanation, StateView, Subject, TOKEN_HEADER, explain};
use http::HeaderValue;
use jiff::Timestamp;
use kube::Client;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use scaler::{AutoscalerView, Pictures};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
const WANTS_TOKEN: &str = "the controller asks who looks; add --token-file FILE with the token of its \
                           --page-token-file, or where it has --page-token-review one of the cluster, as \
                           `kubectl create token` makes";
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
    /// A file with the token that the controller asks for (--page-token-file, --page-token-review of its own)
    #[arg(long, value_name = "FILE", conflicts_with = "journal")]
    token_file: Option<PathBuf>,
    /// Authority of the controller's certificate, in PEM, where its address is https [default: the system's]
    #[arg(long, value_name = "FILE", requires = "controller")]
    certificate_authority: Option<PathBuf>,
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
    token: Option<HeaderValue>,
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

    /// What scales a workload, where a controller of these days is asked and something does.
    pub(crate) fn autoscalers_of(&self, namespace: &str, name: &str) -> Vec<AutoscalerView> {
        if self.is_journal() {
            return Vec::new();
        }
        let ask = || runtime()?.block_on(async { self.asking().await?.get("/api/v1/workloads").await });
        // It is told beside the answer: one that does not come takes nothing away from that.
        let told: Result<Option<Pictures>, CommandError> = ask();
        let all = told.ok().flatten().unwrap_or_default().autoscalers;
        let ours = |one: &AutoscalerView| {
            let of_namespace = one.name.split_once('/').is_some_and(|(known, _)| known == namespace);
            of_namespace && one.target.split_once(' ').is_some_and(|(_, target)| target == name)
        };
        all.into_iter().filter(ours).collect()
    }

    /// What the controller wants to see.
    fn token(&self) -> Result<Option<HeaderValue>, CommandError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let wrong =
            |problem: String| CommandError::Usage(format!("--token-file {}: {problem}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut token =
            HeaderValue::from_str(text.trim()).map_err(|_| wrong("it holds no token".to_owned()))?;
        if token.is_empty() {
            return Err(wrong("it is empty".to_owned()));
        }
        token.set_sensitive(true);
        Ok(Some(token))
    }

    fn authority(&self) -> Result<Option<Vec<Vec<u8>>>, CommandError> {
        let Some(path) = &self.certificate_authority else { return Ok(None) };
        let wrong = |problem: String| {
            CommandError::Usage(format!("--certificate-authority {}: {problem}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|error| wrong(error.to_string()))?;
        Ok(Some(certificates.iter().map(|certificate| certificate.to_vec()).collect()))
    }

    /// Finds the leading controller.
    pub(crate) async fn asking(&self) -> Result<Asking, CommandError> {
        let token = self.token()?;
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
            let mut config = kube::Config::new(uri);
            config.root_cert = self.authority()?;
            let client = Client::try_from(config).map_err(api("set up the client"))?;
            return Ok(Asking { client, prefix: String::new(), token });
        }
        let client = client(self.kubeconfig.as_deref()).await?;
        let namespace = &self.controller_namespace;
        let mut ways = Vec::new();
        if let Some(pod) = self.leader(&client).await? {
            ways.push(format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy"));
            ways.push(format!("/api/v1/namespaces/{namespace}/pods/https:{pod}:{PORT}/proxy"));
        }
        ways.push(format!("/api/v1/namespaces/{namespace}/services/tideline:http/proxy"));
        // The sandbox serves the cluster and its controller at one address.
        ways.push(String::new());
        let mut refused = None;
        for prefix in ways {
            let asking = Asking { client: client.clone(), prefix, token: token.clone() };
            match asking.text("/api/v1/state").await {
                Ok(_) => return Ok(asking),
                // It is there, and wants to know who asks.
                Err(kube::Error::Api(status)) if status.code == 401 && says_token(&status.message) => {
                    return Err(CommandError::Input(WANTS_TOKEN.to_owned()));
                }
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
        let text = match self.text(path).await {
            Err(kube::Error::Api(status)) if status.code == 401 => {
                return Err(CommandError::Input(WANTS_TOKEN.to_owned()));
            }
            answer => answer.map_err(api("ask the controller"))?,
        };
        serde_json::from_str(&text).map_err(|error| {
            CommandError::Input(format!(
                "the controller's answer to {path} cannot be read ({error}); use a tideline of its version"
            ))
        })
    }

    async fn text(&self, path: &str) -> kube::Result<String> {
        let mut request = http::Request::get(format!("{}{path}", self.prefix));
        if let Some(token) = &self.token {
            request = request.header(TOKEN_HEADER, token);
        }
        let request = request.body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        bounded(self.client.request_text(request)).await
    }
}

fn api(attempted: &str) -> impl FnOnce(kube::Error) -> CommandError {
    let attempted = attempted.to_owned();
    move |source| CommandError::Api { attempted, source: Box::new(source) }
}

fn says_token(message: &str) -> bool {
    message.contains("a token is needed")
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
