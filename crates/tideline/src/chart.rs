//! Plots over time as SVG text, and the page around them: what `forecast` shows.
//!
//! Owns axes, scales, shapes and the page's look in light and dark. A page asks nothing of the network.

use std::fmt::Write as _;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
/// Most points of a line; more are thinned out by keeping the extremes of each slice.
const MOST_POINTS: usize = 2_000;
const STYLE: &str = include_str!("chart.css");

/// Something drawn, in the units of the axes.
pub(crate) enum Layer {
    Line {
        name: String,
        /// A CSS variable of the page.
        colour: &'static str,
        points: Vec<(f64, f64)>,
    },
    /// The area between two lines.
    Band { name: String, colour: &'static str, points: Vec<(f64, f64, f64)> },
}

/// How the values of the horizontal axis are written.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// Seconds from 1970-01-01.
    Time,
    /// Days from the start.
    Days,
}

pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) x: Scale,
    pub(crate) layers: Vec<Layer>,
}

/// The ranges of both axes.
struct Frame {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (value - self.from) / (self.to - self.from).max(1e-12)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low).max(1e-12);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
    }
}

impl Chart {
    /// The chart as a section of a page.
    pub(crate) fn section(&self) -> String {
        let mut out = format!(
            "<section><h2>{}</h2><p class=\"unit\">{}</p><ul class=\"legend\">",
            escaped(&self.title),
            escaped(&self.note)
        );
        for layer in &self.layers {
            let (Layer::Line { name, colour, .. } | Layer::Band { name, colour, .. }) = layer;
            let _ = write!(out, "<li><i style=\"background:var({colour})\"></i>{}</li>", escaped(name));
        }
        let _ = write!(
            out,
            "</ul><svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(&self.title)
        );
        let frame = self.frame();
        self.axes(&frame, &mut out);
        for layer in &self.layers {
            draw(layer, &frame, &mut out);
        }
        out.push_str("</svg></section>");
        out
    }

    fn frame(&self) -> Frame {
        let mut xs = Vec::new();
        let mut ys = Vec::new();
        for layer in &self.layers {
            match layer {
                Layer::Line { points, .. } => points.iter().for_each(|(x, y)| {
                    xs.push(*x);
                    ys.push(*y);
                }),
                Layer::Band { points, .. } => points.iter().for_each(|(x, low, high)| {
                    xs.push(*x);
                    ys.extend([*low, *high]);
                }),
            }
        }
        xs.retain(|x| x.is_finite());
        ys.retain(|y| y.is_finite());
        let least = |values: &[f64]| values.iter().copied().fold(f64::MAX, f64::min).min(f64::MAX);
        let most = |values: &[f64]| values.iter().copied().fold(f64::MIN, f64::max);
        if xs.is_empty() {
            return Frame { from: 0.0, to: 1.0, low: 0.0, high: 1.0 };
        }
        let (low, high) = (least(&ys).min(0.0), most(&ys).max(1e-9) * 1.04);
        Frame { from: least(&xs), to: most(&xs), low, high }
    }

    fn axes(&self, frame: &Frame, out: &mut String) {
        for value in vertical_ticks(frame) {
            let y = frame.y(value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" \
                 x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                brief(value)
            );
        }
        for (value, text) in horizontal_ticks(frame, self.x) {
            let _ = write!(
                out,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
                frame.x(value),
                HEIGHT - BOTTOM + 20.0
            );
        }
    }
}

fn draw(layer: &Layer, frame: &Frame, out: &mut String) {
    match layer {
        Layer::Line { colour, points, .. } => {
            let _ = write!(out, "<path fill=\"none\" stroke=\"var({colour})\" stroke-width=\"1.5\" d=\"");
            let mut pen_down = false;
            for (x, y) in thinned(points) {
                if y.is_finite() {
                    let _ = write!(
                        out,
                        "{}{:.1} {:.1}",
                        if pen_down { "L" } else { "M" },
                        frame.x(x),
                        frame.y(y)
                    );
                }
                pen_down = y.is_finite();
            }
            out.push_str("\"/>");
        }
        Layer::Band { colour, points, .. } => {
            let _ = write!(out, "<path fill=\"var({colour})\" opacity=\".22\" d=\"M");
            let every = points.len().div_ceil(MOST_POINTS).max(1);
            let kept: Vec<&(f64, f64, f64)> = points.iter().step_by(every).collect();
            let upper = kept.iter().map(|(x, _, high)| (*x, *high));
            let lower = kept.iter().rev().map(|(x, low, _)| (*x, *low));
            let path: Vec<String> =
                upper.chain(lower).map(|(x, y)| format!("{:.1} {:.1}", frame.x(x), frame.y(y))).collect();
            out.push_str(&path.join("L"));
            out.push_str("Z\"/>");
        }
    }
}

