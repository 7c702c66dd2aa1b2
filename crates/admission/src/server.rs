//! The server that API servers ask, and the life of its certificate.
//!
//! Each replica makes a certificate of its own, whose key never leaves the process, and adds its authority to the
//! registration; nothing is kept in a Secret. A new one is trusted before it is served, and the old one distrusted
//! only after.

use crate::registration::trust;
use crate::review::review;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use clock::Clock;
use futures::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kube::Client;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tls::{Files, Issued, TlsError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The path that is asked.
pub const PATH: &str = "/mutate-v1-pod";
/// Largest question: a pod and its former version, each at most 1.5 MiB as etcd takes them.
const LARGEST_QUESTION: usize = 4 << 20;
/// Connections at once; API servers keep theirs.
const MOST_CONNECTIONS: usize = 256;
/// Time for a head to arrive, also the longest silence of a kept connection.
const HEAD_TIME: Duration = Duration::from_mins(2);
/// How often the registration is looked at, and the pause after a failure.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const AFTER_FAILURE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// From the writing of a bundle to its use by every API server.
const SETTLING: Duration = Duration::from_secs(3);

/// Where the certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Made and renewed by us, for a server of these names; the authority goes into the registration of this name.
    Own { names: Vec<String>, registration: String },
    /// Renewed by somebody else, who also keeps the registration's authority.
    Files(Files),
}

/// What is served where.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub address: SocketAddr,
    pub certificate: Certificate,
}

/// Why the webhook is not served.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("the webhook cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the webhook cannot use its certificate: {0}")]
    Certificate(#[from] TlsError),
}

impl Webhook {
    /// Serves until its task is dropped. Calls `bound` with the address once it listens, which it does when API
    /// servers have been told whom to trust.
    pub async fn serve(
        self,
        client: Client,
        clock: Clock,
        bound: impl FnOnce(SocketAddr),
    ) -> Result<(), WebhookError> {
        let (settings, renewal) = match self.certificate {
            Certificate::Files(files) => (files.follow(&["http/1.1"]).await?, None),
            Certificate::Own { names, registration } => {
                let own = Own { names, registration, client, clock };
                let issued = tls::issue(&own.names, clock.now())?;
                let (told, settings) = watch::channel(config(&issued)?);
                own.settled(std::slice::from_ref(&issued.authority_pem), &[]).await;
                (settings, Some(own.renew(issued, told)))
            }
        };
        // Not earlier: a port that answers nothing delays pods, one that refuses connections is passed over.
        let address = self.address;
        let failed = |source| WebhookError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        bound(listener.local_addr().map_err(failed)?);
        let serving = accept(listener, settings, clock);
        match renewal {
            None => serving.await,
            Some(renewal) => {
                tokio::select! { biased; () = serving => {}, () = renewal => {} }
            }
        }
        Ok(())
    }
}

fn config(issued: &Issued) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, key) = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
    tls::server_config("the webhook's certificate", certificate, key, &["http/1.1"])
}

/// A certificate of our own making.
struct Own {
    names: Vec<String>,
    registration: String,
    client: Client,
    clock: Clock,
}

impl Own {
    /// Waits until API servers trust `mine`, however long it takes.
    async fn settled(&self, mine: &[String], retired: &[String]) {
        let mut pause = AFTER_FAILURE;
        loop {
            match trust(&self.client, &self.registration, mine, retired).await {
                Ok(true) => return tokio::time::sleep(SETTLING).await,
                Ok(false) => return,
                Err(error) => {
                    let registration = &self.registration;
                    tracing::warn!(%error, registration, "the webhook cannot tell API servers whom to trust");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Keeps the authority in the registration, and replaces the certificate in good time.
    async fn renew(self, mut issued: Issued, told: watch::Sender<Arc<ServerConfig>>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.settled(std::slice::from_ref(&issued.authority_pem), &[]).await;
            if self.clock.now() < issued.renew_at() {
                continue;
            }
            let fresh =
                tls::issue(&self.names, self.clock.now()).and_then(|fresh| Ok((config(&fresh)?, fresh)));
            let (config, fresh) = match fresh {
                Ok(fresh) => fresh,
                Err(error) => {
                    tracing::error!(%error, expires = %issued.expires, "the webhook's certificate cannot be renewed");
                    continue;
                }
            };
            self.settled(&[issued.authority_pem.clone(), fresh.authority_pem.clone()], &[]).await;
            told.send_replace(config);
            let old = std::mem::replace(&mut issued, fresh);
            self.settled(std::slice::from_ref(&issued.authority_pem), &[old.authority_pem]).await;
            tracing::info!(expires = %issued.expires, "the webhook's certificate is renewed");
        }
    }
}

async fn accept(listener: TcpListener, settings: watch::Receiver<Arc<ServerConfig>>, clock: Clock) {
    let router = router(clock);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut incoming = tls::incoming(listener, settings);
    let mut connections = JoinSet::new();
    while let Some(connection) = incoming.next().await {
        while connections.try_join_next().is_some() {}
        let Ok(stream) = connection else { continue };
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection to the webhook ended with an error");
            }
            drop(place);
        });
    }
}

fn router(clock: Clock) -> Router {
    Router::new().route(PATH, post(answer)).layer(DefaultBodyLimit::max(LARGEST_QUESTION)).with_state(clock)
}

async fn answer(State(clock): State<Clock>, body: Bytes) -> Response {
    match review(&body, clock.now()) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(error) => {
            tracing::warn!(%error, "the webhook was asked something else");
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
    }
}
