//! Nodes and pods in Kubernetes' protobuf form, in which external programs send and take them.
//!
//! Owns the way between that form and the model's templates. Fields that say nothing of where a pod may run are
//! skipped.

#[allow(clippy::all, clippy::pedantic, unreachable_pub, missing_docs, reason = "generated")]
#[rustfmt::skip]
mod generated;

use crate::tags::effect_of;
use generated as wire;
use intake::quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use model::{Effect, Labels, NodeTemplate, Pod, Resources, Taint, Toleration, TolerationOperator};
use prost::Message as _;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Pods of a node that does not say, as the kubelet's default.
const PODS: u32 = 110;

/// What a node in protobuf form looks like to a scheduler; `Err` names the field and the fix.
pub(crate) fn template(bytes: &[u8]) -> Result<NodeTemplate, String> {
    let node = wire::Node::decode(bytes)
        .map_err(|error| format!("the node is no core/v1 Node in Kubernetes' protobuf form ({error})"))?;
    let status = node.status.unwrap_or_default();
    let given = if status.allocatable.is_empty() { status.capacity } else { status.allocatable };
    let list: BTreeMap<String, Quantity> =
        given.into_iter().map(|(name, quantity)| (name, Quantity(quantity.string))).collect();
    let mut allocatable =
        quantity::resources(&list).map_err(|error| format!("the node's status.allocatable: {error}"))?;
    if allocatable.cpu.0 == 0 || allocatable.memory.0 == 0 {
        return Err("the node's status.allocatable lacks cpu or memory; give both".to_owned());
    }
    if allocatable.pods == 0 {
        allocatable.pods = PODS;
    }
    let labels = node.metadata.unwrap_or_default().labels;
    let labels = labels.iter().filter(|(key, _)| *key != api::labels::HOSTNAME);
    let mut taints = Vec::new();
    for taint in node.spec.unwrap_or_default().taints {
        if api::taints::is_transient(&taint.key) {
            continue;
        }
        let effect = effect_of(&taint.effect).ok_or_else(|| {
            format!(
                "the node's taint {} has the effect \"{}\"; write NoSchedule, PreferNoSchedule or NoExecute",
                taint.key, taint.effect
            )
        })?;
        taints.push(Taint { key: Arc::from(taint.key), value: Arc::from(taint.value), effect });
    }
    taints.sort_by(|a, b| (&a.key, a.effect).cmp(&(&b.key, b.effect)));
    let labels = labels.map(|(key, value)| (Arc::from(key.as_str()), Arc::from(value.as_str()))).collect();
    Ok(NodeTemplate { labels, taints, allocatable, fittings: None })
}

