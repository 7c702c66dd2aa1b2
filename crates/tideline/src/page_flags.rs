//! Who may look at the page and at what stands behind it, and how the connection is kept private.
//!
//! Owns the flags and the socket. Who is let in by what is said in `controller::Access`.

use crate::error::CommandError;
use crate::page;
use axum::serve::Listener;
use clap::Args;
use controller::{Access, Handle, guarded};
use futures::StreamExt as _;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "the names are the flags'")]
#[command(next_help_heading = "Page, API and metrics (--address)")]
pub(crate) struct PageFlags {
    /// Who looks must bring this file's content: as bearer token, or as password in the browser; probes stay open
    /// [default: open to everybody who reaches the port]
    #[arg(long, value_name = "FILE", conflicts_with = "page_token_review")]
    page_token_file: Option<PathBuf>,
    /// Who looks must bring a token of the cluster whose user may get /tideline/*, as a role's nonResourceURLs say (and
    /// /metrics); needs the role system:auth-delegator
    #[arg(long)]
    page_token_review: bool,
    /// Certificate for HTTPS, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "page_tls_key_file")]
    page_tls_cert_file: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "page_tls_cert_file")]
    page_tls_key_file: Option<PathBuf>,
}

impl PageFlags {
    fn access(&self, client: &kube::Client) -> Result<Access, CommandError> {
        match &self.page_token_file {
            Some(path) => Access::by_file(path)
                .map_err(|problem| CommandError::Usage(format!("--page-token-file: {problem}"))),
            None if self.page_token_review => Ok(Access::by_cluster(client.clone())),
            None => Ok(Access::Open),
        }
    }

    fn certificate(&self) -> Option<tls::Files> {
        let (certificates, key) = self.page_tls_cert_file.clone().zip(self.page_tls_key_file.clone())?;
        Some(tls::Files { certificates, key })
    }

    /// Serves probes, metrics and the page until the program ends.
    pub(crate) async fn serve(
        &self,
        address: SocketAddr,
        handle: Handle,
        client: &kube::Client,
    ) -> Result<(), CommandError> {
        let router = guarded(page::router(handle), self.access(client)?);
        let certificate = match self.certificate() {
            Some(files) => {
                let wrong =
                    |error: tls::TlsError| CommandError::Usage(format!("--page-tls-cert-file: {error}"));
                Some(files.follow(&["http/1.1"]).await.map_err(wrong)?)
            }
            None => None,
        };
        let failed = |source| CommandError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, tls = certificate.is_some(), "serving probes, metrics and the page");
        tokio::spawn(async move {
            let served = match certificate {
                Some(settings) => {
                    let incoming = tls::incoming(listener, settings);
                    axum::serve(Private { incoming, address }, router).await
                }
                None => axum::serve(listener, router).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "probes, metrics and the page are no longer served");
            }
        });
        Ok(())
    }
}

/// Connections whose handshake is done.
struct Private {
    incoming: tls::Incoming,
    address: SocketAddr,
}

impl Listener for Private {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.incoming.next().await {
                Some(Ok(stream)) => {
                    let peer = stream.get_ref().0.peer_addr().unwrap_or(self.address);
                    return (stream, peer);
                }
                Some(Err(error)) => tracing::debug!(%error, "a connection was not accepted"),
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
