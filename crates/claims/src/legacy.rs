//! The kinds of v1alpha5, translated one way: Provisioners into NodePools, AWSNodeTemplates into EC2NodeClasses,
//! NodeClaims into the Machines that mirror them.
//!
//! Owns what each old field means today. Equal input gives equal objects, so translating again changes nothing. What is
//! written and when is the keeper's.

use crate::classes::reference;
use api::karpenter::v1alpha5::{AwsNodeTemplate, Machine, MachineSpec, MachineStatus, Provisioner};
use api::karpenter::{
    AWS_GROUP, AmiTerm, Budget, CAPACITY_TYPE, ConsolidationPolicy, Disruption, Ec2NodeClass,
    Ec2NodeClassSpec, NODE_POOL, NodeClaim, NodeClaimTemplate, NodePool, NodePoolSpec, NodeRequirement,
    OLD_CAPACITY_TYPE, PROVISIONER_NAME, RequirementOperator, SelectorTerm, TERMINATION, TemplateMetadata,
    TemplateSpec,
};
use api::labels::{ARCH, OS};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// On what was translated: from what.
pub(crate) const TRANSLATED_FROM: &str = "tideline.dev/translated-from";
/// On a class of an old Provisioner: the zones that its stand-in sells in.
const ZONES: &str = "tideline.dev/zones";
/// The profile and family where an old manifest names none.
const NO_PROFILE: &str = "default";
const OLD_FAMILY: &str = "AL2";

/// What an old field cannot be today: the field and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {field}: {fix}")]
pub struct Untranslatable {
    pub kind: &'static str,
    pub name: String,
    pub field: String,
    pub fix: String,
}

fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn metadata<K: Resource<DynamicType = ()>>(of: &K) -> ObjectMeta {
    let from = format!("{}/{}", K::kind(&()), of.name_any());
    // A manifest that was never applied owns nothing.
    let owners = of.uid().map(|_| vec![owner(of)]);
    ObjectMeta {
        name: Some(of.name_any()),
        annotations: Some(BTreeMap::from([(TRANSLATED_FROM.to_owned(), from)])),
        owner_references: owners,
        ..ObjectMeta::default()
    }
}

/// The `NodePool` of a Provisioner.
pub fn node_pool(old: &Provisioner) -> Result<NodePool, Untranslatable> {
    let (name, spec) = (old.name_any(), &old.spec);
    let wrong = |field: &str, fix: &str| Untranslatable {
        kind: "Provisioner",
        name: name.clone(),
        field: field.to_owned(),
        fix: fix.to_owned(),
    };
    let class = match (&spec.provider, &spec.provider_ref) {
        (Some(_), Some(_)) => return Err(wrong("spec.provider", "give either provider or providerRef")),
        (None, None) => return Err(wrong("spec.providerRef", "name an AWSNodeTemplate, or give provider")),
        (Some(_), None) => own_class(old),
        (None, Some(template)) => template.name.clone(),
    };
    let consolidates = spec.consolidation.as_ref().and_then(|c| c.enabled).unwrap_or(false);
    let (consolidation_policy, consolidate_after) = match spec.ttl_seconds_after_empty {
        Some(_) if consolidates => {
            let fix = "consolidation and ttlSecondsAfterEmpty cannot be used together; leave one out";
            return Err(wrong("spec.ttlSecondsAfterEmpty", fix));
        }
        Some(seconds) => (ConsolidationPolicy::WhenEmpty, format!("{seconds}s")),
        None if consolidates => (ConsolidationPolicy::WhenEmptyOrUnderutilized, "15s".to_owned()),
        // Nodes were never taken away for not being needed.
        None => (ConsolidationPolicy::WhenEmpty, "Never".to_owned()),
    };
    let mut labels = renamed(&spec.labels);
    labels.insert(PROVISIONER_NAME.to_owned(), name.clone());
    let mut pool = NodePool::new(
        &name,
        NodePoolSpec {
            template: NodeClaimTemplate {
                metadata: TemplateMetadata { labels, annotations: spec.annotations.clone() },
                spec: TemplateSpec {
                    taints: spec.taints.clone(),
                    startup_taints: spec.startup_taints.clone(),
                    requirements: requirements(old),
                    node_class_ref: reference(AWS_GROUP, "EC2NodeClass", &class),
                    termination_grace_period: None,
                    expire_after: spec
                        .ttl_seconds_until_expired
                        .map_or_else(|| "Never".to_owned(), |seconds| format!("{seconds}s")),
                },
            },
            disruption: Disruption {
                consolidate_after,
                consolidation_policy,
                // There were no budgets.
                budgets: vec![Budget { nodes: "100%".to_owned(), ..Budget::default() }],
            },
            limits: spec.limits.as_ref().map(|limits| limits.resources.clone()).filter(|l| !l.is_empty()),
            weight: spec.weight,
            replicas: None,
        },
    );
    pool.metadata = metadata(old);
    Ok(pool)
}

