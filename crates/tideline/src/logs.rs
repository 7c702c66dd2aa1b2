//! Where log lines go and which are written.
//!
//! Logs are JSON on standard error, one object a line; `RUST_LOG` overrides what `-v` asks for.

use tracing_subscriber::EnvFilter;

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

/// Starts logging for a command whose own output is for people: only what went wrong.
pub(crate) fn start_quiet() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
