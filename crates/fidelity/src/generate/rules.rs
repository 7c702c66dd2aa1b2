//! Random placement rules of pods: node selectors and affinity, spread, affinity and anti-affinity to pods.

use super::NAMESPACES;
use super::nodes::{DISKS, HOSTNAME, ZONE, ZONES, name};
use super::pods::{APPS, VERSIONS};
use crate::dice::Dice;
use serde_json::{Map, Value, json};

/// Adds rules to a pod's spec, for a cluster of so many nodes.
pub(super) fn add(dice: &mut Dice, spec: &mut Value, nodes: usize) {
    if dice.chance(8) {
        spec["nodeSelector"] = if dice.chance(50) {
            json!({"disk": dice.pick(&DISKS)})
        } else {
            json!({ZONE: dice.pick(&ZONES)})
        };
    }
    let mut affinity = Map::new();
    if let Some(node) = node_affinity(dice, nodes) {
        affinity.insert("nodeAffinity".to_owned(), node);
    }
    for (kind, percent) in [("podAffinity", 12), ("podAntiAffinity", 20)] {
        if let Some(terms) = pod_affinity(dice, percent) {
            affinity.insert(kind.to_owned(), terms);
        }
    }
    if !affinity.is_empty() {
        spec["affinity"] = Value::Object(affinity);
    }
    if dice.chance(40) {
        spec["topologySpreadConstraints"] = spread(dice);
    }
}

/// Adds rules about other pods only, more of them.
pub(super) fn add_about_pods(dice: &mut Dice, spec: &mut Value) {
    let mut affinity = Map::new();
    for (kind, percent) in [("podAffinity", 15), ("podAntiAffinity", 35)] {
        if let Some(terms) = pod_affinity(dice, percent) {
            affinity.insert(kind.to_owned(), terms);
        }
    }
    if !affinity.is_empty() {
        spec["affinity"] = Value::Object(affinity);
    }
    if dice.chance(75) {
        spec["topologySpreadConstraints"] = spread(dice);
    }
}

fn node_affinity(dice: &mut Dice, nodes: usize) -> Option<Value> {
    let mut affinity = Map::new();
    if dice.chance(18) {
        let terms: Vec<Value> = (0..dice.number(1, 3)).map(|_| node_term(dice, nodes)).collect();
        let required = json!({"nodeSelectorTerms": terms});
        affinity.insert("requiredDuringSchedulingIgnoredDuringExecution".to_owned(), required);
    }
    if dice.chance(10) {
        let preferred = json!([{"weight": dice.number(1, 100), "preference": node_term(dice, nodes)}]);
        affinity.insert("preferredDuringSchedulingIgnoredDuringExecution".to_owned(), preferred);
    }
    (!affinity.is_empty()).then_some(Value::Object(affinity))
}

fn node_term(dice: &mut Dice, nodes: usize) -> Value {
    let mut term = Map::new();
    if dice.chance(85) {
        let expressions: Vec<Value> = (0..dice.number(1, 2)).map(|_| node_expression(dice)).collect();
        term.insert("matchExpressions".to_owned(), json!(expressions));
    }
    if dice.chance(20) {
        let operator = dice.pick(&["In", "In", "NotIn"]);
        // One past the last: a node that is not there.
        let values = [name(dice.index(nodes + 1))];
        term.insert(
            "matchFields".to_owned(),
            json!([{"key": "metadata.name", "operator": operator, "values": values}]),
        );
    }
    Value::Object(term)
}

fn node_expression(dice: &mut Dice) -> Value {
    match dice.number(0, 6) {
        0 => json!({"key": ZONE, "operator": "In", "values": some_of(dice, &ZONES)}),
        1 => json!({"key": ZONE, "operator": "NotIn", "values": some_of(dice, &ZONES)}),
        2 => json!({"key": "disk", "operator": "Exists"}),
        3 => json!({"key": "disk", "operator": "DoesNotExist"}),
        4 => json!({"key": "gen", "operator": "Gt", "values": [dice.pick(&["0", "1", "2", "5"])]}),
        5 => json!({"key": "gen", "operator": "Lt", "values": [dice.pick(&["2", "3", "11"])]}),
        _ => json!({"key": "disk", "operator": "NotIn", "values": some_of(dice, &DISKS)}),
    }
}

fn some_of<'a>(dice: &mut Dice, choices: &[&'a str]) -> Vec<&'a str> {
    let chosen: Vec<&str> = choices.iter().copied().filter(|_| dice.chance(50)).collect();
    if chosen.is_empty() { vec![dice.pick(choices)] } else { chosen }
}

