//! The webhook: routes, who may post, how much, and what is answered.
//!
//! Owns the HTTP side of a delivery. A malformed body is a 4xx that names the field; a well-formed alert is a 200 with
//! a verdict, whether it scaled or not; a 5xx says that another delivery is useful. What an alert leads to is the
//! scaler's business, sockets are `serve`'s.

use crate::alert::Alert;
use crate::body::{self, BodyError};
use crate::credentials::Credentials;
use crate::error::AlertsError;
use crate::metrics::Metrics;
use crate::rate::Bucket;
use crate::scaler::Verdict;
use crate::taker::Taker;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The path of the platform's receiver, and ours for Alertmanager.
pub const PLATFORM_PATH: &str = "/platform/alerts.cpaas.io/v1/autoscaler";
pub const ALERTMANAGER_PATH: &str = "/alertmanager";
/// Largest body.
const LARGEST_BODY: usize = 1 << 20;
/// Time for a body to arrive, and for its alerts to be worked off: senders give up after about half a minute.
const BODY_TIME: Duration = Duration::from_secs(10);
const WORK_TIME: Duration = Duration::from_secs(25);
/// Requests that may come at once before the rate holds, as a multiple of it.
const BURST: u32 = 5;
/// Refused requests a second, whatever is configured for those that are admitted.
const REFUSED_PER_SECOND: u32 = 20;
const RETRY_SECONDS: u32 = 10;

/// What the routes share.
pub struct Endpoint {
    taker: Arc<dyn Taker>,
    credentials: watch::Receiver<Credentials>,
    admitted: Bucket,
    refused: Bucket,
    metrics: Metrics,
}

impl Endpoint {
    /// `per_second` requests are taken; more are asked to come again.
    pub fn new(taker: Arc<dyn Taker>, credentials: watch::Receiver<Credentials>, per_second: u32) -> Self {
        Self {
            taker,
            credentials,
            admitted: Bucket::new(per_second, BURST),
            refused: Bucket::new(REFUSED_PER_SECOND, BURST),
            metrics: Metrics::default(),
        }
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route(PLATFORM_PATH, post(platform))
            .route(ALERTMANAGER_PATH, post(alertmanager))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .fallback(async || problem(StatusCode::NOT_FOUND, "path", "is not served here"))
            .with_state(self)
    }

    /// The body of a request that may be looked at.
    async fn body(&self, request: Request) -> Result<Bytes, Response> {
        let (head, body) = request.into_parts();
        let authorization = head.headers.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        if !self.credentials.borrow().admit(authorization) {
            if !self.refused.take() {
                return Err(too_many());
            }
            let answer = problem(StatusCode::UNAUTHORIZED, "Authorization", "carries no valid bearer token");
            return Err(([(WWW_AUTHENTICATE, "Bearer")], answer).into_response());
        }
        if !self.admitted.take() {
            return Err(too_many());
        }
        if declared_length(&head.headers).is_some_and(|length| length > LARGEST_BODY as u64) {
            return Err(too_large());
        }
        let read = axum::body::to_bytes(Body::new(body), LARGEST_BODY);
        match tokio::time::timeout(BODY_TIME, read).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) if is_too_large(&error) => Err(too_large()),
            Ok(Err(_)) => Err(problem(StatusCode::BAD_REQUEST, "body", "broke off before its end")),
            Err(_) => Err(problem(StatusCode::REQUEST_TIMEOUT, "body", "did not arrive in time")),
        }
    }

    /// Works off one alert within a time, and says so everywhere.
    async fn decided(&self, alert: &Alert) -> (StatusCode, Value) {
        let taken = tokio::time::timeout(WORK_TIME, self.taker.take(alert)).await;
        let (status, mut answer) = match taken {
            Ok(Ok(verdict)) => (StatusCode::OK, shown(&verdict)),
            Ok(Err(error)) => failed(&error),
            Err(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, failure("Timeout", "the cluster did not answer in time"))
            }
        };
        let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
        let (verdict, reason, message) = (text("verdict"), text("reason"), text("message"));
        self.metrics.count(&verdict, &reason);
        let fingerprint = body::shortened(&alert.fingerprint);
        if status.is_success() {
            tracing::info!(fingerprint, verdict, reason, message, "an alert was decided");
        } else {
            tracing::warn!(fingerprint, reason, message, "an alert could not be decided");
        }
        answer["fingerprint"] = fingerprint.into();
        (status, answer)
    }

    fn malformed(&self, error: &BodyError) -> Response {
        self.metrics.count("malformed", "Malformed");
        tracing::info!(field = error.field, problem = error.problem, "a malformed body was refused");
        problem(StatusCode::BAD_REQUEST, &error.field, &error.problem)
    }
}

