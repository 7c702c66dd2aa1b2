//! Portraits: what each provider says a replica count should be at a moment, and which of them counts.
//!
//! Owns reading static, cron and time series portraits and the rule of priority. Where portraits come from, and what
//! bounds apply afterwards, is decided elsewhere.

use cron::{Window, WindowState};
use jiff::Timestamp;
use std::fmt;
use std::sync::Arc;

/// Where a value comes from, as it stands in the status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    Static,
    Cron,
    /// With the type of its portrait.
    Dynamic(Arc<str>),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("Static"),
            Self::Cron => f.write_str("Cron"),
            Self::Dynamic(portrait) => write!(f, "Dynamic-{portrait}"),
        }
    }
}

/// A replica count, and until when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub provider: Provider,
    pub replicas: u32,
    pub expires: Option<Timestamp>,
}

/// Replicas while a window is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub name: Arc<str>,
    pub window: Window,
    pub replicas: u32,
}

/// From this moment on, so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub at: Timestamp,
    pub replicas: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Static(u32),
    Cron(Vec<Rule>),
    /// Each point holds until the next, in whatever order they are given.
    Series(Vec<Point>),
}

/// What an algorithm made, and until when it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    pub content: Content,
    pub expires: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portrait {
    Static(u32),
    Cron(Vec<Rule>),
    /// None until the algorithm has brought something.
    Generated(Option<Generated>),
    /// Cannot be used: why, in one sentence.
    Broken(Arc<str>),
}

/// A provider of an autoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub provider: Provider,
    pub priority: i32,
    pub portrait: Portrait,
}

/// What a source says at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    pub value: Option<Value>,
    /// When it may next say something else.
    pub wake_at: Option<Timestamp>,
    /// What is wrong with it, in one sentence; it may still have a value.
    pub problem: Option<Arc<str>>,
}

/// Reads a source at a moment.
pub fn read(source: &Source, now: Timestamp) -> Reading {
    let mut reading = match &source.portrait {
        Portrait::Static(replicas) => fixed(*replicas),
        Portrait::Cron(rules) => cron(rules, now),
        Portrait::Generated(None) => nothing(None),
        Portrait::Generated(Some(generated)) => generated_at(generated, now),
        Portrait::Broken(why) => Reading { problem: Some(why.clone()), ..nothing(None) },
    };
    if let Some(value) = &mut reading.value {
        value.provider = source.provider.clone();
    }
    reading
}

fn nothing(wake_at: Option<Timestamp>) -> Reading {
    Reading { value: None, wake_at, problem: None }
}

/// The provider's name is filled in by `read`.
fn value(replicas: u32, expires: Option<Timestamp>) -> Value {
    Value { provider: Provider::Static, replicas, expires }
}

fn fixed(replicas: u32) -> Reading {
    Reading { value: Some(value(replicas, None)), ..nothing(None) }
}

/// Of several windows that are open at once the largest count is taken: the overlap is a mistake that is reported,
/// and too few replicas is the worse guess.
fn cron(rules: &[Rule], now: Timestamp) -> Reading {
    let mut open: Vec<(&Rule, Timestamp)> = Vec::new();
    let mut reading = nothing(None);
    for rule in rules {
        let wake = match rule.window.at(now) {
            WindowState::Open { until } => {
                open.push((rule, until));
                Some(until)
            }
            WindowState::Closed { opens } => opens,
            WindowState::Endless => {
                let why = format!("the end {:?} of cron {:?} never comes", rule.window.end.text(), rule.name);
                reading.problem = Some(Arc::from(why));
                None
            }
        };
        reading.wake_at = earlier(reading.wake_at, wake);
    }
    if let [(first, _), (second, _), ..] = open[..] {
        reading.problem =
            Some(Arc::from(format!("found overlapping cron {:?} and {:?}", first.name, second.name)));
    }
    let mut best: Option<(u32, Timestamp)> = None;
    for (rule, until) in open {
        if best.is_none_or(|(replicas, _)| rule.replicas > replicas) {
            best = Some((rule.replicas, until));
        }
    }
    reading.value = best.map(|(replicas, until)| value(replicas, Some(until)));
    reading
}

fn generated_at(generated: &Generated, now: Timestamp) -> Reading {
    if generated.expires.is_some_and(|expires| expires <= now) {
        return nothing(None);
    }
    let mut reading = match &generated.content {
        Content::Static(replicas) => fixed(*replicas),
        Content::Cron(rules) => cron(rules, now),
        Content::Series(points) => series(points, now),
    };
    reading.wake_at = earlier(reading.wake_at, generated.expires);
    if let Some(value) = &mut reading.value {
        value.expires = earlier(value.expires, generated.expires);
    }
    reading
}

fn series(points: &[Point], now: Timestamp) -> Reading {
    let started = points.iter().filter(|point| point.at <= now).max_by_key(|point| point.at);
    let next = points.iter().map(|point| point.at).filter(|at| *at > now).min();
    Reading { value: started.map(|point| value(point.replicas, next)), ..nothing(next) }
}

/// The earlier of two moments that may not come.
pub(crate) fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The value that counts: highest priority, then most replicas, then the earlier in the list. Expired ones do not.
pub fn choose(candidates: impl IntoIterator<Item = (i32, Value)>, now: Timestamp) -> Option<Value> {
    let mut chosen: Option<(i32, Value)> = None;
    for (priority, value) in candidates {
        if value.expires.is_some_and(|expires| expires <= now) {
            continue;
        }
        let better = chosen.as_ref().is_none_or(|(highest, best)| {
            priority > *highest || (priority == *highest && value.replicas > best.replicas)
        });
        if better {
            chosen = Some((priority, value));
        }
    }
    chosen.map(|(_, value)| value)
}
