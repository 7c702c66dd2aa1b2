//! The report as one HTML page that asks nothing of the network.
//!
//! Owns layout, colours of both schemes and the little script that reads values under the pointer.

use super::plot::{Axis, Line, lines, stack};
use super::{PoolReport, Report, grouped};
use crate::measure::Slice;
use serde_json::json;
use std::fmt::Write as _;

/// Pools that get a colour of their own; the rest is one layer.
const MOST_LAYERS: usize = 9;

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

pub(super) fn page(report: &Report) -> String {
    let plots = &report.plots;
    let axis = Axis { start: report.start, slice_millis: plots.slice_millis, slices: plots.pending.len() };
    let layers = layers(report);
    let mut body = String::new();
    body.push_str(&head(report));
    body.push_str(&tiles(report));
    let mut data = serde_json::Map::new();
    data.insert("start".to_owned(), json!(report.start.as_millisecond()));
    data.insert("slice".to_owned(), json!(plots.slice_millis));
    data.insert("slices".to_owned(), json!(axis.slices));
    let mut section = |id: &str, title: &str, unit: &str, drawn: &[Line<'_>], stacked: bool| {
        let svg = if stacked { stack(id, title, &axis, drawn) } else { lines(id, title, &axis, drawn) };
        let _ = write!(
            body,
            r#"<section><h2>{}</h2><p class="unit">{unit}</p>{}{svg}</section>"#,
            escaped(title),
            legend(drawn)
        );
        let series: Vec<_> = drawn
            .iter()
            .map(|line| {
                let means: Vec<f64> = line.slices.iter().map(|slice| brief(slice.mean)).collect();
                json!({"name": line.name, "values": means})
            })
            .collect();
        data.insert(id.to_owned(), json!(series));
    };
    let drawn: Vec<Line<'_>> = layers
        .iter()
        .enumerate()
        .map(|(at, (name, slices))| line(name, COLOURS[at % COLOURS.len()], slices))
        .collect();
    section("nodes", "Nodes by pool", "nodes, stacked", &drawn, true);
    let kinds = [("cpu", "CPU", "cores"), ("memory", "Memory", "GiB"), ("gpu", "GPU", "GPUs")];
    for (at, (id, name, unit)) in kinds.into_iter().enumerate() {
        if plots.allocatable[at].iter().all(|slice| slice.max == 0.0) {
            continue;
        }
        let pair = [
            line("allocatable", "var(--supply)", &plots.allocatable[at]),
            Line { filled: true, ..line("requested", "var(--demand)", &plots.requested[at]) },
        ];
        section(id, &format!("{name}: requested and allocatable"), unit, &pair, false);
    }
    let waiting = line("pending pods", "var(--alert)", &plots.pending);
    let pending = [Line { filled: true, peaks: true, ..waiting }];
    section("pending", "Pods waiting for a node", "pods; the band spans least and most", &pending, false);
    if plots.price.iter().any(|slice| slice.max > 0.0) {
        let price = [Line { filled: true, ..line("price", "var(--money)", &plots.price) }];
        section("price", "Price", "US dollars an hour", &price, false);
    }
    body.push_str(&pool_table(&report.pools));
    body.push_str(&lists(report));
    let data = serde_json::Value::Object(data).to_string().replace("</", "<\\/");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><main>{body}</main><div id=\"tip\" hidden></div><script id=\"data\" \
         type=\"application/json\">{data}</script><script>{SCRIPT}</script></body></html>\n",
        title = escaped(&format!("{} · Tideline simulation", report.scenario)),
    )
}

/// A plain line: not filled, means only.
fn line<'a>(name: &'a str, colour: &'static str, slices: &'a [Slice]) -> Line<'a> {
    Line { name, colour, slices, filled: false, peaks: false }
}

const COLOURS: [&str; 10] = [
    "var(--c0)",
    "var(--c1)",
    "var(--c2)",
    "var(--c3)",
    "var(--c4)",
    "var(--c5)",
    "var(--c6)",
    "var(--c7)",
    "var(--c8)",
    "var(--c9)",
];

