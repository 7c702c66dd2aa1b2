//! The kinds of v1beta1 in files: NodePools and EC2NodeClasses as they are written today.
//!
//! Owns what each of their fields means today. They have the names of today's kinds, and an API server keeps one version of
//! a kind: so files are translated, and nothing of v1beta1 is served.

use crate::legacy::Untranslatable;
use api::karpenter::{AWS_GROUP, Ec2NodeClass, NodePool};
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The version that is read, of both groups.
pub const POOLS: &str = "karpenter.sh/v1beta1";
pub const CLASSES: &str = "karpenter.k8s.aws/v1beta1";
/// What a NodePool of today has, too, or that is read here.
const POOL_FIELDS: [&str; 4] = ["template", "disruption", "limits", "weight"];
const TEMPLATE_FIELDS: [&str; 6] =
    ["taints", "startupTaints", "requirements", "nodeClassRef", "kubelet", "resources"];
const DISRUPTION_FIELDS: [&str; 4] = ["consolidationPolicy", "consolidateAfter", "expireAfter", "budgets"];
const CLASS_FIELDS: [&str; 14] = [
    "subnetSelectorTerms",
    "securityGroupSelectorTerms",
    "amiSelectorTerms",
    "amiFamily",
    "userData",
    "role",
    "instanceProfile",
    "tags",
    "blockDeviceMappings",
    "detailedMonitoring",
    "metadataOptions",
    "context",
    "associatePublicIPAddress",
    "instanceStorePolicy",
];
const A_MONTH: &str = "720h";
/// Families that have images of their own by an alias.
const WITH_ALIAS: [&str; 5] = ["AL2", "AL2023", "Bottlerocket", "Windows2019", "Windows2022"];

/// Objects of today.
#[derive(Debug, Default)]
pub struct Translated {
    pub classes: Vec<Ec2NodeClass>,
    pub pools: Vec<NodePool>,
}

/// The objects that take the place of old NodePools and EC2NodeClasses. What a NodePool said of kubelets is said by its
/// class today: where pools of one class say different things, each of them has a class of its own.
pub fn translate(pools: &[Value], classes: &[Value]) -> Result<Translated, Untranslatable> {
    let mut all = Translated::default();
    for class in classes {
        all.classes.push(self::class(class)?);
    }
    let mut pools: Vec<(NodePool, Option<Map<String, Value>>)> =
        pools.iter().map(pool).collect::<Result<_, _>>()?;
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (pool, kubelet) in &pools {
        wanted.entry(class_of(pool)).or_default().insert(text_of(kubelet.as_ref()));
    }
    let mut made: BTreeMap<(String, String), String> = BTreeMap::new();
    for (pool, kubelet) in &mut pools {
        let Some(kubelet) = kubelet.take() else { continue };
        let name = class_of(pool);
        let Some(at) = all.classes.iter().position(|class| class.name_any() == name) else {
            let fix = format!("it belongs to the class today; give the EC2NodeClass {name} with it");
            return Err(wrong("NodePool", &pool.name_any(), "spec.template.spec.kubelet", &fix));
        };
        if wanted.get(&name).is_some_and(|texts| texts.len() == 1) {
            all.classes[at].spec.kubelet = Some(kubelet);
            continue;
        }
        let own = made.entry((name.clone(), text_of(Some(&kubelet)))).or_insert_with(|| {
            let mut class = all.classes[at].clone();
            let own = format!("{name}-{}", pool.name_any());
            class.metadata.name = Some(own.clone());
            class.spec.kubelet = Some(kubelet);
            all.classes.push(class);
            own
        });
        pool.spec.template.spec.node_class_ref.name.clone_from(own);
    }
    all.pools = pools.into_iter().map(|(pool, _)| pool).collect();
    Ok(all)
}

fn class_of(pool: &NodePool) -> String {
    pool.spec.template.spec.node_class_ref.name.clone()
}

