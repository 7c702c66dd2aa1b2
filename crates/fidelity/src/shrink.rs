//! A disagreement made small: whatever can be left out while both sides still differ is left out.

use crate::course::{Disagreement, replay};
use crate::error::Error;
use crate::plane::Plane;
use crate::situation::Situation;
use serde_json::Value;

/// Trials for one disagreement; each takes some tens of milliseconds.
const MOST_TRIALS: usize = 400;

/// Makes a disagreement smaller, as far as trials and its nature allow.
pub(crate) async fn shrink(plane: &mut Plane, found: Disagreement) -> Result<Disagreement, Error> {
    let Some(mut best) = replay(plane, &found.situation, &found.pod).await? else {
        // It depends on how the situation came about; then all of it is needed.
        return Ok(found);
    };
    let mut trials = 0;
    loop {
        let before = trials;
        let mut smaller = false;
        for (situation, pod) in candidates(&best) {
            trials += 1;
            if trials > MOST_TRIALS {
                return Ok(best);
            }
            if let Some(found) = replay(plane, &situation, &pod).await? {
                best = found;
                smaller = true;
                break;
            }
        }
        if !smaller || trials == before {
            return Ok(best);
        }
    }
}

/// Everything with one thing less, the largest things first.
fn candidates(from: &Disagreement) -> Vec<(Situation, Value)> {
    let Disagreement { situation, pod, .. } = from;
    let mut all = Vec::new();
    for i in 0..situation.pods.len() {
        let mut less = situation.clone();
        less.pods.remove(i);
        all.push((less, pod.clone()));
    }
    for i in 0..situation.nodes.len() {
        let mut less = situation.clone();
        let gone = less.nodes.remove(i)["metadata"]["name"].clone();
        less.pods.retain(|pod| pod["spec"]["nodeName"] != gone);
        all.push((less, pod.clone()));
    }
    for i in 0..situation.storage.len() {
        let mut less = situation.clone();
        less.storage.remove(i);
        all.push((less, pod.clone()));
    }
    for path in removable(pod, &["spec", "metadata/labels"]) {
        all.push((situation.clone(), without(pod, &path)));
    }
    for (i, held) in situation.pods.iter().enumerate() {
        for path in removable(held, &["spec", "metadata/labels"]) {
            let mut less = situation.clone();
            less.pods[i] = without(held, &path);
            all.push((less, pod.clone()));
        }
    }
    for (i, node) in situation.nodes.iter().enumerate() {
        for path in removable(node, &["spec", "metadata/labels", "status/allocatable"]) {
            let mut less = situation.clone();
            less.nodes[i] = without(node, &path);
            all.push((less, pod.clone()));
        }
    }
    all
}

/// The pointers to what stands below some parts of an object, outermost first.
fn removable(object: &Value, parts: &[&str]) -> Vec<String> {
    let mut paths = Vec::new();
    for part in parts {
        let root = format!("/{part}");
        if let Some(value) = object.pointer(&root) {
            collect(value, &root, 5, &mut paths);
        }
    }
    // What the API server asks for, and where a pod is.
    let needed =
        ["/spec/nodeName", "/spec/containers", "/image", "/name", "/spec/terminationGracePeriodSeconds"];
    paths.retain(|path| !needed.iter().any(|end| path.ends_with(end)));
    paths.sort_by_key(|path| path.matches('/').count());
    paths
}

fn collect(value: &Value, at: &str, depth: usize, paths: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, child)| (key.replace('~', "~0").replace('/', "~1"), child)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(i, child)| (i.to_string(), child)).collect(),
        _ => return,
    };
    for (key, child) in children {
        let path = format!("{at}/{key}");
        if depth > 0 {
            collect(child, &path, depth - 1, paths);
        }
        paths.push(path);
    }
}

fn without(object: &Value, path: &str) -> Value {
    let mut object = object.clone();
    if let Some((parent, key)) = path.rsplit_once('/') {
        let key = key.replace("~1", "/").replace("~0", "~");
        match object.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(&key)),
            Some(Value::Array(list)) => {
                if let Some(i) = key.parse::<usize>().ok().filter(|i| *i < list.len()) {
                    list.remove(i);
                }
            }
            _ => {}
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_thing_is_left_out_at_a_time() {
        let pod = json!({"spec": {"a": {"b/c": 1}, "containers": [{"name": "x"}]}});
        let paths = removable(&pod, &["spec"]);
        assert_eq!(paths, ["/spec/a", "/spec/a/b~1c", "/spec/containers/0"]);
        assert_eq!(without(&pod, "/spec/a/b~1c")["spec"]["a"], json!({}));
        assert_eq!(without(&pod, "/spec/containers/0")["spec"]["containers"], json!([]));
    }
}
