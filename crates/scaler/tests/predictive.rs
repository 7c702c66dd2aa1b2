//! Predictive portraits in the embedded cluster: our own, and those that a job makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use api::annotations::RUN_SECONDS;
use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa};
use forecast::{LoadSettings, PredictorSettings};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use metrics::{Latest, MetricSource, MetricsError, Point, Query, Range, Series};
use scaler::Once;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use world::World;

/// Traffic of an hourly wave from 10 to 210, pods' use that follows it, and ready pods.
#[derive(Default)]
struct Waves {
    /// Until when there are values, in seconds; zero for ever.
    until: AtomicU64,
    asked_minutes: AtomicUsize,
    /// Instead, of the document's scale: hundreds of requests a second, in steps of ten minutes.
    in_steps: bool,
}

/// Thousandths of a core that an hour's steps of the document's traffic need.
const STEPS: [f64; 6] = [3.5, 2.5, 1.5, 0.6, 1.5, 2.5];

fn traffic(seconds: i64) -> f64 {
    110.0 - 100.0 * (std::f64::consts::TAU * (seconds % 3_600) as f64 / 3_600.0).cos()
}

impl MetricSource for Waves {
    fn name(&self) -> &'static str {
        "waves"
    }

    fn latest<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Latest, MetricsError>> {
        let why = Arc::from("only a history is kept");
        async move { Err(MetricsError::Missing { query: Arc::from(query.to_string()), why }) }.boxed()
    }

    fn history<'a>(
        &'a self,
        query: &'a Query,
        range: &'a Range,
    ) -> BoxFuture<'a, Result<Vec<Series>, MetricsError>> {
        let value = |seconds: i64| {
            if self.in_steps {
                let needed = STEPS[(seconds % 3_600 / 600) as usize];
                return match query {
                    Query::WorkloadResource { .. } => needed / 1_000.0,
                    Query::WorkloadExternal { .. } => needed.ceil(),
                    _ => 100.0 * needed,
                };
            }
            let q = traffic(seconds);
            let ready = (q / 30.0).ceil();
            match query {
                Query::WorkloadResource { .. } => 0.01 * q + 0.02 * ready,
                Query::WorkloadExternal { .. } => ready,
                _ => q,
            }
        };
        let until = match self.until.load(Ordering::Relaxed) {
            0 => i64::MAX,
            until => until as i64,
        };
        let (start, end) = (range.start.as_second(), range.end.as_second().min(until));
        let points: Vec<Point> = (start..=end)
            .step_by(range.step.as_secs() as usize)
            .map(|at| Point { at: Timestamp::from_second(at).unwrap(), value: value(at) })
            .collect();
        self.asked_minutes.fetch_add(points.len(), Ordering::Relaxed);
        async move { Ok(vec![Series { labels: model::Labels::default(), points, window: None }]) }.boxed()
    }
}

fn metrics(target: &Value) -> Value {
    json!([
        {"type": "Resource", "resource": {"name": "cpu", "target": target}},
        {"type": "Pods", "pods": {"metric": {"name": "kube_pod_status_ready"}, "target": {"type": "NA"}}},
        {"name": "qps", "type": "Object", "object": {
            "describedObject": {
                "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "nginx-server",
            },
            "metric": {"name": "nginx_ingress_controller_requests_rate"}, "target": {"type": "NA"},
        }},
    ])
}

fn predictive(metrics: &Value, algorithm: &Value) -> Value {
    json!({"portraitProviders": [{"type": "Dynamic", "priority": 1, "dynamic": {
        "portraitType": "Predictive", "metrics": metrics, "algorithm": algorithm,
    }}]})
}

async fn portrait(world: &World) -> HorizontalPortrait {
    world.api().get("sample-predictive").await.unwrap()
}

/// Reason and message of the portrait's condition.
async fn generated(world: &World) -> (String, String) {
    let conditions = portrait(world).await.status.unwrap_or_default().conditions;
    let found = conditions.into_iter().find(|condition| condition.type_ == "PortraitGenerated");
    found.map(|found| (found.reason, found.message)).unwrap_or_default()
}

