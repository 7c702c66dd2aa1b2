//! Structural schemas of custom resources: defaults, pruning, validation.
//!
//! Owns reading `openAPIV3Schema` and what follows from it for objects. Rules (`x-kubernetes-validations`)
//! are evaluated as far as `cel` understands them. Leaves registering a resource to `custom`.

use super::cel::{self, Expression};
use crate::store::Cause;
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Deepest nesting of a schema that is read.
const DEEPEST: usize = 64;

/// One column of `kubectl get` for a custom resource.
#[derive(Clone, Debug)]
pub(crate) struct PrinterColumn {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) format: String,
    pub(crate) description: String,
    pub(crate) path: String,
    pub(crate) priority: i64,
}

/// The schema and columns of a custom resource.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    root: Node,
    raw: Value,
    pub(crate) columns: Vec<PrinterColumn>,
}

/// What a schema says of one place in an object.
#[derive(Clone, Debug, Default)]
struct Node {
    kind: Option<String>,
    nullable: bool,
    properties: BTreeMap<String, Node>,
    /// For keys that are not in `properties`.
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    required: Vec<String>,
    allowed: Vec<Value>,
    minimum: Option<(f64, bool)>,
    maximum: Option<(f64, bool)>,
    lengths: (Option<u64>, Option<u64>),
    items_count: (Option<u64>, Option<u64>),
    properties_count: (Option<u64>, Option<u64>),
    pattern: Option<Regex>,
    default: Option<Value>,
    keeps_unknown: bool,
    int_or_string: bool,
    list_keys: Vec<String>,
    all_of: Vec<Node>,
    any_of: Vec<Node>,
    one_of: Vec<Node>,
    not: Option<Box<Node>>,
    rules: Vec<Rule>,
}

/// One of `x-kubernetes-validations` that is understood.
#[derive(Clone, Debug)]
struct Rule {
    expression: Expression,
    message: String,
}

impl CustomSchema {
    /// Reads the schema and columns of one version of a CRD.
    pub(crate) fn read(version: &Value) -> Result<Self, Cause> {
        let raw = version["schema"]["openAPIV3Schema"].clone();
        let root = if raw.is_null() {
            Node { keeps_unknown: true, ..Node::default() }
        } else {
            Node::read(&raw, "spec.versions.schema.openAPIV3Schema", 0)?
        };
        let text = |column: &Value, field: &str| column[field].as_str().unwrap_or("").to_owned();
        let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
        let columns = columns.map(|column| PrinterColumn {
            name: text(column, "name"),
            kind: text(column, "type"),
            format: text(column, "format"),
            description: text(column, "description"),
            path: text(column, "jsonPath"),
            priority: column["priority"].as_i64().unwrap_or(0),
        });
        Ok(Self { root, raw, columns: columns.collect() })
    }

    /// The schema as OpenAPI shows it.
    pub(crate) fn open_api(&self) -> Value {
        if self.raw.is_null() {
            return json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        }
        let mut raw = self.raw.clone();
        raw["properties"]["apiVersion"] = json!({"type": "string"});
        raw["properties"]["kind"] = json!({"type": "string"});
        raw["properties"]["metadata"] = json!({"type": "object"});
        raw
    }

    /// The keys by which the list at `path` (`.spec.items`) merges; none when it is one value.
    pub(crate) fn list_keys(&self, path: &str) -> Option<Vec<String>> {
        let mut node = &self.root;
        for step in path.split('.').filter(|step| !step.is_empty()) {
            node = node.items.as_deref().unwrap_or(node);
            node = node.properties.get(step).or(node.additional.as_deref())?;
        }
        (!node.list_keys.is_empty()).then(|| node.list_keys.clone())
    }

    /// Removes what the schema does not know and fills in its defaults. Returns the paths that were removed.
    pub(crate) fn complete(&self, value: &mut Value) -> Vec<String> {
        let mut pruned = Vec::new();
        if let Some(object) = value.as_object_mut() {
            let kept = ["apiVersion", "kind", "metadata"].map(|field| (field, object.remove(field)));
            self.root.prune(value, "", &mut pruned);
            self.root.fill(value);
            if let Some(object) = value.as_object_mut() {
                object.extend(kept.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))));
            }
        }
        pruned
    }

    /// Collects where an object breaks the schema.
    pub(crate) fn validate(&self, value: &Value, causes: &mut Vec<Cause>) {
        for (field, node) in &self.root.properties {
            if matches!(field.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            if let Some(inner) = value.get(field) {
                node.check(inner, field, causes);
            }
        }
        self.root.check_required(value, "", causes);
        self.root.check_rules(value, "", causes);
    }
}

