//! HTTP to a cloud's API: one request, one whole answer.
//!
//! Owns connections, TLS and the bound on an answer's size. Time-outs, retries and what is sent are the callers'. It
//! is a trait so that a stand-in of a cloud can be asked without a socket, under virtual time.

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::time::Duration;

/// Largest answer that is read; a page of a hundred instances is a hundredth of it.
const LARGEST_ANSWER: usize = 16 << 20;
/// Time in which a connection must stand.
const CONNECT: Duration = Duration::from_secs(5);

/// A request that got no whole answer: what broke.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Something that carries a request to a cloud and its answer back.
pub trait Transport: Send + Sync {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Broken>>;
}

/// HTTP over the network; TLS where the address says so.
pub struct Network {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Network {
    /// Fails where this machine has no certificate authorities that could be trusted.
    pub fn new() -> std::io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_native_roots()?
            .with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector) })
    }
}

impl Transport for Network {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Broken>> {
        Box::pin(async move {
            let response = self.client.request(request.map(Full::new)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
            Ok(http::Response::from_parts(parts, body))
        })
    }
}
