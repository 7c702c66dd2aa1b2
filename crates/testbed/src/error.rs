//! What can go wrong with the test bed, in words that say what was tried and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(thiserror::Error)]
pub enum Error {
    #[error(
        "building the Kubernetes {version} control plane needs Go, and no `go` is in PATH: install Go \
             {go} or newer, or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver, kubectl, \
             kube-scheduler and kube-controller-manager"
    )]
    GoMissing { version: String, go: String },
    #[error("building the Kubernetes {version} control plane failed ({status}); the end of {log}:\n{tail}",
            log = log.display())]
    Build { version: String, status: String, log: PathBuf, tail: String },
    #[error("KUBEBUILDER_ASSETS is {dir}, where there is no kube-apiserver: point it at a directory of \
             control plane programs or unset it", dir = dir.display())]
    Assets { dir: PathBuf },
    #[error("there is no directory to keep the built control plane in: set TIDELINE_TESTBED_DIR")]
    NoCache,
    #[error(
        "the control plane module names no release of k8s.io/kubernetes in its go.mod: run \
             tests/controlplane/update.sh VERSION"
    )]
    NoVersion,
    #[error("{what} {path}: {source}", path = path.display())]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("making certificates for the control plane: {0}")]
    Certificates(#[from] rcgen::Error),
    #[error("{component} ended ({status}) while waiting for {what}; the end of {log}:\n{tail}",
            log = log.display())]
    Exited { component: String, status: String, what: String, log: PathBuf, tail: String },
    #[error("{what} did not come about within {seconds} s; {last}; the ends of the logs:\n{tail}")]
    Deadline { what: String, seconds: u64, last: String, tail: String },
    #[error("starting {program}: {source}", program = program.display())]
    Spawn { program: PathBuf, source: std::io::Error },
    #[error("kubectl {arguments} failed ({status}): {stderr}")]
    Kubectl { arguments: String, status: String, stderr: String },
    #[error("{what}: {source}")]
    Kube { what: String, source: Box<kube::Error> },
    #[error("reading kubeconfig {path}: {source}", path = path.display())]
    Kubeconfig { path: PathBuf, source: Box<kube::config::KubeconfigError> },
    #[error("the API server returned no token for {0}")]
    NoToken(String),
    #[error("this control plane writes no audit log: start it with Options {{ audit: true, .. }}")]
    NoAudit,
    #[error("the audit log {path} has a line that is no audit event: {source}", path = path.display())]
    AuditLine { path: PathBuf, source: serde_json::Error },
    #[error("{user} was forbidden {count} request(s), which its role should allow:\n{list}")]
    Forbidden { user: String, count: usize, list: String },
}

/// The message itself: tests unwrap, and a log on one line with its breaks escaped helps nobody.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Wraps an error of the file system with what was being done to which path.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// Wraps an error of the Kubernetes client with what was being asked.
    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kube { what, source: Box::new(source) }
    }

    /// Whether another try with other ports may succeed.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Exited { tail, .. } if tail.contains("address already in use"))
    }
}
