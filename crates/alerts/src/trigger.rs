//! Which alerts ask for machines, how many and where: the platform's own two indicators, and configured triggers.
//!
//! Owns the settings of the decision and reading triggers from a file. What an alert leads to is `decide`'s.

use crate::alert::{Alert, Status};
use crate::error::AlertsError;
use jiff::SignedDuration;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

pub const API_VERSION: &str = "tideline.dev/v1alpha1";
pub const KIND: &str = "AlertTriggers";
/// Longer texts are refused unread, longer lists refused.
const LARGEST_BYTES: usize = 1 << 20;
const MOST_TRIGGERS: usize = 200;
/// Most machines that one alert may add, and most percent.
const MOST_MACHINES: u32 = 1000;
const MOST_PERCENT: u32 = 1000;
/// Memory of one compiled expression.
const LARGEST_EXPRESSION: usize = 1 << 18;

/// Names of the platform's labels.
#[derive(Clone, Debug)]
pub struct LabelNames {
    pub cluster: String,
    /// What the alert is about.
    pub kind: String,
    pub indicator: String,
    /// The rule that holds the alert.
    pub rule: String,
    /// The alert's name: the first that is there.
    pub alert: Vec<String>,
}

impl Default for LabelNames {
    fn default() -> Self {
        Self {
            cluster: "alert_cluster".into(),
            kind: "alert_involved_object_kind".into(),
            indicator: "alert_indicator".into(),
            rule: "alert_resource".into(),
            alert: vec!["alert_name".into(), "alertname".into()],
        }
    }
}

/// The average use of all nodes of a cluster: of what is used, and of what is requested.
pub const DEFAULT_INDICATORS: [&str; 4] = [
    "cluster.cpu.utilization",
    "cluster.memory.utilization",
    "cluster.resource.request.cpu.utilization",
    "cluster.resource.request.memory.utilization",
];

/// A label and the value that it must have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    pub key: String,
    pub value: String,
}

/// All that the decision follows besides the alert and the cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name among replicas.
    pub identity: String,
    /// Least time between two scalings of a cluster.
    pub interval: SignedDuration,
    pub step: u32,
    pub selector: Option<Selector>,
    pub labels: LabelNames,
    pub indicators: Vec<String>,
    pub global_cluster: String,
    /// Looked at before the platform's own indicators, in this order.
    pub triggers: Vec<Trigger>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            identity: "tideline".into(),
            interval: SignedDuration::from_hours(1),
            step: 1,
            selector: None,
            labels: LabelNames::default(),
            indicators: DEFAULT_INDICATORS.map(str::to_owned).to_vec(),
            global_cluster: "global".into(),
            triggers: Vec::new(),
        }
    }
}

/// How many machines are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Size {
    Machines(u32),
    /// Of the present number, rounded up.
    Percent(u32),
}

/// Whether machines are added or taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Direction {
    #[default]
    Out,
    In,
}

/// Any rule as a trigger.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trigger {
    pub name: String,
    /// All of them must match, in Alertmanager's notation.
    #[serde(rename = "match")]
    pub matchers: Vec<Matcher>,
    /// Which deliveries count: those of firing alerts unless said otherwise.
    #[serde(default = "firing")]
    pub on: Status,
    #[serde(default)]
    pub direction: Direction,
    pub size: Size,
    /// The cluster's name, or else the label that holds it.
    #[serde(default)]
    pub cluster: Option<String>,
    #[serde(default)]
    pub cluster_label: Option<String>,
    /// Which MachineDeployment of the cluster.
    #[serde(default)]
    pub selector: Option<Selector>,
    /// Least time between two scalings of that MachineDeployment.
    pub interval_seconds: u32,
}

fn firing() -> Status {
    Status::Firing
}

/// One condition on a label.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Matcher {
    label: String,
    wanted: Wanted,
    negated: bool,
}

#[derive(Clone, Debug)]
enum Wanted {
    Text(String),
    Expression(Regex),
}

impl Matcher {
    /// Whether the alert fulfils it; an absent label is an empty one.
    pub fn matches(&self, alert: &Alert) -> bool {
        let value = alert.label(&self.label).unwrap_or_default();
        let equal = match &self.wanted {
            Wanted::Text(text) => text == value,
            Wanted::Expression(expression) => expression.is_match(value),
        };
        equal != self.negated
    }
}

impl TryFrom<String> for Matcher {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |problem: &str| {
            format!(
                "\"{text}\" {problem}; write label=\"value\", !=, =~ or !~ with an expression, as Alertmanager"
            )
        };
        let at = text.find(['=', '!']).ok_or_else(|| wrong("has no operator"))?;
        let (label, rest) = (text[..at].trim(), &text[at..]);
        let operators = [("!=", true, false), ("=~", false, true), ("!~", true, true), ("=", false, false)];
        let (operator, negated, expression) = *operators
            .iter()
            .find(|(operator, ..)| rest.starts_with(operator))
            .ok_or_else(|| wrong("has an unknown operator"))?;
        if label.is_empty() {
            return Err(wrong("names no label"));
        }
        let value = rest[operator.len()..].trim();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        let wanted = if expression {
            let whole = RegexBuilder::new(&format!("^(?:{value})$")).size_limit(LARGEST_EXPRESSION).build();
            Wanted::Expression(whole.map_err(|error| wrong(&format!("has a wrong expression ({error})")))?)
        } else {
            Wanted::Text(value.to_owned())
        };
        Ok(Self { label: label.to_owned(), wanted, negated })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    triggers: Vec<Trigger>,
}

