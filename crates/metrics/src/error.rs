//! Why a query brought nothing.

use jiff::SignedDuration;
use std::sync::Arc;

/// A query without an answer. The message names the query and the source; `Display` is fit for conditions and events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The source works and has no value.
    #[error("{query}: {why}")]
    Missing { query: Arc<str>, why: Arc<str> },
    /// The source knows no metric of that name; what is configured or measured may change.
    #[error("{query}: {why}")]
    Unknown { query: Arc<str>, why: Arc<str> },
    /// There are values, and all of them are too old to act on.
    #[error("{query}: the newest value is {} s old, and values older than {} s are not used; {fix}",
        .age.as_secs(), .limit.as_secs())]
    Stale { query: Arc<str>, age: SignedDuration, limit: SignedDuration, fix: Arc<str> },
    /// A part of a whole that only counts as a whole: some of a range of time, some of a sum.
    #[error("{query}: only a part could be read: {why}")]
    Partial { query: Arc<str>, why: Arc<str> },
    /// The source cannot answer such a query.
    #[error("{query}: {source_name} cannot answer this: {why}")]
    Unsupported { query: Arc<str>, source_name: &'static str, why: Arc<str> },
    /// The query or the configuration behind it makes no sense.
    #[error("{query}: {why}")]
    Invalid { query: Arc<str>, why: Arc<str> },
    /// The source did not answer, or refused: permissions, time-out, its own errors.
    #[error("{query}: {why}")]
    Unreachable { query: Arc<str>, why: Arc<str> },
}

impl MetricsError {
    /// Worth asking again soon with the same query.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::Unreachable { .. }
                | Self::Partial { .. }
                | Self::Stale { .. }
                | Self::Missing { .. }
        )
    }
}
