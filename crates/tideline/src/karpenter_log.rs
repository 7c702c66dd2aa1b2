//! Log lines with the keys of Karpenter's, for the dashboards and scripts that read them.
//!
//! Owns their form: level, time, logger, message, commit, then the fields of the line as they are.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes one line for each event.
pub(crate) struct KarpenterLines;

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.others.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // Lists of texts and numbers are written alike in both.
        let list = text.starts_with('[').then(|| serde_json::from_str(&text).ok()).flatten();
        self.put(field, list.unwrap_or(Value::String(text)));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }
}

/// One line without its end.
fn line(level: &str, now: Timestamp, target: &str, fields: Fields) -> String {
    let logger = target.replace("::", ".");
    let logger = if logger.starts_with("controller") { logger } else { format!("controller.{logger}") };
    // The order of the keys is the peer's; the fields follow by name.
    let mut line = format!(
        "{{\"level\":{},\"time\":{},\"logger\":{},\"message\":{},\"commit\":{}",
        json!(level),
        json!(format!("{now:.3}")),
        json!(logger),
        json!(fields.message),
        json!(env!("CARGO_PKG_VERSION")),
    );
    for (key, value) in fields.others {
        line.extend([",", &json!(key).to_string(), ":", &value.to_string()]);
    }
    line.push('}');
    line
}

impl<S, N> FormatEvent<S, N> for KarpenterLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let now = clock::Clock::system().now();
        writeln!(writer, "{}", line(metadata.level().as_str(), now, metadata.target(), fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_keys_of_the_peers() {
        let mut fields = Fields { message: "discovered security groups".to_owned(), ..Fields::default() };
        fields.others.insert("awsnodetemplate".to_owned(), json!("bottlerocket"));
        fields.others.insert("security-groups".to_owned(), json!(["sg-0cb00645c2836d3f1"]));
        let now = "2024-04-18T20:05:55.865Z".parse().unwrap();
        let said = line("DEBUG", now, "controller.awsnodetemplate", fields);
        let version = env!("CARGO_PKG_VERSION");
        let expected = r#"{"level":"DEBUG","time":"2024-04-18T20:05:55.865Z","logger":"controller.awsnodetemplate","message":"discovered security groups","commit":"1d7f91c","awsnodetemplate":"bottlerocket","security-groups":["sg-0cb00645c2836d3f1"]}"#;
        assert_eq!(said, expected.replace("1d7f91c", version));
    }
}
