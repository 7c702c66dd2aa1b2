//! `tideline import workloads`: autoscalers of others in, IntelligentHorizontalPodAutoscalers out.
//!
//! Owns drafts: what is known of one workload's scaling, from however many objects, and what could not be carried
//! over. The forms of the others are read in a module each.

mod cron_hpa;
mod hpa;
mod keda;

use crate::error::CommandError;
use api::kapacity::{
    Algorithm, CronPortrait, IhpaBehavior, IntelligentHorizontalPodAutoscalerSpec, KubeHpa, MetricSpec,
    PortraitProvider, PortraitSpec, ProviderType, ReplicaCron, StaticPortrait,
};
use intake::files::Object;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Priority of everything that others let compete by the larger number, as equal priorities do here.
const COMPETING: i32 = 1;
/// Priority of what holds where nothing else has a value.
const FALLBACK: i32 = 0;

/// What is known of one workload's scaling.
#[derive(Debug)]
struct Draft {
    /// Kinds and names of the objects that it is from.
    from: Vec<String>,
    name: String,
    namespace: Option<String>,
    target: CrossVersionObjectReference,
    min: i32,
    max: i32,
    paused: bool,
    providers: Vec<PortraitProvider>,
    behavior: Option<IhpaBehavior>,
    /// What could not be carried over, and what else there is to do.
    notes: Vec<String>,
}

/// The answer for all objects of the given files, as YAML.
pub(super) fn translate(objects: &[Object], zone: &str) -> Result<String, CommandError> {
    let (mut drafts, mut problems): (Vec<Draft>, Vec<String>) = (Vec::new(), Vec::new());
    // Those that point at an HPA come after it.
    let mut ordered: Vec<&Object> = objects.iter().collect();
    ordered.sort_by_key(|object| object.kind() == "CronHorizontalPodAutoscaler");
    for object in ordered {
        let read = match (object.kind(), object.api_version()) {
            ("HorizontalPodAutoscaler", version) => hpa::read(object, version),
            ("ScaledObject", version) if version.starts_with("keda.sh/") => keda::read(object),
            ("CronHorizontalPodAutoscaler", _) => cron_hpa::read(object, zone),
            (kind, version) => Err(format!(
                "{kind} of {version} is no autoscaler that can be imported; there are HorizontalPodAutoscaler, \
                 ScaledObject and CronHorizontalPodAutoscaler"
            )),
        };
        match read {
            Ok(draft) => add(&mut drafts, draft),
            Err(why) => problems.push(format!("{} {}: {why}", object.origin, named(object))),
        }
    }
    drafts.retain_mut(|draft| {
        let kept = !draft.providers.is_empty();
        if !kept {
            problems.push(format!(
                "{}: nothing can be carried over: {}",
                draft.from.join(", "),
                draft.notes.join(" ")
            ));
        }
        kept
    });
    if drafts.is_empty() {
        return Err(CommandError::Input(if problems.is_empty() {
            "no objects were given".to_owned()
        } else {
            problems.join("\n")
        }));
    }
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "# NOT IMPORTED: {}", problem.replace('\n', " "));
    }
    for draft in drafts {
        text.push_str(&draft.text()?);
    }
    Ok(text)
}

/// Another object for the same workload joins the draft that is there.
fn add(drafts: &mut Vec<Draft>, mut draft: Draft) {
    let same = |known: &&mut Draft| {
        let at_hpa = draft.target.kind == "HorizontalPodAutoscaler" && known.name == draft.target.name;
        let at_workload = known.target.kind == draft.target.kind && known.target.name == draft.target.name;
        known.namespace == draft.namespace && (at_hpa || at_workload)
    };
    let Some(known) = drafts.iter_mut().find(same) else {
        if draft.target.kind == "HorizontalPodAutoscaler" {
            draft.notes.push(format!(
                "It scales through HorizontalPodAutoscaler {}, which is not among the given objects: give both.",
                draft.target.name
            ));
            draft.providers.clear();
        }
        drafts.push(draft);
        return;
    };
    known.from.append(&mut draft.from);
    known.min = known.min.min(draft.min);
    known.max = known.max.max(draft.max);
    known.paused |= draft.paused;
    known.providers.append(&mut draft.providers);
    known.notes.append(&mut draft.notes);
    match (&known.behavior, draft.behavior) {
        (None, behavior) => known.behavior = behavior,
        (Some(_), Some(_)) => known.notes.push("The behavior of the first object is kept.".to_owned()),
        (Some(_), None) => {}
    }
    if known.providers.iter().filter(|provider| provider.type_ == ProviderType::Dynamic).count() > 1 {
        join_reactive(&mut known.providers);
    }
}

