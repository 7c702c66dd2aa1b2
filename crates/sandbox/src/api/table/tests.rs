//! Cells of the columns that scripts and people read most.

use super::*;

fn cells(resource: ResourceName, value: Value) -> Vec<String> {
    let object = Object::new(resource, 1, value);
    let cells = (sheet(resource).cells)(&object, "2026-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(cells.len(), sheet(resource).columns.len());
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

#[test]
fn every_kind_fills_its_columns() {
    for info in crate::store::Registry::built_in().all() {
        assert!(!cells(info.name, json!({"metadata": {"name": "a"}})).is_empty());
    }
}

#[test]
fn pods_and_nodes_read_as_usual() {
    let pod = json!({
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c"}], "nodeName": "n"},
        "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 0, "state": {"running": {}}}]},
    });
    assert_eq!(cells(r::PODS, pod.clone())[..7], ["a", "1/1", "Running", "0", "60m", "<none>", "n"]);
    let mut going = pod;
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    assert_eq!(cells(r::PODS, going)[2], "Terminating");
    let node = json!({
        "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": ""}, "creationTimestamp": "2026-01-01T00:59:00Z"},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.33.0"}},
    });
    assert_eq!(cells(r::NODES, node)[..5], ["n", "Ready,SchedulingDisabled", "worker", "60s", "v1.33.0"]);
}
