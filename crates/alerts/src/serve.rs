//! Connections: how many, how long they may be silent, and TLS where it is configured.
//!
//! Owns the socket and the limits below the routes: a client that sends its head slowly, sends too large a one, or
//! never ends its handshake costs one place of a bounded number, for a bounded time.

use crate::credentials::{CredentialFiles, Credentials};
use crate::endpoint::Endpoint;
use crate::error::AlertsError;
use crate::scaler::Scaler;
use crate::taker::Taker;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections at once; those beyond wait in the system's queue.
const MOST_CONNECTIONS: usize = 128;
/// Time for a head to arrive, also the longest silence of a kept connection, and for a handshake.
const HEAD_TIME: Duration = Duration::from_secs(10);
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Size of a head, and its lines.
const LARGEST_HEAD: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time that deliveries under way are given at exit.
const GRACE: Duration = Duration::from_secs(10);

/// How the endpoint is served.
#[derive(Clone, Debug)]
pub struct Serving {
    pub address: SocketAddr,
    pub credentials: CredentialFiles,
    /// Requests a second that are taken.
    pub per_second: u32,
    /// Spreads the waits of retries.
    pub seed: u64,
}

/// Serves alerts until `shutdown` resolves. Calls `bound` with the address once it listens.
pub async fn serve(
    scaler: Scaler,
    serving: Serving,
    bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), AlertsError> {
    let (scaler, seed) = (Arc::new(scaler), serving.seed);
    let mut background = JoinSet::new();
    let repaired = scaler.clone();
    background.spawn(async move { repaired.keep_repaired(seed).await });
    serve_taker(scaler, serving, bound, shutdown).await
}

/// The same with whoever takes the alerts.
pub async fn serve_taker(
    taker: Arc<dyn Taker>,
    serving: Serving,
    bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), AlertsError> {
    let address = serving.address;
    let failed = |source| AlertsError::Listen { address, source };
    let (told, credentials) = watch::channel(serving.credentials.read()?);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    bound(listener.local_addr().map_err(failed)?);
    let endpoint = Arc::new(Endpoint::new(taker, credentials.clone(), serving.per_second));
    let mut background = JoinSet::new();
    background.spawn(serving.credentials.follow(told));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let router = endpoint.router();
    let accepting = accept(&listener, &router, &credentials, &stopped, &mut connections);
    tokio::select! {
        biased;
        () = shutdown => {}
        () = accepting => {}
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    // Whatever is still under way is finished by the next delivery.
    let _ = tokio::time::timeout(GRACE, ended).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    credentials: &watch::Receiver<Credentials>,
    stopped: &watch::Receiver<()>,
    connections: &mut JoinSet<()>,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        let tls = credentials.borrow().tls.clone();
        connections.spawn(async move {
            connection(stream, tls.map(TlsAcceptor::from), router, stopped).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopped: watch::Receiver<()>,
) {
    let Some(acceptor) = tls else { return exchange(stream, router, stopped).await };
    match tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => exchange(stream, router, stopped).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn exchange<S>(stream: S, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(LARGEST_HEAD)
        .max_headers(MOST_HEADERS);
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
