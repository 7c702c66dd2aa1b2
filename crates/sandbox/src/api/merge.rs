//! JSON merge patch (RFC 7386).
//!
//! Owns the merge. Null removes, maps merge, all else replaces.

use serde_json::{Map, Value};

pub(crate) fn apply(value: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Some(map) = value.as_object_mut() else { return };
    for (key, change) in patch {
        if change.is_null() {
            map.remove(&key);
        } else {
            apply(map.entry(key).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_merge_and_nulls_remove() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
        apply(&mut value, json!({"a": {"b": null, "d": {"e": null, "f": 3}}, "list": [3]}));
        assert_eq!(value, json!({"a": {"c": 2, "d": {"f": 3}}, "list": [3]}));
    }
}
