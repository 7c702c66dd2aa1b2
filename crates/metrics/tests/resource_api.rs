//! The resource metrics API as a source, against a stand-in of it in process and under virtual time.

#![expect(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "a test ends where something is not as it must be"
)]

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use clock::Clock;
use jiff::Timestamp;
use metrics::resource_api::ResourceApiSettings;
use metrics::{MetricSource as _, MetricsError, Objects, Query, Resource, ResourceApi};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the stand-in answers, and what it was asked.
#[derive(Default)]
struct World {
    items: Vec<Value>,
    refuse_cluster: bool,
    status: Option<StatusCode>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<World>>;

async fn answer(State(world): State<Shared>, request: Request) -> Response {
    let mut world = world.lock().unwrap();
    world.asked.push(request.uri().to_string());
    if let Some(status) = world.status {
        return (status, r#"{"message":"no such thing"}"#).into_response();
    }
    if world.refuse_cluster && !request.uri().path().contains("/namespaces/") {
        return (StatusCode::FORBIDDEN, r#"{"message":"not for you"}"#).into_response();
    }
    axum::Json(json!({"kind": "PodMetricsList", "items": world.items})).into_response()
}

fn pod(namespace: &str, name: &str, at: &str, containers: &[(&str, &str, &str)]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, cpu, memory)| json!({"name": name, "usage": {"cpu": cpu, "memory": memory}}))
        .collect();
    json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": "web"}}, "timestamp": at,
        "window": "15.5s", "containers": containers})
}

const NOW: &str = "2026-03-01T00:00:00Z";

fn source(world: &Shared) -> ResourceApi {
    let router = axum::Router::new().fallback(answer).with_state(world.clone());
    let clock = Clock::starting_at(NOW.parse::<Timestamp>().unwrap());
    ResourceApi::new(kube::Client::new(router, "default"), clock, ResourceApiSettings::default())
}

fn cpu_of(namespace: &str, names: &[&str]) -> Query {
    let pods = Objects::Named(names.iter().map(|name| Arc::from(*name)).collect());
    Query::PodResource { namespace: Arc::from(namespace), pods, resource: Resource::Cpu }
}

#[tokio::test(start_paused = true)]
async fn pods_are_sums_of_their_containers_and_what_is_missing_is_named() {
    let world = Shared::default();
    world.lock().unwrap().items = vec![
        pod("shop", "a", NOW, &[("web", "100m", "64Mi"), ("log", "500000000n", "1Ki")]),
        pod("shop", "b", NOW, &[]),
        pod("shop", "old", "2026-02-28T23:00:00Z", &[("web", "1", "1Gi")]),
        pod("other", "a", NOW, &[("web", "7", "1Gi")]),
    ];
    let source = source(&world);
    let latest = source.latest(&cpu_of("shop", &["a", "b", "c", "old"])).await.unwrap();
    let values: Vec<_> = latest.samples.iter().map(|s| (&**s.pod().unwrap(), s.point.value)).collect();
    assert_eq!(values, [("a", 0.6)]);
    assert_eq!(latest.samples[0].window, Some(jiff::SignedDuration::from_millis(15_500)));
    let omitted: Vec<_> = latest.omitted.iter().map(|o| format!("{} {}", o.what, o.why)).collect();
    assert_eq!(
        omitted,
        [
            "b has a container without a value of cpu",
            "c has no metrics",
            "old has a newest value that is 3600 s old"
        ]
    );
    let container = Query::ContainerResource {
        namespace: "shop".into(),
        pods: Objects::Named(vec!["a".into()]),
        resource: Resource::Memory,
        container: "web".into(),
    };
    assert_eq!(source.latest(&container).await.unwrap().samples[0].point.value, 64.0 * 1_048_576.0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_an_error_that_says_what_kind_of_nothing() {
    let world = Shared::default();
    world.lock().unwrap().items = vec![pod("shop", "old", "2026-02-28T23:00:00Z", &[("web", "1", "1Gi")])];
    let source = source(&world);
    let stale = source.latest(&cpu_of("shop", &["old"])).await.unwrap_err();
    assert!(matches!(&stale, MetricsError::Stale { age, .. } if age.as_secs() == 3600), "{stale}");
    let missing = source.latest(&cpu_of("shop", &["new"])).await.unwrap_err();
    assert_eq!(missing.to_string(), "cpu of pod new in shop: new has no metrics");
    let workload = metrics::Workload {
        kind: metrics::GroupKind { group: "apps".into(), kind: "Deployment".into() },
        namespace: "shop".into(),
        name: "web".into(),
    };
    let whole = Query::WorkloadResource { workload, resource: Resource::Cpu, ready_pods_only: false };
    assert!(matches!(source.latest(&whole).await, Err(MetricsError::Unsupported { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_absent_api_is_told_with_the_fix() {
    let world = Shared::default();
    world.lock().unwrap().status = Some(StatusCode::NOT_FOUND);
    let error = source(&world).latest(&cpu_of("shop", &["a"])).await.unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("is metrics-server installed?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn queries_close_together_share_one_list() {
    let world = Shared::default();
    world.lock().unwrap().items = vec![pod("shop", "a", NOW, &[("web", "1", "1Gi")])];
    let source = source(&world);
    let query = cpu_of("shop", &["a"]);
    let (one, two) = tokio::join!(source.latest(&query), source.latest(&query));
    assert_eq!(one, two);
    assert_eq!(world.lock().unwrap().asked.len(), 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    source.latest(&query).await.unwrap();
    assert_eq!(world.lock().unwrap().asked.len(), 2);
    // By selector the server chooses, each time anew.
    let selected = Query::PodResource {
        namespace: "shop".into(),
        pods: Objects::Selected(metrics::parse_selector("app=web").unwrap()),
        resource: Resource::Cpu,
    };
    assert_eq!(source.latest(&selected).await.unwrap().samples.len(), 1);
    assert!(world.lock().unwrap().asked[2].ends_with("pods?labelSelector=app%20in%20%28web%29"));
}

#[tokio::test(start_paused = true)]
async fn many_namespaces_are_one_list_of_the_cluster_unless_that_is_refused() {
    for refuse_cluster in [false, true] {
        let world = Shared::default();
        let spaces: Vec<String> = (0..20).map(|n| format!("space-{n}")).collect();
        world.lock().unwrap().items =
            spaces.iter().map(|space| pod(space, "a", NOW, &[("web", "1", "1Gi")])).collect();
        world.lock().unwrap().refuse_cluster = refuse_cluster;
        let source = source(&world);
        for space in &spaces {
            assert_eq!(source.latest(&cpu_of(space, &["a"])).await.unwrap().samples.len(), 1);
        }
        let asked = world.lock().unwrap().asked.len();
        assert_eq!(asked, if refuse_cluster { 21 } else { 9 });
    }
}
