//! What can go wrong with the alert endpoint as a whole. What is wrong with one body or one alert is data.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the endpoint cannot start, or why an alert could not be decided now.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    #[error("triggers {name}: {problem}")]
    Triggers { name: String, problem: String },
    #[error("could not read {path}: {source}; check the path")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {problem}")]
    Credentials { path: PathBuf, problem: String },
    #[error("could not listen on {address}: {source}; choose another address")]
    Listen { address: SocketAddr, source: io::Error },
    /// Another delivery may succeed.
    #[error(transparent)]
    Cluster(#[from] clouds::ProviderError),
    #[error("{target} kept changing while it was scaled; deliver the alert again")]
    Contended { target: String },
    #[error("another replica leads, or nobody yet; deliver the alert again")]
    StandingBy,
    #[error("the planner did not answer in time; deliver the alert again")]
    Unanswered,
    #[error("earlier alerts are still being worked on; deliver the alert again")]
    Busy,
}
