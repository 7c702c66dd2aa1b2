//! Stability checkers: metrics looked at while a change in steps is under way, and what a failed check holds up.
//!
//! Owns the annotation that it is kept in, beside the session and in the same write, and the condition that tells it.
//! What is held up by it, `workloads` decides.

use super::Look;
use crate::conditions::{self, Say};
use crate::portrait::reactive::{self, Compared};
use api::kapacity::{
    CheckerType, IhpaStatus, MetricSpec, Operator, ReplicaProfile, StabilityChecker, StabilizationAction,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use workloads::{Held, Relation, Session, StabilityAction};

/// On a ReplicaProfile: what a failed check holds up, until when.
pub(super) const HELD: &str = "tideline.dev/stability-hold";
/// Ours: whether the checks of a change passed.
pub(super) const STABLE: &str = "Stable";
/// Between looks at the metrics of a change; also the shortest hold.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(15);

#[derive(Serialize, Deserialize)]
struct Written {
    rollback: bool,
    until: Timestamp,
    from: u32,
    to: u32,
}

pub(super) fn write(held: &Held) -> String {
    let Held { action, until, from, to } = *held;
    let written = Written { rollback: action == StabilityAction::Rollback, until, from, to };
    serde_json::to_string(&written).unwrap_or_default()
}

/// What is held up still; a text that cannot be read holds nothing.
pub(super) fn read(profile: &ReplicaProfile, now: Timestamp) -> Option<Held> {
    let text = profile.annotations().get(HELD)?;
    let Written { rollback, until, from, to } = serde_json::from_str(text).ok()?;
    let action = if rollback { StabilityAction::Rollback } else { StabilityAction::Pause };
    Some(Held { action, until, from, to }).filter(|held| now < held.until)
}

/// What the checks came to.
#[derive(Default)]
pub(super) struct Checked {
    /// The gravest of those that failed, the longest among equals.
    failed: Option<(StabilityAction, SignedDuration)>,
    /// One sentence for each.
    failures: Vec<String>,
    /// What could not be checked, and why.
    problems: Vec<String>,
}

impl Checked {
    /// What is held up from now on.
    pub(super) fn hold(&self, session: &Session, known: Option<Held>, now: Timestamp) -> Option<Held> {
        let Some((action, wait)) = self.failed else { return known };
        let until = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        Some(Held::of(session, action, until))
    }
}

impl Look<'_> {
    /// Looks at the metrics of all checkers.
    pub(super) async fn check(&self) -> Checked {
        let mut checked = Checked::default();
        for (place, checker) in self.ihpa.spec.stability_checkers.iter().enumerate() {
            let name = format!("stabilityCheckers[{place}]");
            let metrics = checker.metrics.as_ref().filter(|_| checker.type_ == CheckerType::Metrics);
            let Some(metrics) = metrics else {
                let why = "is not served; use type Metrics with the field metrics";
                checked.problems.push(format!("{name} {why}"));
                continue;
            };
            for (place, metric) in metrics.metrics.iter().enumerate() {
                let name = format!("{name}.metrics[{place}]");
                self.check_one(&name, checker, metric, &mut checked).await;
            }
        }
        checked
    }

    async fn check_one(
        &self,
        name: &str,
        checker: &StabilityChecker,
        metric: &MetricSpec,
        checked: &mut Checked,
    ) {
        let reference = &self.ihpa.spec.scale_target_ref;
        let mut fail = |action, wait: SignedDuration| {
            checked.failed = checked.failed.max(Some((action, wait.max(LOOK_EVERY))));
        };
        match reactive::compare(self.context, &self.key.namespace, reference, metric).await {
            Ok(Compared { value, bound, percent }) => {
                let operator = metric.operator.unwrap_or(Operator::Greater);
                if relation(operator).holds(value, bound) {
                    let wait = SignedDuration::from_secs(i64::from(checker.cool_down_seconds.unwrap_or(0)));
                    let (action, done) = match checker.stabilization_action {
                        StabilizationAction::Pause => (StabilityAction::Pause, "paused"),
                        StabilizationAction::Rollback => (StabilityAction::Rollback, "taken back"),
                    };
                    fail(action, wait);
                    let sign = sign(operator);
                    let [value, bound] = [value, bound].map(|amount| shown(amount, percent));
                    let said = format!("{name}: {value} {sign} {bound}: the change is {done}");
                    checked.failures.push(said);
                }
            }
            // What cannot be seen is not known to be well: no further step, and no way back either.
            Err(why) => {
                fail(StabilityAction::Pause, LOOK_EVERY);
                checked.problems.push(format!("{name}: {why}"));
            }
        }
    }

    /// The condition after a look; without a change under way there is nothing to say.
    pub(super) fn tell_stability(
        &self,
        status: &mut IhpaStatus,
        checked: Option<&Checked>,
        held: Option<Held>,
    ) {
        let Some(checked) = checked else {
            if held.is_none() {
                conditions::clear(&mut status.conditions, STABLE);
            }
            return;
        };
        let say = if !checked.failures.is_empty() {
            Say::no(STABLE, "StabilityCheckFailed", checked.failures.join("; "))
        } else if !checked.problems.is_empty() {
            Say::no(STABLE, "FailedCheckStability", checked.problems.join("; "))
        } else if held.is_some() {
            return;
        } else {
            Say::yes(STABLE, "StabilityChecksPassed", "no checker objects to the change")
        };
        self.set(status, &say);
    }

    /// When the metrics of a change are looked at again.
    pub(super) fn next_check(&self, session: Option<&Session>) -> Option<Timestamp> {
        let checks = session.is_some() && !self.ihpa.spec.stability_checkers.is_empty();
        self.now.saturating_add(LOOK_EVERY).ok().filter(|_| checks)
    }
}

fn relation(operator: Operator) -> Relation {
    match operator {
        Operator::Equal => Relation::Equal,
        Operator::Greater => Relation::Greater,
        Operator::Less => Relation::Less,
        Operator::GreaterOrEqual => Relation::GreaterOrEqual,
        Operator::LessOrEqual => Relation::LessOrEqual,
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Equal => "==",
        Operator::Greater => ">",
        Operator::Less => "<",
        Operator::GreaterOrEqual => ">=",
        Operator::LessOrEqual => "<=",
    }
}

/// Values change from look to look, and a text that does would be written each time: two digits are enough.
fn shown(value: i64, percent: bool) -> String {
    let (mut rounded, mut unit) = (value, 1);
    while rounded.abs() >= 100 {
        (rounded, unit) = (rounded / 10, unit * 10);
    }
    let rounded = rounded.saturating_mul(unit);
    if percent { format!("{rounded}%") } else { format!("{}", rounded as f64 / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_in_their_unit_with_two_digits() {
        assert_eq!((shown(91, true), shown(1234, true)), ("91%".to_owned(), "1200%".to_owned()));
        assert_eq!((shown(1500, false), shown(-1239, false)), ("1.5".to_owned(), "-1.2".to_owned()));
    }

    #[test]
    fn what_is_held_up_survives_its_text_and_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let held = Held { action: StabilityAction::Rollback, until: at(100), from: 6, to: 2 };
        let mut profile = ReplicaProfile::new("web", api::kapacity::ReplicaProfileSpec::default());
        assert_eq!(read(&profile, at(0)), None);
        profile.annotations_mut().insert(HELD.to_owned(), write(&held));
        assert_eq!((read(&profile, at(99)), read(&profile, at(100))), (Some(held), None));
        profile.annotations_mut().insert(HELD.to_owned(), "nonsense".to_owned());
        assert_eq!(read(&profile, at(0)), None);
    }
}
