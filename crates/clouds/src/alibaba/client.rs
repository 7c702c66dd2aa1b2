//! One signed request to an API of Alibaba Cloud, and what its answer means.
//!
//! Owns the RPC form (all parameters in the query), the headers, the clock's correction by the server's, and the
//! sorting of error codes. Which actions there are is `ess`'s business.

use super::credentials::Credentials;
use super::signature::{Canonical, digest, query_string};
use crate::calls::{Calls, Failure, FailureKind};
use crate::transport::Transport;
use bytes::Bytes;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Difference between our clock and the server's under which nothing is said of it.
const SKEW_WORTH_A_WORD: SignedDuration = SignedDuration::from_secs(60);

/// Requests of this process, so that no two of its clients sign with the same nonce.
static SENT: AtomicU64 = AtomicU64::new(0);

/// Parameters of an action, by name.
pub(super) type Parameters = BTreeMap<String, String>;

/// An API: where it is and which version of it we speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    /// Prefix of its actions in permissions, such as `ess`.
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Address such as `https://ess.aliyuncs.com`.
    pub(super) endpoint: String,
}

/// The client of one API.
pub(super) struct Client {
    product: Product,
    transport: Arc<dyn Transport>,
    credentials: Arc<Credentials>,
    calls: Calls,
    clock: Clock,
    /// Seconds to add to our clock to get the server's, as its last complaint showed.
    skew_seconds: AtomicI64,
}

impl Client {
    pub(super) fn new(
        product: Product,
        transport: Arc<dyn Transport>,
        credentials: Arc<Credentials>,
        calls: Calls,
        clock: Clock,
    ) -> Self {
        Self { product, transport, credentials, calls, clock, skew_seconds: AtomicI64::new(0) }
    }

