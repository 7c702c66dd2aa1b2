//! Launches of single machines: from what the market sold to an order, and from the order to claims that are seen.
//!
//! Owns the orders of direct pools. An order names every claim that it makes, so that asking again makes none twice,
//! and it is over as soon as its claims are seen: a machine that is slow to come keeps no other from being ordered.

use crate::back_off;
use crate::claims::fingerprint;
use crate::fleet::PoolAccount;
use crate::headroom;
use crate::round::{Round, after};
use crate::supply::{Unmet, take_missing};
use jiff::SignedDuration;
use model::{
    Buy, Flavour, Launch, PodNames, PoolId, Reason, Resources, ScaleUp, Serves, Step, claim_name,
    claimed_machine,
};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Machines and kinds of machines that one order names: keeps the ledger small. The rest is ordered in the next round.
const MOST_MACHINES: u32 = 1000;
const MOST_KINDS: usize = 200;
/// Types that a claim may name.
const MOST_TYPES: usize = 60;
/// Demands that the ledger names for one order; the plan names all.
const SERVED_IN_LEDGER: usize = 20;
/// Claims that were written and are not seen after this will not be seen: somebody took them away at once.
const CLAIMS_SEEN: SignedDuration = SignedDuration::from_mins(5);

/// What one machine is asked for, before it has a name.
#[derive(Clone)]
struct Kind {
    flavour: Arc<Flavour>,
    types: Vec<Arc<str>>,
    requests: Resources,
    serves: BTreeMap<u64, u32>,
    /// Each of its machines' pods, and replicas to come, in the order in which they were sold.
    machines: Vec<Serves>,
}

/// What the market sold of one direct pool in this round.
#[derive(Default)]
pub(crate) struct Sales {
    kinds: Vec<Kind>,
}

/// One machine that was sold: what it is, and what else would do.
pub(crate) struct Sold<'a> {
    pub flavour: &'a Flavour,
    pub types: Vec<Arc<str>>,
    /// What DaemonSets will ask for on it.
    pub overhead: Resources,
}

impl Sales {
    /// Takes a machine with its pods, which come off the demand.
    pub(crate) fn add(&mut self, mut sold: Sold<'_>, unmet: &mut [Unmet], pods: &[(usize, u32)]) -> PodNames {
        let mut serves = Serves::default();
        let mut shapes: BTreeMap<u64, u32> = BTreeMap::new();
        let mut requests = sold.overhead;
        let mut named = PodNames::default();
        for (group, count) in pods {
            let group = &mut unmet[*group];
            *shapes.entry(fingerprint(&group.shape)).or_default() += count;
            for _ in 0..*count {
                requests.add(&group.shape.requests);
            }
            let taken = group.pods.take_first(*count as usize);
            let rest = count - u32::try_from(taken.len()).unwrap_or(*count);
            named.append(taken.clone());
            serves.pods.append(taken);
            serves.missing.extend(take_missing(&mut group.missing, rest));
        }
        sold.types.truncate(MOST_TYPES);
        let same = |kind: &&mut Kind| {
            *kind.flavour == *sold.flavour && kind.serves == shapes && kind.types == sold.types
        };
        match self.kinds.iter_mut().find(same) {
            Some(kind) => kind.machines.push(serves),
            None => self.kinds.push(Kind {
                flavour: Arc::new(sold.flavour.clone()),
                types: sold.types,
                requests,
                serves: shapes,
                machines: vec![serves],
            }),
        }
        named
    }

    /// Keeps the machines for which there is an answer, which takes the place of what they serve.
    pub(crate) fn keep(&mut self, mut of: impl FnMut(&Flavour, &Serves) -> Option<Serves>) {
        for kind in &mut self.kinds {
            let flavour = &kind.flavour;
            kind.machines = kind.machines.iter().filter_map(|serves| of(flavour, serves)).collect();
        }
        self.kinds.retain(|kind| !kind.machines.is_empty());
    }
}

