//! The metrics configuration: Prometheus Adapter's rules, with Kapacity's additions.
//!
//! Owns reading the document (key `prometheus-metrics-config.yaml`), and what in it is wrong. What a rule asks is
//! `rule`'s business.

use super::rule::{Labels, Naming, ResourceRule, Rule, Rules, WorkloadPattern};
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longer documents are refused unread.
const LARGEST_BYTES: usize = 1 << 20;
/// Rules of one kind.
const MOST_RULES: usize = 500;

/// What holds where nothing is configured.
pub const DEFAULT_CONFIGURATION: &str = include_str!("default.yaml");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    resource_rules: ResourceRules,
    #[serde(default)]
    rules: Option<Vec<DiscoveryRule>>,
    #[serde(default)]
    external_rules: Option<Vec<DiscoveryRule>>,
    #[serde(default)]
    workload_pod_name_patterns: Option<Vec<PodNamePattern>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceRules {
    cpu: ResourceQueries,
    memory: ResourceQueries,
    window: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceQueries {
    container_query: String,
    /// Of nodes: never asked, and taken so that an adapter's document can be used as it is.
    #[serde(default)]
    #[expect(dead_code, reason = "read and not used")]
    node_query: String,
    #[serde(default)]
    ready_pods_only_container_query: String,
    #[serde(default)]
    resources: ResourceMapping,
    container_label: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ResourceMapping {
    template: String,
    overrides: Option<BTreeMap<String, GroupResource>>,
    namespaced: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GroupResource {
    group: String,
    resource: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DiscoveryRule {
    series_query: String,
    #[serde(default)]
    series_filters: Option<Vec<SeriesFilter>>,
    #[serde(default)]
    resources: ResourceMapping,
    #[serde(default)]
    name: NameMapping,
    #[serde(default)]
    metrics_query: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct SeriesFilter {
    is: String,
    is_not: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NameMapping {
    matches: String,
    #[serde(rename = "as")]
    alias: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PodNamePattern {
    #[serde(default)]
    group: String,
    kind: String,
    pattern: String,
}

/// Reads a configuration. The error is one sentence that names the field and the fix.
pub(crate) fn read(text: &str) -> Result<Rules, String> {
    if text.len() > LARGEST_BYTES {
        return Err(format!("the document is larger than {LARGEST_BYTES} bytes; is it the right one?"));
    }
    let value: serde_json::Value =
        serde_saphyr::from_str(text).map_err(|error| format!("the document is no YAML: {error}"))?;
    let document: Document = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        if path == "." { problem.to_string() } else { format!("{path}: {problem}") }
    })?;
    let patterns = match document.workload_pod_name_patterns {
        Some(patterns) => patterns,
        None => default_patterns(),
    };
    Ok(Rules {
        cpu: resource_rule("resourceRules.cpu", document.resource_rules.cpu)?,
        memory: resource_rule("resourceRules.memory", document.resource_rules.memory)?,
        window: prometheus_duration(&document.resource_rules.window)
            .map_err(|problem| format!("resourceRules.window: {problem}"))?,
        objects: discovery_rules("rules", document.rules)?,
        external: discovery_rules("externalRules", document.external_rules)?,
        patterns: patterns.into_iter().enumerate().map(pattern).collect::<Result<_, _>>()?,
    })
}

/// Prometheus Adapter's own documents have none; Kapacity's defaults then hold.
fn default_patterns() -> Vec<PodNamePattern> {
    let of = |kind: &str, pattern: &str| PodNamePattern {
        group: "apps".to_owned(),
        kind: kind.to_owned(),
        pattern: pattern.to_owned(),
    };
    vec![
        of("ReplicaSet", "^%s-[a-z0-9]+$"),
        of("Deployment", "^%s-[a-z0-9]+-[a-z0-9]+$"),
        of("StatefulSet", "^%s-[0-9]+$"),
    ]
}

fn resource_rule(field: &str, queries: ResourceQueries) -> Result<ResourceRule, String> {
    let at = |part: &str| {
        let field = format!("{field}.{part}");
        move |problem: String| format!("{field}: {problem}")
    };
    if queries.container_label.is_empty() {
        return Err(at("containerLabel")(
            "is empty; write the label that holds the container's name".to_owned(),
        ));
    }
    ResourceRule::new(
        &queries.container_query,
        &queries.ready_pods_only_container_query,
        labels(queries.resources).map_err(at("resources"))?,
        queries.container_label,
    )
    .map_err(at("containerQuery"))
}

fn discovery_rules(field: &str, rules: Option<Vec<DiscoveryRule>>) -> Result<Vec<Rule>, String> {
    let rules = rules.unwrap_or_default();
    if rules.len() > MOST_RULES {
        return Err(format!("{field}: has {} rules; {MOST_RULES} are taken at most", rules.len()));
    }
    let one = |(i, rule): (usize, DiscoveryRule)| {
        let at = |part: &str| {
            let field = format!("{field}[{i}].{part}");
            move |problem: String| format!("{field}: {problem}")
        };
        if rule.series_query.trim().is_empty() {
            return Err(at("seriesQuery")("is empty; write which series to look for".to_owned()));
        }
        let filters = rule.series_filters.unwrap_or_default().into_iter();
        let filters = filters.map(|filter| match (filter.is.as_str(), filter.is_not.as_str()) {
            (_, "") => Ok((filter.is, true)),
            ("", _) => Ok((filter.is_not, false)),
            _ => Err(at("seriesFilters")("one filter has both is and isNot; write two".to_owned())),
        });
        let filters: Vec<(String, bool)> = filters.collect::<Result<_, _>>()?;
        let naming = Naming::new(&rule.name.matches, &rule.name.alias).map_err(at("name"))?;
        let labels = labels(rule.resources).map_err(at("resources"))?;
        Rule::new(
            format!("{field}[{i}]"),
            rule.series_query.trim(),
            &filters,
            naming,
            labels,
            &rule.metrics_query,
        )
        .map_err(|(part, problem)| at(part)(problem))
    };
    rules.into_iter().enumerate().map(one).collect()
}

fn labels(mapping: ResourceMapping) -> Result<Labels, String> {
    let overrides = mapping.overrides.unwrap_or_default();
    let overrides = overrides.into_iter().map(|(label, of)| {
        if of.resource.is_empty() {
            return Err(format!("overrides.{label}.resource is empty; write a resource such as namespace"));
        }
        Ok((label, of.group, of.resource))
    });
    Labels::new(&mapping.template, overrides.collect::<Result<_, _>>()?, mapping.namespaced.unwrap_or(true))
}

fn pattern((i, of): (usize, PodNamePattern)) -> Result<WorkloadPattern, String> {
    if of.pattern.matches("%s").count() != 1 {
        let (field, pattern) = (format!("workloadPodNamePatterns[{i}].pattern"), of.pattern);
        return Err(format!("{field}: \"{pattern}\" must hold one %s, where the workload's name goes"));
    }
    regex::Regex::new(&of.pattern.replace("%s", "x"))
        .map_err(|error| format!("workloadPodNamePatterns[{i}].pattern: {error}"))?;
    Ok(WorkloadPattern { group: of.group, kind: of.kind, pattern: of.pattern })
}

/// A duration as Prometheus writes it: `3m`, `1h30m`, `1d`.
fn prometheus_duration(text: &str) -> Result<SignedDuration, String> {
    let bad = || format!("\"{text}\" is not a duration; write one such as 3m");
    let (mut rest, mut total) = (text, 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let milliseconds: i64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return Err(bad()),
        };
        let number: i64 = number.parse().map_err(|_| bad())?;
        total = number.checked_mul(milliseconds).and_then(|ms| total.checked_add(ms)).ok_or_else(bad)?;
        rest = tail;
    }
    if total == 0 { Err(bad()) } else { Ok(SignedDuration::from_millis(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_read() {
        let rules = read(DEFAULT_CONFIGURATION).unwrap();
        assert_eq!(rules.window, SignedDuration::from_mins(3));
        assert_eq!((rules.external.len(), rules.patterns.len()), (2, 3));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let with = |from: &str, to: &str| read(&DEFAULT_CONFIGURATION.replace(from, to)).unwrap_err();
        for (error, part) in [
            (read("rules: []").unwrap_err(), "resourceRules"),
            (read("- a").unwrap_err(), "invalid type"),
            (with("window: 3m", "window: soon"), "resourceRules.window: \"soon\""),
            (with("rules: []", "rulez: []"), "rulez"),
            (with("<<.Series>>", "<<.Serious>>"), "externalRules[0].metricsQuery: \"<<.Serious>>\""),
            (with("'^%s-[0-9]+$'", "'^web$'"), "workloadPodNamePatterns[2].pattern"),
            (with("{as: ready_pods_count}", "{matches: '('}"), "externalRules[1].name"),
        ] {
            assert!(error.contains(part), "{part} in: {error}");
        }
        assert!(read(&"x".repeat(2 << 20)).is_err());
    }

    #[test]
    fn durations_are_prometheus_ones() {
        assert_eq!(prometheus_duration("1h30m"), Ok(SignedDuration::from_mins(90)));
        assert_eq!(prometheus_duration("1d"), Ok(SignedDuration::from_hours(24)));
        for text in ["", "3", "m", "1x", "0s", "99999999999999999999s"] {
            assert!(prometheus_duration(text).is_err(), "{text}");
        }
    }
}