    /// Calls an action that changes nothing.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        action: &'static str,
        parameters: Parameters,
    ) -> Result<T, Failure> {
        self.calls.read(|| self.send(action, &parameters)).await
    }

    /// Calls an action that changes something: once, because whoever ordered it decides about another try.
    pub(super) async fn order<T: DeserializeOwned>(
        &self,
        action: &'static str,
        parameters: Parameters,
    ) -> Result<T, Failure> {
        self.calls.once(self.send(action, &parameters)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        action: &'static str,
        parameters: &Parameters,
    ) -> Result<T, Failure> {
        let mut answer = self.attempt(action, parameters).await?;
        if self.correct_skew(&answer) {
            // The server has told its time: the same call once more, signed with that.
            answer = self.attempt(action, parameters).await?;
        }
        if answer.status().is_success() {
            return serde_json::from_slice(answer.body()).map_err(|error| {
                let message = format!("{action}: the answer is not of the documented form: {error}");
                Failure::new(FailureKind::Ill, "", message)
            });
        }
        let failure = self.sort(action, &answer);
        if matches!(&*failure.code, "InvalidSecurityToken.Expired" | "InvalidSecurityToken.Malformed") {
            self.credentials.forget().await;
        }
        Err(failure)
    }

    async fn attempt(
        &self,
        action: &'static str,
        parameters: &Parameters,
    ) -> Result<http::Response<Bytes>, Failure> {
        let key = self.credentials.key().await?;
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Refused, "", format!("{action} at {}: {error}", self.product.endpoint))
        };
        let address = format!("{}/?{}", self.product.endpoint, query_string(parameters));
        let address: http::Uri = address.parse().map_err(|error: http::uri::InvalidUri| wrong(&error))?;
        let host = address.authority().map(ToString::to_string).unwrap_or_default();
        let payload = digest(b"");
        let mut headers: BTreeMap<String, String> = [
            ("host", host),
            ("x-acs-action", action.to_owned()),
            ("x-acs-version", self.product.version.to_owned()),
            ("x-acs-date", self.server_time().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            ("x-acs-signature-nonce", self.nonce()),
            ("x-acs-content-sha256", payload.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(token) = &key.token {
            headers.insert("x-acs-accesskey-id".into(), key.id.clone());
            headers.insert("x-acs-security-token".into(), token.reveal().to_owned());
        }
        let canonical =
            Canonical { method: "POST", path: "/", query: parameters, headers: &headers, payload: &payload };
        let authorization = canonical.authorization(&key.id, &key.secret);
        let mut request = http::Request::post(address)
            .header("authorization", authorization)
            .header("accept", "application/json")
            .header("user-agent", concat!("tideline/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let request = request.body(Bytes::new()).map_err(|error| wrong(&error))?;
        self.transport.send(request).await.map_err(|error| {
            let message = format!("{action} at {}: {}", self.product.endpoint, chain(&*error));
            Failure::new(FailureKind::Ill, "", message)
        })
    }

    fn server_time(&self) -> Timestamp {
        let skew = SignedDuration::from_secs(self.skew_seconds.load(Ordering::Relaxed));
        self.clock.now().saturating_add(skew).unwrap_or(Timestamp::MAX)
    }

    /// Unlike any other of this account for the quarter of an hour in which the server remembers them.
    fn nonce(&self) -> String {
        let count = SENT.fetch_add(1, Ordering::Relaxed);
        let text = format!("{}-{}-{count}", self.clock.now().as_nanosecond(), std::process::id());
        digest(text.as_bytes())[..32].to_owned()
    }

    /// Whether the server called our time wrong and has told its own.
    fn correct_skew(&self, answer: &http::Response<Bytes>) -> bool {
        if answer.status().is_success() || !error_of(answer).code.starts_with("InvalidTimeStamp") {
            return false;
        }
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return false };
        let skew = theirs.timestamp().duration_since(self.clock.now());
        if skew.abs() >= SKEW_WORTH_A_WORD {
            tracing::warn!(
                seconds = skew.as_secs(),
                "the clock of this machine differs from Alibaba Cloud's: requests are signed with theirs; set the clock"
            );
        }
        self.skew_seconds.store(skew.as_secs(), Ordering::Relaxed);
        true
    }

    fn sort(&self, action: &'static str, answer: &http::Response<Bytes>) -> Failure {
        let error = error_of(answer);
        let (status, code) = (answer.status().as_u16(), error.code.as_str());
        let kind = kind_of(status, code);
        let permission = format!("{}:{action}", self.product.name);
        let message = match kind {
            FailureKind::Denied if is_about_permission(status, code) => {
                let who = error.access_denied_detail.map(|detail| detail.auth_principal_display_name);
                let who = who.filter(|who| !who.is_empty()).unwrap_or_else(|| "the key's owner".into());
                format!("{who} lacks the permission {permission}: grant it in RAM ({})", error.message)
            }
            FailureKind::Denied if code.starts_with("InvalidTimeStamp") => {
                format!("{permission}: our clock is wrong; set the clock of this machine ({})", error.message)
            }
            FailureKind::Denied => format!(
                "{permission}: the key is not accepted; check ACCESS_KEY_ID and ACCESS_KEY_SECRET, or the role ({})",
                error.message
            ),
            _ => format!("{permission}: {}", error.message),
        };
        let code = if code.is_empty() { status.to_string() } else { code.to_owned() };
        Failure::new(kind, code, message)
    }
}

/// An error with what caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn is_about_permission(status: u16, code: &str) -> bool {
    let named = code.starts_with("Forbidden") || code.starts_with("NoPermission");
    named || (status == 403 && !code.starts_with("Invalid") && !code.contains("Signature"))
}

/// What kind of failure a code is. Codes are as documented for ESS, ECS and the gateway in front of them.
fn kind_of(status: u16, code: &str) -> FailureKind {
    const BUSY: &[&str] = &[
        "ScalingActivityInProgress",
        "IncorrectScalingGroupStatus.Busy",
        "OperationConflict",
        "ScalingGroupInCooldown",
        "SignatureNonceUsed",
        "InvalidSecurityToken.Expired",
    ];
    if code.starts_with("Throttling") || status == 429 || status >= 500 {
        return FailureKind::Ill;
    }
    if BUSY.contains(&code) {
        return FailureKind::Busy;
    }
    let about_the_key = ["InvalidAccessKeyId", "InvalidSecurityToken", "InvalidTimeStamp"];
    if is_about_permission(status, code)
        || about_the_key.iter().any(|prefix| code.starts_with(prefix))
        || code.contains("SignatureDoesNotMatch")
        || code == "IncompleteSignature"
    {
        return FailureKind::Denied;
    }
    if status == 404 || code.ends_with(".NotFound") {
        return FailureKind::Missing;
    }
    FailureKind::Refused
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorAnswer {
    code: String,
    message: String,
    access_denied_detail: Option<AccessDeniedDetail>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct AccessDeniedDetail {
    auth_principal_display_name: String,
}

fn error_of(answer: &http::Response<Bytes>) -> ErrorAnswer {
    serde_json::from_slice(answer.body()).unwrap_or_else(|_| ErrorAnswer {
        message: format!("HTTP {} without a readable error", answer.status()),
        ..ErrorAnswer::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted() {
        for (status, code, kind) in [
            (400, "Throttling.User", FailureKind::Ill),
            (503, "ServiceUnavailable", FailureKind::Ill),
            (500, "", FailureKind::Ill),
            (400, "ScalingActivityInProgress", FailureKind::Busy),
            (403, "Forbidden.RAM", FailureKind::Denied),
            (403, "NoPermission", FailureKind::Denied),
            (404, "InvalidAccessKeyId.NotFound", FailureKind::Denied),
            (400, "SignatureDoesNotMatch", FailureKind::Denied),
            (400, "InvalidTimeStamp.Expired", FailureKind::Denied),
            (404, "InvalidScalingGroupId.NotFound", FailureKind::Missing),
            (400, "IncorrectScalingGroupStatus", FailureKind::Refused),
        ] {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }
}
