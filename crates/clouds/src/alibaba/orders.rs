//! The three orders on a scaling group.
//!
//! Owns what is read before each call, the choice between `ScaleWithAdjustment` and scaling rules, and what each
//! answer means for the order. A size is sent only after a fresh read and never under what that read showed; machines
//! go by name only. Every call carries a client token made of the intent, so one that is sent twice counts once.

use super::Shared;
use super::ess::{REMOVED_AT_ONCE, Removal, ScalingGroup, ScalingInstance};
use super::reading::{capacity, closed, instance_of, is_placeholder, is_staying, refused_by_group};
use super::signature::digest;
use crate::calls::{Failure, FailureKind};
use crate::{OrderAnswer, ProviderError};
use jiff::SignedDuration;
use model::{Buy, Lower, PoolId, Release};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// Machines that one activity of ESS adds at most.
const ADDED_AT_ONCE: u32 = 1000;
/// The one rule that we keep in a group where sizes may be set through rules only.
pub(super) const RULE: &str = "tideline-total-capacity";
/// How long a group is sized through its rule before `ScaleWithAdjustment` is tried again: it may be granted by then.
const RULES_FOR: Duration = Duration::from_hours(1);
/// Wait while another activity of the group runs: they take minutes.
const ACTIVITY_WAIT: SignedDuration = SignedDuration::from_secs(15);
/// A removal that is asked for again after this is a new one: the first was accepted and did not happen.
const REMOVAL_TOKEN_SECONDS: i64 = 600;

type Answer = Result<OrderAnswer, ProviderError>;

/// A size that was asked for, until its activity has ended.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    pub(super) activity: String,
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) at: Instant,
}

fn token(parts: &[&str]) -> String {
    digest(parts.join("\n").as_bytes())[..32].to_owned()
}

fn failed(attempted: String, failure: &Failure) -> ProviderError {
    match failure.kind {
        FailureKind::Ill => ProviderError::Transient { attempted, source: failure.to_string().into() },
        FailureKind::Busy => {
            ProviderError::Later { attempted, why: failure.to_string(), wait: ACTIVITY_WAIT }
        }
        FailureKind::Denied | FailureKind::Missing | FailureKind::Refused => ProviderError::Refused {
            attempted,
            code: failure.code.to_string(),
            message: failure.message.to_string(),
        },
    }
}

impl Shared {
    async fn fresh(&self, pool: &PoolId, attempted: &str) -> Result<Option<ScalingGroup>, ProviderError> {
        let Some(id) = super::group_of(pool) else { return Ok(None) };
        let ids = [id.to_owned()];
        let mut found = self.ess.groups(&ids).await.map_err(|why| failed(attempted.to_owned(), &why))?;
        Ok(found.remove(id))
    }

    pub(super) async fn raise(&self, order: &Buy) -> Answer {
        let attempted = format!("raise {} to {}", order.pool, order.to);
        let Some(group) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let observed = capacity(&group);
        if observed >= order.to {
            return Ok(OrderAnswer::Done);
        }
        if let Some(why) = refused_by_group(&group) {
            return Ok(OrderAnswer::obsolete(why));
        }
        if order.to > group.max_size {
            return Ok(OrderAnswer::obsolete(format!(
                "{} machines are over the maximum of {} of {} in ESS, which would cut the order short",
                order.to, group.max_size, group.scaling_group_id
            )));
        }
        let to = order.to.min(observed.saturating_add(ADDED_AT_ONCE));
        let token = token(&["buy", order.intent.as_str(), &to.to_string()]);
        let activity =
            self.resize(&group, to, &token).await.map_err(|why| failed(attempted.clone(), &why))?;
        self.note_ordered(
            &group.scaling_group_id,
            Ordered { activity, from: observed, to, at: Instant::now() },
        );
        if to < order.to {
            let why = format!("ESS adds {ADDED_AT_ONCE} machines at a time: {to} first");
            return Err(ProviderError::Later { attempted, why, wait: ACTIVITY_WAIT });
        }
        Ok(OrderAnswer::Done)
    }

    pub(super) async fn reduce(&self, order: &Lower) -> Answer {
        let attempted = format!("lower {} to {}", order.pool, order.to);
        let Some(group) = self.fresh(&order.pool, &attempted).await? else {
            return Ok(OrderAnswer::obsolete(format!("pool {} is gone", order.pool)));
        };
        let observed = capacity(&group);
        if observed <= order.to {
            return Ok(OrderAnswer::Done);
        }
        if observed > order.from {
            let why = format!("{} was raised to {observed} since {} was planned on", order.pool, order.from);
            return Ok(OrderAnswer::obsolete(why));
        }
        let token = token(&["lower", order.intent.as_str(), &order.to.to_string()]);
        self.lower_to(&group, order.to, &token, attempted).await
    }

