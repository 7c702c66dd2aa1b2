//! Identity of objects: uids and generated names from a seed, and the checks on `metadata`.
//!
//! Owns what every kind has in common in `metadata`. Leaves kinds to `rules`.

use super::error::{ApiError, Cause};
use super::resource::ResourceInfo;
use jiff::Timestamp;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

/// Seeded sources of uids and of generated names, apart from each other so that neither shifts the other.
#[derive(Debug)]
pub(crate) struct Identities {
    uids: ChaCha8Rng,
    suffixes: ChaCha8Rng,
}

/// The letters of generated names: no vowels and no look-alikes, as in Kubernetes.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// Longest base of a generated name.
const LONGEST_BASE: usize = 58;

impl Identities {
    pub(crate) fn new(seed: u64) -> Self {
        let mut uids = ChaCha8Rng::seed_from_u64(seed);
        uids.set_stream(1);
        let mut suffixes = ChaCha8Rng::seed_from_u64(seed);
        suffixes.set_stream(2);
        Self { uids, suffixes }
    }

    /// A uid in the form of a version 4 UUID.
    pub(crate) fn uid(&mut self) -> String {
        let bits: u128 = self.uids.random();
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    pub(crate) fn name(&mut self, base: &str) -> String {
        let base: String = base.chars().take(LONGEST_BASE).collect();
        let letter = |_| char::from(SUFFIX_LETTERS[self.suffixes.random_range(0..SUFFIX_LETTERS.len())]);
        let suffix: String = (0..SUFFIX_LENGTH).map(letter).collect();
        base + &suffix
    }
}

/// A time as Kubernetes writes it in metadata: whole seconds, UTC.
pub(crate) fn time(now: Timestamp) -> Value {
    Value::String(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The metadata of an object that came from outside, made an object if absent.
pub(crate) fn of(value: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let Some(object) = value.as_object_mut() else {
        return Err(ApiError::BadRequest("the body must be a JSON object".to_owned()));
    };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().ok_or_else(|| ApiError::BadRequest("metadata must be an object".to_owned()))
}

/// Text of a metadata field, empty when absent.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// Fills `apiVersion` and `kind`, and refuses other ones.
pub(crate) fn set_type(info: &ResourceInfo, value: &mut Value) -> Result<(), ApiError> {
    let Some(object) = value.as_object_mut() else {
        return Err(ApiError::BadRequest("the body must be a JSON object".to_owned()));
    };
    if let Some(kind) = object.get("kind").and_then(Value::as_str)
        && kind != info.kind
        && !kind.is_empty()
    {
        let message = format!("the object has kind {kind}, but this is the path of {}", info.kind);
        return Err(ApiError::BadRequest(message));
    }
    if object.get("kind").and_then(Value::as_str) != Some(&info.kind) {
        object.insert("kind".to_owned(), Value::String(info.kind.clone()));
    }
    let api_version = info.api_version();
    if object.get("apiVersion").and_then(Value::as_str) != Some(&api_version) {
        object.insert("apiVersion".to_owned(), Value::String(api_version));
    }
    Ok(())
}

/// Kinds whose names are free text in a path segment rather than DNS names.
fn has_path_name(info: &ResourceInfo) -> bool {
    info.group() == "rbac.authorization.k8s.io"
}

/// Checks name, labels, annotations and finalizers.
pub(crate) fn validate(info: &ResourceInfo, value: &Value, causes: &mut Vec<Cause>) {
    let name = text(value, "name");
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if has_path_name(info) {
        if name.contains(['/', '%']) {
            causes.push(Cause::invalid("metadata.name", quoted(name), "must not contain '/' or '%'"));
        }
    } else if !is_dns_name(name) {
        causes.push(Cause::invalid("metadata.name", quoted(name), DNS_NAME));
    }
    let metadata = value.get("metadata");
    for field in ["labels", "annotations"] {
        let Some(map) = metadata.and_then(|m| m.get(field)) else { continue };
        let Some(map) = map.as_object() else {
            causes.push(Cause::invalid(format!("metadata.{field}"), map, "must be a map of strings"));
            continue;
        };
        for (key, value) in map {
            if !is_qualified_name(key, field == "annotations") {
                causes.push(Cause::invalid(format!("metadata.{field}"), quoted(key), QUALIFIED_NAME));
            }
            match value.as_str() {
                None => causes.push(Cause::invalid(format!("metadata.{field}"), value, "must be a string")),
                Some(text) if field == "labels" && !is_label_value(text) => {
                    causes.push(Cause::invalid("metadata.labels", quoted(text), LABEL_VALUE));
                }
                Some(_) => {}
            }
        }
    }
}

pub(crate) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

const DNS_NAME: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character, with an optional DNS subdomain prefix and '/'";
/// What a label's value must look like.
pub(crate) const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn is_dns_name(text: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253
        && text
            .split('.')
            .all(|l| l.starts_with(end) && l.ends_with(end) && l.chars().all(|c| end(c) || c == '-'))
}

fn is_name_part(text: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(end)
        && text.ends_with(end)
        && text.chars().all(|c| end(c) || matches!(c, '-' | '_' | '.'))
}

/// Whether `text` may be a label's value.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

/// Whether `text` may be a key of labels; keys of annotations may have capitals in the prefix.
pub(crate) fn is_qualified_name(text: &str, any_case: bool) -> bool {
    match text.split_once('/') {
        None => is_name_part(text),
        Some((prefix, name)) => {
            let prefix = if any_case { prefix.to_lowercase() } else { prefix.to_owned() };
            is_dns_name(&prefix) && is_name_part(name)
        }
    }
}