impl Node {
    fn read(raw: &Value, path: &str, depth: usize) -> Result<Self, Cause> {
        if depth > DEEPEST {
            return Err(Cause::invalid(path, "…", "the schema is nested too deeply"));
        }
        let read = |raw: &Value, path: String| Self::read(raw, &path, depth + 1);
        let many = |field: &str| -> Result<Vec<Self>, Cause> {
            raw[field].as_array().into_iter().flatten().map(|n| read(n, format!("{path}.{field}"))).collect()
        };
        let boxed = |field: &str| -> Result<Option<Box<Self>>, Cause> {
            match &raw[field] {
                inner @ Value::Object(_) => Ok(Some(Box::new(read(inner, format!("{path}.{field}"))?))),
                Value::Bool(true) => Ok(Some(Box::new(Self { keeps_unknown: true, ..Self::default() }))),
                _ => Ok(None),
            }
        };
        let mut properties = BTreeMap::new();
        for (name, inner) in raw["properties"].as_object().into_iter().flatten() {
            properties.insert(name.clone(), read(inner, format!("{path}.properties[{name}]"))?);
        }
        let pattern = match raw["pattern"].as_str() {
            None => None,
            Some(text) => Some(
                Regex::new(text)
                    .map_err(|e| Cause::invalid(format!("{path}.pattern"), text, &e.to_string()))?,
            ),
        };
        let texts = |field: &str| -> Vec<String> {
            raw[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let flag = |field: &str| raw[field] == Value::Bool(true);
        let counts = |low: &str, high: &str| (raw[low].as_u64(), raw[high].as_u64());
        let list_keys = if raw["x-kubernetes-list-type"] == "map" {
            texts("x-kubernetes-list-map-keys")
        } else {
            Vec::new()
        };
        Ok(Self {
            kind: raw["type"].as_str().map(str::to_owned),
            nullable: flag("nullable"),
            properties,
            additional: boxed("additionalProperties")?,
            items: boxed("items")?,
            required: texts("required"),
            allowed: raw["enum"].as_array().cloned().unwrap_or_default(),
            minimum: raw["minimum"].as_f64().map(|bound| (bound, flag("exclusiveMinimum"))),
            maximum: raw["maximum"].as_f64().map(|bound| (bound, flag("exclusiveMaximum"))),
            lengths: counts("minLength", "maxLength"),
            items_count: counts("minItems", "maxItems"),
            properties_count: counts("minProperties", "maxProperties"),
            pattern,
            default: raw.get("default").cloned(),
            keeps_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list_keys,
            all_of: many("allOf")?,
            any_of: many("anyOf")?,
            one_of: many("oneOf")?,
            not: boxed("not")?,
            rules: raw["x-kubernetes-validations"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Rule::read)
                .collect(),
        })
    }

    fn prune(&self, value: &mut Value, path: &str, pruned: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let known = |key: &str| {
                    self.keeps_unknown || self.additional.is_some() || self.properties.contains_key(key)
                };
                let unknown: Vec<String> = map.keys().filter(|key| !known(key)).cloned().collect();
                for key in unknown {
                    map.remove(&key);
                    pruned.push(format!("{path}{}{key}", if path.is_empty() { "" } else { "." }));
                }
                for (key, inner) in map {
                    if let Some(node) = self.properties.get(key).or(self.additional.as_deref()) {
                        node.prune(
                            inner,
                            &format!("{path}{}{key}", if path.is_empty() { "" } else { "." }),
                            pruned,
                        );
                    }
                }
            }
            Value::Array(list) => {
                if let Some(node) = &self.items {
                    for (index, inner) in list.iter_mut().enumerate() {
                        node.prune(inner, &format!("{path}[{index}]"), pruned);
                    }
                }
            }
            _ => {}
        }
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                for (key, node) in &self.properties {
                    let missing = match map.get(key) {
                        None => true,
                        Some(inner) => inner.is_null() && !node.nullable,
                    };
                    match (&node.default, missing) {
                        (Some(default), true) => {
                            map.insert(key.clone(), default.clone());
                        }
                        (None, true) => {
                            map.remove(key);
                        }
                        _ => {}
                    }
                    if let Some(inner) = map.get_mut(key) {
                        node.fill(inner);
                    }
                }
                if let Some(node) = &self.additional {
                    map.iter_mut()
                        .filter(|(key, _)| !self.properties.contains_key(*key))
                        .for_each(|(_, v)| node.fill(v));
                }
            }
            Value::Array(list) => {
                if let Some(node) = &self.items {
                    for inner in list {
                        node.fill(inner);
                    }
                }
            }
            _ => {}
        }
    }

    fn check_required(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let dot = if path.is_empty() { "" } else { "." };
        for field in self.required.iter().filter(|field| value.get(field.as_str()).is_none()) {
            causes.push(Cause::required(format!("{path}{dot}{field}"), ""));
        }
    }

    fn check(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        if value.is_null() && self.nullable {
            return;
        }
        if !self.has_type(value) {
            let wanted = if self.int_or_string {
                "integer or string"
            } else {
                self.kind.as_deref().unwrap_or("object")
            };
            let message = format!("{path} in body must be of type {wanted}: \"{}\"", type_of(value));
            let cause = Cause::invalid(path, format!("\"{}\"", type_of(value)), &message);
            causes.push(Cause { reason: "FieldValueTypeInvalid", ..cause });
            return;
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let supported: Vec<String> = self.allowed.iter().map(ToString::to_string).collect();
            causes.push(Cause {
                reason: "FieldValueNotSupported",
                field: path.to_owned(),
                message: format!("Unsupported value: {value}: supported values: {}", supported.join(", ")),
            });
        }
        match value {
            Value::Number(number) => self.check_number(number.as_f64().unwrap_or(0.0), path, causes),
            Value::String(text) => self.check_text(text, path, causes),
            Value::Array(list) => {
                check_count(list.len(), self.items_count, path, "items", causes);
                if let Some(node) = &self.items {
                    for (index, inner) in list.iter().enumerate() {
                        node.check(inner, &format!("{path}[{index}]"), causes);
                    }
                }
                self.check_keys(list, path, causes);
            }
            Value::Object(map) => {
                check_count(map.len(), self.properties_count, path, "properties", causes);
                self.check_required(value, path, causes);
                self.check_map(map, path, causes);
            }
            Value::Null | Value::Bool(_) => {}
        }
        self.check_junctors(value, path, causes);
        self.check_rules(value, path, causes);
    }

    fn check_rules(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        for rule in &self.rules {
            let message = match cel::holds(&rule.expression, value) {
                Ok(true) => continue,
                Ok(false) => rule.message.clone(),
                Err(problem) => format!("{problem} evaluating rule: {}", rule.message),
            };
            causes.push(Cause::invalid(path, format!("\"{}\"", type_of(value)), &message));
        }
    }

    fn has_type(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.kind.as_deref() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            Some("number") => value.is_number(),
            _ => true,
        }
    }

    fn check_number(&self, number: f64, path: &str, causes: &mut Vec<Cause>) {
        let mut wrong = |words: &str, bound: f64| {
            causes.push(Cause::invalid(path, number, &format!("{path} in body should be {words} {bound}")));
        };
        match self.minimum {
            Some((bound, true)) if number <= bound => wrong("greater than", bound),
            Some((bound, false)) if number < bound => wrong("greater than or equal to", bound),
            _ => {}
        }
        match self.maximum {
            Some((bound, true)) if number >= bound => wrong("less than", bound),
            Some((bound, false)) if number > bound => wrong("less than or equal to", bound),
            _ => {}
        }
    }

    fn check_text(&self, text: &str, path: &str, causes: &mut Vec<Cause>) {
        check_count(text.chars().count(), self.lengths, path, "chars", causes);
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            let message = format!("{path} in body should match '{pattern}'");
            causes.push(Cause::invalid(path, format!("\"{text}\""), &message));
        }
    }

    fn check_map(&self, map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
        for (key, inner) in map {
            if let Some(node) = self.properties.get(key).or(self.additional.as_deref()) {
                node.check(inner, &format!("{path}.{key}"), causes);
            }
        }
    }

    /// Elements of a keyed list must have different keys.
    fn check_keys(&self, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
        if self.list_keys.is_empty() {
            return;
        }
        let key = |element: &Value| -> Vec<String> {
            self.list_keys
                .iter()
                .map(|key| element.get(key).map(ToString::to_string).unwrap_or_default())
                .collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for (index, element) in list.iter().enumerate() {
            if !seen.insert(key(element)) {
                causes.push(Cause {
                    reason: "FieldValueDuplicate",
                    field: format!("{path}[{index}]"),
                    message: format!("Duplicate value: {element}"),
                });
            }
        }
    }

    fn check_junctors(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let fits = |node: &Self| {
            let mut found = Vec::new();
            node.check(value, path, &mut found);
            found.is_empty()
        };
        for node in &self.all_of {
            node.check(value, path, causes);
        }
        let mut wrong =
            |words: &str| causes.push(Cause::invalid(path, value, &format!("{path} in body {words}")));
        if !self.any_of.is_empty() && !self.any_of.iter().any(fits) {
            wrong("must validate at least one schema (anyOf)");
        }
        if !self.one_of.is_empty() && self.one_of.iter().filter(|node| fits(node)).count() != 1 {
            wrong("must validate one and only one schema (oneOf)");
        }
        if self.not.as_deref().is_some_and(fits) {
            wrong("must not validate the schema (not)");
        }
    }
}

