//! The state machine: Online, Cutoff, Standby, gone; pods move down when there are too many, and back up first.
//!
//! Owns the assignment of pods to states by count. Whether it may be carried out now is `plan`'s question.

use super::PodState;
use crate::gray::Counts;

const ORDER: [PodState; 3] = [PodState::Online, PodState::Cutoff, PodState::Standby];

/// What each pod is to be, none for those that go; `order` lists places, those that go first in front.
pub(super) fn assign(states: &[PodState], order: &[usize], want: Counts) -> Vec<Option<PodState>> {
    let want = [want.online as usize, want.cutoff as usize, want.standby as usize];
    // Each list in the order in which its pods would go.
    let mut lists: Vec<Vec<usize>> = ORDER
        .iter()
        .map(|state| order.iter().copied().filter(|place| states[*place] == *state).collect())
        .collect();
    let mut rank = vec![0; states.len()];
    for (at, place) in order.iter().enumerate() {
        rank[*place] = at;
    }
    for i in 0..ORDER.len() {
        for later in i + 1..ORDER.len() {
            // Those that would go last come back first.
            while lists[i].len() < want[i] {
                let Some(place) = lists[later].pop() else { break };
                lists[i].push(place);
            }
        }
        lists[i].sort_by_key(|place| rank[*place]);
        let surplus = lists[i].len().saturating_sub(want[i]);
        let moved: Vec<usize> = lists[i].drain(..surplus).collect();
        if let Some(next) = lists.get_mut(i + 1) {
            next.extend(moved);
            next.sort_by_key(|place| rank[*place]);
        }
    }
    let mut assigned = vec![None; states.len()];
    for (state, list) in ORDER.iter().zip(lists) {
        for place in list {
            assigned[place] = Some(*state);
        }
    }
    assigned
}
