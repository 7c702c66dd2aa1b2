//! Topology spread, pod affinity and preferences of a pod's spec into the model.
//!
//! Owns merging `matchLabelKeys` and `mismatchLabelKeys` into the selectors, as the API server does for pods that it
//! has seen (merging again changes nothing), and the errors for what the API server would have refused.

use crate::selector::node_selector_term;
use crate::{IntakeError, label_selector, slim};
use k8s_openapi::api::core::v1 as core;
use model::{
    LabelSelector, Labels, NodeInclusion, NodeSelectorTerm, Operator, PodTerm, Preferences, Requirement,
    SpreadConstraint, Weighted,
};
use std::sync::Arc;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The constraints that are required, and those that are preferences.
pub(crate) fn spread(
    spec: &slim::PodSpec,
    labels: &Labels,
) -> Result<(Vec<SpreadConstraint>, Vec<SpreadConstraint>), IntakeError> {
    let (mut hard, mut soft) = (Vec::new(), Vec::new());
    for (i, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = |error: IntakeError| error.under(&format!("topologySpreadConstraints[{i}]"));
        let read = spread_constraint(constraint, labels).map_err(at)?;
        match constraint.when_unsatisfiable.as_str() {
            "DoNotSchedule" => hard.push(read),
            "ScheduleAnyway" => soft.push(read),
            other => {
                return Err(at(unknown("whenUnsatisfiable", other, "DoNotSchedule or ScheduleAnyway")));
            }
        }
    }
    // In the spec's order: the first that refuses a node is the one that is told.
    Ok((hard, soft))
}

fn spread_constraint(
    constraint: &slim::TopologySpread,
    labels: &Labels,
) -> Result<SpreadConstraint, IntakeError> {
    let at_least_one = |field: &str, value: i32| {
        u32::try_from(value).ok().filter(|n| *n > 0).ok_or_else(|| {
            IntakeError::field(field, format!("{value} is not above 0"), "write a number from 1 on")
        })
    };
    let mut selector = constraint
        .label_selector
        .as_ref()
        .map(label_selector)
        .transpose()
        .map_err(|error| error.under("labelSelector"))?;
    if let Some(selector) = &mut selector {
        for key in constraint.match_label_keys.iter().flatten() {
            merge(selector, key, Operator::In, labels);
        }
    }
    Ok(SpreadConstraint {
        topology_key: topology_key(&constraint.topology_key)?,
        max_skew: at_least_one("maxSkew", constraint.max_skew)?,
        selector,
        min_domains: at_least_one("minDomains", constraint.min_domains.unwrap_or(1))?,
        node_affinity_policy: inclusion(
            "nodeAffinityPolicy",
            constraint.node_affinity_policy.as_deref(),
            NodeInclusion::Honor,
        )?,
        node_taints_policy: inclusion(
            "nodeTaintsPolicy",
            constraint.node_taints_policy.as_deref(),
            NodeInclusion::Ignore,
        )?,
    })
}

fn inclusion(field: &str, text: Option<&str>, default: NodeInclusion) -> Result<NodeInclusion, IntakeError> {
    match text {
        None | Some("") => Ok(default),
        Some("Honor") => Ok(NodeInclusion::Honor),
        Some("Ignore") => Ok(NodeInclusion::Ignore),
        Some(other) => Err(unknown(field, other, "Honor or Ignore")),
    }
}

fn unknown(field: &str, text: &str, use_instead: &str) -> IntakeError {
    IntakeError::field(field, format!("\"{text}\" is unknown"), format!("use {use_instead}"))
}

fn topology_key(text: &str) -> Result<Arc<str>, IntakeError> {
    if text.is_empty() {
        return Err(IntakeError::field(
            "topologyKey",
            "it is empty",
            "name a label of nodes, such as topology.kubernetes.io/zone",
        ));
    }
    Ok(Arc::from(text))
}

/// Adds the pod's own value of a label to a selector; nothing where the pod does not have the label.
fn merge(selector: &mut LabelSelector, key: &str, operator: Operator, labels: &Labels) {
    let Some(value) = labels.get(key) else { return };
    let requirement = Requirement { key: Arc::from(key), operator, values: vec![Arc::clone(value)] };
    if !selector.match_expressions.contains(&requirement) {
        selector.match_expressions.push(requirement);
    }
}