/// Writes the order of one pool into the ledger and hands it out, unless the last one's claims are not seen yet: then
/// that is waited for.
pub(crate) fn order(round: &mut Round<'_>, account: &mut PoolAccount, sales: Sales) {
    let id = account.pool.id.clone();
    let sold: Vec<(Kind, Vec<Serves>)> = sales
        .kinds
        .into_iter()
        .map(|mut kind| {
            let machines = std::mem::take(&mut kind.machines);
            (kind, machines)
        })
        .collect();
    if round.ledger.scale_ups.contains_key(&id) {
        for serves in sold.into_iter().flat_map(|(_, machines)| machines) {
            let reason = Reason::WaitsForMachine { pool: id.clone() };
            headroom::explain(round, &serves.missing, &reason);
            round.verdicts.pods.say(serves.pods, reason);
        }
        round.growth.machines.retain(|machine| machine.pool != id);
        return;
    }
    let intent = round.new_intent("buy");
    let seed = seed_of(intent.as_str(), round.now);
    let (mut launches, mut serves, mut count) = (Vec::new(), Serves::default(), 0u32);
    for (kind, machines) in sold {
        let room = if launches.len() < MOST_KINDS { MOST_MACHINES - count } else { 0 };
        let mut names = Vec::new();
        for of_machine in machines {
            let reason = if (names.len() as u64) < u64::from(room) {
                let number = u64::from(count) + names.len() as u64;
                names.push(claim_name(&account.pool.name, seed.wrapping_add(number)));
                launching(&id, &kind.flavour)
            } else {
                Reason::WaitsForMachine { pool: id.clone() }
            };
            if matches!(reason, Reason::Launching { .. }) {
                serves.pods.append(of_machine.pods.clone());
                serves.missing.extend(of_machine.missing);
                for demand in of_machine.ahead {
                    serves.expect(demand);
                }
            }
            round.verdicts.pods.say(of_machine.pods, reason);
        }
        if names.is_empty() {
            continue;
        }
        count += u32::try_from(names.len()).unwrap_or(0);
        let Kind { flavour, types, requests, serves, .. } = kind;
        launches.push(Launch { names, flavour, types, requests, serves });
    }
    if count == 0 {
        return;
    }
    let (from, to, max) = (account.target, account.target.saturating_add(count), account.pool.max);
    let entry = ScaleUp {
        intent: intent.clone(),
        from,
        to,
        begun_at: round.now,
        deadline: after(round.now, CLAIMS_SEEN),
        ordered: false,
        confirmed: false,
        lowering: false,
        asked: round.ask(None, None),
        not_before: None,
        serves: serves.iter().take(SERVED_IN_LEDGER).collect(),
        claims: BTreeMap::new(),
        launches: launches.clone(),
    };
    round.wake(entry.deadline);
    round.ledger.scale_ups.insert(id.clone(), entry);
    round.ledger.last_scale_up_at = Some(round.now);
    let growing = Reason::Growing { from, to, ready: account.ready, since: round.now };
    round.verdicts.pools.insert(id.clone(), growing);
    account.target = to;
    account.unborn += count;
    account.order_open = true;
    round.step(Step::Buy(Buy { intent, pool: id, from, to, max, serves, launches }));
}

fn launching(pool: &PoolId, flavour: &Flavour) -> Reason {
    let known = |value: &Option<Arc<str>>| value.clone().unwrap_or_else(|| Arc::from("any"));
    Reason::Launching {
        pool: pool.clone(),
        instance_type: known(&flavour.instance_type),
        zone: known(&flavour.zone),
    }
}

/// Names must differ between orders, those of a ledger that was lost included.
fn seed_of(intent: &str, now: jiff::Timestamp) -> u64 {
    let mut hasher = crate::claims::Fnv::default();
    (intent, now.as_nanosecond()).hash(&mut hasher);
    hasher.finish()
}

/// An order ends when its claims are seen, or when they will not be any more.
pub(crate) fn settle(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount) {
    let Some(order) = round.ledger.scale_ups.get(id) else { return };
    let unseen = unseen(round, order).len();
    let (ordered, deadline, asked) = (order.ordered, order.deadline, order.asked);
    if ordered && unseen == 0 {
        end(round, id, account);
        return;
    }
    if !round.reached(deadline) || (!ordered && round.is_asking(asked)) {
        return;
    }
    if !ordered {
        let message = Arc::from("no claim could be written for the machines asked for");
        back_off::failed(round, id, &Arc::from(crate::deliveries::TIMEOUT), &message);
    }
    end(round, id, account);
}

fn end(round: &mut Round<'_>, id: &PoolId, account: &mut PoolAccount) {
    round.ledger.scale_ups.remove(id);
    account.target = account.pool.target;
    account.unborn = account.target.saturating_sub(account.machines);
    account.order_open = false;
}

/// The names of an order's claims that are not seen yet, with what each is to be.
pub(crate) fn unseen<'o>(round: &Round<'_>, order: &'o ScaleUp) -> Vec<(&'o Launch, &'o Arc<str>)> {
    let known = |name: &str| round.cluster.machines().contains_key(&claimed_machine(name));
    let all = order.launches.iter().flat_map(|launch| launch.names.iter().map(move |name| (launch, name)));
    all.filter(|(_, name)| !known(name)).collect()
}
