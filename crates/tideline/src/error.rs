//! What can go wrong with a command, and with which exit code it ends.
//!
//! Exit code 2 is a wrong command line, 1 everything else; a message names what was tried, on what, and the fix.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// The command line asks for something that cannot be.
    #[error("{0}")]
    Usage(String),
    /// Something that was given cannot be used; the text names file, object and fix.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Intake(#[from] intake::IntakeError),
    #[error("could not read {path}: {source}; check the path")]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("could not write to standard output: {0}")]
    Output(#[source] io::Error),
    #[error("could not turn {what} into text: {why}")]
    Encode { what: String, why: String },
    #[error("could not start the runtime: {0}")]
    Runtime(#[source] io::Error),
    #[error("no cluster to talk to: {why}; give --kubeconfig FILE, set KUBECONFIG, or run inside a cluster")]
    NoCluster { why: String },
    #[error("could not listen on {address}: {source}; choose another port")]
    Listen { address: std::net::SocketAddr, source: io::Error },
    #[error(transparent)]
    Sandbox(#[from] sandbox::SandboxError),
    #[error(transparent)]
    Simulator(#[from] simulator::SimulatorError),
    #[error(transparent)]
    Alerts(#[from] alerts::AlertsError),
    #[error(transparent)]
    Controller(#[from] controller::ControllerError),
    #[error(transparent)]
    Workloads(#[from] scaler::ScalerError),
    #[error(transparent)]
    Provider(#[from] clouds::external::ServeError),
    #[error(transparent)]
    Algorithm(#[from] scaler::OnceError),
    #[error("could not {attempted}: {source}")]
    Api { attempted: String, source: Box<kube::Error> },
}

impl CommandError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }

    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