async fn platform(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let bytes = match endpoint.body(request).await {
        Ok(bytes) => bytes,
        Err(answer) => return answer,
    };
    match body::platform(&bytes) {
        Ok(alert) => answered(endpoint.decided(&alert).await),
        Err(error) => endpoint.malformed(&error),
    }
}

async fn alertmanager(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let bytes = match endpoint.body(request).await {
        Ok(bytes) => bytes,
        Err(answer) => return answer,
    };
    let alerts = match body::alertmanager(&bytes) {
        Ok(alerts) => alerts,
        Err(error) => return endpoint.malformed(&error),
    };
    let end = tokio::time::Instant::now() + WORK_TIME;
    let (mut status, mut verdicts) = (StatusCode::OK, Vec::with_capacity(alerts.len()));
    for alert in &alerts {
        let (one, answer) = match tokio::time::timeout_at(end, endpoint.decided(alert)).await {
            Ok(decided) => decided,
            // What is left comes again with the next delivery; what was decided is remembered.
            Err(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, failure("Timeout", "not all alerts were reached in time"))
            }
        };
        status = status.max(one);
        verdicts.push(answer);
    }
    answered((status, json!({"verdicts": verdicts})))
}

async fn readyz(State(endpoint): State<Arc<Endpoint>>) -> Response {
    if endpoint.taker.is_ready() {
        return "ok\n".into_response();
    }
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "not ready: what alerts act on was not read yet, or another one leads\n",
    )
        .into_response()
}

async fn metrics(State(endpoint): State<Arc<Endpoint>>) -> Response {
    let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (kind, endpoint.metrics.text()).into_response()
}

fn shown(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Scaled { cluster, target, from, to } => json!({
            "verdict": "scaled", "cluster": cluster, "machineDeployment": target, "from": from, "to": to,
            "message": format!("{target} was scaled from {from} to {to}"),
        }),
        Verdict::Demanded { rules } => json!({
            "verdict": "demanded", "rules": rules,
            "message": format!("nodes are asked for by {}; the rules' status says what becomes of it", rules.join(", ")),
        }),
        Verdict::Skipped(reason) => {
            json!({"verdict": "skipped", "reason": reason.code(), "message": reason.to_string()})
        }
    }
}

fn failed(error: &AlertsError) -> (StatusCode, Value) {
    let reason = match error {
        AlertsError::Busy => "Busy",
        AlertsError::Contended { .. } => "Contended",
        AlertsError::StandingBy => "StandingBy",
        AlertsError::Unanswered => "Unanswered",
        AlertsError::Cluster(clouds::ProviderError::Refused { .. }) => "Refused",
        _ => "ClusterUnavailable",
    };
    (StatusCode::SERVICE_UNAVAILABLE, failure(reason, &error.to_string()))
}

fn failure(reason: &str, message: &str) -> Value {
    json!({"verdict": "failed", "reason": reason, "message": message})
}

fn answered((status, answer): (StatusCode, Value)) -> Response {
    if status.is_success() {
        return (status, Json(answer)).into_response();
    }
    (status, [(RETRY_AFTER, RETRY_SECONDS.to_string())], Json(answer)).into_response()
}

fn problem(status: StatusCode, field: &str, problem: &str) -> Response {
    let message = format!("{field}: {problem}");
    (status, Json(json!({"verdict": "refused", "field": field, "message": message}))).into_response()
}

fn too_many() -> Response {
    let answer = problem(StatusCode::TOO_MANY_REQUESTS, "request", "comes after too many others; try again");
    ([(RETRY_AFTER, "1")], answer).into_response()
}

fn too_large() -> Response {
    problem(StatusCode::PAYLOAD_TOO_LARGE, "body", &format!("is larger than {LARGEST_BODY} bytes"))
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if cause.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = cause.source();
    }
    false
}
