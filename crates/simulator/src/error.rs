//! What can be wrong with a simulation's input or run.

use model::PoolId;

/// Each message names the file, line or field, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("cannot write {file}: {source}")]
    Write { file: String, source: std::io::Error },
    #[error("{file} is damaged or cut off: its gzip stream cannot be unpacked ({source}); fetch it again")]
    Truncated { file: String, source: std::io::Error },
    #[error("{file} is larger than {most_bytes} bytes: split it or shorten it")]
    TooLarge { file: String, most_bytes: u64 },
    #[error("{file} is not UTF-8 text (byte {at_byte}): convert it to UTF-8")]
    NotText { file: String, at_byte: usize },
    #[error("{file}: {source}")]
    Yaml { file: String, source: Box<serde_saphyr::Error> },
    #[error("{file}: {field}: {problem}")]
    Field { file: String, field: String, problem: String },
    #[error("{file}, line {line}: {problem}")]
    Line { file: String, line: u64, problem: String },
    #[error("{file}: {problem}")]
    Trace { file: String, problem: String },
    #[error("cannot set up the simulated cluster: {attempted}: {problem}")]
    Setup { attempted: String, problem: String },
    #[error("cannot compare policies: {why}")]
    Comparison { why: String },
    #[error("pool {0} is not one of the scenario's: name one that it declares")]
    UnknownPool(PoolId),
}