/// A node of a template in protobuf form.
pub(crate) fn node(name: &str, template: &NodeTemplate) -> Vec<u8> {
    let labels = template.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    let taint = |taint: &Taint| wire::Taint {
        key: taint.key.to_string(),
        value: taint.value.to_string(),
        effect: effect_name(taint.effect).to_owned(),
    };
    let resources = quantities(&template.allocatable);
    let ready = wire::NodeCondition { r#type: "Ready".to_owned(), status: "True".to_owned() };
    let node = wire::Node {
        metadata: Some(wire::ObjectMeta {
            name: name.to_owned(),
            labels: labels.chain([(api::labels::HOSTNAME.to_owned(), name.to_owned())]).collect(),
            ..wire::ObjectMeta::default()
        }),
        spec: Some(wire::NodeSpec {
            taints: template.taints.iter().map(taint).collect(),
            ..wire::NodeSpec::default()
        }),
        status: Some(wire::NodeStatus {
            capacity: resources.clone(),
            allocatable: resources,
            conditions: vec![ready],
        }),
    };
    node.encode_to_vec()
}

/// A pod in protobuf form: what of it decides where it may run, its requests as those of one container.
pub(crate) fn pod(pod: &Pod) -> Vec<u8> {
    let shape = &pod.shape;
    let text = |text: &Arc<str>| text.to_string();
    let pairs = |labels: &Labels| labels.iter().map(|(key, value)| (text(key), text(value))).collect();
    let toleration = |one: &Toleration| wire::Toleration {
        key: one.key.as_ref().map(text).unwrap_or_default(),
        operator: match one.operator {
            TolerationOperator::Equal => "Equal".to_owned(),
            TolerationOperator::Exists => "Exists".to_owned(),
        },
        value: text(&one.value),
        effect: one.effect.map(|effect| effect_name(effect).to_owned()).unwrap_or_default(),
    };
    // A request for the pod's own place is not one that a container makes.
    let requests = quantities(&Resources { pods: 0, ..shape.requests.clone() });
    let container =
        wire::Container { name: "all".to_owned(), resources: Some(wire::ResourceRequirements { requests }) };
    let pod = wire::Pod {
        metadata: Some(wire::ObjectMeta {
            name: text(&pod.key.name),
            namespace: text(&pod.key.namespace),
            uid: pod.uid.to_string(),
            labels: pairs(&pod.labels),
            ..wire::ObjectMeta::default()
        }),
        spec: Some(wire::PodSpec {
            containers: vec![container],
            node_selector: pairs(&shape.node_selector),
            tolerations: shape.tolerations.iter().map(toleration).collect(),
            priority: shape.priority,
        }),
    };
    pod.encode_to_vec()
}

fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::NoSchedule => "NoSchedule",
        Effect::PreferNoSchedule => "PreferNoSchedule",
        Effect::NoExecute => "NoExecute",
    }
}

fn quantities(resources: &Resources) -> HashMap<String, wire::Quantity> {
    let mut list = HashMap::new();
    let mut add = |name: &str, amount: String| {
        list.insert(name.to_owned(), wire::Quantity { string: amount });
    };
    add("cpu", format!("{}m", resources.cpu.0));
    add("memory", resources.memory.0.to_string());
    if resources.pods > 0 {
        add("pods", resources.pods.to_string());
    }
    if resources.ephemeral_storage.0 > 0 {
        add("ephemeral-storage", resources.ephemeral_storage.0.to_string());
    }
    for (name, amount) in &resources.extended {
        add(&name.0, amount.to_string());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_survive_the_way_there_and_back() {
        let mut given = NodeTemplate::default();
        given.labels.insert(Arc::from("zone"), Arc::from("a"));
        given.allocatable.cpu.0 = 3920;
        given.allocatable.memory.0 = 15 << 30;
        given.allocatable.pods = 58;
        given.allocatable.extended.insert(model::ResourceName::new("nvidia.com/gpu"), 4);
        given.taints.push(Taint {
            key: Arc::from("dedicated"),
            value: Arc::from("databases"),
            effect: Effect::NoSchedule,
        });
        assert_eq!(template(&node("new", &given)), Ok(given));
    }

    #[test]
    fn a_node_of_another_program_is_read_and_a_broken_one_says_why() {
        // metadata{name "n", labels{"a": "b"}}, status{capacity{"cpu": "2", "memory": "4Gi"}}, by hand.
        let metadata = [&[10, 1, b'n'][..], &[90, 6, 10, 1, b'a', 18, 1, b'b']].concat();
        let cpu = [&[10, 10, 10, 3][..], b"cpu", &[18, 3, 10, 1, b'2']].concat();
        let memory = [&[10, 15, 10, 6][..], b"memory", &[18, 5, 10, 3], b"4Gi"].concat();
        let status = [cpu, memory].concat();
        let mut bytes = vec![10, metadata.len() as u8];
        bytes.extend(metadata);
        bytes.extend([26, status.len() as u8]);
        bytes.extend(status);
        let read = template(&bytes).unwrap();
        assert_eq!((read.allocatable.cpu.0, read.allocatable.memory.0), (2000, 4 << 30));
        assert_eq!((read.allocatable.pods, &*read.labels["a"]), (PODS, "b"));
        assert!(template(&[1, 2, 3]).unwrap_err().contains("protobuf"));
        assert!(template(&[]).unwrap_err().contains("lacks cpu or memory"));
    }
}
