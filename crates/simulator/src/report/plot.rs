//! Plots over time as SVG text.
//!
//! Owns axes, scales and shapes; colours are names of CSS variables that the page defines for light and dark.

use super::grouped;
use crate::measure::Slice;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// Time axis that all plots of a page share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) start: Timestamp,
    pub(super) slice_millis: u64,
    pub(super) slices: usize,
}

/// How a line is drawn.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) colour: &'a str,
    pub(super) slices: &'a [Slice],
    /// Filled down to zero.
    pub(super) filled: bool,
    /// The extremes are what matters: short peaks are drawn as strongly as the mean.
    pub(super) peaks: bool,
}

impl Axis {
    fn x(&self, at: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / self.slices.max(1) as f64
    }

    fn millis(&self) -> u64 {
        self.slice_millis * self.slices as u64
    }
}

/// The least round number (1, 2, 2.5 or 5 times a power of ten) that is not under `value`.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|n| *n >= value * 0.999_999)
        .unwrap_or(value)
}

/// Top of the scale and the distance of its lines.
fn scale(most: f64) -> (f64, f64) {
    let step = nice(most / 5.0);
    ((most / step).ceil().max(1.0) * step, step)
}

fn y(value: f64, top: f64) -> f64 {
    HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0)
}

/// Grid, value axis and dates.
fn frame(axis: &Axis, top: f64, step: f64) -> String {
    let mut out = String::new();
    let lines = (top / step).round() as usize;
    let digits = usize::from(step < 1.0) + usize::from(step < 0.1);
    let digits = if (step - step.round()).abs() > 1e-9 { digits.max(1) } else { digits };
    for line in 0..=lines {
        let value = step * line as f64;
        let at = y(value, top);
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            grouped(value, digits),
        );
    }
    for (x, label, year) in dates(axis) {
        let _ = write!(
            out,
            r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.1}"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
            HEIGHT - BOTTOM + 5.0,
            HEIGHT - BOTTOM + 18.0,
        );
        if let Some(year) = year {
            let _ = write!(
                out,
                r#"<text class="tick strong" x="{x:.1}" y="{:.1}" text-anchor="middle">{year}</text>"#,
                HEIGHT - BOTTOM + 33.0,
            );
        }
    }
    out
}

/// Places and names of the marks on the time axis: round hours, days or weeks, eight or so in all.
fn dates(axis: &Axis) -> Vec<(f64, String, Option<String>)> {
    const STEPS: [i64; 15] = [
        60, 300, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
        2_419_200, 7_257_600,
    ];
    let seconds = (axis.millis() / 1000) as i64;
    let step = STEPS.into_iter().find(|step| seconds / step <= 12).unwrap_or(31_536_000);
    let begin = axis.start.as_second();
    let mut at = begin.div_euclid(step) * step;
    if at < begin {
        at += step;
    }
    let mut marks = Vec::new();
    let mut line_before = String::new();
    while at <= begin + seconds && marks.len() < 20 {
        let Ok(moment) = Timestamp::from_second(at) else { break };
        let moment = moment.to_zoned(TimeZone::UTC);
        let (label, below) = if step < 86_400 {
            (moment.strftime("%H:%M").to_string(), moment.strftime("%a %b %-d").to_string())
        } else {
            (moment.strftime("%b %-d").to_string(), moment.strftime("%Y").to_string())
        };
        let share = (at - begin) as f64 / seconds.max(1) as f64;
        let x = LEFT + (WIDTH - LEFT - RIGHT) * share;
        let changed = below != line_before;
        line_before.clone_from(&below);
        marks.push((x, label, changed.then_some(below)));
        at += step;
    }
    marks
}

fn open(id: &str, title: &str) -> String {
    format!(
        r#"<svg class="plot" id="{id}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" data-left="{LEFT}" data-right="{RIGHT}" data-width="{WIDTH}">"#
    )
}

const CLOSE: &str = r#"<line class="cursor" y1="12" y2="208" x1="0" x2="0"/></svg>"#;

