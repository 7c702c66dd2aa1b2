//! The read-only HTTP surface: health, readiness, metrics, and the state for the page.
//!
//! Owns the routes; what they show is asked of the loop through a [`Handle`], so that nothing is shared and nothing
//! is computed that nobody asks for. No route changes anything.

use crate::ControllerError;
use crate::config::Health;
use crate::explain::{Explanation, Subject};
use crate::view::StateView;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream::{self, Stream};
use model::AlertDemand;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Questions that may wait for the loop.
const QUESTIONS: usize = 64;
/// How long the loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Streams at once, and the least time between two pushes of one.
const MOST_STREAMS: usize = 32;
const PUSH_EVERY: Duration = Duration::from_millis(500);

/// The role of the replica that acts.
pub(crate) const LEADING: &str = "leading";

pub(crate) enum Question {
    State(oneshot::Sender<Arc<StateView>>),
    Metrics(oneshot::Sender<String>),
    /// Whether the loop still turns.
    Pulse(oneshot::Sender<()>),
    Explain(Subject, oneshot::Sender<Option<Box<Explanation>>>),
    /// An alert that fires; answered when what it asks for is in the ledger.
    Alert(AlertDemand, oneshot::Sender<AlertAnswer>),
}

/// What became of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertAnswer {
    /// Rules that wait for it, whose demand is durable now.
    Taken { rules: Vec<String> },
    /// No rule waits for it.
    NoRule,
    /// This replica does not act.
    StandingBy,
}

/// Where the controller stands, for the probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) synced: bool,
    /// Leading, or standing by while another one does.
    pub(crate) role: Option<&'static str>,
    /// Inputs that have not been heard of.
    pub(crate) waiting_for: Vec<String>,
    /// Rounds so far; each is a push to the streams.
    pub(crate) rounds: u64,
    /// Since when rounds are tried and none succeeds; the first of all included.
    pub(crate) failing_since: Option<tokio::time::Instant>,
    /// Whether one has succeeded ever.
    pub(crate) succeeded: bool,
}

/// Asks a running controller what it sees. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    standing: watch::Receiver<Standing>,
    streams: Arc<Semaphore>,
    health: Health,
    /// When the loop last answered.
    answered: Arc<std::sync::Mutex<tokio::time::Instant>>,
    beside: Arc<OnceLock<MoreMetrics>>,
    workloads: Arc<OnceLock<Workloads>>,
}

/// Metrics of what runs beside the rounds, in the form of `OpenMetrics` without its last line.
type MoreMetrics = Box<dyn Fn() -> String + Send + Sync>;
/// What is known of autoscalers of workloads, in whatever form the page reads.
type Workloads = Box<dyn Fn() -> serde_json::Value + Send + Sync>;
/// What ends a page of metrics.
const METRICS_END: &str = "# EOF\n";

/// The loop's end of a handle.
pub(crate) struct Answering {
    pub(crate) questions: mpsc::Receiver<Question>,
    pub(crate) standing: watch::Sender<Standing>,
}

pub(crate) fn pair(health: Health) -> (Handle, Answering) {
    let (questions, asked) = mpsc::channel(QUESTIONS);
    let (standing, stands) = watch::channel(Standing::default());
    let handle = Handle {
        questions,
        standing: stands,
        streams: Arc::new(Semaphore::new(MOST_STREAMS)),
        health,
        answered: Arc::new(std::sync::Mutex::new(tokio::time::Instant::now())),
        beside: Arc::default(),
        workloads: Arc::default(),
    };
    (handle, Answering { questions: asked, standing })
}

impl Handle {
    /// The state now; `None` where the controller has ended or does not answer in time.
    pub async fn state(&self) -> Option<Arc<StateView>> {
        self.ask(Question::State).await
    }

    /// The metrics now, as Prometheus reads them.
    pub async fn metrics(&self) -> Option<String> {
        let mut text = self.ask(Question::Metrics).await?;
        if let Some(more) = self.beside.get() {
            text.truncate(text.trim_end_matches(METRICS_END).len());
            text.push_str(&more());
            text.push_str(METRICS_END);
        }
        Some(text)
    }

    /// Shows metrics of what runs beside the rounds as well; the first that is told stays.
    pub fn show_metrics(&self, more: impl Fn() -> String + Send + Sync + 'static) {
        let _ = self.beside.set(Box::new(more));
    }

    /// Shows what scales workloads beside the rounds; the first that is told stays.
    pub fn show_workloads(&self, told: impl Fn() -> serde_json::Value + Send + Sync + 'static) {
        let _ = self.workloads.set(Box::new(told));
    }

    /// Why one thing is as it is; the inner `None` where nothing of that name is known.
    pub async fn explain(&self, subject: Subject) -> Option<Option<Box<Explanation>>> {
        self.ask(|answer| Question::Explain(subject, answer)).await
    }

    /// Tells of an alert that fires; `None` where nobody answers in time: it is safe to tell again.
    pub async fn alert(&self, alert: AlertDemand) -> Option<AlertAnswer> {
        self.ask(|answer| Question::Alert(alert, answer)).await
    }

    /// Why the controller is not ready, or `None` where it is.
    pub fn not_ready(&self) -> Option<String> {
        let standing = self.standing.borrow();
        if !standing.synced {
            return Some(format!("not ready: waiting for {}", standing.waiting_for.join(", ")));
        }
        standing.role.is_none().then(|| "not ready: not known yet who leads".to_owned())
    }