fn text_of(kubelet: Option<&Map<String, Value>>) -> String {
    kubelet.map(|fields| Value::Object(fields.clone()).to_string()).unwrap_or_default()
}

fn wrong(kind: &'static str, name: &str, field: &str, fix: &str) -> Untranslatable {
    Untranslatable { kind, name: name.to_owned(), field: field.to_owned(), fix: fix.to_owned() }
}

fn name_of(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// A part of an object, with no field that is not known.
fn fields(
    kind: &'static str,
    object: &Value,
    path: &str,
    known: &[&str],
) -> Result<Map<String, Value>, Untranslatable> {
    let field = path.trim_start_matches('/').replace('/', ".");
    let fields = match object.pointer(path) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(fields)) => fields.clone(),
        Some(_) => return Err(wrong(kind, name_of(object), &field, "is no object")),
    };
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let fix = format!("is not of v1beta1; its fields are {}", known.join(", "));
            Err(wrong(kind, name_of(object), &format!("{field}.{name}"), &fix))
        }
        None => Ok(fields),
    }
}

fn typed<T: DeserializeOwned>(kind: &'static str, name: &str, value: Value) -> Result<T, Untranslatable> {
    serde_json::from_value(value).map_err(|error| wrong(kind, name, "spec", &error.to_string()))
}

