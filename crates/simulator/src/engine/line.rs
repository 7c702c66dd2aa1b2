//! The line between the controller and the API server: cut before or after a write, tapped for evictions.
//!
//! Owns the counting of writes, the cut, and the breaking of open watches. A controller whose line is cut gets no
//! answer ever again, so whatever task of it still lives can do nothing: the same as a process that was killed. What
//! becomes of single calls on a line that holds is the sandbox's fault layer's.

use super::observer::SharedSeen;
use super::truth::{evicted_pod, evicted_uid};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use sandbox::api::ApiBody;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tower::Service;

/// Where a write is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before it is sent.
    Before,
    /// After it was carried out; the answer is lost.
    After,
}

#[derive(Debug, Default)]
struct State {
    /// Writes until the cut.
    armed: Option<(u32, Cut)>,
    dead: bool,
    /// Nothing gets through for now.
    held: bool,
    /// How long it is cut off; another one leads since.
    cut_off: Option<Duration>,
}

/// The life of one incarnation of the controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    state: Arc<Mutex<State>>,
    ended: Arc<Notify>,
    watches: Arc<Notify>,
    cut_off: Arc<Notify>,
    released: Arc<Notify>,
}

impl Life {
    /// Lets nothing through for now; there will be a successor.
    pub(crate) fn hold(&self, lasts: Duration) {
        {
            let mut state = self.lock();
            if state.dead || state.cut_off.is_some() {
                return;
            }
            state.held = true;
            state.cut_off = Some(lasts);
        }
        self.drop_watches();
        self.cut_off.notify_one();
    }

    pub(crate) fn release(&self) {
        self.lock().held = false;
        self.released.notify_waiters();
    }

    /// Resolves when the line is cut off, with how long.
    pub(crate) async fn cut_off(&self) -> Duration {
        loop {
            if let Some(lasts) = self.lock().cut_off {
                return lasts;
            }
            self.cut_off.notified().await;
        }
    }

    /// Whether another one leads by now.
    pub(crate) fn is_superseded(&self) -> bool {
        self.lock().cut_off.is_some()
    }

    async fn get_through(&self) {
        loop {
            let released = self.released.notified();
            if !self.lock().held {
                return;
            }
            released.await;
        }
    }

    /// Cuts the line at the `writes`-th write from now.
    pub(crate) fn arm(&self, writes: u32, cut: Cut) {
        self.lock().armed = Some((writes.max(1), cut));
    }

    pub(crate) fn disarm(&self) {
        self.lock().armed = None;
    }

    /// Breaks every watch that is open now.
    pub(crate) fn drop_watches(&self) {
        self.watches.notify_waiters();
    }

    /// Resolves when the line was cut.
    pub(crate) async fn ended(&self) {
        let ended = self.ended.notified();
        if self.lock().dead {
            return;
        }
        ended.await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(&self) {
        self.lock().dead = true;
        // Stores the wake-up for one who comes to wait later.
        self.ended.notify_one();
    }

    /// What becomes of the next call.
    fn fate(&self, writes: bool) -> Fate {
        let mut state = self.lock();
        if state.dead {
            return Fate::Lost;
        }
        let Some((left, cut)) = state.armed.as_mut().filter(|_| writes) else { return Fate::Goes };
        *left -= 1;
        if *left > 0 {
            return Fate::Goes;
        }
        let cut = *cut;
        state.armed = None;
        match cut {
            Cut::Before => Fate::CutBefore,
            Cut::After => Fate::CutAfter,
        }
    }
}

enum Fate {
    Goes,
    CutBefore,
    CutAfter,
    Lost,
}

/// The service of an API server as one incarnation sees it.
#[derive(Clone, Debug)]
pub(crate) struct Line<S> {
    inner: S,
    life: Life,
    seen: Option<SharedSeen>,
}

impl<S> Line<S> {
    pub(crate) fn new(inner: S, life: Life, seen: Option<SharedSeen>) -> Self {
        Self { inner, life, seen }
    }
}

impl<S> Service<Request<Body>> for Line<S>
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
        let life = self.life.clone();
        let fate = life.fate(request.method() != http::Method::GET);
        match fate {
            Fate::CutBefore => life.end(),
            Fate::Goes | Fate::CutAfter | Fate::Lost => {}
        }
        if matches!(fate, Fate::CutBefore | Fate::Lost) {
            return Box::pin(std::future::pending());
        }
        let evicted =
            if request.method() == http::Method::POST { evicted_pod(request.uri().path()) } else { None };
        let tap = self.seen.clone().zip(evicted);
        let mut inner = self.inner.clone();
        Box::pin(async move {
            life.get_through().await;
            let answer = match tap {
                Some((seen, pod)) => {
                    let (parts, body) = request.into_parts();
                    // A body of the client's own is bytes at hand and cannot fail.
                    let bytes = body.collect_bytes().await.unwrap_or_default();
                    seen.before_eviction(&pod, evicted_uid(&bytes).as_ref());
                    inner.call(Request::from_parts(parts, Body::from(bytes))).await
                }
                None => inner.call(request).await,
            };
            if matches!(fate, Fate::CutAfter) {
                life.end();
                return std::future::pending().await;
            }
            answer.map(|answer| answer.map(|body| breakable(body, &life)))
        })
    }
}

/// A watch ends when watches are dropped; other bodies are whole already.
fn breakable(body: ApiBody, life: &Life) -> ApiBody {
    match body {
        ApiBody::Stream(stream) => {
            let dropped = Arc::clone(&life.watches).notified_owned();
            ApiBody::Stream(stream.take_until(dropped).boxed())
        }
        full @ ApiBody::Full(_) => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn the_line_is_cut_at_the_write_that_was_named() {
        for (cut, carried_out) in [(Cut::Before, 1), (Cut::After, 2)] {
            let count = Arc::new(AtomicU32::new(0));
            let seen = Arc::clone(&count);
            let server = tower::service_fn(move |request: http::Request<Body>| {
                let seen = Arc::clone(&seen);
                async move {
                    if request.method() != http::Method::GET {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, Infallible>(Response::new(ApiBody::Full(None)))
                }
            });
            let life = Life::default();
            let mut line = Line::new(server, life.clone(), None);
            let request = |method: &str| http::Request::builder().method(method).body(Body::empty()).unwrap();
            life.arm(2, cut);
            line.call(request("GET")).await.unwrap();
            line.call(request("POST")).await.unwrap();
            assert!(line.call(request("PATCH")).now_or_never().is_none());
            life.ended().await;
            assert!(line.call(request("GET")).now_or_never().is_none());
            assert_eq!(count.load(Ordering::Relaxed), carried_out);
        }
    }
}
