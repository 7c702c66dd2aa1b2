//! HorizontalPodAutoscalers of Kubernetes.
//!
//! The reactive portrait has the same algorithm. What an HPA does unless told otherwise (five minutes of
//! stabilisation, limits on steps) is off here unless written down, so it is written down.

use super::{Draft, decode, draft, reactive};
use api::kapacity::{
    IhpaBehavior, KubeHpa, MetricSpec, PolicyType, ScalingBehavior, ScalingPolicy, SelectPolicy,
};
use intake::files::Object;
use k8s_openapi::api::autoscaling::v1;
use k8s_openapi::api::autoscaling::v2::{
    self, CrossVersionObjectReference, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerBehavior, MetricTarget, ResourceMetricSource,
};

/// What an HPA without metrics keeps CPU at, in percent.
const DEFAULT_CPU: i32 = 80;
const DEFAULT_DOWN_WINDOW: i32 = 300;

pub(super) fn read(object: &Object, version: &str) -> Result<Draft, String> {
    let owner = object.value.pointer("/metadata/ownerReferences/0/kind").and_then(serde_json::Value::as_str);
    if let Some(owner @ ("ScaledObject" | "IntelligentHorizontalPodAutoscaler")) = owner {
        return Err(format!("it was made by a {owner}; import that instead"));
    }
    match version {
        "autoscaling/v2" | "autoscaling/v2beta2" => second(object),
        "autoscaling/v1" => first(object),
        _ => Err(format!(
            "{version} is not read; ask for `kubectl get horizontalpodautoscalers.v2.autoscaling -o yaml`"
        )),
    }
}

fn first(object: &Object) -> Result<Draft, String> {
    let given: v1::HorizontalPodAutoscaler = decode("", &object.value)?;
    let spec = given.spec.ok_or("spec is missing")?;
    let target = CrossVersionObjectReference {
        api_version: spec.scale_target_ref.api_version,
        kind: spec.scale_target_ref.kind,
        name: spec.scale_target_ref.name,
    };
    let mut draft = draft(object, target)?;
    bounds(&mut draft, spec.min_replicas, spec.max_replicas)?;
    let percent = spec.target_cpu_utilization_percentage.unwrap_or(DEFAULT_CPU);
    draft.providers.push(reactive(vec![cpu(percent)], None));
    draft.behavior = Some(behavior(None, &mut draft.notes).0);
    finish(&mut draft);
    Ok(draft)
}

fn second(object: &Object) -> Result<Draft, String> {
    let given: HorizontalPodAutoscaler = decode("", &object.value)?;
    let spec = given.spec.ok_or("spec is missing")?;
    let mut draft = draft(object, spec.scale_target_ref)?;
    bounds(&mut draft, spec.min_replicas, spec.max_replicas)?;
    let mut metrics: Vec<MetricSpec> = spec
        .metrics
        .into_iter()
        .flatten()
        .map(|metric| MetricSpec { metric, ..MetricSpec::default() })
        .collect();
    if metrics.is_empty() {
        metrics.push(cpu(DEFAULT_CPU));
    }
    let (behavior, kube_hpa) = behavior(spec.behavior.as_ref(), &mut draft.notes);
    draft.behavior = Some(behavior);
    draft.providers.push(reactive(metrics, kube_hpa));
    finish(&mut draft);
    Ok(draft)
}

fn bounds(draft: &mut Draft, min: Option<i32>, max: i32) -> Result<(), String> {
    (draft.min, draft.max) = (min.unwrap_or(1), max);
    if draft.min < 0 || draft.max < draft.min {
        return Err(format!("minReplicas {} and maxReplicas {max} make no range; mend them", draft.min));
    }
    Ok(())
}

fn finish(draft: &mut Draft) {
    let namespace = draft.namespace.as_deref().map_or_else(String::new, |name| format!(" -n {name}"));
    draft.notes.push(format!(
        "Nothing is scaled while the HPA exists: kubectl delete hpa {}{namespace}",
        draft.name
    ));
}

fn cpu(percent: i32) -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(percent),
        ..MetricTarget::default()
    };
    let metric = v2::MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..v2::MetricSpec::default()
    };
    MetricSpec { metric, ..MetricSpec::default() }
}

/// What an HPA with this behavior does, defaults written out; and its tolerance, where it has one of its own.
pub(super) fn behavior(
    given: Option<&HorizontalPodAutoscalerBehavior>,
    notes: &mut Vec<String>,
) -> (IhpaBehavior, Option<KubeHpa>) {
    let up = given.and_then(|behavior| behavior.scale_up.as_ref());
    let down = given.and_then(|behavior| behavior.scale_down.as_ref());
    let policy = |type_, value| ScalingPolicy { type_, value, period_seconds: 15 };
    let percent = policy(PolicyType::Percent, 100);
    let behavior = IhpaBehavior {
        scale_up: Some(direction(up, 0, vec![percent.clone(), policy(PolicyType::Pods, 4)], notes)),
        scale_down: Some(direction(down, DEFAULT_DOWN_WINDOW, vec![percent], notes)),
        replica_profile: None,
    };
    let tolerance =
        |rules: Option<&HPAScalingRules>| rules?.tolerance.as_ref().map(|amount| amount.0.clone());
    let kube_hpa = match (tolerance(up), tolerance(down)) {
        (None, None) => None,
        (Some(up), Some(down)) if up == down => match intake::quantity::milli(&up) {
            Ok(milli) => Some(KubeHpa {
                tolerance: format!("{}.{:03}", milli / 1000, milli % 1000),
                ..KubeHpa::default()
            }),
            Err(error) => {
                notes.push(format!("Not carried over: tolerance {up}: {error}"));
                None
            }
        },
        _ => {
            notes.push(
                "Not carried over: behavior tolerance, which is one for both directions here \
                 (algorithm.kubeHPA.tolerance); 0.1 is used."
                    .to_owned(),
            );
            None
        }
    };
    (behavior, kube_hpa)
}

fn direction(
    rules: Option<&HPAScalingRules>,
    window: i32,
    policies: Vec<ScalingPolicy>,
    notes: &mut Vec<String>,
) -> ScalingBehavior {
    let Some(rules) = rules else {
        return ScalingBehavior {
            stabilization_window_seconds: Some(window),
            policies,
            ..ScalingBehavior::default()
        };
    };
    let given = rules.policies.iter().flatten().filter_map(|policy| {
        let type_ = match policy.type_.as_str() {
            "Pods" => PolicyType::Pods,
            "Percent" => PolicyType::Percent,
            other => {
                notes
                    .push(format!("Not carried over: a policy of type {other}; there are Pods and Percent."));
                return None;
            }
        };
        Some(ScalingPolicy { type_, value: policy.value, period_seconds: policy.period_seconds })
    });
    let given: Vec<ScalingPolicy> = given.collect();
    let select_policy = match rules.select_policy.as_deref() {
        Some("Min") => Some(SelectPolicy::Min),
        Some("Disabled") => Some(SelectPolicy::Disabled),
        _ => None,
    };
    ScalingBehavior {
        stabilization_window_seconds: Some(rules.stabilization_window_seconds.unwrap_or(window)),
        policies: if given.is_empty() { policies } else { given },
        select_policy,
        ..ScalingBehavior::default()
    }
}
