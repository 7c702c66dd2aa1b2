//! The columns of nodes, services, events and the other kinds that run no pods.

use super::{Sheet, age, joined, list, name, number, text_or};
use crate::api::subresource::selector_text;
use crate::store::Object;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) const NODES: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Status", 0),
        ("Roles", 0),
        ("Age", 0),
        ("Version", 0),
        ("Internal-IP", 1),
        ("External-IP", 1),
        ("OS-Image", 1),
        ("Kernel-Version", 1),
        ("Container-Runtime", 1),
    ],
    cells: |node, now| {
        let address = |kind: &str| {
            let found = list(node, "status.addresses").find(|a| a["type"] == kind);
            json!(found.and_then(|a| a["address"].as_str()).unwrap_or("<none>"))
        };
        vec![
            name(node),
            json!(node_status(node)),
            json!(node_roles(node)),
            age::of(node, now),
            text_or(node, "status.nodeInfo.kubeletVersion", ""),
            address("InternalIP"),
            address("ExternalIP"),
            text_or(node, "status.nodeInfo.osImage", "<unknown>"),
            text_or(node, "status.nodeInfo.kernelVersion", "<unknown>"),
            text_or(node, "status.nodeInfo.containerRuntimeVersion", "<unknown>"),
        ]
    },
};

