//! Checks of quantities in objects that come from outside.
//!
//! Owns the messages; the grammar is that of `intake::quantity`.

use crate::store::Cause;
use serde_json::Value;

const GRAMMAR: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' and fit 63 bits";

/// The amount in thousandths, if it is a quantity of at least 0.
pub(super) fn milli(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => intake::quantity::milli(text).ok(),
        Value::Number(number) => number.as_u64()?.checked_mul(1000),
        _ => None,
    }
}

/// Checks each amount of a resource list.
pub(super) fn validate_map(map: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (name, amount) in map.as_object().into_iter().flatten() {
        let field = || format!("{path}[{name}]");
        let text = match amount {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => {
                causes.push(Cause::invalid(field(), other, GRAMMAR));
                continue;
            }
        };
        if text.trim_start().starts_with('-') {
            causes.push(Cause::invalid(field(), amount, "must be greater than or equal to 0"));
        } else if intake::quantity::whole(&text).is_err() {
            causes.push(Cause::invalid(field(), amount, GRAMMAR));
        }
    }
}
