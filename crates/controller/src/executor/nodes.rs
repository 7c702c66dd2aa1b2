//! Writes to Node objects: taints, cordon, deletion.
//!
//! Each reads the whole live object, changes only what the step names, and writes it back with the resourceVersion
//! that it read, so that no field of anybody else's is lost. A node of another UID is never touched.

use super::Attempt;
use api::annotations::{CORDONED, INTENT};
use clouds::watching::{code, describe, within};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams, Preconditions};
use model::{Effect, MarkNode, NodeName, SoftTaint, Taint, Uid, UndoNode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn mark(nodes: &Api<DynamicObject>, limit: Duration, step: &MarkNode) -> Attempt {
    change(nodes, limit, &step.node, &step.uid, |node| apply_mark(node, step)).await
}

pub(super) async fn undo(nodes: &Api<DynamicObject>, limit: Duration, step: &UndoNode) -> Attempt {
    change(nodes, limit, &step.node, &step.uid, |node| apply_undo(node, step)).await
}

pub(super) async fn soften(nodes: &Api<DynamicObject>, limit: Duration, step: &SoftTaint) -> Attempt {
    change(nodes, limit, &step.node, &step.uid, |node| {
        if let Some(spec) = spec_of(node) {
            if step.put {
                add_taint(spec, &step.taint);
            } else {
                remove_taints(spec, std::slice::from_ref(&step.taint.key));
            }
        }
    })
    .await
}

pub(super) async fn delete(
    nodes: &Api<DynamicObject>,
    limit: Duration,
    name: &NodeName,
    uid: &Uid,
) -> Attempt {
    let preconditions = Preconditions { uid: Some(uid.to_string()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    match within(limit, nodes.delete(name.as_str(), &params)).await {
        Ok(_) => Attempt::Done,
        Err(error) if code(&error) == Some(404) => Attempt::Done,
        Err(error) if code(&error) == Some(409) && describe(&error).contains("UID") => {
            Attempt::obsolete(format!("node {name} is another one by now"))
        }
        Err(error) => Attempt::of_error(&format!("delete node {name}"), &error),
    }
}

async fn change(
    nodes: &Api<DynamicObject>,
    limit: Duration,
    name: &NodeName,
    uid: &Uid,
    change: impl FnOnce(&mut DynamicObject),
) -> Attempt {
    let read = match within(limit, nodes.get(name.as_str())).await {
        Ok(node) => node,
        Err(error) => return Attempt::of_error(&format!("read node {name}"), &error),
    };
    if read.metadata.uid.as_deref() != Some(uid.as_str()) {
        return Attempt::obsolete(format!("node {name} is another one by now"));
    }
    let mut wanted = read.clone();
    change(&mut wanted);
    if wanted == read {
        return Attempt::Done;
    }
    match within(limit, nodes.replace(name.as_str(), &PostParams::default(), &wanted)).await {
        Ok(_) => Attempt::Done,
        Err(error) => Attempt::of_error(&format!("update node {name}"), &error),
    }
}

fn apply_mark(node: &mut DynamicObject, step: &MarkNode) {
    let mut cordoned = false;
    if let Some(spec) = spec_of(node) {
        for taint in &step.taints {
            add_taint(spec, taint);
        }
        if step.cordon && spec.get("unschedulable").and_then(Value::as_bool) != Some(true) {
            spec.insert("unschedulable".into(), json!(true));
            cordoned = true;
        }
    }
    let annotations = node.annotations_mut();
    annotations.insert(INTENT.to_owned(), step.intent.to_string());
    if cordoned {
        annotations.insert(CORDONED.to_owned(), "true".to_owned());
    }
}

fn apply_undo(node: &mut DynamicObject, step: &UndoNode) {
    // Only our own cordon is lifted: an operator's stays.
    let ours = node.annotations().get(CORDONED).is_some_and(|value| value == "true");
    if let Some(spec) = spec_of(node) {
        remove_taints(spec, &step.taints);
        if step.uncordon && ours {
            spec.remove("unschedulable");
        }
    }
    if node.metadata.annotations.is_some() {
        node.annotations_mut().remove(INTENT);
        node.annotations_mut().remove(CORDONED);
    }
}

fn spec_of(node: &mut DynamicObject) -> Option<&mut Map<String, Value>> {
    node.data.as_object_mut()?.entry("spec").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

fn remove_taints(spec: &mut Map<String, Value>, keys: &[Arc<str>]) {
    let Some(Value::Array(taints)) = spec.get_mut("taints") else { return };
    taints.retain(|taint| {
        let key = taint.get("key").and_then(Value::as_str).unwrap_or_default();
        !keys.iter().any(|gone| **gone == *key)
    });
    if taints.is_empty() {
        spec.remove("taints");
    }
}

fn add_taint(spec: &mut Map<String, Value>, taint: &Taint) {
    let effect = match taint.effect {
        Effect::NoSchedule => "NoSchedule",
        Effect::PreferNoSchedule => "PreferNoSchedule",
        Effect::NoExecute => "NoExecute",
    };
    let taints = spec.entry("taints").or_insert_with(|| json!([]));
    if !taints.is_array() {
        *taints = json!([]);
    }
    let Some(list) = taints.as_array_mut() else { return };
    let there = list.iter().any(|known| {
        known.get("key").and_then(Value::as_str) == Some(&taint.key)
            && known.get("effect").and_then(Value::as_str) == Some(effect)
    });
    // A mark of an earlier attempt keeps its time.
    if !there {
        list.push(json!({"key": &*taint.key, "value": &*taint.value, "effect": effect}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::IntentId;

    fn node(spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n", "uid": "u"},
            "spec": spec, "status": {"somethingNew": {"kept": [1, 2]}},
        }))
        .unwrap()
    }

    fn step() -> (MarkNode, UndoNode) {
        let intent = IntentId::from("remove-1-1");
        let taint = Taint { key: "ToBeDeleted".into(), value: "7".into(), effect: Effect::NoSchedule };
        let mark = MarkNode {
            intent: intent.clone(),
            node: "n".into(),
            uid: "u".into(),
            taints: vec![taint.clone()],
            cordon: true,
        };
        let undo =
            UndoNode { intent, node: "n".into(), uid: "u".into(), taints: vec![taint.key], uncordon: true };
        (mark, undo)
    }

    #[test]
    fn a_mark_is_undone_without_a_trace_and_twice_is_once() {
        let (mark, undo) = step();
        let before = node(&json!({"podCIDR": "10.0.0.0/24", "unknown": {"a": 1}}));
        let mut marked = before.clone();
        apply_mark(&mut marked, &mark);
        assert_eq!(marked.data["spec"]["unschedulable"], json!(true));
        let mut again = marked.clone();
        apply_mark(&mut again, &mark);
        assert_eq!(again, marked);
        apply_undo(&mut marked, &undo);
        assert_eq!(marked.data, before.data);
        assert!(marked.annotations().is_empty());
    }

    #[test]
    fn an_operators_cordon_and_taints_stay() {
        let (mark, undo) = step();
        let theirs = json!({"unschedulable": true, "taints": [{"key": "mine", "effect": "NoSchedule"}]});
        let before = node(&theirs);
        let mut changed = before.clone();
        apply_mark(&mut changed, &mark);
        apply_undo(&mut changed, &undo);
        assert_eq!(changed.data, before.data);
    }
}