/// The class of a Provisioner that describes its machines itself. A template may have the Provisioner's own name.
fn own_class(old: &Provisioner) -> String {
    format!("{}-provider", old.name_any())
}

/// Keys by the names that they have now.
fn key(old: &str) -> String {
    match old {
        OLD_CAPACITY_TYPE => CAPACITY_TYPE.to_owned(),
        PROVISIONER_NAME => NODE_POOL.to_owned(),
        other => other.to_owned(),
    }
}

fn renamed(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.iter().map(|(old, value)| (key(old), value.clone())).filter(|(key, _)| key != NODE_POOL).collect()
}

/// The requirements, with those that were implied written out.
fn requirements(old: &Provisioner) -> Vec<NodeRequirement> {
    let mut all: Vec<NodeRequirement> = old
        .spec
        .requirements
        .iter()
        .map(|requirement| NodeRequirement { key: key(&requirement.key), ..requirement.clone() })
        .collect();
    let mut imply = |name: &str, operator: RequirementOperator, values: &[&str]| {
        let said =
            all.iter().any(|r| r.key == name) || old.spec.labels.keys().any(|label| key(label) == name);
        if !said {
            all.push(NodeRequirement {
                key: name.to_owned(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                min_values: None,
            });
        }
    };
    imply(OS, RequirementOperator::In, &["linux"]);
    imply(ARCH, RequirementOperator::In, &["amd64"]);
    imply(CAPACITY_TYPE, RequirementOperator::In, &["on-demand"]);
    if old.spec.provider.is_none() {
        imply("karpenter.k8s.aws/instance-category", RequirementOperator::In, &["c", "m", "r"]);
        imply("karpenter.k8s.aws/instance-generation", RequirementOperator::Gt, &["2"]);
    }
    all
}

/// The class of a Provisioner that describes its machines itself; `None` where it refers to a template.
pub fn class_of_provisioner(old: &Provisioner) -> Option<Ec2NodeClass> {
    let provider = old.spec.provider.as_ref()?;
    let text =
        |path: &str| Value::Object(provider.clone()).pointer(path).and_then(Value::as_str).map(str::to_owned);
    let cluster = text("/cluster/name").unwrap_or_default();
    let of_cluster = BTreeMap::from([(format!("kubernetes.io/cluster/{cluster}"), "*".to_owned())]);
    let selected = |field: &str| match provider.get(field).and_then(Value::as_object) {
        Some(selector) => terms(&texts(selector)),
        None => vec![SelectorTerm { tags: of_cluster.clone(), ..SelectorTerm::default() }],
    };
    let family = text("/amiFamily").unwrap_or_else(|| OLD_FAMILY.to_owned());
    let mut class = Ec2NodeClass::new(
        &own_class(old),
        Ec2NodeClassSpec {
            subnet_selector_terms: selected("subnetSelector"),
            security_group_selector_terms: selected("securityGroupSelector"),
            ami_selector_terms: vec![alias(&family)],
            instance_profile: Some(text("/instanceProfile").unwrap_or_else(|| NO_PROFILE.to_owned())),
            tags: provider.get("tags").and_then(Value::as_object).map(texts).unwrap_or_default(),
            kubelet: kubelet(old),
            ..Ec2NodeClassSpec::default()
        },
    );
    class.metadata = ObjectMeta { name: Some(own_class(old)), ..metadata(old) };
    if let Some(region) = text("/cluster/endpoint").as_deref().and_then(region_of) {
        class.annotations_mut().insert(ZONES.to_owned(), format!("{region}a,{region}b"));
    }
    Some(class)
}

/// The region in the address of a cluster, such as `https://0123.gr7.cn-north-1.eks.amazonaws.com.cn`.
fn region_of(endpoint: &str) -> Option<String> {
    let host = endpoint.trim_matches('"').trim_start_matches("https://");
    let before = host.split('.').take_while(|part| *part != "eks").last()?;
    let looks_so = before.split('-').count() >= 3 && before.ends_with(|c: char| c.is_ascii_digit());
    looks_so.then(|| before.to_owned())
}

fn kubelet(old: &Provisioner) -> Option<Map<String, Value>> {
    let mut fields = old.spec.kubelet_configuration.clone()?;
    fields.remove("containerRuntime");
    Some(fields)
}

fn texts(map: &Map<String, Value>) -> BTreeMap<String, String> {
    map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn alias(family: &str) -> AmiTerm {
    AmiTerm { alias: Some(format!("{}@latest", family.to_lowercase())), ..AmiTerm::default() }
}

/// Old selectors were one map: ids in a list, tags, and lists of values for one tag.
fn terms(selector: &BTreeMap<String, String>) -> Vec<SelectorTerm> {
    let is_ids = |key: &str| matches!(key, "aws-ids" | "aws::ids");
    let ids = selector.iter().filter(|(key, _)| is_ids(key)).flat_map(|(_, ids)| ids.split(','));
    let mut all: Vec<SelectorTerm> =
        ids.map(|id| SelectorTerm { id: Some(id.trim().to_owned()), ..SelectorTerm::default() }).collect();
    let mut sets = vec![BTreeMap::new()];
    for (key, values) in selector.iter().filter(|(key, _)| !is_ids(key)) {
        let values: Vec<&str> = if values.is_empty() { vec!["*"] } else { values.split(',').collect() };
        let with = |set: &BTreeMap<String, String>, value: &str| {
            let mut set = set.clone();
            set.insert(key.clone(), value.trim().to_owned());
            set
        };
        sets = sets.iter().flat_map(|set| values.iter().map(move |value| with(set, value))).collect();
    }
    sets.retain(|set| !set.is_empty());
    all.extend(sets.into_iter().map(|tags| SelectorTerm { tags, ..SelectorTerm::default() }));
    all
}

/// The class of an old template.
pub fn class_of_template(old: &AwsNodeTemplate) -> Result<Ec2NodeClass, Untranslatable> {
    let spec = &old.spec;
    if spec.launch_template.is_some() {
        return Err(Untranslatable {
            kind: "AWSNodeTemplate",
            name: old.name_any(),
            field: "spec.launchTemplate".to_owned(),
            fix: "own launch templates are not served any more; give amiFamily, userData and tags".to_owned(),
        });
    }
    let family = spec.ami_family.clone().unwrap_or_else(|| OLD_FAMILY.to_owned());
    let images = if spec.ami_selector.is_empty() {
        vec![alias(&family)]
    } else {
        let of = |term: SelectorTerm| AmiTerm { tags: term.tags, id: term.id, ..AmiTerm::default() };
        terms(&spec.ami_selector).into_iter().map(of).collect()
    };
    let mut class = Ec2NodeClass::new(
        &old.name_any(),
        Ec2NodeClassSpec {
            subnet_selector_terms: terms(&spec.subnet_selector),
            security_group_selector_terms: terms(&spec.security_group_selector),
            ami_selector_terms: images,
            ami_family: (!spec.ami_selector.is_empty()).then_some(family),
            instance_profile: Some(spec.instance_profile.clone().unwrap_or_else(|| NO_PROFILE.to_owned())),
            user_data: spec.user_data.clone(),
            tags: spec.tags.clone(),
            block_device_mappings: spec.block_device_mappings.clone(),
            detailed_monitoring: spec.detailed_monitoring,
            context: spec.context.clone(),
            metadata_options: spec.metadata_options.clone().unwrap_or_default(),
            ..Ec2NodeClassSpec::default()
        },
    );
    class.metadata = metadata(old);
    Ok(class)
}

/// The Machine that mirrors a claim.
pub(crate) fn machine(claim: &NodeClaim) -> Machine {
    let mut labels = claim.labels().clone();
    if let Some(pool) = labels.get(NODE_POOL).cloned() {
        labels.insert(PROVISIONER_NAME.to_owned(), pool);
    }
    let status = claim.status.clone().unwrap_or_default();
    let condition = |condition: &Condition| {
        let mut condition = condition.clone();
        if ["Launched", "Registered", "Initialized", "Drifted"].contains(&condition.type_.as_str()) {
            condition.type_ = format!("Machine{}", condition.type_);
        }
        condition
    };
    let mut machine = Machine::new(
        &claim.name_any(),
        MachineSpec {
            taints: claim.spec.taints.clone(),
            startup_taints: claim.spec.startup_taints.clone(),
            requirements: claim.spec.requirements.clone(),
            resources: claim.spec.resources.clone(),
            machine_template_ref: None,
        },
    );
    machine.metadata = metadata(claim);
    machine.metadata.labels = Some(labels);
    machine.metadata.finalizers = Some(vec![TERMINATION.to_owned()]);
    machine.status = Some(MachineStatus {
        node_name: status.node_name,
        provider_id: status.provider_id,
        capacity: status.capacity,
        allocatable: status.allocatable,
        conditions: status.conditions.iter().map(condition).collect(),
    });
    machine
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn provisioner(spec: &Value) -> Provisioner {
        serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
            "metadata": {"name": "default", "uid": "u"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_documents_provisioner_is_translated() {
        let old = provisioner(&json!({
            "requirements": [{"key": "node.k8s.aws/capacity-type", "operator": "In", "values": ["spot"]}],
            "provider": {"instanceProfile": "KarpenterNodeInstanceProfile-c", "cluster": {"name": "c",
                "endpoint": "\"https://0123.gr7.cn-north-1.eks.amazonaws.com.cn\""}},
            "ttlSecondsAfterEmpty": 30,
        }));
        let pool = node_pool(&old).unwrap();
        let spec = &pool.spec;
        assert_eq!(spec.disruption.consolidate_after, "30s");
        assert_eq!(spec.disruption.consolidation_policy, ConsolidationPolicy::WhenEmpty);
        assert_eq!(spec.disruption.budgets[0].nodes, "100%");
        assert_eq!(spec.template.spec.expire_after, "Never");
        assert_eq!(spec.template.metadata.labels[PROVISIONER_NAME], "default");
        let keys: Vec<&str> = spec.template.spec.requirements.iter().map(|r| r.key.as_str()).collect();
        assert_eq!(keys, [CAPACITY_TYPE, OS, ARCH], "category and generation are not implied here");
        assert_eq!(pool.owner_references()[0].kind, "Provisioner");
        let class = class_of_provisioner(&old).unwrap();
        assert_eq!(class.spec.instance_profile.as_deref(), Some("KarpenterNodeInstanceProfile-c"));
        assert_eq!(class.spec.subnet_selector_terms[0].tags["kubernetes.io/cluster/c"], "*");
        assert_eq!(class.annotations()[ZONES], "cn-north-1a,cn-north-1b");
        assert_eq!(node_pool(&old).unwrap().spec, pool.spec, "translated again it is the same");
        assert!(intake::node_pool(&serde_json::to_value(&pool).unwrap()).is_ok());
    }

    #[test]
    fn old_fields_mean_what_they_meant() {
        let pool = node_pool(&provisioner(&json!({
            "providerRef": {"name": "t"}, "consolidation": {"enabled": true}, "ttlSecondsUntilExpired": 60,
            "limits": {"resources": {"cpu": "100"}}, "weight": 7,
        })))
        .unwrap();
        assert_eq!(pool.spec.disruption.consolidate_after, "15s");
        assert_eq!(pool.spec.template.spec.expire_after, "60s");
        assert_eq!(pool.spec.template.spec.node_class_ref.name, "t");
        assert_eq!(pool.spec.template.spec.requirements.len(), 5);
        assert_eq!((pool.spec.weight, pool.spec.limits.unwrap()["cpu"].0.as_str()), (Some(7), "100"));
        let never = node_pool(&provisioner(&json!({"providerRef": {"name": "t"}}))).unwrap();
        assert_eq!(never.spec.disruption.consolidate_after, "Never");
        for wrong in [
            json!({}),
            json!({"provider": {}, "providerRef": {"name": "t"}}),
            json!({"provider": {}, "consolidation": {"enabled": true}, "ttlSecondsAfterEmpty": 1}),
        ] {
            let error = node_pool(&provisioner(&wrong)).unwrap_err().to_string();
            assert!(error.starts_with("Provisioner default: spec."), "{error}");
        }
    }

    #[test]
    fn selectors_of_one_map_become_terms() {
        let map =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found = terms(&map(&[("aws-ids", "subnet-1,subnet-2"), ("Name", "a,b"), ("tag", "")]));
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].id.as_deref(), Some("subnet-1"));
        assert_eq!(found[3].tags, map(&[("Name", "b"), ("tag", "*")]));
    }
}
