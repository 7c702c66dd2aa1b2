//! Who we are to Huawei Cloud: a key from the environment, or that of the agency of the server we run on.
//!
//! Owns where keys come from; they are kept and renewed by `keys`.

use crate::calls::{Calls, Failure, FailureKind};
use crate::keys::{AccessKey, Held};
use crate::secret::Secret;
use crate::transport::Transport;
use bytes::Bytes;
use clock::Clock;
use jiff::Timestamp;
use serde::Deserialize;
use std::sync::Arc;

const KEYS_OF_AGENCY: &str = "/openstack/latest/securitykey";

/// Where keys come from.
#[derive(Clone)]
pub enum Source {
    /// A key that somebody wrote down; with a token it is a temporary one and cannot be renewed by us.
    Given(AccessKey),
    /// The agency of the cloud server that we run on.
    Agency,
}

impl Source {
    /// Reads the environment, under the names of Huawei Cloud's own tools. `Err` names a variable that is missing
    /// beside one that is there.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let value =
            |name: &str| lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let missing = |there: &str, missing: &str| {
            Err(format!(
                "{there} is set and {missing} is not; set both, or neither to use the server's agency"
            ))
        };
        match (value("HUAWEICLOUD_SDK_AK"), value("HUAWEICLOUD_SDK_SK")) {
            (Some(id), Some(secret)) => {
                let token = value("HUAWEICLOUD_SDK_SECURITY_TOKEN").map(Secret::new);
                Ok(Self::Given(AccessKey { id, secret: Secret::new(secret), token }))
            }
            (Some(_), None) => missing("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"),
            (None, Some(_)) => missing("HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_AK"),
            (None, None) => Ok(Self::Agency),
        }
    }

    /// What this is, for logs: never the key.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Given(AccessKey { token: None, .. }) => "an access key",
            Self::Given(_) => "an access key with a security token",
            Self::Agency => "the agency of this server",
        }
    }
}

/// Keys as they are needed, renewed in time.
pub(super) struct Credentials {
    pub(super) source: Source,
    pub(super) transport: Arc<dyn Transport>,
    /// Address of the metadata service.
    pub(super) metadata: String,
    pub(super) calls: Calls,
    pub(super) clock: Clock,
    pub(super) held: Held,
}

#[derive(Deserialize)]
struct Answer {
    credential: Keys,
}

#[derive(Deserialize)]
struct Keys {
    access: String,
    secret: String,
    securitytoken: String,
    expires_at: String,
}

impl Credentials {
    /// A key that is good for the next minutes.
    pub(super) async fn key(&self) -> Result<AccessKey, Failure> {
        match &self.source {
            Source::Given(key) => Ok(key.clone()),
            Source::Agency => self.held.key(self.clock.now(), self.of_agency()).await,
        }
    }

    async fn of_agency(&self) -> Result<(AccessKey, Timestamp), Failure> {
        let body = self.calls.read(|| self.ask()).await?;
        // The error never quotes the answer, because it holds keys.
        let unreadable = || {
            let message = "the metadata service's answer holds no keys of an agency in the documented form";
            Failure::new(FailureKind::Ill, "", message)
        };
        let Answer { credential } = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        let end = credential.expires_at.parse().map_err(|_| unreadable())?;
        let token = Some(Secret::new(credential.securitytoken));
        Ok((AccessKey { id: credential.access, secret: Secret::new(credential.secret), token }, end))
    }

    async fn ask(&self) -> Result<Bytes, Failure> {
        let ill = |why: String| {
            Failure::new(
                FailureKind::Ill,
                "",
                format!("ask the metadata service for the agency's keys: {why}"),
            )
        };
        let request = http::Request::get(format!("{}{KEYS_OF_AGENCY}", self.metadata))
            .body(Bytes::new())
            .map_err(|error| ill(error.to_string()))?;
        let response = self.transport.send(request).await.map_err(|error| ill(error.to_string()))?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            404 => Err(Failure::new(
                FailureKind::Denied,
                "NoAgency",
                "this server has no agency; give it one, or set HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
            )),
            status => Err(ill(format!("HTTP {status}"))),
        }
    }
}
