//! Server-side apply with stated, simple semantics.
//!
//! The applied configuration is merged deeply into the object, lists by the keys of built-in kinds (or of the custom
//! resource's schema). What a manager applied before and no longer does is removed, unless another manager applied it
//! too. A differing value that another *apply* manager owns is a conflict without `force`; plain updates own nothing.
//! Owns `metadata.managedFields`, which holds apply managers only.

use super::strategic::{ListKind, list_kind};
use crate::rules::schema::CustomSchema;
use crate::store::{ApiError, MODIFIED, ResourceName};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// One apply request.
pub(crate) struct Request<'a> {
    pub(crate) manager: &'a str,
    pub(crate) force: bool,
    pub(crate) subresource: Option<&'a str>,
    pub(crate) schema: Option<&'a CustomSchema>,
    pub(crate) resource: ResourceName,
    pub(crate) now: Timestamp,
}

/// Fields that identify an object rather than being owned by a manager.
const UNOWNED: [&str; 8] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "selfLink",
];

impl Request<'_> {
    /// Merges `config` into `value`, whose resourceVersion is the present one.
    pub(crate) fn apply(&self, value: &mut Value, config: &Value) -> Result<(), ApiError> {
        let given = config["metadata"]["resourceVersion"].as_str();
        let current = value["metadata"]["resourceVersion"].as_str();
        let name = value["metadata"]["name"].as_str().unwrap_or("");
        if given.is_some() && given != current {
            return Err(ApiError::conflict(self.resource, name, MODIFIED));
        }
        let owned = self.owned(config);
        let mut removable = Map::new();
        for entry in value["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let fields = &entry["fieldsV1"];
            if self.is_mine(entry) {
                removable = fields.as_object().cloned().unwrap_or_default();
            } else if !self.force
                && let Some(path) = self.conflict(fields, value, config, "")
            {
                let other = entry["manager"].as_str().unwrap_or("");
                let message = format!("Apply failed with 1 conflict: conflict with \"{other}\": {path}");
                return Err(ApiError::conflict(self.resource, name, message));
            }
        }
        for entry in value["metadata"]["managedFields"].as_array().into_iter().flatten() {
            if !self.is_mine(entry) {
                subtract(&mut removable, &entry["fieldsV1"]);
            }
        }
        subtract(&mut removable, &owned);
        Self::remove(value, &removable);
        self.merge(value, config, "");
        self.record(value, config);
        Ok(())
    }

    fn is_mine(&self, entry: &Value) -> bool {
        entry["manager"].as_str() == Some(self.manager)
            && entry.get("subresource").and_then(Value::as_str) == self.subresource
    }

    /// Notes in `managedFields` what this manager applies.
    pub(crate) fn record(&self, value: &mut Value, config: &Value) {
        let mut entry = json!({
            "manager": self.manager, "operation": "Apply", "apiVersion": value["apiVersion"],
            "fieldsType": "FieldsV1", "fieldsV1": self.owned(config),
            "time": self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        if let Some(subresource) = self.subresource {
            entry["subresource"] = json!(subresource);
        }
        let fields = &mut value["metadata"]["managedFields"];
        if !fields.is_array() {
            *fields = json!([]);
        }
        let Some(list) = fields.as_array_mut() else { return };
        match list.iter_mut().find(|known| self.is_mine(known)) {
            // An unchanged configuration must not change the object by its time alone.
            Some(known) if known["fieldsV1"] == entry["fieldsV1"] => {}
            Some(known) => *known = entry,
            None => list.push(entry),
        }
    }

    fn list_kind(&self, field: &str, path: &str, sample: Option<&Value>) -> Keys {
        if let Some(schema) = self.schema
            && !path.starts_with(".metadata")
        {
            return schema.list_keys(path).map_or(Keys::Atomic, Keys::By);
        }
        match list_kind(field, sample) {
            ListKind::Keyed(key) => Keys::By(vec![key.to_owned()]),
            ListKind::Set => Keys::Set,
            ListKind::Atomic => Keys::Atomic,
        }
    }

    /// The fields of a configuration in the form of `fieldsV1`.
    fn owned(&self, config: &Value) -> Value {
        let mut fields = self.fields_of(config, "");
        for unowned in ["f:apiVersion", "f:kind"] {
            fields.remove(unowned);
        }
        if let Some(meta) = fields.get_mut("f:metadata").and_then(Value::as_object_mut) {
            meta.retain(|key, _| !UNOWNED.iter().any(|field| key.strip_prefix("f:") == Some(field)));
        }
        if fields.get("f:metadata").and_then(Value::as_object).is_some_and(Map::is_empty) {
            fields.remove("f:metadata");
        }
        Value::Object(fields)
    }

    fn fields_of(&self, value: &Value, path: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        for (key, inner) in value.as_object().into_iter().flatten() {
            let here = format!("{path}.{key}");
            let below = match inner {
                Value::Object(_) => self.fields_of(inner, &here),
                Value::Array(list) => match self.list_kind(key, &here, list.first()) {
                    Keys::By(keys) => list
                        .iter()
                        .map(|e| (element_key(e, &keys), Value::Object(self.fields_of(e, &here))))
                        .collect(),
                    Keys::Set => list.iter().map(|e| (format!("v:{e}"), json!({}))).collect(),
                    Keys::Atomic => Map::new(),
                },
                _ => Map::new(),
            };
            fields.insert(format!("f:{key}"), Value::Object(below));
        }
        fields
    }

    fn merge(&self, value: &mut Value, config: &Value, path: &str) {
        let Value::Object(config) = config else {
            *value = config.clone();
            return;
        };
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        let Some(map) = value.as_object_mut() else { return };
        for (key, wanted) in config {
            let here = format!("{path}.{key}");
            if here == ".metadata.managedFields" {
                continue;
            }
            let slot = map.entry(key.clone()).or_insert(Value::Null);
            let Value::Array(wanted_list) = wanted else {
                self.merge(slot, wanted, &here);
                continue;
            };
            let kind = self.list_kind(key, &here, wanted_list.first());
            let (Some(list), false) = (slot.as_array_mut(), kind == Keys::Atomic) else {
                *slot = wanted.clone();
                continue;
            };
            for element in wanted_list {
                let same = |known: &&mut Value| match &kind {
                    Keys::By(keys) => element_key(known, keys) == element_key(element, keys),
                    _ => *known == element,
                };
                match list.iter_mut().find(same) {
                    Some(known) => self.merge(known, element, &here),
                    None => list.push(element.clone()),
                }
            }
        }
    }

    /// Removes the leaves of `fields` from `value`.
    fn remove(value: &mut Value, fields: &Map<String, Value>) {
        for (key, below) in fields {
            let empty = Map::new();
            let below = below.as_object().unwrap_or(&empty);
            if let Some(field) = key.strip_prefix("f:") {
                let Some(map) = value.as_object_mut() else { return };
                if below.is_empty() {
                    map.remove(field);
                } else if let Some(inner) = map.get_mut(field) {
                    Self::remove(inner, below);
                }
            } else if let Some(list) = value.as_array_mut() {
                let matches = |element: &Value| match key.strip_prefix("k:") {
                    Some(id) => serde_json::from_str::<Map<String, Value>>(id)
                        .is_ok_and(|id| id.iter().all(|(k, v)| element.get(k) == Some(v))),
                    None => key.strip_prefix("v:") == Some(&element.to_string()),
                };
                let whole = |element: &Value| {
                    element
                        .as_object()
                        .is_none_or(|o| o.keys().all(|k| below.contains_key(&format!("f:{k}"))))
                };
                list.retain(|element| !(matches(element) && whole(element)));
                for element in list.iter_mut().filter(|element| matches(element)) {
                    Self::remove(element, below);
                }
            }
        }
    }

    /// The first field that another manager owns and `config` would give another value.
    fn conflict(&self, fields: &Value, value: &Value, config: &Value, path: &str) -> Option<String> {
        for (key, below) in fields.as_object().into_iter().flatten() {
            let Some(field) = key.strip_prefix("f:") else { continue };
            let (Some(old), Some(new)) = (value.get(field), config.get(field)) else { continue };
            let here = format!("{path}.{field}");
            if below.as_object().is_some_and(Map::is_empty) {
                if old != new {
                    return Some(here);
                }
                continue;
            }
            if let (Some(old), Some(new)) = (old.as_array(), new.as_array()) {
                let Keys::By(keys) = self.list_kind(field, &here, new.first()) else { continue };
                for (id, below) in below.as_object().into_iter().flatten() {
                    let find = |list: &[Value]| list.iter().find(|e| element_key(e, &keys) == *id).cloned();
                    if let (Some(old), Some(new)) = (find(old), find(new))
                        && let Some(path) = self.conflict(below, &old, &new, &here)
                    {
                        return Some(path);
                    }
                }
            } else if let Some(path) = self.conflict(below, old, new, &here) {
                return Some(path);
            }
        }
        None
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Keys {
    By(Vec<String>),
    Set,
    Atomic,
}

/// `k:{"name":"a"}`, as `fieldsV1` names an element.
fn element_key(element: &Value, keys: &[String]) -> String {
    let id: Map<String, Value> =
        keys.iter().filter_map(|key| Some((key.clone(), element.get(key)?.clone()))).collect();
    format!("k:{}", Value::Object(id))
}

/// Takes from `fields` what `other` holds too.
fn subtract(fields: &mut Map<String, Value>, other: &Value) {
    fields.retain(|key, below| match (below.as_object_mut(), other.get(key)) {
        (_, None) => true,
        (Some(below), Some(kept)) if !below.is_empty() => {
            subtract(below, kept);
            !below.is_empty()
        }
        _ => false,
    });
}