/// Reads triggers from a YAML document. `name` is the file's, for messages.
pub fn read(name: &str, text: &str) -> Result<Vec<Trigger>, AlertsError> {
    let wrong = |problem: String| AlertsError::Triggers { name: name.to_owned(), problem };
    if text.len() > LARGEST_BYTES {
        return Err(wrong(format!("it is larger than {LARGEST_BYTES} bytes; is it the right file?")));
    }
    let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let document: Document = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        wrong(format!("field {path}: {}", error.into_inner()))
    })?;
    if document.api_version != API_VERSION || document.kind != KIND {
        return Err(wrong(format!("begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`")));
    }
    if document.triggers.len() > MOST_TRIGGERS {
        return Err(wrong(format!("triggers: {} are over {MOST_TRIGGERS}", document.triggers.len())));
    }
    for (at, trigger) in document.triggers.iter().enumerate() {
        let fault = |(field, problem)| wrong(format!("field triggers[{at}].{field}: {problem}"));
        trigger.check().map_err(fault)?;
        if document.triggers[..at].iter().any(|other| other.name == trigger.name) {
            return Err(fault(("name", format!("{} is there twice", trigger.name))));
        }
    }
    Ok(document.triggers)
}

impl Trigger {
    fn check(&self) -> Result<(), (&'static str, String)> {
        let (size, most) = match self.size {
            Size::Machines(count) => (count, MOST_MACHINES),
            Size::Percent(percent) => (percent, MOST_PERCENT),
        };
        if size == 0 || size > most {
            return Err(("size", format!("{size} is not from 1 to {most}")));
        }
        if self.name.is_empty() || self.name.len() > 100 {
            return Err(("name", "give it from 1 to 100 bytes".into()));
        }
        if self.matchers.is_empty() {
            return Err(("match", "is empty, so that every alert would scale; name a label".into()));
        }
        if self.cluster.is_some() && self.cluster_label.is_some() {
            return Err(("cluster", "and clusterLabel exclude each other; give one".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn document(trigger: &str) -> String {
        format!("apiVersion: {API_VERSION}\nkind: {KIND}\ntriggers:\n- {trigger}\n")
    }

    const GOOD: &str =
        "{name: queue, match: ['alertname=\"QueueDeep\"'], size: {machines: 2}, intervalSeconds: 60}";

    #[test]
    fn a_document_is_read_and_the_example_too() {
        let triggers = read("x", &document(GOOD)).unwrap();
        assert_eq!(triggers[0].size, Size::Machines(2));
        assert_eq!(triggers[0].on, Status::Firing);
        let example = include_str!("../../../examples/alert-triggers.yaml");
        assert!(read("example", example).unwrap().len() >= 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (from, to, named) in [
            ("machines: 2", "machines: 0", "triggers[0].size"),
            ("machines: 2", "percent: 100000", "triggers[0].size"),
            ("machines: 2", "dozens: 2", "size"),
            ("['alertname=\"QueueDeep\"']", "[]", "triggers[0].match"),
            ("alertname=\"QueueDeep\"", "alertname", "triggers[0].match"),
            ("alertname=\"QueueDeep\"", "a=~\"(\"", "triggers[0].match"),
            ("name: queue", "name: queue, cluster: a, clusterLabel: b", "triggers[0].cluster"),
            ("name: queue", "name: queue, colour: red", "colour"),
            ("name: queue, ", "", "name"),
        ] {
            let message = read("x", &document(&GOOD.replace(from, to))).unwrap_err().to_string();
            assert!(message.contains(named), "{to}: {message}");
        }
        let twice = document(GOOD) + &format!("- {GOOD}\n");
        assert!(read("x", &twice).unwrap_err().to_string().contains("twice"));
        assert!(read("x", "kind: Other\napiVersion: v1\ntriggers: []\n").is_err());
    }

    #[test]
    fn matchers_are_alertmanagers() {
        let labels = BTreeMap::from([("team".to_owned(), "db".to_owned())]);
        let alert =
            Alert { status: Status::Firing, labels, fingerprint: "f".into(), starts_at: None, ends_at: None };
        for (text, wanted) in [
            ("team=\"db\"", true),
            ("team = db", true),
            ("team!=\"db\"", false),
            ("team=~\"d.|web\"", true),
            ("team=~\"d\"", false),
            ("team!~\"web.*\"", true),
            ("absent=\"\"", true),
        ] {
            let matcher = Matcher::try_from(text.to_owned()).unwrap();
            assert_eq!(matcher.matches(&alert), wanted, "{text}");
        }
    }
}
