//! Risks that keep to a budget: chosen anew every day from what each would have cost over the week before.
//!
//! Owns the choice. The measure is what one who knows the next ten minutes would have paid, which of the past is known, or
//! what the HPA would have; no minute is looked at before it has passed.

use super::policy::{Hpa, Policy as _, STABILIZATION, Seen};
use super::{Comparison, whole};
use forecast::Peaks;
use std::collections::VecDeque;

/// Risks that are chosen from, the most careful first.
const RISKS: usize = 25;
const LEAST_RISK: f64 = 0.0001;
/// From one to the next: four double it.
const RATIO: f64 = 1.189_207_115_002_721;
const DAY: usize = 1_440;
/// Days that a choice is made from.
const DAYS: usize = 7;
/// Minutes that the measure knows ahead.
const KNOWN_AHEAD: usize = 10;

/// Whose cost a budget is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// One who knows the next ten minutes.
    #[default]
    Oracle,
    /// Kubernetes' HorizontalPodAutoscaler.
    Hpa,
}

impl Measure {
    pub const ALL: [Self; 2] = [Self::Oracle, Self::Hpa];

    pub fn name(self) -> &'static str {
        match self {
            Self::Oracle => "oracle",
            Self::Hpa => "hpa",
        }
    }
}

/// What a day cost, by risk: replica-minutes, and machine-minutes with the risk of machines.
#[derive(Clone)]
struct Cost {
    replicas: [usize; RISKS],
    machines: [usize; RISKS],
    measure: (usize, usize),
    /// What the risks that were chosen cost.
    spent: (usize, usize),
}

impl Cost {
    const NONE: Self = Self { replicas: [0; RISKS], machines: [0; RISKS], measure: (0, 0), spent: (0, 0) };

    fn add(&mut self, other: &Self) {
        self.replicas.iter_mut().zip(other.replicas).for_each(|(sum, one)| *sum += one);
        self.machines.iter_mut().zip(other.machines).for_each(|(sum, one)| *sum += one);
        self.measure.0 += other.measure.0;
        self.measure.1 += other.measure.1;
        self.spent.0 += other.spent.0;
        self.spent.1 += other.spent.1;
    }
}

/// The risks of the day, and what they are chosen from.
pub(super) struct Balance<'a> {
    budget: f64,
    /// The HPA with its replicas, where it is the measure.
    hpa: Option<(Hpa<'a>, usize)>,
    risks: [f64; RISKS],
    days: VecDeque<Cost>,
    today: Cost,
    minutes: usize,
    /// Machines of the last minutes by risk, and of the measure: an empty one is kept for a while.
    kept: VecDeque<([usize; RISKS], usize)>,
    last: VecDeque<f64>,
    /// Places of the risks of replicas and of machines.
    chosen: (usize, usize),
}

impl<'a> Balance<'a> {
    pub(super) fn new(about: &'a Comparison, budget: f64) -> Self {
        let risks = std::array::from_fn(|place| LEAST_RISK * RATIO.powi(i32::try_from(place).unwrap_or(0)));
        Self {
            budget,
            hpa: (about.budget_of == Measure::Hpa).then(|| (Hpa::new(about, 1.0, STABILIZATION), 1)),
            risks,
            days: VecDeque::with_capacity(DAYS + 1),
            today: Cost::NONE,
            minutes: 0,
            kept: VecDeque::new(),
            last: VecDeque::with_capacity(KNOWN_AHEAD + 1),
            chosen: (RISKS / 2, RISKS / 2),
        }
    }

    /// The risks of replicas and of machines.
    pub(super) fn risks(&self) -> (f64, f64) {
        (self.risks[self.chosen.0], self.risks[self.chosen.1])
    }

    /// Takes the value of a minute that has passed, and what is forecast after it.
    pub(super) fn note(&mut self, about: &Comparison, peaks: &Peaks, value: f64) {
        self.last.push_back(value);
        if self.last.len() > KNOWN_AHEAD {
            self.last.pop_front();
        }
        let known = self.measure(about, value);
        if !peaks.is_ready() {
            return;
        }
        let world = &about.world;
        let enough =
            |risk: f64, at: usize| world.clamped(whole(peaks.exceeded_in(risk, at) / about.replica_capacity));
        let replicas: [usize; RISKS] =
            std::array::from_fn(|at| enough(self.risks[at], 0).max(enough(self.risks[at], 1)));
        let on = |replicas: usize| replicas.div_ceil(world.replicas_per_machine);
        let machines = std::array::from_fn(|at| on(replicas[self.chosen.0].max(enough(self.risks[at], 2))));
        self.kept.push_back((machines, on(known)));
        if self.kept.len() > world.keep_empty_minutes.max(1) {
            self.kept.pop_front();
        }
        let machines = std::array::from_fn(|at| self.kept.iter().map(|one| one.0[at]).max().unwrap_or(0));
        let measured = self.kept.iter().map(|one| one.1).max().unwrap_or(0);
        let spent = (replicas[self.chosen.0], machines[self.chosen.1]);
        self.today.add(&Cost { replicas, machines, measure: (known, measured), spent });
        self.minutes += 1;
        if self.minutes.is_multiple_of(DAY) {
            self.days.push_back(std::mem::replace(&mut self.today, Cost::NONE));
            if self.days.len() > DAYS {
                self.days.pop_front();
            }
            self.choose();
        }
    }

    /// Replicas that the measure has for a minute that has passed.
    fn measure(&mut self, about: &Comparison, value: f64) -> usize {
        if let Some((hpa, replicas)) = &mut self.hpa {
            *replicas = hpa.wish(&Seen { minute: 1, requests: &[value], replicas: *replicas }).replicas;
            return *replicas;
        }
        let highest = self.last.iter().copied().fold(0.0, f64::max);
        about.world.clamped(whole(highest / about.wanted_load()))
    }

    fn choose(&mut self) {
        let mut week = Cost::NONE;
        self.days.iter().for_each(|day| week.add(day));
        // What was left over, or spent too much, in the week is made up for.
        let first = |costs: &[usize; RISKS], measure: usize, spent: usize| {
            let most = 2.0 * self.budget * measure as f64 - spent as f64;
            costs.iter().position(|cost| *cost as f64 <= most).unwrap_or(RISKS - 1)
        };
        self.chosen = (
            first(&week.replicas, week.measure.0, week.spent.0),
            first(&week.machines, week.measure.1, week.spent.1),
        );
    }
}
