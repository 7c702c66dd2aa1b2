//! What decides on replicas: the kinds that can be compared, and those of them that look back or know the future.
//!
//! Owns the policies but for those that forecast, which are in `ahead`.

use super::{Comparison, ahead, whole};
use crate::error::SimulatorError;
use std::collections::VecDeque;

/// Deviations from the target that the Horizontal Pod Autoscaler leaves alone.
const TOLERANCE: f64 = 0.1;
/// Minutes of recommendations of which it takes the highest when scaling down.
pub(super) const STABILIZATION: usize = 5;
/// Hours of a week, which cron tables are made of.
const WEEK_HOURS: usize = 168;
/// Share of minutes of an hour of the week that a cron table is enough for.
const CRON_SHARE: f64 = 0.9;

/// What can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyKind {
    /// Enough for the highest minute of the past, always.
    Static,
    /// Kubernetes' HorizontalPodAutoscaler with Cluster Autoscaler's behaviour.
    Hpa,
    /// The same on traffic that counts a fifth more.
    HpaHeadroom,
    /// A table by hour of the week.
    Cron,
    /// The higher of that table and the HPA.
    CronHpa,
    /// A reactive portrait: the HPA's arithmetic without a window, on the traffic of the last minute.
    Reactive,
    /// Forecast peaks, machines follow replicas.
    Predictive,
    /// Forecast peaks, and machines ordered for those of a machine's start-up later.
    Joined,
    /// The next ten minutes known, at the target.
    Oracle,
    /// The next five minutes known, at full use: the least that serves nearly all.
    OracleFull,
}

impl PolicyKind {
    pub const ALL: [Self; 10] = [
        Self::Static,
        Self::Hpa,
        Self::HpaHeadroom,
        Self::Cron,
        Self::CronHpa,
        Self::Reactive,
        Self::Predictive,
        Self::Joined,
        Self::Oracle,
        Self::OracleFull,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Hpa => "hpa",
            Self::HpaHeadroom => "hpa-headroom-20",
            Self::Cron => "cron",
            Self::CronHpa => "cron+hpa",
            Self::Reactive => "reactive",
            Self::Predictive => "predictive",
            Self::Joined => "predictive-joined",
            Self::Oracle => "oracle",
            Self::OracleFull => "oracle-full-use",
        }
    }

    pub fn knows_the_future(self) -> bool {
        matches!(self, Self::Oracle | Self::OracleFull)
    }
}

/// What a policy may look at; all but those who know the future stop before the minute.
pub(super) struct Seen<'a> {
    pub(super) minute: usize,
    pub(super) requests: &'a [f64],
    pub(super) replicas: usize,
}

impl Seen<'_> {
    /// The traffic of the last full minute.
    pub(super) fn last(&self) -> f64 {
        self.requests[self.minute - 1]
    }
}

pub(super) struct Wish {
    pub(super) replicas: usize,
    /// Replicas that machines are wanted for by the time that one ordered now is there.
    pub(super) ahead: usize,
}

impl Wish {
    pub(super) fn replicas(replicas: usize) -> Self {
        Self { replicas, ahead: 0 }
    }
}

