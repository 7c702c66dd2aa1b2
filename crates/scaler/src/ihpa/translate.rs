//! An autoscaler's spec as the decision reads it.
//!
//! Owns reading providers, schedules, strategies and rates. What cannot be read becomes a broken portrait with a
//! sentence, and keeps no other from counting.

use crate::conditions;
use crate::portrait::GENERATED;
use api::kapacity::{
    CronPortrait, DataType, HorizontalPortrait, IntelligentHorizontalPodAutoscalerSpec, PolicyType,
    PortraitData, PortraitProvider, ProviderType, ScaleMode, ScalingBehavior, SelectPolicy,
};
use cron::Dialect;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use workloads::{
    Autoscaler, Behavior, Content, Direction, Generated, GrayState, Point, Policy, PolicyAmount, Portrait,
    Provider, Rule, Rules, Select, Source, Strategies, Strategy,
};

/// The autoscaler, given the portraits of its dynamic providers by name.
pub(super) fn autoscaler(
    name: &str,
    spec: &IntelligentHorizontalPodAutoscalerSpec,
    portraits: &BTreeMap<&str, &HorizontalPortrait>,
) -> Autoscaler {
    let (up, down) = behaviors(spec);
    let disabled = |behavior: Option<&ScalingBehavior>| Direction {
        disabled: behavior.is_some_and(|behavior| behavior.disabled),
    };
    let mut seen = BTreeSet::new();
    let sources = spec.portrait_providers.iter().map(|provider| source(name, provider, portraits, &mut seen));
    Autoscaler {
        sources: sources.collect(),
        min: count(spec.min_replicas),
        max: count(spec.max_replicas),
        preview: spec.scale_mode == ScaleMode::Preview,
        up: disabled(up),
        down: disabled(down),
        strategies: Strategies { up: strategy(up), down: strategy(down) },
        behavior: Behavior { up: rules(up), down: rules(down) },
    }
}

/// The name of a dynamic provider's portrait.
pub(super) fn portrait_name(ihpa: &str, portrait_type: &str) -> String {
    format!("{ihpa}-{portrait_type}").to_lowercase()
}

/// What a spec says of each direction.
pub(super) fn behaviors(
    spec: &IntelligentHorizontalPodAutoscalerSpec,
) -> (Option<&ScalingBehavior>, Option<&ScalingBehavior>) {
    let behavior = spec.behavior.as_ref();
    (
        behavior.and_then(|behavior| behavior.scale_up.as_ref()),
        behavior.and_then(|behavior| behavior.scale_down.as_ref()),
    )
}

fn count(replicas: i32) -> u32 {
    u32::try_from(replicas).unwrap_or(0)
}

fn source(
    ihpa: &str,
    given: &PortraitProvider,
    portraits: &BTreeMap<&str, &HorizontalPortrait>,
    seen: &mut BTreeSet<String>,
) -> Source {
    let broken = |why: String| Portrait::Broken(Arc::from(why));
    let missing = |field: &str| broken(format!("the provider has no field {field}"));
    let (provider, portrait) = match given.type_ {
        ProviderType::Static => {
            let portrait = given.static_.as_ref();
            let portrait =
                portrait.map_or_else(|| missing("static"), |fixed| Portrait::Static(count(fixed.replicas)));
            (Provider::Static, portrait)
        }
        ProviderType::Cron => {
            let portrait = match given.cron.as_ref().map(rules_of) {
                None => missing("cron"),
                Some(Ok(rules)) => Portrait::Cron(rules),
                Some(Err(why)) => broken(why),
            };
            (Provider::Cron, portrait)
        }
        ProviderType::Dynamic => match &given.dynamic {
            None => (Provider::Dynamic(Arc::from("")), missing("dynamic")),
            Some(spec) => {
                let name = portrait_name(ihpa, &spec.portrait_type);
                let portrait = if seen.insert(name.clone()) {
                    portraits.get(&*name).map_or(Portrait::Generated(None), |portrait| generated(portrait))
                } else {
                    broken(format!(
                        "a second provider of portraitType {}; leave one of the two",
                        spec.portrait_type
                    ))
                };
                (Provider::Dynamic(Arc::from(spec.portrait_type.as_str())), portrait)
            }
        },
    };
    Source { provider, priority: given.priority, portrait }
}

