//! Where log lines go and which are written.
//!
//! Logs are JSON on standard error, one object a line; `RUST_LOG` overrides what `-v` asks for.

use crate::karpenter_log::KarpenterLines;
use tracing_subscriber::EnvFilter;

/// Whose keys a line of the log has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Ours
    #[default]
    Json,
    /// Karpenter's: level, time, logger, message, commit
    Karpenter,
}

/// Levels by klog's number: from 4 on details of rounds, from 6 on single calls.
fn directive(verbosity: u8) -> &'static str {
    match verbosity {
        0..=3 => "info",
        4..=5 => "info,controller=debug,clouds=debug,nodes=debug",
        _ => "debug",
    }
}

/// Starts logging; a second call changes nothing.
pub(crate) fn start(verbosity: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directive(verbosity)));
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Starts logging in a form; what clouds and classes were found to be is told in Karpenter's, as it does.
pub(crate) fn start_as(format: LogFormat, verbosity: u8) {
    if format == LogFormat::Json {
        return start(verbosity);
    }
    let directives = format!("{},controller.awsnodetemplate=debug", directive(verbosity));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let lines = tracing_subscriber::fmt().event_format(KarpenterLines);
    let _ = lines.with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Starts logging for a command whose own output is for people: only what went wrong.
pub(crate) fn start_quiet() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
