//! What a forecast looks at: the level now, the same time of earlier days and weeks, how far today is above them.
//!
//! Owns the history that features are read from ([`Window`]) and the order of features. All values are shares of the
//! series' own level, so one regularisation fits every series. What is learned from features is `ridge`'s and
//! `boost`'s business.

use crate::calendar::{Calendar, DayGrid};
use crate::seasons::Seasons;

/// Features of a row, padded with a zero to a multiple of four for the arithmetic units.
pub(crate) const WIDTH: usize = 28;
/// Where the features that depend on the step begin; those before are the same for all steps of an origin.
const PER_STEP: usize = 17;
/// A bin this far above the day's mean is a burst.
const BURST: f32 = 1.4;
/// Points by which the kept history may be longer than needed, so that points are dropped in bulk.
const SLACK: usize = 144;
/// Bins that are searched for the last bursts.
const BURST_SEARCH: usize = 144;

pub(crate) type Row = [f32; WIDTH];

/// What all steps of an origin share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    at: usize,
    row: Row,
    /// The level of this hour one short and one long season ago.
    hour_short_ago: f32,
    hour_long_ago: f32,
}

/// The clean end of a series: values without gaps, running sums, and two profiles that are kept as points arrive.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Index in the series of the first value that is kept.
    base: usize,
    /// Index in the series of the first entry of `sums` and of the profiles, which need not reach as far back.
    tail: usize,
    seasons: Seasons,
    scale: f32,
    values: Vec<f32>,
    /// Sums of all values before each index, one longer than `values`.
    sums: Vec<f64>,
    /// At each index the mean of the same time of up to seven short seasons.
    short_profile: Vec<f32>,
    /// The same for up to four long seasons.
    long_profile: Vec<f32>,
}

impl Window {
    /// `values` without gaps, the first of them being number `base` of the series.
    pub(crate) fn new(base: usize, seasons: Seasons, scale: f32, values: &[f32]) -> Self {
        let mut window = Self {
            base,
            tail: base,
            seasons,
            scale,
            values: Vec::with_capacity(values.len()),
            sums: vec![0.0],
            short_profile: Vec::with_capacity(values.len()),
            long_profile: Vec::with_capacity(values.len()),
        };
        for &value in values {
            window.push(value);
        }
        window
    }

    /// The number of the series' next value.
    pub(crate) fn next(&self) -> usize {
        self.base + self.values.len()
    }

    pub(crate) fn seasons(&self) -> Seasons {
        self.seasons
    }

    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    pub(crate) fn push(&mut self, value: f32) {
        let value = value / self.scale;
        self.values.push(value);
        // `sums` starts with the empty sum, so it always holds one more.
        let sum = self.sums.last().copied().unwrap_or(0.0) + f64::from(value);
        self.sums.push(sum);
        let at = self.next() - 1;
        let short = self.seasonal_mean(at, self.seasons.short, 7);
        let long = self.seasonal_mean(at, self.seasons.long.unwrap_or(self.seasons.short), 4);
        self.short_profile.push(short);
        self.long_profile.push(long);
    }

    /// Forgets what no feature of a later origin looks at, so that memory stays bounded.
    pub(crate) fn forget(&mut self) {
        let long = self.seasons.long.unwrap_or(self.seasons.short);
        // The profiles of points to come look back four long seasons or seven short ones; everything else one.
        let values = (4 * long).max(7 * self.seasons.short) + 16;
        let others = long + 2 * self.seasons.short + 16;
        let gone = self.values.len().saturating_sub(values);
        if gone > SLACK {
            self.values.drain(..gone);
            self.base += gone;
        }
        let gone = self.short_profile.len().saturating_sub(others);
        if gone > SLACK {
            self.sums.drain(..gone);
            self.short_profile.drain(..gone);
            self.long_profile.drain(..gone);
            self.tail += gone;
        }
    }

    /// Gives back memory that building the window took.
    pub(crate) fn shrink(&mut self) {
        fit_with_slack(&mut self.values);
        fit_with_slack(&mut self.sums);
        fit_with_slack(&mut self.short_profile);
        fit_with_slack(&mut self.long_profile);
    }

    pub(crate) fn bytes(&self) -> usize {
        4 * (self.values.capacity() + self.short_profile.capacity() + self.long_profile.capacity())
            + 8 * self.sums.capacity()
    }

    /// The value at an index of the series, in units of the series; the nearest one kept outside of what is kept.
    pub(crate) fn value(&self, at: usize) -> f32 {
        self.scaled(at) * self.scale
    }

    fn scaled(&self, at: usize) -> f32 {
        let last = self.values.len().saturating_sub(1);
        self.values.get(at.saturating_sub(self.base).min(last)).copied().unwrap_or(0.0)
    }

    /// Mean of the scaled values from `from` up to and without `to`; clipped to what is kept.
    pub(crate) fn mean(&self, from: usize, to: usize) -> f32 {
        let end = to.saturating_sub(self.tail).clamp(1, self.short_profile.len().max(1));
        let start = from.saturating_sub(self.tail).min(end - 1);
        match (self.sums.get(start), self.sums.get(end)) {
            (Some(a), Some(b)) => ((b - a) / (end - start) as f64) as f32,
            _ => 0.0,
        }
    }

    /// Mean around an index, which moves back so that nothing after `origin` is looked at.
    fn around<const REACH: usize>(&self, center: usize, origin: usize) -> f32 {
        let first = center.min(origin.saturating_sub(REACH)).saturating_sub(REACH);
        let width = 2 * REACH + 1;
        let start = first.saturating_sub(self.tail);
        match self.sums.get(start..=start + width) {
            // Dividing by a constant is a multiplication; this is the innermost loop of a forecast.
            Some([first, .., last]) => ((last - first) * (1.0 / width as f64)) as f32,
            _ => self.mean(first, first + width),
        }
    }

