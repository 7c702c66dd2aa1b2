//! A layer that notes which kinds of calls pass through it.
//!
//! Owns the record. Leaves the calls to the service it wraps.

use crate::call::CallKind;
use http::Request;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tower::Service;

/// Kinds of calls and how often each was made.
#[derive(Clone, Debug, Default)]
pub struct Recording(Arc<Mutex<BTreeMap<CallKind, u64>>>);

impl Recording {
    /// Notes one call.
    pub fn note(&self, kind: CallKind) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_insert(0) += 1;
    }

    /// What was noted so far.
    pub fn calls(&self) -> BTreeMap<CallKind, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A service that notes calls and passes them on.
#[derive(Clone, Debug)]
pub struct Recorder<S> {
    inner: S,
    recording: Recording,
}

impl<S> Recorder<S> {
    pub fn new(inner: S, recording: Recording) -> Self {
        Self { inner, recording }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Recorder<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        self.recording.note(CallKind::of(&request));
        self.inner.call(request)
    }
}
