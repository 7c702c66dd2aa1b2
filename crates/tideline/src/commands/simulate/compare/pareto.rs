//! Cost against harm, one point a policy: the plot in which the lower left is better.
//!
//! Owns the plot; the harm's axis is logarithmic, with a line of its own for none at all.

use crate::chart::{brief, escaped, round_step};
use std::fmt::Write as _;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 56.0;
/// Cost beyond this many times the least is drawn at the edge: a static fleet would press the others together.
const MOST_COST: f64 = 2.5;

pub(super) struct Point {
    pub(super) name: &'static str,
    pub(super) cost: f64,
    pub(super) lost_percent: f64,
    pub(super) best: bool,
    pub(super) knows_the_future: bool,
}

struct Frame {
    from: f64,
    to: f64,
    /// Powers of ten of a percent; the lowest stands for nothing lost.
    low: i32,
    high: i32,
}

impl Frame {
    fn of(points: &[Point]) -> Self {
        let costs = || points.iter().map(|point| point.cost);
        let least = costs().fold(f64::MAX, f64::min);
        let most = costs().filter(|cost| *cost <= MOST_COST * least).fold(least, f64::max);
        let powers =
            || points.iter().filter(|point| point.lost_percent > 0.0).map(|point| point.lost_percent.log10());
        let low = powers().fold(0.0, f64::min).floor().max(-6.0) as i32 - 1;
        let high = powers().fold(-1.0, f64::max).ceil().min(2.0) as i32;
        let margin = 0.08 * (most - least).max(0.1 * least.max(1.0));
        Self { from: least - margin, to: most + margin, low, high }
    }

    fn x(&self, cost: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * ((cost - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn y(&self, lost_percent: f64) -> f64 {
        let power = if lost_percent > 0.0 { lost_percent.log10() } else { f64::from(self.low) };
        let share = (power - f64::from(self.low)) / f64::from((self.high - self.low).max(1));
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

/// The plot as a section of a page.
pub(super) fn section(points: &[Point]) -> String {
    if points.is_empty() {
        return String::new();
    }
    let frame = Frame::of(points);
    let mut out = format!(
        "<section><h2>Cost against harm</h2><p class=\"unit\">replica-minutes across, requests lost in percent \
         upwards (each line a tenth of the one above); the lower left is better</p><ul class=\"legend\"><li><i \
         style=\"background:var(--good)\"></i>no other policy both loses less and costs less</li><li><i \
         style=\"background:var(--alert)\"></i>another is better in both</li><li><i \
         style=\"background:var(--soft)\"></i>knows the future</li></ul><svg class=\"plot\" viewBox=\"0 0 {WIDTH} \
         {HEIGHT}\" role=\"img\" aria-label=\"Cost against harm\">"
    );
    axes(&frame, &mut out);
    front(points, &frame, &mut out);
    for (point, lift) in points.iter().zip(lifts(points, &frame)) {
        let colour = match point {
            Point { knows_the_future: true, .. } => "--soft",
            Point { best: true, .. } => "--good",
            _ => "--alert",
        };
        let (x, y) = (frame.x(point.cost), frame.y(point.lost_percent));
        let beyond = if point.cost > frame.to { " →" } else { "" };
        let _ = write!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"var({colour})\"/><text class=\"tick strong\" \
             x=\"{:.1}\" y=\"{:.1}\">{}{beyond}</text>",
            x + 10.0,
            y + 4.0 - lift,
            escaped(point.name)
        );
    }
    out.push_str("</svg></section>");
    out
}

fn axes(frame: &Frame, out: &mut String) {
    for power in frame.low..=frame.high {
        let y = frame.y(10f64.powi(power));
        let text = if power == frame.low { "none".to_owned() } else { format!("{} %", 10f64.powi(power)) };
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" \
             x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.0
        );
    }
    let step = round_step((frame.to - frame.from) / 8.0);
    let first = (frame.from / step).ceil() as i64;
    for at in first..first + 12 {
        let cost = at as f64 * step;
        if cost <= frame.to {
            let (x, y) = (frame.x(cost), HEIGHT - BOTTOM + 22.0);
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>",
                brief(cost)
            );
        }
    }
}

/// The line through the best, dearest first.
fn front(points: &[Point], frame: &Frame, out: &mut String) {
    let mut best: Vec<&Point> = points.iter().filter(|point| point.best).collect();
    best.sort_by(|one, two| one.cost.total_cmp(&two.cost));
    let path: Vec<String> = best
        .iter()
        .map(|point| format!("{:.1} {:.1}", frame.x(point.cost), frame.y(point.lost_percent)))
        .collect();
    if path.len() > 1 {
        let _ = write!(
            out,
            "<path fill=\"none\" stroke=\"var(--good)\" stroke-dasharray=\"5 5\" d=\"M{}\"/>",
            path.join("L")
        );
    }
}

/// How far each name is moved up so that those of near points do not lie on each other.
fn lifts(points: &[Point], frame: &Frame) -> Vec<f64> {
    let mut placed: Vec<(f64, f64)> = Vec::new();
    points
        .iter()
        .map(|point| {
            let (x, y) = (frame.x(point.cost), frame.y(point.lost_percent));
            let free = |lift: f64| {
                placed.iter().all(|(px, py)| (px - x).abs() > 130.0 || (py - (y - lift)).abs() > 13.0)
            };
            let lift = (0..8).map(|turn| f64::from(turn) * 14.0).find(|lift| free(*lift)).unwrap_or(0.0);
            placed.push((x, y - lift));
            lift
        })
        .collect()
}
