//! The gray engine: a change of replicas in steps, with pods in between that can be brought back.
//!
//! Owns the plan of counts at a moment and when to look again, from what is planned now, the target, the strategy and
//! the time. Nothing else is remembered than the session, which the caller makes durable before it acts on the plan:
//! then a crash anywhere repeats a step or waits, and never skips one.

use jiff::{SignedDuration, Timestamp};

/// How long a step down is put off while the pods of the step before are not yet cut off. Beyond it something else is
/// wrong, and a scale-down that never ends costs money.
const LONGEST_HOLD: SignedDuration = SignedDuration::from_mins(15);

/// Replicas by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub online: u32,
    pub cutoff: u32,
    pub standby: u32,
}

impl Counts {
    pub fn online(online: u32) -> Self {
        Self { online, ..Self::default() }
    }

    pub fn total(self) -> u32 {
        self.online.saturating_add(self.offline())
    }

    /// Pods that exist and do not serve.
    pub fn offline(self) -> u32 {
        self.cutoff.saturating_add(self.standby)
    }
}

/// What pods that are to go are in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrayState {
    Cutoff,
    Standby,
    /// They go with their step.
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    pub state: GrayState,
    pub interval: SignedDuration,
    /// Share of the whole change in one step, 1 to 100.
    pub percent: u32,
    /// Wait after the last step.
    pub observation: SignedDuration,
}

/// What holds in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strategies {
    pub up: Option<Strategy>,
    pub down: Option<Strategy>,
}

/// A change that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Online replicas when it began.
    pub from: u32,
    /// Online replicas when it ends.
    pub to: u32,
    /// Pods that already were on their way out when it began: they stay until it ends.
    pub reserve: u32,
    /// How much of the change is planned, in percent.
    pub percent: u32,
    /// When that was planned.
    pub updated: Timestamp,
}

/// What to do at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub plan: Counts,
    /// The session to keep; none where the change is complete.
    pub session: Option<Session>,
    pub wake_at: Option<Timestamp>,
}

/// The next step towards `target` online replicas.
///
/// `planned` is what was planned before (none: nothing yet, and the target holds at once). `settled` says whether the
/// pods are as that plan has them. The change starts from what is planned, not from what some portrait once said, so
/// a target that moves in the middle continues from where the pods are; pods on their way out come back first.
pub fn step(
    target: u32,
    planned: Option<Counts>,
    session: Option<&Session>,
    strategies: Strategies,
    settled: bool,
    now: Timestamp,
) -> Step {
    let Some(planned) = planned else { return done(target) };
    let going = session.filter(|session| session.to == target);
    match going.and_then(|session| Some((session, strategies.of(session)?))) {
        Some((session, strategy)) => advance(*session, strategy, settled, now),
        None => begin(target, planned, strategies, now),
    }
}

impl Strategies {
    fn of(&self, session: &Session) -> Option<Strategy> {
        if session.to > session.from { self.up } else { self.down }
    }
}

fn done(target: u32) -> Step {
    Step { plan: Counts::online(target), session: None, wake_at: None }
}

fn begin(target: u32, planned: Counts, strategies: Strategies, now: Timestamp) -> Step {
    // Pods that wait to go are warm: they come back at once, whatever the strategy.
    let back = target.saturating_sub(planned.online).min(planned.offline());
    let (online, reserve) = (planned.online.saturating_add(back), planned.offline() - back);
    let start = |strategy: Strategy, reserve, percent| {
        let session = Session { from: online, to: target, reserve, percent, updated: now };
        told(session, strategy, now)
    };
    if target > online {
        return strategies.up.map_or_else(|| done(target), |strategy| start(strategy, 0, strategy.percent));
    }
    match strategies.down {
        // The rest of an earlier change goes after its observation.
        Some(strategy) if target == online && reserve > 0 => start(strategy, reserve, 100),
        Some(strategy) if target < online => start(strategy, reserve, strategy.percent),
        _ => done(target),
    }
}

fn advance(session: Session, strategy: Strategy, settled: bool, now: Timestamp) -> Step {
    // A moment ahead of the clock would be waited for however far off it is.
    let updated = session.updated.min(now);
    let due = after(updated, wait(session, strategy));
    let down = session.to <= session.from;
    if due > now {
        return told(Session { updated, ..session }, strategy, now);
    }
    if down && !settled && strategy.state != GrayState::Deleted {
        let give_up = after(due, LONGEST_HOLD);
        if give_up > now {
            let held = told(Session { updated, ..session }, strategy, now);
            return Step { wake_at: Some(give_up), ..held };
        }
    }
    if session.percent >= 100 {
        return done(session.to);
    }
    let percent = session.percent.saturating_add(strategy.percent).min(100);
    told(Session { percent, updated: now, ..session }, strategy, now)
}

fn wait(session: Session, strategy: Strategy) -> SignedDuration {
    if session.percent >= 100 { strategy.observation } else { strategy.interval }
}

fn after(moment: Timestamp, wait: SignedDuration) -> Timestamp {
    moment.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// The counts of a session as far as it is.
fn told(session: Session, strategy: Strategy, now: Timestamp) -> Step {
    let whole = session.from.abs_diff(session.to);
    let share = u64::from(whole) * u64::from(session.percent.min(100)) / 100;
    // Every step moves at least one pod, else small changes would never begin.
    let part = u32::try_from(share).unwrap_or(whole).max(1).min(whole);
    let plan = if session.to > session.from {
        Counts::online(session.from.saturating_add(part))
    } else {
        let online = session.from - part;
        let gray = session.reserve.saturating_add(part);
        match strategy.state {
            GrayState::Cutoff => Counts { online, cutoff: gray, standby: 0 },
            GrayState::Standby => Counts { online, cutoff: 0, standby: gray },
            GrayState::Deleted => Counts::online(online),
        }
    };
    let wake_at = after(session.updated, wait(session, strategy)).max(now);
    Step { plan, session: Some(session), wake_at: Some(wake_at) }
}
