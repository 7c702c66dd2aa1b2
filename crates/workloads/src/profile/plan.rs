//! What may be done for a profile now: pods to touch, and the scale to write.
//!
//! Owns the order of safety: pods come back online at any time; pods are taken out of traffic only while the workload
//! is not being replaced and all of its pods are there; the workload is made smaller only when the pods that will go
//! are those that were chosen.

use super::order::{Ordering, sorted};
use super::states::assign;
use super::{Phase, Pod, PodState};
use crate::gray::Counts;
use std::fmt;
use std::sync::Arc;

/// Directions in which online replicas may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedDirection {
    #[default]
    Both,
    Neither,
    Up,
    Down,
}

/// What is wanted of a workload's pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileSpec {
    pub want: Counts,
    pub direction: AllowedDirection,
}

/// A workload and its pods as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Population {
    /// Replicas that the workload is told to have.
    pub scale: u32,
    pub ordering: Ordering,
    /// Its pods are being replaced by others.
    pub rolling: bool,
    pub pods: Vec<Pod>,
}

/// Why states are not changed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Rolling,
    /// Pods that exist, and pods that should.
    Unsettled {
        pods: u32,
        scale: u32,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling => f.write_str("state change is skipped while a rolling update replaces the pods"),
            Self::Unsettled { pods, scale } => {
                write!(f, "state change is skipped while the workload has {pods} of its {scale} pods")
            }
        }
    }
}

/// A pod to be brought into a state: its condition, its label and its mark, whichever differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    pub name: Arc<str>,
    pub state: PodState,
    /// It goes with the scale that follows.
    pub goes: bool,
    /// The state is new to it, rather than something of it being repaired.
    pub moved: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfilePlan {
    /// Running pods by state, as they are before.
    pub counts: Counts,
    /// Pods to touch before the scale is written, those that come online first.
    pub touches: Vec<Touch>,
    pub scale: Option<u32>,
    /// Everything is as wanted.
    pub ensured: bool,
    pub hold: Option<Hold>,
    /// Pods out of traffic by their state whose readiness does not depend on it: they still serve.
    pub ungated: Vec<Arc<str>>,
}

/// Decides what to do for a profile.
pub fn plan(spec: ProfileSpec, population: &Population) -> ProfilePlan {
    let pods = &population.pods;
    let order = sorted(pods, population.ordering);
    let states: Vec<PodState> = pods.iter().map(|pod| pod.state).collect();
    let offline = present(&states).offline();
    let want = allowed(spec, population.scale, offline);
    let concerned = want.offline() > 0 || offline > 0;
    let held = hold(population).filter(|_| concerned);
    let assigned = if held.is_some() {
        only_back(&states, &order, want)
    } else if concerned {
        assign(&states, &order, want)
    } else {
        // Without states there is nothing to choose: the workload's own controller picks whom it deletes.
        vec![Some(PodState::Online); pods.len()]
    };
    let mut touches: Vec<Touch> = (0..pods.len())
        .filter_map(|place| match assigned[place] {
            Some(state) => touch(&pods[place], state, false),
            // On its way out it is cut off first: nothing is deleted from under its clients.
            None => touch(&pods[place], pods[place].state.max(PodState::Cutoff), true),
        })
        .collect();
    touches.sort_by(|a, b| (a.state, &a.name).cmp(&(b.state, &b.name)));
    let scale = scale(want, population, offline, held.is_some());
    let counts = running(pods);
    let ungated = pods.iter().filter(|pod| pod.state != PodState::Online && !pod.gated);
    ProfilePlan {
        ensured: held.is_none() && scale.is_none() && touches.is_empty() && counts == want,
        counts,
        ungated: ungated.map(|pod| pod.name.clone()).collect(),
        touches,
        scale,
        hold: held,
    }
}

/// States while pods may only come back: none goes out, none is chosen to be deleted.
fn only_back(states: &[PodState], order: &[usize], want: Counts) -> Vec<Option<PodState>> {
    let now = present(states);
    let back = want.online.saturating_sub(now.online).min(now.offline());
    let from_cutoff = back.min(now.cutoff);
    let kept = Counts {
        online: now.online + back,
        cutoff: now.cutoff - from_cutoff,
        standby: now.standby - (back - from_cutoff),
    };
    assign(states, order, kept)
}

/// The wanted counts as far as the direction allows. Pods to be cut off are then not made anew: that they cannot come
/// from the online ones would only make the workload grow and grow.
fn allowed(spec: ProfileSpec, scale: u32, offline: u32) -> Counts {
    let present = scale.saturating_sub(offline);
    let mut want = spec.want;
    want.online = match spec.direction {
        AllowedDirection::Both => return want,
        AllowedDirection::Up => want.online.max(present),
        AllowedDirection::Down => want.online.min(present),
        AllowedDirection::Neither => present,
    };
    let most = scale.max(spec.want.total()).saturating_sub(want.online);
    want.cutoff = want.cutoff.min(most);
    want.standby = want.standby.min(most - want.cutoff);
    want
}

fn hold(population: &Population) -> Option<Hold> {
    let pods = population.pods.len() as u32;
    if population.rolling {
        return Some(Hold::Rolling);
    }
    (pods != population.scale).then_some(Hold::Unsettled { pods, scale: population.scale })
}

/// The scale to write, if it is another than there is.
fn scale(want: Counts, population: &Population, offline: u32, held: bool) -> Option<u32> {
    let (now, total) = (population.scale, want.total());
    let pods = population.pods.len() as u32;
    let next = if total >= now || !held {
        total
    } else if want.online.saturating_add(offline) >= now {
        // What goes is out of traffic already, so a replacement that waits for those pods does not wait for ever.
        total
    } else if !population.rolling && pods < now {
        // Replicas that never became pods need not be cut off first.
        total.max(pods)
    } else {
        now
    };
    (next != now).then_some(next)
}

/// Counts of all pods, running or not.
fn present(states: &[PodState]) -> Counts {
    let of = |wanted| states.iter().filter(|state| **state == wanted).count() as u32;
    Counts { online: of(PodState::Online), cutoff: of(PodState::Cutoff), standby: of(PodState::Standby) }
}

fn running(pods: &[Pod]) -> Counts {
    let states: Vec<PodState> =
        pods.iter().filter(|pod| pod.phase == Phase::Running).map(|pod| pod.state).collect();
    present(&states)
}

/// What of a pod is to be changed for a state, if anything.
fn touch(pod: &Pod, state: PodState, goes: bool) -> Option<Touch> {
    let online = state == PodState::Online;
    let moved = pod.state != state;
    // A gate without a condition keeps a pod from ever being ready.
    let condition = match pod.serving {
        Some(serving) => serving != online,
        None => pod.gated || !online,
    };
    // What is out is deleted before all others.
    let mark = pod.marked == online;
    (moved || condition || mark).then(|| Touch { name: pod.name.clone(), state, goes, moved })
}
