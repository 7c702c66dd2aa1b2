//! Alibaba Cloud: Auto Scaling (ESS 2022-02-22), instance types of ECS, STS and the metadata service.
//!
//! Owns the door: who asks (signatures, tokens, clocks), whether they may (RAM), what goes wrong on the way (faults),
//! and which action answers. What the actions do is `actions`' business, what there is `world`'s.

mod actions;
mod faults;
mod identity;
mod query;
pub(crate) mod signature;
mod world;

pub use faults::{Fault, Faults};
pub use identity::Key;
pub use world::{Activity, Configuration, Group, Instance, Type, World};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use clock::Clock;
use http::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use query::Query;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Largest request that is read.
const LARGEST_REQUEST: usize = 1 << 20;
/// Calls that are remembered.
const MOST_CALLS: usize = 100_000;

/// An answer other than success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: u16,
    code: String,
    message: String,
    /// Action and principal, where RAM said no.
    denied: Option<(String, String)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), denied: None }
    }
}

/// One call as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub action: String,
    pub parameters: Query,
    /// Code of the refusal; empty where it was carried out.
    pub refused: String,
}

/// The stand-in; clones share one state.
#[derive(Clone)]
pub struct Alibaba {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: Mutex<Service>,
}

/// Everything that the service knows.
pub struct Service {
    pub world: World,
    pub keys: Vec<Key>,
    /// What RAM allows, such as `ess:Describe*`.
    pub granted: Vec<String>,
    pub faults: Faults,
    /// How much the service's clock is ahead of ours.
    pub skew: SignedDuration,
    pub calls: Vec<Call>,
    pub identity: identity::Identity,
    nonces: BTreeSet<String>,
}

impl Alibaba {
    pub fn new(clock: Clock) -> Self {
        let service = Service {
            world: World::new(),
            keys: Vec::new(),
            granted: vec!["*".to_owned()],
            faults: Faults::default(),
            skew: SignedDuration::ZERO,
            calls: Vec::new(),
            identity: identity::Identity::default(),
            nonces: BTreeSet::new(),
        };
        Self { inner: Arc::new(Inner { clock, state: Mutex::new(service) }) }
    }

    /// What the service knows, brought up to the present.
    pub fn state(&self) -> MutexGuard<'_, Service> {
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.inner.clock.now() + state.skew;
        state.world.advance(now);
        state
    }

    /// All addresses in one: ESS, ECS and STS at `/`, the metadata service under `/latest`.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// How often an action was carried out.
    pub fn count(&self, action: &str) -> usize {
        self.state().calls.iter().filter(|call| call.action == action && call.refused.is_empty()).count()
    }
}

async fn answer(State(double): State<Alibaba>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_REQUEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let fault = {
        let mut state = double.state();
        let action = signature::header(&parts, "x-acs-action").unwrap_or_else(|| {
            let path = parts.uri.path();
            if path == "/" { "AssumeRoleWithOIDC".to_owned() } else { path.to_owned() }
        });
        state.faults.take(&action)
    };
    match fault {
        Some(Fault::Hang) => return std::future::pending().await,
        Some(Fault::Throttle) => {
            let refusal =
                Refusal::new(400, "Throttling.User", "Request was denied due to user flow control.");
            return double.refuse(&refusal);
        }
        Some(Fault::ServerError) => {
            return double.refuse(&Refusal::new(503, "ServiceUnavailable", "The request has failed."));
        }
        _ => {}
    }
    let response = double.carry_out(&parts, &body);
    if fault == Some(Fault::LoseAnswer) {
        let broken = std::io::Error::other("the connection broke");
        return Response::new(Body::from_stream(futures::stream::iter([Err::<Bytes, _>(broken)])));
    }
    response
}

