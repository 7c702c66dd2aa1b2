//! The gRPC service and its client, over sockets of the loopback: every query, tokens, TLS, what clients get to see.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use futures::future::BoxFuture;
use metrics::grpc::{Access, ProviderClient, ProviderClientSettings, serve};
use metrics::{
    GroupKind, Latest, Metric, MetricSource, MetricsError, Objects, Omission, Point, Query, Range, Resource,
    Sample, Series, Workload, parse_selector,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// Answers every query with one value, and remembers what it was asked.
#[derive(Default)]
struct Told {
    asked: Mutex<Vec<Query>>,
}

impl MetricSource for Told {
    fn name(&self) -> &'static str {
        "a test"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        self.asked.lock().unwrap().push(query.clone());
        Box::pin(async move {
            if let Query::External { metric, .. } = query {
                let (query, why) = (query.to_string().into(), "there is none".into());
                return Err(if &*metric.name == "absent" {
                    MetricsError::Missing { query, why }
                } else {
                    MetricsError::Unreachable { query, why }
                });
            }
            let labels = [("pod".into(), "a".into())].into();
            let point = Point { at: "2026-01-01T00:00:00.5Z".parse().unwrap(), value: 0.25 };
            let window = Some(jiff::SignedDuration::from_secs(30));
            let omitted = vec![Omission { what: "b".into(), why: "has no metrics".into() }];
            Ok(Latest { samples: vec![Sample { labels, point, window }], omitted })
        })
    }

    fn history<'a>(
        &'a self,
        query: &'a Query,
        range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        self.asked.lock().unwrap().push(query.clone());
        let points = vec![Point { at: range.start, value: 1.0 }, Point { at: range.end, value: 2.0 }];
        Box::pin(async move { Ok(vec![Series { labels: [].into(), points, window: None }]) })
    }
}

async fn served(access: Access) -> (SocketAddr, Arc<Told>) {
    let source = Arc::new(Told::default());
    let (tell, told) = oneshot::channel();
    let serving = source.clone();
    tokio::spawn(async move {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = move |address| tell.send(address).unwrap();
        if let Err(error) = serve(address, serving, access, bound, std::future::pending()).await {
            panic!("{error}");
        }
    });
    let bound = tokio::time::timeout(Duration::from_secs(20), told).await;
    (bound.unwrap().unwrap(), source)
}

fn client(address: SocketAddr, token: Option<&str>, authority_pem: Option<String>) -> ProviderClient {
    let host = if authority_pem.is_some() { "localhost".to_owned() } else { address.ip().to_string() };
    ProviderClient::new(ProviderClientSettings {
        address: format!("{host}:{}", address.port()),
        authority_pem,
        token: token.map(Arc::from),
        timeout: Duration::from_secs(20),
    })
    .unwrap()
}

fn queries() -> Vec<Query> {
    let workload = Workload {
        kind: GroupKind { group: "apps".into(), kind: "StatefulSet".into() },
        namespace: "shop".into(),
        name: "web".into(),
    };
    let metric = Metric { name: "queue".into(), selector: parse_selector("tier in (a,b),!old").unwrap() };
    let named = Objects::Named(vec!["a".into()]);
    let (resource, container, namespace) = (Resource::Cpu, Arc::from("app"), Arc::from("shop"));
    let kind = GroupKind { group: "networking.k8s.io".into(), kind: "Ingress".into() };
    let pods = Objects::Selected(parse_selector("app in (web)").unwrap());
    vec![
        Query::PodResource { namespace: Arc::clone(&namespace), pods: named.clone(), resource },
        Query::ContainerResource {
            namespace: Arc::clone(&namespace),
            pods,
            resource: Resource::Memory,
            container: Arc::clone(&container),
        },
        Query::WorkloadResource { workload: workload.clone(), resource, ready_pods_only: true },
        Query::WorkloadContainerResource {
            workload: workload.clone(),
            resource,
            container,
            ready_pods_only: false,
        },
        Query::Object { kind, namespace: Some(namespace), objects: named, metric: metric.clone() },
        Query::WorkloadExternal { workload, metric },
    ]
}

#[tokio::test]
async fn every_query_arrives_as_it_was_sent() {
    let (address, source) = served(Access::default()).await;
    let client = client(address, None, None);
    for query in queries() {
        let latest = client.latest(&query).await.unwrap();
        assert_eq!(latest.samples[0].point.value.to_bits(), 0.25_f64.to_bits());
        assert_eq!(latest.samples[0].point.at.as_millisecond() % 1000, 500);
        assert_eq!(latest.samples[0].pod().map(|pod| &**pod), Some("a"));
    }
    assert_eq!(*source.asked.lock().unwrap(), queries());
    let range = Range {
        start: "2026-01-01T00:00:00Z".parse().unwrap(),
        end: "2026-01-02T00:00:00Z".parse().unwrap(),
        step: jiff::SignedDuration::from_secs(60),
    };
    let series = client.history(&queries()[2], &range).await.unwrap();
    assert_eq!(series[0].points[1].at, range.end);
    let (asked, too_fine) = (source.asked.lock().unwrap().len(), jiff::SignedDuration::from_millis(1));
    let refused = client.history(&queries()[2], &Range { step: too_fine, ..range }).await.unwrap_err();
    assert!(refused.to_string().contains("step is under one second"), "{refused}");
    assert_eq!(source.asked.lock().unwrap().len(), asked);
}

#[tokio::test]
async fn nothing_is_an_empty_answer_and_trouble_is_an_error() {
    let (address, _) = served(Access::default()).await;
    let client = client(address, None, None);
    let external = |name: &str| Query::External {
        namespace: None,
        metric: Metric { name: name.into(), selector: model::LabelSelector::default() },
    };
    let none = client.latest(&external("absent")).await.unwrap_err();
    assert!(matches!(none, MetricsError::Missing { .. }), "{none}");
    let trouble = client.latest(&external("other")).await.unwrap_err();
    assert!(trouble.to_string().contains("there is none"), "{trouble}");
}

#[tokio::test]
async fn without_the_token_nobody_is_answered() {
    let token = Arc::from("open-sesame");
    let (address, source) = served(Access { tls: None, token: Some(token) }).await;
    for wrong in [None, Some("open-sesamE"), Some("")] {
        let error = client(address, wrong, None).latest(&queries()[0]).await.unwrap_err();
        assert!(error.to_string().contains("Unauthenticated"), "{error}");
    }
    assert!(source.asked.lock().unwrap().is_empty());
    assert!(client(address, Some("open-sesame"), None).latest(&queries()[0]).await.is_ok());
}

#[tokio::test]
async fn tls_is_served_from_files() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the client judges the certificate by the system's clock")]
    let now = jiff::Timestamp::now().max(now);
    let issued = tls::issue(&["localhost".to_owned()], now).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files =
        tls::Files { certificates: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
    std::fs::write(&files.certificates, &issued.certificate_pem).unwrap();
    std::fs::write(&files.key, &issued.key_pem).unwrap();
    let (address, _) = served(Access { tls: Some(files), token: None }).await;
    let trusting = client(address, None, Some(issued.authority_pem));
    trusting.latest(&queries()[0]).await.unwrap();
    let other = tls::issue(&["localhost".to_owned()], now).unwrap();
    let wary = client(address, None, Some(other.authority_pem));
    assert!(wary.latest(&queries()[0]).await.is_err());
}
