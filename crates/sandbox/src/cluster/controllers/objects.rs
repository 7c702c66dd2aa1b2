//! What controllers read from objects, and the objects that they make.
//!
//! Works on the JSON that the store keeps: a controller touches a handful of fields of objects that it passes on
//! unread.

use crate::store::{Object, ResourceName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as RawSelector;
use model::LabelSelector;
use serde_json::{Map, Value, json};

/// Namespace (empty where there is none) and name.
pub(crate) type Key = (String, String);

pub(crate) fn key_of(object: &Object) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

pub(crate) fn int(object: &Object, path: &str) -> Option<i64> {
    object.at(path)?.as_i64()
}

/// The owner that controls an object: kind, name, uid.
pub(crate) fn controller_of(object: &Object) -> Option<(&str, &str, &str)> {
    let owners = object.metadata()?.get("ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))?;
    let text = |field| owner.get(field).and_then(Value::as_str);
    Some((text("kind")?, text("name")?, text("uid")?))
}

/// The uids of all owners.
pub(crate) fn owner_uids(object: &Object) -> impl Iterator<Item = &str> {
    let owners = object.metadata().and_then(|m| m.get("ownerReferences")).and_then(Value::as_array);
    owners.into_iter().flatten().filter_map(|o| o.get("uid")?.as_str())
}

pub(crate) fn node_of(pod: &Object) -> Option<&str> {
    pod.text("spec.nodeName").filter(|name| !name.is_empty())
}

pub(crate) fn has_ended(pod: &Object) -> bool {
    matches!(pod.text("status.phase"), Some("Succeeded" | "Failed"))
}

/// Neither ended nor on its way out: what workload controllers count.
pub(crate) fn is_active(pod: &Object) -> bool {
    !has_ended(pod) && !pod.is_terminating()
}

pub(crate) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    let conditions = object.at("status.conditions")?.as_array()?;
    conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))
}

pub(crate) fn condition_status<'a>(object: &'a Object, kind: &str) -> Option<&'a str> {
    condition(object, kind)?.get("status")?.as_str()
}

pub(crate) fn is_ready(pod: &Object) -> bool {
    condition_status(pod, "Ready") == Some("True")
}

/// When a condition last changed.
pub(crate) fn condition_since(object: &Object, kind: &str) -> Option<jiff::Timestamp> {
    condition(object, kind)?.get("lastTransitionTime")?.as_str()?.parse().ok()
}

/// Sets a condition; its transition time moves only with its status. True where anything changed.
pub(crate) fn set_condition(
    value: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: jiff::Timestamp,
) -> bool {
    let mut new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp(now),
    });
    if message.is_empty()
        && let Some(new) = new.as_object_mut()
    {
        new.remove("message");
    }
    let conditions = &mut value["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return false };
    match list.iter_mut().find(|c| c.get("type").and_then(Value::as_str) == Some(kind)) {
        Some(old) => {
            let same = |field: &str| old.get(field) == new.get(field);
            if same("status") && same("reason") && same("message") {
                return false;
            }
            if same("status") {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = new;
        }
        None => list.push(new),
    }
    true
}

/// A moment as the API writes it, in whole seconds.
pub(crate) fn stamp(now: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// Reads a selector; `None` where it is absent or cannot be read (it then selects nothing).
pub(crate) fn selector_at(object: &Object, path: &str) -> Option<LabelSelector> {
    let raw: RawSelector = serde::Deserialize::deserialize(object.at(path)?).ok()?;
    intake::label_selector(&raw).ok()
}

/// Whether a selector matches labels as the store keeps them.
pub(crate) fn selects(selector: &LabelSelector, labels: Option<&Map<String, Value>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    selector.match_labels.iter().all(|(k, v)| value(k) == Some(v))
        && selector.match_expressions.iter().all(|r| r.matches_value(value(&r.key)))
}

pub(crate) fn owner_reference(owner: &Object, api_version: &str, kind: &str) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": owner.name(), "uid": owner.uid(),
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// A pod from a template, owned by `owner`.
pub(crate) fn pod_from_template(template: &Value, name: &PodName<'_>, owner: Value) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(found) = template.get("metadata").and_then(|m| m.get(field)).filter(|v| !v.is_null()) {
            metadata.insert(field.to_owned(), found.clone());
        }
    }
    match name {
        PodName::Generated(base) => {
            metadata.insert("generateName".to_owned(), Value::from(format!("{base}-")))
        }
        PodName::Fixed(name) => metadata.insert("name".to_owned(), Value::from(*name)),
    };
    metadata.insert("ownerReferences".to_owned(), Value::Array(vec![owner]));
    let spec = template.get("spec").cloned().unwrap_or_default();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

pub(crate) enum PodName<'a> {
    /// With a random suffix.
    Generated(&'a str),
    Fixed(&'a str),
}

/// A short hash of a template, in the alphabet of generated names.
pub(crate) fn template_hash(template: &Value) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let text = template.to_string();
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut out = String::new();
    for _ in 0..10 {
        out.push(char::from(ALPHABET[(hash % 27) as usize]));
        hash /= 27;
    }
    out
}

/// An `IntOrString` field against a total.
pub(crate) fn share(value: Option<&Value>, total: i64, round_up: bool) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.trim().parse().ok()?;
            let scaled = percent.saturating_mul(total);
            Some(if round_up { scaled.saturating_add(99).div_euclid(100) } else { scaled.div_euclid(100) })
        }
        _ => None,
    }
}

/// An object by resource, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) resource: ResourceName,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Reference {
    pub(crate) fn to(object: &Object) -> Self {
        Self {
            resource: object.resource(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        }
    }
}