impl Alibaba {
    fn carry_out(&self, parts: &http::request::Parts, body: &[u8]) -> Response<Body> {
        let mut state = self.state();
        let now = self.inner.clock.now() + state.skew;
        if parts.uri.path().starts_with("/latest/") {
            let response = state.identity.metadata(parts, now);
            state.adopt_instance_keys();
            return response;
        }
        let Some(action) = signature::header(parts, "x-acs-action") else {
            let result = state.assume_role(body, now);
            drop(state);
            return self.json(result);
        };
        let parameters = Query::parse(parts.uri.query().unwrap_or_default());
        let result = state.checked(parts, body, &parameters, &action, now);
        if state.calls.len() < MOST_CALLS {
            let refused = result.as_ref().err().map(|refusal| refusal.code.clone()).unwrap_or_default();
            state.calls.push(Call { action, parameters, refused });
        }
        drop(state);
        self.json(result)
    }

    fn json(&self, result: Result<Value, Refusal>) -> Response<Body> {
        match result {
            Ok(mut answer) => {
                answer["RequestId"] = json!("473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E");
                self.response(200, &answer)
            }
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Response<Body> {
        let mut answer = json!({
            "RequestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E",
            "HostId": "ess.aliyuncs.com",
            "Code": refusal.code,
            "Message": refusal.message,
        });
        if let Some((action, principal)) = &refusal.denied {
            answer["AccessDeniedDetail"] = json!({
                "AuthAction": action, "AuthPrincipalDisplayName": principal, "AuthPrincipalType": "SubUser",
                "NoPermissionType": "ImplicitDeny", "PolicyType": "AccountLevelIdentityBasedPolicy",
            });
        }
        self.response(refusal.status, &answer)
    }

    fn response(&self, status: u16, answer: &Value) -> Response<Body> {
        let skew = self.state().skew;
        let now = (self.inner.clock.now() + skew).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        Response::builder()
            .status(status)
            .header("content-type", "application/json;charset=utf-8")
            .header("date", now)
            .body(Body::from(answer.to_string()))
            .unwrap_or_default()
    }
}

impl Service {
    fn checked(
        &mut self,
        parts: &http::request::Parts,
        body: &[u8],
        parameters: &Query,
        action: &str,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let principal = signature::verify(parts, body, parameters, &self.keys, &mut self.nonces, now)?;
        let version = signature::header(parts, "x-acs-version").unwrap_or_default();
        let product = match version.as_str() {
            "2022-02-22" => "ess",
            "2014-05-26" => "ecs",
            other => {
                return Err(Refusal::new(404, "InvalidVersion", format!("version {other} is not found")));
            }
        };
        let permission = format!("{product}:{action}");
        if !self.granted.iter().any(|pattern| allows(pattern, &permission)) {
            let message =
                "User not authorized to operate on the specified resource, or this API doesn't support RAM.";
            let mut refusal = Refusal::new(403, "Forbidden.RAM", message);
            refusal.denied = Some((permission, principal));
            return Err(refusal);
        }
        actions::act(&mut self.world, product, action, parameters, now)
    }
}

/// Whether a pattern of a RAM policy covers a permission; `*` stands for any text.
fn allows(pattern: &str, permission: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == permission,
        Some((start, rest)) => permission
            .strip_prefix(start)
            .is_some_and(|left| rest.is_empty() || (0..=left.len()).any(|at| allows(rest, &left[at..]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_cover_what_their_stars_say() {
        for (pattern, permission, covered) in [
            ("ess:Describe*", "ess:DescribeScalingGroups", true),
            ("ess:Describe*", "ess:RemoveInstances", false),
            ("ess:*", "ecs:DescribeInstanceTypes", false),
            ("*", "ecs:DescribeInstanceTypes", true),
            ("ess:*Rule", "ess:CreateScalingRule", true),
            ("ess:CreateScalingRule", "ess:CreateScalingRules", false),
        ] {
            assert_eq!(allows(pattern, permission), covered, "{pattern} {permission}");
        }
    }
}
