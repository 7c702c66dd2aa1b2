//! What can go wrong: for good, or until the next try.

/// An error of the shell.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ScalerError {
    #[error("setting {field}: {problem}")]
    Config { field: &'static str, problem: String },
    #[error("leadership was lost: {why}; nothing was acted on since")]
    LostLeadership { why: String },
    /// A call that failed; it is tried again.
    #[error("{attempted}: {message}")]
    Api { attempted: String, message: String, code: Option<u16> },
    /// Somebody else wrote in between: look again.
    #[error("{attempted}: it has changed since it was read")]
    Changed { attempted: String },
    /// Calls are not made while the lead is not sure to last.
    #[error("{attempted}: not tried, because the lead would not outlast the call")]
    NotLeading { attempted: String },
    /// What an object says cannot be done; it waits for a change of the object.
    #[error("{0}")]
    Unusable(String),
}

impl ScalerError {
    /// Whether the object is gone.
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, Self::Api { code: Some(404), .. })
    }
}
