//! Figures of the shell of workloads, for probes and Prometheus.
//!
//! Owns what is counted and its text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is counted; shared with whoever serves it.
#[derive(Debug, Default)]
pub struct Figures {
    pub(crate) ready: AtomicBool,
    pub(crate) leads: AtomicBool,
    pub(crate) autoscalers: AtomicU64,
    pub(crate) profiles: AtomicU64,
    pub(crate) looks: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) rescales: AtomicU64,
    pub(crate) pods_touched: AtomicU64,
}

impl Figures {
    /// Whether everything was heard once and is still heard.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// In Prometheus' text form.
    pub fn text(&self) -> String {
        let flag = |flag: &AtomicBool| u64::from(flag.load(Ordering::Relaxed));
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut text = String::new();
        for (name, kind, help, value) in [
            ("ready", "gauge", "Whether all watches are fresh.", flag(&self.ready)),
            ("leader", "gauge", "Whether this replica acts.", flag(&self.leads)),
            ("autoscalers", "gauge", "Autoscalers that are known.", count(&self.autoscalers)),
            ("profiles", "gauge", "Replica profiles that are known.", count(&self.profiles)),
            ("looks_total", "counter", "Objects looked at.", count(&self.looks)),
            ("failures_total", "counter", "Looks that failed and are tried again.", count(&self.failures)),
            ("rescales_total", "counter", "Scales written.", count(&self.rescales)),
            ("pods_touched_total", "counter", "Pods brought into another state.", count(&self.pods_touched)),
        ] {
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "# HELP tideline_workloads_{name} {help}\n# TYPE tideline_workloads_{name} {kind}\n\
                 tideline_workloads_{name} {value}"
            );
        }
        text
    }
}
