//! The controller's configuration as a YAML document.
//!
//! Owns reading the document and saying what in it is wrong. Which of it may change while we run is
//! [`needs_restart`]'s answer; watching the file is the caller's.

use crate::{Config, ControllerError};
use serde_json::Value;

pub const API_VERSION: &str = "tideline.dev/v1alpha1";
pub const KIND: &str = "ControllerConfiguration";

/// Longer texts are refused unread: the longest sensible configuration is a few kilobytes.
const LARGEST_BYTES: usize = 1 << 20;

/// Reads and checks a document. `name` is the file's, for messages.
///
/// Fields that are absent keep their defaults; unknown ones are errors.
pub fn read(name: &str, text: &str) -> Result<Config, ControllerError> {
    let wrong = |problem: String| ControllerError::Configuration { name: name.to_owned(), problem };
    if text.len() > LARGEST_BYTES {
        return Err(wrong(format!("it is larger than {LARGEST_BYTES} bytes; is it the right file?")));
    }
    let mut value: Value = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let Some(fields) = value.as_object_mut() else {
        return Err(wrong(format!("it is no mapping; begin with `apiVersion: {API_VERSION}`")));
    };
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match fields.remove(field) {
            Some(Value::String(found)) if found == expected => {}
            Some(found) => return Err(wrong(format!("{field} is {found}; write {expected}"))),
            None => return Err(wrong(format!("{field} is missing; write `{field}: {expected}`"))),
        }
    }
    begin_with_profile(fields).map_err(|problem| wrong(format!("field policies: {problem}")))?;
    let config: Config = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        wrong(if path == "." { problem.to_string() } else { format!("field {path}: {problem}") })
    })?;
    config.validate()?;
    Ok(config)
}

/// Policies begin with the defaults of the profile that they name.
fn begin_with_profile(fields: &mut serde_json::Map<String, Value>) -> Result<(), String> {
    let Some(Value::Object(given)) = fields.get_mut("policies") else { return Ok(()) };
    let Some(named) = given.get("profile").cloned() else { return Ok(()) };
    let profile = serde_json::from_value(named).map_err(|error| format!("profile: {error}"))?;
    let defaults = serde_json::to_value(model::Policies::of(profile)).map_err(|error| error.to_string())?;
    let Value::Object(mut policies) = defaults else { return Ok(()) };
    policies.append(given);
    *given = policies;
    Ok(())
}

/// The settings, other than the policies, by which two configurations differ: those that need a restart.
pub fn needs_restart(running: &Config, wanted: &Config) -> Vec<String> {
    let fields = |config: &Config| match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (running, wanted) = (fields(running), fields(wanted));
    wanted
        .iter()
        .filter(|(field, value)| field.as_str() != "policies" && running.get(*field) != Some(*value))
        .map(|(field, _)| field.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rest: &str) -> String {
        format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{rest}")
    }

    #[test]
    fn what_is_absent_keeps_its_default() {
        let config = read("x", &document("policies:\n  unneededTime: 90s\n  maxNodesTotal: 7\n")).unwrap();
        assert_eq!(config.policies.unneeded_time.as_secs(), 90);
        assert_eq!(config.policies.max_nodes_total, 7);
        assert_eq!(config.leader_election, Config::default().leader_election);
        assert_eq!(read("x", &document("")).unwrap(), Config::default());
    }

    #[test]
    fn a_profile_brings_its_defaults_and_what_is_given_goes_before_them() {
        let config = read("x", &document("policies: {profile: node-policy, unneededTime: 90s}\n")).unwrap();
        assert!(!config.policies.scale_down_enabled);
        assert_eq!(config.policies.delay_after_delete.as_secs(), 600);
        assert_eq!(config.policies.unneeded_time.as_secs(), 90);
        let error = read("x", &document("policies: {profile: nodepolicy}\n")).unwrap_err().to_string();
        assert!(error.contains("policies") && error.contains("node-policy"), "{error}");
    }

    #[test]
    fn the_example_is_read() {
        let config = read("example", include_str!("../../../examples/controller.yaml")).unwrap();
        assert_eq!(config.policies.utilization_threshold_percent, 60);
    }

    #[test]
    fn mistakes_name_file_field_and_fix() {
        for (text, parts) in [
            (document("policies:\n  unneededTime: soon\n"), vec!["c.yaml", "policies.unneededTime"]),
            (document("policies:\n  unneededTme: 1m\n"), vec!["unneededTme", "unneededTime"]),
            (document("nameSpace: x\n"), vec!["nameSpace", "namespace"]),
            (document("calls: {attempts: 0}\n"), vec!["calls.attempts", "1 or more"]),
            (document("policies: {maxNodesTotal: -1}\n"), vec!["policies.maxNodesTotal"]),
            ("kind: ControllerConfiguration\n".into(), vec!["apiVersion", "tideline.dev/v1alpha1"]),
            ("apiVersion: v1\nkind: ConfigMap\n".into(), vec!["apiVersion", "tideline.dev/v1alpha1"]),
            ("- 1\n".into(), vec!["no mapping"]),
            ("a: [".into(), vec!["c.yaml"]),
        ] {
            let message = read("c.yaml", &text).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{text}\n{message}");
            }
        }
    }

    #[test]
    fn only_policies_change_without_a_restart() {
        let running = Config::default();
        let mut wanted = Config::default();
        wanted.policies.max_nodes_total = 3;
        assert!(needs_restart(&running, &wanted).is_empty());
        wanted.namespace = "other".into();
        assert_eq!(needs_restart(&running, &wanted), ["namespace"]);
    }
}
