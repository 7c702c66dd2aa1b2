//! Who we are to Alibaba Cloud: a key, or something that gives out keys for a time.
//!
//! Owns where keys come from, in the order of Cluster Autoscaler (access key, OIDC role of the service account, role
//! of the instance), and their renewal before they expire. No key is ever printed.

use super::signature::escape;
use crate::calls::{Calls, Failure, FailureKind};
pub use crate::keys::AccessKey;
use crate::keys::Held;
use crate::secret::Secret;
use crate::transport::Transport;
use bytes::Bytes;
use clock::Clock;
use jiff::Timestamp;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

/// Life that is asked of a role's keys.
const SESSION_SECONDS: u32 = 3600;
/// Life that is asked of a token of the metadata service.
const METADATA_TOKEN_SECONDS: u32 = 60;
/// Largest token file that is read.
const LARGEST_TOKEN: usize = 64 << 10;

/// Where keys come from.
#[derive(Clone)]
pub enum Source {
    /// A key that somebody wrote down; with a token it is one of STS and cannot be renewed by us.
    Given(AccessKey),
    /// A role that the pod's service account may take (RRSA).
    Oidc { provider_arn: String, token_file: PathBuf, role_arn: String, session: String },
    /// The role of the instance that we run on; an empty name asks the metadata service for it.
    InstanceRole { name: String },
}

impl Source {
    /// Reads the environment, under Cluster Autoscaler's names and then under those of Alibaba's own tools. `Err`
    /// names a variable that is missing beside one that is there.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let first = |names: &[&'static str]| {
            names
                .iter()
                .find_map(|name| Some((*name, lookup(name).filter(|value| !value.trim().is_empty())?)))
        };
        let id = first(&["ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_ID"]);
        let secret = first(&["ACCESS_KEY_SECRET", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"]);
        match (id, secret) {
            (Some((_, id)), Some((_, secret))) => {
                let token = first(&["SECURITY_TOKEN", "ALIBABA_CLOUD_SECURITY_TOKEN"]);
                let token = token.map(|(_, token)| Secret::new(token.trim()));
                let secret = Secret::new(secret.trim());
                return Ok(Self::Given(AccessKey { id: id.trim().to_owned(), secret, token }));
            }
            (Some((name, _)), None) => {
                return Err(format!("{name} is set and ACCESS_KEY_SECRET is not; set both or neither"));
            }
            (None, Some((name, _))) => {
                return Err(format!("{name} is set and ACCESS_KEY_ID is not; set both or neither"));
            }
            (None, None) => {}
        }
        let provider = first(&["ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALICLOUD_OIDC_PROVIDER_ARN"]);
        let file = first(&["ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALICLOUD_OIDC_TOKEN_FILE_PATH"]);
        let role = first(&["ALIBABA_CLOUD_ROLE_ARN", "ALICLOUD_ROLE_ARN"]);
        let session = first(&[
            "ALIBABA_CLOUD_ROLE_SESSION_NAME",
            "ALIBABA_CLOUD_SESSION_NAME",
            "ALICLOUD_SESSION_NAME",
        ]);
        match (provider, file, role) {
            (Some((_, provider_arn)), Some((_, file)), Some((_, role_arn))) => Ok(Self::Oidc {
                provider_arn,
                token_file: PathBuf::from(file),
                role_arn,
                session: session.map_or_else(|| "tideline".to_owned(), |(_, name)| name),
            }),
            (None, None, None) => {
                let name = first(&["ALIBABA_CLOUD_ECS_METADATA"]).map_or_else(String::new, |(_, name)| name);
                Ok(Self::InstanceRole { name })
            }
            _ => Err("of ALIBABA_CLOUD_OIDC_PROVIDER_ARN, ALIBABA_CLOUD_OIDC_TOKEN_FILE and \
                      ALIBABA_CLOUD_ROLE_ARN only some are set; set all three or none"
                .to_owned()),
        }
    }

    /// What this is, for logs: never the key.
    pub fn describe(&self) -> String {
        match self {
            Self::Given(AccessKey { token: None, .. }) => "an access key".to_owned(),
            Self::Given(_) => "an access key with an STS token".to_owned(),
            Self::Oidc { role_arn, .. } => format!("the OIDC role {role_arn}"),
            Self::InstanceRole { name } if name.is_empty() => "the role of this instance".to_owned(),
            Self::InstanceRole { name } => format!("the instance role {name}"),
        }
    }
}

/// Keys as they are needed, renewed in time.
pub(super) struct Credentials {
    source: Source,
    transport: Arc<dyn Transport>,
    sts: String,
    metadata: String,
    calls: Calls,
    clock: Clock,
    held: Held,
}

impl Credentials {
    /// `sts` and `metadata` are addresses such as `https://sts.aliyuncs.com`; `calls` limits the asking for keys.
    pub(super) fn new(
        source: Source,
        transport: Arc<dyn Transport>,
        sts: String,
        metadata: String,
        calls: Calls,
        clock: Clock,
    ) -> Self {
        Self { source, transport, sts, metadata, calls, clock, held: Held::default() }
    }

    /// A key that is good for the next minutes.
    pub(super) async fn key(&self) -> Result<AccessKey, Failure> {
        if let Source::Given(key) = &self.source {
            return Ok(key.clone());
        }
        self.held.key(self.clock.now(), self.renew()).await
    }

    /// Forgets the keys held: the API has called them expired or unknown.
    pub(super) async fn forget(&self) {
        self.held.forget().await;
    }

