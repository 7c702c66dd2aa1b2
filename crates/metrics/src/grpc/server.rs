//! Serves a source of metrics over gRPC.
//!
//! Owns the listener, who may ask, and which status an error becomes.

use super::generated as wire;
use super::generated::provider_service_server::{ProviderService, ProviderServiceServer};
use super::wire::{read_query, read_range, write_sample, write_series};
use crate::{MetricSource, MetricsError};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Requests of one connection that are worked on at once.
const AT_ONCE: usize = 32;
/// Longest that one request may take; a month of history from a slow Prometheus is under it.
const PATIENCE: Duration = Duration::from_mins(2);
/// Omissions that are named in an answer's metadata.
const NAMED_OMISSIONS: usize = 3;

/// Who may ask, and how.
#[derive(Clone, Default)]
pub struct Access {
    /// Certificate and key of the server; without them the connection is plain, as Kapacity's is.
    pub tls: Option<tls::Files>,
    /// The token that callers must send as `authorization: Bearer …`; without one everybody may ask.
    pub token: Option<Arc<str>>,
}

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the metrics service cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the metrics service cannot use its certificate: {0}")]
    Certificate(#[from] tls::TlsError),
    #[error("the metrics service ended: {0}")]
    Ended(#[from] tonic::transport::Error),
}

/// Serves `source` until `shutdown` resolves; `bound` is told the address once connections are taken.
pub async fn serve(
    address: SocketAddr,
    source: Arc<dyn MetricSource>,
    access: Access,
    bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let settings = match access.tls {
        Some(files) => Some(files.follow(&["h2"]).await?),
        None => None,
    };
    bound(listener.local_addr().map_err(failed)?);
    let gate = Gate { token: access.token };
    let service = InterceptedService::new(ProviderServiceServer::new(Service { source }), gate);
    let router =
        Server::builder().concurrency_limit_per_connection(AT_ONCE).timeout(PATIENCE).add_service(service);
    match settings {
        Some(settings) => {
            router.serve_with_incoming_shutdown(tls::incoming(listener, settings), shutdown).await?;
        }
        None => router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown).await?,
    }
    Ok(())
}

#[derive(Clone)]
struct Gate {
    token: Option<Arc<str>>,
}

impl tonic::service::Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(token) = &self.token else { return Ok(request) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if same(given.as_bytes(), token.as_bytes()) {
            return Ok(request);
        }
        Err(Status::unauthenticated("send the service's token as metadata: authorization: Bearer TOKEN"))
    }
}

/// Compares without telling by its time how much was right.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let differing = given.iter().zip(wanted).fold(0, |differing, (a, b)| differing | (a ^ b));
    given.len() == wanted.len() && differing == 0
}

struct Service {
    source: Arc<dyn MetricSource>,
}

#[tonic::async_trait]
impl ProviderService for Service {
    async fn query_latest(
        &self,
        request: Request<wire::QueryLatestRequest>,
    ) -> Result<Response<wire::QueryLatestResponse>, Status> {
        let query = read_query(request.into_inner().query).map_err(Status::invalid_argument)?;
        match self.source.latest(&query).await {
            Ok(latest) => {
                let omitted = latest.omitted;
                let samples = latest.samples.iter().map(write_sample).collect();
                let mut answer = Response::new(wire::QueryLatestResponse { samples });
                if !omitted.is_empty() {
                    let named = omitted.iter().take(NAMED_OMISSIONS).map(|o| format!("{} {}", o.what, o.why));
                    let text = format!("{} omitted: {}", omitted.len(), named.collect::<Vec<_>>().join("; "));
                    note(&mut answer, &text);
                }
                Ok(answer)
            }
            // Clients of Kapacity expect an empty answer, not an error, where nothing matches.
            Err(MetricsError::Missing { why, .. }) => {
                let mut answer = Response::new(wire::QueryLatestResponse::default());
                note(&mut answer, &why);
                Ok(answer)
            }
            Err(error) => Err(status(&error)),
        }
    }

    async fn query(
        &self,
        request: Request<wire::QueryRequest>,
    ) -> Result<Response<wire::QueryResponse>, Status> {
        let request = request.into_inner();
        let range = read_range(&request).map_err(Status::invalid_argument)?;
        let query = read_query(request.query).map_err(Status::invalid_argument)?;
        match self.source.history(&query, &range).await {
            Ok(series) => {
                let series = series.iter().map(write_series).collect();
                Ok(Response::new(wire::QueryResponse { series }))
            }
            Err(MetricsError::Missing { .. }) => Ok(Response::new(wire::QueryResponse::default())),
            Err(error) => Err(status(&error)),
        }
    }
}

/// Puts a remark into the metadata, where clients that do not know of it are not disturbed.
fn note<T>(answer: &mut Response<T>, text: &str) {
    let plain: String = text.chars().filter(|c| (' '..='~').contains(c)).take(500).collect();
    if let Ok(value) = plain.parse() {
        answer.metadata_mut().insert("tideline-note", value);
    }
}

fn status(error: &MetricsError) -> Status {
    let text = error.to_string();
    match error {
        MetricsError::Missing { .. } | MetricsError::Unknown { .. } => Status::not_found(text),
        MetricsError::Invalid { .. } => Status::invalid_argument(text),
        MetricsError::Unsupported { .. } => Status::unimplemented(text),
        MetricsError::Stale { .. } | MetricsError::Partial { .. } | MetricsError::Unreachable { .. } => {
            Status::unavailable(text)
        }
    }
}
