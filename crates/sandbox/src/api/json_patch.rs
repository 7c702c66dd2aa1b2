//! JSON patch (RFC 6902).
//!
//! Owns its errors as the API server words them; the operations themselves are those of the `json-patch` crate.

use crate::store::ApiError;
use serde_json::Value;

/// Most operations in one patch, as in Kubernetes.
const MOST_OPERATIONS: usize = 10_000;

pub(crate) fn apply(value: &mut Value, patch: Value) -> Result<(), ApiError> {
    let patch: ::json_patch::Patch = serde_json::from_value(patch)
        .map_err(|error| ApiError::BadRequest(format!("error decoding patch: {error}")))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(ApiError::BadRequest(format!(
            "the patch has {} operations; at most {MOST_OPERATIONS} are allowed",
            patch.0.len()
        )));
    }
    ::json_patch::patch(value, &patch).map_err(|error| ApiError::Invalid {
        kind: String::new(),
        name: String::new(),
        causes: vec![crate::store::Cause {
            reason: "FieldValueInvalid",
            field: "patch".to_owned(),
            message: error.to_string(),
        }],
    })
}