fn node_status(node: &Object) -> String {
    let ready = list(node, "status.conditions").find(|c| c["type"] == "Ready");
    let mut status = match ready.and_then(|c| c["status"].as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.at("spec.unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn node_roles(node: &Object) -> String {
    let labels = node.labels().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str(),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

pub(super) const NAMESPACES: Sheet = Sheet {
    columns: &[("Name", 0), ("Status", 0), ("Age", 0)],
    cells: |n, now| vec![name(n), text_or(n, "status.phase", ""), age::of(n, now)],
};

pub(super) const SERVICES: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Type", 0),
        ("Cluster-IP", 0),
        ("External-IP", 0),
        ("Port(s)", 0),
        ("Age", 0),
        ("Selector", 1),
    ],
    cells: |service, now| {
        let external = match service.text("spec.type") {
            Some("LoadBalancer") => "<pending>",
            Some("ExternalName") => service.text("spec.externalName").unwrap_or("<none>"),
            _ => "<none>",
        };
        let port = |port: &Value| {
            let node = port["nodePort"].as_i64().map(|p| format!(":{p}")).unwrap_or_default();
            format!("{}{node}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
        };
        let ports: Vec<String> = list(service, "spec.ports").map(port).collect();
        let selector = selector_text(service.at("spec.selector"));
        vec![
            name(service),
            text_or(service, "spec.type", "ClusterIP"),
            text_or(service, "spec.clusterIP", "<none>"),
            json!(external),
            joined(&ports),
            age::of(service, now),
            json!(if selector.is_empty() { "<none>".to_owned() } else { selector }),
        ]
    },
};

/// At most three texts, and how many more there are.
fn few(texts: &[String]) -> Value {
    match texts.len() {
        0..=3 => joined(texts),
        many => json!(format!("{} + {} more...", texts[..3].join(","), many - 3)),
    }
}

pub(super) const ENDPOINTS: Sheet = Sheet {
    columns: &[("Name", 0), ("Endpoints", 0), ("Age", 0)],
    cells: |endpoints, now| {
        let mut all = Vec::new();
        for subset in list(endpoints, "subsets") {
            for address in subset["addresses"].as_array().into_iter().flatten() {
                let ip = address["ip"].as_str().unwrap_or("");
                match subset["ports"].as_array() {
                    Some(ports) => all.extend(ports.iter().map(|p| format!("{ip}:{}", p["port"]))),
                    None => all.push(ip.to_owned()),
                }
            }
        }
        vec![name(endpoints), few(&all), age::of(endpoints, now)]
    },
};

pub(super) const ENDPOINT_SLICES: Sheet = Sheet {
    columns: &[("Name", 0), ("AddressType", 0), ("Ports", 0), ("Endpoints", 0), ("Age", 0)],
    cells: |slice, now| {
        let ports: Vec<String> = list(slice, "ports").map(|p| p["port"].to_string()).collect();
        let addresses: Vec<String> = list(slice, "endpoints")
            .flat_map(|e| e["addresses"].as_array().into_iter().flatten())
            .filter_map(|a| a.as_str().map(str::to_owned))
            .collect();
        let unset = |cell: Value| if cell == "<none>" { json!("<unset>") } else { cell };
        vec![
            name(slice),
            text_or(slice, "addressType", ""),
            unset(few(&ports)),
            unset(few(&addresses)),
            age::of(slice, now),
        ]
    },
};

fn entries(object: &Object, path: &str) -> usize {
    object.at(path).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

pub(super) const CONFIG_MAPS: Sheet = Sheet {
    columns: &[("Name", 0), ("Data", 0), ("Age", 0)],
    cells: |map, now| {
        vec![name(map), json!(entries(map, "data") + entries(map, "binaryData")), age::of(map, now)]
    },
};

pub(super) const SECRETS: Sheet = Sheet {
    columns: &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
    cells: |secret, now| {
        vec![name(secret), text_or(secret, "type", ""), json!(entries(secret, "data")), age::of(secret, now)]
    },
};

pub(super) const SERVICE_ACCOUNTS: Sheet = Sheet {
    columns: &[("Name", 0), ("Secrets", 0), ("Age", 0)],
    cells: |account, now| vec![name(account), json!(list(account, "secrets").count()), age::of(account, now)],
};

pub(super) const EVENTS: Sheet = Sheet {
    columns: &[
        ("Last Seen", 0),
        ("Type", 0),
        ("Reason", 0),
        ("Object", 0),
        ("Subobject", 1),
        ("Source", 1),
        ("Message", 0),
        ("First Seen", 1),
        ("Count", 1),
        ("Name", 1),
    ],
    cells: event,
};

fn event(event: &Object, now: Timestamp) -> Vec<Value> {
    let first = event.text("firstTimestamp").or_else(|| event.text("eventTime"));
    let last = event.text("series.lastObservedTime").or_else(|| event.text("lastTimestamp")).or(first);
    let count = match number(event, "series.count").max(number(event, "count")) {
        0 => 1,
        count => count,
    };
    let last_seen = age::since(last, now);
    let kind = event.text("involvedObject.kind").unwrap_or("").to_lowercase();
    let object = format!("{kind}/{}", event.text("involvedObject.name").unwrap_or(""));
    let component = event.text("source.component").or_else(|| event.text("reportingComponent")).unwrap_or("");
    let host = event.text("source.host").filter(|h| !h.is_empty());
    let source = host.map_or_else(|| component.to_owned(), |host| format!("{component}, {host}"));
    vec![
        json!(last_seen),
        text_or(event, "type", ""),
        text_or(event, "reason", ""),
        json!(object),
        text_or(event, "involvedObject.fieldPath", ""),
        json!(source),
        json!(event.text("message").unwrap_or("").trim()),
        json!(age::since(first, now)),
        json!(count),
        name(event),
    ]
}

fn access_modes(object: &Object, path: &str) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO".to_owned(),
        Some("ReadOnlyMany") => "ROX".to_owned(),
        Some("ReadWriteMany") => "RWX".to_owned(),
        Some("ReadWriteOncePod") => "RWOP".to_owned(),
        other => other.unwrap_or("").to_owned(),
    };
    json!(list(object, path).map(short).collect::<Vec<_>>().join(","))
}

pub(super) const VOLUMES: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Capacity", 0),
        ("Access Modes", 0),
        ("Reclaim Policy", 0),
        ("Status", 0),
        ("Claim", 0),
        ("StorageClass", 0),
        ("VolumeAttributesClass", 0),
        ("Reason", 0),
        ("Age", 0),
        ("VolumeMode", 1),
    ],
    cells: |volume, now| {
        let claim = |field: &str| volume.at("spec.claimRef").and_then(|c| c[field].as_str());
        let claim =
            claim("namespace").zip(claim("name")).map(|(n, c)| format!("{n}/{c}")).unwrap_or_default();
        vec![
            name(volume),
            text_or(volume, "spec.capacity.storage", ""),
            access_modes(volume, "spec.accessModes"),
            text_or(volume, "spec.persistentVolumeReclaimPolicy", ""),
            text_or(volume, "status.phase", ""),
            json!(claim),
            text_or(volume, "spec.storageClassName", ""),
            json!("<unset>"),
            text_or(volume, "status.reason", ""),
            age::of(volume, now),
            text_or(volume, "spec.volumeMode", "<unset>"),
        ]
    },
};