fn rules_of(portrait: &CronPortrait) -> Result<Vec<Rule>, String> {
    let mut names = BTreeSet::new();
    let rule = |given: &api::kapacity::ReplicaCron| {
        let named = |why: String| format!("cron {:?}: {why}", given.name);
        if !names.insert(given.name.clone()) {
            return Err(named("the name is given twice; give each its own".to_owned()));
        }
        let zone =
            cron::time_zone(&given.time_zone, &TimeZone::UTC).map_err(|error| named(error.to_string()))?;
        let window = cron::Window::parse(&given.start, &given.end, &Dialect::KAPACITY, &zone);
        let window = window.map_err(|error| named(error.to_string()))?;
        Ok(Rule { name: Arc::from(given.name.as_str()), window, replicas: count(given.replicas) })
    };
    portrait.crons.iter().map(rule).collect()
}

/// What an algorithm left in a portrait's status, as long as it is about the portrait's present spec.
fn generated(portrait: &HorizontalPortrait) -> Portrait {
    let Some(status) = &portrait.status else { return Portrait::Generated(None) };
    let outdated = conditions::find(&status.conditions, GENERATED).is_some_and(|condition| {
        condition.observed_generation.zip(portrait.metadata.generation).is_some_and(|(seen, now)| seen < now)
    });
    let Some(data) = status.portrait_data.as_ref().filter(|_| !outdated) else {
        return Portrait::Generated(None);
    };
    match content(data) {
        Ok(content) => {
            let expires = data.expire_time.as_ref().map(|time| time.0);
            Portrait::Generated(Some(Generated { content, expires }))
        }
        Err(why) => Portrait::Broken(Arc::from(why)),
    }
}

fn content(data: &PortraitData) -> Result<Content, String> {
    let missing = |field: &str| format!("its portraitData has no field {field}");
    match data.type_ {
        DataType::Static => {
            let fixed = data.static_.as_ref().ok_or_else(|| missing("static"))?;
            Ok(Content::Static(count(fixed.replicas)))
        }
        DataType::Cron => rules_of(data.cron.as_ref().ok_or_else(|| missing("cron"))?).map(Content::Cron),
        DataType::TimeSeries => {
            let series = data.time_series.as_ref().ok_or_else(|| missing("timeSeries"))?;
            let point = |point: &api::kapacity::TimePoint| {
                let at = Timestamp::from_second(point.timestamp)
                    .map_err(|_| format!("timestamp {} is no time", point.timestamp))?;
                Ok(Point { at, replicas: count(point.replicas) })
            };
            series.time_series.iter().map(point).collect::<Result<_, String>>().map(Content::Series)
        }
    }
}

fn seconds(count: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(count))
}

fn strategy(behavior: Option<&ScalingBehavior>) -> Option<Strategy> {
    let given = behavior?.gray_strategy.as_ref()?;
    Some(Strategy {
        state: match given.gray_state {
            api::kapacity::GrayState::Cutoff => GrayState::Cutoff,
            api::kapacity::GrayState::Standby => GrayState::Standby,
            // Growing pods are online at once; shrinking ones that are to stay online cannot be told from deleted.
            api::kapacity::GrayState::Online | api::kapacity::GrayState::Deleted => GrayState::Deleted,
        },
        interval: seconds(given.change_interval_seconds.max(1)),
        percent: count(given.change_percent).clamp(1, 100),
        observation: seconds(given.observation_seconds.max(0)),
    })
}

fn rules(behavior: Option<&ScalingBehavior>) -> Rules {
    let Some(behavior) = behavior else { return Rules::default() };
    let policy = |policy: &api::kapacity::ScalingPolicy| Policy {
        amount: match policy.type_ {
            PolicyType::Pods => PolicyAmount::Pods(count(policy.value)),
            PolicyType::Percent => PolicyAmount::Percent(count(policy.value)),
        },
        period: seconds(policy.period_seconds),
    };
    Rules {
        stabilization: seconds(behavior.stabilization_window_seconds.unwrap_or(0)),
        policies: behavior.policies.iter().map(policy).collect(),
        select: match behavior.select_policy.unwrap_or_default() {
            SelectPolicy::Max => Select::Max,
            SelectPolicy::Min => Select::Min,
            SelectPolicy::Disabled => Select::Disabled,
        },
    }
}