fn brief(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The pools that matter most, largest first, the others summed up.
fn layers(report: &Report) -> Vec<(String, Vec<Slice>)> {
    let mut order: Vec<usize> = (0..report.pools.len()).collect();
    order.sort_by(|a, b| report.pools[*b].machine_hours.total_cmp(&report.pools[*a].machine_hours));
    order.retain(|at| report.pools[*at].peak > 0);
    let own = if order.len() > MOST_LAYERS + 1 { MOST_LAYERS } else { order.len() };
    let mut layers: Vec<(String, Vec<Slice>)> =
        order.iter().take(own).map(|at| report.plots.nodes[*at].clone()).collect();
    let rest: Vec<&Vec<Slice>> = order.iter().skip(own).map(|at| &report.plots.nodes[*at].1).collect();
    if !rest.is_empty() {
        let sum = |at: usize| {
            let part = |get: &dyn Fn(&Slice) -> f64| rest.iter().filter_map(|s| s.get(at)).map(get).sum();
            Slice { min: part(&|s| s.min), max: part(&|s| s.max), mean: part(&|s| s.mean) }
        };
        let slices = (0..report.plots.pending.len()).map(sum).collect();
        layers.push((format!("{} other pools", rest.len()), slices));
    }
    layers
}

fn head(report: &Report) -> String {
    format!(
        "<header><h1>{}</h1><p>Tideline simulation, seed {}, {} to {} UTC ({} hours)</p></header>",
        escaped(&report.scenario),
        report.seed,
        report.start.strftime("%Y-%m-%d %H:%M"),
        report.end.strftime("%Y-%m-%d %H:%M"),
        grouped(report.simulated_hours, 1),
    )
}

fn tiles(report: &Report) -> String {
    let percent = |part: f64, whole: f64| if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    let wait = &report.pod_wait_seconds;
    let bad = report.invariant_violations > 0;
    let tiles = [
        (
            "Pods placed",
            format!("{} of {}", grouped(report.pods_placed as f64, 0), grouped(report.pods_seen as f64, 0)),
            format!(
                "{} without a node at the end, {} withdrawn before",
                report.unplaced_pods, report.pods_withdrawn
            ),
            false,
        ),
        (
            "Waiting for a node",
            format!("{} s", grouped(wait.p50, 0)),
            format!("median; p99 {} s, longest {} s", grouped(wait.p99, 0), grouped(wait.max, 0)),
            false,
        ),
        (
            "Machine-hours",
            grouped(report.machine_hours, 0),
            format!(
                "{:.2} % of {} always on",
                percent(report.machine_hours, report.machine_hours_always_on),
                grouped(report.machine_hours_always_on, 0)
            ),
            false,
        ),
        (
            "Cost",
            format!("${}", grouped(report.cost_usd, 0)),
            format!("${} always on", grouped(report.cost_usd_always_on, 0)),
            false,
        ),
        (
            "Scale-ups",
            grouped(report.scale_ups as f64, 0),
            format!("for {} machines; {} given back", report.machines_bought, report.removals),
            false,
        ),
        (
            "Broken invariants",
            report.invariant_violations.to_string(),
            if bad { "listed below".to_owned() } else { "checked after every change".to_owned() },
            bad,
        ),
    ];
    let mut out = String::from(r#"<div class="tiles">"#);
    for (label, value, note, bad) in tiles {
        let class = if bad { "tile bad" } else { "tile" };
        let _ = write!(
            out,
            r#"<div class="{class}"><span>{label}</span><strong>{value}</strong><small>{note}</small></div>"#
        );
    }
    out.push_str("</div>");
    out
}

fn legend(drawn: &[Line<'_>]) -> String {
    let mut out = String::from(r#"<ul class="legend">"#);
    for line in drawn {
        let _ = write!(out, r#"<li><i style="background:{}"></i>{}</li>"#, line.colour, escaped(line.name));
    }
    out.push_str("</ul>");
    out
}

fn pool_table(pools: &[PoolReport]) -> String {
    let mut out = String::from(
        "<section><h2>Pools</h2><table><thead><tr><th>pool</th><th>min</th><th>max</th><th>peak</th>\
         <th>bought</th><th>given back</th><th>machine-hours</th><th>$ an hour each</th></tr></thead><tbody>",
    );
    for pool in pools {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&pool.name),
            pool.min,
            grouped(f64::from(pool.max), 0),
            pool.peak,
            grouped(pool.bought as f64, 0),
            grouped(pool.removed as f64, 0),
            grouped(pool.machine_hours, 1),
            grouped(pool.price_per_hour_usd, 2),
        );
    }
    out.push_str("</tbody></table></section>");
    out
}

fn lists(report: &Report) -> String {
    let mut out = String::new();
    if !report.violations.is_empty() {
        out.push_str("<section><h2>Broken invariants</h2><ul class=\"plain\">");
        for violation in &report.violations {
            let _ = write!(out, "<li>{}</li>", escaped(violation));
        }
        out.push_str("</ul></section>");
    }
    if !report.unplaced.is_empty() {
        out.push_str("<section><h2>Pods without a node at the end</h2><ul class=\"plain\">");
        for unplaced in &report.unplaced {
            let _ = write!(out, "<li><b>{}</b> {}</li>", escaped(&unplaced.pod), escaped(&unplaced.reason));
        }
        out.push_str("</ul></section>");
    }
    if report.shared_gpus_rounded_up > 0 {
        let _ = write!(
            out,
            "<p class=\"note\">{} pods asked for a share of a GPU; each was given a whole one.</p>",
            grouped(report.shared_gpus_rounded_up as f64, 0)
        );
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
