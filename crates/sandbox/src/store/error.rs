//! Why the API refuses: one error for in-process writers and HTTP clients alike, and its `Status` form.
//!
//! Owns the mapping to HTTP codes and Kubernetes reasons. Leaves sending it to `api`.

use super::resource::ResourceName;
use serde_json::{Value, json};

/// One reason within a 422 or 429, tied to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    pub field: String,
    pub message: String,
}

impl Cause {
    pub fn invalid(field: impl Into<String>, value: impl std::fmt::Display, message: &str) -> Self {
        let message = format!("Invalid value: {value}: {message}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub fn required(field: impl Into<String>, message: &str) -> Self {
        let message = if message.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {message}")
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }
}

/// Everything that the API answers instead of an object.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: ResourceName, name: String },
    #[error("the server could not find the requested resource")]
    UnknownPath,
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists { resource: ResourceName, name: String },
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {message}")]
    Conflict { resource: ResourceName, name: String, message: String },
    #[error("{}", invalid_message(kind, name, causes))]
    Invalid { kind: String, name: String, causes: Vec<Cause> },
    #[error("{0}")]
    BadRequest(String),
    #[error("{resource} \"{name}\" is forbidden: {message}")]
    Forbidden { resource: ResourceName, name: String, message: String, cause: Option<&'static str> },
    #[error("{0}")]
    Expired(String),
    #[error("{message}")]
    TooManyRequests { message: String, retry_after_seconds: u32, cause: Option<Cause> },
    #[error("{0}")]
    Internal(String),
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(&'static str),
    #[error("{message}")]
    Unavailable { message: String, retry_after_seconds: u32 },
    #[error("the server was unable to return a response in the time allotted: {0}")]
    Timeout(String),
    #[error("{resource} \"{name}\" cannot be read as {into}: {source}")]
    Undecodable { resource: ResourceName, name: String, into: &'static str, source: serde_json::Error },
}

fn invalid_message(kind: &str, name: &str, causes: &[Cause]) -> String {
    let list: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    match list.as_slice() {
        [only] => format!("{kind} \"{name}\" is invalid: {only}"),
        many => format!("{kind} \"{name}\" is invalid: [{}]", many.join(", ")),
    }
}

/// The message of every optimistic-lock conflict; clients match on it.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl ApiError {
    pub(crate) fn not_found(resource: ResourceName, name: &str) -> Self {
        Self::NotFound { resource, name: name.to_owned() }
    }

    pub(crate) fn conflict(resource: ResourceName, name: &str, message: impl Into<String>) -> Self {
        Self::Conflict { resource, name: name.to_owned(), message: message.into() }
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::UnknownPath => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } => 409,
            Self::Invalid { .. } => 422,
            Self::BadRequest(_) => 400,
            Self::Forbidden { .. } => 403,
            Self::Expired(_) => 410,
            Self::TooManyRequests { .. } => 429,
            Self::Internal(_) | Self::Undecodable { .. } => 500,
            Self::MethodNotAllowed => 405,
            Self::UnsupportedMediaType(_) => 415,
            Self::Unavailable { .. } => 503,
            Self::Timeout(_) => 504,
        }
    }

    /// The machine-readable reason of the `Status`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::UnknownPath => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } => "Conflict",
            Self::Invalid { .. } => "Invalid",
            Self::BadRequest(_) => "BadRequest",
            Self::Forbidden { .. } => "Forbidden",
            Self::Expired(_) => "Expired",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::Internal(_) | Self::Undecodable { .. } => "InternalError",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::Unavailable { .. } => "ServiceUnavailable",
            Self::Timeout(_) => "Timeout",
        }
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::UnknownPath)
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// Seconds for the `Retry-After` header.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        match self {
            Self::TooManyRequests { retry_after_seconds, .. }
            | Self::Unavailable { retry_after_seconds, .. } => Some(*retry_after_seconds).filter(|s| *s > 0),
            _ => None,
        }
    }

    fn details(&self) -> Option<Value> {
        let of = |resource: &ResourceName, name: &str| json!({"name": name, "group": resource.group(), "kind": resource.plural()});
        let details = match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => of(resource, name),
            Self::Forbidden { resource, name, message, cause } => {
                let mut details = of(resource, name);
                if let Some(cause) = cause {
                    details["causes"] =
                        json!([{"reason": cause, "message": message, "field": "metadata.namespace"}]);
                }
                details
            }
            Self::Invalid { kind, name, causes } => {
                let causes: Vec<Value> = causes.iter().map(cause_json).collect();
                let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
                json!({"name": name, "group": group, "kind": kind, "causes": causes})
            }
            Self::TooManyRequests { retry_after_seconds, cause, .. } => {
                let causes: Vec<Value> = cause.iter().map(cause_json).collect();
                let mut details = json!({"causes": causes});
                if *retry_after_seconds > 0 {
                    details["retryAfterSeconds"] = json!(retry_after_seconds);
                }
                details
            }
            _ => return None,
        };
        Some(details)
    }

    /// The body that a client gets.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }
}

fn cause_json(cause: &Cause) -> Value {
    let mut json = json!({"reason": cause.reason, "message": cause.message});
    if !cause.field.is_empty() {
        json["field"] = Value::String(cause.field.clone());
    }
    json
}
