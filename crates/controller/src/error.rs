//! What can go wrong in the shell for good: everything else is waited out or reported as an outcome.

/// An error that ends the controller or a replay.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    #[error("setting {field}: {problem}")]
    Config { field: String, problem: String },
    #[error("configuration {name}: {problem}")]
    Configuration { name: String, problem: String },
    #[error("{attempted}: {message}")]
    Api { attempted: String, message: String },
    #[error("leadership was lost: {why}; nothing was acted on since")]
    LostLeadership { why: String },
    #[error(
        "the ledger is {bytes} bytes, over its limit of {limit}: too much is under way at once; lower maxScaleDownParallelism or the number of pools"
    )]
    LedgerTooLarge { bytes: usize, limit: usize },
    #[error("listen on {address}: {source}; choose another address with `listen`")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error("journal {path}: {problem}")]
    Journal { path: String, problem: String },
}
