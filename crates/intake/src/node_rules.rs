//! `HorizontalNodeAutoscaler` into the model's rule sets.
//!
//! Field names and enumerations are read in any case, because objects of the kind are about in several. The kind's
//! limits are checked here again: a cluster may have the kind from elsewhere, with a looser schema. An object that
//! cannot be followed stays in the cluster with the reason, so that its status can say it.

use crate::IntakeError;
use crate::slim::HorizontalNodeAutoscaler;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use model::{NodeRule, RateMetric, RuleAction, RuleSet, RuleSetKey, RuleSize, RuleTrigger, Uid};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const MOST_RULES: usize = 10;
const MOST_TARGETS: usize = 100;
const MOST_NODES: i64 = 100_000;
const MOST_MATCHERS: usize = 20;
/// Seconds between two runs of a rule that waits for alerts.
const DEFAULT_ALERT_INTERVAL: i64 = 300;
/// Deepest nesting whose field names are looked at.
const DEEPEST: usize = 16;

/// The wishes with all field names in small letters.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    disable: bool,
    dryrun: bool,
    timezone: Option<String>,
    rules: Vec<Rule>,
    targetnodepoolids: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Rule {
    rulename: String,
    #[serde(rename = "type")]
    type_: String,
    disable: bool,
    action: Option<Action>,
    crontrigger: Option<Cron>,
    metrictrigger: Option<Metric>,
    floortrigger: Option<Floor>,
    alerttrigger: Option<AlertTrigger>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Action {
    #[serde(rename = "type")]
    type_: String,
    unit: Option<String>,
    value: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cron {
    schedule: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AlertTrigger {
    #[serde(rename = "match")]
    matchers: Vec<String>,
    intervalseconds: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metric {
    metricname: String,
    metricoperation: String,
    metricvalue: Value,
    unit: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Floor {
    start: String,
    end: String,
    nodes: i64,
    otherwise: i64,
}

/// Reads an object. What is wrong with it is said in [`RuleSet::problem`]; then it has no rules.
pub fn rule_set(object: &HorizontalNodeAutoscaler) -> RuleSet {
    let spec = spec(&object.spec);
    let rules = spec.as_ref().map_err(Clone::clone).and_then(rules);
    let (problem, rules) = match rules {
        Ok(rules) => (None, rules),
        Err(error) => (Some(Arc::from(error.to_string())), Vec::new()),
    };
    let spec = spec.unwrap_or_default();
    let created = object.metadata.creation_timestamp.as_ref();
    RuleSet {
        key: RuleSetKey::new(object.namespace().unwrap_or_default(), object.name_any()),
        uid: Uid::from(object.uid().unwrap_or_default()),
        generation: object.metadata.generation.unwrap_or_default(),
        // What no server has taken yet has no past.
        created_at: created.map_or(Timestamp::MAX, |at| at.0),
        disabled: spec.disable,
        dry_run: spec.dryrun,
        time_zone: spec.timezone.filter(|zone| !zone.is_empty()).map(Arc::from),
        targets: spec.targetnodepoolids.into_iter().map(Arc::from).collect(),
        rules,
        ran: ran(&object.status),
        problem,
    }
}

fn spec(given: &Value) -> Result<Spec, IntakeError> {
    let spec: Spec = serde_json::from_value(lowered(given, 0)).map_err(|error| {
        IntakeError::field("spec", error.to_string(), "see kubectl explain horizontalnodeautoscaler.spec")
    })?;
    let too_many = |field: &str, count: usize, most: usize| {
        IntakeError::field(
            format!("spec.{field}"),
            format!("{count} are given"),
            format!("at most {most} may be"),
        )
    };
    if spec.rules.len() > MOST_RULES {
        return Err(too_many("rules", spec.rules.len(), MOST_RULES));
    }
    if spec.targetnodepoolids.len() > MOST_TARGETS {
        return Err(too_many("targetNodepoolIds", spec.targetnodepoolids.len(), MOST_TARGETS));
    }
    if spec.targetnodepoolids.is_empty() {
        return Err(IntakeError::field(
            "spec.targetNodepoolIds",
            "is empty",
            "name pools by their id or name",
        ));
    }
    Ok(spec)
}

/// The same with all names of fields in small letters.
fn lowered(value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(fields) if depth < DEEPEST => {
            let lower =
                |(name, value): (&String, &Value)| (name.to_ascii_lowercase(), lowered(value, depth + 1));
            // A field that is null is one that is not there.
            Value::Object(fields.iter().filter(|(_, value)| !value.is_null()).map(lower).collect())
        }
        Value::Array(items) => items.iter().map(|item| lowered(item, depth + 1)).collect(),
        other => other.clone(),
    }
}

fn rules(spec: &Spec) -> Result<Vec<NodeRule>, IntakeError> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut watched: BTreeSet<(RateMetric, bool)> = BTreeSet::new();
    let mut rules = Vec::new();
    for (place, rule) in spec.rules.iter().enumerate() {
        let under = format!("spec.rules[{place}]");
        let when = trigger(rule).map_err(|error| error.under(&under))?;
        if let RuleTrigger::Rate { metric, action, .. } = &when
            && !watched.insert((*metric, matches!(action, RuleAction::Add(_))))
        {
            let problem = format!("there is a second rule on the {} rate", rule_metric(*metric));
            return Err(IntakeError::field(under, problem, "at most 1 may watch it"));
        }
        rules.push(NodeRule {
            name: unique(&mut names, &rule.rulename, place),
            disabled: rule.disable,
            when,
        });
    }
    Ok(rules)
}

fn rule_metric(metric: RateMetric) -> &'static str {
    match metric {
        RateMetric::Cpu => "cpu",
        RateMetric::Memory => "memory",
    }
}

/// What is remembered of a rule is remembered by its name: the second of a name gets another.
fn unique(names: &mut BTreeSet<String>, name: &str, place: usize) -> Arc<str> {
    let mut name = if name.is_empty() { format!("rule-{place}") } else { name.to_owned() };
    while !names.insert(name.clone()) {
        name = format!("{name}#{place}");
    }
    Arc::from(name)
}

fn trigger(rule: &Rule) -> Result<RuleTrigger, IntakeError> {
    match rule.type_.to_ascii_lowercase().as_str() {
        "cron" => {
            let cron = rule.crontrigger.as_ref().ok_or_else(|| absent("cronTrigger", "Cron"))?;
            let action = given_size(rule.action.as_ref(), "Cron")?;
            Ok(RuleTrigger::Cron { schedule: Arc::from(cron.schedule.trim()), action })
        }
        "alert" => {
            let trigger = rule.alerttrigger.as_ref().ok_or_else(|| absent("alertTrigger", "Alert"))?;
            alert(trigger, given_size(rule.action.as_ref(), "Alert")?)
        }
        "metric" => {
            let metric = rule.metrictrigger.as_ref().ok_or_else(|| absent("metricTrigger", "Metric"))?;
            rate(metric, rule.action.as_ref())
        }
        "floor" => floor(rule.floortrigger.as_ref().ok_or_else(|| absent("floorTrigger", "Floor"))?),
        other => Err(IntakeError::field(
            "type",
            format!("{other:?} is unknown"),
            "write Cron, Metric, Floor or Alert",
        )),
    }
}

/// The action of a rule that has nothing to compute its size from.
fn given_size(given: Option<&Action>, type_: &str) -> Result<RuleAction, IntakeError> {
    let action = action(given.ok_or_else(|| absent("action", type_))?)?;
    if matches!(action, RuleAction::Add(RuleSize::Computed) | RuleAction::Remove(RuleSize::Computed)) {
        let problem = format!("a rule of type {type_} has nothing to compute it from");
        return Err(IntakeError::field("action.value", problem, "write a number of at least 1"));
    }
    Ok(action)
}

fn alert(trigger: &AlertTrigger, action: RuleAction) -> Result<RuleTrigger, IntakeError> {
    let field = "alertTrigger.match";
    let wrong =
        |problem: String| IntakeError::field(field, problem, "write labels as \"alertname=NodeCpuHigh\"");
    if trigger.matchers.is_empty() || trigger.matchers.len() > MOST_MATCHERS {
        return Err(wrong(format!("has {} entries, not 1 to {MOST_MATCHERS}", trigger.matchers.len())));
    }
    let mut labels = BTreeMap::new();
    for matcher in &trigger.matchers {
        match matcher.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                labels.insert(Arc::from(name.trim()), Arc::from(value.trim().trim_matches('"')));
            }
            _ => return Err(wrong(format!("{matcher:?} is no label with a value"))),
        }
    }
    let seconds = trigger.intervalseconds.unwrap_or(DEFAULT_ALERT_INTERVAL);
    let interval = SignedDuration::from_secs(count("alertTrigger.intervalSeconds", seconds, 0)?.into());
    Ok(RuleTrigger::Alert { labels, interval, action })
}

