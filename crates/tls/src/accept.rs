//! Connections of a listener, plain or after their TLS handshake.
//!
//! Owns the bounds: how long a handshake may take and how many may be under way. One slow or broken client delays no
//! other.

use futures::Stream;
use rustls::ServerConfig;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

/// Time for a handshake; whoever needs longer holds a place that others could use.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const AT_ONCE: usize = 128;
/// Pause after the listener failed (out of file descriptors, say), so that it does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Connections that are ready to be served.
pub type Incoming = Pin<Box<dyn Stream<Item = io::Result<TlsStream<TcpStream>>> + Send>>;

/// Accepts TLS connections with the newest settings, until the stream is dropped.
pub fn incoming(listener: TcpListener, settings: watch::Receiver<Arc<ServerConfig>>) -> Incoming {
    let (ready, connections) = mpsc::channel(AT_ONCE);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                biased;
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(AFTER_FAILURE).await;
                continue;
            };
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let acceptor = TlsAcceptor::from(settings.borrow().clone());
            let ready = ready.clone();
            tokio::spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
                drop(place);
                match handshake {
                    // Nobody serves any more: the connection is closed by dropping it.
                    Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                }
            });
        }
    });
    Box::pin(ReceiverStream::new(connections))
}
