//! Huawei Cloud: node pools and nodes of CCE (v3), types of servers of ECS (v1), and the metadata service.
//!
//! Owns the door: who asks (signatures, tokens, clocks), whether they may (IAM), what goes wrong on the way (faults),
//! and which request answers. What there is and what happens by itself is `world`'s.

mod world;

pub use crate::alibaba::{Fault, Faults};
pub use world::{Node, Pool, World};

use crate::alibaba::signature::{header, hex};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use clock::Clock;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub const PROJECT: &str = "0123456789abcdef";
pub const CLUSTER: &str = "c1c1c1c1-0000-11ef-8f2b-0255ac100b05";
/// All that IAM is asked about.
pub const PERMISSIONS: [&str; 5] = [
    "cce:nodepool:list",
    "cce:node:list",
    "cce:nodepool:update",
    "cce:node:delete",
    "ecs:cloudServerFlavors:get",
];
/// Largest request that is read.
const LARGEST_REQUEST: usize = 1 << 20;
/// Requests that are remembered.
const MOST_REQUESTS: usize = 100_000;
/// How far a request's time may be from the service's.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(15);

/// A key that is taken.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
    pub ends: Option<Timestamp>,
}

/// The stand-in; clones share one state.
#[derive(Clone)]
pub struct Huawei {
    clock: Clock,
    state: Arc<Mutex<Service>>,
}

/// Everything that the service knows.
#[derive(Default)]
pub struct Service {
    pub world: World,
    pub keys: Vec<Key>,
    /// What IAM refuses, such as `cce:node:delete`.
    pub refused: Vec<String>,
    pub faults: Faults,
    /// How much the service's clock is ahead of ours.
    pub skew: SignedDuration,
    /// Keys that the metadata service gives out are good for so long; none are given where absent.
    pub agency: Option<SignedDuration>,
    /// What was carried out: `nodepools`, `nodes`, `scale`, `delete`, `flavors`, `securitykey`.
    pub requests: Vec<&'static str>,
}

/// A refusal: status, code and message.
type Refusal = (u16, &'static str, String);

impl Huawei {
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// What the service knows, brought up to the present.
    pub fn state(&self) -> MutexGuard<'_, Service> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now() + state.skew;
        state.world.advance(now);
        state
    }

    /// All addresses in one.
    pub fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// How often a request was carried out.
    pub fn count(&self, what: &str) -> usize {
        self.state().requests.iter().filter(|request| **request == what).count()
    }

    fn carry_out(&self, parts: &Parts, body: &[u8], what: &'static str) -> Response<Body> {
        let mut state = self.state();
        let now = self.clock.now() + state.skew;
        let result = state.answer(parts, body, what, now);
        if result.is_ok() && state.requests.len() < MOST_REQUESTS {
            state.requests.push(what);
        }
        state.world.advance(now);
        let (status, answer) = match result {
            Ok(answer) => (200, answer),
            Err((status, code, message)) if code.starts_with("CCE") => {
                (status, json!({"errorCode": code, "errorMsg": message, "message": message}))
            }
            Err((status, code, message)) => (status, json!({"error_code": code, "error_msg": message})),
        };
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("date", now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .body(Body::from(answer.to_string()))
            .unwrap_or_default()
    }
}

async fn answer(State(double): State<Huawei>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_REQUEST).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let what = name_of(&parts);
    let fault = double.state().faults.take(what);
    let gateway = |status: u16, code: &str, message: &str| {
        let body = json!({"error_code": code, "error_msg": message, "request_id": "r"}).to_string();
        Response::builder().status(status).body(Body::from(body)).unwrap_or_default()
    };
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Throttle) => gateway(429, "APIGW.0308", "The throttling threshold has been reached"),
        Some(Fault::ServerError) => gateway(503, "APIGW.0201", "Backend unavailable"),
        Some(Fault::LoseAnswer) => {
            drop(double.carry_out(&parts, &body, what));
            let broken = std::io::Error::other("the connection broke");
            Response::new(Body::from_stream(futures::stream::iter([Err::<Bytes, _>(broken)])))
        }
        None => double.carry_out(&parts, &body, what),
    }
}

/// Which request this is, by its path.
fn name_of(parts: &Parts) -> &'static str {
    let path = parts.uri.path().trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    match last {
        "nodepools" => "nodepools",
        "nodes" => "nodes",
        "scale" => "scale",
        "flavors" => "flavors",
        "securitykey" => "securitykey",
        _ if path.contains("/nodes/") => "delete",
        _ => "unknown",
    }
}

