//! Autoscalers as a page shows them: what each portrait says and which counts, what comes next, and lately what was
//! forecast beside what came true.
//!
//! Owns the form of `GET /api/v1/workloads` and a short memory of replica counts. It is put together when somebody asks.

use crate::cache::{Cache, Key};
use crate::conditions;
use api::kapacity::{HorizontalPortrait, IntelligentHorizontalPodAutoscaler as Ihpa, PortraitForecast};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use workloads::{Autoscaler, Decision, Portrait, Reading, read};

/// Autoscalers that are shown, and remembered; the rest is a number.
const MOST: usize = 300;
/// Moments that are remembered of one autoscaler, and the least time between two that say the same.
const MOST_MOMENTS: usize = 240;
const SAME_AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// All autoscalers, as far as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pictures {
    pub autoscalers: Vec<AutoscalerView>,
    pub total: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerView {
    /// With its namespace.
    pub name: String,
    pub target: String,
    pub min: i32,
    pub max: i32,
    /// Values are computed and nothing is changed, or it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_still: Option<String>,
    pub online: Option<i32>,
    pub desired: Option<i32>,
    /// The portrait that counts.
    pub follows: Option<String>,
    pub portraits: Vec<PortraitView>,
    pub next_change: Option<PointView>,
    /// What will be followed, merged from all portraits.
    pub outlook: Vec<PointView>,
    pub forecasts: Vec<PortraitForecast>,
    /// What keeps it from working, in the words of its conditions.
    pub problems: Vec<String>,
    /// The oldest first.
    pub lately: Vec<MomentView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortraitView {
    pub provider: String,
    pub priority: i32,
    pub replicas: Option<u32>,
    pub until: Option<Timestamp>,
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PointView {
    pub at: Timestamp,
    pub replicas: Option<i32>,
    pub provider: Option<String>,
}

/// How it stood at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MomentView {
    pub at: Timestamp,
    pub online: Option<i32>,
    pub desired: Option<u32>,
    /// What a forecast that was made before says of this moment.
    pub forecast: Option<u32>,
}

/// What is remembered of autoscalers while the program runs.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<BTreeMap<Key, Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    portraits: Vec<PortraitView>,
    moments: VecDeque<MomentView>,
}

impl Memory {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was read and decided.
    pub(crate) fn note(
        &self,
        key: &Key,
        autoscaler: &Autoscaler,
        decision: &Decision,
        online: Option<i32>,
        now: Timestamp,
    ) {
        let mut all = self.all();
        if all.len() >= MOST && !all.contains_key(key) {
            // Whoever was not looked at for longest is gone, or stands still.
            let last = |known: &Remembered| known.moments.back().map(|moment| moment.at);
            let oldest = all.iter().min_by_key(|(_, known)| last(known)).map(|(key, _)| key.clone());
            oldest.map(|key| all.remove(&key));
        }
        let remembered = all.entry(key.clone()).or_default();
        let readings: Vec<Reading> = autoscaler.sources.iter().map(|source| read(source, now)).collect();
        let of_series = autoscaler.sources.iter().zip(&readings).find(|(source, _)| {
            let Portrait::Generated(Some(generated)) = &source.portrait else { return false };
            matches!(generated.content, workloads::Content::Series(_))
        });
        let forecast = of_series.and_then(|(_, reading)| reading.value.as_ref()).map(|value| value.replicas);
        remembered.portraits = autoscaler
            .sources
            .iter()
            .zip(readings)
            .map(|(source, reading)| PortraitView {
                provider: source.provider.to_string(),
                priority: source.priority,
                replicas: reading.value.as_ref().map(|value| value.replicas),
                until: reading.value.and_then(|value| value.expires),
                problem: reading.problem.map(|problem| problem.to_string()),
            })
            .collect();
        remembered.add(MomentView { at: now, online, desired: decision.target, forecast });
    }

    /// Everything that is known now.
    pub(crate) fn pictures(&self, cache: &Cache) -> Pictures {
        let all = self.all();
        let view = |(key, ihpa): (&Key, &Arc<Ihpa>)| {
            let portraits = cache.portraits_of(ihpa.metadata.uid.as_deref().unwrap_or_default());
            view(key, ihpa, &portraits, all.get(key))
        };
        Pictures { autoscalers: cache.ihpas.iter().take(MOST).map(view).collect(), total: cache.ihpas.len() }
    }
}

impl Remembered {
    fn add(&mut self, moment: MomentView) {
        let same = self.moments.back().is_some_and(|last| {
            let alike = MomentView { at: moment.at, ..*last } == moment;
            alike && moment.at.duration_since(last.at) < SAME_AGAIN
        });
        if same {
            return;
        }
        if self.moments.len() >= MOST_MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }
}

fn view(
    key: &Key,
    ihpa: &Ihpa,
    portraits: &[Arc<HorizontalPortrait>],
    remembered: Option<&Remembered>,
) -> AutoscalerView {
    let (spec, status) = (&ihpa.spec, ihpa.status.clone().unwrap_or_default());
    let preview = spec.scale_mode == api::kapacity::ScaleMode::Preview;
    let forecasts = portraits.iter().filter_map(|portrait| portrait.status.as_ref()?.forecast.clone());
    AutoscalerView {
        name: key.to_string(),
        target: format!("{} {}", spec.scale_target_ref.kind, spec.scale_target_ref.name),
        min: spec.min_replicas,
        max: spec.max_replicas,
        stands_still: if spec.paused { Some("paused") } else { preview.then_some("preview") }
            .map(str::to_owned),
        online: status.current_replicas,
        desired: status.desired_replicas,
        follows: status.current_portrait_value.map(|value| value.provider),
        portraits: remembered.map(|known| known.portraits.clone()).unwrap_or_default(),
        next_change: status.next_change.map(|change| PointView {
            at: change.time.0,
            replicas: change.replicas,
            provider: None,
        }),
        outlook: (status.outlook.into_iter())
            .map(|point| PointView {
                at: point.time.0,
                replicas: Some(point.replicas),
                provider: Some(point.provider),
            })
            .collect(),
        forecasts: forecasts.collect(),
        problems: problems(&status.conditions),
        lately: remembered.map(|known| known.moments.iter().copied().collect()).unwrap_or_default(),
    }
}

/// Conditions that say why nothing, or not all, works.
fn problems(conditions: &[Condition]) -> Vec<String> {
    [
        ("ScalingActive", "False"),
        ("PortraitsUsable", "False"),
        ("Conflict", "True"),
        ("AnotherController", "True"),
    ]
    .into_iter()
    .filter_map(|(kind, ill)| conditions::find(conditions, kind).filter(|known| known.status == ill))
    .map(|known| format!("{}: {}", known.reason, known.message))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_say_the_same_are_told_once_a_minute_and_are_bounded() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let moment = |second, desired| MomentView {
            at: at(second),
            online: Some(1),
            desired: Some(desired),
            forecast: None,
        };
        let mut remembered = Remembered::default();
        for (second, desired) in [(0, 1), (15, 1), (30, 2), (45, 2), (90, 2)] {
            remembered.add(moment(second, desired));
        }
        let kept: Vec<i64> = remembered.moments.iter().map(|moment| moment.at.as_second()).collect();
        assert_eq!(kept, [0, 30, 90]);
        for second in 0..1000 {
            remembered.add(moment(1000 + second, second as u32));
        }
        assert_eq!(remembered.moments.len(), MOST_MOMENTS);
    }
}
