//! A quantity over time in bounded memory: for each slice of the run its least, its greatest and its mean value.
//!
//! A slice keeps the extremes, so a peak of one minute in half a year is still seen on the plot.

/// Slices of a whole run.
pub(super) const SLICES: u64 = 900;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Slice {
    pub min: f64,
    pub max: f64,
    /// Weighted by time.
    pub mean: f64,
}

/// A step function that is being recorded.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    slice_millis: u64,
    done: Vec<Slice>,
    value: f64,
    changed_at: u64,
    min: f64,
    max: f64,
    /// Value × milliseconds so far in the open slice.
    area: f64,
}

impl Series {
    /// A series over a run of this length that stands at zero.
    pub(crate) fn over(millis: u64) -> Self {
        Self {
            slice_millis: millis.div_ceil(SLICES).max(1000),
            done: Vec::new(),
            value: 0.0,
            changed_at: 0,
            min: 0.0,
            max: 0.0,
            area: 0.0,
        }
    }

    pub(crate) fn slice_millis(&self) -> u64 {
        self.slice_millis
    }

    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// The value from `at` on (milliseconds from the start, never going back).
    pub(crate) fn set(&mut self, at: u64, value: f64) {
        self.advance(at);
        self.value = value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    fn advance(&mut self, at: u64) {
        // Changes after the planned end (the quiet tail) are not plotted; the bound holds whatever happens.
        while (self.done.len() as u64) < SLICES {
            let end = (self.done.len() as u64 + 1) * self.slice_millis;
            let until = at.clamp(self.changed_at, end.max(self.changed_at));
            self.area += self.value * (until - self.changed_at) as f64;
            self.changed_at = until;
            if at < end {
                return;
            }
            let mean = self.area / self.slice_millis as f64;
            self.done.push(Slice { min: self.min, max: self.max, mean });
            self.area = 0.0;
            self.min = self.value;
            self.max = self.value;
        }
    }

    /// Closes the series at `at` and gives its slices; the last one may be shorter.
    pub(crate) fn finish(mut self, at: u64) -> Vec<Slice> {
        self.advance(at);
        let begun = self.done.len() as u64 * self.slice_millis;
        if self.changed_at > begun && (self.done.len() as u64) < SLICES {
            let mean = self.area / (self.changed_at - begun) as f64;
            self.done.push(Slice { min: self.min, max: self.max, mean });
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_peak_is_kept_in_a_long_run() {
        let day = 86_400_000;
        let mut series = Series::over(180 * day);
        series.set(0, 2.0);
        series.set(90 * day, 50.0);
        series.set(90 * day + 60_000, 2.0);
        let slices = series.finish(180 * day);
        assert_eq!(slices.len() as u64, SLICES);
        assert_eq!(slices.iter().map(|s| s.max as u32).max(), Some(50));
        assert_eq!(slices.iter().filter(|s| s.max > 2.0).count(), 1);
        assert!(slices.iter().all(|s| s.mean >= 2.0 - 1e-9 && s.mean < 3.0));
    }

    #[test]
    fn the_bound_holds_after_the_planned_end() {
        let mut series = Series::over(10_000_000);
        series.set(50_000_000, 1.0);
        assert_eq!(series.finish(60_000_000).len() as u64, SLICES);
    }
}