    /// Whether this replica leads now: what acts beside the rounds asks this before each step.
    pub fn leads(&self) -> bool {
        self.standing.borrow().role == Some(LEADING)
    }

    /// Why the controller should be started anew, as Cluster Autoscaler's probe asks; `None` where it need not.
    async fn unhealthy(&self) -> Option<String> {
        if self.questions.is_closed() {
            return Some("the loop has ended".to_owned());
        }
        let now = tokio::time::Instant::now();
        let standing = self.standing.borrow().clone();
        if standing.role != Some("leading") {
            // Whoever stands by is well, as long as it stands.
            return None;
        }
        if self.ask(Question::Pulse).await.is_some() {
            if let Ok(mut answered) = self.answered.lock() {
                *answered = now;
            }
        } else {
            let silent =
                self.answered.lock().map_or(Duration::ZERO, |answered| now.duration_since(*answered));
            let limit = Duration::from_secs(u64::from(self.health.inactivity_seconds));
            if silent > limit {
                return Some(format!("the loop has not answered for {} s", silent.as_secs()));
            }
        }
        let failing = now.duration_since(standing.failing_since?);
        let limit = if standing.succeeded {
            self.health.failing_seconds
        } else {
            self.health.start_seconds.max(self.health.failing_seconds).max(self.health.inactivity_seconds)
        };
        (failing > Duration::from_secs(u64::from(limit)))
            .then(|| format!("no round was carried out for {} s", failing.as_secs()))
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.questions.try_send(question(answer)).ok()?;
        tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()
    }
}

/// The routes, to be served alone or beside others.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/health-check", get(health_check))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/state", get(state))
        .route("/api/v1/stream", get(stream_states))
        .route("/api/v1/explain", get(explain))
        .route("/api/v1/workloads", get(workloads))
        .with_state(handle)
}

/// Serves the routes until `shutdown` resolves.
pub(crate) async fn serve(
    address: SocketAddr,
    handle: Handle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ControllerError> {
    let failed = |source| ControllerError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tracing::info!(address = %bound, "listening for probes, metrics and the page");
    let served = axum::serve(listener, router(handle)).with_graceful_shutdown(shutdown);
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the HTTP surface ended");
        }
    });
    Ok(())
}

async fn healthz(State(handle): State<Handle>) -> Response {
    if handle.questions.is_closed() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the loop has ended\n").into_response();
    }
    (StatusCode::OK, "ok\n").into_response()
}

async fn health_check(State(handle): State<Handle>) -> Response {
    match handle.unhealthy().await {
        None => (StatusCode::OK, "OK\n").into_response(),
        Some(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("Error: {why}\n")).into_response(),
    }
}

async fn readyz(State(handle): State<Handle>) -> Response {
    if let Some(why) = handle.not_ready() {
        return (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response();
    }
    let role = handle.standing.borrow().role.unwrap_or_default();
    (StatusCode::OK, format!("ok: {role}\n")).into_response()
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match handle.metrics().await {
        Some(text) => (kind, text).into_response(),
        None => busy(),
    }
}

async fn state(State(handle): State<Handle>) -> Response {
    match handle.state().await {
        Some(state) => axum::Json(&*state).into_response(),
        None => busy(),
    }
}

/// What scales workloads; `null` where nothing does.
async fn workloads(State(handle): State<Handle>) -> Response {
    axum::Json(handle.workloads.get().map(|told| told())).into_response()
}

/// `?of=pod NAMESPACE/NAME`, or another [`Subject`] in its written form.
#[derive(serde::Deserialize)]
struct Asked {
    of: String,
}

async fn explain(State(handle): State<Handle>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let Ok(Query(asked)) = asked else {
        let message = "name what to explain, such as ?of=pod default/web-1\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    };
    let subject: Subject = match asked.of.parse() {
        Ok(subject) => subject,
        Err(why) => return (StatusCode::BAD_REQUEST, why + "\n").into_response(),
    };
    match handle.explain(subject.clone()).await {
        Some(Some(explanation)) => axum::Json(&*explanation).into_response(),
        Some(None) => (StatusCode::NOT_FOUND, format!("nothing is known of {subject}\n")).into_response(),
        None => busy(),
    }
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the controller does not answer; try again\n").into_response()
}

/// Pushes the state after each round, as long as somebody listens.
async fn stream_states(State(handle): State<Handle>) -> Response {
    let Ok(permit) = handle.streams.clone().try_acquire_owned() else {
        let message = format!("{MOST_STREAMS} streams are open already; close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    Sse::new(states(handle, permit)).keep_alive(KeepAlive::default()).into_response()
}

fn states(
    handle: Handle,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let seen: Option<u64> = None;
    stream::unfold((handle, permit, seen), |(mut handle, permit, seen)| async move {
        if let Some(seen) = seen {
            tokio::time::sleep(PUSH_EVERY).await;
            handle.standing.wait_for(|standing| standing.rounds != seen).await.ok()?;
        }
        let rounds = handle.standing.borrow().rounds;
        let state = handle.state().await?;
        let event = Event::default().event("state").json_data(&*state).ok()?;
        Some((Ok(event), (handle, permit, Some(rounds))))
    })
}