/// Required terms of pod affinity or anti-affinity; `field` is where they stand.
pub(crate) fn required_terms(
    terms: Option<&slim::PodTerms>,
    field: &str,
    labels: &Labels,
) -> Result<Vec<PodTerm>, IntakeError> {
    let list = terms.and_then(|t| t.required_during_scheduling_ignored_during_execution.as_ref());
    let read = |(i, term): (usize, &core::PodAffinityTerm)| {
        pod_term(term, labels).map_err(|error| error.under(&format!("affinity.{field}.{REQUIRED}[{i}]")))
    };
    let mut read = list.into_iter().flatten().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    read.sort();
    Ok(read)
}

fn preferred_terms(
    terms: Option<&slim::PodTerms>,
    field: &str,
    labels: &Labels,
) -> Result<Vec<Weighted<PodTerm>>, IntakeError> {
    let list = terms.and_then(|t| t.preferred_during_scheduling_ignored_during_execution.as_ref());
    let read = |(i, weighted): (usize, &core::WeightedPodAffinityTerm)| {
        let at = |error: IntakeError| error.under(&format!("affinity.{field}.{PREFERRED}[{i}]"));
        let term = pod_term(&weighted.pod_affinity_term, labels)
            .map_err(|error| at(error.under("podAffinityTerm")))?;
        Ok(Weighted { weight: weight(weighted.weight).map_err(at)?, term })
    };
    list.into_iter().flatten().enumerate().map(read).collect()
}

fn weight(weight: i32) -> Result<u32, IntakeError> {
    u32::try_from(weight).ok().filter(|w| (1..=100).contains(w)).ok_or_else(|| {
        IntakeError::field("weight", format!("{weight} is out of range"), "write a number from 1 to 100")
    })
}

fn pod_term(term: &core::PodAffinityTerm, labels: &Labels) -> Result<PodTerm, IntakeError> {
    let selector = |selector: Option<&_>, field: &str| {
        selector.map(label_selector).transpose().map_err(|error| error.under(field))
    };
    let mut over_pods = selector(term.label_selector.as_ref(), "labelSelector")?;
    if let Some(over_pods) = &mut over_pods {
        for key in term.match_label_keys.iter().flatten() {
            merge(over_pods, key, Operator::In, labels);
        }
        for key in term.mismatch_label_keys.iter().flatten() {
            merge(over_pods, key, Operator::NotIn, labels);
        }
    }
    let mut namespaces: Vec<Arc<str>> =
        term.namespaces.iter().flatten().map(|name| Arc::from(name.as_str())).collect();
    namespaces.sort();
    namespaces.dedup();
    Ok(PodTerm {
        topology_key: topology_key(&term.topology_key)?,
        selector: over_pods,
        namespaces,
        namespace_selector: selector(term.namespace_selector.as_ref(), "namespaceSelector")?,
    })
}

/// All that the pod would like, with the soft spread constraints that were read before.
pub(crate) fn preferences(
    affinity: Option<&slim::Affinity>,
    soft_spread: Vec<SpreadConstraint>,
    labels: &Labels,
) -> Result<Preferences, IntakeError> {
    let affinity_of = |field: &str| {
        let terms = affinity.and_then(|a| match field {
            "podAffinity" => a.pod_affinity.as_ref(),
            _ => a.pod_anti_affinity.as_ref(),
        });
        preferred_terms(terms, field, labels)
    };
    Ok(Preferences {
        node_affinity: preferred_nodes(affinity.and_then(|a| a.node_affinity.as_ref()))?,
        pod_affinity: affinity_of("podAffinity")?,
        pod_anti_affinity: affinity_of("podAntiAffinity")?,
        spread: soft_spread,
    })
}