pub(super) trait Policy {
    fn wish(&mut self, seen: &Seen<'_>) -> Wish;
}

/// A policy that is a function of the minute.
struct Fixed<F>(F);

impl<F: FnMut(&Seen<'_>) -> usize> Policy for Fixed<F> {
    fn wish(&mut self, seen: &Seen<'_>) -> Wish {
        Wish::replicas(self.0(seen))
    }
}

/// The policy of a kind, with what it knows at a minute.
pub(super) fn of<'a>(
    kind: PolicyKind,
    about: &'a Comparison,
    requests: &[f64],
    from: usize,
) -> Result<Box<dyn Policy + 'a>, SimulatorError> {
    let load = about.wanted_load();
    Ok(match kind {
        PolicyKind::Static => {
            let highest = highest(&requests[..from]);
            Box::new(Fixed(move |_: &Seen<'_>| whole(highest / load)))
        }
        PolicyKind::Hpa => Box::new(Hpa::new(about, 1.0, STABILIZATION)),
        PolicyKind::HpaHeadroom => Box::new(Hpa::new(about, 1.2, STABILIZATION)),
        PolicyKind::Reactive => Box::new(Hpa::new(about, 1.0, 1)),
        PolicyKind::Cron => {
            let table = cron_table(&requests[..from]);
            Box::new(Fixed(move |seen: &Seen<'_>| by_hour(&table, seen.minute, load)))
        }
        PolicyKind::CronHpa => {
            let table = cron_table(&requests[..from]);
            Box::new(Hpa { floor: Some(table), ..Hpa::new(about, 1.0, STABILIZATION) })
        }
        PolicyKind::Predictive | PolicyKind::Joined => {
            ahead::of(about, requests, from, kind == PolicyKind::Joined)?
        }
        PolicyKind::Oracle => known(10, load),
        PolicyKind::OracleFull => known(5, about.replica_capacity),
    })
}

fn known<'a>(minutes: usize, load: f64) -> Box<dyn Policy + 'a> {
    Box::new(Fixed(move |seen: &Seen<'_>| {
        whole(highest(&seen.requests[seen.minute..seen.minute + minutes]) / load)
    }))
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// For each hour of the week the value that nine of ten minutes of the past stay under.
fn cron_table(past: &[f64]) -> Vec<f64> {
    let mut hours = vec![Vec::new(); WEEK_HOURS];
    for (minute, value) in past.iter().enumerate() {
        hours[minute / 60 % WEEK_HOURS].push(*value);
    }
    let all = past.iter().sum::<f64>() / past.len().max(1) as f64;
    hours
        .into_iter()
        .map(|mut values| {
            values.sort_by(f64::total_cmp);
            let Some(last) = values.len().checked_sub(1) else { return all };
            let place = CRON_SHARE * last as f64;
            let below = place as usize;
            let above = (below + 1).min(last);
            values[below] + (values[above] - values[below]) * (place - below as f64)
        })
        .collect()
}

/// What the table says now and four minutes on, so that machines are there in time.
fn by_hour(table: &[f64], minute: usize, load: f64) -> usize {
    let at = |minute: usize| whole(table[minute / 60 % WEEK_HOURS] / load);
    at(minute).max(at(minute + 4))
}

/// The algorithm of the Horizontal Pod Autoscaler on traffic, evaluated once a minute.
pub(super) struct Hpa<'a> {
    about: &'a Comparison,
    counts: f64,
    recommendations: VecDeque<usize>,
    window: usize,
    floor: Option<Vec<f64>>,
}

impl<'a> Hpa<'a> {
    pub(super) fn new(about: &'a Comparison, counts: f64, window: usize) -> Self {
        Self { about, counts, recommendations: VecDeque::with_capacity(window + 1), window, floor: None }
    }
}

impl Policy for Hpa<'_> {
    fn wish(&mut self, seen: &Seen<'_>) -> Wish {
        let load = self.about.wanted_load();
        let came = self.counts * seen.last();
        let ratio = came / (seen.replicas as f64 * load);
        let enough = if (ratio - 1.0).abs() <= TOLERANCE { seen.replicas } else { whole(came / load) };
        let floor = self.floor.as_ref().map_or(0, |table| by_hour(table, seen.minute, load));
        let enough = self.about.world.clamped(enough.max(floor));
        self.recommendations.push_back(enough);
        if self.recommendations.len() > self.window {
            self.recommendations.pop_front();
        }
        let stable = self.recommendations.iter().copied().max().unwrap_or(enough);
        Wish::replicas(if enough > seen.replicas { enough } else { stable.min(seen.replicas) })
    }
}