async fn said(world: &World) -> String {
    let (reason, message) = generated(world).await;
    format!("{reason} {message}")
}

#[tokio::test(start_paused = true)]
async fn a_native_portrait_scales_before_the_traffic_comes_and_leaves_no_gap() {
    let waves = Arc::new(Waves::default());
    let world = World::with_source("2026-01-05T10:00:00Z", Some(waves.clone())).await;
    let target = json!({"type": "AverageValue", "averageValue": "300m"});
    let algorithm = json!({"type": "Native", "config": {"historyLength": "24h"}});
    world.autoscale("sample", predictive(&metrics(&target), &algorithm)).await;
    world.until(120, "SucceededGeneratePortrait".to_owned(), async |world| generated(world).await.0).await;
    let first = waves.asked_minutes.load(Ordering::Relaxed);
    let status = portrait(&world).await.status.unwrap();
    let forecast = status.forecast.unwrap();
    assert!(forecast.model.starts_with("qps: ") && forecast.error_percent < 30, "{forecast:?}");
    assert!(forecast.fit_correlation_percent > 90, "{forecast:?}");
    // The crest needs seven or eight replicas (ten minutes' mean), its ends one.
    let (mut most, mut least) = (0, usize::MAX);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_mins(1)).await;
        let pods = world.pods().await.len();
        (most, least) = (most.max(pods), least.min(pods));
        let data = portrait(&world).await.status.unwrap().portrait_data.unwrap();
        assert!(data.expire_time.unwrap().0 > world.clock.now(), "no gap");
        let (_, message) = world.condition("sample", "ScalingActive").await;
        assert_eq!(message, "the autoscaling process is functional");
    }
    assert!((7..=10).contains(&most) && least <= 3, "{least} to {most}");
    let later = waves.asked_minutes.load(Ordering::Relaxed) - first;
    assert!(later < 3 * 150, "only what is new is asked for: {later} minutes");
}

