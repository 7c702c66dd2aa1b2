//! The API on a socket, for `kubectl` and other processes.
//!
//! Owns accepting connections. There is no TLS and no authentication: bind it to loopback.

use super::service::Api;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot accept connections on {address}: {source}")]
pub struct ServeError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Pause after an accept that failed for want of file descriptors or memory, and how many in a row end serving.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const MOST_FAILURES: u32 = 100;

/// Serves the API until the listener fails or the future is dropped; open connections end with their clients.
pub async fn serve(api: Api, listener: TcpListener) -> Result<(), ServeError> {
    let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut failures = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(source) => {
                failures += 1;
                if failures > MOST_FAILURES {
                    return Err(ServeError { address, source });
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failures = 0;
        // Watch events are small; waiting to fill packets would only delay them.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(api.service());
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection ended with an error");
            }
        });
    }
}
