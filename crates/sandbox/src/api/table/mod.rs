//! Server-side tables, as `kubectl get` prints them: which columns, and the cells of an object.
//!
//! Owns the form of a `Table`. The columns of kinds are in the modules below; kinds without own columns show name and
//! age. Headers of labels (`-L`) are the client's work, from the metadata in each row.

mod age;
mod cluster;
mod custom;
mod pods;
mod workloads;

use super::convert;
use super::route::Target;
use super::view::{Include, metadata_of};
use crate::store::resource as r;
use crate::store::{Object, ResourceName};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Name and priority of a column; priority 1 is shown by `-o wide` only.
type Column = (&'static str, u8);

/// The columns of a kind and how its cells are read.
struct Sheet {
    columns: &'static [Column],
    cells: fn(&Object, Timestamp) -> Vec<Value>,
}

const PLAIN: Sheet = Sheet {
    columns: &[("Name", 0), ("Age", 0)],
    cells: |object, now| vec![name(object), age::of(object, now)],
};

fn sheet(resource: ResourceName) -> Sheet {
    match resource {
        r::PODS => pods::SHEET,
        r::NODES => cluster::NODES,
        r::NAMESPACES => cluster::NAMESPACES,
        r::SERVICES => cluster::SERVICES,
        r::ENDPOINTS => cluster::ENDPOINTS,
        r::ENDPOINT_SLICES => cluster::ENDPOINT_SLICES,
        r::CONFIG_MAPS => cluster::CONFIG_MAPS,
        r::SECRETS => cluster::SECRETS,
        r::SERVICE_ACCOUNTS => cluster::SERVICE_ACCOUNTS,
        r::EVENTS => cluster::EVENTS,
        r::PERSISTENT_VOLUMES => cluster::VOLUMES,
        r::PERSISTENT_VOLUME_CLAIMS => cluster::CLAIMS,
        r::POD_DISRUPTION_BUDGETS => cluster::BUDGETS,
        r::LEASES => cluster::LEASES,
        r::PRIORITY_CLASSES => cluster::PRIORITY_CLASSES,
        r::STORAGE_CLASSES => cluster::STORAGE_CLASSES,
        r::CUSTOM_RESOURCE_DEFINITIONS => cluster::DEFINITIONS,
        r::DEPLOYMENTS => workloads::DEPLOYMENTS,
        r::REPLICA_SETS | r::REPLICATION_CONTROLLERS => workloads::REPLICA_SETS,
        r::STATEFUL_SETS => workloads::STATEFUL_SETS,
        r::DAEMON_SETS => workloads::DAEMON_SETS,
        r::JOBS => workloads::JOBS,
        r::CRON_JOBS => workloads::CRON_JOBS,
        r::HORIZONTAL_POD_AUTOSCALERS => workloads::AUTOSCALERS,
        _ => PLAIN,
    }
}

/// The objects as a `Table`.
pub(crate) fn of(
    target: &Target,
    objects: &[&Object],
    include: Include,
    now: Timestamp,
    meta: &Value,
) -> Value {
    let own = target.info.custom.as_deref().filter(|custom| !custom.columns.is_empty());
    let sheet = sheet(target.info.name);
    let columns: Vec<Value> = match own {
        Some(custom) => custom::columns(custom),
        None => sheet.columns.iter().map(|(name, priority)| column(name, *priority)).collect(),
    };
    let row = |object: &&Object| {
        let cells = match own {
            Some(custom) => custom::cells(custom, object, now),
            None => (sheet.cells)(object, now),
        };
        let mut row = json!({"cells": cells});
        match include {
            Include::None => {}
            Include::Metadata => row["object"] = metadata_of(object.value()),
            Include::Object => row["object"] = convert::to_asked(target, object.value().clone()),
        }
        row
    };
    let rows: Vec<Value> = objects.iter().map(row).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": columns, "rows": rows,
    })
}

fn column(name: &str, priority: u8) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({"name": name, "type": "string", "format": format, "description": "", "priority": priority})
}

fn name(object: &Object) -> Value {
    json!(object.name())
}

/// The text at a path, or a stand-in.
fn text_or(object: &Object, path: &str, otherwise: &str) -> Value {
    json!(object.text(path).filter(|text| !text.is_empty()).unwrap_or(otherwise))
}

fn number(object: &Object, path: &str) -> i64 {
    object.at(path).and_then(Value::as_i64).unwrap_or(0)
}

fn list<'a>(object: &'a Object, path: &str) -> impl Iterator<Item = &'a Value> {
    object.at(path).and_then(Value::as_array).into_iter().flatten()
}

/// Texts joined by commas, or `<none>`.
fn joined(texts: &[String]) -> Value {
    if texts.is_empty() { json!("<none>") } else { json!(texts.join(",")) }
}

#[cfg(test)]
mod tests;
