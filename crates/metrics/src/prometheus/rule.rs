//! One rule of the configuration, compiled: which series it takes, how its metric is called, what is asked for it.
//!
//! Owns the meaning of Prometheus Adapter's fields. Which series exist is `listing`'s business.

use super::promql::{Matchers, literal};
use super::template::{Template, Values};
use crate::{GroupKind, Workload};
use jiff::SignedDuration;
use regex::Regex;
use std::sync::Arc;

const QUERY_FIELDS: &[&str] = &["Series", "LabelMatchers", "GroupBy"];

/// Everything that a configuration says.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(super) cpu: ResourceRule,
    pub(super) memory: ResourceRule,
    /// Over which the resource queries average.
    pub(super) window: SignedDuration,
    pub(super) objects: Vec<Rule>,
    pub(super) external: Vec<Rule>,
    pub(super) patterns: Vec<WorkloadPattern>,
}

impl Rules {
    /// The pattern that a workload's pods are named by.
    pub(super) fn pod_names(&self, workload: &Workload) -> Result<String, String> {
        let GroupKind { group, kind } = &workload.kind;
        let of = self.patterns.iter().find(|of| of.group == **group && of.kind == **kind).ok_or_else(|| {
            format!(
                "unknown workload type {kind} of group \"{group}\": add its pods' names to workloadPodNamePatterns"
            )
        })?;
        Ok(of.pattern.replace("%s", &literal(&workload.name)))
    }
}

#[derive(Debug)]
pub(crate) struct WorkloadPattern {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) pattern: String,
}

/// What is asked for CPU or memory.
#[derive(Debug)]
pub(crate) struct ResourceRule {
    query: Template,
    ready_pods_only: Option<Template>,
    pub(super) labels: Labels,
    pub(super) container_label: String,
}

impl ResourceRule {
    pub(super) fn new(
        query: &str,
        ready_pods_only: &str,
        labels: Labels,
        container_label: String,
    ) -> Result<Self, String> {
        if query.trim().is_empty() {
            return Err("is empty; write the query of containers' use".to_owned());
        }
        let ready = Some(ready_pods_only).filter(|query| !query.trim().is_empty());
        let ready_pods_only = ready.map(|query| Template::read(query, QUERY_FIELDS)).transpose()?;
        Ok(Self { query: Template::read(query, QUERY_FIELDS)?, ready_pods_only, labels, container_label })
    }

    pub(super) fn promql(
        &self,
        matchers: &Matchers,
        group_by: &str,
        ready_pods_only: bool,
    ) -> Result<String, String> {
        let template = if ready_pods_only {
            self.ready_pods_only.as_ref().ok_or("no readyPodsOnlyContainerQuery is configured; add it")?
        } else {
            &self.query
        };
        Ok(filled(template, "", matchers, group_by))
    }
}

/// What labels stand for which resources.
#[derive(Debug)]
pub(crate) struct Labels {
    template: Option<Template>,
    /// Label, group, resource.
    overrides: Vec<(String, String, String)>,
    pub(super) namespaced: bool,
}

impl Labels {
    pub(super) fn new(
        template: &str,
        overrides: Vec<(String, String, String)>,
        namespaced: bool,
    ) -> Result<Self, String> {
        let template = (!template.is_empty()).then(|| Template::read(template, &["Group", "Resource"]));
        let template = template.transpose().map_err(|problem| format!("template: {problem}"))?;
        Ok(Self { template, overrides, namespaced })
    }

    /// The label that holds the name of objects of a kind.
    pub(super) fn of(&self, kind: &GroupKind) -> Result<String, String> {
        let singular = kind.kind.to_lowercase();
        let named = |of: &&(String, String, String)| {
            of.1 == *kind.group && (of.2 == singular || of.2 == plural(&singular))
        };
        if let Some((label, ..)) = self.overrides.iter().find(named) {
            return Ok(label.clone());
        }
        let Some(template) = &self.template else {
            return Err(format!(
                "no label is known for {}: add resources.template or an override to the rule",
                kind.kind
            ));
        };
        // Labels have no dots, groups do.
        let group = kind.group.replace(['.', '-'], "_");
        let values =
            Values { fields: [("Group", group), ("Resource", singular)].into(), ..Values::default() };
        Ok(template.fill(&values))
    }

    pub(super) fn namespace(&self) -> Result<String, String> {
        self.of(&GroupKind { group: Arc::from(""), kind: Arc::from("Namespace") })
    }

    pub(super) fn pod(&self) -> Result<String, String> {
        self.of(&GroupKind { group: Arc::from(""), kind: Arc::from("Pod") })
    }
}

