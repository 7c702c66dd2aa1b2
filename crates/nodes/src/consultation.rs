//! The expander `grpc`: a program outside says which pools may grow.
//!
//! Owns the question, which is what each pool alone would do for the pods that wait, and the reading of the answer, which
//! comes with the policies. Asking is the shell's business; a round without the answer buys nothing for these pods.

use crate::fleet::Fleet;
use crate::growth::Candidate;
use crate::market;
use crate::round::Round;
use crate::supply::Unmet;
use model::{Expander, ExpanderOption, ExpanderQuestion, PodNames, PoolId};
use packing::Room;
use std::collections::{BTreeMap, BTreeSet};

/// Pools that are asked about at once; each costs a solve of its own.
const MOST_OPTIONS: usize = 200;

/// What is known of the program's choice.
pub(crate) enum Consultation {
    /// It is not asked: another expander chooses, or no group could serve anything.
    NotNeeded,
    /// Its answer is not there yet.
    Awaited,
    /// These pools may grow, of those that it was asked about.
    Chosen { asked: BTreeSet<PoolId>, chosen: BTreeSet<PoolId> },
}

impl Consultation {
    /// The pools that may grow after it. Those that it was not asked about may, too.
    pub(crate) fn leaves(&self, open: &BTreeMap<PoolId, Option<u32>>) -> BTreeMap<PoolId, Option<u32>> {
        let left = |pool: &PoolId| match self {
            Self::NotNeeded => true,
            Self::Awaited => false,
            Self::Chosen { asked, chosen } => chosen.contains(pool) || !asked.contains(pool),
        };
        open.iter().filter(|(pool, _)| left(pool)).map(|(pool, most)| (pool.clone(), *most)).collect()
    }
}

pub(crate) fn consult(
    round: &mut Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    open: &BTreeMap<PoolId, Option<u32>>,
) -> Consultation {
    if unmet.is_empty() || !round.policies.choice.expanders.contains(&Expander::Grpc) {
        return Consultation::NotNeeded;
    }
    let options = options(round, fleet, room, candidates, unmet, open);
    if options.is_empty() {
        return Consultation::NotNeeded;
    }
    let digest = digest(&options);
    let now = round.now;
    let answer = round.policies.choice.answer.as_ref();
    let Some(answer) = answer.filter(|answer| answer.digest == digest && now < answer.until) else {
        round.growth.question = Some(ExpanderQuestion { digest, options });
        return Consultation::Awaited;
    };
    round.wake(answer.until);
    Consultation::Chosen {
        asked: options.into_iter().map(|option| option.pool).collect(),
        chosen: answer.pools.iter().cloned().collect(),
    }
}

fn options(
    round: &Round<'_>,
    fleet: &Fleet,
    room: &mut Room,
    candidates: &[Candidate],
    unmet: &[Unmet],
    open: &BTreeMap<PoolId, Option<u32>>,
) -> Vec<ExpanderOption> {
    let mut options = Vec::new();
    for candidate in candidates {
        let (Some(most), Some(account)) = (open.get(&candidate.id), fleet.pools.get(&candidate.id)) else {
            continue;
        };
        let Some((machines, placed)) = market::alone(round, fleet, room, candidate, unmet, *most) else {
            continue;
        };
        let mut pods = PodNames::default();
        for (group, count) in unmet.iter().zip(placed) {
            pods.append(group.pods.clone().take_first(count as usize));
        }
        let (pool, name) = (candidate.id.clone(), account.pool.name.clone());
        options.push(ExpanderOption { pool, name, machines, pods });
        if options.len() == MOST_OPTIONS {
            break;
        }
    }
    options
}

/// FNV-1a over everything that is asked.
fn digest(options: &[ExpanderOption]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for option in options {
        take(option.pool.as_str().as_bytes());
        take(&option.machines.to_le_bytes());
        for pod in option.pods.iter() {
            take(pod.namespace.as_bytes());
            take(pod.name.as_bytes());
        }
    }
    hash
}
