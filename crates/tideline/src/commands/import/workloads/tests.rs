//! Tables of what becomes of others' autoscalers, and of what is refused.

use super::*;
use api::kapacity::{PolicyType, SelectPolicy};
use intake::files::read_objects;
use metrics::{Prometheus, PrometheusSettings};

fn translated(text: &str) -> Result<String, CommandError> {
    translate(&read_objects("given.yaml", &mut text.as_bytes()).unwrap(), "Asia/Shanghai")
}

/// The specs of what is printed, read back as the API server would.
fn specs(text: &str) -> Vec<IntelligentHorizontalPodAutoscalerSpec> {
    let printed = translated(text).unwrap();
    let objects = read_objects("printed", &mut printed.as_bytes()).unwrap();
    objects.iter().map(|object| serde_json::from_value(object.value["spec"].clone()).unwrap()).collect()
}

const HPA: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 20
  metrics:
  - type: Resource
    resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}
  - type: ContainerResource
    containerResource: {name: memory, container: app, target: {type: AverageValue, averageValue: 500Mi}}
  behavior:
    scaleDown:
      stabilizationWindowSeconds: 60
      selectPolicy: Min
      policies: [{type: Pods, value: 2, periodSeconds: 30}]
";

const KEDA: &str = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: worker, namespace: shop}
spec:
  scaleTargetRef: {name: worker}
  minReplicaCount: 1
  maxReplicaCount: 30
  cooldownPeriod: 120
  triggers:
  - {type: cron, metadata: {timezone: Europe/Berlin, start: 0 8 * * 1-5, end: 0 18 * * 1-5, desiredReplicas: '10'}}
  - {type: cron, metadata: {timezone: Europe/Berlin, start: 0 9 * * *, end: 0 10 * * *, desiredReplicas: 12}}
  - {type: cpu, metricType: Utilization, metadata: {value: '70'}}
  - {type: memory, metricType: AverageValue, metadata: {value: 1Gi, containerName: app}}
  - type: prometheus
    metadata: {serverAddress: 'http://prometheus:9090', query: 'sum(rate(http_requests_total{app=\"worker\"}[2m]))', threshold: '100', activationThreshold: '5'}
  - {type: kafka, metadata: {topic: orders}}
";