fn plural(singular: &str) -> String {
    match singular {
        word if word.ends_with(['s', 'x']) || word.ends_with("ch") => format!("{word}es"),
        word if word.ends_with('y') && !word.ends_with("ay") && !word.ends_with("ey") => {
            format!("{}ies", &word[..word.len() - 1])
        }
        word => format!("{word}s"),
    }
}

/// How a series' name becomes a metric's.
#[derive(Debug)]
pub(crate) struct Naming {
    matches: Regex,
    alias: String,
}

impl Naming {
    pub(super) fn new(matches: &str, alias: &str) -> Result<Self, String> {
        let matches = if matches.is_empty() { ".*" } else { matches };
        let matches = Regex::new(matches).map_err(|error| format!("matches: {error}"))?;
        let alias = match (alias, matches.captures_len()) {
            ("", 1) => "$0",
            ("", 2) => "$1",
            ("", groups) => {
                return Err(format!("matches has {} groups; write in \"as\" which to use", groups - 1));
            }
            (alias, _) => alias,
        };
        Ok(Self { matches, alias: alias.to_owned() })
    }

    /// `None` where the rule does not take a series of that name.
    pub(super) fn of(&self, series: &str) -> Option<String> {
        let mut name = String::new();
        self.matches.captures(series)?.expand(&self.alias, &mut name);
        Some(name)
    }
}

/// A rule that finds its series in Prometheus.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `rules[0]`, for messages.
    pub(super) field: String,
    pub(super) series_query: String,
    filters: Vec<(Regex, bool)>,
    naming: Naming,
    pub(super) labels: Labels,
    query: Template,
}

impl Rule {
    /// The error names the part of the rule that is wrong.
    pub(super) fn new(
        field: String,
        series_query: &str,
        filters: &[(String, bool)],
        naming: Naming,
        labels: Labels,
        query: &str,
    ) -> Result<Self, (&'static str, String)> {
        let compiled = |(text, wanted): &(String, bool)| Ok((Regex::new(text)?, *wanted));
        let filters: Result<_, regex::Error> = filters.iter().map(compiled).collect();
        let filters = filters.map_err(|error| ("seriesFilters", error.to_string()))?;
        if query.trim().is_empty() {
            return Err(("metricsQuery", "is empty; write what to ask for the metric".to_owned()));
        }
        let query = Template::read(query, QUERY_FIELDS).map_err(|problem| ("metricsQuery", problem))?;
        Ok(Self { field, series_query: series_query.to_owned(), filters, naming, labels, query })
    }

    /// The metric's name for a series, where the rule takes it.
    pub(super) fn metric_name(&self, series: &str) -> Option<String> {
        let taken = self.filters.iter().all(|(pattern, wanted)| pattern.is_match(series) == *wanted);
        self.naming.of(series).filter(|name| taken && !name.is_empty())
    }

    pub(super) fn promql(&self, series: &str, matchers: &Matchers, group_by: &str) -> String {
        filled(&self.query, series, matchers, group_by)
    }
}

fn filled(template: &Template, series: &str, matchers: &Matchers, group_by: &str) -> String {
    template.fill(&Values {
        fields: [
            ("Series", series.to_owned()),
            ("LabelMatchers", matchers.text()),
            ("GroupBy", group_by.to_owned()),
        ]
        .into(),
        label_values: matchers.values.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_of_series_as_the_adapter_makes_them() {
        for (matches, alias, series, name) in [
            ("", "", "up", Some("up")),
            ("^(.*)_total$", "", "requests_total", Some("requests")),
            ("^(.*)_total$", "${1}_per_second", "requests_total", Some("requests_per_second")),
            ("^(.*)_total$", "", "up", None),
            ("", "queue", "anything", Some("queue")),
        ] {
            assert_eq!(Naming::new(matches, alias).unwrap().of(series).as_deref(), name, "{series}");
        }
        assert!(Naming::new("(a)(b)", "").is_err());
    }

    #[test]
    fn kinds_have_their_labels() {
        let kind = |group: &str, kind: &str| GroupKind { group: group.into(), kind: kind.into() };
        let overrides = vec![("exported_namespace".to_owned(), String::new(), "namespaces".to_owned())];
        let labels = Labels::new("<<.Resource>>", overrides, true).unwrap();
        assert_eq!(labels.namespace().unwrap(), "exported_namespace");
        assert_eq!(labels.of(&kind("networking.k8s.io", "Ingress")).unwrap(), "ingress");
        let labels = Labels::new("kube_<<.Group>>_<<.Resource>>", Vec::new(), true).unwrap();
        assert_eq!(labels.of(&kind("apps", "Deployment")).unwrap(), "kube_apps_deployment");
        assert!(Labels::new("", Vec::new(), true).unwrap().pod().is_err());
        assert_eq!([plural("ingress"), plural("policy"), plural("pod")], ["ingresses", "policies", "pods"]);
    }
}
