//! A decision as the autoscaler's status and events tell it.
//!
//! Owns the conditions' reasons and texts, which are the peer's.

use super::{ACTIVE, ANOTHER, CONFLICT, LIMITED, Look, PORTRAITS, PROGRESSING};
use crate::ScalerError;
use crate::conditions::{self, Say};
use crate::portrait::GENERATED;
use api::kapacity::{GrayStatus, IhpaStatus, NextChange, OutlookPoint, PortraitValue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use workloads::{Autoscaler, Decision, Limit};

impl Look<'_> {
    /// The status after a decision; it is not written here.
    pub(super) fn told(&self, autoscaler: &Autoscaler, decision: &Decision) -> IhpaStatus {
        let mut status = self.ihpa.status.clone().unwrap_or_default();
        let signed = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        conditions::clear(&mut status.conditions, CONFLICT);
        conditions::clear(&mut status.conditions, ANOTHER);
        self.tell_portraits(&mut status, decision);
        status.next_change = decision
            .next_change
            .map(|change| NextChange { time: Time(change.at), replicas: change.replicas.map(signed) });
        let point = |point: &workloads::Expected| OutlookPoint {
            time: Time(point.at),
            replicas: signed(point.replicas),
            provider: point.provider.to_string(),
        };
        status.outlook = decision.outlook.iter().map(point).collect();
        let profile = self.own_profile().and_then(|profile| profile.status.as_ref());
        status.current_replicas = profile.map(|profile| profile.online_replicas);
        status.gray = decision.session.map(|session| GrayStatus {
            gray_percent: signed(session.percent.min(100)),
            last_update_time: Time(session.updated),
            from: Some(signed(session.from)),
            to: Some(signed(session.to)),
            reserve: Some(signed(session.reserve)),
        });
        let Some(value) = &decision.value else {
            self.tell_no_value(&mut status);
            return status;
        };
        let (clamped, _) = workloads::clamp(value.replicas, autoscaler.min, autoscaler.max);
        follow_value(
            &mut status,
            PortraitValue {
                provider: value.provider.to_string(),
                replicas: signed(clamped),
                expire_time: value.expires.map(Time),
            },
        );
        status.desired_replicas = decision.target.map(signed);
        let say = match decision.limit {
            None => Say::no(
                LIMITED,
                "DesiredWithinRange",
                "the desired replica count of the current portrait value is within the acceptable range",
            ),
            Some(Limit::TooFew) => {
                let message = "the desired replica count is less than the minimum replica count";
                Say::yes(LIMITED, "TooFewReplicas", message)
            }
            Some(Limit::TooMany) => {
                let message = "the desired replica count is more than the maximum replica count";
                Say::yes(LIMITED, "TooManyReplicas", message)
            }
        };
        self.set(&mut status, &say);
        self.tell_progress(&mut status, decision);
        self.set(
            &mut status,
            &Say::yes(ACTIVE, "SucceededAutoscaling", "the autoscaling process is functional"),
        );
        status
    }

    fn tell_progress(&self, status: &mut IhpaStatus, decision: &Decision) {
        match (decision.plan, decision.target) {
            (Some(plan), Some(target)) if plan.online != target || decision.session.is_some() => {
                let message = format!(
                    "{} of {target} replicas are online, {} are on their way out",
                    plan.online,
                    plan.offline()
                );
                self.set(status, &Say::yes(PROGRESSING, "ReplicasNotMatchPortrait", message));
            }
            (Some(_), Some(_)) => {
                let message = "the online replica count matches the current portrait value";
                self.set(status, &Say::no(PROGRESSING, "ReplicasMatchPortrait", message));
            }
            _ => conditions::clear(&mut status.conditions, PROGRESSING),
        }
    }

    /// Portraits that are broken keep no other from counting; they are told here.
    fn tell_portraits(&self, status: &mut IhpaStatus, decision: &Decision) {
        let told = decision.problems.iter().map(|problem| format!("{}: {}", problem.provider, problem.why));
        let failed = self.portraits.iter().filter_map(|portrait| {
            let conditions = &portrait.status.as_ref()?.conditions;
            let failed =
                conditions::find(conditions, GENERATED).filter(|condition| condition.status == "False")?;
            Some(format!("Dynamic-{}: {}", portrait.spec.portrait.portrait_type, failed.message))
        });
        let problems: Vec<String> = told.chain(failed).collect();
        if problems.is_empty() {
            conditions::clear(&mut status.conditions, PORTRAITS);
            return;
        }
        let message = format!("failed to update and fetch portrait values: {}", problems.join("; "));
        self.set(status, &Say::no(PORTRAITS, "FailedUpdateAndFetchPortraitValue", message));
    }

    fn tell_no_value(&self, status: &mut IhpaStatus) {
        let say = Say::no(ACTIVE, "NoValidPortraitValue", "no valid portrait value for now");
        // A portrait that was never tried may have a value in a moment: that is no reason to warn yet.
        let untried = self.portraits.iter().any(|portrait| {
            let conditions = portrait.status.as_ref().map(|status| &status.conditions);
            conditions.is_none_or(|conditions| conditions::find(conditions, GENERATED).is_none())
        });
        if !untried {
            self.set(status, &say);
        }
    }

    /// The profile could not be written.
    pub(super) async fn tell_failure(&self, error: &ScalerError) -> Result<(), ScalerError> {
        let Some(ihpa) = self.context.cache().ihpas.get(self.key).cloned() else { return Ok(()) };
        let mut status = ihpa.status.clone().unwrap_or_default();
        let (reason, verb) = match &self.profile {
            Some(_) => ("FailedUpdateReplicaProfile", "update"),
            None => ("FailedCreateReplicaProfile", "create"),
        };
        self.set(&mut status, &Say::no(ACTIVE, reason, format!("failed to {verb} ReplicaProfile: {error}")));
        self.write_status(status).await
    }
}

/// Another value is followed from now on; the same value that merely holds longer is no change.
fn follow_value(status: &mut IhpaStatus, value: PortraitValue) {
    let same = status
        .current_portrait_value
        .as_ref()
        .is_some_and(|current| current.provider == value.provider && current.replicas == value.replicas);
    if !same {
        status.previous_portrait_value = status.current_portrait_value.take();
    }
    status.current_portrait_value = Some(value);
}