    /// Lowers what a group is asked for, never under the machines that it has.
    async fn lower_to(&self, group: &ScalingGroup, to: u32, token: &str, attempted: String) -> Answer {
        let id = &group.scaling_group_id;
        if !group.enable_desired_capacity {
            let why = format!("{id} asks for no more than it has: only named machines may go");
            return Ok(OrderAnswer::obsolete(why));
        }
        if let Some(why) = refused_by_group(group) {
            return Ok(OrderAnswer::obsolete(why));
        }
        if to < group.min_size {
            let why = format!("{to} is under the minimum of {} of {id}", group.min_size);
            return Ok(OrderAnswer::obsolete(why));
        }
        let (instances, whole) =
            self.ess.instances(id).await.map_err(|why| failed(attempted.clone(), &why))?;
        let staying = instances.values().filter(|instance| is_staying(instance)).count();
        if !whole || staying as u64 > u64::from(to) {
            return Ok(OrderAnswer::obsolete(format!("{id} has {staying} machines: only named ones may go")));
        }
        self.resize(group, to, token).await.map_err(|why| failed(attempted, &why))?;
        self.pace.nudge();
        Ok(OrderAnswer::Done)
    }

    /// Sets a group's size, through its rule where the direct action is not granted. Answers the activity.
    async fn resize(&self, group: &ScalingGroup, to: u32, token: &str) -> Result<String, Failure> {
        let id = group.scaling_group_id.as_str();
        if !self.uses_rules(id) {
            match self.ess.scale(id, to, token).await {
                Ok(accepted) => return Ok(accepted.scaling_activity_id),
                Err(why) if why.kind == FailureKind::Denied && !why.code.starts_with("Invalid") => {
                    tracing::warn!(
                        group = id,
                        %why,
                        "sizing the group through a scaling rule instead, which the other permissions allow"
                    );
                    self.use_rules(id);
                }
                Err(why) => return Err(why),
            }
        }
        let ari = match self.ess.rule(id, RULE).await? {
            Some(rule) => {
                let stands = rule.adjustment_type == "TotalCapacity"
                    && rule.adjustment_value == i64::from(to)
                    && rule.cooldown == 0;
                if !stands {
                    self.ess.modify_rule(&rule.scaling_rule_id, to).await?;
                }
                rule.scaling_rule_ari
            }
            None => self.ess.create_rule(id, RULE, to).await?.scaling_rule_ari,
        };
        Ok(self.ess.execute_rule(&ari, token).await?.scaling_activity_id)
    }

    fn uses_rules(&self, group: &str) -> bool {
        self.state().rules_until.get(group).is_some_and(|until| *until > Instant::now())
    }

    fn use_rules(&self, group: &str) {
        self.state().rules_until.insert(group.to_owned(), Instant::now() + RULES_FOR);
    }

    fn note_ordered(&self, group: &str, ordered: Ordered) {
        self.state().ordered.insert(group.to_owned(), ordered);
        self.pace.nudge();
    }

