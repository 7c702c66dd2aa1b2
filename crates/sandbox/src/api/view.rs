//! In which form a client wants objects: whole, as rows of a table, or only their metadata.
//!
//! Owns content negotiation and the rendering of single objects. Leaves columns to `table`.

use super::convert;
use super::route::Target;
use super::table;
use crate::store::Object;
use bytes::Bytes;
use serde_json::{Value, json};

/// What a row of a table carries besides its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Table(Include),
    Metadata,
}

impl View {
    /// Reads `Accept`, taking its first entry that we serve, and `includeObject`.
    pub(crate) fn parse(accept: &str, include: Option<&str>) -> Self {
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
                continue;
            }
            match parts.find_map(|part| part.strip_prefix("as=")) {
                None => return Self::Whole,
                Some("Table") => {
                    return Self::Table(match include {
                        Some("None") => Include::None,
                        Some("Object") => Include::Object,
                        _ => Include::Metadata,
                    });
                }
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Self::Metadata,
                Some(_) => {}
            }
        }
        Self::Whole
    }

    /// One object in this form.
    pub(crate) fn object(self, target: &Target, object: &Object, now: jiff::Timestamp) -> Bytes {
        match self {
            Self::Whole if target.is_stored_form() => object.bytes(),
            Self::Whole => Bytes::from(convert::to_asked(target, object.value().clone()).to_string()),
            Self::Metadata => Bytes::from(metadata_of(object.value()).to_string()),
            Self::Table(include) => {
                let rows = [object];
                Bytes::from(table::of(target, &rows, include, now, &json!({})).to_string())
            }
        }
    }
}

/// The object as `PartialObjectMetadata`.
pub(crate) fn metadata_of(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_default(),
    })
}

/// The head of a list, up to its items.
pub(crate) fn list_head(target: &Target, view: View, meta: &Value) -> String {
    let (kind, api_version) = match view {
        View::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        _ => (target.info.list_kind(), target.api_version()),
    };
    format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{meta},\"items\":[")
}
