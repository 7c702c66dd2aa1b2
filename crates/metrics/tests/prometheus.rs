//! Prometheus as a source, against a stand-in that tells what it was asked: the queries of Kapacity's documents, what
//! becomes of answers, rules that fail, configurations that change.

#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test ends where something is not as it must be"
)]

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use clock::Clock;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use metrics::prometheus::{Connection, DEFAULT_CONFIGURATION};
use metrics::{
    GroupKind, Metric, MetricSource as _, MetricsError, Objects, Prometheus, PrometheusSettings, Query,
    Range, Resource, Workload, parse_selector,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct World {
    /// PromQL by time of asking, and paths.
    asked: Vec<BTreeMap<String, String>>,
    /// Series by the text of their query.
    series: BTreeMap<String, Value>,
    /// Answer to every query.
    result: Value,
    /// Queries that hold this are refused.
    refuse: Option<String>,
    token: Option<String>,
}

type Shared = Arc<Mutex<World>>;

fn form(text: &str) -> BTreeMap<String, String> {
    let decoded = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.bytes());
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v))).collect()
}

async fn answer(State(world): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut fields = form(std::str::from_utf8(&body).unwrap());
    fields.insert("path".to_owned(), parts.uri.path().to_owned());
    let mut world = world.lock().unwrap();
    world.token = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    world.asked.push(fields.clone());
    let refused = |part: &String| fields.values().any(|value| value.contains(part));
    if world.refuse.as_ref().is_some_and(refused) {
        let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error: unexpected }"});
        return (StatusCode::BAD_REQUEST, axum::Json(error)).into_response();
    }
    let data = match fields.get("match[]") {
        Some(series) => world.series.get(series).cloned().unwrap_or_else(|| json!([])),
        None => world.result.clone(),
    };
    axum::Json(json!({"status": "success", "data": data})).into_response()
}

/// Cluster and Prometheus in one: pods are listed here too.
async fn cluster(request: Request) -> Response {
    let names =
        if request.uri().query().unwrap_or_default().contains("web") { vec!["a", "b"] } else { vec![] };
    let items: Vec<Value> = names
        .iter()
        .map(|name| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": name}}))
        .collect();
    axum::Json(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {},
        "items": items}))
    .into_response()
}

async fn source(world: &Shared) -> Prometheus {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer).with_state(world.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let settings = PrometheusSettings {
        connection: Connection { address, ..Connection::default() },
        ..PrometheusSettings::default()
    };
    let cluster = kube::Client::new(axum::Router::new().fallback(cluster), "default");
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap());
    Prometheus::new(&settings, cluster, clock).await.unwrap()
}

fn workload(kind: &str, name: &str) -> Workload {
    let kind = GroupKind { group: "apps".into(), kind: kind.into() };
    Workload { kind, namespace: "default".into(), name: name.into() }
}

fn pods(names: &[&str]) -> Objects {
    Objects::Named(names.iter().map(|name| Arc::from(*name)).collect())
}

fn metric(name: &str, selector: &str) -> Metric {
    Metric { name: name.into(), selector: parse_selector(selector).unwrap() }
}

/// The matchers of a query in one order, since their order means nothing.
fn sorted(promql: &str) -> String {
    let (before, rest) = promql.rsplit_once('{').unwrap();
    let (matchers, after) = rest.split_once('}').unwrap();
    let mut matchers: Vec<&str> = matchers.split(',').collect();
    matchers.sort_unstable();
    format!("{before}{{{}}}{after}", matchers.join(","))
}

async fn promql(world: &Shared, source: &Prometheus, query: &Query) -> String {
    world.lock().unwrap().asked.clear();
    drop(source.latest(query).await);
    let world = world.lock().unwrap();
    let asked = world.asked.iter().find_map(|asked| asked.get("query"));
    asked.cloned().unwrap_or_default()
}

fn vector(values: &[(&str, &str, &str)]) -> Value {
    let one = |(label, name, value): &(&str, &str, &str)| json!({"metric": {*label: name}, "value": [1_772_323_200.0, value]});
    json!({"resultType": "vector", "result": values.iter().map(one).collect::<Vec<_>>()})
}

const CPU: &str = r#"irate(container_cpu_usage_seconds_total{container!="",container!="POD","#;

