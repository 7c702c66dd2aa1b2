//! Services, claims, secrets: the defaults and addresses that the server gives them.
//!
//! Owns cluster addresses and node ports. No traffic flows to them.

use super::pod::default;
use crate::store::{Cause, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// First node port, and how many there are.
const NODE_PORTS: (u32, u32) = (30_000, 2768);

/// Addresses 10.96.0.0/12, the first one for the service `kubernetes`.
fn address(number: u32) -> String {
    let bits = (10 << 24 | 96 << 16) + (number % 0xf_fffe) + 1;
    std::net::Ipv4Addr::from(bits).to_string()
}

pub(super) fn complete(state: &mut State, value: &mut Value) {
    let number = state.service_addresses;
    value["status"] = json!({"loadBalancer": {}});
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else { return };
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    let external = spec["type"] == "ExternalName";
    let needs_port = spec["type"] == "NodePort" || spec["type"] == "LoadBalancer";
    if !external {
        if spec.get("clusterIP").and_then(Value::as_str).unwrap_or("").is_empty() {
            spec.insert("clusterIP".to_owned(), json!(address(number)));
            state.service_addresses += 1;
        }
        let ip = spec["clusterIP"].clone();
        default(spec, "clusterIPs", json!([ip]));
        default(spec, "internalTrafficPolicy", "Cluster");
        default(spec, "ipFamilies", json!(["IPv4"]));
        default(spec, "ipFamilyPolicy", "SingleStack");
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        default(port, "protocol", "TCP");
        let target = port.get("port").cloned().unwrap_or_default();
        default(port, "targetPort", target);
        if needs_port {
            default(port, "nodePort", NODE_PORTS.0 + state.service_addresses % NODE_PORTS.1);
            state.service_addresses += 1;
        }
    }
}

pub(super) fn validate(value: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for (index, port) in value["spec"]["ports"].as_array().into_iter().flatten().enumerate() {
        if !port["port"].as_u64().is_some_and(|p| (1..=65_535).contains(&p)) {
            let message = "must be between 1 and 65535, inclusive";
            causes.push(Cause::invalid(format!("spec.ports[{index}].port"), &port["port"], message));
        }
    }
    if let Some(old) = old {
        let (before, after) = (&old["spec"]["clusterIP"], &value["spec"]["clusterIP"]);
        let external = old["spec"]["type"] == "ExternalName" || value["spec"]["type"] == "ExternalName";
        if before != after && !external {
            causes.push(Cause::invalid("spec.clusterIPs[0]", after, "may not change once set"));
        }
    }
}

/// Fields of the old version that an update may leave out.
pub(super) fn keep(old: &Value, value: &mut Value) {
    for field in ["clusterIP", "clusterIPs"] {
        let missing = value["spec"][field].is_null() || value["spec"][field] == "";
        if missing && !old["spec"][field].is_null() && value["spec"]["type"] != "ExternalName" {
            value["spec"][field] = old["spec"][field].clone();
        }
    }
}

pub(super) fn complete_secret(value: &mut Value) {
    let Some(object) = value.as_object_mut() else { return };
    default(object, "type", "Opaque");
    if let Some(Value::Object(texts)) = object.remove("stringData") {
        let data = object.entry("data").or_insert_with(|| json!({}));
        for (key, text) in texts {
            data[key] = json!(STANDARD.encode(text.as_str().unwrap_or("")));
        }
    }
}

pub(super) fn complete_claim(value: &mut Value) {
    value["status"] = json!({"phase": "Pending"});
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        default(spec, "volumeMode", "Filesystem");
        default(spec, "storageClassName", "standard");
    }
}