fn preferred_nodes(
    affinity: Option<&slim::NodeAffinity>,
) -> Result<Vec<Weighted<NodeSelectorTerm>>, IntakeError> {
    let list = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let read = |(i, preferred): (usize, &core::PreferredSchedulingTerm)| {
        let at = |error: IntakeError| error.under(&format!("affinity.nodeAffinity.{PREFERRED}[{i}]"));
        let term =
            node_selector_term(&preferred.preference).map_err(|error| at(error.under("preference")))?;
        Ok(Weighted { weight: weight(preferred.weight).map_err(at)?, term })
    };
    list.into_iter().flatten().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(spec: &str) -> Result<model::PodShape, String> {
        let yaml = format!("metadata: {{name: p, labels: {{app: web, rev: '7'}}}}\nspec: {spec}");
        let pod: slim::Pod = serde_saphyr::from_str(&yaml).unwrap();
        crate::pod(&pod).map(|pod| (*pod.shape).clone()).map_err(|error| error.to_string())
    }

    fn app_web() -> LabelSelector {
        LabelSelector { match_labels: [("app".into(), "web".into())].into(), ..Default::default() }
    }

    fn rev(operator: Operator) -> Requirement {
        Requirement { key: "rev".into(), operator, values: vec!["7".into()] }
    }

    #[test]
    fn spread_constraints_are_read_with_their_defaults_and_merged_keys() {
        let found = shape(
            "{topologySpreadConstraints: [
             {topologyKey: zone, maxSkew: 2, whenUnsatisfiable: DoNotSchedule,
              labelSelector: {matchLabels: {app: web}}, matchLabelKeys: [rev, absent], minDomains: 3,
              nodeAffinityPolicy: Ignore, nodeTaintsPolicy: Honor},
             {topologyKey: host, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway}]}",
        )
        .unwrap();
        let merged = LabelSelector { match_expressions: vec![rev(Operator::In)], ..app_web() };
        let hard = SpreadConstraint {
            topology_key: "zone".into(),
            max_skew: 2,
            selector: Some(merged),
            min_domains: 3,
            node_affinity_policy: NodeInclusion::Ignore,
            node_taints_policy: NodeInclusion::Honor,
        };
        assert_eq!(found.spread, [hard]);
        let soft = &found.preferences.spread[0];
        assert_eq!((soft.min_domains, &soft.selector), (1, &None));
        assert_eq!(soft.node_affinity_policy, NodeInclusion::Honor);
        assert_eq!(soft.node_taints_policy, NodeInclusion::Ignore);
    }

    #[test]
    fn keys_that_the_api_server_has_merged_are_not_merged_twice() {
        let found = shape(
            "{affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [
             {topologyKey: host, matchLabelKeys: [rev], mismatchLabelKeys: [app], namespaces: [b, a, b],
              namespaceSelector: {}, labelSelector: {matchLabels: {app: web},
              matchExpressions: [{key: rev, operator: In, values: ['7']}]}}]}}}",
        )
        .unwrap();
        let not_web =
            Requirement { key: "app".into(), operator: Operator::NotIn, values: vec!["web".into()] };
        let selector = LabelSelector { match_expressions: vec![rev(Operator::In), not_web], ..app_web() };
        let term = PodTerm {
            topology_key: "host".into(),
            selector: Some(selector),
            namespaces: vec!["a".into(), "b".into()],
            namespace_selector: Some(LabelSelector::default()),
        };
        assert_eq!(found.pod_anti_affinity, [term]);
    }

    #[test]
    fn preferences_keep_their_weights() {
        let found = shape(
            "{affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
             {weight: 5, preference: {matchExpressions: [{key: disk, operator: Exists}]}}]},
             podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
             {weight: 7, podAffinityTerm: {topologyKey: zone, labelSelector: {}}}]}}}",
        )
        .unwrap();
        let preferences = &found.preferences;
        assert_eq!((preferences.node_affinity[0].weight, preferences.pod_affinity[0].weight), (5, 7));
        assert!(!found.depends_on_pods());
    }

    #[test]
    fn bad_terms_name_their_field() {
        let spread = |inner: &str| format!("{{topologySpreadConstraints: [{{{inner}}}]}}");
        let anti = |inner: &str| {
            format!(
                "{{affinity: {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{{inner}}}]}}}}}}"
            )
        };
        let at = "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
        let table = [
            (
                spread("topologyKey: z, maxSkew: 0, whenUnsatisfiable: DoNotSchedule"),
                "spec.topologySpreadConstraints[0].maxSkew: 0 is not above 0".to_owned(),
            ),
            (
                spread("topologyKey: z, maxSkew: 1, whenUnsatisfiable: Never"),
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: \"Never\" is unknown".to_owned(),
            ),
            (
                spread("maxSkew: 1, whenUnsatisfiable: DoNotSchedule"),
                "spec.topologySpreadConstraints[0].topologyKey: it is empty".to_owned(),
            ),
            (anti("labelSelector: {}"), format!("{at}.topologyKey: it is empty")),
            (
                anti("topologyKey: z, labelSelector: {matchExpressions: [{key: a, operator: Gt}]}"),
                format!("{at}.labelSelector.matchExpressions[0].operator: \"Gt\" is unknown"),
            ),
        ];
        for (spec, expected) in table {
            let error = shape(&spec).unwrap_err();
            assert!(error.starts_with(&format!("Pod default/p: {expected}")), "{spec}: {error}");
        }
    }
}