    async fn renew(&self) -> Result<(AccessKey, Timestamp), Failure> {
        match &self.source {
            Source::Given(key) => Ok((key.clone(), Timestamp::MAX)),
            Source::Oidc { provider_arn, token_file, role_arn, session } => {
                let token = read_token(token_file).await?;
                let form = [
                    ("Action", "AssumeRoleWithOIDC"),
                    ("Format", "JSON"),
                    ("Version", "2015-04-01"),
                    ("DurationSeconds", &SESSION_SECONDS.to_string()),
                    ("RoleArn", role_arn.as_str()),
                    ("OIDCProviderArn", provider_arn.as_str()),
                    ("OIDCToken", token.reveal()),
                    ("RoleSessionName", session.as_str()),
                    ("Timestamp", &self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
                ]
                .map(|(name, value)| format!("{name}={}", escape(value)))
                .join("&");
                let what = format!("take the role {role_arn} through OIDC");
                let answer = self
                    .calls
                    .read(|| async {
                        let request = http::Request::post(format!("{}/", self.sts))
                            .header("content-type", "application/x-www-form-urlencoded")
                            .body(Bytes::from(form.clone()));
                        self.ask(&what, request).await
                    })
                    .await?;
                let answer: RoleAnswer = parse(&what, &answer)?;
                answer.credentials.into_key(&what)
            }
            Source::InstanceRole { name } => self.instance_role(name).await,
        }
    }

    async fn instance_role(&self, name: &str) -> Result<(AccessKey, Timestamp), Failure> {
        let folder = "/latest/meta-data/ram/security-credentials/";
        let name = if name.is_empty() {
            let found = self.metadata("ask which role this instance has", folder).await?;
            found.lines().next().unwrap_or_default().trim().to_owned()
        } else {
            name.to_owned()
        };
        if name.is_empty() {
            return Err(Failure::new(
                FailureKind::Denied,
                "NoInstanceRole",
                "this instance has no RAM role; attach one, or set ACCESS_KEY_ID and ACCESS_KEY_SECRET",
            ));
        }
        let what = format!("read the keys of the instance role {name}");
        let text = self.metadata(&what, &format!("{folder}{name}")).await?;
        let keys: Keys = parse(&what, text.as_bytes())?;
        keys.into_key(&what)
    }

    /// The region of the instance that we run on.
    pub(super) async fn region(&self) -> Result<String, Failure> {
        let text =
            self.metadata("ask for the region of this instance", "/latest/meta-data/region-id").await?;
        Ok(text.trim().to_owned())
    }

    async fn metadata(&self, what: &str, path: &str) -> Result<String, Failure> {
        let what = format!("{what} (metadata service, {path})");
        let answer = self
            .calls
            .read(|| async {
                let request = http::Request::put(format!("{}/latest/api/token", self.metadata))
                    .header("x-aliyun-ecs-metadata-token-ttl-seconds", METADATA_TOKEN_SECONDS)
                    .body(Bytes::new());
                // An older metadata service gives no tokens and asks for none.
                let token = self.ask(&what, request).await;
                if let Err(Failure { kind: FailureKind::Ill, .. }) = &token {
                    return token;
                }
                let mut request = http::Request::get(format!("{}{path}", self.metadata));
                if let Ok(token) = token {
                    request = request.header("x-aliyun-ecs-metadata-token", token.as_ref());
                }
                self.ask(&what, request.body(Bytes::new())).await
            })
            .await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn ask(&self, what: &str, request: http::Result<http::Request<Bytes>>) -> Result<Bytes, Failure> {
        let request =
            request.map_err(|error| Failure::new(FailureKind::Refused, "", format!("{what}: {error}")))?;
        let response = self
            .transport
            .send(request)
            .await
            .map_err(|error| Failure::new(FailureKind::Ill, "", format!("{what}: {error}")))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let refusal: Refusal = serde_json::from_slice(response.body()).unwrap_or_default();
        let kind = match status.as_u16() {
            429 | 500.. => FailureKind::Ill,
            404 => FailureKind::Missing,
            _ => FailureKind::Denied,
        };
        Err(Failure::new(kind, refusal.code, format!("{what}: {status} {}", refusal.message)))
    }
}

async fn read_token(file: &std::path::Path) -> Result<Secret, Failure> {
    let wrong = |why: String| {
        let message = format!(
            "read the OIDC token {}: {why}; is the service account's volume mounted?",
            file.display()
        );
        Failure::new(FailureKind::Refused, "OidcToken", message)
    };
    let text = tokio::fs::read_to_string(file).await.map_err(|error| wrong(error.to_string()))?;
    if text.trim().is_empty() || text.len() > LARGEST_TOKEN {
        return Err(wrong(format!("it holds {} bytes", text.len())));
    }
    Ok(Secret::new(text.trim()))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    code: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleAnswer {
    credentials: Keys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

impl Keys {
    fn into_key(self, what: &str) -> Result<(AccessKey, Timestamp), Failure> {
        let end = self.expiration.parse().map_err(|_| {
            let message = format!("{what}: \"{}\" is no time of expiry", self.expiration);
            Failure::new(FailureKind::Ill, "", message)
        })?;
        let secret = Secret::new(self.access_key_secret);
        let token = Some(Secret::new(self.security_token));
        Ok((AccessKey { id: self.access_key_id, secret, token }, end))
    }
}

/// Reads an answer; the error never quotes it, because it may hold keys.
fn parse<'a, T: Deserialize<'a>>(what: &str, bytes: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message =
            format!("{what}: the answer cannot be read (line {}, column {})", error.line(), error.column());
        Failure::new(FailureKind::Ill, "", message)
    })
}
