//! A query of a user's own over a stretch of time, without rules: one series of numbers.
//!
//! Owns asking in parts and what to say where it is not one series.

use super::answer::{Data, Envelope, RawPoint};
use super::{Connection, LARGEST_ANSWER, PrometheusSettings, connection, seconds, shards};
use crate::fetch::{Ask, Server, form};
use crate::{Point, Range};
use std::collections::BTreeSet;

/// The values of the one series that a query yields, oldest first; what is no number is left out.
pub async fn one_series(connection: &Connection, promql: &str, range: &Range) -> Result<Vec<Point>, String> {
    crate::query::check_range(range)?;
    let client = connection::client(connection).await?;
    let server = Server::new(client, PrometheusSettings::default().calls, LARGEST_ANSWER);
    let mut points = Vec::new();
    let mut seen = BTreeSet::new();
    for (start, end, step) in shards(range) {
        let step = format!("{}", step.as_secs_f64());
        let fields = [("query", promql), ("start", &seconds(start)), ("end", &seconds(end)), ("step", &step)];
        let ask = Ask { path: "/api/v1/query_range".to_owned(), form: Some(form(&fields)) };
        let answer: Envelope<Data> = server
            .read(&ask)
            .await
            .map_err(|failure| format!("Prometheus at {}: {failure}", connection.address))?;
        let Data::Matrix(stretches) = answer.data else {
            return Err(format!("{promql}: it yields no series of numbers; write one that does"));
        };
        for stretch in stretches {
            seen.insert(stretch.metric);
            points.extend(stretch.values.iter().filter_map(RawPoint::point));
        }
        if seen.len() > 1 {
            return Err(format!(
                "{promql}: it yields {} series where one is wanted; write sum(…)",
                seen.len()
            ));
        }
    }
    if points.is_empty() {
        return Err(format!("{promql}: Prometheus has no value in that range; check the query and --range"));
    }
    Ok(points)
}
