//! Label and field selectors of list and watch.
//!
//! Owns their grammar and the list of fields that each resource can be selected by.

use crate::store::resource::{
    EVENTS, JOBS, NAMESPACES, NODES, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, SECRETS,
};
use crate::store::{ApiError, Object, ResourceName, is_label_value};
use serde_json::Value;
use std::borrow::Cow;

/// What a list or watch is narrowed to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
    Greater,
    Less,
}

#[derive(Clone, Debug)]
struct LabelTerm {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Debug)]
struct FieldTerm {
    path: String,
    equal: bool,
    value: String,
}

impl Selector {
    pub(crate) fn parse(
        resource: ResourceName,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, ApiError> {
        let labels = labels.map_or(Ok(Vec::new()), parse_labels)?;
        let fields = fields.map_or(Ok(Vec::new()), |text| parse_fields(resource, text))?;
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, when the selector says so.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.fields.iter().find(|t| t.equal && t.path == "metadata.name").map(|t| t.value.as_str())
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.fields.iter().all(|term| (field(object, &term.path) == term.value) == term.equal)
            && self.labels.iter().all(|term| term.matches(object.label(&term.key)))
    }
}

impl LabelTerm {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::In => value.is_some_and(|v| self.values.iter().any(|known| known == v)),
            Operator::NotIn => !value.is_some_and(|v| self.values.iter().any(|known| known == v)),
            Operator::Greater => value.and_then(number).zip(bound).is_some_and(|(v, b)| v > b),
            Operator::Less => value.and_then(number).zip(bound).is_some_and(|(v, b)| v < b),
        }
    }
}

fn bad_label(text: &str, problem: &str) -> ApiError {
    ApiError::BadRequest(format!("unable to parse requirement: labelSelector \"{text}\": {problem}"))
}

/// Cuts at commas outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0_i32, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn parse_labels(text: &str) -> Result<Vec<LabelTerm>, ApiError> {
    split_terms(text).into_iter().map(|term| parse_label(text, term)).collect()
}

fn parse_label(text: &str, term: &str) -> Result<LabelTerm, ApiError> {
    let make = |key: &str, operator, values: Vec<String>| {
        let key = key.trim();
        if key.is_empty() || key.contains(char::is_whitespace) || key.contains(['(', ')']) {
            return Err(bad_label(text, "a term needs a label key"));
        }
        if let Some(value) = values.iter().find(|value| !is_label_value(value)) {
            return Err(bad_label(text, &format!("\"{value}\" is not a label value")));
        }
        Ok(LabelTerm { key: key.to_owned(), operator, values })
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(key) = term.strip_prefix('!') {
        return make(key, Operator::Absent, Vec::new());
    }
    for (sign, operator) in [
        ("!=", Operator::NotIn),
        ("==", Operator::In),
        ("=", Operator::In),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ] {
        if let Some((key, value)) = term.split_once(sign) {
            return make(key, operator, one(value));
        }
    }
    for (word, operator) in [(" notin", Operator::NotIn), (" in", Operator::In)] {
        if let Some((key, set)) = term.split_once(word) {
            let inner = set.trim().strip_prefix('(').and_then(|s| s.strip_suffix(')'));
            let Some(inner) = inner else { return Err(bad_label(text, "a set needs parentheses")) };
            return make(key, operator, inner.split(',').map(|v| v.trim().to_owned()).collect());
        }
    }
    make(term, Operator::Exists, Vec::new())
}

fn parse_fields(resource: ResourceName, text: &str) -> Result<Vec<FieldTerm>, ApiError> {
    let mut terms = Vec::new();
    for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, true, value)
        } else {
            return Err(ApiError::BadRequest(format!(
                "invalid field selector: \"{term}\": write field=value"
            )));
        };
        let path = path.trim();
        if !is_selectable(resource, path) {
            return Err(ApiError::BadRequest(format!(
                "Unable to find \"{resource}\" that match label selector \"\", field selector \"{text}\": field label not supported: {path}"
            )));
        }
        terms.push(FieldTerm { path: path.to_owned(), equal, value: value.trim().to_owned() });
    }
    Ok(terms)
}

/// Fields beyond name and namespace, by resource.
const SELECTABLE: &[(ResourceName, &[&str])] = &[
    (
        PODS,
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    (NODES, &["spec.unschedulable"]),
    (NAMESPACES, &["status.phase"]),
    (
        EVENTS,
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    (SECRETS, &["type"]),
    (JOBS, &["status.successful"]),
    (REPLICA_SETS, &["status.replicas"]),
    (REPLICATION_CONTROLLERS, &["status.replicas"]),
];

fn is_selectable(resource: ResourceName, path: &str) -> bool {
    matches!(path, "metadata.name" | "metadata.namespace")
        || SELECTABLE.iter().any(|(name, fields)| *name == resource && fields.contains(&path))
}

/// Whether a `LabelSelector` of a spec selects the object; an empty one selects all, an absent one nothing.
pub(crate) fn matches_selector(selector: Option<&Value>, object: &Object) -> bool {
    let Some(selector) = selector.and_then(Value::as_object) else { return false };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten().all(|(key, value)| object.label(key) == value.as_str());
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    labels
        && expressions.into_iter().flatten().all(|expression| {
            let value = expression["key"].as_str().and_then(|key| object.label(key));
            let values = expression["values"].as_array();
            let listed = || values.into_iter().flatten().any(|v| v.as_str() == value && value.is_some());
            match expression["operator"].as_str() {
                Some("In") => listed(),
                Some("NotIn") => !listed(),
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// The text of a field as selectors see it; absent booleans are false, other absent fields empty.
fn field<'a>(object: &'a Object, path: &str) -> Cow<'a, str> {
    let path = match path {
        "source" => "source.component",
        "status.successful" => "status.succeeded",
        other => other,
    };
    match object.at(path) {
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Null) | None => match path {
            "spec.unschedulable" | "spec.hostNetwork" => Cow::Borrowed("false"),
            "status.replicas" | "status.succeeded" => Cow::Borrowed("0"),
            _ => Cow::Borrowed(""),
        },
        Some(other) => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Object {
        let value = json!({
            "metadata": {"name": "a", "labels": {"app": "web", "tier": "3"}}, "spec": {"nodeName": "n"},
        });
        Object::new(PODS, 1, value)
    }

    #[test]
    fn label_terms() {
        for (text, expected) in [
            ("app=web", true),
            ("app==web,tier!=4", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("!app", false),
            ("tier>2,tier<4", true),
            ("app,other", false),
            ("!other", true),
            ("other notin (x)", true),
        ] {
            let selector = Selector::parse(PODS, Some(text), None).unwrap();
            assert_eq!(selector.matches(&pod()), expected, "{text}");
        }
        assert!(Selector::parse(PODS, Some("app in web"), None).is_err());
        assert!(Selector::parse(PODS, Some("=x"), None).is_err());
    }

    #[test]
    fn field_terms() {
        let matches = |text| Selector::parse(PODS, None, Some(text)).unwrap().matches(&pod());
        assert!(matches("spec.nodeName=n,metadata.name!=b"));
        assert!(!matches("spec.nodeName="));
        let error = Selector::parse(PODS, None, Some("spec.image=x")).unwrap_err();
        assert!(error.to_string().contains("field label not supported: spec.image"));
    }
}
