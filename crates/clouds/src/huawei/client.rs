//! One signed request to an API of Huawei Cloud, and what its answer means.
//!
//! Owns the headers, the clock's correction by the server's, and the sorting of errors. Which requests there are is
//! `cce`'s business.

use super::credentials::Credentials;
use super::signature::{Canonical, DATE};
use crate::calls::{Calls, Failure, FailureKind};
use crate::hashing::query_string;
use crate::transport::Transport;
use bytes::Bytes;
use clock::Clock;
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The gateway takes times that are this far off.
const TOLERATED_SKEW: SignedDuration = SignedDuration::from_mins(10);

/// A request as it is asked for.
pub(super) struct Asked {
    pub(super) method: http::Method,
    /// Address such as `https://cce.cn-north-4.myhuaweicloud.com`.
    pub(super) endpoint: Arc<str>,
    pub(super) path: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Option<serde_json::Value>,
    /// What must be granted for it.
    pub(super) permission: &'static str,
}

pub(super) struct Client {
    pub(super) project: String,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) credentials: Credentials,
    pub(super) calls: Calls,
    pub(super) clock: Clock,
    /// Seconds to add to our clock to get the server's, as a refusal showed.
    pub(super) skew_seconds: AtomicI64,
}

impl Client {
    /// Asks for what changes nothing.
    pub(super) async fn read<T: DeserializeOwned>(&self, asked: Asked) -> Result<T, Failure> {
        self.calls.read(|| self.send(&asked)).await
    }

    /// Asks for a change: once, because whoever ordered it decides about another try.
    pub(super) async fn order(&self, asked: Asked) -> Result<(), Failure> {
        self.calls.once(self.send::<serde_json::Value>(&asked)).await.map(drop)
    }

    async fn send<T: DeserializeOwned>(&self, asked: &Asked) -> Result<T, Failure> {
        let mut answer = self.attempt(asked).await?;
        if self.correct_skew(&answer) {
            // The server has told its time: the same request once more, signed with that.
            answer = self.attempt(asked).await?;
        }
        if !answer.status().is_success() {
            let failure = sort(asked.permission, &answer);
            if answer.status() == http::StatusCode::UNAUTHORIZED {
                self.credentials.held.forget().await;
            }
            return Err(failure);
        }
        let body: &[u8] = if answer.body().is_empty() { b"null" } else { answer.body() };
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("{}: the answer is not of the documented form: {error}", asked.permission);
            Failure::new(FailureKind::Ill, "", message)
        })
    }

    async fn attempt(&self, asked: &Asked) -> Result<http::Response<Bytes>, Failure> {
        let key = self.credentials.key().await?;
        let wrong = |error: &dyn std::fmt::Display| {
            let message = format!("{} at {}: {error}", asked.permission, asked.endpoint);
            Failure::new(FailureKind::Refused, "", message)
        };
        let query = query_string(&asked.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let address = format!("{}{}{mark}{query}", asked.endpoint, asked.path);
        let address: http::Uri = address.parse().map_err(|error: http::uri::InvalidUri| wrong(&error))?;
        let host = address.authority().map(ToString::to_string).unwrap_or_default();
        let skew = SignedDuration::from_secs(self.skew_seconds.load(Ordering::Relaxed));
        let now = self.clock.now().saturating_add(skew).unwrap_or(jiff::Timestamp::MAX);
        let mut headers: BTreeMap<String, String> = [
            ("host", host),
            ("content-type", "application/json".to_owned()),
            ("x-project-id", self.project.clone()),
            (DATE, now.strftime("%Y%m%dT%H%M%SZ").to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(token) = &key.token {
            headers.insert("x-security-token".into(), token.reveal().to_owned());
        }
        let body = asked.body.as_ref().map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let canonical = Canonical {
            method: asked.method.as_str(),
            path: &asked.path,
            query: &asked.query,
            headers: &headers,
            body: &body,
        };
        let mut request = http::Request::builder()
            .method(asked.method.clone())
            .uri(address)
            .header("authorization", canonical.authorization(&key.id, &key.secret))
            .header("user-agent", concat!("tideline/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| wrong(&error))?;
        self.transport.send(request).await.map_err(|error| {
            let message = format!("{} at {}: {error}", asked.permission, asked.endpoint);
            Failure::new(FailureKind::Ill, "", message)
        })
    }

    /// Whether the server does not believe us, and tells a time that is far from ours.
    fn correct_skew(&self, answer: &http::Response<Bytes>) -> bool {
        if answer.status() != http::StatusCode::UNAUTHORIZED {
            return false;
        }
        let date = answer.headers().get("date").and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return false };
        let skew = theirs.timestamp().duration_since(self.clock.now());
        let believed = SignedDuration::from_secs(self.skew_seconds.load(Ordering::Relaxed));
        if (skew - believed).abs() < TOLERATED_SKEW {
            return false;
        }
        tracing::warn!(
            seconds = skew.as_secs(),
            "the clock of this machine differs from Huawei Cloud's: requests are signed with theirs; set the clock"
        );
        self.skew_seconds.store(skew.as_secs(), Ordering::Relaxed);
        true
    }
}

/// An error in either spelling: of the services, and of the gateway in front of them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorAnswer {
    #[serde(alias = "errorCode")]
    error_code: String,
    #[serde(alias = "errorMsg", alias = "message")]
    error_msg: String,
}

fn sort(permission: &str, answer: &http::Response<Bytes>) -> Failure {
    let status = answer.status().as_u16();
    let error: ErrorAnswer = serde_json::from_slice(answer.body()).unwrap_or_default();
    let told = if error.error_msg.is_empty() { "it gives no reason" } else { &error.error_msg };
    let kind = match status {
        429 | 500.. => FailureKind::Ill,
        401 | 403 => FailureKind::Denied,
        404 => FailureKind::Missing,
        409 => FailureKind::Busy,
        _ => FailureKind::Refused,
    };
    let message = match status {
        401 => format!(
            "{permission}: the key is not accepted; check HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or the agency \
             ({told})"
        ),
        403 => format!("the key's owner lacks the permission {permission}: grant it in IAM ({told})"),
        _ => format!("{permission}: {told}"),
    };
    let code = if error.error_code.is_empty() { status.to_string() } else { error.error_code };
    Failure::new(kind, code, message)
}
