//! The tower layer that injects faults.
//!
//! Owns how each fault looks to the client. Leaves when to inject to `Faults`.

use super::{CallName, Fault, FaultError, Faults, KillSide};
use crate::api::{ApiBody, StaleRead, refusal};
use crate::store::{ApiError, MODIFIED, ResourceName};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{Layer, Service};

/// Puts a client's faults before a service.
#[derive(Clone, Debug)]
pub struct FaultsLayer(Faults);

impl FaultsLayer {
    pub(super) fn new(faults: Faults) -> Self {
        Self(faults)
    }
}

impl<S> Layer<S> for FaultsLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService { inner, faults: self.0.clone() }
    }
}

/// A service behind faults.
#[derive(Clone, Debug)]
pub struct FaultService<S> {
    inner: S,
    faults: Faults,
}

impl<S, B> Service<Request<B>> for FaultService<S>
where
    S: Service<Request<B>, Response = Response<ApiBody>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<ApiBody>;
    type Error = FaultError;
    type Future = BoxFuture<'static, Result<Response<ApiBody>, FaultError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FaultError>> {
        self.inner.poll_ready(cx).map(|ready| match ready {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        })
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let name = CallName::of(&request);
        if let Some((side, call)) = self.faults.meets_kill(&name) {
            let last = (side == KillSide::After).then(|| self.inner.call(request));
            return Box::pin(async move {
                if let Some(last) = last {
                    drop(last.await);
                }
                Err(FaultError::Killed { call })
            });
        }
        let met = self.faults.draw(&name);
        if met.is_empty() {
            let answer = self.inner.call(request);
            return Box::pin(async move { Ok(answer.await.unwrap_or_else(|never| match never {})) });
        }
        let latency: u64 = met
            .iter()
            .map(|fault| match fault {
                Fault::Latency { most_milliseconds } => self.faults.milliseconds_up_to(*most_milliseconds),
                _ => 0,
            })
            .sum();
        let before = met.iter().find_map(|fault| instead(fault, &name));
        for fault in &met {
            if let Fault::StaleList { revisions } = fault {
                request.extensions_mut().insert(StaleRead { revisions: *revisions });
            }
        }
        // A future of the service does nothing until it is polled, which is after the latency.
        let answer = before.is_none().then(|| self.inner.call(request));
        Box::pin(async move {
            if latency > 0 {
                tokio::time::sleep(Duration::from_millis(latency)).await;
            }
            match (before, answer) {
                (Some(instead), _) => instead,
                (None, Some(answer)) => {
                    after(answer.await.unwrap_or_else(|never| match never {}), &met, &name)
                }
                (None, None) => Err(disconnected(&name)),
            }
        })
    }
}

fn disconnected(name: &CallName) -> FaultError {
    FaultError::Disconnected { verb: name.verb.to_owned(), resource: name.resource.clone() }
}

fn server_error(code: u16) -> Response<ApiBody> {
    let message = "injected fault: the server is not well".to_owned();
    let error = match code {
        503 => ApiError::Unavailable { message, retry_after_seconds: 1 },
        504 => ApiError::Timeout(message),
        _ => ApiError::Internal(message),
    };
    let mut response = refusal(&error);
    if let Ok(code) = http::StatusCode::from_u16(code) {
        *response.status_mut() = code;
    }
    response
}

/// What the client gets when the call is not executed.
fn instead(fault: &Fault, name: &CallName) -> Option<Result<Response<ApiBody>, FaultError>> {
    Some(match fault {
        Fault::Conflict {} => {
            let resource = ResourceName::new("", name.resource.split('/').next().unwrap_or(""));
            Ok(refusal(&ApiError::Conflict {
                resource,
                name: name.name.clone(),
                message: MODIFIED.to_owned(),
            }))
        }
        Fault::TooManyRequests { retry_after_seconds } => Ok(refusal(&ApiError::TooManyRequests {
            message: "injected fault: too many requests, please try again later".to_owned(),
            retry_after_seconds: *retry_after_seconds,
            cause: None,
        })),
        Fault::ServerError { code } => Ok(server_error(*code)),
        Fault::LostRequest {} => Err(disconnected(name)),
        _ => return None,
    })
}

/// What the client gets of the answer of an executed call.
fn after(
    mut response: Response<ApiBody>,
    met: &[Fault],
    name: &CallName,
) -> Result<Response<ApiBody>, FaultError> {
    for fault in met {
        match fault {
            Fault::LostResponse { code: None } => return Err(disconnected(name)),
            Fault::LostResponse { code: Some(code) } => return Ok(server_error(*code)),
            Fault::DroppedWatch { after_chunks } => {
                response = response.map(|body| over_stream(body, |s| s.take(*after_chunks as usize).boxed()));
            }
            Fault::LateWatch { milliseconds } => {
                let pause = Duration::from_millis(*milliseconds);
                response = response.map(|body| {
                    over_stream(body, |stream| {
                        stream
                            .then(move |chunk| async move {
                                tokio::time::sleep(pause).await;
                                chunk
                            })
                            .boxed()
                    })
                });
            }
            _ => {}
        }
    }
    Ok(response)
}

type Chunks = futures::stream::BoxStream<'static, Bytes>;

fn over_stream(body: ApiBody, change: impl FnOnce(Chunks) -> Chunks) -> ApiBody {
    match body {
        ApiBody::Stream(stream) => ApiBody::Stream(change(stream)),
        full @ ApiBody::Full(_) => full,
    }
}