fn absent(field: &str, type_: &str) -> IntakeError {
    IntakeError::field(field, "is missing", format!("a rule of type {type_} needs it"))
}

fn action(action: &Action) -> Result<RuleAction, IntakeError> {
    let unit = action.unit.as_deref().unwrap_or("node").to_ascii_lowercase();
    let size = match (unit.as_str(), action.value) {
        ("node", None | Some(-1)) => RuleSize::Computed,
        ("node", Some(value)) => RuleSize::Nodes(count("action.value", value, 1)?),
        ("percent" | "%", Some(value)) => RuleSize::Percent(count("action.value", value, 1)?),
        ("percent" | "%", None) => return Err(absent("action.value", "with unit Percent")),
        _ => {
            let problem = format!("{unit:?} is unknown");
            return Err(IntakeError::field("action.unit", problem, "write Node or Percent"));
        }
    };
    match action.type_.to_ascii_lowercase().as_str() {
        "scaleup" => Ok(RuleAction::Add(size)),
        "scaledown" if size == RuleSize::Computed => {
            let fix = "a rule that removes needs a number of at least 1";
            Err(IntakeError::field("action.value", "is missing or -1", fix))
        }
        "scaledown" => Ok(RuleAction::Remove(size)),
        other => {
            let problem = format!("{other:?} is unknown");
            Err(IntakeError::field("action.type", problem, "write ScaleUp or ScaleDown"))
        }
    }
}

