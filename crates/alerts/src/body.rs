//! Bodies of webhooks into alerts: the platform's own template, and Alertmanager's version 4.
//!
//! Owns both grammars and what is wrong with a body. Each refusal names the field. What the alerts mean is
//! `decide`'s; how large a body may be is `endpoint`'s.

mod time;

use crate::alert::{Alert, Status, fingerprint_of};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Longest fingerprint that is believed; Prometheus' have 16 characters. It is remembered, so it is bounded.
const LONGEST_FINGERPRINT: usize = 128;
/// Alerts of one delivery; Alertmanager groups far fewer, and each may cost calls to the API server.
const MOST_ALERTS: usize = 500;
/// The fields of the platform's template, to name the one in which a broken text breaks.
const FIELDS: [&str; 7] =
    ["annotations", "labels", "startsAt", "endsAt", "status", "fingerprint", "generatorURL"];

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BodyError {
    /// The field, as a path; `body` where no field can be named.
    pub field: String,
    /// What is wrong with it, and the fix.
    pub problem: String,
}

impl BodyError {
    fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// The body that the platform's template renders. Its fields are fixed, so that an unknown one is a wrong template.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PlatformBody {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    ends_at: String,
    status: Status,
    #[serde(default)]
    fingerprint: String,
    #[serde(default, rename = "generatorURL")]
    generator_url: String,
}

/// Alertmanager's body; fields that newer ones add are passed over.
#[derive(Deserialize)]
struct AlertmanagerBody {
    version: String,
    alerts: Vec<AlertmanagerAlert>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertmanagerAlert {
    status: Status,
    labels: BTreeMap<String, String>,
    #[serde(default)]
    starts_at: String,
    #[serde(default)]
    ends_at: String,
    #[serde(default)]
    fingerprint: String,
}

/// The one alert of a body that the platform's template rendered.
pub fn platform(body: &[u8]) -> Result<Alert, BodyError> {
    let read: PlatformBody = parse(body)?;
    // Part of the template and of no decision.
    drop((read.annotations, read.generator_url));
    alert(
        "",
        AlertmanagerAlert {
            status: read.status,
            labels: read.labels.unwrap_or_default(),
            starts_at: read.starts_at,
            ends_at: read.ends_at,
            fingerprint: read.fingerprint,
        },
    )
}

/// The alerts of an Alertmanager's body, in the order in which they began, whatever order they were sent in.
pub fn alertmanager(body: &[u8]) -> Result<Vec<Alert>, BodyError> {
    let read: AlertmanagerBody = parse(body)?;
    if read.version != "4" {
        let problem =
            format!("is \"{}\"; only version 4 of Alertmanager's webhook is known", shortened(&read.version));
        return Err(BodyError::new("version", problem));
    }
    if read.alerts.len() > MOST_ALERTS {
        let problem = format!("has {} alerts; set max_alerts to {MOST_ALERTS} or less", read.alerts.len());
        return Err(BodyError::new("alerts", problem));
    }
    let numbered = read.alerts.into_iter().enumerate();
    let mut alerts: Vec<Alert> =
        numbered.map(|(at, read)| alert(&format!("alerts[{at}]."), read)).collect::<Result<_, _>>()?;
    alerts.sort_by(|a, b| (a.starts_at, &a.fingerprint).cmp(&(b.starts_at, &b.fingerprint)));
    Ok(alerts)
}

fn alert(prefix: &str, read: AlertmanagerAlert) -> Result<Alert, BodyError> {
    let moment = |field: &str, text: &str| {
        time::moment(text).map_err(|problem| BodyError::new(format!("{prefix}{field}"), problem))
    };
    if read.fingerprint.chars().count() > LONGEST_FINGERPRINT {
        let problem = format!("is longer than {LONGEST_FINGERPRINT} characters");
        return Err(BodyError::new(format!("{prefix}fingerprint"), problem));
    }
    Ok(Alert {
        status: read.status,
        starts_at: moment("startsAt", &read.starts_at)?,
        ends_at: moment("endsAt", &read.ends_at)?,
        fingerprint: if read.fingerprint.is_empty() {
            fingerprint_of(&read.labels)
        } else {
            read.fingerprint
        },
        labels: read.labels,
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let problem = format!("is not UTF-8 from byte {} on; send JSON in UTF-8", error.valid_up_to());
        BodyError::new("body", problem)
    })?;
    if text.trim().is_empty() {
        return Err(BodyError::new("body", "is empty; send one alert as JSON"));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let read: T = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        wrong(text, &path, error.inner())
    })?;
    reader.end().map_err(|error| wrong(text, ".", &error))?;
    Ok(read)
}

/// Names the field: by its path, or, where the text breaks between fields, by the last one begun before the break.
fn wrong(text: &str, path: &str, error: &serde_json::Error) -> BodyError {
    let problem = shortened(&error.to_string());
    if error.is_data() && !matches!(path, "" | "." | "?") {
        return BodyError::new(shortened(path), problem);
    }
    if error.is_data() {
        return BodyError::new("body", problem);
    }
    let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let end = (before + error.column()).min(text.len());
    // Columns count bytes and may end inside a character.
    let end = (0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let begun = &text[..end];
    let last = FIELDS.iter().filter_map(|field| Some((begun.rfind(&format!("\"{field}\""))?, *field))).max();
    let field = last.map_or("body", |(_, field)| field);
    let hint =
        "; the template does not escape quotes and line breaks, so a value that holds one breaks the JSON";
    BodyError::new(field, format!("{problem}{}", if last.is_some() { hint } else { "" }))
}

/// Foreign text for a message: bounded, without control characters.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    let mut short: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