#[tokio::test]
async fn queries_are_kapacitys() {
    let world = Shared::default();
    world.lock().unwrap().series.insert(
        r#"{__name__="kube_pod_status_ready"}"#.to_owned(),
        json!([{"__name__": "kube_pod_status_ready", "namespace": "x", "pod": "y"}]),
    );
    let source = source(&world).await;
    let namespace: Arc<str> = "default".into();
    let of_pods = |pods| Query::PodResource { namespace: namespace.clone(), pods, resource: Resource::Cpu };
    let of_all = |ready_pods_only| Query::WorkloadResource {
        workload: workload("StatefulSet", "nginx"),
        resource: Resource::Cpu,
        ready_pods_only,
    };
    let table = [
        (of_pods(pods(&["a"])), format!(r#"sum by (pod) ({CPU}namespace="default",pod="a"}}[3m]))"#)),
        (
            of_pods(Objects::Selected(parse_selector("app=web").unwrap())),
            format!(r#"sum by (pod) ({CPU}namespace="default",pod=~"a|b"}}[3m]))"#),
        ),
        (
            Query::ContainerResource {
                namespace: namespace.clone(),
                pods: pods(&["a"]),
                resource: Resource::Memory,
                container: "c".into(),
            },
            r#"sum by (pod) (container_memory_working_set_bytes{container!="",container!="POD",container="c",namespace="default",pod="a"})"#
                .to_owned(),
        ),
        (
            of_all(false),
            format!(r#"sum by (namespace) ({CPU}pod=~"^nginx-[0-9]+$",namespace="default"}}[3m]))"#),
        ),
        (
            of_all(true),
            format!(
                r#"sum by (namespace) ((kube_pod_status_ready{{condition="true"}} == 1) * on (namespace, pod) group_left () sum by (namespace, pod) ({CPU}pod=~"^nginx-[0-9]+$",namespace="default"}}[3m])))"#
            ),
        ),
        (
            Query::WorkloadExternal {
                workload: workload("Deployment", "web"),
                metric: metric("kube_pod_status_ready", ""),
            },
            r#"sum(kube_pod_status_ready{condition="true",pod=~"^web-[a-z0-9]+-[a-z0-9]+$",namespace="default"})"#
                .to_owned(),
        ),
    ];
    for (query, wanted) in table {
        assert_eq!(sorted(&promql(&world, &source, &query).await), sorted(&wanted), "{query}");
    }
    let dotted = Query::WorkloadExternal {
        workload: workload("StatefulSet", "a.b"),
        metric: metric("ready_pods_count", "tier in (x)"),
    };
    let asked = promql(&world, &source, &dotted).await;
    assert!(asked.contains(r#"pod=~"^a\\.b-[0-9]+$""#) && asked.contains(r#"tier="x""#), "{asked}");
}

const INGRESS_RULE: &str = r#"rules:
- seriesQuery: '{__name__="nginx_ingress_controller_requests"}'
  metricsQuery: round(sum(irate(<<.Series>>{<<.LabelMatchers>>}[3m])) by (<<.GroupBy>>), 0.001)
  name:
    as: nginx_ingress_controller_requests_rate
  resources:
    template: <<.Resource>>
"#;

#[tokio::test]
async fn the_ingress_rule_of_the_document_works_with_and_without_the_operators_label() {
    let world = Shared::default();
    let series = |namespace: &str| json!([{"__name__": "nginx_ingress_controller_requests", namespace: "default", "ingress": "nginx-server"}]);
    let query = Query::Object {
        kind: GroupKind { group: "networking.k8s.io".into(), kind: "Ingress".into() },
        namespace: Some("default".into()),
        objects: pods(&["nginx-server"]),
        metric: metric("nginx_ingress_controller_requests_rate", ""),
    };
    let source = source(&world).await;
    for (label, overrides) in [
        ("namespace", ""),
        ("exported_namespace", "    overrides:\n      exported_namespace:\n        resource: namespace\n"),
    ] {
        let text = DEFAULT_CONFIGURATION.replace("rules: []\n", &format!("{INGRESS_RULE}{overrides}"));
        world
            .lock()
            .unwrap()
            .series
            .insert(r#"{__name__="nginx_ingress_controller_requests"}"#.to_owned(), series(label));
        source.configure(&text).unwrap();
        let wanted = format!(
            r#"round(sum(irate(nginx_ingress_controller_requests{{{label}="default",ingress="nginx-server"}}[3m])) by (ingress), 0.001)"#
        );
        assert_eq!(sorted(&promql(&world, &source, &query).await), sorted(&wanted));
    }
    world.lock().unwrap().result = vector(&[("ingress", "nginx-server", "12.5")]);
    let latest = source.latest(&query).await.unwrap();
    assert_eq!(latest.samples[0].point.value, 12.5);
    assert_eq!(latest.samples[0].labels["name"], "nginx-server".into());
}

#[tokio::test]
async fn what_is_missing_unknown_or_refused_is_told() {
    let world = Shared::default();
    world.lock().unwrap().result = vector(&[("pod", "a", "0.5"), ("pod", "b", "NaN"), ("pod", "d", "-0.1")]);
    let source = source(&world).await;
    let query = Query::PodResource {
        namespace: "default".into(),
        pods: pods(&["a", "b", "c", "d"]),
        resource: Resource::Cpu,
    };
    let latest = source.latest(&query).await.unwrap();
    let values: Vec<_> = latest.samples.iter().map(|s| (&**s.pod().unwrap(), s.point.value)).collect();
    assert_eq!(values, [("a", 0.5), ("d", 0.0)]);
    let omitted: Vec<_> = latest.omitted.iter().map(|o| format!("{} {}", o.what, o.why)).collect();
    assert_eq!(
        omitted,
        ["namespace=default,pod=b has a value that is no number", "b has no value", "c has no value"]
    );
    let unknown = Query::External { namespace: None, metric: metric("queue", "") };
    let error = source.latest(&unknown).await.unwrap_err();
    assert!(matches!(error, MetricsError::Unknown { .. }) && error.is_passing(), "{error}");
    let stranger = Query::WorkloadResource {
        workload: workload("CloneSet", "x"),
        resource: Resource::Cpu,
        ready_pods_only: false,
    };
    let error = source.latest(&stranger).await.unwrap_err().to_string();
    assert!(error.contains("unknown workload type CloneSet"), "{error}");
    world.lock().unwrap().refuse = Some("container_cpu".to_owned());
    let error = source.latest(&query).await.unwrap_err();
    assert!(matches!(&error, MetricsError::Invalid { why, .. } if why.contains("unexpected }")), "{error}");
    let nobody = Query::PodResource {
        namespace: "default".into(),
        pods: Objects::Selected(parse_selector("app=none").unwrap()),
        resource: Resource::Cpu,
    };
    assert!(matches!(source.latest(&nobody).await, Err(MetricsError::Missing { .. })));
}

#[tokio::test]
async fn one_bad_rule_blinds_no_other_and_a_bad_configuration_changes_nothing() {
    let world = Shared::default();
    world.lock().unwrap().series.insert(
        r#"{__name__="kube_pod_status_ready"}"#.to_owned(),
        json!([{"__name__": "kube_pod_status_ready", "namespace": "x", "pod": "y"}]),
    );
    world.lock().unwrap().refuse = Some("broken".to_owned());
    world.lock().unwrap().result = vector(&[("x", "y", "3")]);
    let source = source(&world).await;
    let broken = INGRESS_RULE.replace("nginx_ingress_controller_requests\"", "broken\"");
    source.configure(&DEFAULT_CONFIGURATION.replace("rules: []\n", &broken)).unwrap();
    let ready = Query::WorkloadExternal {
        workload: workload("Deployment", "web"),
        metric: metric("kube_pod_status_ready", ""),
    };
    assert_eq!(source.latest(&ready).await.unwrap().samples[0].point.value, 3.0);
    let rules = source.rules();
    assert_eq!((rules[0].rule.as_str(), rules[0].metrics), ("rules[0]", 0));
    assert!(rules[0].failure.as_ref().unwrap().contains("parse error"), "{rules:?}");
    assert_eq!((rules[1].metrics, &rules[1].failure), (1, &None));
    let error = source.configure("resourceRules: 7").unwrap_err();
    assert!(error.contains("resourceRules"), "{error}");
    assert_eq!(source.latest(&ready).await.unwrap().samples[0].point.value, 3.0);
}

#[tokio::test]
async fn ranges_are_asked_in_parts_and_put_together() {
    let world = Shared::default();
    world.lock().unwrap().result = json!({"resultType": "matrix", "result": [
        {"metric": {"namespace": "default"}, "values": [[100, "1"], [200, "2"], [300, "NaN"], [400, "4"]]}]});
    let source = source(&world).await;
    let query = Query::WorkloadResource {
        workload: workload("StatefulSet", "nginx"),
        resource: Resource::Cpu,
        ready_pods_only: true,
    };
    let at = |second| Timestamp::from_second(second).unwrap();
    let range = Range { start: at(0), end: at(660_060), step: SignedDuration::from_secs(60) };
    let series = source.history(&query, &range).await.unwrap();
    let seen: Vec<_> = series[0].points.iter().map(|point| (point.at.as_second(), point.value)).collect();
    let part = [(100, 1.0), (200, 2.0), (400, 4.0)];
    assert_eq!(seen, [part, part].concat());
    assert_eq!(series[0].window, Some(SignedDuration::from_mins(3)));
    let starts: Vec<_> =
        world.lock().unwrap().asked.iter().filter_map(|asked| asked.get("start").cloned()).collect();
    assert_eq!(starts.len(), 2);
    assert!(starts.contains(&"0.000".to_owned()) && starts.contains(&"660060.000".to_owned()), "{starts:?}");
}