/// One reactive portrait serves all metrics: the largest wish counts, as between several autoscalers.
fn join_reactive(providers: &mut Vec<PortraitProvider>) {
    let mut metrics = Vec::new();
    providers.retain_mut(|provider| match &mut provider.dynamic {
        Some(portrait) => {
            metrics.append(&mut portrait.metrics);
            false
        }
        None => true,
    });
    providers.push(reactive(metrics, None));
}

impl Draft {
    fn text(self) -> Result<String, CommandError> {
        let mut text = format!("---\n# From {}.\n", self.from.join(" and "));
        for note in &self.notes {
            let _ = writeln!(text, "# {}", note.replace('\n', "\n# "));
        }
        let spec = IntelligentHorizontalPodAutoscalerSpec {
            scale_target_ref: self.target,
            paused: self.paused,
            min_replicas: self.min,
            max_replicas: self.max,
            portrait_providers: self.providers,
            behavior: self.behavior,
            ..IntelligentHorizontalPodAutoscalerSpec::default()
        };
        let encode = |why: String| CommandError::Encode { what: format!("autoscaler {}", self.name), why };
        let mut spec = serde_json::to_value(&spec).map_err(|error| encode(error.to_string()))?;
        without_defaults(&mut spec);
        let mut metadata = json!({"name": self.name});
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = namespace.as_str().into();
        }
        let object = json!({
            "apiVersion": "autoscaling.kapacitystack.io/v1alpha1", "kind": "IntelligentHorizontalPodAutoscaler",
            "metadata": metadata, "spec": spec,
        });
        Ok(text + &serde_saphyr::to_string(&object).map_err(|error| encode(error.to_string()))?)
    }
}

/// Takes out what the server fills in with the same values.
fn without_defaults(spec: &mut Value) {
    let defaults = [("paused", json!(false)), ("scaleMode", json!("Auto"))];
    if let Some(fields) = spec.as_object_mut() {
        fields
            .retain(|name, value| !defaults.iter().any(|(known, default)| known == name && default == value));
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(fields) =
            spec.pointer_mut(&format!("/behavior/{direction}")).and_then(Value::as_object_mut)
        {
            fields.retain(|name, value| name != "disabled" || value != &json!(false));
        }
    }
}

/// `ScaledObject shop/web`, for messages.
fn named(object: &Object) -> String {
    let text = |path: &str| object.value.pointer(path).and_then(Value::as_str);
    let name = text("/metadata/name").unwrap_or("without a name");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{} {namespace}/{name}", object.kind()),
        None => format!("{} {name}", object.kind()),
    }
}

/// Decodes a value; the message names the field.
fn decode<T: DeserializeOwned>(under: &str, value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| format!("{under}{}: {}", error.path(), error.inner()))
}

/// A draft with what every kind has: a name, a namespace, a target.
fn draft(object: &Object, target: CrossVersionObjectReference) -> Result<Draft, String> {
    let text = |path: &str| object.value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let name = text("/metadata/name").ok_or("metadata.name is missing; write one")?;
    if target.name.is_empty() || target.kind.is_empty() {
        return Err("spec.scaleTargetRef needs kind and name; write both".to_owned());
    }
    Ok(Draft {
        from: vec![named(object)],
        name,
        namespace: text("/metadata/namespace"),
        target,
        min: 1,
        max: 1,
        paused: false,
        providers: Vec::new(),
        behavior: None,
        notes: Vec::new(),
    })
}

fn fixed(replicas: i32, priority: i32) -> PortraitProvider {
    PortraitProvider {
        type_: ProviderType::Static,
        priority,
        static_: Some(StaticPortrait { replicas }),
        ..PortraitProvider::default()
    }
}

fn scheduled(crons: Vec<ReplicaCron>) -> PortraitProvider {
    PortraitProvider {
        type_: ProviderType::Cron,
        priority: COMPETING,
        cron: Some(CronPortrait { crons }),
        ..PortraitProvider::default()
    }
}

fn reactive(metrics: Vec<MetricSpec>, kube_hpa: Option<KubeHpa>) -> PortraitProvider {
    let algorithm = Algorithm { type_: "KubeHPA".to_owned(), kube_hpa, ..Algorithm::default() };
    PortraitProvider {
        type_: ProviderType::Dynamic,
        priority: COMPETING,
        dynamic: Some(PortraitSpec {
            portrait_type: "Reactive".to_owned(),
            metrics,
            algorithm,
            ..PortraitSpec::default()
        }),
        ..PortraitProvider::default()
    }
}

#[cfg(test)]
mod tests;