pub(super) const CLAIMS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Status", 0),
        ("Volume", 0),
        ("Capacity", 0),
        ("Access Modes", 0),
        ("StorageClass", 0),
        ("VolumeAttributesClass", 0),
        ("Age", 0),
        ("VolumeMode", 1),
    ],
    cells: |claim, now| {
        let bound = claim.text("spec.volumeName").is_some_and(|v| !v.is_empty());
        let modes = if bound { access_modes(claim, "status.accessModes") } else { json!("") };
        vec![
            name(claim),
            text_or(claim, "status.phase", ""),
            text_or(claim, "spec.volumeName", ""),
            text_or(claim, "status.capacity.storage", ""),
            modes,
            text_or(claim, "spec.storageClassName", ""),
            json!("<unset>"),
            age::of(claim, now),
            text_or(claim, "spec.volumeMode", "<unset>"),
        ]
    },
};

pub(super) const BUDGETS: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Min Available", 0),
        ("Max Unavailable", 0),
        ("Allowed Disruptions", 0),
        ("Age", 0),
    ],
    cells: |budget, now| {
        let bound = |path: &str| match budget.at(path) {
            None | Some(Value::Null) => json!("N/A"),
            Some(Value::String(text)) => json!(text),
            Some(other) => json!(other.to_string()),
        };
        vec![
            name(budget),
            bound("spec.minAvailable"),
            bound("spec.maxUnavailable"),
            json!(number(budget, "status.disruptionsAllowed")),
            age::of(budget, now),
        ]
    },
};

pub(super) const LEASES: Sheet = Sheet {
    columns: &[("Name", 0), ("Holder", 0), ("Age", 0)],
    cells: |lease, now| vec![name(lease), text_or(lease, "spec.holderIdentity", ""), age::of(lease, now)],
};

pub(super) const PRIORITY_CLASSES: Sheet = Sheet {
    columns: &[("Name", 0), ("Value", 0), ("Global-Default", 0), ("Age", 0), ("PreemptionPolicy", 0)],
    cells: |class, now| {
        vec![
            name(class),
            json!(number(class, "value")),
            json!(class.at("globalDefault") == Some(&Value::Bool(true))),
            age::of(class, now),
            text_or(class, "preemptionPolicy", ""),
        ]
    },
};

pub(super) const STORAGE_CLASSES: Sheet = Sheet {
    columns: &[
        ("Name", 0),
        ("Provisioner", 0),
        ("ReclaimPolicy", 0),
        ("VolumeBindingMode", 0),
        ("AllowVolumeExpansion", 0),
        ("Age", 0),
    ],
    cells: |class, now| {
        let default = class.annotation("storageclass.kubernetes.io/is-default-class") == Some("true");
        let shown = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
        vec![
            json!(shown),
            text_or(class, "provisioner", ""),
            text_or(class, "reclaimPolicy", "Delete"),
            text_or(class, "volumeBindingMode", "Immediate"),
            json!(class.at("allowVolumeExpansion") == Some(&Value::Bool(true))),
            age::of(class, now),
        ]
    },
};

pub(super) const DEFINITIONS: Sheet = Sheet {
    columns: &[("Name", 0), ("Created At", 0)],
    cells: |definition, _| vec![name(definition), text_or(definition, "metadata.creationTimestamp", "")],
};
