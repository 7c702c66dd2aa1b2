//! Keys, and the two services that give them out for a time: STS and the metadata service of an instance.

use super::query::Query;
use super::signature::header;
use super::{Refusal, Service};
use axum::body::Body;
use http::request::Parts;
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A key that the gateway knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
    pub expires: Option<Timestamp>,
    /// Who it belongs to, as RAM's refusals name them.
    pub principal: String,
}

/// What STS and the metadata service know.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Token of a service account that may take the role.
    pub oidc_token: Option<String>,
    /// Role of the instance.
    pub instance_role: Option<String>,
    pub region: String,
    /// Life of the keys given out.
    pub lifetime: Option<SignedDuration>,
    /// The metadata service asks for a token of its own.
    pub needs_metadata_token: bool,
    given: u32,
    instance_keys: Option<Key>,
}

impl Identity {
    fn new_key(&mut self, now: Timestamp, principal: &str) -> Key {
        self.given += 1;
        let lifetime = self.lifetime.unwrap_or(SignedDuration::from_hours(1));
        Key {
            id: format!("STS.key{}", self.given),
            secret: format!("secret{}", self.given),
            token: Some(format!("token{}", self.given)),
            expires: now.saturating_add(lifetime).ok(),
            principal: principal.to_owned(),
        }
    }

    /// How many keys were given out.
    pub fn given(&self) -> u32 {
        self.given
    }

    pub(super) fn metadata(&mut self, parts: &Parts, now: Timestamp) -> Response<Body> {
        let plain = |status: StatusCode, text: String| {
            Response::builder().status(status).body(Body::from(text)).unwrap_or_default()
        };
        let path = parts.uri.path();
        if path == "/latest/api/token" {
            return plain(StatusCode::OK, "metadata-token".to_owned());
        }
        let shown = header(parts, "x-aliyun-ecs-metadata-token");
        if self.needs_metadata_token && shown.as_deref() != Some("metadata-token") {
            return plain(StatusCode::FORBIDDEN, String::new());
        }
        let folder = "/latest/meta-data/ram/security-credentials/";
        match (path, self.instance_role.clone()) {
            ("/latest/meta-data/region-id", _) => plain(StatusCode::OK, self.region.clone()),
            (path, Some(role)) if path == folder => plain(StatusCode::OK, role),
            (path, Some(role)) if path == format!("{folder}{role}") => {
                let key = self.new_key(now, &role);
                self.instance_keys = Some(key.clone());
                plain(StatusCode::OK, told(&key).to_string())
            }
            _ => plain(StatusCode::NOT_FOUND, String::new()),
        }
    }
}

fn told(key: &Key) -> Value {
    json!({
        "Code": "Success",
        "AccessKeyId": key.id,
        "AccessKeySecret": key.secret,
        "SecurityToken": key.token,
        "Expiration": key.expires.map(|end| end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
    })
}

impl Service {
    /// Makes the keys that the metadata service has given out known to the gateway.
    pub(super) fn adopt_instance_keys(&mut self) {
        self.keys.extend(self.identity.instance_keys.take());
    }

    pub(super) fn assume_role(&mut self, body: &[u8], now: Timestamp) -> Result<Value, Refusal> {
        let form = Query::parse(&String::from_utf8_lossy(body));
        if form.get("Action") != "AssumeRoleWithOIDC" || form.get("Version") != "2015-04-01" {
            return Err(Refusal::new(404, "InvalidAction.NotFound", "Specified api is not found."));
        }
        let missing = ["RoleArn", "OIDCProviderArn", "RoleSessionName", "Timestamp"]
            .into_iter()
            .find(|name| form.get(name).is_empty());
        if let Some(name) = missing {
            return Err(Refusal::new(400, "MissingParameter", format!("{name} is mandatory.")));
        }
        if self.identity.oidc_token.as_deref() != Some(form.get("OIDCToken")) {
            let message = "This JSON Web Token is invalid.";
            return Err(Refusal::new(400, "AuthenticationFail.OIDCToken.Invalid", message));
        }
        let key = self.identity.new_key(now, "role");
        let credentials = told(&key);
        self.keys.push(key);
        Ok(json!({"Credentials": credentials}))
    }
}
