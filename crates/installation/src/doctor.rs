//! `doctor`: what stands in the way of an autoscaler on this cluster, each finding with its fix.
//!
//! Owns the checks. [`examine`] is pure: it reads [`Facts`], which `facts` gathers by looking and asking, never by
//! changing anything.

mod blockers;
mod facts;
mod peers;

pub use facts::{Access, Facts, gather};

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It will not work, or two will fight.
    Problem,
    /// It works, and something will not go as one may expect.
    Warning,
    /// Looked at, and well.
    Ok,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub level: Level,
    /// What was looked at, in one word.
    pub check: &'static str,
    pub what: String,
    /// What to do; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, what: what.into(), fix: String::new() }
    }

    fn problem(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Problem, check, what: what.into(), fix: fix.into() }
    }

    fn warning(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, check, what: what.into(), fix: fix.into() }
    }
}

/// Oldest Kubernetes that is served: `policy/v1` and rules in CRDs.
const OLDEST_MINOR: u32 = 25;
/// Clocks further apart than this confuse Leases, certificates and signatures of clouds.
const MOST_SKEW_SECONDS: i64 = 30;

/// Every finding, the worst first, then in a stated order: by check, then by object.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut found = vec![version(facts), skew(facts)];
    found.extend(permissions(facts));
    found.extend(peers::examine(facts));
    found.extend(blockers::examine(facts));
    found.extend(facts.unread.iter().map(|(what, why)| {
        Finding::warning(
            "access",
            format!("{what} could not be read: {why}"),
            "run doctor with the right to list them",
        )
    }));
    found.sort();
    found
}

fn version(facts: &Facts) -> Finding {
    let (major, minor) = facts.version;
    let text = format!("Kubernetes {major}.{minor}");
    if (major, minor) < (1, OLDEST_MINOR) {
        return Finding::problem("version", text, format!("upgrade to 1.{OLDEST_MINOR} or newer"));
    }
    Finding::ok("version", text)
}

fn skew(facts: &Facts) -> Finding {
    let Some(seconds) = facts.skew_seconds else {
        return Finding::warning(
            "clock",
            "the API server did not say what time it is",
            "compare the clocks by hand",
        );
    };
    let text = format!("the API server's clock and this machine's are {} s apart", seconds.abs());
    if seconds.abs() > MOST_SKEW_SECONDS {
        return Finding::problem(
            "clock",
            text,
            "let both follow NTP: Leases and signed calls need the right time",
        );
    }
    Finding::ok("clock", text)
}

fn permissions(facts: &Facts) -> Vec<Finding> {
    let missing: Vec<&Access> = facts.access.iter().filter(|access| !access.allowed).collect();
    if facts.access.is_empty() {
        return Vec::new();
    }
    if missing.is_empty() {
        let text = format!("{} has all {} rights that it needs", facts.subject, facts.access.len());
        return vec![Finding::ok("permissions", text)];
    }
    vec![Finding::problem(
        "permissions",
        format!(
            "{} lacks {} of the {} rights that it needs: {}",
            facts.subject,
            missing.len(),
            facts.access.len(),
            by_object(&missing)
        ),
        "apply the roles: `tideline manifests`, or rbac.create=true in the chart",
    )]
}

/// `nodes: get, list; pods/eviction: create`: what may not be done, by the object that it is done to.
fn by_object(missing: &[&Access]) -> String {
    let mut verbs: Vec<(&str, Vec<&str>)> = Vec::new();
    for access in missing {
        let (verb, object) = access.what.split_once(' ').unwrap_or((&access.what, ""));
        match verbs.iter_mut().find(|(known, _)| *known == object) {
            Some((_, known)) => known.push(verb),
            None => verbs.push((object, vec![verb])),
        }
    }
    let each: Vec<String> =
        verbs.iter().map(|(object, verbs)| format!("{object}: {}", verbs.join(", "))).collect();
    each.join("; ")
}
