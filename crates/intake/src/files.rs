//! Kubernetes objects from files: JSON, YAML, several documents, `List`s, gzip.
//!
//! Owns finding the single objects and saying where in which file something is wrong; what each object means is
//! read from its `kind` by the caller.

use crate::IntakeError;
use serde_json::Value;
use std::io::Read;

/// Larger inputs are refused: 150,000 pods as `kubectl` prints them are about one gigabyte.
pub const LARGEST_INPUT_BYTES: u64 = 2 << 30;

/// One object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// File name and, where it holds several, which one: `nodes.json`, `all.yaml document 2`.
    pub origin: String,
    pub value: Value,
}

impl Object {
    pub fn kind(&self) -> &str {
        self.value.get("kind").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn api_version(&self) -> &str {
        self.value.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
    }

    /// Decodes into a type; the error names file and field.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, IntakeError> {
        T::deserialize(&self.value).map_err(|error| {
            let name =
                self.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
            IntakeError::File {
                file: self.origin.clone(),
                at: String::new(),
                problem: format!("{} {name}: {error}", self.kind()),
                fix: "compare the field with the kind's documentation".into(),
            }
        })
    }
}

/// Reads every object of one input. `name` is only for messages; gzip is recognised by its first bytes.
pub fn read_objects(name: &str, input: &mut dyn Read) -> Result<Vec<Object>, IntakeError> {
    let text = read_text(name, input)?;
    let mut objects = Vec::new();
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') || trimmed.starts_with('[') {
        let stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        for value in stream {
            let value = value.map_err(|error| {
                file_error(
                    name,
                    &format!(" line {}", error.line()),
                    &error.to_string(),
                    "mend the JSON there",
                )
            })?;
            flatten(name, value, &mut objects)?;
        }
        return Ok(objects);
    }
    flatten_yaml(name, &text, &mut objects)?;
    Ok(objects)
}

/// Reads YAML, of which JSON is a part, with any number of documents.
pub(crate) fn flatten_yaml(name: &str, text: &str, out: &mut Vec<Object>) -> Result<(), IntakeError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| file_error(name, "", &error.to_string(), "mend the YAML there"))?;
    let several = documents.len() > 1;
    for (i, document) in documents.into_iter().enumerate() {
        let origin = if several { format!("{name} document {}", i + 1) } else { name.to_owned() };
        flatten(&origin, document, out)?;
    }
    Ok(())
}

/// Reads an input as text, unpacking gzip, within the size limit.
pub fn read_text(name: &str, input: &mut dyn Read) -> Result<String, IntakeError> {
    let io = |error: std::io::Error| {
        file_error(name, "", &error.to_string(), "check that it is readable and whole")
    };
    let mut bytes = Vec::new();
    input.take(LARGEST_INPUT_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .take(LARGEST_INPUT_BYTES + 1)
            .read_to_end(&mut unpacked)
            .map_err(io)?;
        bytes = unpacked;
    }
    if bytes.len() as u64 > LARGEST_INPUT_BYTES {
        let limit = format!("is larger than {} MiB", LARGEST_INPUT_BYTES >> 20);
        return Err(file_error(name, "", &limit, "split it"));
    }
    String::from_utf8(bytes).map_err(|_| file_error(name, "", "is not UTF-8 text", "save it as UTF-8"))
}

pub(crate) fn file_error(file: &str, at: &str, problem: &str, fix: &str) -> IntakeError {
    IntakeError::File {
        file: file.to_owned(),
        at: at.to_owned(),
        problem: problem.to_owned(),
        fix: fix.to_owned(),
    }
}

/// Takes lists apart; empty documents are skipped.
pub(crate) fn flatten(origin: &str, value: Value, out: &mut Vec<Object>) -> Result<(), IntakeError> {
    match value {
        Value::Null => Ok(()),
        Value::Array(items) => items.into_iter().try_for_each(|item| flatten(origin, item, out)),
        Value::Object(mut map) => {
            let kind = map.get("kind").and_then(Value::as_str).unwrap_or_default();
            if kind == "List" || (kind.ends_with("List") && map.get("items").is_some_and(Value::is_array)) {
                let item_kind = kind.strip_suffix("List").unwrap_or_default().to_owned();
                let api_version = map.get("apiVersion").cloned();
                let Some(Value::Array(items)) = map.remove("items") else {
                    return Err(file_error(
                        origin,
                        "",
                        "the List has no items",
                        "give it an array named items",
                    ));
                };
                for mut item in items {
                    // Items of typed lists, as the API answers them, carry no kind of their own.
                    if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
                        fields.entry("kind").or_insert_with(|| item_kind.clone().into());
                        if let Some(version) = &api_version {
                            fields.entry("apiVersion").or_insert_with(|| version.clone());
                        }
                    }
                    flatten(origin, item, out)?;
                }
                return Ok(());
            }
            if kind.is_empty() {
                return Err(file_error(origin, "", "an object has no kind", "add apiVersion and kind"));
            }
            out.push(Object { origin: origin.to_owned(), value: Value::Object(map) });
            Ok(())
        }
        _ => {
            Err(file_error(origin, "", "is not a Kubernetes object", "give JSON or YAML objects with a kind"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Result<Vec<String>, String> {
        read_objects("f", &mut text.as_bytes())
            .map(|all| all.iter().map(|o| o.kind().to_owned()).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_documents_and_streams_are_taken_apart() {
        assert_eq!(
            kinds(r#"{"kind":"List","items":[{"kind":"Pod"},{"kind":"Node"}]}"#).unwrap(),
            ["Pod", "Node"]
        );
        assert_eq!(kinds(r#"{"kind":"PodList","apiVersion":"v1","items":[{}]}"#).unwrap(), ["Pod"]);
        assert_eq!(kinds("kind: Pod\n---\n---\nkind: Node\n").unwrap(), ["Pod", "Node"]);
        assert_eq!(kinds("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_said_with_file_and_place() {
        assert!(kinds("{\"kind\":\n").unwrap_err().starts_with("f line 2: "));
        assert!(kinds("a: b").unwrap_err().contains("has no kind"));
        assert!(kinds("just text").unwrap_err().contains("is not a Kubernetes object"));
        assert!(kinds("kind: [").is_err());
    }

    #[test]
    fn gzip_is_unpacked() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"kind: Pod").unwrap();
        let bytes = packed.finish().unwrap();
        assert_eq!(read_objects("f", &mut bytes.as_slice()).unwrap()[0].kind(), "Pod");
    }
}