    /// Gives machines of one pool back: as many as ESS takes at once, the rest after that activity.
    pub(super) async fn give_back(&self, orders: &[Release]) -> Vec<Answer> {
        let Some(first) = orders.first() else { return Vec::new() };
        let attempted = format!("remove {} machines from {}", orders.len(), first.pool);
        let read = async {
            let Some(group) = self.fresh(&first.pool, &attempted).await? else { return Ok(None) };
            let (instances, _) = self
                .ess
                .instances(&group.scaling_group_id)
                .await
                .map_err(|why| failed(attempted.clone(), &why))?;
            Ok(Some((group, instances)))
        };
        let (group, instances) = match read.await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let gone = || Ok(OrderAnswer::obsolete(format!("pool {} is gone", first.pool)));
                return orders.iter().map(|_| gone()).collect();
            }
            Err(error) => return repeated(error, orders.len()),
        };
        let mut sorting = Sorting { group: &group, instances: &instances, left: capacity(&group), taken: 0 };
        let sorted: Vec<Turn> = orders.iter().map(|order| sorting.turn(order)).collect();
        let placeholders: Vec<&Release> = orders
            .iter()
            .zip(&sorted)
            .filter(|(_, turn)| matches!(turn, Turn::Placeholder))
            .map(|(order, _)| order)
            .collect();
        let unborn = if placeholders.is_empty() {
            None
        } else {
            Some(self.forget(&group, &placeholders, attempted.clone()).await)
        };
        let named: Vec<String> = orders
            .iter()
            .zip(&sorted)
            .filter_map(|(order, turn)| match turn {
                Turn::Remove => Some(instance_of(&order.machine).to_owned()),
                _ => None,
            })
            .collect();
        let removed =
            if named.is_empty() { Ok(BTreeMap::new()) } else { self.remove(&group, orders, &named).await };
        orders
            .iter()
            .zip(sorted)
            .map(|(order, turn)| match turn {
                Turn::Answer(answer) => Ok(answer),
                Turn::Wait(why) => {
                    Err(ProviderError::Later { attempted: attempted.clone(), why, wait: ACTIVITY_WAIT })
                }
                Turn::Placeholder => match &unborn {
                    Some(Ok(answer)) => Ok(answer.clone()),
                    Some(Err(error)) => Err(error.again()),
                    None => Ok(OrderAnswer::Done),
                },
                Turn::Remove => match &removed {
                    Ok(ignored) => match ignored.get(instance_of(&order.machine)) {
                        None => Ok(OrderAnswer::Done),
                        Some(why) => Err(ProviderError::Later {
                            attempted: attempted.clone(),
                            why: why.clone(),
                            wait: ACTIVITY_WAIT,
                        }),
                    },
                    Err(why) => Err(failed(attempted.clone(), why)),
                },
            })
            .collect()
    }

    /// Removes named instances; answers those that ESS passed over, with why.
    async fn remove(
        &self,
        group: &ScalingGroup,
        orders: &[Release],
        named: &[String],
    ) -> Result<BTreeMap<String, String>, Failure> {
        let window = (self.clock.now().as_second() / REMOVAL_TOKEN_SECONDS).to_string();
        let mut parts = vec!["remove", &window];
        let intents = orders.iter().map(|order| order.intent.as_str());
        parts.extend(intents.chain(named.iter().map(String::as_str)));
        let token = token(&parts);
        let removal = Removal { group: &group.scaling_group_id, instances: named, token: &token };
        let removed = self.ess.remove(&removal).await?;
        self.pace.nudge();
        let passed_over = removed.ignored_instances.into_iter().filter(|one| !one.code.ends_with("NotFound"));
        Ok(passed_over.map(|one| (one.instance_id, format!("{}: {}", one.code, one.message))).collect())
    }

    /// Takes back what was asked for and never came: a group with a desired capacity goes on trying otherwise.
    async fn forget(&self, group: &ScalingGroup, orders: &[&Release], attempted: String) -> Answer {
        let count = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        let answer = if group.enable_desired_capacity {
            let to = capacity(group).saturating_sub(count).max(group.min_size);
            let intents: Vec<&str> = orders.iter().map(|order| order.intent.as_str()).collect();
            let token = token(&["forget", &intents.join(","), &to.to_string()]);
            self.lower_to(group, to, &token, attempted).await?
        } else {
            OrderAnswer::Done
        };
        if answer == OrderAnswer::Done {
            let mut state = self.state();
            for order in orders {
                state.forget(order.machine.clone());
            }
            drop(state);
            self.pace.nudge();
        }
        Ok(answer)
    }
}

/// The same error for each of several orders that failed together.
fn repeated(error: ProviderError, count: usize) -> Vec<Answer> {
    let mut answers: Vec<Answer> = (1..count).map(|_| Err(error.again())).collect();
    answers.push(Err(error));
    answers
}

/// What is to be done for one release.
enum Turn {
    Answer(OrderAnswer),
    Wait(String),
    Placeholder,
    Remove,
}

struct Sorting<'a> {
    group: &'a ScalingGroup,
    instances: &'a BTreeMap<String, ScalingInstance>,
    /// Size that would be left.
    left: u32,
    taken: usize,
}

impl Sorting<'_> {
    fn turn(&mut self, order: &Release) -> Turn {
        let obsolete = |why: String| Turn::Answer(OrderAnswer::obsolete(why));
        let id = &self.group.scaling_group_id;
        if is_placeholder(&order.machine) {
            return Turn::Placeholder;
        }
        let name = instance_of(&order.machine);
        let Some(instance) =
            self.instances.get(name).filter(|one| !one.lifecycle_state.starts_with("Removing"))
        else {
            return Turn::Answer(OrderAnswer::Done);
        };
        if let Some(why) = closed(instance).or_else(|| refused_by_group(self.group)) {
            return obsolete(why);
        }
        let min = self.group.min_size.max(order.min);
        if self.left <= min {
            return obsolete(format!("{id} is at its minimum of {min}: {name} is kept"));
        }
        if instance.lifecycle_state.starts_with("Pending") {
            return Turn::Wait(format!("{name} is still being added to {id}"));
        }
        if self.taken == REMOVED_AT_ONCE {
            return Turn::Wait(format!("ESS removes {REMOVED_AT_ONCE} machines at a time"));
        }
        self.left -= 1;
        self.taken += 1;
        Turn::Remove
    }
}
