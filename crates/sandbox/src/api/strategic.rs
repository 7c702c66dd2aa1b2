//! Strategic merge patch of built-in kinds: maps merge, lists of named things merge by their key.
//!
//! Owns the table of merge keys, which server-side apply shares, and the `$` directives. The table goes by the name of
//! the field, which is enough for the built-in kinds served here.

use crate::store::ApiError;
use serde_json::{Map, Value};

/// How a list of a built-in kind merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// Elements are maps told apart by this field.
    Keyed(&'static str),
    /// Elements are values, each at most once.
    Set,
    /// The list is one value.
    Atomic,
}

/// How the list in this field merges; `sample` is an element, for fields whose name alone does not tell.
pub(crate) fn list_kind(field: &str, sample: Option<&Value>) -> ListKind {
    let has = |key: &str| sample.is_some_and(|element| element.get(key).is_some());
    match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims" => ListKind::Keyed("name"),
        "secrets" if has("name") => ListKind::Keyed("name"),
        "ports" if has("containerPort") => ListKind::Keyed("containerPort"),
        "ports" if has("port") => ListKind::Keyed("port"),
        "volumeMounts" => ListKind::Keyed("mountPath"),
        "volumeDevices" => ListKind::Keyed("devicePath"),
        "hostAliases" | "podIPs" => ListKind::Keyed("ip"),
        "topologySpreadConstraints" => ListKind::Keyed("topologyKey"),
        "conditions" | "addresses" => ListKind::Keyed("type"),
        "ownerReferences" => ListKind::Keyed("uid"),
        "finalizers" | "podCIDRs" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

pub(crate) fn apply(value: &mut Value, patch: Value) -> Result<(), ApiError> {
    let Value::Object(patch) = patch else {
        return Err(ApiError::BadRequest("a strategic merge patch must be a JSON object".to_owned()));
    };
    merge_map(value, patch)
}

fn wrong(directive: &str, value: &Value) -> ApiError {
    ApiError::BadRequest(format!("invalid value {value} of the patch directive {directive}"))
}

fn merge_map(value: &mut Value, mut patch: Map<String, Value>) -> Result<(), ApiError> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Some(map) = value.as_object_mut() else { return Ok(()) };
    if let Some(directive) = patch.remove("$patch") {
        match directive.as_str() {
            Some("replace") => {
                map.clear();
                map.extend(patch);
                return Ok(());
            }
            Some("delete") => {
                map.clear();
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(wrong("$patch", &directive)),
        }
    }
    if let Some(kept) = patch.remove("$retainKeys") {
        let kept = kept.as_array().ok_or_else(|| wrong("$retainKeys", &kept))?.clone();
        map.retain(|key, _| kept.iter().any(|k| k.as_str() == Some(key)));
    }
    let orders = take_prefixed(&mut patch, "$setElementOrder/");
    for (field, removed) in take_prefixed(&mut patch, "$deleteFromPrimitiveList/") {
        let removed = removed.as_array().cloned().unwrap_or_default();
        if let Some(list) = map.get_mut(&field).and_then(Value::as_array_mut) {
            list.retain(|element| !removed.contains(element));
        }
    }
    for (field, change) in patch {
        match change {
            Value::Null => {
                map.remove(&field);
            }
            Value::Object(change) => merge_map(map.entry(field).or_insert(Value::Null), change)?,
            Value::Array(change) => merge_list(map, field, change)?,
            other => {
                map.insert(field, other);
            }
        }
    }
    for (field, order) in orders {
        if let (Some(list), Some(order)) =
            (map.get_mut(&field).and_then(Value::as_array_mut), order.as_array())
        {
            set_order(&field, list, order);
        }
    }
    Ok(())
}

fn take_prefixed(patch: &mut Map<String, Value>, prefix: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = patch.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
    keys.into_iter().filter_map(|key| Some((key[prefix.len()..].to_owned(), patch.remove(&key)?))).collect()
}

fn merge_list(map: &mut Map<String, Value>, field: String, change: Vec<Value>) -> Result<(), ApiError> {
    let replaces = |element: &Value| element.get("$patch").and_then(Value::as_str) == Some("replace");
    let old = map.get(&field).and_then(Value::as_array);
    let sample = change.iter().find(|e| e.get("$patch").is_none()).or_else(|| old.and_then(|l| l.first()));
    let kind = list_kind(&field, sample.or_else(|| change.first()));
    if change.iter().any(replaces) {
        map.insert(field, Value::Array(change.into_iter().filter(|e| !replaces(e)).collect()));
        return Ok(());
    }
    let entry = map.entry(field).or_insert_with(|| Value::Array(Vec::new()));
    if !entry.is_array() {
        *entry = Value::Array(Vec::new());
    }
    let Some(list) = entry.as_array_mut() else { return Ok(()) };
    match kind {
        ListKind::Atomic => *list = change,
        ListKind::Set => {
            for element in change {
                if !list.contains(&element) {
                    list.push(element);
                }
            }
        }
        ListKind::Keyed(key) => merge_keyed(list, key, change)?,
    }
    Ok(())
}

fn merge_keyed(list: &mut Vec<Value>, key: &str, change: Vec<Value>) -> Result<(), ApiError> {
    for element in change {
        let Some(id) = element.get(key).cloned() else {
            return Err(ApiError::BadRequest(format!(
                "map: {element} does not contain declared merge key: {key}"
            )));
        };
        let at = list.iter().position(|known| known.get(key) == Some(&id));
        if element.get("$patch").and_then(Value::as_str) == Some("delete") {
            list.retain(|known| known.get(key) != Some(&id));
            continue;
        }
        let Value::Object(element) = element else { continue };
        if let Some(at) = at {
            merge_map(&mut list[at], element)?;
        } else {
            let mut fresh = Value::Object(Map::new());
            merge_map(&mut fresh, element)?;
            list.push(fresh);
        }
    }
    Ok(())
}

/// Puts the named elements in the given order; the others keep their places after them.
fn set_order(field: &str, list: &mut [Value], order: &[Value]) {
    let place = |element: &Value| {
        let same = |wanted: &Value| match list_kind(field, Some(element)) {
            ListKind::Keyed(key) => wanted.get(key) == element.get(key),
            _ => wanted == element,
        };
        order.iter().position(same).unwrap_or(usize::MAX)
    };
    list.sort_by_cached_key(place);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut value: Value, patch: Value) -> Value {
        apply(&mut value, patch).unwrap();
        value
    }

    #[test]
    fn containers_merge_by_name_and_taints_are_one_value() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
        let change = json!({"spec": {
            "containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}, {"name": "a", "$patch": "delete"}],
        }});
        let names = json!([{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]);
        assert_eq!(patched(pod, change)["spec"]["containers"], names);
        let node = json!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}});
        assert_eq!(patched(node, json!({"spec": {"taints": []}})), json!({"spec": {"taints": []}}));
    }

    #[test]
    fn directives() {
        let value = json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}, "finalizers": ["a", "b"]});
        let change = json!({
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            "$deleteFromPrimitiveList/finalizers": ["a"],
        });
        assert_eq!(patched(value, change), json!({"strategy": {"type": "Recreate"}, "finalizers": ["b"]}));
        let value = json!({"env": [{"name": "a"}, {"name": "b"}]});
        let change = json!({"$setElementOrder/env": [{"name": "b"}, {"name": "a"}], "env": [{"name": "b", "value": "1"}]});
        assert_eq!(patched(value, change), json!({"env": [{"name": "b", "value": "1"}, {"name": "a"}]}));
        assert!(apply(&mut json!({}), json!({"env": [{"value": "1"}]})).is_err());
    }
}