/// Lines, each the mean of its slices in a band of their extremes.
pub(super) fn lines(id: &str, title: &str, axis: &Axis, lines: &[Line<'_>]) -> String {
    let most = lines.iter().flat_map(|line| line.slices).map(|slice| slice.max).fold(0.0, f64::max);
    let (top, step) = scale(most);
    let mut out = open(id, title);
    out.push_str(&frame(axis, top, step));
    for line in lines {
        let mean: Vec<f64> = line.slices.iter().map(|slice| slice.mean).collect();
        let least: Vec<f64> = line.slices.iter().map(|slice| slice.min).collect();
        let most: Vec<f64> = line.slices.iter().map(|slice| slice.max).collect();
        if line.filled {
            let floor = vec![0.0; mean.len()];
            let _ = write!(
                out,
                r#"<path d="{}" fill="{}" opacity="0.22"/>"#,
                area(axis, top, &floor, &mean),
                line.colour
            );
        }
        let _ = write!(
            out,
            r#"<path d="{}" fill="{}" opacity="{}"/><path d="{}" fill="none" stroke="{}" stroke-width="1.4" stroke-linejoin="round"/>"#,
            area(axis, top, &least, &most),
            line.colour,
            if line.peaks { "0.85" } else { "0.30" },
            steps(axis, top, &mean),
            line.colour,
        );
    }
    out.push_str(CLOSE);
    out
}

/// Layers that add up.
pub(super) fn stack(id: &str, title: &str, axis: &Axis, layers: &[Line<'_>]) -> String {
    let mut floor = vec![0.0; axis.slices];
    let mut bands = Vec::new();
    for layer in layers {
        let ceiling: Vec<f64> = floor
            .iter()
            .enumerate()
            .map(|(at, below)| below + layer.slices.get(at).map_or(0.0, |slice| slice.mean))
            .collect();
        bands.push((floor, ceiling.clone(), layer.colour));
        floor = ceiling;
    }
    let (top, step) = scale(floor.iter().copied().fold(0.0, f64::max));
    let mut out = open(id, title);
    out.push_str(&frame(axis, top, step));
    for (floor, ceiling, colour) in &bands {
        let _ = write!(out, r#"<path d="{}" fill="{colour}"/>"#, area(axis, top, floor, ceiling));
    }
    out.push_str(CLOSE);
    out
}

/// A stepped line; stretches of one value are one stroke.
fn steps(axis: &Axis, top: f64, values: &[f64]) -> String {
    let mut path = String::new();
    let mut before = f64::NAN;
    for (at, value) in values.iter().enumerate() {
        let height = y(*value, top);
        if at == 0 {
            let _ = write!(path, "M{:.1} {height:.1}", axis.x(0));
        } else if (height - before).abs() > 0.05 {
            let _ = write!(path, "H{:.1}V{height:.1}", axis.x(at));
        } else {
            continue;
        }
        before = height;
    }
    if !values.is_empty() {
        let _ = write!(path, "H{:.1}", axis.x(values.len()));
    }
    path
}

/// The area between two stepped lines.
fn area(axis: &Axis, top: f64, lower: &[f64], upper: &[f64]) -> String {
    let mut path = steps(axis, top, upper);
    let mut before = f64::NAN;
    for (at, value) in lower.iter().enumerate().rev() {
        let height = y(*value, top);
        if before.is_nan() {
            let _ = write!(path, "V{height:.1}");
        } else if (height - before).abs() > 0.05 {
            let _ = write!(path, "H{:.1}V{height:.1}", axis.x(at + 1));
        } else {
            continue;
        }
        before = height;
    }
    if !path.is_empty() {
        let _ = write!(path, "H{:.1}Z", axis.x(0));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_in_round_numbers() {
        assert_eq!(scale(47.0), (50.0, 10.0));
        assert_eq!(scale(0.0), (1.0, 1.0));
        assert_eq!(scale(1523.0), (2000.0, 500.0));
    }

    #[test]
    fn long_and_short_runs_have_a_handful_of_dates() {
        for hours in [1_u64, 24, 24 * 7, 24 * 149, 24 * 700] {
            let axis = Axis {
                start: "2026-01-05T00:00:00Z".parse().unwrap(),
                slice_millis: hours * 4000,
                slices: 900,
            };
            let marks = dates(&axis).len();
            assert!((3..=13).contains(&marks), "{hours} h: {marks}");
        }
    }
}