fn query_of(parts: &Parts) -> BTreeMap<String, String> {
    let pairs = parts.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Service {
    fn answer(
        &mut self,
        parts: &Parts,
        body: &[u8],
        what: &'static str,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        if what == "securitykey" {
            return self.give_key(now);
        }
        self.verify(parts, body, now)?;
        let at = ["nodepools", "nodes", "scale", "delete"].iter().position(|known| *known == what);
        let permission = PERMISSIONS[at.unwrap_or(4)];
        if self.refused.iter().any(|refused| refused == permission) {
            let message = format!("Policy doesn't allow {permission} to be performed.");
            return Err((403, "PAP5.0010", message));
        }
        let path = parts.uri.path();
        let own = format!("/api/v3/projects/{PROJECT}/clusters/{CLUSTER}/");
        if what == "flavors" {
            return Ok(self.flavors());
        }
        let Some(rest) = path.strip_prefix(&own) else {
            return Err((404, "CCE.01404001", format!("{path} is not found")));
        };
        let absent = || (404, "CCE.01404001", "Resource not found.".to_owned());
        match what {
            "nodepools" => {
                let items = self.world.pools.keys().map(|id| self.world.pool_json(id, now));
                let items: Vec<Value> = items.collect();
                Ok(json!({"kind": "List", "apiVersion": "v3", "items": items}))
            }
            "nodes" => Ok(self.nodes(&query_of(parts), now)),
            "scale" => {
                let pool = rest.split('/').nth(1).unwrap_or_default();
                self.scale(pool, body).map_err(|why| why.unwrap_or_else(absent))
            }
            _ => {
                let id = rest.split('/').nth(1).unwrap_or_default();
                let node = self.world.nodes.contains_key(id).then(|| self.world.node_json(id, now));
                let node = node.ok_or_else(absent)?;
                self.world.delete(id, now);
                Ok(node)
            }
        }
    }

    fn nodes(&self, query: &BTreeMap<String, String>, now: Timestamp) -> Value {
        let limit = query.get("limit").and_then(|text| text.parse().ok()).unwrap_or(2000_usize);
        let after = query.get("marker").map(String::as_str).unwrap_or_default();
        let shown = |id: &&String| id.as_str() > after && !self.world.hidden.contains(id);
        let rest: Vec<&String> = self.world.nodes.keys().filter(shown).collect();
        let page: Vec<Value> = rest.iter().take(limit).map(|id| self.world.node_json(id, now)).collect();
        let mut answer = json!({"kind": "List", "apiVersion": "v3", "items": page});
        answer["pageInfo"] = json!({"currentCount": page.len()});
        if rest.len() > limit {
            answer["pageInfo"]["nextMarker"] = json!(rest[limit - 1]);
        }
        answer
    }

    fn scale(&mut self, pool: &str, body: &[u8]) -> Result<Value, Option<Refusal>> {
        let pool = self.world.pools.get_mut(pool).ok_or(None)?;
        let wrong = |message: &str| Some((400, "CCE.01400001", message.to_owned()));
        let asked: Value = serde_json::from_slice(body).map_err(|_| wrong("the body is no JSON"))?;
        let spec = &asked["spec"];
        let groups = spec["scaleGroups"].as_array().is_some_and(|groups| !groups.is_empty());
        let (Some(desired), true) = (spec["desiredNodeCount"].as_u64(), groups) else {
            return Err(wrong("desiredNodeCount and scaleGroups are needed"));
        };
        pool.desired = u32::try_from(desired).map_err(|_| wrong("desiredNodeCount is too large"))?;
        Ok(json!({}))
    }

    fn flavors(&self) -> Value {
        let flavor = |(name, (cores, gib)): (&String, &(u32, u64))| {
            json!({"id": name, "name": name, "vcpus": cores.to_string(), "ram": gib << 10,
                   "os_extra_specs": {"ecs:instance_architecture": "x86", "ecs:performancetype": "normal"}})
        };
        let flavors: Vec<Value> = self.world.flavors.iter().map(flavor).collect();
        json!({"flavors": flavors})
    }

    fn give_key(&mut self, now: Timestamp) -> Result<Value, Refusal> {
        let Some(life) = self.agency else {
            return Err((404, "NoAgency", "no agency is bound".to_owned()));
        };
        let number = self.keys.len();
        let (id, secret) = (format!("AGENCY{number}"), format!("agency-secret-{number}"));
        let (token, ends) = (format!("token-{number}"), now + life);
        self.keys.push(Key {
            id: id.clone(),
            secret: secret.clone(),
            token: Some(token.clone()),
            ends: Some(ends),
        });
        Ok(json!({"credential": {
            "access": id, "secret": secret, "securitytoken": token, "expires_at": ends.to_string(),
        }}))
    }

    /// Who signed the request; the refusal is the gateway's.
    fn verify(&self, parts: &Parts, body: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let refuse =
            |why: &str| (401, "APIGW.0301", format!("Incorrect IAM authentication information: {why}"));
        let given = header(parts, "authorization").unwrap_or_default();
        let fields = given.strip_prefix("SDK-HMAC-SHA256 ").ok_or_else(|| refuse("no signature"))?;
        let field = |name: &str| {
            let found = fields.split(", ").find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_default()
        };
        let (id, signed, signature) = (field("Access"), field("SignedHeaders"), field("Signature"));
        let key = self.keys.iter().find(|key| key.id == id).ok_or_else(|| refuse("ak not exist"))?;
        let date = header(parts, "x-sdk-date").unwrap_or_default();
        let told = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &date)
            .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| refuse("x-sdk-date is not well formed"))?;
        if told.timestamp().duration_since(now).abs() > TOLERANCE {
            let why = format!("signature expired, signature time:{date},server time:{now}");
            return Err(refuse(&why));
        }
        if header(parts, "x-security-token") != key.token || key.ends.is_some_and(|end| end <= now) {
            return Err(refuse("the security token is invalid or has expired"));
        }
        let names: Vec<&str> = signed.split(';').collect();
        if !names.windows(2).all(|pair| pair[0] < pair[1]) || !names.contains(&"x-sdk-date") {
            return Err(refuse("a header that must be signed is not"));
        }
        let line = |name: &&str| format!("{name}:{}\n", header(parts, name).unwrap_or_default().trim());
        let headers: String = names.iter().map(line).collect();
        let mut path = parts.uri.path().to_owned();
        if !path.ends_with('/') {
            path.push('/');
        }
        let query: Vec<String> =
            query_of(parts).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let payload = hex(&Sha256::digest(body));
        let canonical =
            [parts.method.as_str(), &path, &query.join("&"), &headers, signed, &payload].join("\n");
        let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let verified = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).is_ok_and(|mut mac| {
            mac.update(text.as_bytes());
            hex(&mac.finalize().into_bytes()) == signature
        });
        if verified { Ok(()) } else { Err(refuse("verify aksk signature fail")) }
    }
}