fn topology_key(dice: &mut Dice) -> &'static str {
    dice.pick(&[ZONE, ZONE, ZONE, HOSTNAME, HOSTNAME, HOSTNAME, "disk"])
}

/// A label selector; `None` is a selector that is not there, which selects nothing.
fn selector(dice: &mut Dice) -> Option<Value> {
    match dice.number(0, 11) {
        0 => None,
        1 => Some(json!({})),
        2 => Some(
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": some_of(dice, &APPS)}]}),
        ),
        3 => Some(
            json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": [dice.pick(&APPS)]}]}),
        ),
        4 => Some(
            json!({"matchExpressions": [{"key": "tier", "operator": dice.pick(&["Exists", "DoesNotExist"])}]}),
        ),
        5 => Some(json!({"matchLabels": {"app": dice.pick(&APPS), "version": dice.pick(&VERSIONS)}})),
        _ => Some(json!({"matchLabels": {"app": dice.pick(&APPS)}})),
    }
}

/// Label keys whose values the pod itself gives; only with a selector that does not name them.
fn label_keys(dice: &mut Dice, selector: Option<&Value>, percent: u32) -> Option<Value> {
    let selector = selector?;
    let free = selector.pointer("/matchLabels/version").is_none();
    (free && dice.chance(percent)).then(|| json!(["version"]))
}

fn spread(dice: &mut Dice) -> Value {
    let mut constraints: Vec<Value> = Vec::new();
    for _ in 0..dice.number(1, 2) {
        let when = if dice.chance(78) { "DoNotSchedule" } else { "ScheduleAnyway" };
        let key = topology_key(dice);
        // The API server refuses two of the same key and action.
        if constraints.iter().any(|c| c["topologyKey"] == key && c["whenUnsatisfiable"] == when) {
            continue;
        }
        let mut constraint =
            json!({"maxSkew": dice.number(1, 2), "topologyKey": key, "whenUnsatisfiable": when});
        let selector = selector(dice);
        if let Some(keys) = label_keys(dice, selector.as_ref(), 20) {
            constraint["matchLabelKeys"] = keys;
        }
        if let Some(selector) = selector {
            constraint["labelSelector"] = selector;
        }
        if when == "DoNotSchedule" && dice.chance(20) {
            constraint["minDomains"] = json!(dice.number(1, 4));
        }
        if dice.chance(25) {
            constraint["nodeAffinityPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
        }
        if dice.chance(25) {
            constraint["nodeTaintsPolicy"] = json!(dice.pick(&["Honor", "Ignore"]));
        }
        constraints.push(constraint);
    }
    json!(constraints)
}

fn pod_affinity(dice: &mut Dice, percent: u32) -> Option<Value> {
    let mut affinity = Map::new();
    if dice.chance(percent) {
        let terms: Vec<Value> = (0..if dice.chance(20) { 2 } else { 1 }).map(|_| pod_term(dice)).collect();
        affinity.insert("requiredDuringSchedulingIgnoredDuringExecution".to_owned(), json!(terms));
    }
    if dice.chance(6) {
        let preferred = json!([{"weight": dice.number(1, 100), "podAffinityTerm": pod_term(dice)}]);
        affinity.insert("preferredDuringSchedulingIgnoredDuringExecution".to_owned(), preferred);
    }
    (!affinity.is_empty()).then_some(Value::Object(affinity))
}

fn pod_term(dice: &mut Dice) -> Value {
    let mut term = json!({"topologyKey": topology_key(dice)});
    let selector = selector(dice);
    if let Some(keys) = label_keys(dice, selector.as_ref(), 20) {
        let field = dice.pick(&["matchLabelKeys", "mismatchLabelKeys"]);
        term[field] = keys;
    }
    if let Some(selector) = selector {
        term["labelSelector"] = selector;
    }
    match dice.number(0, 9) {
        0 => term["namespaceSelector"] = json!({}),
        1 => term["namespaceSelector"] = json!({"matchLabels": {"team": dice.pick(&["red", "blue"])}}),
        2 => {
            term["namespaceSelector"] =
                json!({"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]});
        }
        3 | 4 => term["namespaces"] = json!([NAMESPACES[dice.index(NAMESPACES.len())].0]),
        _ => {}
    }
    if dice.chance(5) {
        term["namespaces"] = json!(["beta", "nowhere"]);
    }
    term
}