#[tokio::test(start_paused = true)]
async fn plans_go_on_while_clocks_are_changed() {
    // In Berlin from 03:00 to 02:00, and from 02:00 to 03:00, both at 01:00 UTC.
    for evening in ["2026-10-24T23:00:00Z", "2026-03-28T23:00:00Z"] {
        let world = World::with_source(evening, Some(Arc::new(Waves::default()))).await;
        let target = json!({"type": "AverageValue", "averageValue": "300m"});
        let algorithm =
            json!({"type": "Native", "config": {"historyLength": "48h", "timeZone": "Europe/Berlin"}});
        world.autoscale("sample", predictive(&metrics(&target), &algorithm)).await;
        world
            .until(120, "SucceededGeneratePortrait".to_owned(), async |world| generated(world).await.0)
            .await;
        for _ in 0..300 {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(generated(&world).await.0, "SucceededGeneratePortrait", "{}", world.clock.now());
            let data = portrait(&world).await.status.unwrap().portrait_data.unwrap();
            let points = data.time_series.unwrap().time_series;
            let now = world.clock.now();
            assert!(points[0].timestamp <= now.as_second() && data.expire_time.unwrap().0 > now, "{now}");
            assert!(points.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp), "{points:?}");
            let (_, message) = world.condition("sample", "ScalingActive").await;
            assert_eq!(message, "the autoscaling process is functional", "{now}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_metric_ends_a_native_portrait_and_replicas_stay() {
    let waves = Arc::new(Waves::default());
    let world = World::with_source("2026-01-05T10:25:00Z", Some(waves.clone())).await;
    let target = json!({"type": "Utilization", "averageUtilization": 300});
    let algorithm = json!({"type": "Native", "config": {"historyLength": "24h"}});
    world.autoscale("sample", predictive(&metrics(&target), &algorithm)).await;
    world.until(120, "SucceededGeneratePortrait".to_owned(), async |world| generated(world).await.0).await;
    waves.until.store(u64::try_from(world.clock.now().as_second()).unwrap(), Ordering::Relaxed);
    world.until(7_200, "FailedGeneratePortrait".to_owned(), async |world| generated(world).await.0).await;
    assert!(generated(&world).await.1.contains("mend the metric"), "{:?}", generated(&world).await);
    let pods = world.pods().await.len();
    tokio::time::sleep(Duration::from_hours(4)).await;
    assert_eq!(world.pods().await.len(), pods, "nothing is scaled down on a dead metric");
    assert!(portrait(&world).await.status.unwrap().portrait_data.is_none());
}

#[tokio::test(start_paused = true)]
async fn metrics_against_the_convention_are_named() {
    let world = World::with_source("2026-01-05T10:00:00Z", Some(Arc::new(Waves::default()))).await;
    let mut wrong = metrics(&json!({"type": "AverageValue", "averageValue": "300m"}));
    wrong[1] = wrong[2].clone();
    world.autoscale("sample", predictive(&wrong, &json!({"type": "Native"}))).await;
    world.until(120, "FailedGeneratePortrait".to_owned(), async |world| generated(world).await.0).await;
    assert!(generated(&world).await.1.contains("metrics[1]: it must be of type Pods"));
    assert_eq!(world.pods().await.len(), 1);
}

fn external_job() -> Value {
    json!({"type": "ExternalJob", "externalJob": {
        "job": {"type": "CronJob", "cronJob": {"template": {
            "metadata": {"labels": {"cronjob": "test"}},
            "spec": {"schedule": "0/30 * * * *", "jobTemplate": {"spec": {"template": {"spec": {
                "containers": [{
                    "name": "algorithm", "args": ["--re-history-len=24H"],
                    "volumeMounts": [{"name": "model", "mountPath": "/opt/kapacity/timeseries/forecasting/model"}],
                }, {"name": "other", "image": "example.com/other"}],
                "volumes": [{"name": "model", "configMap": {"name": "example-model"}}],
                "restartPolicy": "OnFailure",
            }}}}},
        }}},
        "resultSource": {"type": "ConfigMap"},
    }})
}

/// The namespace in which jobs live.
async fn with_namespace(world: &World) {
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "kapacity-system"}})).unwrap();
    let api: Api<Namespace> = Api::all(world.client.clone());
    api.create(&PostParams::default(), &namespace).await.unwrap();
}

fn cron_jobs(world: &World) -> Api<CronJob> {
    Api::namespaced(world.client.clone(), "kapacity-system")
}