fn count(field: &str, value: i64, least: i64) -> Result<u32, IntakeError> {
    let number = (least..=MOST_NODES).contains(&value).then(|| u32::try_from(value).ok()).flatten();
    number.ok_or_else(|| {
        IntakeError::field(
            field,
            format!("is {value}"),
            format!("write a number from {least} to {MOST_NODES}"),
        )
    })
}

fn rate(metric: &Metric, given: Option<&Action>) -> Result<RuleTrigger, IntakeError> {
    let named = match metric.metricname.to_ascii_lowercase().as_str() {
        "cpu" => RateMetric::Cpu,
        "memory" => RateMetric::Memory,
        other => {
            let problem = format!("{other:?} is unknown");
            return Err(IntakeError::field("metricTrigger.metricName", problem, "write cpu or memory"));
        }
    };
    if let Some(unit) = metric.unit.as_deref()
        && !["percent", "%"].contains(&unit.to_ascii_lowercase().as_str())
    {
        let problem = format!("{unit:?} is unknown");
        return Err(IntakeError::field("metricTrigger.unit", problem, "write Percent"));
    }
    let action = given.map_or(Ok(RuleAction::Add(RuleSize::Computed)), action)?;
    let wanted = match action {
        RuleAction::Add(_) => ">",
        RuleAction::Remove(_) => "<",
    };
    if metric.metricoperation.trim() != wanted {
        let problem = format!("is {:?}", metric.metricoperation);
        let fix = format!("write {wanted:?}: that is what this action.type goes with");
        return Err(IntakeError::field("metricTrigger.metricOperation", problem, fix));
    }
    Ok(RuleTrigger::Rate { metric: named, threshold_percent: threshold(&metric.metricvalue)?, action })
}