/// Of each slice of a long line the lowest and the highest point, in the order of time.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let slice = points.len().div_ceil(MOST_POINTS / 2);
    points
        .chunks(slice)
        .flat_map(|chunk| {
            let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
            let mut ends: Vec<(f64, f64)> = chunk
                .iter()
                .min_by(by_value)
                .into_iter()
                .chain(chunk.iter().max_by(by_value))
                .copied()
                .collect();
            ends.sort_by(|a, b| a.0.total_cmp(&b.0));
            ends
        })
        .collect()
}

fn vertical_ticks(frame: &Frame) -> Vec<f64> {
    let step = round_step((frame.high - frame.low) / 5.0);
    let first = (frame.low / step).ceil() as i64;
    (first..).map(|at| at as f64 * step).take_while(|value| *value <= frame.high).take(12).collect()
}

/// The least of 1, 2 and 5 times a power of ten that is not under `least`.
pub(crate) fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

fn horizontal_ticks(frame: &Frame, scale: Scale) -> Vec<(f64, String)> {
    let span = frame.to - frame.from;
    let step = match scale {
        Scale::Time => {
            let steps =
                [3_600.0, 10_800.0, 21_600.0, 86_400.0, 2.0 * 86_400.0, 7.0 * 86_400.0, 28.0 * 86_400.0];
            steps.into_iter().find(|step| span / step <= 10.0).unwrap_or(365.0 * 86_400.0)
        }
        Scale::Days => round_step(span / 10.0),
    };
    let first = (frame.from / step).ceil() as i64;
    (first..)
        .map(|at| at as f64 * step)
        .take_while(|value| *value <= frame.to)
        .take(40)
        .map(|value| (value, written(value, scale, step)))
        .collect()
}

fn written(value: f64, scale: Scale, step: f64) -> String {
    match scale {
        Scale::Days => format!("day {}", brief(value)),
        Scale::Time => {
            let time =
                jiff::Timestamp::from_second(value as i64).map(|time| time.to_zoned(jiff::tz::TimeZone::UTC));
            let format = if step < 86_400.0 { "%b %d %H:%M" } else { "%b %d" };
            time.map_or_else(|_| String::new(), |time| time.strftime(format).to_string())
        }
    }
}

/// A number in as few digits as tell it apart.
pub(crate) fn brief(value: f64) -> String {
    let text = if value.abs() >= 1000.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A table: the first row is its header, the first column its names.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let mut out = String::from("<section><table>");
    for (at, row) in rows.iter().enumerate() {
        let cell = if at == 0 { "th" } else { "td" };
        out.push_str("<tr>");
        for text in row {
            let _ = write!(out, "<{cell}>{}</{cell}>", escaped(text));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></section>");
    out
}

/// One whole page.
pub(crate) fn page(title: &str, subtitle: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{0} · Tideline</title><style>{STYLE}</style></head>\n\
         <body><main><header><h1>{0}</h1><p>{1}</p></header>{body}</main></body></html>\n",
        escaped(title),
        escaped(subtitle)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_odd_values_is_still_a_chart() {
        let chart = Chart {
            title: "a < b".into(),
            note: String::new(),
            x: Scale::Days,
            layers: vec![
                Layer::Line { name: "none".into(), colour: "--demand", points: vec![] },
                Layer::Band { name: "flat".into(), colour: "--alert", points: vec![(1.0, 0.0, 0.0)] },
            ],
        };
        let text = chart.section();
        assert!(text.contains("a &lt; b") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn long_lines_keep_their_peaks() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|at| (f64::from(at), 1.0)).collect();
        points[31_234].1 = 99.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MOST_POINTS + 2 && kept.iter().any(|(_, y)| *y > 98.0));
    }
}
