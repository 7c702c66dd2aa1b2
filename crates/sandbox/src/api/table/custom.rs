//! Printer columns of custom resources.
//!
//! Owns the part of `JSONPath` that they use: fields, `[n]`, `[*]` and `[?(@.field=="value")]`.

use super::{age, column, name};
use crate::rules::schema::CustomSchema;
use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) fn columns(custom: &CustomSchema) -> Vec<Value> {
    let own = custom.columns.iter().map(|c| {
        json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority})
    });
    std::iter::once(column("Name", 0)).chain(own).collect()
}

pub(super) fn cells(custom: &CustomSchema, object: &Object, now: Timestamp) -> Vec<Value> {
    let own = custom.columns.iter().map(|column| {
        let found = find(object.value(), &column.path);
        match (found.as_slice(), column.kind.as_str()) {
            ([], _) => Value::Null,
            ([Value::String(moment), ..], "date") => json!(age::since(Some(moment), now)),
            ([only], _) => plain(only),
            (many, _) => {
                let texts: Vec<String> = many.iter().map(|value| text(value)).collect();
                json!(texts.join(","))
            }
        }
    });
    std::iter::once(name(object)).chain(own).collect()
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Array(_) | Value::Object(_) => json!(value.to_string()),
        other => other.clone(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The values at a `JSONPath`.
fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps(path) {
        found = found.into_iter().flat_map(|value| take(value, &step)).collect();
    }
    found
}

/// Cuts a path into fields and bracketed parts; dots inside brackets or after a backslash do not cut.
fn steps(path: &str) -> Vec<String> {
    let (mut steps, mut step, mut depth, mut escaped) = (Vec::new(), String::new(), 0_i32, false);
    for letter in path.chars() {
        match letter {
            '\\' if depth == 0 => {
                escaped = true;
                continue;
            }
            '.' if depth == 0 && !escaped => steps.push(std::mem::take(&mut step)),
            '[' => {
                if depth == 0 {
                    steps.push(std::mem::take(&mut step));
                }
                depth += 1;
                step.push(letter);
            }
            ']' => {
                depth -= 1;
                step.push(letter);
                if depth == 0 {
                    steps.push(std::mem::take(&mut step));
                }
            }
            other => step.push(other),
        }
        escaped = false;
    }
    steps.push(step);
    steps.retain(|step| !step.is_empty());
    steps
}

fn take<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    let Some(inner) = step.strip_prefix('[').and_then(|s| s.strip_suffix(']')) else {
        return value.get(step).filter(|found| !found.is_null()).into_iter().collect();
    };
    if inner == "*" {
        return match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        };
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let Some((field, wanted)) = filter.split_once("==") else { return Vec::new() };
        let field = field.trim().trim_start_matches("@.");
        let wanted = wanted.trim().trim_matches(['"', '\'']);
        let list = value.as_array().into_iter().flatten();
        return list
            .filter(|element| find(element, field).first().is_some_and(|v| text(v) == wanted))
            .collect();
    }
    if let Ok(index) = inner.parse::<usize>() {
        return value.get(index).into_iter().collect();
    }
    value.get(inner.trim_matches(['"', '\''])).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_fields_elements_and_conditions() {
        let value = json!({"spec": {"a.b": 1, "list": [{"n": 1}, {"n": 2}]}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(find(&value, ".status.conditions[?(@.type==\"Ready\")].status"), [&json!("True")]);
        assert_eq!(find(&value, ".spec.list[*].n").len(), 2);
        assert_eq!(find(&value, ".spec.list[1].n"), [&json!(2)]);
        assert_eq!(find(&value, ".spec.a\\.b"), [&json!(1)]);
        assert!(find(&value, ".spec.none.x").is_empty());
    }
}
