//! What can go wrong with the equipment itself, as opposed to a disagreement, which is what it looks for.

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    #[error("listening for the scheduler's questions on loopback: {0}")]
    Listen(#[source] std::io::Error),
    #[error("{what}: {source}")]
    Kube { what: String, source: Box<kube::Error> },
    #[error("{what}: the real scheduler said nothing within {seconds} s; last seen: {last}")]
    Silence { what: String, seconds: u64, last: String },
    #[error("{what} is refused by the API server, so that the generator has to be mended: {why}")]
    Refused { what: String, why: String },
    #[error("question {0} was bound although its extender refused it everywhere")]
    BoundQuestion(String),
    #[error("reading {what} into the model: {why}")]
    Intake { what: String, why: String },
    #[error(
        "{0} disagreements with the real scheduler; each is printed above with the command that repeats it"
    )]
    Disagreements(usize),
}

impl Error {
    pub(crate) fn kube(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kube { what, source: Box::new(source) }
    }
}
