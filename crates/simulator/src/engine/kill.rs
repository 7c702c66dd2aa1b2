//! The line between the controller and the API server, which can be cut before or after any write.
//!
//! Owns the counting of writes and the cut. A controller whose line is cut gets no answer ever again, so whatever
//! task of it still lives can do nothing: the same as a process that was killed.

use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
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
}

/// The life of one incarnation of the controller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    state: Arc<Mutex<State>>,
    ended: Arc<Notify>,
}

impl Life {
    /// Cuts the line at the `writes`-th write from now.
    pub(crate) fn arm(&self, writes: u32, cut: Cut) {
        self.lock().armed = Some((writes.max(1), cut));
    }

    pub(crate) fn disarm(&self) {
        self.lock().armed = None;
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

    fn end(&self) {
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
}

impl<S> Line<S> {
    pub(crate) fn new(inner: S, life: Life) -> Self {
        Self { inner, life }
    }
}

impl<S, B> Service<http::Request<B>> for Line<S>
where
    S: Service<http::Request<B>>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let life = self.life.clone();
        match life.fate(request.method() != http::Method::GET) {
            Fate::Goes => Box::pin(self.inner.call(request)),
            Fate::CutBefore => {
                life.end();
                Box::pin(std::future::pending())
            }
            Fate::Lost => Box::pin(std::future::pending()),
            Fate::CutAfter => {
                let call = self.inner.call(request);
                Box::pin(async move {
                    let _answer = call.await;
                    life.end();
                    std::future::pending().await
                })
            }
        }
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
            let server = tower::service_fn(move |request: http::Request<()>| {
                let seen = Arc::clone(&seen);
                async move {
                    if request.method() != http::Method::GET {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok::<_, Infallible>(())
                }
            });
            let life = Life::default();
            let mut line = Line::new(server, life.clone());
            let request = |method: &str| http::Request::builder().method(method).body(()).unwrap();
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
