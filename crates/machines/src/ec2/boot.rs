//! User data: what a machine is told at its first start so that it joins the cluster as the node that was planned.
//!
//! Owns its form for each family. What the class' owner wrote is kept, and ours is added; with `Custom` only theirs
//! is there.

use super::images::Family;
use api::karpenter::NodeTaint;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Everything that goes into it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Boot {
    pub(super) cluster: String,
    pub(super) endpoint: String,
    /// In base64.
    pub(super) authority: Option<String>,
    pub(super) service_cidr: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) taints: Vec<NodeTaint>,
    pub(super) kubelet: Map<String, Value>,
    pub(super) max_pods: Option<u64>,
    /// Disks of its own are joined into one.
    pub(super) joins_disks: bool,
    /// What the class' owner wrote.
    pub(super) own: Option<String>,
}

const BOUNDARY: &str = "//";

pub(super) fn user_data(family: Family, boot: &Boot) -> Result<String, String> {
    match family {
        Family::Al2 => Ok(mime(boot, &[("text/x-shellscript; charset=\"us-ascii\"", script(boot))])),
        Family::Al2023 => {
            let config = node_config(boot);
            let text = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
            // JSON is YAML.
            Ok(mime(boot, &[("application/node.eks.aws", text)]))
        }
        Family::Bottlerocket => bottlerocket(boot),
        Family::Custom => Ok(boot.own.clone().unwrap_or_default()),
    }
}

fn labels(boot: &Boot) -> String {
    boot.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn taints(boot: &Boot) -> String {
    let one = |taint: &NodeTaint| format!("{}={}:{}", taint.key, taint.value, taint.effect);
    boot.taints.iter().map(one).collect::<Vec<_>>().join(",")
}

/// The parts of the owner's user data, then ours.
fn mime(boot: &Boot, ours: &[(&str, String)]) -> String {
    let mut text = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\n\n");
    let own = boot.own.as_deref().unwrap_or_default().trim();
    for (kind, body) in own_parts(own).into_iter().chain(ours.iter().cloned()) {
        let _ = write!(text, "--{BOUNDARY}\nContent-Type: {kind}\n\n{}\n\n", body.trim_end());
    }
    let _ = writeln!(text, "--{BOUNDARY}--");
    text
}

/// What the owner wrote as parts: it may be parts already, a script, or a node's configuration.
fn own_parts(own: &str) -> Vec<(&str, String)> {
    if own.is_empty() {
        return Vec::new();
    }
    let boundary = own
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .find_map(|line| line.split_once("boundary=").map(|(_, rest)| rest.trim().trim_matches('"')));
    let Some(boundary) = boundary.filter(|_| own.starts_with("MIME-Version")) else {
        let is_config = own.contains("node.eks.aws/");
        let kind =
            if is_config { "application/node.eks.aws" } else { "text/x-shellscript; charset=\"us-ascii\"" };
        return vec![(kind, own.to_owned())];
    };
    let mut parts = Vec::new();
    for part in own.split(&format!("--{boundary}")).skip(1) {
        let Some((head, body)) = part.trim_start_matches(['\r', '\n']).split_once("\n\n") else { continue };
        let kind = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then_some(value.trim())
        });
        parts.push((kind.unwrap_or("text/plain"), body.to_owned()));
    }
    parts
}

/// For Amazon Linux 2: a call of the image's own script.
fn script(boot: &Boot) -> String {
    let mut arguments: Vec<String> = Vec::new();
    if !boot.labels.is_empty() {
        arguments.push(format!("--node-labels=\"{}\"", labels(boot)));
    }
    if !boot.taints.is_empty() {
        arguments.push(format!("--register-with-taints=\"{}\"", taints(boot)));
    }
    if let Some(pods) = boot.max_pods {
        arguments.push(format!("--max-pods={pods}"));
    }
    let flags = [
        ("podsPerCore", "--pods-per-core"),
        ("imageGCHighThresholdPercent", "--image-gc-high-threshold"),
        ("imageGCLowThresholdPercent", "--image-gc-low-threshold"),
        ("evictionMaxPodGracePeriod", "--eviction-max-pod-grace-period"),
        ("cpuCFSQuota", "--cpu-cfs-quota"),
    ];
    for (field, flag) in flags {
        if let Some(value) = boot.kubelet.get(field) {
            arguments.push(format!("{flag}={value}"));
        }
    }
    let maps = [
        ("systemReserved", "--system-reserved", "="),
        ("kubeReserved", "--kube-reserved", "="),
        ("evictionHard", "--eviction-hard", "<"),
        ("evictionSoft", "--eviction-soft", "<"),
        ("evictionSoftGracePeriod", "--eviction-soft-grace-period", "="),
    ];
    for (field, flag, between) in maps {
        let Some(Value::Object(list)) = boot.kubelet.get(field) else { continue };
        let all: Vec<String> = list
            .iter()
            .filter_map(|(key, value)| Some(format!("{key}{between}{}", value.as_str()?)))
            .collect();
        if !all.is_empty() {
            arguments.push(format!("{flag}=\"{}\"", all.join(",")));
        }
    }
    let mut text = format!(
        "#!/bin/bash -xe\nexec > >(tee /var/log/user-data.log|logger -t user-data -s 2>/dev/console) 2>&1\n\
         /etc/eks/bootstrap.sh '{}' --apiserver-endpoint '{}'",
        boot.cluster, boot.endpoint
    );
    if let Some(authority) = &boot.authority {
        let _ = write!(text, " --b64-cluster-ca '{authority}'");
    }
    if let Some(dns) = dns(boot) {
        let _ = write!(text, " \\\n--dns-cluster-ip '{dns}'");
    }
    if boot.max_pods.is_some() {
        text.push_str(" \\\n--use-max-pods false");
    }
    if boot.joins_disks {
        text.push_str(" \\\n--local-disks raid0");
    }
    let _ = write!(text, " \\\n--kubelet-extra-args '{}'", arguments.join(" "));
    text
}

