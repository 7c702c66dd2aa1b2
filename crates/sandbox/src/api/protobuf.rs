//! Bodies in Kubernetes' protobuf form, which `kubectl create …` and `kubectl auth` send: read into JSON.
//!
//! Owns the reading only; answers are always JSON, which those clients accept. The numbers of fields are in
//! `protobuf_fields.txt`: a message a line, `number=field:type`, `*` for repeated and `%` for maps with text keys.
//! Messages and fields that no client is known to send are left out and skipped.

use crate::store::ApiError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const DEEPEST: usize = 32;

#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    kind: &'static str,
}

type Messages = BTreeMap<&'static str, BTreeMap<u64, Field>>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| include_str!("protobuf_fields.txt").lines().filter_map(message).collect())
}

fn message(line: &'static str) -> Option<(&'static str, BTreeMap<u64, Field>)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let field = |word: &'static str| {
        let (number, rest) = word.split_once('=')?;
        let (name, kind) = rest.split_once(':')?;
        Some((number.parse().ok()?, Field { name, kind }))
    };
    Some((name, words.filter_map(field).collect()))
}

/// Whether a body says of itself that it is protobuf.
pub(crate) fn is_protobuf(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// The object in a protobuf body.
pub(crate) fn read(body: &[u8]) -> Result<Value, ApiError> {
    let broken = || ApiError::BadRequest("the protobuf body is cut off or broken: send JSON".to_owned());
    let envelope = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Parts(envelope) {
        match part.ok_or_else(broken)? {
            (1, Wire::Bytes(meta)) => {
                for part in Parts(meta) {
                    match part.ok_or_else(broken)? {
                        (1, Wire::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let group =
        api_version.split_once('/').map_or("core", |(group, _)| group.split('.').next().unwrap_or(group));
    let known = [format!("{group}.{kind}"), format!("meta.{kind}")];
    let Some(fields) = known.iter().find_map(|name| messages().get(name.as_str())) else {
        return Err(ApiError::UnsupportedMediaType("application/json, application/yaml"));
    };
    let mut object = map(fields, raw, 0).ok_or_else(broken)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

/// The numbered parts of a message; `None` in place of a part that is broken, and then the end.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Double(f64::from_le_bytes(self.bytes(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.bytes(length)?)
            }
            5 => Wire::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Messages that JSON shows without a field of their own.
const INLINE: [&str; 5] =
    ["volumeSource", "persistentVolumeSource", "localObjectReference", "handler", "ephemeralContainerCommon"];
/// Numbers for which 0 is not the same as nothing.
const ZERO_COUNTS: [&str; 8] = [
    "replicas",
    "parallelism",
    "completions",
    "backoffLimit",
    "terminationGracePeriodSeconds",
    "gracePeriodSeconds",
    "ttlSecondsAfterFinished",
    "value",
];

fn map(fields: &BTreeMap<u64, Field>, bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    if depth > DEEPEST {
        return None;
    }
    let mut object = Map::new();
    for part in Parts(bytes) {
        let (number, wire) = part?;
        let Some(field) = fields.get(&number) else { continue };
        if let Some(kind) = field.kind.strip_prefix('*') {
            let list = object.entry(field.name).or_insert_with(|| json!([]));
            list.as_array_mut()?.push(value(kind, wire, depth)?);
        } else if let Some(kind) = field.kind.strip_prefix('%') {
            let (mut key, mut entry) = (String::new(), Value::Null);
            if let Wire::Bytes(pair) = wire {
                for part in Parts(pair) {
                    match part? {
                        (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
                        (2, wire) => entry = value(kind, wire, depth)?,
                        _ => {}
                    }
                }
            }
            let entries = object.entry(field.name).or_insert_with(|| json!({}));
            entries.as_object_mut()?.insert(key, if entry.is_null() { json!("") } else { entry });
        } else {
            let value = value(field.kind, wire, depth)?;
            match value {
                Value::Object(inner) if INLINE.contains(&field.name) => object.extend(inner),
                value if says_something(field.name, &value) => {
                    object.insert(field.name.to_owned(), value);
                }
                _ => {}
            }
        }
    }
    Some(object)
}

/// Whether a value differs from an absent one; the format writes empty values of fields that JSON leaves out.
fn says_something(field: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0) || ZERO_COUNTS.contains(&field),
        Value::Object(map) => !map.is_empty() || field == "emptyDir",
        Value::Bool(true) | Value::Array(_) => true,
    }
}

fn value(kind: &'static str, wire: Wire<'_>, depth: usize) -> Option<Value> {
    Some(match (kind, wire) {
        ("bool", Wire::Number(number)) => json!(number != 0),
        ("int32" | "int64", Wire::Number(number)) => json!(number.cast_signed()),
        ("double", Wire::Double(number)) => json!(number),
        ("string", Wire::Bytes(bytes)) => json!(String::from_utf8_lossy(bytes)),
        ("bytes", Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        ("quantity", Wire::Bytes(bytes)) => match Parts(bytes).next()?? {
            (1, Wire::Bytes(text)) => json!(String::from_utf8_lossy(text)),
            _ => Value::Null,
        },
        ("intorstring", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        ("time", Wire::Bytes(bytes)) => time(bytes)?,
        ("raw", _) => Value::Null,
        (message, Wire::Bytes(bytes)) => Value::Object(map(messages().get(message)?, bytes, depth + 1)?),
        _ => return None,
    })
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for part in Parts(bytes) {
        match part? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        }
    }
    Some(if is_text { json!(text) } else { json!(number) })
}

fn time(bytes: &[u8]) -> Option<Value> {
    let mut seconds = 0;
    for part in Parts(bytes) {
        if let (1, Wire::Number(value)) = part? {
            seconds = value.cast_signed();
        }
    }
    if seconds == 0 {
        return Some(Value::Null);
    }
    let moment = jiff::Timestamp::from_second(seconds).ok()?;
    Some(json!(moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn every_type_in_the_table_is_known() {
        for (name, fields) in messages() {
            for field in fields.values() {
                let kind = field.kind.trim_start_matches(['*', '%']);
                let plain = [
                    "bool",
                    "int32",
                    "int64",
                    "double",
                    "string",
                    "bytes",
                    "quantity",
                    "intorstring",
                    "time",
                    "raw",
                ];
                assert!(
                    plain.contains(&kind) || messages().contains_key(kind),
                    "{name}.{}: {kind}",
                    field.name
                );
            }
        }
    }

    #[test]
    fn a_namespace_is_read_and_a_broken_one_refused() {
        let meta = [field(1, b"v1"), field(2, b"Namespace")].concat();
        let object = field(1, &[field(1, b"foo"), field(2, b"")].concat());
        let body = [MAGIC, &field(1, &meta), &field(2, &object)].concat();
        let expected = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}});
        assert_eq!(read(&body).unwrap(), expected);
        for cut in 5..body.len() {
            let _ = read(&body[..cut]);
        }
        assert!(read(b"k8s\0\x0a\xff").is_err());
    }
}
