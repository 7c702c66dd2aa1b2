//! Query parameters, decoded.
//!
//! Owns percent-decoding and the reading of single parameters. Leaves selectors to `selector`.

use crate::store::{ApiError, Cause};

/// The parameters of one request in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key, true), decode(value, true))
        };
        Self(raw.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of a parameter that is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0.iter().any(|(k, v)| k == key && matches!(v.as_str(), "" | "true" | "1" | "True"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let wrong =
            |_| ApiError::BadRequest(format!("query parameter {key} must be a whole number, not \"{text}\""));
        text.parse().map(Some).map_err(wrong)
    }

    /// Whether `dryRun=All` was asked for; other values are refused.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => {
                Err(options_refused("dryRun", "FieldValueNotSupported", format!("\"{other}\" is not All")))
            }
        }
    }
}

/// The 422 for options that make no sense.
pub(crate) fn options_refused(field: &str, reason: &'static str, message: String) -> ApiError {
    let causes = vec![Cause { reason, field: field.to_owned(), message }];
    ApiError::Invalid { kind: "Options.meta.k8s.io".to_owned(), name: String::new(), causes }
}

/// Undoes percent-encoding; `plus` says that a plus is a space, as in queries.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