    fn seasonal_mean(&self, at: usize, season: usize, times: usize) -> f32 {
        let mut sum = 0.0;
        let mut count = 0.0;
        for back in 0..times {
            let Some(center) = at.checked_sub(back * season) else { break };
            if center < self.base {
                break;
            }
            let first = center.saturating_sub(1).max(self.base) - self.base;
            let around = &self.values[first..(center + 2 - self.base).min(self.values.len())];
            sum += around.iter().sum::<f32>() / around.len() as f32;
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }

    fn profile(&self, profile: &[f32], at: usize, origin: usize) -> f32 {
        // The entry of an index is whole once its successor is known; it was made when only half was.
        let at = at.min(origin.saturating_sub(1)).saturating_sub(self.tail);
        profile.get(at).copied().unwrap_or(0.0)
    }

    /// The first origin whose features all lie in what is kept.
    pub(crate) fn first_origin(&self) -> usize {
        self.base + self.seasons.long.unwrap_or(self.seasons.short) + self.seasons.short + 6
    }

    /// The features of an origin that all of its steps share.
    pub(crate) fn origin(&self, origin: usize) -> Origin {
        let mut row = [0.0; WIDTH];
        let end = origin + 1;
        let short = self.seasons.short;
        let long = self.seasons.long.unwrap_or(short);
        let ago = |bins: usize| self.scaled(origin.saturating_sub(bins));
        let last = |bins: usize| self.mean(end.saturating_sub(bins), end);
        let before = |season: usize, bins: usize| {
            let end = end.saturating_sub(season);
            self.mean(end.saturating_sub(bins), end)
        };
        let (hour, three, day) = (last(6), last(18), last(short));
        let (hour_short_ago, hour_long_ago) = (before(short, 6), before(long, 6));
        let (since, between) = self.bursts(origin, day);
        row[..PER_STEP].copy_from_slice(&[
            1.0,
            ago(0),
            ago(1),
            ago(2),
            last(3),
            hour,
            three,
            last(36),
            day,
            last(long),
            hour - hour_short_ago,
            hour - hour_long_ago,
            three - before(long, 18),
            day - before(long, short),
            day - before(short, short),
            since,
            between,
        ]);
        Origin { at: origin, row, hour_short_ago, hour_long_ago }
    }

    /// An origin's row for a step, completed by what earlier seasons say of that time.
    pub(crate) fn row(&self, origin: &Origin, sources: Sources) -> Row {
        let mut row = origin.row;
        let at = origin.at;
        let yesterday = self.around::<2>(sources.short, at);
        let last_week = self.around::<2>(sources.long, at);
        row[PER_STEP..PER_STEP + 10].copy_from_slice(&[
            self.scaled(sources.short.min(at)),
            yesterday,
            self.around::<6>(sources.short, at),
            self.scaled(sources.long.min(at)),
            last_week,
            self.around::<6>(sources.long, at),
            self.profile(&self.short_profile, sources.short, at),
            self.profile(&self.long_profile, sources.long, at),
            yesterday - origin.hour_short_ago,
            last_week - origin.hour_long_ago,
        ]);
        row
    }

    /// How long ago the last burst was, and how far the one before it lay from it, as shares of the search.
    fn bursts(&self, origin: usize, day: f32) -> (f32, f32) {
        let over = |back: usize| self.scaled(origin.saturating_sub(back)) > BURST * day;
        let quiet = (0..BURST_SEARCH / 2).take_while(|back| !over(*back)).count();
        let end = (quiet..BURST_SEARCH).take_while(|back| over(*back)).count() + quiet;
        let before = (end..BURST_SEARCH).take_while(|back| !over(*back)).count();
        (quiet as f32 / (BURST_SEARCH / 2) as f32, before as f32 / BURST_SEARCH as f32)
    }
}

/// Room for what is dropped in bulk and no more: a vector that outgrows its room doubles it.
fn fit_with_slack<T>(values: &mut Vec<T>) {
    values.shrink_to_fit();
    values.reserve_exact(SLACK + 2);
}

/// What of a row stands for itself as a forecast: last value, last short season, last long one, and the mean of long
/// seasons.
pub(crate) fn naive(row: &Row) -> [f32; 4] {
    [row[1], row[PER_STEP], row[PER_STEP + 3], row[PER_STEP + 7]]
}

/// Where the same time of an earlier season stands in the series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) short: usize,
    pub(crate) long: usize,
}

impl Sources {
    /// For a target; a calendar may point to another day, where the target's day or the source's is a special one.
    pub(crate) fn of(
        seasons: Seasons,
        origin: usize,
        step: usize,
        grid: &DayGrid,
        calendar: &Calendar,
    ) -> Self {
        let target = origin + step;
        // Nearly always one season reaches back before the origin, and a division would cost more than all else.
        let back = |season: usize| if step <= season { season } else { season * step.div_ceil(season) };
        let short = target.saturating_sub(back(seasons.short));
        let usual =
            Self { short, long: seasons.long.map_or(short, |long| target.saturating_sub(back(long))) };
        if calendar.is_empty() || seasons.short != grid.bins_of_a_day() {
            return usual;
        }
        match calendar.alike(grid, target, origin) {
            None => usual,
            Some(alike) => Self { short: alike, long: alike },
        }
    }
}
