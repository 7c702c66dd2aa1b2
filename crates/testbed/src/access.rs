//! Ways to talk to a control plane: clients, kubeconfigs for users and service accounts, kubectl.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::control_plane::ControlPlane;
use crate::credentials;
use crate::error::Error;

const TOKEN_SECONDS: i64 = 24 * 3600;

/// A client for whoever a kubeconfig names.
pub async fn client_from(kubeconfig: &Path) -> Result<Client, Error> {
    let unreadable = |source| Error::Kubeconfig { path: kubeconfig.to_owned(), source: Box::new(source) };
    let file = Kubeconfig::read_from(kubeconfig).map_err(unreadable)?;
    let mut config =
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unreadable)?;
    // A proxy of the environment has no business between processes on loopback.
    config.proxy_url = None;
    Client::try_from(config).map_err(Error::kube(format!("making a client from {}", kubeconfig.display())))
}

/// The user name of a service account, as roles and the audit log have it.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

impl ControlPlane {
    /// A kubeconfig with which requests are made as `user` in `groups`, with the rights that
    /// roles give these and no others. The API server adds the group `system:authenticated`.
    pub fn kubeconfig_for_user(&self, user: &str, groups: &[&str]) -> Result<PathBuf, Error> {
        let mut entry = self.credentials().user(credentials::ADMIN);
        entry["as"] = json!(user);
        entry["as-groups"] = json!(groups);
        self.write_kubeconfig(user, &entry)
    }

    /// A kubeconfig with a token of an existing service account, as a pod of it would have.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, Error> {
        let user = service_account_user(namespace, name);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = Api::<ServiceAccount>::namespaced(self.client(), namespace)
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(Error::kube(format!("asking for a token of service account {namespace}/{name}")))?;
        let token = answer.status.map(|status| status.token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| Error::NoToken(user.clone()))?;
        self.write_kubeconfig(&user, &json!({ "token": token }))
    }

    /// Runs `kubectl` as the administrator. A failing command is an `Output` like any other.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output, Error> {
        self.kubectl_with(self.kubeconfig(), arguments, "").await
    }

    /// Where `kubectl` is, for whoever runs it in an environment of their own.
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl_program().path
    }

    /// What `kubectl` prints, and an error with what it complains of if it fails.
    pub async fn kubectl_ok(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = self.kubectl(arguments).await?;
        succeeded(arguments, &output)
    }

    /// Runs `kubectl` as whoever `kubeconfig` names, with `input` as its standard input.
    pub async fn kubectl_with(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<Output, Error> {
        let program = &self.kubectl_program().path;
        let failed = |source| Error::Spawn { program: program.clone(), source };
        let mut child = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // Nothing of the user's own settings, and nothing left behind among them.
            .env("KUBERC", "off")
            .env("KUBECACHEDIR", self.workspace().join("kubectl-cache"))
            .env("HOME", self.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends before it has read everything says why in its own words.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await.map_err(failed)
    }

    /// Applies the objects of a YAML stream and returns what `kubectl` says of each.
    pub async fn apply(&self, yaml: &str) -> Result<String, Error> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename=-"];
        let output = self.kubectl_with(self.kubeconfig(), &arguments, yaml).await?;
        succeeded(&arguments, &output)
    }

    fn write_kubeconfig(&self, user: &str, entry: &Value) -> Result<PathBuf, Error> {
        let file: String =
            user.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let text = credentials::kubeconfig(self.server(), self.authority(), entry);
        self.workspace().write(&format!("{file}.kubeconfig"), &text)
    }
}

fn succeeded(arguments: &[&str], output: &Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Kubectl {
        arguments: arguments.join(" "),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
