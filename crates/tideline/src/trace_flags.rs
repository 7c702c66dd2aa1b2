//! Where decisions are told as spans: the flags, and the file with the headers that a collector asks for.

use crate::error::CommandError;
use clap::Args;
use clouds::transport::Network;
use controller::TraceSettings;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A header or two with tokens.
const LARGEST_FILE: u64 = 64 << 10;

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Trace of decisions (OpenTelemetry)")]
pub(crate) struct TraceFlags {
    /// Collector that takes OTLP over HTTP, such as http://collector:4318: each decision is sent to its /v1/traces as a
    /// span, with a child for each action and how it ended [default: nothing is sent]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Headers for the collector, one `name: value` a line, such as a token
    #[arg(long, value_name = "FILE", requires = "otlp_endpoint")]
    otlp_headers_file: Option<PathBuf>,
}

impl TraceFlags {
    /// What the controller is given; `None` where no collector is named.
    pub(crate) fn settings(&self, instance: &str) -> Result<Option<TraceSettings>, CommandError> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(None) };
        let headers = self.otlp_headers_file.as_deref().map(headers).transpose()?.unwrap_or_default();
        let network = Network::new().map_err(|error| {
            CommandError::Input(format!("--otlp-endpoint: no certificate authorities are known: {error}"))
        })?;
        Ok(Some(TraceSettings::new(endpoint, headers, Arc::new(network), instance.to_owned())?))
    }
}

/// The headers of a file; what is wrong is told by its line's number, never by its text.
fn headers(path: &Path) -> Result<HeaderMap, CommandError> {
    let wrong =
        |problem: String| CommandError::Usage(format!("--otlp-headers-file {}: {problem}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > LARGEST_FILE {
        return Err(wrong(format!("is larger than {LARGEST_FILE} bytes; is it the right file?")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = || {
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.trim().parse().ok()?;
            let mut value: HeaderValue = value.trim().parse().ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let (name, value) =
            read().ok_or_else(|| wrong(format!("line {} is no header; write `name: value`", number + 1)))?;
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_a_wrong_line_is_told_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "Authorization: Bearer a:b\n\nx-team: shop\n").unwrap();
        let read = headers(&path).unwrap();
        assert_eq!(read["authorization"], "Bearer a:b");
        assert_eq!((read["x-team"].as_bytes(), read.len()), (&b"shop"[..], 2));
        assert!(!format!("{read:?}").contains("Bearer"), "{read:?}");
        std::fs::write(&path, "x-team: shop\nBearer s3cret\n").unwrap();
        let error = headers(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    }
}
