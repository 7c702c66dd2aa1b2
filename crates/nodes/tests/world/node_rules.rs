//! Rule sets for tests, a line for each set and each rule.

use super::{Attributes, World};
use jiff::SignedDuration;
use model::{
    AlertDemand, Change, NodeRule, RateMetric, RuleAction, RuleSet, RuleSetKey, RuleSize, RuleTrigger,
};
use std::sync::Arc;

pub(crate) fn rule_set_key(name: &str) -> RuleSetKey {
    RuleSetKey::new("default", name)
}

impl World {
    pub(crate) fn make_rule_set(&mut self, name: &str, a: &Attributes<'_>) {
        let key = rule_set_key(name);
        let rules = self.cluster.rule_sets().get(&key).map(|old| old.rules.clone()).unwrap_or_default();
        let set = RuleSet {
            key: key.clone(),
            uid: name.into(),
            generation: 1,
            created_at: a.get("age").map_or(self.now, |age| self.ago(age.parse().unwrap())),
            disabled: a.has("off"),
            dry_run: a.has("dry"),
            time_zone: a.get("zone").map(Arc::from),
            targets: a.get("pools").unwrap_or_default().split(',').map(Arc::from).collect(),
            rules,
            ran: std::collections::BTreeMap::new(),
            problem: None,
        };
        self.cluster.apply(Change::RuleSet(key, Some(Arc::new(set))));
    }

    pub(crate) fn make_rule(&mut self, name: &str, a: &Attributes<'_>) {
        let key = rule_set_key(a.get("in").expect("in=SET"));
        let mut set = RuleSet::clone(&self.cluster.rule_sets()[&key]);
        set.rules.retain(|rule| &*rule.name != name);
        set.rules.push(NodeRule { name: name.into(), disabled: a.has("off"), when: trigger(a) });
        self.cluster.apply(Change::RuleSet(key, Some(Arc::new(set))));
    }
}

impl World {
    /// An alert is delivered; it began `since` ago.
    pub(crate) fn alert(&mut self, fingerprint: &str, a: &Attributes<'_>) {
        let (name, value) = a.get("label").and_then(|pair| pair.split_once(':')).expect("label=NAME:VALUE");
        let starts_at = a.get("since").map_or(self.now, |since| self.ago(since.parse().unwrap()));
        let labels = [(name.into(), value.into())].into();
        let alert = AlertDemand { fingerprint: fingerprint.into(), labels, starts_at };
        self.cluster.apply(Change::Alert(Arc::new(alert)));
    }
}

fn trigger(a: &Attributes<'_>) -> RuleTrigger {
    let schedule = |key: &str| a.get(key).map(|text| Arc::from(text.replace('_', " ")));
    let number = |key: &str| a.get(key).map_or(0, |number| number.parse().unwrap());
    if let Some(schedule) = schedule("cron") {
        return RuleTrigger::Cron { schedule, action: action(a) };
    }
    if let Some(start) = schedule("from") {
        let end = schedule("to").expect("to=");
        return RuleTrigger::Floor { start, end, nodes: number("nodes"), otherwise: number("otherwise") };
    }
    if a.has("alert") {
        let pair = a.get("alert").and_then(|pair| pair.split_once(':')).expect("alert=NAME:VALUE");
        let labels = [(pair.0.into(), pair.1.into())].into();
        let interval = a.get("interval").map_or(SignedDuration::ZERO, |wait| wait.parse().unwrap());
        return RuleTrigger::Alert { labels, interval, action: action(a) };
    }
    let metric = if a.get("rate") == Some("memory") { RateMetric::Memory } else { RateMetric::Cpu };
    let threshold = a.get("over").or(a.get("under")).expect("over= or under=");
    RuleTrigger::Rate { metric, threshold_percent: threshold.parse().ok(), action: action(a) }
}

fn action(a: &Attributes<'_>) -> RuleAction {
    let size = |text: &str| match (text.strip_suffix('%'), text) {
        (Some(percent), _) => RuleSize::Percent(percent.parse().unwrap()),
        (None, "computed") => RuleSize::Computed,
        (None, nodes) => RuleSize::Nodes(nodes.parse().unwrap()),
    };
    match (a.get("add"), a.get("remove")) {
        (Some(add), _) => RuleAction::Add(size(add)),
        (None, Some(remove)) => RuleAction::Remove(size(remove)),
        (None, None) => panic!("add= or remove="),
    }
}
