//! The last step before the API server: evictions as they arrive, held against the budgets of that moment.
//!
//! Owns only the tap. An eviction may be long on its way, and budgets change meanwhile: what was allowed when it was
//! sent says nothing. Whether it may be asked for at all is judged where it is sent, on the line.

use super::observer::SharedSeen;
use super::truth::evicted_pod;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use sandbox::api::ApiBody;
use std::task::{Context, Poll};
use tower::Service;

/// The API server with somebody who counts what it takes.
#[derive(Clone, Debug)]
pub(super) struct Tap<S> {
    inner: S,
    seen: SharedSeen,
}

impl<S> Tap<S> {
    pub(super) fn new(inner: S, seen: SharedSeen) -> Self {
        Self { inner, seen }
    }
}

impl<S> Service<Request<Body>> for Tap<S>
where
    S: Service<Request<Body>, Response = Response<ApiBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<ApiBody>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<ApiBody>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let posted = request.method() == http::Method::POST;
        let Some(pod) = posted.then(|| evicted_pod(request.uri().path())).flatten() else {
            return Box::pin(self.inner.call(request));
        };
        let (seen, mut inner) = (self.seen.clone(), self.inner.clone());
        Box::pin(async move {
            let broken = seen.eviction_arrives(&pod);
            let answer = inner.call(request).await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                seen.eviction_taken(broken);
            }
            answer
        })
    }
}
