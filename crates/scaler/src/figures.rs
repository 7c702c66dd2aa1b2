//! Figures of the shell of workloads, for probes and Prometheus.
//!
//! Owns what is counted and its text form. What stands in objects is read out of what is known when somebody asks.

use crate::cache::{Cache, Key};
use crate::conditions;
use crate::pictures::{Memory, Pictures};
use crate::portrait::GENERATED;
use clock::Clock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Autoscalers that are told of one by one: each is up to six series in somebody's Prometheus.
const MOST_DETAILED: usize = 1000;

/// What is counted; shared with whoever serves it.
#[derive(Debug)]
pub struct Figures {
    /// Whether the kinds are there at all; before that there is nothing to tell.
    pub(crate) defined: AtomicBool,
    pub(crate) ready: AtomicBool,
    pub(crate) leads: AtomicBool,
    pub(crate) looks: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) rescales: AtomicU64,
    pub(crate) pods_touched: AtomicU64,
    pub(crate) cache: Arc<Mutex<Cache>>,
    pub(crate) memory: Memory,
    clock: Clock,
}

impl Figures {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            defined: AtomicBool::default(),
            ready: AtomicBool::default(),
            leads: AtomicBool::default(),
            looks: AtomicU64::default(),
            failures: AtomicU64::default(),
            rescales: AtomicU64::default(),
            pods_touched: AtomicU64::default(),
            cache: Arc::default(),
            memory: Memory::default(),
            clock,
        }
    }

    /// Whether everything was heard once and is still heard.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// All autoscalers as a page shows them.
    pub fn pictures(&self) -> Pictures {
        self.memory.pictures(&self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// In the text form of `OpenMetrics`, without its last line, so that others may be put beside; empty
    /// where the kinds are not defined.
    pub fn text(&self) -> String {
        if !self.defined.load(Ordering::Relaxed) {
            return String::new();
        }
        let flag = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
        let mut text = Text::default();
        text.one("ready", "Whether all watches are fresh", flag(&self.ready));
        text.one("leader", "Whether this replica acts", flag(&self.leads));
        text.counter("looks", "Objects looked at", count(&self.looks));
        text.counter("failures", "Looks that failed and are tried again", count(&self.failures));
        text.counter("rescales", "Scales written", count(&self.rescales));
        text.counter("pods_touched", "Pods brought into another state", count(&self.pods_touched));
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = f64::from(u8::from(cache.peer().is_some()));
        text.one(
            "another_controller",
            "Whether the peer's controller runs, so that this one stands aside",
            aside,
        );
        text.one("profiles", "Replica profiles that are known", cache.profiles.len() as f64);
        autoscalers(&cache, &mut text);
        portraits(&cache, &mut text);
        forecasts(&cache, self.clock, &mut text);
        text.written
    }
}

/// The text before anything is known: every metric with its kind and what it says.
pub fn all_metrics() -> String {
    let figures = Figures::new(Clock::system());
    figures.defined.store(true, Ordering::Relaxed);
    figures.text()
}

fn autoscalers(cache: &Cache, text: &mut Text) {
    let mut by_state: BTreeMap<&str, u32> = ["active", "limited", "in_steps"].map(|state| (state, 0)).into();
    let mut by_reason: BTreeMap<&str, u32> = BTreeMap::new();
    for ihpa in cache.ihpas.values() {
        let conditions = ihpa.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        for (kind, state) in
            [("ScalingActive", "active"), ("ScalingLimited", "limited"), ("GrayProgressing", "in_steps")]
        {
            let known = conditions::find(conditions, kind);
            if known.is_some_and(|known| known.status == "True") {
                *by_state.entry(state).or_default() += 1;
            } else if let Some(known) = known.filter(|_| state == "active") {
                *by_reason.entry(&known.reason).or_default() += 1;
            }
        }
    }
    text.one("autoscalers", "Autoscalers that are known", cache.ihpas.len() as f64);
    text.gauge(
        "autoscalers_by_state",
        "Autoscalers that scale, that a bound holds back, that change in steps",
    );
    for (state, count) in by_state {
        text.sample("autoscalers_by_state", &[("state", state)], f64::from(count));
    }
    text.gauge("autoscalers_inactive", "Autoscalers that do not scale, by reason");
    for (reason, count) in by_reason {
        text.sample("autoscalers_inactive", &[("reason", reason)], f64::from(count));
    }
    let surplus = cache.ihpas.len().saturating_sub(MOST_DETAILED);
    text.one("autoscalers_not_detailed", "Autoscalers without series of their own", surplus as f64);
    let detailed = || cache.ihpas.iter().take(MOST_DETAILED);
    text.gauge("desired_replicas", "Replicas that should serve in the end");
    for (key, ihpa) in detailed() {
        let desired = ihpa.status.as_ref().and_then(|status| status.desired_replicas);
        text.of(key, "desired_replicas", &[], desired.map(f64::from));
    }
    text.gauge("replicas", "Pods that run, by state");
    for (key, _) in detailed() {
        let status = cache.profiles.get(key).and_then(|profile| profile.status.as_ref());
        for (state, count) in status.into_iter().flat_map(|status| {
            [
                ("online", status.online_replicas),
                ("cutoff", status.cutoff_replicas),
                ("standby", status.standby_replicas),
            ]
        }) {
            text.of(key, "replicas", &[("state", state)], Some(f64::from(count)));
        }
    }
    text.gauge("gray_percent", "How far a change in steps is; absent where none is under way");
    for (key, ihpa) in detailed() {
        let gray = ihpa.status.as_ref().and_then(|status| status.gray.as_ref());
        text.of(key, "gray_percent", &[], gray.map(|gray| f64::from(gray.gray_percent)));
    }
}

fn portraits(cache: &Cache, text: &mut Text) {
    let mut by_reason: BTreeMap<&str, u32> = BTreeMap::new();
    for portrait in cache.portraits.values() {
        let conditions = portrait.status.as_ref().map(|status| status.conditions.as_slice());
        let made = conditions::find(conditions.unwrap_or_default(), GENERATED);
        *by_reason.entry(made.map_or("NotTried", |made| &made.reason)).or_default() += 1;
    }
    text.gauge("portraits", "Horizontal portraits, by what became of the last try");
    for (reason, count) in by_reason {
        text.sample("portraits", &[("reason", reason)], f64::from(count));
    }
}

fn forecasts(cache: &Cache, clock: Clock, text: &mut Text) {
    let all = || {
        let portraits = cache.portraits.iter().filter_map(|(key, portrait)| {
            Some((key, portrait.status.as_ref().and_then(|status| status.forecast.as_ref())?))
        });
        portraits.take(MOST_DETAILED)
    };
    let now = clock.now();
    text.gauge("forecast_age_seconds", "Time since the forecast behind a portrait was made");
    for (key, forecast) in all() {
        let age = forecast.made_at.as_ref().map(|made| now.duration_since(made.0).as_secs_f64().max(0.0));
        text.of(key, "forecast_age_seconds", &[], age);
    }
    text.gauge("forecast_error_ratio", "Mean error of forecasts an hour ahead over the last days");
    for (key, forecast) in all() {
        let error = f64::from(forecast.error_percent) / 100.0;
        text.of(key, "forecast_error_ratio", &[], Some(error));
    }
}

#[derive(Default)]
struct Text {
    written: String,
}

impl Text {
    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) {
        self.head(name, "counter", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(
            self.written,
            "# HELP tideline_workloads_{name} {help}.\n# TYPE tideline_workloads_{name} {kind}"
        );
    }

    /// A sample of one autoscaler or portrait, where there is one.
    fn of(&mut self, key: &Key, name: &str, labels: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value else { return };
        let named = [("namespace", &*key.namespace), ("name", &*key.name)];
        let labels: Vec<(&str, &str)> = named.into_iter().chain(labels.iter().copied()).collect();
        self.sample(name, &labels, value);
    }

    /// Label values are names of objects, reasons and words of ours: none needs to be escaped but by a foreign hand.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let _ = write!(self.written, "tideline_workloads_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.written, "{open}{label}=\"{text}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.written, "{close} {value}");
    }
}