const CRON_HPA: &str = "
apiVersion: autoscaling.alibabacloud.com/v1beta1
kind: CronHorizontalPodAutoscaler
metadata: {name: web-times, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  jobs:
  - {name: up, schedule: 0 0 8 * * *, targetSize: 10}
  - {name: noon, schedule: 0 0 12 * * *, targetSize: 25}
  - {name: down, schedule: 30 0 20 * * *, targetSize: 3}
";

#[test]
fn an_hpa_keeps_its_metrics_bounds_and_what_it_does_by_default() {
    let [spec] = specs(HPA).try_into().unwrap();
    assert_eq!((spec.min_replicas, spec.max_replicas), (2, 20));
    let portrait = spec.portrait_providers[0].dynamic.as_ref().unwrap();
    assert_eq!((portrait.metrics.len(), portrait.algorithm.type_.as_str()), (2, "KubeHPA"));
    let behavior = spec.behavior.unwrap();
    let (up, down) = (behavior.scale_up.unwrap(), behavior.scale_down.unwrap());
    assert_eq!((up.stabilization_window_seconds, up.policies.len()), (Some(0), 2));
    assert_eq!(up.policies[0].type_, PolicyType::Percent);
    assert_eq!((down.stabilization_window_seconds, down.select_policy), (Some(60), Some(SelectPolicy::Min)));
    assert_eq!((down.policies[0].value, down.policies[0].period_seconds), (2, 30));
    assert!(translated(HPA).unwrap().contains("kubectl delete hpa web -n shop"));
}

#[test]
fn an_old_hpa_is_read_and_one_of_keda_is_not() {
    let old = HPA.replace("autoscaling/v2", "autoscaling/v1");
    let old = old.split("  metrics:").next().unwrap().to_owned() + "  targetCPUUtilizationPercentage: 55\n";
    let [spec] = specs(&old).try_into().unwrap();
    let metric = &spec.portrait_providers[0].dynamic.as_ref().unwrap().metrics[0].metric;
    assert_eq!(metric.resource.as_ref().unwrap().target.average_utilization, Some(55));
    let owned = HPA.replace(
        "namespace: shop}",
        "namespace: shop, ownerReferences: [{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, name: web, uid: u}]}",
    );
    assert!(translated(&owned).unwrap_err().to_string().contains("import that instead"));
}

#[test]
fn triggers_of_keda_compete_and_what_is_left_out_is_said() {
    let [spec] = specs(KEDA).try_into().unwrap();
    let kinds: Vec<(ProviderType, i32)> =
        spec.portrait_providers.iter().map(|provider| (provider.type_, provider.priority)).collect();
    assert_eq!(kinds, [(ProviderType::Cron, 1), (ProviderType::Cron, 1), (ProviderType::Dynamic, 1)]);
    let cron = &spec.portrait_providers[0].cron.as_ref().unwrap().crons[0];
    assert_eq!((cron.time_zone.as_str(), cron.replicas), ("Europe/Berlin", 10));
    let metrics = &spec.portrait_providers[2].dynamic.as_ref().unwrap().metrics;
    let types: Vec<&str> = metrics.iter().map(|metric| metric.metric.type_.as_str()).collect();
    assert_eq!(types, ["Resource", "ContainerResource", "External"]);
    let external = metrics[2].metric.external.as_ref().unwrap();
    assert_eq!(external.metric.name, "keda_shop_worker_4");
    assert_eq!(external.target.average_value.as_ref().unwrap().0, "100");
    let text = translated(KEDA).unwrap();
    for said in [
        "trigger 5 (kafka)",
        "cooldownPeriod",
        "activationThreshold of trigger 4",
        "delete scaledobject worker",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
}

#[tokio::test]
async fn the_printed_rule_is_one_that_the_metrics_configuration_takes() {
    let text = translated(KEDA).unwrap();
    let rule: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("#   - seriesQuery"))
        .take_while(|line| line.starts_with("#   "))
        .map(|line| line.trim_start_matches("# "))
        .collect();
    assert_eq!(rule.len(), 4, "{text}");
    let configuration = metrics::prometheus::DEFAULT_CONFIGURATION
        .replace("externalRules:\n", &format!("externalRules:\n{}\n", rule.join("\n")));
    let mut settings = PrometheusSettings::default();
    settings.connection.address = "http://127.0.0.1:1".to_owned();
    let store = sandbox::store::Store::new(clock::Clock::system(), &sandbox::store::StoreOptions::default());
    let client = sandbox::api::Api::new(store).client();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let source = Prometheus::new(&settings, client, clock::Clock::system()).await.unwrap();
    source.configure(&configuration).unwrap();
}

#[test]
fn without_metrics_the_minimum_holds_outside_the_windows_and_pauses_are_kept() {
    let only_cron: String = KEDA.split("  - {type: cpu").next().unwrap().to_owned();
    let [spec] = specs(&only_cron).try_into().unwrap();
    let last = spec.portrait_providers.last().unwrap();
    assert_eq!((last.priority, last.static_.as_ref().unwrap().replicas), (0, 1));
    let paused = only_cron.replace(
        "namespace: shop}",
        "namespace: shop, annotations: {autoscaling.keda.sh/paused-replicas: '40'}}",
    );
    let [spec] = specs(&paused).try_into().unwrap();
    assert_eq!((spec.max_replicas, spec.portrait_providers.last().unwrap().priority), (40, 1000));
    let paused = paused.replace("paused-replicas: '40'", "paused: 'true'");
    assert!(specs(&paused)[0].paused);
}

#[test]
fn jobs_become_windows_that_end_with_the_job_that_follows() {
    let [spec] = specs(CRON_HPA).try_into().unwrap();
    let crons = &spec.portrait_providers[0].cron.as_ref().unwrap().crons;
    let rules: Vec<(&str, &str, i32)> =
        crons.iter().map(|cron| (cron.start.as_str(), cron.end.as_str(), cron.replicas)).collect();
    assert_eq!(
        rules,
        [("0 8 * * *", "0 12 * * *", 10), ("0 12 * * *", "0 20 * * *", 25), ("0 20 * * *", "0 8 * * *", 3)]
    );
    assert_eq!(crons[0].time_zone, "Asia/Shanghai");
    assert_eq!((spec.min_replicas, spec.max_replicas), (3, 25));
    assert!(translated(CRON_HPA).unwrap().contains("fires at second 0 instead of 30"));
}

#[test]
fn a_cron_hpa_and_an_hpa_of_one_workload_become_one() {
    let through_hpa =
        CRON_HPA.replace("kind: Deployment, name: web", "kind: HorizontalPodAutoscaler, name: web");
    for second in [CRON_HPA.to_owned(), through_hpa.clone()] {
        let [spec] = specs(&format!("{second}---{HPA}")).try_into().unwrap();
        let kinds: Vec<ProviderType> =
            spec.portrait_providers.iter().map(|provider| provider.type_).collect();
        assert_eq!(kinds, [ProviderType::Dynamic, ProviderType::Cron]);
        assert_eq!((spec.min_replicas, spec.max_replicas), (2, 25));
        assert_eq!(spec.scale_target_ref.kind, "Deployment");
    }
    let message = translated(&through_hpa).unwrap_err().to_string();
    assert!(message.contains("give both"), "{message}");
}

#[test]
fn what_cannot_be_read_or_said_is_refused_with_the_reason() {
    let jobs = |jobs: &str| CRON_HPA.split("  jobs:").next().unwrap().to_owned() + "  jobs: " + jobs + "\n";
    let table = [
        (
            "kind: Deployment\napiVersion: apps/v1\nmetadata: {name: x}\n".to_owned(),
            "no autoscaler that can be imported",
        ),
        (HPA.replace("autoscaling/v2", "autoscaling/v2beta1"), "horizontalpodautoscalers.v2"),
        (HPA.replace("maxReplicas: 20", "maxReplicas: 1"), "make no range"),
        (HPA.replace("maxReplicas: 20", "maxReplicas: many"), "spec.maxReplicas"),
        (HPA.replace("kind: Deployment, name: web", "kind: Deployment, name: ''"), "needs kind and name"),
        (KEDA.replace("maxReplicaCount: 30", "maxReplicaCount: 0"), "make no range"),
        (KEDA.replace("spec:", "speck:"), "spec is missing"),
        (
            jobs(
                "[{name: a, schedule: 0 0 8 * * *, targetSize: -1}, {name: b, schedule: 0 0 9 * * *, targetSize: 1}]",
            ),
            "negative",
        ),
        (
            jobs(
                "[{name: a, schedule: '@daily', targetSize: 1}, {name: b, schedule: 0 0 9 * * *, targetSize: 1}]",
            ),
            "five or six",
        ),
        (
            jobs(
                "[{name: a, schedule: '* 0 8 * * *', targetSize: 1}, {name: b, schedule: 0 0 9 * * *, targetSize: 1}]",
            ),
            "more than once a minute",
        ),
        (
            jobs(
                "[{name: a, schedule: 0 0 8 * * *, targetSize: 1}, {name: b, schedule: 0 0 8 * * *, targetSize: 2}]",
            ),
            "at the same moment",
        ),
        (
            jobs(
                "[{name: a, schedule: 0 0 * * * *, targetSize: 1}, {name: b, schedule: 0 30 9 * * *, targetSize: 2}]",
            ),
            "twice without another",
        ),
        (
            jobs(
                "[{name: a, schedule: 0 0 99 * * *, targetSize: 1}, {name: b, schedule: 0 30 9 * * *, targetSize: 2}]",
            ),
            "job a",
        ),
        (jobs("[{name: a, schedule: 0 0 8 * * *, targetSize: 1, runOnce: true}]"), "runs once"),
    ];
    for (text, expected) in table {
        let message = translated(&text).unwrap_or_else(|error| error.to_string());
        assert!(message.contains(expected), "{expected}: {message}\n{text}");
    }
    let bad_triggers = [
        (
            "timezone: Europe/Berlin, start: 0 8 * * 1-5",
            "timezone: Mars/Base, start: 0 8 * * 1-5",
            "Mars/Base",
        ),
        ("start: 0 8 * * 1-5", "start: 0 8 * * 1-9", "trigger 0 (cron)"),
        ("desiredReplicas: '10'", "desiredReplicas: some", "desiredReplicas"),
        ("metadata: {value: '70'}", "metadata: {value: high}", "no percentage"),
        ("threshold: '100', a", "threshold: lots, a", "metadata.threshold"),
        (
            "metricType: AverageValue, metadata: {value: 1Gi",
            "metricType: Value, metadata: {value: 1Gi",
            "metricType Value",
        ),
    ];
    for (from, to, expected) in bad_triggers {
        assert!(KEDA.contains(from), "{from}");
        let text = translated(&KEDA.replace(from, to)).unwrap();
        let said = text.lines().any(|line| line.starts_with("# Not carried over") && line.contains(expected));
        assert!(said, "{expected}:\n{text}");
    }
    assert!(translated("").unwrap_err().to_string().contains("no objects"));
}

#[test]
fn one_bad_object_does_not_keep_the_others_back() {
    let text = translated(&format!("{}---{KEDA}", HPA.replace("maxReplicas: 20", "maxReplicas: 1"))).unwrap();
    assert!(text.starts_with("# NOT IMPORTED: given.yaml"), "{text}");
    assert!(text.contains("name: worker"), "{text}");
}
