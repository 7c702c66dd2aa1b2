//! A source that asks another one over gRPC: a Kapacity manager's service, or ours from elsewhere.
//!
//! Owns the connection and its limits.

use super::generated as wire;
use super::generated::provider_service_client::ProviderServiceClient;
use super::wire::{read_sample, read_series, write_duration, write_query, write_timestamp};
use crate::{Latest, MetricSource, MetricsError, Objects, Query, Range, Series};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

/// Largest answer: 200,000 points of 20 bytes, with labels, four times over.
const LARGEST_ANSWER: usize = 64 << 20;

/// Where the service is, and what it wants to see.
#[derive(Clone)]
pub struct ProviderClientSettings {
    /// `host:port`, as `--algorithm-job-default-metrics-server-addr` has it.
    pub address: String,
    /// The authority of the server's certificate in PEM; without it the connection is plain.
    pub authority_pem: Option<String>,
    pub token: Option<Arc<str>>,
    pub timeout: Duration,
}

/// The client. It connects when it is first asked, and again whenever it has to.
pub struct ProviderClient {
    channel: Channel,
    token: Option<Arc<str>>,
}

impl ProviderClient {
    /// The error is one sentence that names what is wrong with the settings.
    pub fn new(settings: ProviderClientSettings) -> Result<Self, String> {
        let scheme = if settings.authority_pem.is_some() { "https" } else { "http" };
        let wrong = |error: tonic::transport::Error| {
            format!("metrics service {}: {error}; write HOST:PORT", settings.address)
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", settings.address))
            .map_err(wrong)?
            .connect_timeout(settings.timeout)
            .timeout(settings.timeout);
        if let Some(pem) = &settings.authority_pem {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        Ok(Self { channel: endpoint.connect_lazy(), token: settings.token })
    }

    fn client(&self) -> ProviderServiceClient<Channel> {
        ProviderServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn request<T>(&self, message: T) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let value = format!("Bearer {token}").parse();
            let value = value.map_err(|_| Status::unauthenticated("the token is not printable ASCII"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }

    async fn latest_of(&self, query: &Query) -> Result<Latest, MetricsError> {
        let invalid =
            |why: String| MetricsError::Invalid { query: query.to_string().into(), why: why.into() };
        let failed = |status: Status| failure(query, &status);
        let mut latest = Latest::default();
        for query in one_by_one(query) {
            let message = wire::QueryLatestRequest { query: Some(write_query(&query).map_err(invalid)?) };
            let request = self.request(message).map_err(failed)?;
            let answer = self.client().query_latest(request).await.map_err(failed)?;
            latest.samples.extend(answer.into_inner().samples.into_iter().filter_map(read_sample));
        }
        if latest.samples.is_empty() {
            let why = "the metrics service has no value".into();
            return Err(MetricsError::Missing { query: query.to_string().into(), why });
        }
        Ok(latest)
    }

    async fn history_of(&self, query: &Query, range: &Range) -> Result<Vec<Series>, MetricsError> {
        let invalid =
            |why: String| MetricsError::Invalid { query: query.to_string().into(), why: why.into() };
        let failed = |status: Status| failure(query, &status);
        crate::query::check_range(range).map_err(invalid)?;
        let mut all = Vec::new();
        for query in one_by_one(query) {
            let message = wire::QueryRequest {
                query: Some(write_query(&query).map_err(invalid)?),
                start: Some(write_timestamp(range.start)),
                end: Some(write_timestamp(range.end)),
                step: Some(write_duration(range.step)),
            };
            let request = self.request(message).map_err(failed)?;
            let answer = self.client().query(request).await.map_err(failed)?;
            all.extend(answer.into_inner().series.into_iter().map(read_series));
        }
        Ok(all)
    }
}

/// The same for each named object: the wire form takes one name.
fn one_by_one(query: &Query) -> Vec<Query> {
    let (Query::PodResource { pods: Objects::Named(names), .. }
    | Query::ContainerResource { pods: Objects::Named(names), .. }
    | Query::Object { objects: Objects::Named(names), .. }) = query
    else {
        return vec![query.clone()];
    };
    let one = |name: &Arc<str>| {
        let mut query = query.clone();
        if let Query::PodResource { pods: objects, .. }
        | Query::ContainerResource { pods: objects, .. }
        | Query::Object { objects, .. } = &mut query
        {
            *objects = Objects::Named(vec![name.clone()]);
        }
        query
    };
    names.iter().map(one).collect()
}

fn failure(query: &Query, status: &Status) -> MetricsError {
    let (query, why) = (Arc::from(query.to_string()), Arc::from(status.message()));
    match status.code() {
        Code::NotFound => MetricsError::Missing { query, why },
        Code::InvalidArgument => MetricsError::Invalid { query, why },
        Code::Unimplemented => MetricsError::Unsupported { query, source_name: "the metrics service", why },
        code => {
            MetricsError::Unreachable { query, why: format!("the metrics service: {code:?}: {why}").into() }
        }
    }
}

impl MetricSource for ProviderClient {
    fn name(&self) -> &'static str {
        "the metrics service"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        Box::pin(self.latest_of(query))
    }

    fn history<'a>(
        &'a self,
        query: &'a Query,
        range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        Box::pin(self.history_of(query, range))
    }
}
