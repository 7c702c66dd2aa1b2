//! What was asked of the API server, by whom, and how it answered.
//!
//! Owns reading the audit log. What is written to it is decided by `flags`.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::control_plane::{ControlPlane, get_text};
use crate::error::Error;
use crate::flags::AUDIT_LOG;

const FORBIDDEN: u16 = 403;
const FLUSH_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// How many of the refused requests an error lists.
const LISTED: usize = 20;

/// One request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// In whose name it was made; with impersonation, the user impersonated.
    pub user: String,
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, ...
    pub verb: String,
    /// Empty for the core group and for requests that are not about a resource.
    pub group: String,
    /// Empty for requests that are not about a resource, such as `/readyz`.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// Path and query of the request.
    pub uri: String,
    /// When it arrived, in RFC 3339.
    pub received: String,
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.verb, self.uri, self.code)
    }
}

/// The requests so far, in the order of their answers.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub entries: Vec<AuditEntry>,
}

impl Audit {
    /// The requests of one user.
    pub fn of(&self, user: &str) -> impl Iterator<Item = &AuditEntry> {
        self.entries.iter().filter(move |entry| entry.user == user)
    }

    /// The requests of one user that were refused for want of a right.
    pub fn forbidden(&self, user: &str) -> Vec<&AuditEntry> {
        self.of(user).filter(|entry| entry.code == FORBIDDEN).collect()
    }

    /// An error listing them if any request of `user` was refused for want of a right.
    pub fn check_none_forbidden(&self, user: &str) -> Result<(), Error> {
        let forbidden = self.forbidden(user);
        if forbidden.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = forbidden.iter().take(LISTED).map(|entry| format!("  {entry}")).collect();
        Err(Error::Forbidden { user: user.to_owned(), count: forbidden.len(), list: list.join("\n") })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        // A watch is logged when it begins and when it ends: only the first counts.
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        // The last line may still be in the writing.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in complete.lines() {
            let event: Event = serde_json::from_str(line)
                .map_err(|source| Error::AuditLine { path: path.to_owned(), source })?;
            if seen.insert(event.audit_id.clone()) {
                entries.push(event.into());
            }
        }
        Ok(Self { entries })
    }
}

impl ControlPlane {
    /// All requests answered so far.
    pub async fn audit(&self) -> Result<Audit, Error> {
        static MARKS: AtomicU64 = AtomicU64::new(0);
        if !self.has_audit() {
            return Err(Error::NoAudit);
        }
        // An answer may arrive before it is logged. A request of our own marks the end of what
        // must be in the log.
        let mark = format!("/version?mark={}", MARKS.fetch_add(1, Ordering::Relaxed));
        get_text(&self.client(), &mark).await.map_err(Error::kube("marking the audit log"))?;
        let path = self.workspace().join(AUDIT_LOG);
        let deadline = Instant::now() + FLUSH_DEADLINE;
        loop {
            let text = fs::read_to_string(&path).map_err(Error::file("reading", &path))?;
            let audit = Audit::parse(&text, &path)?;
            if audit.entries.iter().rev().any(|entry| entry.uri == mark) {
                return Ok(audit);
            }
            if Instant::now() > deadline {
                return Err(Error::Deadline {
                    what: "the audit log to have all requests".to_owned(),
                    seconds: FLUSH_DEADLINE.as_secs(),
                    last: format!("it has {}", audit.entries.len()),
                    tail: self.log_tails(),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The part of an `audit.k8s.io/v1` event that is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI", default)]
    request_uri: String,
    #[serde(default)]
    verb: String,
    #[serde(default)]
    user: User,
    impersonated_user: Option<User>,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    #[serde(default)]
    request_received_timestamp: String,
}

#[derive(Deserialize, Default)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        Self {
            user: event.impersonated_user.unwrap_or(event.user).username,
            user_agent: event.user_agent,
            verb: event.verb,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
            uri: event.request_uri,
            received: event.request_received_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"auditID":"1","stage":"ResponseStarted","requestURI":"/api/v1/pods?watch=1","verb":"watch","user":{"username":"ann"},"objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200}}
{"auditID":"2","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/a/deployments/b/scale","verb":"patch","user":{"username":"admin"},"impersonatedUser":{"username":"ann"},"objectRef":{"resource":"deployments","subresource":"scale","namespace":"a","name":"b","apiGroup":"apps"},"responseStatus":{"code":403}}
{"auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/pods?watch=1","verb":"watch","user":{"username":"ann"},"responseStatus":{"code":200}}
{"auditID":"3","stage":"Respo"#;

    #[test]
    fn requests_are_counted_once_and_for_whom_they_were_made() {
        let audit = Audit::parse(LOG, Path::new("log")).unwrap();
        assert_eq!(audit.entries.len(), 2);
        assert_eq!(audit.of("ann").count(), 2);
        assert_eq!(audit.of("admin").count(), 0);
        let error = audit.check_none_forbidden("ann").unwrap_err().to_string();
        assert!(error.contains("patch /apis/apps/v1/namespaces/a/deployments/b/scale -> 403"), "{error}");
        assert!(audit.check_none_forbidden("admin").is_ok());
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        assert!(Audit::parse("nonsense\n", Path::new("log")).is_err());
    }
}