/// A whole number from 1 to 100, as a string or not; -1 for the default.
fn threshold(value: &Value) -> Result<Option<u32>, IntakeError> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    match text.parse::<i32>() {
        Ok(-1) => Ok(None),
        Ok(percent @ 1..=100) => Ok(Some(percent.unsigned_abs())),
        _ => {
            let fix = "write a whole number from \"1\" to \"100\", or \"-1\" for the controller's default";
            Err(IntakeError::field("metricTrigger.metricValue", format!("is {text}"), fix))
        }
    }
}

fn floor(floor: &Floor) -> Result<RuleTrigger, IntakeError> {
    Ok(RuleTrigger::Floor {
        start: Arc::from(floor.start.trim()),
        end: Arc::from(floor.end.trim()),
        nodes: count("floorTrigger.nodes", floor.nodes, 0)?,
        otherwise: count("floorTrigger.otherwise", floor.otherwise, 0)?,
    })
}

/// When rules ran last, by the object's own status; a status that cannot be read says nothing.
fn ran(status: &Value) -> BTreeMap<Arc<str>, Timestamp> {
    let rules = status.get("rules").and_then(Value::as_array);
    let last = |rule: &Value| {
        let name = rule.get("ruleName")?.as_str()?;
        let at = rule.get("lastRun")?.as_str()?.parse().ok()?;
        Some((Arc::from(name), at))
    };
    rules.into_iter().flatten().take(MOST_RULES).filter_map(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(spec: &Value) -> RuleSet {
        let object = json!({
            "metadata": {"name": "a", "namespace": "kube-system", "generation": 3},
            "spec": spec,
            "status": {"rules": [{"ruleName": "nightly", "lastRun": "2026-01-02T03:04:05Z"}, {"ruleName": 1}]},
        });
        rule_set(&serde_json::from_value(object).unwrap())
    }

    fn with_rule(rule: &Value) -> Result<RuleTrigger, String> {
        let set = read(&json!({"rules": [rule], "targetNodepoolIds": ["a"]}));
        match set.problem {
            Some(problem) => Err(problem.to_string()),
            None => Ok(set.rules[0].when.clone()),
        }
    }

    #[test]
    fn the_documents_sample_is_read_in_any_casing() {
        let sample =
            include_str!("../../../tests/seeds/002-node-pool-policy/horizontal-node-autoscaler.yaml");
        let object: Value = serde_saphyr::from_str(sample).unwrap();
        let set = read(&object["spec"]);
        assert_eq!(set.problem, None);
        assert_eq!(&*set.targets[0], "7d48eca7-3419-11ea-bc29-0255ac1001a8");
        let cron =
            RuleTrigger::Cron { schedule: "47 20 * * *".into(), action: RuleAction::Add(RuleSize::Nodes(1)) };
        let rate = RuleTrigger::Rate {
            metric: RateMetric::Cpu,
            threshold_percent: Some(40),
            action: RuleAction::Add(RuleSize::Nodes(2)),
        };
        assert_eq!(set.rules.iter().map(|rule| rule.when.clone()).collect::<Vec<_>>(), [cron, rate]);
        let lower = lowered(&object["spec"], 0);
        assert_eq!(read(&lower).rules, set.rules);
        let spelled = json!({"rules": object["spec"]["rules"], "targetNodePoolIds": ["b"]});
        assert_eq!(&*read(&spelled).targets[0], "b");
        assert_eq!(set.ran.len(), 1);
        assert_eq!(set.generation, 3);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_fix() {
        let metric = |value: &Value, operation: &str, action: &Value| {
            let trigger =
                json!({"metricName": "cpu", "metricOperation": operation, "metricValue": value, "unit": "%"});
            json!({"ruleName": "m", "type": "METRIC", "metricTrigger": trigger, "action": action})
        };
        let up = json!({"type": "ScaleUp", "unit": "node", "value": 2});
        let down = json!({"type": "scaledown", "unit": "Percent", "value": 20});
        for (rule, part) in [
            (metric(&json!("0"), ">", &up), "metricValue: is 0; write a whole number"),
            (metric(&json!("70.5"), ">", &up), "metricValue"),
            (metric(&json!("70"), "<", &up), "metricOperation: is \"<\"; write \">\""),
            (metric(&json!("70"), ">", &down), "write \"<\""),
            (metric(&json!("70"), ">", &json!({"type": "grow"})), "action.type: \"grow\" is unknown"),
            (metric(&json!("70"), ">", &json!({"type": "ScaleUp", "value": 0})), "action.value: is 0"),
            (json!({"type": "weekly"}), "spec.rules[0].type: \"weekly\" is unknown"),
            (json!({"type": "Cron"}), "cronTrigger: is missing"),
            (
                json!({"type": "Cron", "cronTrigger": {"schedule": "* * * * *"}, "action": {"type": "ScaleUp"}}),
                "has nothing to compute it from",
            ),
            (json!({"type": "Floor", "floorTrigger": {"nodes": -1}}), "floorTrigger.nodes: is -1"),
            (json!({"type": "Alert", "alertTrigger": {"match": ["alertname"]}, "action": up}), "is no label"),
            (json!({"type": "Alert", "alertTrigger": {"match": []}, "action": up}), "0 entries"),
            (json!({"type": 5}), "spec: invalid type"),
        ] {
            let error = with_rule(&rule).unwrap_err();
            assert!(error.contains(part), "{rule}: {error}");
        }
        let computed = with_rule(&metric(&json!("-1"), ">", &Value::Null)).unwrap();
        let action = RuleAction::Add(RuleSize::Computed);
        assert_eq!(computed, RuleTrigger::Rate { metric: RateMetric::Cpu, threshold_percent: None, action });
        assert!(with_rule(&metric(&json!(70), "<", &down)).is_ok());
        let alert = json!({"type": "alert", "action": up,
            "alertTrigger": {"match": ["alertname=HighCPU", "Severity=\"page\""], "intervalSeconds": 60}});
        let Ok(RuleTrigger::Alert { labels, interval, .. }) = with_rule(&alert) else { panic!("{alert}") };
        assert_eq!(labels.get("Severity").map(|value| &**value), Some("page"));
        assert_eq!(interval.as_secs(), 60);
    }

    #[test]
    fn the_limits_hold_whatever_the_schema_let_in() {
        let cron = json!({"type": "cron", "cronTrigger": {"schedule": "0 8 * * *"},
            "action": {"type": "ScaleUp", "unit": "Node", "value": 1}});
        let eleven = read(&json!({"rules": vec![cron.clone(); 11], "targetNodepoolIds": ["a"]}));
        assert!(eleven.problem.unwrap().contains("at most 10"));
        let two = read(&json!({"rules": [cron.clone(), cron], "targetNodepoolIds": ["a"]}));
        assert_eq!(two.rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>(), ["rule-0", "rule-1"]);
        let rate = json!({"type": "metric",
            "metricTrigger": {"metricName": "memory", "metricOperation": ">", "metricValue": "7"}});
        let twice = read(&json!({"rules": [rate.clone(), rate], "targetNodepoolIds": ["a"]}));
        assert!(twice.problem.unwrap().contains("at most 1"));
        assert!(read(&json!({"rules": []})).problem.unwrap().contains("targetNodepoolIds"));
        assert!(read(&Value::Null).problem.is_some());
    }
}