#[tokio::test(start_paused = true)]
async fn a_job_gets_what_is_left_out_and_its_result_scales() {
    let world = World::at("2026-01-05T10:00:00Z").await;
    with_namespace(&world).await;
    let target = json!({"type": "AverageValue", "averageValue": "1m"});
    world.autoscale("sample", predictive(&metrics(&target), &external_job())).await;
    let failed = "FailedFetchExternalAlgorithmJobResult ConfigMap default/sample-predictive-result is not there yet: the job \
                  has not left a result";
    world.until(120, failed.to_owned(), said).await;
    let job = cron_jobs(&world).get("default-sample-predictive").await.unwrap();
    assert_eq!(job.metadata.labels.as_ref().unwrap()["cronjob"], "test");
    let pod =
        serde_json::to_value(job.spec.unwrap()).unwrap()["jobTemplate"]["spec"]["template"]["spec"].take();
    assert_eq!(pod["serviceAccountName"], "kapacity-algorithm-job");
    assert_eq!(pod["containers"][0]["image"], "example.com/tideline:1");
    assert_eq!(
        pod["containers"][0]["env"],
        json!([
            {"name": "METRICS_SERVER_ADDR", "value": "kapacity-grpc-service:9090"},
            {"name": "HP_NAMESPACE", "value": "default"},
            {"name": "HP_NAME", "value": "sample-predictive"},
        ])
    );
    assert_eq!(pod["volumes"][0]["configMap"]["optional"], true, "a model that is not there hangs nothing");
    assert!(pod["containers"][1]["env"].is_null(), "others are left as they are");
    let (now, version) = (world.clock.now(), job.metadata.resource_version);
    let result = json!({
        "type": "TimeSeries", "expireTime": (now + SignedDuration::from_hours(1)).to_string(),
        "timeSeries": format!("{{\"{}.0\": 4.0}}", now.as_second()),
    });
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "sample-predictive-result"}, "data": result}))
            .unwrap();
    world.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
    world.until(120, 4, async |world| world.pods().await.len()).await;
    let job = cron_jobs(&world).get("default-sample-predictive").await.unwrap();
    assert_eq!(job.metadata.resource_version, version, "what has not changed is not written again");
    world.delete::<Ihpa>("sample").await;
    world
        .until(120, true, async |world| {
            cron_jobs(world).get_opt("default-sample-predictive").await.unwrap().is_none()
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn one_run_of_the_algorithm_leaves_a_result_that_the_controller_reads() {
    let world = World::at("2026-01-05T10:00:00Z").await;
    with_namespace(&world).await;
    let target = json!({"type": "AverageValue", "averageValue": "300m"});
    world.autoscale("sample", predictive(&metrics(&target), &external_job())).await;
    let failed = "FailedFetchExternalAlgorithmJobResult ConfigMap default/sample-predictive-result is not there yet: the job \
                  has not left a result";
    world.until(120, failed.to_owned(), said).await;
    let once = |settings: PredictorSettings| Once {
        namespace: "default".into(),
        name: "sample-predictive".into(),
        history: SignedDuration::from_hours(24),
        settings,
    };
    let now = world.clock.now();
    let waves = Waves::default();
    let map = once(PredictorSettings::default()).run(&world.client, &waves, now).await.unwrap();
    assert_eq!(map.metadata.owner_references.unwrap()[0].name, "sample-predictive");
    let series: Value = serde_json::from_str(&map.data.unwrap()["timeSeries"]).unwrap();
    assert_eq!(series.as_object().unwrap().len(), 18);
    assert!(series.as_object().unwrap().keys().all(|key| key.parse::<i64>().is_ok()));
    world.until(120, "SucceededGeneratePortrait".to_owned(), async |world| generated(world).await.0).await;
    // The next run takes its place.
    let later = now + SignedDuration::from_mins(30);
    once(PredictorSettings::default()).run(&world.client, &waves, later).await.unwrap();
    waves.until.store(1, Ordering::Relaxed);
    let refused = once(PredictorSettings::default()).run(&world.client, &waves, later).await.unwrap_err();
    assert!(refused.to_string().contains("replicas estimation failed"), "{refused}");
    let none = Once { name: "nobody".into(), ..once(PredictorSettings::default()) };
    let refused = none.run(&world.client, &waves, now).await.unwrap_err();
    assert!(refused.to_string().contains("default/nobody"), "{refused}");
}

/// Plays the container of the algorithm in every pod of a Job that runs: what a kubelet does with our image.
async fn play_jobs(world: &World, source: &Waves) {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), "kapacity-system");
    for pod in api.list(&ListParams::default()).await.unwrap() {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase != Some("Running") || pod.annotations().contains_key(RUN_SECONDS) {
            continue;
        }
        let container = &pod.spec.as_ref().unwrap().containers[0];
        assert_eq!(container.args.as_ref().unwrap()[1], "--re-history-len=24H");
        let load = LoadSettings { offset_seconds: 8 * 3_600, test_seconds: 3_600, ..LoadSettings::default() };
        let once = Once {
            namespace: "default".into(),
            name: "predictive-sample-predictive".into(),
            history: SignedDuration::from_hours(24),
            settings: PredictorSettings { load, ..PredictorSettings::default() },
        };
        once.run(&world.client, source, world.clock.now()).await.unwrap();
        let ends = json!({"metadata": {"annotations": {RUN_SECONDS: "0"}}});
        api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&ends)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_s_autoscaler_by_its_job() {
    let world = World::at("2026-01-05T10:50:00Z").await;
    with_namespace(&world).await;
    let text = include_str!("../../../tests/seeds/004-ihpa/dynamic-predictive-portrait-sample.yaml");
    let document: Value = serde_saphyr::from_str(text).unwrap();
    world.autoscale("predictive-sample", document["spec"].clone()).await;
    // An earlier run of two days: at its end one replica was enough.
    let minutes = |count| (world.clock.now() + SignedDuration::from_mins(count)).to_string();
    let earlier = json!({"metadata": {"name": "predictive-sample-predictive-result"}, "data": {
        "type": "TimeSeries", "expireTime": minutes(2),
        "timeSeries": format!("{{\"{}\":1}}", world.clock.now().as_second()),
    }});
    world.make::<ConfigMap>(earlier).await;
    let no_value = "NoValidPortraitValue no valid portrait value for now".to_owned();
    let made = "CreateReplicaProfile create ReplicaProfile with onlineReplcas: 1, cutoffReplicas: 0, standbyReplicas: 0";
    let update = |from: u32, to: u32| {
        format!(
            "UpdateReplicaProfile update ReplicaProfile with onlineReplcas: {from} -> {to}, cutoffReplicas: 0 -> 0, \
             standbyReplicas: 0 -> 0"
        )
    };
    let told = async |world: &World| {
        let mut events = world.events().await;
        // The document's list begins later.
        events.retain(|event| !event.starts_with("FailedUpdateAndFetchPortraitValue"));
        events
    };
    let mut expected = vec![no_value, made.to_owned()];
    world.until(240, expected.clone(), told).await;
    let source = Waves { in_steps: true, ..Waves::default() };
    for (from, to) in [(1, 4), (4, 3), (3, 2)] {
        expected.push(update(from, to));
        let events = async |world: &World| {
            play_jobs(world, &source).await;
            told(world).await
        };
        world.until(900, expected.clone(), events).await;
    }
    let name = "default-predictive-sample-predictive";
    let status = cron_jobs(&world).get(name).await.unwrap().status.unwrap();
    assert!(status.last_schedule_time.is_some() && status.active.is_none(), "{status:?}");
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), "kapacity-system");
    let job = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    assert!(job.name_any().starts_with(name), "{}", job.name_any());
    assert_eq!(job.status.unwrap().succeeded, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_that_was_left_behind_is_swept() {
    let mut world = World::at("2026-01-05T10:00:00Z").await;
    with_namespace(&world).await;
    let target = json!({"type": "AverageValue", "averageValue": "1m"});
    world.autoscale("sample", predictive(&metrics(&target), &external_job())).await;
    let there = async |world: &World, name: &str| cron_jobs(world).get_opt(name).await.unwrap().is_some();
    world.until(60, true, async |world| there(world, "default-sample-predictive").await).await;
    // Somebody else's job stays, whatever it is called.
    let mut other = cron_jobs(&world).get("default-sample-predictive").await.unwrap();
    other.metadata = ObjectMeta { name: Some("default-gone-predictive".into()), ..ObjectMeta::default() };
    cron_jobs(&world).create(&PostParams::default(), &other).await.unwrap();
    // While nothing of ours runs, the autoscaler is made another, and its portrait deleted.
    world.kill();
    let fixed = json!([{"type": "Static", "priority": 1, "static": {"replicas": 2}}]);
    world.patch::<Ihpa>("sample", json!({"spec": {"portraitProviders": fixed}})).await;
    world.delete::<HorizontalPortrait>("sample-predictive").await;
    world.start();
    world.until(60, false, async |world| there(world, "default-sample-predictive").await).await;
    world.settle().await;
    assert!(there(&world, "default-gone-predictive").await);
}
