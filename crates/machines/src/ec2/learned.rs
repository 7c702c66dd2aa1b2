//! How much memory nodes really have, learned from those that have joined instead of guessed.
//!
//! Owns what counts, and the note on the class by which it outlives this process. The smallest that was seen of a type
//! in a class counts: less was never promised by a machine of it.

use super::rows::Row;
use super::{CLASS, Shared};
use api::karpenter::{Ec2NodeClass, REGISTERED};
use clouds::watching::{Seen, watch};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;

/// On a class: mebibytes by type, as JSON.
pub(super) const NOTE: &str = "tideline.dev/learned-memory-mib";
/// Types that are remembered of one class.
const MOST: usize = 1000;
const MIB: u64 = 1 << 20;

/// Mebibytes by type.
pub(super) type Learned = BTreeMap<String, u64>;

/// Hears of nodes until nobody wants to know any more.
pub(super) async fn follow(shared: Arc<Shared>) {
    let api: Api<Node> = Api::all(shared.client.clone());
    let mut events = watch(api, "nodes", shared.settings.watches);
    while let Some(event) = events.next().await {
        if !shared.is_wanted() {
            return;
        }
        let Seen::Object(node) = event else { continue };
        let Some((class, kind, mib)) = told(&node) else { continue };
        let news = {
            let mut state = shared.state();
            let state = &mut *state;
            let row = state.rows.iter().find(|row| row.name == kind);
            let learned = state.learned.entry(class.clone()).or_default();
            row.is_some_and(|row| note(learned, row, mib))
        };
        if news {
            tracing::debug!(
                ec2nodeclass = class,
                "instance-type" = kind,
                mib,
                "learned how much memory nodes have"
            );
            shared.resolve.notify_one();
        }
    }
}

/// The class, the type and the memory of a node of ours.
fn told(node: &Node) -> Option<(String, String, u64)> {
    let labels = node.labels();
    labels.get(REGISTERED)?;
    let capacity = node.status.as_ref()?.capacity.as_ref()?;
    let amounts = intake::resources(capacity).ok()?;
    Some((
        labels.get(CLASS)?.clone(),
        labels.get(api::labels::INSTANCE_TYPE)?.clone(),
        amounts.memory.0 / MIB,
    ))
}

/// Takes an amount in; true where it changes what is promised. What no machine of the type can have is left out.
fn note(learned: &mut Learned, row: &Row, mib: u64) -> bool {
    let possible = row.memory_mib * 3 / 4..=row.memory_mib;
    if !possible.contains(&mib) || learned.len() >= MOST && !learned.contains_key(&row.name) {
        return false;
    }
    let smaller = learned.get(&row.name).is_none_or(|known| mib < *known);
    if smaller {
        learned.insert(row.name.clone(), mib);
    }
    smaller
}

/// Takes in what a class' note says, for types of which nothing smaller was seen since.
pub(super) fn remember(shared: &Shared, object: &Ec2NodeClass) {
    let Some(text) = object.annotations().get(NOTE) else { return };
    let Ok(noted) = serde_json::from_str::<Learned>(text) else {
        tracing::warn!(
            ec2nodeclass = object.name_any(),
            "the annotation {NOTE} cannot be read; it is written anew"
        );
        return;
    };
    let mut state = shared.state();
    let state = &mut *state;
    let learned = state.learned.entry(object.name_any()).or_default();
    for row in &state.rows {
        if let Some(mib) = noted.get(&row.name) {
            note(learned, row, *mib);
        }
    }
}

/// The note that a class should carry, if it carries another.
pub(super) fn wanted(shared: &Shared, object: &Ec2NodeClass) -> Option<String> {
    let learned = shared.state().learned.get(&object.name_any()).cloned().filter(|all| !all.is_empty())?;
    let text = serde_json::to_string(&learned).ok()?;
    (object.annotations().get(NOTE) != Some(&text)).then_some(text)
}

/// Bytes of a type in a class.
pub(super) fn memory(learned: Option<&Learned>, row: &Row) -> Option<u64> {
    learned?.get(&row.name).map(|mib| mib * MIB)
}

#[cfg(test)]
mod tests {
    use super::super::rows::tests::plain;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_that_is_possible_counts() {
        let row = plain("m5.large", 2, 8192);
        let mut learned = Learned::new();
        assert!(note(&mut learned, &row, 7900));
        assert!(!note(&mut learned, &row, 7950), "more is no news");
        assert!(note(&mut learned, &row, 7850));
        assert!(!note(&mut learned, &row, 100) && !note(&mut learned, &row, 9000), "impossible");
        assert_eq!(memory(Some(&learned), &row), Some(7850 * MIB));
        assert_eq!(memory(None, &row), None);
    }

    #[test]
    fn nodes_that_are_not_ours_tell_nothing() {
        let node = |labels: serde_json::Value| {
            let node = json!({"metadata": {"name": "n", "labels": labels},
                "status": {"capacity": {"cpu": "2", "memory": "7900Mi"}}});
            told(&serde_json::from_value(node).unwrap())
        };
        let ours =
            json!({REGISTERED: "true", CLASS: "default", "node.kubernetes.io/instance-type": "m5.large"});
        assert_eq!(node(ours), Some(("default".into(), "m5.large".into(), 7900)));
        assert_eq!(node(json!({"node.kubernetes.io/instance-type": "m5.large"})), None);
    }
}