/// A NodePool, and what it says of kubelets.
fn pool(old: &Value) -> Result<(NodePool, Option<Map<String, Value>>), Untranslatable> {
    let (kind, name) = ("NodePool", name_of(old));
    let mut spec = fields(kind, old, "/spec", &POOL_FIELDS)?;
    let mut template = fields(kind, old, "/spec/template/spec", &TEMPLATE_FIELDS)?;
    let mut disruption = fields(kind, old, "/spec/disruption", &DISRUPTION_FIELDS)?;
    let kubelet = match template.remove("kubelet") {
        Some(Value::Object(fields)) if !fields.is_empty() => Some(fields),
        _ => None,
    };
    template.remove("resources");
    let reference = template.get("nodeClassRef").cloned().unwrap_or(Value::Null);
    let Some(class) = reference.get("name").and_then(Value::as_str) else {
        return Err(wrong(kind, name, "spec.template.spec.nodeClassRef.name", "name the class"));
    };
    let version = reference.get("apiVersion").and_then(Value::as_str).unwrap_or(CLASSES);
    let group = version.split_once('/').map_or(AWS_GROUP, |(group, _)| group);
    let class_kind = reference.get("kind").and_then(Value::as_str).unwrap_or("EC2NodeClass");
    template.insert("nodeClassRef".to_owned(), json!({"group": group, "kind": class_kind, "name": class}));
    let expire = disruption.remove("expireAfter").unwrap_or_else(|| json!(A_MONTH));
    template.insert("expireAfter".to_owned(), expire);
    let empty_only = match disruption.get("consolidationPolicy").and_then(Value::as_str) {
        None | Some("WhenUnderutilized") => false,
        Some("WhenEmpty") => true,
        Some(other) => {
            let fix = format!("{other} is not of v1beta1; write WhenUnderutilized or WhenEmpty");
            return Err(wrong(kind, name, "spec.disruption.consolidationPolicy", &fix));
        }
    };
    let after = disruption.get("consolidateAfter").and_then(Value::as_str).map(str::to_owned);
    if !empty_only && after.as_deref().is_some_and(|after| after != "Never") {
        let fix = "goes with WhenEmpty alone in v1beta1; leave it out, or write WhenEmpty";
        return Err(wrong(kind, name, "spec.disruption.consolidateAfter", fix));
    }
    let Some(after) = after.or_else(|| (!empty_only).then(|| "0s".to_owned())) else {
        return Err(wrong(
            kind,
            name,
            "spec.disruption.consolidateAfter",
            "goes with WhenEmpty; say how long",
        ));
    };
    let policy = if empty_only { "WhenEmpty" } else { "WhenEmptyOrUnderutilized" };
    disruption.insert("consolidationPolicy".to_owned(), json!(policy));
    disruption.insert("consolidateAfter".to_owned(), json!(after));
    let metadata = old.pointer("/spec/template/metadata").cloned().unwrap_or_else(|| json!({}));
    spec.insert("template".to_owned(), json!({"metadata": metadata, "spec": template}));
    spec.insert("disruption".to_owned(), Value::Object(disruption));
    let new =
        json!({"apiVersion": "karpenter.sh/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    // What the schema lets through is asked for here, too.
    intake::node_pool(&new).map_err(|error| wrong(kind, name, "as written today", &error.to_string()))?;
    Ok((typed(kind, name, new)?, kubelet))
}

fn class(old: &Value) -> Result<Ec2NodeClass, Untranslatable> {
    let (kind, name) = ("EC2NodeClass", name_of(old));
    let mut spec = fields(kind, old, "/spec", &CLASS_FIELDS)?;
    let family = spec.get("amiFamily").and_then(Value::as_str).unwrap_or("AL2").to_owned();
    let chosen =
        spec.get("amiSelectorTerms").and_then(Value::as_array).is_some_and(|terms| !terms.is_empty());
    if family == "Ubuntu" {
        let fix = "Ubuntu is no family any more; write AL2 and amiSelectorTerms that find Ubuntu's images";
        return Err(wrong(kind, name, "spec.amiFamily", fix));
    }
    if chosen {
        spec.insert("amiFamily".to_owned(), json!(family));
    } else if WITH_ALIAS.contains(&family.as_str()) {
        spec.remove("amiFamily");
        let alias = format!("{}@latest", family.to_lowercase());
        spec.insert("amiSelectorTerms".to_owned(), json!([{"alias": alias}]));
    } else {
        let fix = format!("family {family} has no images of its own; say which");
        return Err(wrong(kind, name, "spec.amiSelectorTerms", &fix));
    }
    if spec.contains_key("role") == spec.contains_key("instanceProfile") {
        return Err(wrong(kind, name, "spec.role", "give either role or instanceProfile"));
    }
    // The limit was two by default, and is one today.
    let options = spec.entry("metadataOptions").or_insert_with(|| json!({}));
    if let Some(options) = options.as_object_mut() {
        options.entry("httpPutResponseHopLimit").or_insert_with(|| json!(2));
    }
    let new =
        json!({"apiVersion": "karpenter.k8s.aws/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    typed(kind, name, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::karpenter::ConsolidationPolicy;

    fn old_pool(name: &str, change: &Value) -> Value {
        let mut template = json!({"requirements": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}],
            "nodeClassRef": {"apiVersion": CLASSES, "kind": "EC2NodeClass", "name": "default"}});
        if let Some(kubelet) = change.get("kubelet") {
            template["kubelet"] = kubelet.clone();
        }
        let mut spec = json!({"template": {"metadata": {"labels": {"team": "web"}}, "spec": template}});
        if let Some(disruption) = change.get("disruption") {
            spec["disruption"] = disruption.clone();
        }
        json!({"apiVersion": POOLS, "kind": "NodePool", "metadata": {"name": name}, "spec": spec})
    }

    fn old_class(change: &Value) -> Value {
        let mut spec = json!({"subnetSelectorTerms": [{"id": "subnet-1"}],
            "securityGroupSelectorTerms": [{"id": "sg-1"}], "role": "nodes"});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        json!({"apiVersion": CLASSES, "kind": "EC2NodeClass", "metadata": {"name": "default"}, "spec": spec})
    }

    #[test]
    fn policies_and_expiry_mean_what_they_meant() {
        let of = |disruption: Value| {
            let change = json!({"disruption": disruption});
            translate(&[old_pool("a", &change)], &[]).map(|all| all.pools[0].spec.clone())
        };
        let plain = translate(&[old_pool("a", &json!({}))], &[]).unwrap().pools[0].spec.clone();
        assert_eq!(plain.disruption.consolidation_policy, ConsolidationPolicy::WhenEmptyOrUnderutilized);
        assert_eq!((plain.disruption.consolidate_after.as_str(), plain.disruption.budgets.len()), ("0s", 1));
        assert_eq!(plain.template.spec.expire_after, "720h");
        assert_eq!(plain.template.spec.node_class_ref.group, "karpenter.k8s.aws");
        assert_eq!(plain.template.metadata.labels["team"], "web");
        let spec =
            of(json!({"consolidationPolicy": "WhenEmpty", "consolidateAfter": "30s", "expireAfter": "Never",
            "budgets": [{"nodes": "5", "schedule": "@daily", "duration": "1h"}]}))
            .unwrap();
        assert_eq!(spec.disruption.consolidation_policy, ConsolidationPolicy::WhenEmpty);
        assert_eq!(
            (spec.disruption.consolidate_after.as_str(), spec.disruption.budgets[0].nodes.as_str()),
            ("30s", "5")
        );
        assert_eq!(spec.template.spec.expire_after, "Never");
        for (wrong, field) in [
            (json!({"consolidationPolicy": "WhenEmpty"}), "spec.disruption.consolidateAfter"),
            (json!({"consolidateAfter": "30s"}), "spec.disruption.consolidateAfter"),
            (json!({"consolidationPolicy": "Balanced"}), "spec.disruption.consolidationPolicy"),
            (json!({"consolidation": true}), "spec.disruption.consolidation"),
        ] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with("NodePool a: ") && error.contains(field), "{error}");
        }
    }

    #[test]
    fn what_is_said_of_kubelets_goes_to_classes() {
        let few = json!({"kubelet": {"maxPods": 20}});
        let class = [old_class(&json!({}))];
        let one = translate(&[old_pool("a", &few), old_pool("b", &few)], &class).unwrap();
        assert_eq!(one.classes.len(), 1);
        assert_eq!(one.classes[0].spec.kubelet.as_ref().unwrap()["maxPods"], 20);
        let pools = [old_pool("a", &few), old_pool("b", &json!({})), old_pool("c", &few)];
        let several = translate(&pools, &class).unwrap();
        let names: Vec<String> = several.classes.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["default", "default-a"]);
        assert_eq!(several.classes[0].spec.kubelet, None);
        let used: Vec<String> = several.pools.iter().map(class_of).collect();
        assert_eq!(used, ["default-a", "default", "default-a"]);
        let error = translate(&[old_pool("a", &few)], &[]).unwrap_err().to_string();
        assert!(error.contains("give the EC2NodeClass default"), "{error}");
    }

    #[test]
    fn classes_get_images_and_keep_their_old_defaults() {
        let of = |change: Value| translate(&[], &[old_class(&change)]).map(|all| all.classes[0].spec.clone());
        let plain = of(json!({})).unwrap();
        assert_eq!(plain.ami_selector_terms[0].alias.as_deref(), Some("al2@latest"));
        assert_eq!((plain.ami_family, plain.metadata_options.http_put_response_hop_limit), (None, 2));
        let custom = of(json!({"amiFamily": "Custom", "amiSelectorTerms": [{"id": "ami-1"}],
            "metadataOptions": {"httpTokens": "optional", "httpPutResponseHopLimit": 1}}))
        .unwrap();
        assert_eq!(
            (custom.ami_family.as_deref(), custom.metadata_options.http_put_response_hop_limit),
            (Some("Custom"), 1)
        );
        for (wrong, field) in [
            (json!({"amiFamily": "Custom"}), "spec.amiSelectorTerms"),
            (json!({"amiFamily": "Ubuntu"}), "spec.amiFamily"),
            (json!({"instanceProfile": "p"}), "spec.role"),
            (json!({"subnetSelector": {}}), "spec.subnetSelector"),
        ] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with("EC2NodeClass default: ") && error.contains(field), "{error}");
        }
    }
}