fn dns(boot: &Boot) -> Option<&str> {
    boot.kubelet.get("clusterDNS")?.as_array()?.first()?.as_str()
}

/// For Amazon Linux 2023: the configuration that the image reads.
fn node_config(boot: &Boot) -> Value {
    let mut flags = Vec::new();
    if !boot.labels.is_empty() {
        flags.push(format!("--node-labels=\"{}\"", labels(boot)));
    }
    let mut kubelet = boot.kubelet.clone();
    if let Some(pods) = boot.max_pods {
        kubelet.insert("maxPods".to_owned(), json!(pods));
    }
    let taints: Vec<Value> = boot
        .taints
        .iter()
        .map(|taint| {
            let mut one = json!({"key": taint.key, "effect": taint.effect});
            if let (Some(fields), false) = (one.as_object_mut(), taint.value.is_empty()) {
                fields.insert("value".to_owned(), json!(taint.value));
            }
            one
        })
        .collect();
    kubelet.insert("registerWithTaints".to_owned(), json!(taints));
    let mut cluster = json!({"name": boot.cluster, "apiServerEndpoint": boot.endpoint});
    if let Some(fields) = cluster.as_object_mut() {
        if let Some(authority) = &boot.authority {
            fields.insert("certificateAuthority".to_owned(), json!(authority));
        }
        if let Some(cidr) = &boot.service_cidr {
            fields.insert("cidr".to_owned(), json!(cidr));
        }
    }
    let mut spec = json!({"cluster": cluster, "kubelet": {"config": kubelet, "flags": flags}});
    if let (Some(fields), true) = (spec.as_object_mut(), boot.joins_disks) {
        fields.insert("instance".to_owned(), json!({"localStorage": {"strategy": "RAID0"}}));
    }
    json!({"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec})
}

/// For Bottlerocket: its settings, with ours in place of the owner's where both say the same.
fn bottlerocket(boot: &Boot) -> Result<String, String> {
    let mut settings: Vec<(&str, String)> =
        vec![("api-server", quoted(&boot.endpoint)), ("cluster-name", quoted(&boot.cluster))];
    if let Some(authority) = &boot.authority {
        settings.push(("cluster-certificate", quoted(authority)));
    }
    if let Some(dns) = dns(boot) {
        settings.push(("cluster-dns-ip", quoted(dns)));
    }
    if let Some(pods) = boot.max_pods {
        settings.push(("max-pods", pods.to_string()));
    }
    let node_labels: Vec<(String, String)> =
        boot.labels.iter().map(|(key, value)| (quoted(key), quoted(value))).collect();
    let mut by_key: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for taint in &boot.taints {
        by_key.entry(&taint.key).or_default().push(quoted(&format!("{}:{}", taint.value, taint.effect)));
    }
    let taints: Vec<(String, String)> =
        by_key.into_iter().map(|(key, all)| (quoted(key), format!("[{}]", all.join(", ")))).collect();
    let plain: Vec<(String, String)> =
        settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut tables: Vec<(&str, Vec<(String, String)>)> = vec![
        ("settings.kubernetes", plain),
        ("settings.kubernetes.node-labels", node_labels),
        ("settings.kubernetes.node-taints", taints),
    ];
    for (field, table) in [
        ("kubeReserved", "settings.kubernetes.kube-reserved"),
        ("systemReserved", "settings.kubernetes.system-reserved"),
        ("evictionHard", "settings.kubernetes.eviction-hard"),
    ] {
        if let Some(Value::Object(list)) = boot.kubelet.get(field) {
            let pairs =
                list.iter().filter_map(|(key, value)| Some((quoted(key), quoted(value.as_str()?)))).collect();
            tables.push((table, pairs));
        }
    }
    merged(boot.own.as_deref().unwrap_or_default(), &tables)
}

/// A text in quotes, as TOML and JSON have it alike.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The owner's TOML with these tables set in it. Only tables and simple lines are understood; a table that is written
/// as one value would be there twice, so it is refused.
fn merged(own: &str, tables: &[(&str, Vec<(String, String)>)]) -> Result<String, String> {
    let bare = |key: &str| key.trim().trim_matches('"').to_owned();
    let mut out = String::new();
    let mut written: Vec<&str> = Vec::new();
    let mut current: Option<&(&str, Vec<(String, String)>)> = None;
    for line in own.lines() {
        let text = line.trim();
        if let Some(header) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = tables.iter().find(|(name, _)| *name == header.trim());
            let _ = writeln!(out, "{line}");
            if let Some((name, pairs)) = current {
                written.push(name);
                write_pairs(&mut out, pairs);
            }
            continue;
        }
        if let Some((key, value)) = text.split_once('=')
            && !text.starts_with('#')
        {
            let full = key.trim().replace('"', "");
            let inline = value.trim_start().starts_with('{')
                && tables.iter().any(|(name, _)| name.ends_with(&format!(".{full}")) || *name == full);
            if inline || full.starts_with("settings.kubernetes") {
                return Err(format!(
                    "spec.userData: write {full} as a table of its own, such as [settings.kubernetes]"
                ));
            }
            if current.is_some_and(|(_, pairs)| pairs.iter().any(|(ours, _)| bare(ours) == bare(key))) {
                continue;
            }
        }
        let _ = writeln!(out, "{line}");
    }
    for (name, pairs) in tables.iter().filter(|(name, pairs)| !written.contains(name) && !pairs.is_empty()) {
        let _ = writeln!(out, "[{name}]");
        write_pairs(&mut out, pairs);
    }
    Ok(out)
}

fn write_pairs(out: &mut String, pairs: &[(String, String)]) {
    for (key, value) in pairs {
        let _ = writeln!(out, "{key} = {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(own: &str) -> Boot {
        Boot {
            cluster: "prod".into(),
            endpoint: "https://api".into(),
            authority: Some("Q0E=".into()),
            service_cidr: Some("10.100.0.0/16".into()),
            labels: [("karpenter.sh/nodepool".into(), "default".into())].into(),
            taints: vec![NodeTaint {
                key: "karpenter.sh/unregistered".into(),
                effect: "NoExecute".into(),
                ..NodeTaint::default()
            }],
            max_pods: Some(29),
            own: Some(own.into()).filter(|own: &String| !own.is_empty()),
            ..Boot::default()
        }
    }

    #[test]
    fn amazon_linux_2_calls_the_images_script() {
        let text = user_data(Family::Al2, &boot("#!/bin/sh\necho mine")).unwrap();
        assert!(text.contains(
            "/etc/eks/bootstrap.sh 'prod' --apiserver-endpoint 'https://api' --b64-cluster-ca 'Q0E='"
        ));
        assert!(text.contains("--register-with-taints=\"karpenter.sh/unregistered=:NoExecute\""));
        assert!(text.contains("--max-pods=29") && text.contains("--use-max-pods false"));
        assert!(text.find("echo mine").unwrap() < text.find("bootstrap.sh").unwrap());
        assert_eq!(text.matches("--//\n").count(), 2);
    }

    #[test]
    fn amazon_linux_2023_gets_a_configuration() {
        let own = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"BB\"\n\n--BB\n\
                   Content-Type: text/x-shellscript\n\necho mine\n--BB--\n";
        let text = user_data(Family::Al2023, &boot(own)).unwrap();
        let (_, config) = text.split_once("Content-Type: application/node.eks.aws\n\n").unwrap();
        let (config, _) = config.split_once("\n\n--//--").unwrap();
        let config: Value = serde_json::from_str(config).unwrap();
        assert_eq!(config.pointer("/spec/cluster/cidr"), Some(&json!("10.100.0.0/16")));
        assert_eq!(config.pointer("/spec/kubelet/config/maxPods"), Some(&json!(29)));
        let taint = json!([{"key": "karpenter.sh/unregistered", "effect": "NoExecute"}]);
        assert_eq!(config.pointer("/spec/kubelet/config/registerWithTaints"), Some(&taint));
        assert!(text.contains("echo mine") && !text.contains("--BB"));
    }

    #[test]
    fn bottlerockets_settings_are_joined() {
        let own =
            "[settings.host-containers.admin]\nenabled = true\n[settings.kubernetes]\nmax-pods = 5\nx = 1\n";
        let text = user_data(Family::Bottlerocket, &boot(own)).unwrap();
        assert!(text.contains("enabled = true") && text.contains("x = 1"));
        assert!(text.contains("max-pods = 29") && !text.contains("max-pods = 5"));
        assert_eq!(text.matches("[settings.kubernetes]").count(), 1);
        assert!(text.contains("\"karpenter.sh/unregistered\" = [\":NoExecute\"]"));
        assert!(user_data(Family::Bottlerocket, &boot("settings.kubernetes.x = 1")).is_err());
    }

    #[test]
    fn with_custom_only_the_owners_is_there() {
        assert_eq!(user_data(Family::Custom, &boot("mine")).unwrap(), "mine");
    }
}