impl Rule {
    fn read(raw: &Value) -> Option<Self> {
        let text = raw["rule"].as_str()?;
        let message = raw["message"].as_str().map_or_else(|| format!("failed rule: {text}"), str::to_owned);
        Some(Self { expression: cel::parse(text)?, message })
    }
}

fn check_count(
    count: usize,
    (low, high): (Option<u64>, Option<u64>),
    path: &str,
    what: &str,
    causes: &mut Vec<Cause>,
) {
    let count = count as u64;
    if let Some(low) = low.filter(|low| count < *low) {
        causes.push(Cause::invalid(
            path,
            count,
            &format!("{path} in body should have at least {low} {what}"),
        ));
    }
    if let Some(high) = high.filter(|high| count > *high) {
        let cause = Cause::invalid(path, count, &format!("{path} in body should have at most {high} {what}"));
        let reason = match what {
            "items" | "properties" => "FieldValueTooMany",
            _ => "FieldValueTooLong",
        };
        causes.push(Cause { reason, ..cause });
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> CustomSchema {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "required": ["max"],
            "properties": {
                "max": {"type": "integer", "minimum": 0},
                "mode": {"type": "string", "enum": ["A", "B"], "default": "A"},
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "share": {"x-kubernetes-int-or-string": true},
                "taints": {
                    "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["key"],
                    "items": {"type": "object", "properties": {"key": {"type": "string"}}},
                },
            },
        }}});
        CustomSchema::read(&json!({"schema": {"openAPIV3Schema": schema}})).unwrap()
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut value = json!({"kind": "X", "metadata": {"name": "a"}, "spec": {"max": 1, "odd": {"a": 1}, "taints": [{"key": "k", "v": 1}]}});
        assert_eq!(schema().complete(&mut value), ["spec.odd", "spec.taints[0].v"]);
        assert_eq!(value["spec"], json!({"max": 1, "mode": "A", "taints": [{"key": "k"}]}));
        assert_eq!(value["metadata"]["name"], "a");
        assert_eq!(schema().list_keys(".spec.taints"), Some(vec!["key".to_owned()]));
    }

    #[test]
    fn broken_objects_are_told_where() {
        let mut causes = Vec::new();
        let value = json!({"spec": {"max": -1, "mode": "C", "name": "X1", "share": true, "taints": [{"key": "k"}, {"key": "k"}]}});
        schema().validate(&value, &mut causes);
        let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(fields, ["spec.max", "spec.mode", "spec.name", "spec.share", "spec.taints[1]"]);
        let mut causes = Vec::new();
        schema().validate(&json!({"spec": {}}), &mut causes);
        assert_eq!(causes[0].message, "Required value");
    }
}
