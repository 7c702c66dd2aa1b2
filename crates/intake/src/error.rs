//! What can be wrong with an object from outside.

/// An object, or a part of it, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    #[error("{field}: {problem}; {fix}")]
    Field { field: String, problem: String, fix: String },
    #[error("{object}: {source}")]
    Object { object: String, source: Box<IntakeError> },
    #[error("{file}{at}: {problem}; {fix}")]
    File { file: String, at: String, problem: String, fix: String },
}

impl IntakeError {
    pub fn field(field: impl Into<String>, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into(), fix: fix.into() }
    }

    /// Says which object the error is about.
    #[must_use]
    pub fn of(self, kind: &str, namespace: &str, name: &str) -> Self {
        let object = if namespace.is_empty() {
            format!("{kind} {name}")
        } else {
            format!("{kind} {namespace}/{name}")
        };
        Self::Object { object, source: Box::new(self) }
    }

    /// Puts a prefix before the field's name, as the error travels up.
    #[must_use]
    pub fn under(self, prefix: &str) -> Self {
        match self {
            Self::Field { field, problem, fix } => {
                Self::Field { field: format!("{prefix}.{field}"), problem, fix }
            }
            other => other,
        }
    }
}
