//! How good each forecast turned out: errors of the last days, by step, as they become known.
//!
//! Owns the weights of the experts, the quantiles of errors that make intervals, and the figures that trust rests on.

/// Experts: last value, one short season ago, one long season ago, mean of long seasons, linear, linear and trees.
pub(crate) const EXPERTS: usize = 6;
/// Experts that need no learning, in front of the others.
pub(crate) const NAIVE: usize = 4;
/// Points over which an expert's error is remembered: some four days of ten minutes.
const MEMORY: f32 = 600.0;
/// Points of "lately": a day of ten minutes.
const LATELY: f32 = 144.0;
/// Errors that quantiles are taken from: three days and a half of ten minutes.
const RING: usize = 504;
/// From this step on errors of neighbouring points are nearly the same.
const FAR: usize = 12;
/// Errors below which quantiles are a guess.
pub(crate) const LEAST_ERRORS: usize = 30;
/// How much better an expert must be to be heard alone: weight is error to this power.
const POWER: i32 = 12;
/// How fast the share of quantiles follows what was covered.
const FOLLOW: f32 = 0.02;
/// Share that the watched quantile shall leave out. Errors of far steps are known so late that following them alone
/// stays behind when errors grow; aiming a little higher makes up for it.
const AIM_NEAR: f32 = 0.1;
const AIM_FAR: f32 = 0.08;
/// The quantile whose coverage is followed.
pub(crate) const WATCHED: f64 = 0.9;

/// A forecast that waits for its point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) experts: [f32; EXPERTS],
    pub(crate) blend: f32,
    /// The watched quantile as it was forecast.
    pub(crate) upper: f32,
}

impl Pending {
    pub(crate) const NONE: Self = Self { experts: [f32::NAN; EXPERTS], blend: f32::NAN, upper: f32::NAN };
}

/// A mean that forgets; its first values are plain means.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fading {
    pub(crate) mean: f32,
    count: f32,
}

impl Fading {
    fn add(&mut self, value: f32, memory: f32) {
        self.count = (self.count + 1.0).min(memory);
        self.mean += (value - self.mean) / self.count;
    }
}

/// The record of one step.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pending: Vec<Pending>,
    errors: [Fading; EXPERTS],
    /// Errors in units of the expected spread: in the order that they came, and sorted.
    ring: Vec<f32>,
    oldest: usize,
    /// Of far steps every second error is kept: neighbours are nearly the same, and so a week is remembered.
    every: u32,
    seen: u32,
    sorted: Vec<f32>,
    /// Factor on the share that quantiles leave out above.
    tail: f32,
    pub(crate) lately: Fading,
    pub(crate) lately_naive: [Fading; 2],
    pub(crate) ever: Fading,
    pub(crate) covered: Fading,
}

impl Track {
    pub(crate) fn new(step: usize) -> Self {
        Self {
            pending: vec![Pending::NONE; step],
            errors: [Fading::default(); EXPERTS],
            ring: Vec::with_capacity(RING),
            oldest: 0,
            every: if step >= FAR { 2 } else { 1 },
            seen: 0,
            sorted: Vec::with_capacity(RING),
            tail: 1.0,
            lately: Fading::default(),
            lately_naive: [Fading::default(); 2],
            ever: Fading::default(),
            covered: Fading::default(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pending.capacity() * size_of::<Pending>() + 4 * (self.ring.capacity() + self.sorted.capacity())
    }

    /// Takes out the forecast that was made for this point, and leaves room for the one made at it.
    pub(crate) fn due(&mut self, point: usize) -> Pending {
        let at = point % self.pending.len();
        std::mem::replace(&mut self.pending[at], Pending::NONE)
    }

    pub(crate) fn expect(&mut self, point: usize, pending: Pending) {
        let at = point % self.pending.len();
        self.pending[at] = pending;
    }

    /// Scores a forecast against the point that came. `spread` is the unit of errors at that forecast.
    pub(crate) fn score(&mut self, made: &Pending, came: f32, spread: f32) {
        for (errors, expert) in self.errors.iter_mut().zip(made.experts) {
            if expert.is_finite() {
                errors.add((came - expert).abs(), MEMORY);
            }
        }
        if !made.blend.is_finite() {
            return;
        }
        self.lately.add((came - made.blend).abs(), LATELY);
        self.ever.add((came - made.blend).abs(), MEMORY);
        for (errors, expert) in self.lately_naive.iter_mut().zip(made.experts) {
            errors.add((came - expert).abs(), LATELY);
        }
        if made.upper.is_finite() {
            let inside = came <= made.upper;
            self.covered.add(f32::from(u8::from(inside)), LATELY);
            let left_out = if self.every > 1 { AIM_FAR } else { AIM_NEAR };
            let push = if inside { left_out } else { left_out - 1.0 };
            self.tail = (self.tail * (FOLLOW * push).exp()).clamp(0.3, 2.0);
        }
        self.seen += 1;
        if self.seen.is_multiple_of(self.every) {
            self.keep((came - made.blend) / spread);
        }
    }

    fn keep(&mut self, error: f32) {
        if self.ring.len() < RING {
            self.ring.push(error);
        } else {
            let gone = std::mem::replace(&mut self.ring[self.oldest], error);
            self.oldest = (self.oldest + 1) % RING;
            let at = self.sorted.partition_point(|value| value.total_cmp(&gone).is_lt());
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|value| value.total_cmp(&error).is_lt());
        self.sorted.insert(at, error);
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The quantile of errors in units of spread.
    pub(crate) fn quantile(&self, level: f64) -> f32 {
        if self.sorted.len() < LEAST_ERRORS {
            // Nothing is known yet: wide, and wider the further out.
            return (2.0 * (level - 0.5) / (1.05 - (2.0 * level - 1.0).abs()).sqrt()) as f32;
        }
        let level = if level > 0.5 { 1.0 - (1.0 - level) * f64::from(self.tail) } else { level };
        let place = level * (self.sorted.len() as f64 + 1.0) - 1.0;
        let place = place.clamp(0.0, self.sorted.len() as f64 - 1.0);
        let below = place.floor() as usize;
        let above = (below + 1).min(self.sorted.len() - 1);
        let part = (place - place.floor()) as f32;
        self.sorted[below] * (1.0 - part) + self.sorted[above] * part
    }

    /// Shares of the experts; those in `able` have a say.
    pub(crate) fn weights(&self, able: [bool; EXPERTS]) -> [f32; EXPERTS] {
        let error = |at: usize| self.errors[at].mean.max(1e-9);
        let least = (0..EXPERTS).filter(|at| able[*at]).map(error).fold(f32::MAX, f32::min);
        let mut weights = [0.0; EXPERTS];
        for at in 0..EXPERTS {
            if able[at] {
                weights[at] =
                    if self.errors[at].count == 0.0 { 1.0 } else { (least / error(at)).powi(POWER) };
            }
        }
        let sum: f32 = weights.iter().sum();
        weights.map(|weight| weight / sum.max(1e-9))
    }
}
